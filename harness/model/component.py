"""What deploy/components/X/component.yaml says about a component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Component:
    """One part of the stack.

    :param workloads: ``kind/name`` of its workloads, e.g. ``StatefulSet/mx``.
    :param needs: components that must be there first.
    :param abilities: what it can suffer: ``kill``, ``freeze``, ``drain``, ``scale``.
    :param queue: how its queue is read: ``{"kind": "postfix", "port": 9154, "volume": "spool"}``; empty = no queue.
    :param images: image names built from this folder (one Dockerfile each; ``Dockerfile`` or ``Dockerfile.NAME``).
    """

    name: str
    role: str
    workloads: tuple[str, ...]
    needs: tuple[str, ...] = ()
    abilities: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    queue: Mapping[str, object] = field(default_factory=dict)
    images: tuple[str, ...] = ()
