"""What an observer is told, as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.model.target import Target


@dataclass(frozen=True)
class ObserveSpec:
    """One observer's orders.

    :param kubeconfig: "" = there is no cluster: only this host is sampled.
    :param arm_dir: where ``observe.log`` and ``logs/`` are made.
    :param interval_s: between samples.
    :param ends_at_ns: on the run's clock; it ends by itself then. 0 = never.
    :param queues: component → port of its queue status.
    :param edge: ``host:port`` of HAProxy's statistics, "" = none.
    :param dns: the counters of the DNS servers are sampled too.
    :param inside: (kubeconfig, context) of who may run commands in pods, for the counters that only a command tells; () = as above.
    :param log_bytes_max: of one container's log file.
    """

    kubeconfig: str
    context: str
    namespace: str
    arm_dir: str
    run_id: str
    interval_s: float = 2.0
    ends_at_ns: int = 0
    queues: Mapping[str, int] = field(default_factory=dict)
    edge: str = ""
    dns: bool = False
    inside: tuple[str, ...] = ()
    cgroup_root: str = "/sys/fs/cgroup"
    log_bytes_max: int = 64 << 20

    def target(self) -> Target:
        """A target that is good for reading only: without a UID no guard lets a change pass."""
        return _reading(self.kubeconfig, self.context)

    def inside_target(self) -> Target:
        """Likewise, by the rights of who may run commands in pods."""
        kubeconfig, context = self.inside or (self.kubeconfig, self.context)
        return _reading(kubeconfig, context)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> ObserveSpec:
        """Back from JSON.

        :raises UsageError: not readable, or a key is unknown or missing.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            unknown = set(data) - {f.name for f in fields(cls)}
            if unknown:
                raise UsageError(f"unknown key {sorted(unknown)[0]}", where=str(path))
            return cls(**{**data, "inside": tuple(data.get("inside", ()))})
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"no usable spec: {error}", where=str(path)) from error


def _reading(kubeconfig: str, context: str) -> Target:
    return Target("observed", context, kubeconfig, context, "", (), (), (), ())
