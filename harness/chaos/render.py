"""An arm's resolved experiment for chaostoolkit: named victims, no rollbacks (the undo log owns undo), no controls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.chaos.targets import Resolved
from harness.model.faults import CHOOSING
from harness.model.plan import Plan

ACTIONS = "harness.chaos.actions"
PROBES = "harness.chaos.probes"
_KEPT = ("version", "title", "description", "tags", "configuration", "contributions")


def experiment(plan: Plan, arm: str, resolved: Sequence[Resolved], *, namespace: str, run_id: str) -> dict[str, Any]:
    """What ``chaos run`` is given. It passes ``chaos validate``.

    The steady state is asked before and after: every component that is hit is whole, by our own probe and by chaosk8s'
    ``pods_in_phase``. Actions run side by side, each waiting for its own trigger.
    """
    made: dict[str, Any] = {k: plan.experiment[k] for k in _KEPT if k in plan.experiment}
    made.setdefault("title", plan.title)
    made.setdefault("description", plan.question)
    made["extensions"] = [{"name": "mailgale", "run": run_id, "arm": arm, "plan": plan.name, "sha256": plan.sha256}]
    components = sorted({str(r.fault.target["component"]) for r in resolved})
    if components:
        probes = [p for c in components for p in (_ready(c), _running(c, namespace))]
        made["steady-state-hypothesis"] = {"title": "what will be hit is whole", "probes": probes}
    made["method"] = [_action(r) for r in resolved]
    made["rollbacks"] = []
    return made


def settings() -> str:
    """chaostoolkit's settings for our runs, as YAML (of which JSON is a part): none of the user's own apply."""
    return json.dumps({"controls": {}, "notifications": {}, "runtime": {"rollbacks": {"strategy": "never"}}})


def _action(resolved: Resolved) -> dict[str, Any]:
    fault = resolved.fault
    target = {k: v for k, v in fault.target.items() if k not in CHOOSING}
    arguments: Mapping[str, Any] = {
        **target, **fault.arguments, "victims": list(resolved.victims), "fault": fault.name,
        "when": dict(fault.when), "deadline_s": fault.deadline_s,
    }
    provider = {"type": "python", "module": ACTIONS, "func": fault.kind, "arguments": dict(arguments)}
    return {"type": "action", "name": fault.name, "provider": provider, "background": True}


def _ready(component: str) -> dict[str, Any]:
    provider = {"type": "python", "module": PROBES, "func": "component_ready", "arguments": {"component": component, "within_s": 60}}
    return {"type": "probe", "name": f"{component} has all its pods ready", "tolerance": True, "provider": provider}


def _running(component: str, namespace: str) -> dict[str, Any]:
    arguments = {"label_selector": f"app.kubernetes.io/component={component}", "phase": "Running", "ns": namespace}
    provider = {"type": "python", "module": "chaosk8s.pod.probes", "func": "pods_in_phase", "arguments": arguments}
    return {"type": "probe", "name": f"every pod of {component} runs", "tolerance": True, "provider": provider}
