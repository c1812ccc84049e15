"""The figures of one arm that the report shows side by side. Counts are per mail and recipient unless the name says otherwise.

Figures that could not be measured are left out: a missing number is not a zero.
"""

from __future__ import annotations

import math
from typing import Any

from harness.claims import dns_figures as lab
from harness.claims.dns_layers import dns_figures
from harness.model.outcome import Deferral, Outcome, Proto, Stage, UserOp
from harness.store.dnsflow import totals
from harness.store.fates import kept_back, planted
from harness.store.history import ArmHistory, Span
from harness.store.latency import ordinary_latency
from harness.store.queues import depth, drain_s, oldest_s
from harness.store.rates import rates
from harness.store.spans import load_span
from harness.store.throttling import throttled_share

_INFO, _FAIL = int(Outcome.INFO), int(Outcome.FAIL)


def arm_figures(arm: ArmHistory) -> dict[str, Any]:
    """Name with unit → number, in the report's order."""
    if arm.plan.load.kind == "dns":
        return lab.dns_figures(arm)
    found = {**_fates(arm), **_attempts(arm), **_rates(arm), **_queues(arm), **_latencies(arm), **dns_figures(arm), **_load(arm), **_dns(arm)}
    return {k: _number(v) for k, v in found.items() if v is not None and not (isinstance(v, float) and math.isnan(v))}


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else round(float(value), 4)


def _fates(arm: ArmHistory) -> dict[str, float | None]:
    fates = arm.fates()
    c = fates.counts
    taken: dict[str, float | None] = {
        "offered": fates.sum("1"), "accepted": fates.accepted, "in_doubt": c["in_doubt"], "refused": c["refused"],
        "never_accepted": c["deferred"] + c["never_attempted"],
    }
    if arm.lacks("readers"):
        return taken  # nobody looked what became of it
    strays = {k: float(arm.one("SELECT count(*) FROM strays WHERE kind = ?", [k])) for k in ("misdelivered", "unknown")}
    return {
        **taken, "delivered": c["delivered"], "queued": c["queued"], "lost": c["lost"],
        "duplicated": c["duplicated"], "duplicates_explained": fates.sum("dup_explained + dup_fault"), "duplicates_possible": fates.sum("dup_possible"),
        "duplicates_unexplained": fates.sum("dup_unexplained"), "corrupted": c["corrupted"], **strays, "bounced": c["bounced"],
        "quarantined": c["quarantined"], "quarantined_unplanted": fates.sum("1", f"state = 'quarantined' AND NOT ({planted()})"),
        "rejected_but_delivered": c["rejected_but_delivered"], "undetermined": c["undetermined"],
    }  # fmt: skip


def _attempts(arm: ArmHistory) -> dict[str, float | None]:
    attempts = int(arm.one("SELECT count(*) FROM invokes"))
    tried = int(arm.one("SELECT count(*) FROM (SELECT DISTINCT mail, rcpt FROM invokes)"))
    rows = arm.sql(f"SELECT deferral, stage, count(*) FROM dones WHERE outcome = {_FAIL} AND code BETWEEN 400 AND 499 GROUP BY ALL ORDER BY ALL")
    by_class = {int(d): 0 for d in Deferral}
    by_place: dict[str, float] = {}
    for deferral, stage, n in rows:
        by_class[int(deferral)] = by_class.get(int(deferral), 0) + int(n)
        by_place[f"deferred_{_word(Deferral, deferral)}_at_{_word(Stage, stage)}"] = int(n)
    broken = arm.one(f"SELECT count(*) FROM dones d WHERE outcome = {_FAIL} AND code = 0 AND NOT {kept_back('d')}")
    return {
        "attempts": attempts, "retries": attempts - tried, "amplification": attempts / tried if tried else None,
        "deferred": sum(by_class.values()), "deferred_planned": by_class[int(Deferral.PLANNED_LIMIT)],
        "deferred_greylist": by_class[int(Deferral.GREYLIST)], "deferred_system": by_class[int(Deferral.SYSTEM)] + by_class[int(Deferral.NONE)],
        **by_place, "connections_failed": int(broken), "attempts_in_doubt": int(arm.one(f"SELECT count(*) FROM dones WHERE outcome = {_INFO}")),
    }  # fmt: skip


def _word(kind: type[Deferral] | type[Stage], value: int) -> str:
    return kind(value).name.lower() if value in [int(k) for k in kind] else str(value)


def _rates(arm: ArmHistory) -> dict[str, float | None]:
    found = rates(arm)
    if found is None:
        return {}
    return {"intake_per_s": found.intake_per_s, "goodput_per_s": found.goodput_per_s, "intake_window_s": found.window.seconds,
            "delivered_s": found.delivered_s}


def _queues(arm: ArmHistory) -> dict[str, float | None]:
    return {"queue_max": max((n for _, n in depth(arm)), default=None), "queue_oldest_s": oldest_s(arm), "drain_s": drain_s(arm)}


def _latencies(arm: ArmHistory) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    ordinary = ordinary_latency(arm)
    if ordinary is not None and ordinary.watched:
        found |= {"ordinary": ordinary.mails, "ordinary_unseen": ordinary.unseen, "ordinary_p50_ms": ordinary.p50_ms, "ordinary_p99_ms": ordinary.p99_ms}
    for proto in (Proto.IMAP, Proto.POP3):
        row = _user_latency(arm, proto)
        if row is not None:
            found |= {f"{proto.name.lower()}_p50_ms": row[0], f"{proto.name.lower()}_p99_ms": row[1]}
    return found


def _user_latency(arm: ArmHistory, proto: Proto) -> tuple[float, float] | None:
    """p50 and p99 in ms of the operations of reading users in burst and tail; IDLE, which waits for mail, left out."""
    span = load_span(arm)
    if span is None:
        return None
    row = arm.sql(
        "SELECT quantile_disc(t_end - t_start, 0.5), quantile_disc(t_end - t_start, 0.99) FROM userops"
        f" WHERE proto = {int(proto)} AND op <> {int(UserOp.IDLE)} AND outcome = {int(Outcome.OK)} AND t_end BETWEEN ? AND ?",
        [span.begin, span.end],
    )[0]
    return (float(row[0]) / 1e6, float(row[1]) / 1e6) if row[0] is not None else None


def _load(arm: ArmHistory) -> dict[str, float | None]:
    burst, span = arm.load_phase("burst"), load_span(arm)
    return {
        "burst_s": burst.seconds if burst else None, "load_s": span.seconds if span else None,
        "throttled_share": throttled_share(arm, "mx"), "mailbox_throttled_share": throttled_share(arm, "mailbox"),
        "host_cpu_share": _host_cpu(arm, span) if span else None,
    }


def _host_cpu(arm: ArmHistory, span: Span) -> float | None:
    """The mean share of the host's CPUs in use during the load: beside an arm without capture it says what capture costs."""
    samples = [float(e["cpu_share"]) for e in arm.events("host") if span.begin <= e["t"] <= span.end]
    return sum(samples) / len(samples) if samples else None


def _dns(arm: ArmHistory) -> dict[str, float | None]:
    found = totals(arm)
    if found is None:
        return {}
    return {f"dns_{layer.lower().replace(' ', '_')}_per_mail": found.per_mail(layer) for layer in found.by_layer}
