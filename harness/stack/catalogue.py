"""What ``deploy/`` holds: components, variants, profiles, read from the files that define them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from harness.errors import StackFailed
from harness.model.component import Component
from harness.support.checkout import Checkout

_FIELDS = frozenset(Component.__dataclass_fields__) - {"name"}
ABILITIES = frozenset({"kill", "freeze", "drain", "scale", "dns"})


def components(checkout: Checkout) -> dict[str, Component]:
    """Every component by name.

    :raises StackFailed: a component.yaml that does not read.
    """
    found = sorted((checkout.root / "deploy" / "components").glob("*/component.yaml"))
    return {path.parent.name: component(path) for path in found}


def deployed(known: Mapping[str, Component], workloads: Collection[str]) -> dict[str, Component]:
    """``known`` with those of their workloads that a stack has: a component that only a variant brings must not be waited for.

    :param workloads: ``Stack.workloads``.
    """
    return {name: replace(one, workloads=tuple(w for w in one.workloads if w in workloads)) for name, one in known.items()}


def component(path: Path) -> Component:
    """One component from its component.yaml; its name is its folder's.

    :raises StackFailed: not a mapping, an unknown or missing key, an ability that does not exist.
    """
    data = _mapping(path)
    unknown = sorted(set(data) - _FIELDS - {"name"})
    if unknown:
        raise StackFailed(f"unknown key '{unknown[0]}'", where=str(path), todo=f"one of {', '.join(sorted(_FIELDS))}")
    name = path.parent.name
    if data.get("name", name) != name:
        raise StackFailed(f"the name is '{data['name']}', the folder '{name}'", where=str(path))
    if not data.get("role"):
        raise StackFailed("'role' is missing", where=str(path))
    wrong = sorted(set(_strings(data, "abilities", path)) - ABILITIES)
    if wrong:
        raise StackFailed(f"no such ability: {wrong[0]}", where=str(path), todo=f"one of {', '.join(sorted(ABILITIES))}")
    return Component(
        name=name, role=str(data["role"]), workloads=_strings(data, "workloads", path), needs=_strings(data, "needs", path),
        abilities=_strings(data, "abilities", path), ports=data.get("ports") or {}, queue=data.get("queue") or {},
        images=_strings(data, "images", path),
    )


def variants(checkout: Checkout) -> dict[str, str]:
    """Variants by name with their descriptions (the comment at the top of the kustomization)."""
    return _described(checkout, "variants")


def profiles(checkout: Checkout) -> dict[str, str]:
    """Profiles by name with their descriptions."""
    return _described(checkout, "profiles")


def _described(checkout: Checkout, folder: str) -> dict[str, str]:
    found = sorted((checkout.root / "deploy" / folder).glob("*/kustomization.yaml"))
    return {path.parent.name: _head_comment(path) for path in found}


def _head_comment(path: Path) -> str:
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return " ".join(lines)


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise StackFailed(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise StackFailed("is no mapping", where=str(path))
    return data


def _strings(data: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    value = data.get(key) or []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise StackFailed(f"'{key}' is no list of words", where=str(path))
    return tuple(value)
