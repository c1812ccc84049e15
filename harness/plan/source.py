"""YAML with line numbers: safe, bounded, and strict about duplicate keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import PlanError

BYTES_MAX = 1 << 20
Path_ = Sequence[str | int]


@dataclass(frozen=True)
class Source:
    """One YAML file: its data, and the line of every key and item."""

    file: str
    data: Any
    sha256: str
    node: yaml.Node

    def line(self, path: Path_) -> int:
        """The line (from 1) of the deepest part of ``path`` that exists, so that missing keys point at their parent."""
        node, line = self.node, self.node.start_mark.line
        for step in path:
            child = _child(node, step)
            if child is None:
                break
            line, node = child
        return line + 1

    def error(self, path: Path_, what: str, todo: str = "") -> PlanError:
        """A PlanError that points at ``path``."""
        return PlanError(what, where=f"{self.file}:{self.line(path)}", todo=todo)


def _child(node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    return None


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and aliases (a plan needs none; they hide what a line says)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed in a plan", problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, *, shown_as: str = "") -> Source:
    """Read one YAML document.

    :raises PlanError: unreadable, too large, not UTF-8, not YAML, duplicate key, alias, or not a mapping.
    """
    file = shown_as or str(path)
    raw = _bytes(path, file)
    try:
        loader = _StrictLoader(raw.decode("utf-8"))
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PlanError(f"not valid: {error.problem}", where=f"{file}:{line}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise PlanError(f"not readable as YAML: {error}", where=f"{file}:1") from None
    if node is None or not isinstance(data, dict):
        raise PlanError("a plan is a mapping with title, method and extensions", where=f"{file}:1")
    return Source(file, data, hashlib.sha256(raw).hexdigest(), node)


def _bytes(path: Path, file: str) -> bytes:
    try:
        with path.open("rb") as handle:
            raw = handle.read(BYTES_MAX + 1)
    except OSError as error:
        raise PlanError(f"cannot be read: {error.strerror}", where=file, todo="see 'mailgale list'") from None
    if len(raw) > BYTES_MAX:
        raise PlanError(f"larger than {BYTES_MAX} bytes", where=file)
    return raw
