"""Probes of our own for what chaosk8s has none for: a component with all its pods ready, by its workload's own status."""

from __future__ import annotations

from chaoslib.exceptions import ActivityFailed

from harness.chaos.world import current
from harness.errors import MailgaleError

__all__ = ["component_ready"]


def component_ready(component: str, within_s: float = 0.0) -> bool:
    """Whether every workload of ``component`` has all the pods it asks for, ready, within ``within_s`` seconds.

    :raises ActivityFailed: the component is not known, or the cluster does not say.
    """
    try:
        world = current()
        workloads = world.spec.workloads.get(component, ())
        if not workloads:
            raise ActivityFailed(f"there is no component '{component}'")
        return not any(world.until_whole(w, None, within_s) for w in workloads)
    except (MailgaleError, OSError) as error:
        raise ActivityFailed(f"cannot be read: {error}") from error
