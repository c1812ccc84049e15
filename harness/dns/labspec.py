"""What the laboratory's processes are told, as a JSON file: which pods, through which network, which cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.dns.localzones import refuse_local_zones
from harness.errors import UsageError
from harness.model.dnslab import LabLoad


@dataclass(frozen=True)
class LabSpec:
    """One arm's orders.

    :param seed: of arrivals, of the choice of caches, and of the order of cells.
    :param params: of the load, as :class:`harness.model.dnslab.LabLoad` takes them.
    :param network: network namespace from which pods are reached (``/proc/PID/ns/net`` of a node).
    :param resolver: directory of unbound's first process below a proc(5) file system.
    :param caches: pod → address of each node cache.
    """

    arm_dir: str
    run_id: str
    arm: str
    label: str
    seed: str
    params: Mapping[str, Any]
    network: str
    resolver: str
    caches: Mapping[str, str]

    @property
    def load(self) -> LabLoad:
        """The load.

        :raises UsageError: parameters that are not valid.
        """
        if wrong := problem(self.params):
            raise UsageError(wrong, where=self.arm)
        return LabLoad.of(self.params)

    def write(self, path: Path) -> Path:
        """As JSON; the path again."""
        path.write_text(json.dumps(asdict(self), indent=1))
        return path

    @classmethod
    def read(cls, path: Path) -> LabSpec:
        """Back from JSON.

        :raises UsageError: not readable, or a key is unknown or missing.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            unknown = sorted(set(data) - {f.name for f in fields(cls)})
            if unknown:
                raise UsageError(f"unknown key {unknown[0]}", where=str(path))
            return cls(**data)
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"no usable spec: {error}", where=str(path)) from error


def problem(params: Mapping[str, Any]) -> str:
    """What is wrong with the parameters of a dns load; "" = nothing. A zone that unbound answers for itself is wrong."""
    try:
        load = LabLoad.of(params)
        refuse_local_zones([f"x.{load.zone}"])
    except (ValueError, UsageError) as error:
        return str(error)
    return ""
