"""The report's DNS section: queries per mail by layer, who asks what, queries per operation, and the account between the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.model.dnsaccount import Step
from harness.report.arms_over_time import Table
from harness.report.bars import Group, bars
from harness.report.sheet import Chart, DnsPage
from harness.report.text import number, plain
from harness.store.dnsflow import account, asked, counted, layers, look_ups, totals
from harness.store.history import ArmHistory

_TONES = ("q1", "q2", "q3", "q4", "q5", "q6")
_ROWS_MAX = 24
_SHARE_MIN = 0.005
#: How the layers are called in the ladder, from the question to its answer.
_TITLES = {"application": "sent by the mail servers", "cluster DNS": "reach cluster DNS", "unbound": "reach unbound", "authoritative": "reach the authoritative server"}
_DASH = "–"


def dns_page(arms: Sequence[ArmHistory]) -> DnsPage | None:
    """The section of a run; None where no arm counted DNS."""
    seen = [a for a in arms if counted(a) and totals(a) is not None]
    if not seen:
        return None
    tables = (
        ("Queries per mail by who asks and what about, mail servers only", _asking(seen)),
        ("Queries of one operation, each measured in a pod before the load; with types of query", _operations(seen)),
        ("What passed each layer, and what is not explained (residual)", _account(seen)),
    )
    return DnsPage(_ladder(seen), tuple(t for t in tables if t[1].rows), _notes(seen))


def _ladder(arms: Sequence[ArmHistory]) -> Chart:
    """Groups are layers, bars are arms: the difference between before and after stands side by side."""
    shown = arms[: len(_TONES)]
    rungs = list(dict.fromkeys(str(layer) for a in shown for layer in layers(a)))
    found = {a.label: totals(a) for a in shown}
    values = [(r, [t.per_mail(r) if t else None for t in found.values()]) for r in rungs]
    groups = [Group(_TITLES.get(r, r), v) for r, v in values]
    title, under = "DNS queries per mail, layer by layer", "queries from the begin of the load until all was quiet, per accepted mail; health probes left out"
    described = "; ".join(f"{_TITLES.get(r, r)}: " + ", ".join(f"{plain(a)} {number(v)}" for a, v in zip(found, vs, strict=True)) for r, vs in values)
    table = Table(("layer", *(plain(a) for a in found)), tuple((_TITLES.get(r, r), *(number(v) for v in vs)) for r, vs in values))
    return Chart(title, under, bars("dns", title, described, [(plain(a), t) for a, t in zip(found, _TONES, strict=False)], groups), table)


def _asking(arms: Sequence[ArmHistory]) -> Table:
    """Component and subject → queries per mail; how many of them were for a name with a search domain behind it."""
    by_arm = [(a, totals(a), asked(a, _subject), asked(a, _expanded)) for a in arms]
    keys = dict.fromkeys(k for _, t, found, _ in by_arm if t and t.mails for k, n in found.items() if n / max(1, sum(found.values())) >= _SHARE_MIN)
    rows = []
    for key in list(keys)[:_ROWS_MAX]:
        cells = []
        for _, t, found, expanded in by_arm:
            mails = t.mails if t else 0
            cells += [number(found.get(key, 0) / mails) if mails else _DASH, number(expanded.get(key, 0) / mails) if mails else _DASH]
        rows.append((key, *cells))
    head = ("component: about", *(h for a in arms for h in (plain(a.label), "of it by search domains")))
    return Table(head, tuple(rows))


def _subject(event: Mapping[str, Any]) -> str:
    return plain(f"{event['component']}: {event['what']} ({event['qtype']})")


def _expanded(event: Mapping[str, Any]) -> str:
    return _subject(event) if event["expanded"] else ""


def _operations(arms: Sequence[ArmHistory]) -> Table:
    cells = {a.label: {(str(c["who"]), str(c["operation"]), str(c["about"])): c for c in look_ups(a)} for a in arms}
    keys = dict.fromkeys(k for found in cells.values() for k in found)
    rows = []
    for key in keys:
        mine = [found.get(key) for found in cells.values()]
        talk = [str(c["talk"]) if c and c["talk"] is not None else "" for c in mine]
        rows.append((plain(": ".join(k for k in key if k)), *(_cell(c) for c in mine), " and ".join(t for t in talk if t) or ""))
    return Table(("who, operation, about", *(_arm_head(a) for a in arms), "the talk (T30)"), tuple(rows))


def _arm_head(arm: ArmHistory) -> str:
    dots = {c["ndots"] for c in look_ups(arm) if c["ndots"] is not None}
    return plain(f"{arm.label} (ndots {', '.join(map(str, sorted(dots)))})" if dots else arm.label)


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return _DASH
    if cell["flaws"]:
        return plain(str(cell["flaws"][0]), length_max=80)
    types = ", ".join(f"{k} {v}" for k, v in cell["types"].items())
    said = "" if cell["found"] else "; no result"
    return plain(f"{cell['queries']} ({types}){said}" if types else f"{cell['queries']}{said}")


def _account(arms: Sequence[ArmHistory]) -> Table:
    rows = [(plain(f"{a.label}: {s.above} → {s.below}"), *_step(s)) for a in arms for s in account(a).steps]
    return Table(("from → to", "came", "terms", "expected", "seen", "residual"), tuple(rows))


def _step(step: Step) -> tuple[str, ...]:
    terms = ", ".join(f"{n:+d} {name}" for name, n in step.terms.items()) or _DASH
    residual = _DASH if step.residual is None else f"{step.residual:+d} ({100 * (step.share or 0):.2f} %)"
    return (number(step.sent), terms, number(step.expected), number(step.received), residual)


def _notes(arms: Sequence[ArmHistory]) -> tuple[str, ...]:
    idle = ", ".join(f"{plain(a.label)} {number(t.baseline_per_s)}" for a in arms if (t := totals(a)) is not None)
    mails = ", ".join(f"{plain(a.label)} {t.mails}" for a in arms if (t := totals(a)) is not None)
    return (
        f"Captured in the pods' networks, packet by packet. Mails accepted: {mails}. Before the load the mail servers asked, per second: {idle}.",
        "Client addresses and nonce names differ from mail to mail, so the layers behind the caches see them as unknown names.",
    )
