"""T32a: node-local-dns forces TCP towards its upstream.

Looks at every arm with ``node-local-dns``: the share of TCP in what reaches cluster DNS, by kind of name (of the cluster, reverse, all other),
and in what reaches unbound behind it: CoreDNS passes a question on by the transport that it came by. *Confirmed* when with the add-on's own settings
TCP carries (almost) all names; *confirmed under conditions* when it carries those of the cluster and reverse names, others only where it is forced
for them (``node-local-dns-tcp``); *refuted* when it carries none. The arm without the cache is the control: hardly any TCP.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims.dns_layers import tcp_shares
from harness.claims.t31 import FORCED, VARIANT
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.dns import CLUSTER, UNBOUND, layers
from harness.store.history import ArmHistory

CLAIM = "T32a"
ALMOST_ALL, HARDLY_ANY = 0.9, 0.1
_KINDS = ("internal", "reverse", "other", "unbound")


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T32a."""
    groups = {
        "off": [a for a in arms if VARIANT not in a.plan_arm.variants], "on": [a for a in arms if VARIANT in a.plan_arm.variants and FORCED not in a.plan_arm.variants],
        "forced": [a for a in arms if FORCED in a.plan_arm.variants],
    }
    figures = {f"{name}_{k}_tcp_share": round(v, 4) for name, members in groups.items() for k in _KINDS if (v := _share(members, k)) is not None}
    on = {k: figures.get(f"on_{k}_tcp_share") for k in _KINDS}
    if on["other"] is None or on["reverse"] is None:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "no arm with the add-on's own settings counted its queries by transport", figures)
    if (figures.get("off_other_tcp_share") or 0.0) > HARDLY_ANY:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "without the cache TCP is used as well, so its use shows nothing", figures)
    told = (f"with today's settings of the add-on TCP carries {on['reverse']:.0%} of reverse and {on['other']:.0%} of other names to cluster DNS, "
            f"{on['unbound'] or 0:.0%} of all that reaches unbound")
    forced = figures.get("forced_other_tcp_share")
    told += f"; forced for all names {forced:.0%} and {figures.get('forced_unbound_tcp_share', 0):.0%}" if forced is not None else ""
    return _decide(on["reverse"], on["other"], forced, told, figures)


def _decide(reverse: float, other: float, forced: float | None, told: str, figures: dict[str, float]) -> Finding:
    if other >= ALMOST_ALL:
        return Finding(CLAIM, ClaimResult.CONFIRMED, told, figures)
    if reverse >= ALMOST_ALL or (forced is not None and forced >= ALMOST_ALL):
        conditions = "only reverse names and names of the cluster by default (kubernetes PR 93471, 2020); all others where force_tcp is set for them"
        return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, told, figures, conditions)
    return Finding(CLAIM, ClaimResult.REFUTED, told, figures)


def _share(arms: Sequence[ArmHistory], kind: str) -> float | None:
    """The mean over the arms' blocks; None where one was not counted."""
    found = []
    for arm in arms:
        counted = layers(arm)
        value = tcp_shares(counted).get(f"dns_{kind}_tcp_share") if {CLUSTER, UNBOUND} <= set(counted) else None
        if value is not None:
            found.append(value)
    return sum(found) / len(found) if found else None
