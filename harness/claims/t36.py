"""T36: a heavy pod slows down what runs beside it on its node.

The arm with the hog beside mx against the one without: see :mod:`harness.claims.slowed` for when it is confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.slowed import slowed
from harness.model.plan import Plan
from harness.model.verdict import Finding
from harness.store.history import ArmHistory


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T36."""
    return slowed("T36", "hog", arms, plan, says="a heavy pod on the node")
