"""What pods ask arrives where it is sent: no second DNS cache is in the path, and no pod asks from its node's network.

Before the load each asking pod asked one question again and again; the server that must get it has to have counted every one (``dns_path``).
A cache in between (kindnet's, another node cache) answers all but the first. A pod on ``hostNetwork`` asks with its node's address.
Never FAIL: the stack may work well so, but no number of queries means what it seems to. No limits.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.common import verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {}


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """PASS or INCONCLUSIVE."""
    found = arm.events("dns_path")
    if not found:
        return verdict(arm, "dns-path", Status.INCONCLUSIVE, "nobody looked which way the pods' look-ups go")
    problems = []
    for e in found:
        if e["arrived"] != e["asked"]:
            what = f"{e['pod']} asked {e['asked']} times, {e['arrived']:.0f} arrived at {', '.join(e['first']) or 'no server'}"
            problems.append((Status.INCONCLUSIVE, f"{what}: {_meaning(e['arrived'], e['asked'])}"))
        if e["host_network"]:
            problems.append((Status.INCONCLUSIVE, f"on their node's network (hostNetwork), so that their queries are not theirs alone: {', '.join(e['host_network'])}"))
    status, reason = worst_of(problems, f"every question of {', '.join(str(e['pod']) for e in found)} arrived at {', '.join(sorted({n for e in found for n in e['first']}))}")
    return verdict(arm, "dns-path", status, reason, {"asked": sum(e["asked"] for e in found), "arrived": sum(e["arrived"] for e in found)})


def _meaning(arrived: float, asked: float) -> str:
    return "a second DNS cache is in the path" if arrived < asked else "somebody else asks the same, or they are asked twice"
