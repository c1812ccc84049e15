"""T06: a volume that stalls for a moment again and again slows mail down.

The arm whose volume stalled against the one without a fault: see :mod:`harness.claims.slowed` for when it is confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.slowed import slowed
from harness.model.plan import Plan
from harness.model.verdict import Finding
from harness.store.history import ArmHistory


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T06."""
    return slowed("T06", "volume_stall", arms, plan, says="short stalls of the queue's volume")
