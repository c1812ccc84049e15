"""The faults that a plan may name, as chaostoolkit actions. What may be asked of each stands in ``harness.model.faults``.

A plan gives ``component`` and how many; the conductor renders ``victims`` (names), ``fault``, ``when`` and ``deadline_s`` in. Called
without a run's lease, each refuses. None of them chooses a victim, and none returns before its evidence was read. This module only
names them; each lives in a module of its kind.
"""

from __future__ import annotations

from harness.chaos.controlplane import control_plane_loss
from harness.chaos.dependency import service_hijack
from harness.chaos.dnsfault import dns_fault
from harness.chaos.drains import cordon, drain, rolling_drain
from harness.chaos.exhaust import fd_exhaust, oom_kill
from harness.chaos.hog import hog
from harness.chaos.network import packet_delay, packet_loss, partition, rate_limit
from harness.chaos.pods import container_kill, freeze, kill_pod
from harness.chaos.power import node_crash, node_pause, node_restart, node_stop
from harness.chaos.powerloss import power_loss
from harness.chaos.storage import attach_refused, volume_full, volume_readonly, volume_stall
from harness.chaos.workloads import bad_image, rolling_restart, scale

__all__ = [
    "attach_refused",
    "bad_image",
    "container_kill",
    "control_plane_loss",
    "cordon",
    "dns_fault",
    "drain",
    "fd_exhaust",
    "freeze",
    "hog",
    "kill_pod",
    "node_crash",
    "node_pause",
    "node_restart",
    "node_stop",
    "oom_kill",
    "packet_delay",
    "packet_loss",
    "partition",
    "power_loss",
    "rate_limit",
    "rolling_drain",
    "rolling_restart",
    "scale",
    "service_hijack",
    "volume_full",
    "volume_readonly",
    "volume_stall",
]
