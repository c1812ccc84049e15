"""The faults that a plan may name, as chaostoolkit actions. What may be asked of each stands in ``harness.model.faults``.

A plan gives ``component`` and how many; the conductor renders ``victims`` (names), ``fault``, ``when`` and ``deadline_s`` in. Called
without a run's lease, each refuses. None of them chooses a victim, and none returns before its evidence was read. This module only
names them; each lives in a module of its kind.
"""

from __future__ import annotations

from harness.chaos.drains import cordon, drain, rolling_drain
from harness.chaos.network import packet_delay, packet_loss, partition, rate_limit
from harness.chaos.pods import container_kill, freeze, kill_pod
from harness.chaos.power import node_crash, node_pause, node_restart, node_stop
from harness.chaos.workloads import bad_image, rolling_restart, scale

__all__ = [
    "bad_image",
    "container_kill",
    "cordon",
    "drain",
    "freeze",
    "kill_pod",
    "node_crash",
    "node_pause",
    "node_restart",
    "node_stop",
    "packet_delay",
    "packet_loss",
    "partition",
    "rate_limit",
    "rolling_drain",
    "rolling_restart",
    "scale",
]
