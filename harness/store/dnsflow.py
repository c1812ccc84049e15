"""What ``dns.log`` says of an arm: its account between layers, queries per mail, and queries per operation.

Queries are those from the begin of the load to the end of settling; mails are those accepted in that time, whichever way they came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.model.dns import CaptureQuality
from harness.model.dnsaccount import Account, Step, settle
from harness.model.dnsflow import CHAIN, PROBES, RETRIES, Layer
from harness.model.dnspurpose import PROBE
from harness.model.outcome import Outcome
from harness.store.dns import stretch
from harness.store.history import SECOND, ArmHistory

UPSTREAM = ", upstream"
COUNTED = ", by its own counters"
_QUALITY = tuple(CaptureQuality.__dataclass_fields__)


def counted(arm: ArmHistory) -> bool:
    """Whether DNS was counted in ``arm``."""
    return bool(arm.events("dns_passed"))


def layers(arm: ArmHistory) -> tuple[Layer, ...]:
    """The layers that were captured, from the question to the answer."""
    there = {str(e["layer"]) for e in arm.events("dns_passed")}
    return tuple(layer for layer in CHAIN if layer in there)


def account(arm: ArmHistory) -> Account:
    """The conservation account of the whole capture: between two captures of one wire exact, within a server with its terms.

    A server that counts by itself has two steps more: what was captured of it must be what it counted (``dns_counted``).
    """
    found = layers(arm)
    passed = {layer: [e for e in arm.events("dns_passed") if e["layer"] == layer] for layer in found}
    steps: list[Step] = []
    for above, below in pairwise(found):
        if above is not Layer.APPLICATION:
            steps += [_through(above, passed[above]), *_by_counters(arm, above)]
        steps.append(Step(above if above is Layer.APPLICATION else above + UPSTREAM, below, _sent(passed[above]), _received(passed[below], above), tolerance=0.0))
    captures = {str(e["pod"]): quality(e) for e in arm.events("dns_capture")}
    return settle(steps, quiet=_quiet(passed), captures=captures)


def quality(event: Mapping[str, Any]) -> CaptureQuality:
    """The quality that a ``dns_capture`` event tells of."""
    return CaptureQuality(**{k: event[k] for k in _QUALITY if k in event})


def _through(layer: Layer, events: Sequence[Mapping[str, Any]]) -> Step:
    """What a layer got and what it sent."""
    terms: Counter[str] = Counter()
    for e in events:
        terms.update({str(k): int(v) for k, v in e["terms"].items()})
    return Step(layer, layer + UPSTREAM, sum(sum(e["received"].values()) for e in events), _sent(events), dict(sorted(terms.items())))


def counters(arm: ArmHistory) -> list[dict[str, Any]]:
    """The servers' own counters beside their captures (``dns_counted``); [] in runs that did not read them."""
    return arm.events("dns_counted")


def _by_counters(arm: ArmHistory, layer: Layer) -> list[Step]:
    """What was captured of a layer and what its servers counted: queries that came, and that went on but for what no counter holds."""
    seen = [e for e in counters(arm) if e["layer"] == layer and not e["why"]]
    sending = [e for e in seen if "sent" in e["counted"]]
    unheld = {t: -n for t in (PROBES, RETRIES) if (n := sum(int(e["captured"][t]) for e in sending))}
    came = Step(layer, layer + COUNTED, _summed(seen, "captured", "received"), _summed(seen, "counted", "received"))
    went = Step(layer + UPSTREAM, layer + UPSTREAM + COUNTED, _summed(sending, "captured", "sent"), _summed(sending, "counted", "sent"), unheld)
    return [step for step, events in ((came, seen), (went, sending)) if events]


def _summed(events: Sequence[Mapping[str, Any]], by: str, side: str) -> int:
    return sum(int(e[by][side]) for e in events)


def _sent(events: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(e["sent"]) for e in events)


def _received(events: Sequence[Mapping[str, Any]], above: Layer) -> int:
    return sum(int(e["received"].get(above, 0)) for e in events)


def _quiet(passed: Mapping[Layer, Sequence[Mapping[str, Any]]]) -> dict[str, bool]:
    quiet = {str(layer): all(e["quiet"] for e in events) for layer, events in passed.items()}
    return {layer + side: still for layer, still in quiet.items() for side in ("", UPSTREAM, COUNTED, UPSTREAM + COUNTED)}


@dataclass(frozen=True)
class Totals:
    """Queries of one arm under load. ``mails`` accepted, ``seconds`` long; ``baseline_per_s``: what applications asked before it."""

    mails: int
    seconds: float
    by_layer: Mapping[str, int]
    baseline_per_s: float

    def per_mail(self, layer: str) -> float | None:
        """Queries per accepted mail that got to ``layer`` (application: that it sent)."""
        return self.by_layer[layer] / self.mails if self.mails and layer in self.by_layer else None


def totals(arm: ArmHistory) -> Totals | None:
    """Queries per layer and mails; None where DNS was not counted, or there was no load."""
    span = _span(arm)
    if span is None or not counted(arm):
        return None
    by_layer = {str(layer): sum(e["n"] for e in _events(arm, span) if _is_of(e, layer)) for layer in layers(arm)}
    mails = int(arm.one(f"SELECT count(DISTINCT mail) FROM dones WHERE outcome = {int(Outcome.OK)} AND t BETWEEN ? AND ?", list(span)))
    return Totals(mails, (span[1] - span[0]) / SECOND, by_layer, _baseline(arm))


def _is_of(event: Mapping[str, Any], layer: Layer) -> bool:
    """A query that layer ``layer`` was burdened with: sent by an application, received by a server from a captured client."""
    side = "sent" if layer is Layer.APPLICATION else "received"
    return bool(event["layer"] == layer and event["side"] == side and event["what"] != PROBE)


def _span(arm: ArmHistory) -> tuple[int, int] | None:
    """From the second in which the load began to the end of settling."""
    span = stretch(arm)
    return (span.begin // SECOND * SECOND, span.end) if span else None


def _events(arm: ArmHistory, span: tuple[int, int]) -> list[dict[str, Any]]:
    return [e for e in arm.events("dns_count") if span[0] <= e["at"] <= span[1]]


def _baseline(arm: ArmHistory) -> float:
    for window in arm.events("dns_window"):
        end = window["begin"] + round(float(window["baseline_s"]) * SECOND)
        asked = [e["n"] for e in _events(arm, (window["begin"], end)) if _is_of(e, Layer.APPLICATION)]
        return sum(asked) / float(window["baseline_s"]) if window["baseline_s"] else 0.0
    return 0.0


def asked(arm: ArmHistory, key: Callable[[Mapping[str, Any]], str], layer: Layer = Layer.APPLICATION) -> dict[str, int]:
    """Queries of ``layer`` under load, grouped by ``key`` of the ``dns_count`` event; most first."""
    span = _span(arm)
    found: Counter[str] = Counter()
    for e in _events(arm, span) if span else ():
        if _is_of(e, layer):
            found[key(e)] += int(e["n"])
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def look_ups(arm: ArmHistory) -> list[dict[str, Any]]:
    """Queries per operation as measured (``dns_look_up``), in the order in which they were."""
    return arm.events("dns_look_up")
