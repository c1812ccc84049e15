"""What the process that counts DNS in an arm is told, as a JSON file. It holds no secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.model.target import Target


@dataclass(frozen=True)
class CountSpec:
    """One arm's orders.

    :param capture: components whose pods are captured. :param look_ups: resolvers that are measured before (harness.dns.behaviours).
    :param arm_dir: ``dns.log`` and ``dns/POD.pcap`` are made there. :param ready: this file appears when every capture is on.
    :param nonce: makes the names of this arm's look-ups its own.
    :param baseline_s: seconds between the captures' begin and ``ready``: what is asked without any load.
    :param inside: (kubeconfig, context) of who may run commands in pods, for the counters that only a command tells; () = as above.
    :param quiet_s: after the end was asked for, the captures go on until nothing was asked for so long, at most ``quiet_max_s``.
    """

    kubeconfig: str
    context: str
    namespace: str
    cluster_domain: str
    mail_domain: str
    capture: tuple[str, ...]
    look_ups: tuple[str, ...]
    arm_dir: str
    ready: str
    nonce: str
    baseline_s: float = 5.0
    quiet_s: float = 2.0
    quiet_max_s: float = 30.0
    inside: tuple[str, ...] = ()

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
    def read(cls, path: Path) -> CountSpec:
        """Back from JSON.

        :raises UsageError: not readable, or a key is unknown or missing.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            return cls(**_tuples(data, {f.name for f in fields(cls)}))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"no usable spec: {error}", where=str(path)) from error


def _reading(kubeconfig: str, context: str) -> Target:
    return Target("kind", context, kubeconfig, context, "", (), (), (), ())


def _tuples(data: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    if unknown := set(data) - known:
        raise ValueError(f"unknown key {sorted(unknown)[0]}")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
