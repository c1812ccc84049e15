"""From a plan's file to a ``Plan``, with every name checked before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import PlanError
from harness.model.faults import THEN, TRIGGERS
from harness.model.plan import (
    DNS_WATCHED_BY,
    Arm,
    CheckSpec,
    DnsSpec,
    FaultSpec,
    LoadSpec,
    NodeFaults,
    Plan,
    StopWhen,
)
from harness.plan.catalogue import Catalogue, nearest
from harness.plan.schema import ArmBlock, CheckBlock, FaultBlock, PlanBlock
from harness.plan.source import Path_, Source, read_yaml

ACTIONS_MODULE = "harness.chaos.actions"
_TOP_KEYS = frozenset(
    {"title", "description", "version", "tags", "configuration", "secrets", "steady-state-hypothesis", "method",
     "rollbacks", "controls", "runtime", "extensions", "contributions"}
)
#: The check that judges what the key ``dns`` has counted.
_DNS_CHECK = "dns-account"
#: Without these no PASS is possible, so every plan has them whether it names them or not.
EVIDENCE_CHECKS = ("evidence-complete", "load-was-real", "faults-happened")


def load_plan(path: Path, catalogue: Catalogue, *, shown_as: str = "") -> Plan:
    """Read and validate one plan.

    :param path: the YAML file.
    :param catalogue: the names that exist.
    :param shown_as: how error messages name the file (default: ``path``).
    :raises PlanError: file, line, what is wrong, and the nearest valid name. Nothing has been touched then.
    """
    source = read_yaml(path, shown_as=shown_as)
    index = _extension_index(source)
    block = _parse(source, ("extensions", index))
    names = _Names(source, ("extensions", index), catalogue)
    names.check(block)
    return Plan(
        name=path.stem,
        title=str(source.data["title"]),
        question=block.question,
        claims=tuple(block.claims),
        profile=block.profile,
        topology=block.topology,
        seed=block.seed,
        time_scale=block.time_scale,
        users=block.users,
        load=LoadSpec(
            block.load.scenario or "", block.load.params, block.load.intake_deadline_s, block.load.settle_s, block.load.kind,
            block.load.placement, block.load.workers,
        ),
        arms=tuple(_arm(a) for a in block.arms),
        checks=_checks(block, catalogue),
        faults=tuple(each for f in block.faults for each in _repeated(names.fault(f), f)),
        findings=tuple(block.findings),
        budget=block.budget.model_dump(),
        node_faults=NodeFaults(**block.nodes.model_dump()) if block.nodes else NodeFaults(),
        stop_when=StopWhen(**block.stop.model_dump()),
        held_constant=block.held_constant,
        stack_params=block.stack,
        dns=_dns(block),
        look_ups_per_s=block.look_ups_per_s,
        experiment={k: v for k, v in source.data.items() if k != "extensions"},
        source=shown_as or str(path),
        sha256=source.sha256,
    )


def _extension_index(source: Source) -> int:
    for key in source.data:
        if key not in _TOP_KEYS:
            raise source.error((key,), f"unknown key '{key}'", nearest(str(key), _TOP_KEYS))
    for key in ("title", "description", "method", "extensions"):
        if key not in source.data:
            raise source.error((), f"'{key}' is missing")
    found = [i for i, e in enumerate(source.data["extensions"] or []) if isinstance(e, dict) and e.get("name") == "mailgale"]
    if len(found) != 1:
        raise source.error(("extensions",), "exactly one extension must be called 'mailgale'")
    return found[0]


def _parse(source: Source, base: tuple[str | int, ...]) -> PlanBlock:
    try:
        return PlanBlock.model_validate(source.data["extensions"][base[1]])
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt key also looks like a missing one
        loc = tuple(first["loc"])
        raise _sentence(source, base + loc, loc, first) from None


def _sentence(source: Source, path: Path_, loc: tuple[str | int, ...], first: Mapping[str, Any]) -> PlanError:
    name = ".".join(str(p) for p in loc)
    if first["type"] == "extra_forbidden":
        return source.error(path, f"unknown key '{loc[-1]}'", nearest(str(loc[-1]), _fields(loc[:-1])))
    if first["type"] == "missing":
        return source.error(path, f"'{name}' is missing")
    return source.error(path, f"'{name}': {first['msg'].lower()}")


def _fields(loc: tuple[str | int, ...]) -> Iterable[str]:
    """The keys that are valid at ``loc`` of the extension."""
    model: Any = PlanBlock
    for step in loc:
        if isinstance(step, int) or not hasattr(model, "model_fields"):
            continue
        if step not in model.model_fields:
            continue
        model = model.model_fields[step].annotation
        for inner in getattr(model, "__args__", ()):
            model = inner if hasattr(inner, "model_fields") else model
    return getattr(model, "model_fields", {})


def _arm(block: ArmBlock) -> Arm:
    return Arm(block.name, tuple(block.variants), block.main, tuple(block.expect.get("fail", ())), block.note, dict(block.load))


def _repeated(fault: FaultSpec, block: FaultBlock) -> list[FaultSpec]:
    """The fault as often as it strikes, each with a name of its own: ``stall``, ``stall.2``, ``stall.3``."""
    every = block.repeat.every_s if block.repeat else 0.0
    again = range(2, block.repeat.times + 1) if block.repeat else ()
    later = (replace(fault, name=f"{fault.name}.{n}", when={**fault.when, THEN: fault.when.get(THEN, 0.0) + (n - 1) * every}) for n in again)
    return [fault, *later]


def _dns(block: PlanBlock) -> DnsSpec | None:
    return DnsSpec(tuple(block.dns.capture), tuple(block.dns.look_ups), tuple(block.dns.arms)) if block.dns else None


def _checks(block: PlanBlock, catalogue: Catalogue) -> tuple[CheckSpec, ...]:
    wanted: dict[str, CheckBlock] = {n: CheckBlock() for n in EVIDENCE_CHECKS if n in catalogue.checks}
    wanted.update(block.checks)
    return tuple(
        CheckSpec(name, {**{k: v for k, v in catalogue.checks[name].items() if v is not None}, **given.limits}, tuple(given.arms))
        for name, given in wanted.items()
    )


class _Names:
    """Checks every name in a parsed block against the catalogue."""

    def __init__(self, source: Source, base: tuple[str | int, ...], catalogue: Catalogue) -> None:
        self.source, self.base, self.catalogue = source, base, catalogue

    def check(self, block: PlanBlock) -> None:
        c = self.catalogue
        self._known(block.profile, c.profiles, "profile", "profile")
        self._known(block.topology, c.topologies, "topology", "topology")
        for i, finding in enumerate(block.findings):
            self._known(finding, c.claims, "finding", "findings", i)
        self._load(block)
        for key in block.stack:
            self._known(key, c.stack_params, "parameter of the stack", "stack", key)
        self._check_limits(block)
        self._dns(block)
        self._arms(block)
        self._together(block)
        self._faults(block)

    def _known(self, name: str, valid: Iterable[str], kind: str, *path: str | int) -> None:
        names = set(valid)
        if name not in names:
            raise self.source.error((*self.base, *path), f"there is no {kind} '{name}'", nearest(name, names))

    def _load(self, block: PlanBlock) -> None:
        load = block.load
        if load.workers > 1 and load.placement != "cluster":
            raise self.source.error((*self.base, "load", "workers"), "one process loads from this host", "add 'placement: cluster'")
        if load.kind != "mail" and load.placement == "cluster":
            raise self.source.error((*self.base, "load", "placement"), f"{load.kind} queries come from this host", "take 'placement' out")
        if load.kind == "mail":
            if load.scenario is None:
                raise self.source.error((*self.base, "load"), "'load.scenario' is missing")
            self._known(load.scenario, self.catalogue.scenarios, "scenario", "load", "scenario")
            self._params(load.params, "load", "params")
            return
        if load.scenario is not None:
            raise self.source.error((*self.base, "load", "scenario"), f"a load of the kind '{load.kind}' has no scenario")
        if wrong := self.catalogue.dns_load_problem(load.params):
            raise self.source.error((*self.base, "load", "params"), wrong)
        for arm in load.params.get("arms_cells") or ():
            self._known(arm, {a.name for a in block.arms}, "arm", "load", "params", "arms_cells", arm)

    def _params(self, params: Mapping[str, Any], *path: str | int) -> None:
        for name, value in params.items():
            self._known(name, self.catalogue.load_params, "parameter of the load", *path, name)
            if wrong := self.catalogue.load_problem(name, value):
                raise self.source.error((*self.base, *path, name), wrong)

    def _together(self, block: PlanBlock) -> None:
        """What no value is wrong with alone: readers that would meet in one mailbox, shares of more than everything."""
        if block.load.kind != "mail":
            return
        places: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [(("load", "params"), {}), *((("arms", i, "load"), a.load) for i, a in enumerate(block.arms))]
        for path, more in places:
            params = {**block.load.params, **more}
            if wrong := self.catalogue.load_together(block.load.scenario or "", params, block.users):
                key = next((k for k in ("delete_share", "move_share") if k in (more or params)), "")
                raise self.source.error((*self.base, *path, key), wrong, "fewer readers and watchers, more 'users', or no 'delete_share' and 'move_share'")

    def _arms(self, block: PlanBlock) -> None:
        seen: set[str] = set()
        for i, arm in enumerate(block.arms):
            if arm.name in seen:
                raise self.source.error((*self.base, "arms", i), f"arm '{arm.name}' stands twice")
            seen.add(arm.name)
            for j, variant in enumerate(arm.variants):
                self._known(variant, self.catalogue.variants, "variant", "arms", i, "variants", j)
            if arm.main and arm.load:
                raise self.source.error((*self.base, "arms", i, "load"), f"arm '{arm.name}' is a main arm, so its load is the plan's", "set main: false for a control")
            self._params(arm.load, "arms", i, "load")
            for key in arm.expect:
                self._known(key, {"fail"}, "expectation", "arms", i, "expect", key)
            for j, name in enumerate(arm.expect.get("fail", [])):
                self._known(name, block.checks, "check in this plan", "arms", i, "expect", "fail", j)

    def _check_limits(self, block: PlanBlock) -> None:
        arms = {a.name for a in block.arms}
        for name, check in block.checks.items():
            self._known(name, self.catalogue.checks, "check", "checks", name)
            limits = self.catalogue.checks[name]
            for limit in check.limits:
                self._known(limit, limits, f"limit of {name}", "checks", name, "limits", limit)
            for limit, default in limits.items():
                if default is None and limit not in check.limits:
                    raise self.source.error((*self.base, "checks", name), f"check '{name}' needs the limit '{limit}'")
            for j, arm in enumerate(check.arms):
                self._known(arm, arms, "arm", "checks", name, "arms", j)

    def _dns(self, block: PlanBlock) -> None:
        """What is counted or watched, and that no check asks for counts that are not made."""
        if "look_ups_per_s" in block.model_fields_set and not DNS_WATCHED_BY & set(block.checks):
            raise self.source.error((*self.base, "look_ups_per_s"), f"nobody looks up names here: that takes a check {' or '.join(sorted(DNS_WATCHED_BY))}")
        if block.dns is None:
            if _DNS_CHECK in block.checks:
                raise self.source.error((*self.base, "checks", _DNS_CHECK), f"check '{_DNS_CHECK}' needs the key 'dns', which says what is captured")
            return
        arms = {a.name for a in block.arms}
        valid = {"component that can be captured": self.catalogue.capturable, "resolver": self.catalogue.look_ups, "arm": frozenset(arms)}
        for (kind, names), (key, given) in zip(valid.items(), block.dns.model_dump().items(), strict=True):
            for j, name in enumerate(given):
                self._known(name, names, kind, "dns", key, j)
                if name in given[:j]:
                    raise self.source.error((*self.base, "dns", key, j), f"'{name}' stands twice")
        check = block.checks.get(_DNS_CHECK)
        for j, arm in enumerate(check.arms if check else ()):
            if block.dns.arms and arm not in block.dns.arms:
                raise self.source.error((*self.base, "checks", _DNS_CHECK, "arms", j), f"DNS is not counted in arm '{arm}'")

    def _faults(self, block: PlanBlock) -> None:
        named = [f.name for f in block.faults]
        for i, activity in enumerate(self._actions()):
            if activity.get("name") not in named:
                raise self.source.error(("method", i), f"the fault '{activity.get('name')}' has no entry under 'faults', so no trigger")
        arms = {a.name for a in block.arms}
        for i, fault in enumerate(block.faults):
            for key in fault.when:
                self._known(key, {*TRIGGERS, THEN}, "trigger", "faults", i, "when", key)
            if len(TRIGGERS & set(fault.when)) != 1:
                raise self.source.error((*self.base, "faults", i, "when"), f"a fault has one trigger, and perhaps '{THEN}' beside it")
            for j, arm in enumerate(fault.arms):
                self._known(arm, arms, "arm", "faults", i, "arms", j)

    def _actions(self) -> list[dict[str, Any]]:
        method = self.source.data["method"] or []
        return [a for a in method if isinstance(a, dict) and a.get("type") == "action"]

    def fault(self, block: FaultBlock) -> FaultSpec:
        """The FaultSpec of ``block`` and its activity in ``method``."""
        actions = {a.get("name"): (i, a) for i, a in enumerate(self._actions())}
        if block.name not in actions:
            raise self.source.error((*self.base, "faults"), f"no action in 'method' is called '{block.name}'", nearest(block.name, map(str, actions)))
        i, activity = actions[block.name]
        provider = activity.get("provider") or {}
        if provider.get("module") != ACTIONS_MODULE:
            raise self.source.error(("method", i), f"faults come from the module {ACTIONS_MODULE}")
        kind = str(provider.get("func", ""))
        if kind not in self.catalogue.faults:
            raise self.source.error(("method", i, "provider", "func"), f"there is no fault '{kind}'", nearest(kind, self.catalogue.faults))
        return self._with_arguments(block, i, kind, dict(provider.get("arguments") or {}))

    def _with_arguments(self, block: FaultBlock, i: int, kind: str, given: dict[str, Any]) -> FaultSpec:
        known = self.catalogue.faults[kind]
        where = ("method", i, "provider", "arguments")
        for key in given:
            if key not in {*known.target, *known.arguments}:
                raise self.source.error((*where, key), f"'{kind}' has no argument '{key}'", nearest(key, [*known.target, *known.arguments]))
        target = {k: v for k, v in given.items() if k in known.target}
        if not target:
            raise self.source.error(("method", i), f"the fault '{block.name}' has no target", f"give one of: {', '.join(known.target)}")
        component = target.get("component")
        if component is not None and component not in self.catalogue.components:
            raise self.source.error((*where, "component"), f"there is no component '{component}'", nearest(str(component), self.catalogue.components))
        arguments = {k: v for k, v in given.items() if k in known.arguments}
        return FaultSpec(block.name, kind, target, arguments, block.when, block.deadline_s, tuple(block.arms))
