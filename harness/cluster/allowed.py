"""The contexts that the user's configuration allows; keys as in :mod:`harness.cluster.context`. It is read, never written."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import GuardRefused

_NETWORKS = ("generator_networks", "pod_networks", "service_networks")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
#: As the reference grammar has it; without a dot, a port or "localhost" the first part is no host but a user of Docker Hub.
_HOST = r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|[a-z0-9-]+(?=:)|\[[0-9a-f:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = re.compile(rf"{_HOST}(?:/{_PART})+")
_TEXTS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "uid": (re.compile(r"\S+"), "the UID of its namespace kube-system"),
    "edge_node": (_NAME, "the name of a node"),
    "storage_class": (_NAME, "the name of a StorageClass"),
    "image_registry": (_REGISTRY, "HOST[:PORT]/PREFIX in lower case"),
}
_KEYS = {"name", *_TEXTS, *_NETWORKS}


@dataclass(frozen=True)
class Allowed:
    """What the configuration says of one context; "" and () where it says nothing."""

    name: str
    uid: str = ""
    edge_node: str = ""
    storage_class: str = ""
    image_registry: str = ""
    generator_networks: tuple[str, ...] = ()
    pod_networks: tuple[str, ...] = ()
    service_networks: tuple[str, ...] = ()


def configuration_file() -> Path:
    """The user's configuration file."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mailgale" / "config.yaml"


def allowed_contexts(path: Path) -> dict[str, Allowed]:
    """Context name → what the configuration says of it.

    :raises GuardRefused: the file is not as described: a guard that cannot be read allows nothing.
    """
    try:
        read = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GuardRefused(f"the configuration cannot be read: {error}", where=str(path)) from error
    entries = read.get("allowed_contexts", []) if isinstance(read, dict) else None
    if not isinstance(entries, list):
        raise GuardRefused("'allowed_contexts' is not a list", where=str(path))
    found: dict[str, Allowed] = {}
    for one in (_entry(e, path) for e in entries):
        if one.name in found:
            raise GuardRefused(f"the context {one.name} stands there twice", where=str(path))
        found[one.name] = one
    return found


def _entry(entry: object, path: Path) -> Allowed:
    fields: Mapping[str, Any] = {"name": entry} if isinstance(entry, str) else entry if isinstance(entry, dict) else {}
    name = fields.get("name")
    if not isinstance(name, str) or not name.strip():
        raise GuardRefused("an entry of 'allowed_contexts' is neither a name nor a mapping with one", where=str(path))
    if unknown := sorted(str(k) for k in set(fields) - _KEYS):
        raise GuardRefused(f"unknown key '{unknown[0]}' for the context {name}", where=str(path), todo=f"keys: {', '.join(sorted(_KEYS))}")
    said: dict[str, Any] = {k: _text(fields[k], k, name, path) for k in _TEXTS if k in fields}
    said.update({k: _networks(fields[k], f"{k} of {name}", path) for k in _NETWORKS if k in fields})
    return Allowed(name, **said)


def _text(value: object, key: str, name: str, path: Path) -> str:
    pattern, what = _TEXTS[key]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise GuardRefused(f"{key} of {name} is {value!r}", where=str(path), todo=f"it must be {what}")
    return value


def _networks(value: object, what: str, path: Path) -> tuple[str, ...]:
    try:
        if not isinstance(value, list):
            raise ValueError("not a list")
        return tuple(str(ipaddress.ip_network(network)) for network in value)
    except ValueError as error:
        raise GuardRefused(f"{what}: {error}", where=str(path)) from error
