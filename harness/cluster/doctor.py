"""What this machine has, lacks, and cannot do. Changes nothing and starts nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.cluster import (
    abilities,
    capabilities,
    found,
    golang,
    kind,
    limits,
    node_image,
    packages,
    recipe,
    tools,
)
from harness.cluster.engine import Engine, answering
from harness.errors import ClusterFailed, CommandFailed
from harness.support.checkout import Checkout

_MEMORY_GIB = 8
_DISK_GIB = 12


@dataclass(frozen=True)
class Examination:
    """One thing looked at.

    :param state: ``ok``, ``missing`` or ``not-supported``.
    :param todo: what ``mailgale cluster up`` will do about it, or what the reader must.
    """

    name: str
    state: str
    detail: str
    todo: str = ""


def examine(checkout: Checkout) -> list[Examination]:
    """Every examination, in the order in which setting up needs them."""
    engine = answering()
    looks: list[Callable[[], Examination]] = [
        _system, _python, _machine, lambda: _disk(checkout), lambda: _engine(engine), lambda: _capabilities(engine), _inotify, _go,
        lambda: _kubectl(checkout), lambda: _kind(checkout), lambda: _image(engine, checkout), lambda: _cluster(checkout),
    ]  # fmt: skip
    return [*(look() for look in looks), *_abilities(engine, checkout)]


def _system() -> Examination:
    name = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux") if sys.platform == "linux" else sys.platform
    if sys.platform != "linux":
        return Examination("system", "not-supported", name, "use Linux")
    if not packages.available():
        return Examination("system", "ok", f"{name}: not Debian-like, nothing is installed here", "see that Docker runs")
    who = "root" if os.geteuid() == 0 else "not root: packages and the engine must be there already"
    return Examination("system", "ok", f"{name}, {platform.machine()}, kernel {platform.release()}, {who}")


def _python() -> Examination:
    state = "ok" if sys.version_info >= (3, 11) else "missing"
    return Examination("Python", state, platform.python_version(), "" if state == "ok" else "install Python 3.11 or newer")


def _machine() -> Examination:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    enough = gib >= _MEMORY_GIB
    return Examination("machine", "ok" if enough else "missing", f"{os.cpu_count()} CPUs, {gib:.0f} GiB", "" if enough else f"{_MEMORY_GIB} GiB are needed")


def _disk(checkout: Checkout) -> Examination:
    place = next(p for p in (checkout.cache, *checkout.cache.parents) if p.exists())
    gib = shutil.disk_usage(place).free / 2**30
    enough = gib >= _DISK_GIB
    return Examination("disk", "ok" if enough else "missing", f"{gib:.0f} GiB free at {place}", "" if enough else f"{_DISK_GIB} GiB are needed")


def _engine(engine: Engine | None) -> Examination:
    if engine is not None:
        return Examination("container engine", "ok", f"docker {engine.version}, {engine.driver}, cgroup v{engine.cgroups}")
    if os.geteuid() != 0 or not packages.available():
        return Examination("container engine", "missing", "none answers", "install and start Docker")
    verb = "is started by hand" if shutil.which("dockerd") else "is installed by apt and started"
    return Examination("container engine", "missing", "none answers", f"Docker {verb}")


def _capabilities(engine: Engine | None) -> Examination:
    lacking = capabilities.missing()
    if not lacking:
        return Examination("capabilities", "ok", "all that the kernel knows")
    numbers = ", ".join(map(str, lacking))
    help_ = "" if engine else "the engine gets a runtime that asks for the others only"
    return Examination("capabilities", "ok", f"capabilities {numbers} are not granted to this machine", help_)


def _inotify() -> Examination:
    low = limits.too_low()
    if not low:
        return Examination("inotify limits", "ok", "high enough for several clusters")
    said = ", ".join(f"fs.inotify.{k}={v}" for k, v in low.items())
    return Examination("inotify limits", "missing", said, "raised until the next boot" if os.geteuid() == 0 else "raise them as root")


def _go() -> Examination:
    found_ = golang.host_go()
    if found_ is not None:
        return Examination("Go", "ok", str(found_))
    return Examination("Go", "missing", "none of 1.24 or newer", "Debian's is used in a container where it is needed")


def _kubectl(checkout: Checkout) -> Examination:
    try:
        return Examination("kubectl", "ok", str(tools.kubectl_path(checkout)))
    except ClusterFailed:
        return Examination("kubectl", "missing", "none of 1.28 or newer", "copied out of the node image")


def _kind(checkout: Checkout) -> Examination:
    try:
        return Examination("kind", "ok", str(tools.kind_path(checkout)))
    except ClusterFailed:
        return Examination("kind", "missing", "not built yet", "built from its Go module (a minute)")


def _image(engine: Engine | None, checkout: Checkout) -> Examination:
    wanted = (recipe.versions(checkout)["KINDEST_NODE"], node_image.built_ref(checkout))
    held = [r for r in wanted if engine is not None and engine.has_image(r)]
    if held:
        return Examination("node image", "ok", held[0])
    return Examination("node image", "missing", wanted[1], "pulled; without a registry built from Debian packages and Go modules (some 12 minutes once)")


def _cluster(checkout: Checkout) -> Examination:
    there = kind.status(checkout)
    if not there.problem:
        return Examination("cluster", "ok", f"{there.name}: {len(there.nodes)} nodes, {there.topology}")
    verb = "repaired or replaced" if there.nodes else "created"
    return Examination("cluster", "missing", f"{there.name}: {there.problem}", verb)


def _abilities(engine: Engine | None, checkout: Checkout) -> Iterator[Examination]:
    """What the kernel lacks; asked in a running node, unknown without one."""
    nodes = [c.name for c in found.containers(engine, checkout.cluster_name) if c.running and c.is_node] if engine else []
    if engine is None or not nodes:
        yield Examination("kernel abilities", "missing", "tried out in a node once there is one")
        return
    try:
        lacking = abilities.probe(engine, nodes[-1])
    except CommandFailed as error:
        yield Examination("kernel abilities", "missing", error.what.splitlines()[0], "see 'mailgale cluster status'")
        return
    yield Examination("kernel abilities", "ok", ", ".join(n for n in abilities.PROBES if n not in lacking))
    for name, why in lacking.items():
        yield Examination(name, "not-supported", why, "faults that need it are reported as not supported here")
