"""A resolved plan as JSON and back, so that a run can be judged without the file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from harness.errors import StoreDamaged
from harness.model.plan import Arm, CheckSpec, DnsSpec, FaultSpec, LoadSpec, NodeFaults, Plan, StopWhen

T = TypeVar("T")


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """``plan`` as plain dicts, lists, strings and numbers; :func:`plan_from_json` gives an equal plan back."""
    return {k: _plain(v) for k, v in asdict(plan).items()}


def plan_from_json(data: Mapping[str, Any]) -> Plan:
    """The plan in ``data``.

    :raises StoreDamaged: a field is missing or has the wrong shape.
    """
    try:
        return _record(
            Plan,
            data,
            load=_record(LoadSpec, data["load"]),
            arms=tuple(_record(Arm, a) for a in data["arms"]),
            checks=tuple(_record(CheckSpec, c) for c in data["checks"]),
            faults=tuple(_record(FaultSpec, f) for f in data.get("faults", ())),
            dns=_record(DnsSpec, data["dns"]) if data.get("dns") else None,
            node_faults=_record(NodeFaults, data.get("node_faults", {})),
            stop_when=_record(StopWhen, data.get("stop_when", {})),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(f"run.json holds no readable plan: {error!r}") from error


def _record(kind: type[T], data: Mapping[str, Any], **ready: Any) -> T:
    """``kind`` from the keys of ``data`` it knows: a run of a later version, with more fields, still reads."""
    names = [f.name for f in fields(kind) if f.name in data]  # type: ignore[arg-type]
    values = {n: tuple(data[n]) if isinstance(data[n], list) else data[n] for n in names}
    return kind(**{**values, **ready})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
