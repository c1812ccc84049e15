"""What was tested, with what, for how long, and how to do it again: from the run's head and plan."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from harness.model.dnslab import LabLoad
from harness.model.plan import Plan
from harness.report.arms_over_time import Table
from harness.report.figures_table import value_text
from harness.report.series import ArmData
from harness.report.sheet import Pairs
from harness.report.text import duration, label, mapping, number, percent, plain
from harness.store.sessions import Session

_ORDER = ("setup", "images", "deploy", "isolation", "load", "heal", "settle", "census")


def begun(head: Mapping[str, Any]) -> str:
    """When the run began, in UTC."""
    anchor = head.get("anchor")
    wall = anchor.get("wall_ns") if isinstance(anchor, Mapping) else None
    return utc(wall) if isinstance(wall, int) else "time not recorded"


def utc(wall_ns: int) -> str:
    """A wall clock's time for a reader."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wall_ns // 1_000_000_000))


def resumed(sessions: Sequence[Session]) -> tuple[str, ...]:
    """When the run was gone on with, after what, and which arms were kept and run again; () = it was run in one go."""
    return tuple(
        f"Resumed {utc(s.wall_ns)}, after: {plain(s.why)}. Kept as they were: {', '.join(map(plain, s.kept)) or 'none'}; "
        f"begun again: {', '.join(map(plain, s.again)) or 'none'}."
        for s in sessions
    )


def tested(plan: Plan, head: Mapping[str, Any], meta: Mapping[str, Any]) -> Pairs:
    """Plan, target, topology, seed and versions."""
    return (
        ("Plan", f"{plan.name} ({plan.source})" if plan.source else plan.name),
        ("Plan hash", f"sha256:{plan.sha256}"),
        ("Began", begun(head)),
        ("Target", _target(meta.get("target"))),
        ("Topology", plan.topology),
        ("Stack profile", plan.profile),
        ("Claims", ", ".join(plan.claims) or "none"),
        ("Seed", str(plan.seed)),
        ("Time scale", number(plan.time_scale)),
        ("Mailboxes", number(plan.users)),
        *_source(mapping(meta.get("source"))),
        *_host(mapping(meta.get("host"))),
        ("Versions", ", ".join(f"{name} {plain(version)}" for name, version in sorted(mapping(meta.get("versions")).items())) or "not recorded"),
    )


def _source(source: Mapping[str, Any]) -> Pairs:
    """The commit that was run, and whether its files were changed."""
    if not source.get("commit"):
        return ()
    return (("Commit", f"{source['commit']}{' with changes of its own' if source.get('changed') == 'yes' else ''}"),)


def _host(host: Mapping[str, Any]) -> Pairs:
    if not host:
        return ()
    memory = host.get("memory_bytes")
    size = f"{number(memory / 2**30)} GiB" if isinstance(memory, (int, float)) else "memory not recorded"
    return (("Host", f"{host.get('cores', '?')} cores, {size}, {host.get('machine', '')}, Linux {host.get('kernel', '')}"),)


def _target(target: object) -> str:
    if not isinstance(target, Mapping):
        return "not recorded"
    nodes = target.get("nodes")
    shown = [f"{target.get('name', '')} ({target.get('kind', 'kind not recorded')})"]
    if isinstance(nodes, int):
        shown.append(f"{nodes} nodes")
    elif isinstance(nodes, (list, tuple)):
        roles = [str(n.get("role", "node")) if isinstance(n, Mapping) else "node" for n in nodes]
        shown.append(", ".join(f"{roles.count(r)} {r}" for r in dict.fromkeys(roles)))
    return ", ".join(shown)


def images(meta: Mapping[str, Any], arms: Sequence[ArmData]) -> Pairs:
    """Every image with its digest: as the conductor recorded it, else as the pods reported it."""
    found = {name: str(digest) for name, digest in mapping(meta.get("images")).items()}
    for arm in arms:
        for event in arm.events("pods_at_start"):
            for pod in event.get("pods") or ():
                found.setdefault(str(pod.get("image", "")), str(pod.get("image_id", "")))
    return tuple(sorted((n, d) for n, d in found.items() if n))


def load(plan: Plan) -> Pairs:
    """The scenario with its parameters and deadlines."""
    if plan.load.kind == "dns":
        return _dns_load(plan)
    params = ((_name(k), value_text(k, v)) for k, v in plan.load.params.items())
    return (
        ("scenario", plan.load.scenario),
        *params,
        *((f"{_name(k)} in {plain(a.name)}", value_text(k, v)) for a in plan.arms for k, v in a.load_params.items()),
        ("all accepted within", duration(plan.load.intake_deadline_s)),
        ("queues empty within", duration(plan.load.settle_s)),
    )


def _dns_load(plan: Plan) -> Pairs:
    load = LabLoad.of(plan.load.params)
    cells = ((f"path {plain(c.name)}", f"{c.key}; in {', '.join(plain(a.name) for a in plan.arms if c in load.cells_of(a.name)) or 'no arm'}") for c in load.cells)
    return (
        ("kind", "DNS queries, Poisson arrivals, open loop; a name of its own for each but for the hits"),
        ("names below", load.zone),
        ("rates", f"from {number(load.start_per_s)} to at most {number(load.max_per_s)} per second, doubled, then {number(load.refine)} halvings"),
        ("each rate", f"{duration(load.step_s)}, or until {number(load.queries_min)} queries count, of which the first {duration(load.warm_s)} are not counted; {duration(load.rest_s)} of rest after one that failed"),
        ("failed", f"no answer with data within {duration(load.timeout_s)}; the knee is at {percent(load.fail_share)}"),
        *cells,
    )  # fmt: skip


def _name(key: str) -> str:
    for tail in ("_bytes", "_s"):
        if key.endswith(tail) and not key.endswith("_per_s"):
            return key[: -len(tail)].replace("_", " ")
    return plain(label(key))


def timings(meta: Mapping[str, Any]) -> Pairs:
    """How long set-up and each arm took. Times within arms are in :func:`phases`."""
    whole, arms = _recorded(meta)
    taken = [(_name(k), duration(v)) for k, v in whole.items()]
    taken += [(f"arm {plain(arm)}", duration(sum(parts.values()))) for arm, parts in arms.items()]
    return tuple(taken)


def phases(meta: Mapping[str, Any]) -> Table | None:
    """How long each phase of each arm took; None when that is not on record."""
    _, arms = _recorded(meta)
    names = list(dict.fromkeys(name for parts in arms.values() for name in parts))
    rows = tuple((_name(n), *(duration(parts.get(n)) for parts in arms.values())) for n in names)
    return Table(("phase", *arms), rows) if rows else None


def _recorded(meta: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Seconds of the whole run, and of each arm by phase (recorded as ``<block>-<arm>/<phase>``)."""
    whole: dict[str, float] = {}
    arms: dict[str, dict[str, float]] = {}
    for name, value in sorted({**mapping(meta.get("timings_s")), **mapping(meta.get("timings"))}.items(), key=_in_order):
        arm, slash, phase = name.rpartition("/")
        if isinstance(value, (int, float)):
            (arms.setdefault(arm, {}) if slash else whole)[phase] = float(value)
    return whole, arms


def _in_order(item: tuple[str, Any]) -> tuple[str, int, str]:
    """Parts in the order they happen, arm after arm; others after them."""
    arm, _, part = item[0].rpartition("/")
    return arm, _ORDER.index(part) if part in _ORDER else len(_ORDER), part


def unsupported(meta: Mapping[str, Any]) -> Pairs:
    """What this target lacks, so that it was not done."""
    target = meta.get("target")
    merged = {**mapping(target.get("unsupported") if isinstance(target, Mapping) else None), **mapping(meta.get("unsupported"))}
    return tuple(sorted((k, str(v)) for k, v in merged.items()))


def held(plan: Plan, meta: Mapping[str, Any]) -> Pairs:
    """What else could have bounded the intake, and was the same in every arm."""
    return tuple((k.replace("_", " "), str(v)) for k, v in {**plan.held_constant, **mapping(meta.get("held_constant"))}.items())


def command(plan: Plan, meta: Mapping[str, Any]) -> str:
    """The command that repeats the run."""
    recorded = meta.get("command")
    return str(recorded) if recorded else f"mailgale run {plan.source or f'experiments/{plan.name}.yaml'}"
