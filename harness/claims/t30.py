"""T30: with ndots:5 and five search domains a name costs 12 DNS queries, with ndots:1 two; so ndots must be 1.

Compares the arm that has the variant ``ndots-1`` with the arm that differs in nothing else, block by block; both need a DNS account that closes.
*Confirmed*: an existing name of four labels costs every measured getaddrinfo 12 and 2 queries, and no operation is without gain.
*Confirmed under conditions*: it costs so much, but some operations gain nothing (Postfix' own look-ups, names that are missing, a trailing dot):
they are named. *Refuted*: it costs another number. Undecided without both arms, exact look-ups, or a closed account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.claims.pairs import pairs
from harness.claims.stats import ratio_of
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding, Status
from harness.store.dnsflow import account, counted, look_ups, totals
from harness.store.history import ArmHistory

CLAIM = "T30"
VARIANT = "ndots-1"
TALK = {5: 12, 1: 2}
Pair = tuple[ArmHistory, ArmHistory]


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T30."""
    names = _pair(plan)
    if names is None:
        return _undecided(f"the plan has no pair of arms that differ in the variant {VARIANT} alone and in which DNS is counted")
    found = [pair for pair in pairs(arms, *names) if all(counted(a) for a in pair)]
    if not found:
        return _undecided(f"no block has counted DNS in both {names[0]} and {names[1]}")
    open_ = [f"{a.label}: {account(a).problems[0]}" for pair in found for a in pair if account(a).status != Status.PASS]
    figures = _figures(found)
    if open_:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"the DNS account does not close ({open_[0]})", figures)
    return _decide(found, figures)


def _pair(plan: Plan) -> tuple[str, str] | None:
    """(before, after): two arms, the second with the variant and nothing else different."""
    for after in plan.arms:
        if VARIANT in after.variants and plan.counts_dns(after.name):
            rest = set(after.variants) - {VARIANT}
            before = next((a.name for a in plan.arms if set(a.variants) == rest and plan.counts_dns(a.name)), None)
            if before is not None:
                return before, after.name
    return None


def _figures(found: Sequence[Pair]) -> dict[str, float]:
    both = [(totals(a), totals(b)) for a, b in found]
    per_mail = [(b, a) for before, after in both if before and after
                and (b := before.per_mail("application")) is not None and (a := after.per_mail("application")) is not None]
    ratio = ratio_of(per_mail)
    if ratio is None:
        return {}
    n = len(per_mail)
    return {**ratio.figures("queries_per_mail"), "queries_per_mail_before": sum(b for b, _ in per_mail) / n, "queries_per_mail_after": sum(a for _, a in per_mail) / n}


def _decide(found: Sequence[Pair], figures: dict[str, float]) -> Finding:
    cells = [c for pair in found for c in _cells(pair)]
    wrong = [c for c in cells if c["flaws"]]
    if not cells or wrong:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"not every look-up was exact: {wrong[0]['text']}" if wrong else "no look-up was measured", figures)
    talk = [c for c in cells if c["talk"]]
    other = [c["text"] for c in talk if (c["before"], c["after"]) != (TALK[5], TALK[1])]
    told = _told(talk, figures)
    if not talk:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "no look-up of an existing name of four labels was measured", figures)
    if other:
        return Finding(CLAIM, ClaimResult.REFUTED, f"an existing name does not cost 12 and 2 queries everywhere: {'; '.join(dict.fromkeys(other))}", figures)
    same = list(dict.fromkeys(c["text"] for c in cells if c["after"] >= c["before"] > 0))
    if not same:
        return Finding(CLAIM, ClaimResult.CONFIRMED, told, figures)
    return Finding(CLAIM, ClaimResult.CONFIRMED_UNDER_CONDITIONS, told, figures, f"not for: {'; '.join(same)}")


def _told(talk: Sequence[Mapping[str, Any]], figures: Mapping[str, float]) -> str:
    who = ", ".join(dict.fromkeys(str(c["who"]) for c in talk))
    text = f"an existing name of four labels costs 12 queries with ndots:5 and 2 with ndots:1 ({who})"
    if "queries_per_mail_before" in figures:
        text += f"; a mail costs its applications {figures['queries_per_mail_before']:.1f} and {figures['queries_per_mail_after']:.1f}"
    return text


def _cells(pair: Pair) -> list[dict[str, Any]]:
    """Operations that both arms of a pair measured, side by side. What was not supported in either is left out."""
    before, after = ({_key(c): c for c in look_ups(a)} for a in pair)
    found = []
    for key, first in before.items():
        second = after.get(key)
        if second is None or any(str(f).startswith("not supported here") for c in (first, second) for f in c["flaws"]):
            continue
        flaws = [*first["flaws"], *second["flaws"]]
        text = f"{first['who']}, {key[1]}, {key[2]} ({first['queries']} and {second['queries']})"
        found.append({
            "who": first["who"], "before": first["queries"] or 0, "after": second["queries"] or 0, "flaws": flaws, "text": text + (f": {flaws[0]}" if flaws else ""),
            "talk": first["talk"] is not None and "getaddrinfo" in str(first["who"]),
        })
    return found


def _key(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(cell["who"]), str(cell["operation"]), str(cell["about"])


def _undecided(why: str) -> Finding:
    return Finding(CLAIM, ClaimResult.UNDECIDED, why)
