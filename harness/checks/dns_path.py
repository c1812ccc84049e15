"""What pods ask arrives where it is sent: no second DNS cache is in the path, and no pod asks from its node's network.

Before the load each asking pod asked one question again and again; the server that must get it has to have counted every one (``dns_path``).
A cache in between (kindnet's, another node cache) answers all but the first. A pod on ``hostNetwork`` asks with its node's address. A Postfix in
Debian's chroot goes by the copy of resolv.conf in there, which may be an old one.
Never FAIL: the stack may work well so, but no number of queries means what it seems to. No limits.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.dns import path_problems
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """PASS or INCONCLUSIVE."""
    found = arm.events("dns_path")
    if not found:
        return verdict(arm, "dns-path", Status.INCONCLUSIVE, "nobody looked which way the pods' look-ups go")
    well = f"every question of {', '.join(str(e['pod']) for e in found)} arrived at {', '.join(sorted({n for e in found for n in e['first']}))}"
    status, reason = worst_of([(Status.INCONCLUSIVE, p) for p in path_problems(arm)], well)
    return verdict(arm, "dns-path", status, reason, {"asked": sum(e["asked"] for e in found), "arrived": sum(e["arrived"] for e in found)})

