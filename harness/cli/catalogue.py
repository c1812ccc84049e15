"""What exists: scenarios, plans, variants, components, checks, claims, faults. Read from the places where they are added."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from harness import checks as checks_package
from harness import claims as claims_package
from harness.dns.behaviours import RESOLVERS
from harness.dns.labspec import problem as dns_load_problem
from harness.errors import PlanError, UsageError
from harness.load.params import PARAMETERS, Params, problem
from harness.model.faults import KINDS
from harness.model.plan import Plan
from harness.plan import Catalogue, load_plan
from harness.plan.catalogue import nearest
from harness.stack.params import FILLED_IN
from harness.support.checkout import Checkout


@dataclass(frozen=True)
class Entry:
    """One line of ``mailgale list``."""

    kind: str
    name: str
    text: str


def catalogue(checkout: Checkout) -> Catalogue:
    """The names a plan may use, for this checkout."""
    deploy = checkout.root / "deploy"
    return Catalogue(
        scenarios=frozenset(p.stem for p in _scenario_files(checkout)),
        variants=frozenset(p.parent.name for p in deploy.glob("variants/*/kustomization.yaml")),
        profiles=frozenset(p.parent.name for p in deploy.glob("profiles/*/kustomization.yaml")),
        topologies=frozenset(p.stem for p in deploy.glob("kind/*.yaml")),
        components=frozenset(p.parent.name for p in deploy.glob("components/*/component.yaml")),
        claims=frozenset(name for name, module in _modules(claims_package) if hasattr(module, "find")),
        checks={name: dict(module.LIMITS) for name, module in _modules(checks_package) if hasattr(module, "LIMITS")},
        faults=KINDS,
        load_params=PARAMETERS,
        load_problem=problem,
        load_together=partial(_together, checkout),
        stack_params=_stack_params(checkout),
        dns_load_problem=dns_load_problem,
        capturable=frozenset(_capturable(checkout)),
        look_ups=frozenset(RESOLVERS),
    )


def find_plan(checkout: Checkout, given: str) -> Plan:
    """The plan in the file ``given``, or called so in ``experiments/``.

    :raises PlanError: no such file, or the plan is not valid.
    """
    path = Path(given)
    if not path.is_file():
        path = checkout.root / "experiments" / f"{path.name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        names = [p.stem for p in checkout.root.glob("experiments/*.yaml")]
        raise PlanError(f"there is no plan '{given}'", where="experiments", todo=nearest(Path(given).stem, names))
    shown = path.resolve()
    name = str(shown.relative_to(checkout.root)) if shown.is_relative_to(checkout.root) else str(path)
    return load_plan(path, catalogue(checkout), shown_as=name)


def entries(checkout: Checkout) -> Iterator[Entry]:
    """Everything that can be named, with the first line of its own description."""
    for path in sorted(checkout.root.glob("experiments/*.yaml")):
        yield Entry("plan", path.stem, str(_yaml(path).get("title", "")))
    for path in sorted(_scenario_files(checkout)):
        yield Entry("scenario", path.stem, _first_line(ast.get_docstring(ast.parse(path.read_text())) or ""))
    for name, module in sorted(_modules(checks_package)):
        if hasattr(module, "LIMITS"):
            yield Entry("check", name, _first_line(inspect.getdoc(module) or ""))
    for name, module in sorted(_modules(claims_package)):
        if hasattr(module, "find"):
            yield Entry("claim", name, _first_line(inspect.getdoc(module) or ""))
    for name, kind in sorted(KINDS.items()):
        yield Entry("fault", name, _first_line(getattr(kind, "summary", "")))
    for path in sorted(checkout.root.glob("deploy/components/*/component.yaml")):
        yield Entry("component", path.parent.name, str(_yaml(path).get("role", "")))
    for path in sorted(checkout.root.glob("deploy/variants/*/kustomization.yaml")):
        yield Entry("variant", path.parent.name, _comment(path))
    for path in sorted(checkout.root.glob("deploy/profiles/*/kustomization.yaml")):
        yield Entry("profile", path.parent.name, _comment(path))
    for path in sorted(checkout.root.glob("deploy/kind/*.yaml")):
        yield Entry("topology", path.stem, _comment(path))


def _stack_params(checkout: Checkout) -> frozenset[str]:
    """Keys of run-params that have a default in the manifests, but for those that the harness fills in itself."""
    made = _yaml(checkout.root / "deploy" / "components" / "params" / "kustomization.yaml").get("configMapGenerator")
    literals = [str(text) for one in made for text in one.get("literals", [])] if isinstance(made, list) else []
    return frozenset(text.partition("=")[0] for text in literals) - FILLED_IN


def _capturable(checkout: Checkout) -> Iterator[str]:
    """Components with pods whose network is their own: on the node's (hostNetwork) queries cannot be told from others'."""
    for path in checkout.root.glob("deploy/components/*/component.yaml"):
        on_the_node = any("hostNetwork: true" in p.read_text() for p in path.parent.glob("*.yaml"))
        if _yaml(path).get("workloads") and not on_the_node:
            yield path.parent.name


def _together(checkout: Checkout, scenario: str, params: Mapping[str, Any], users: int) -> str:
    """What is wrong with ``params`` on top of the scenario's own, for a load on ``users`` accounts."""
    try:
        return Params.of({**_defaults(checkout.root / "scenarios" / f"{scenario}.py"), **params}).crowded(users)
    except UsageError as error:
        return error.what


def _defaults(path: Path) -> dict[str, Any]:
    """The parameters that a scenario gives itself by ``given(…)``; read, not imported: a locustfile brings Locust."""
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "given"]
    return {word.arg: ast.literal_eval(word.value) for call in calls for word in call.keywords if word.arg is not None}


def _scenario_files(checkout: Checkout) -> list[Path]:
    return [p for p in checkout.root.glob("scenarios/*.py") if not p.name.startswith("_")]


def _modules(package: ModuleType) -> Iterator[tuple[str, ModuleType]]:
    for info in pkgutil.iter_modules(package.__path__):
        yield info.name.replace("_", "-"), importlib.import_module(f"{package.__name__}.{info.name}")


def _yaml(path: Path) -> dict[str, object]:
    data = yaml.safe_load(path.read_text())
    return data if isinstance(data, dict) else {}


def _comment(path: Path) -> str:
    """The comment that a YAML file begins with: its description."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return _first_sentence(" ".join(lines))


def _first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    head, stop, _ = text.strip().partition(". ")
    return head + stop.strip()


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0].strip()
