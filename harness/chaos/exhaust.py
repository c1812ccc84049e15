"""A container runs out of something: memory, until the kernel kills; open files.

Sources: cgroups(7) and the kernel's cgroup-v1/memory, cgroup-v2 (oom_kill), proc(5) oom_score_adj, prlimit(1), getrlimit(2).
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import Any

from harness.chaos import restore
from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.nodes import Process
from harness.chaos.world import FaultFailed
from harness.errors import NotSupported
from harness.kube.objects import Pod
from harness.support.shell import run

_OOM_KILLS = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null; true"
#: Everything but the shell itself is offered to the kernel first; then the shell's child takes memory until the limit is met.
_EAT = (
    'for p in /proc/[0-9]*; do p=${p#/proc/}; [ "$p" = $$ ] || [ "$p" = "$PPID" ] || [ "$p" = 1 ] || echo 1000 >"/proc/$p/oom_score_adj"; done 2>/dev/null; '
    'head -c "$1" /dev/zero | tail -c "$1" >/dev/null'
)
_EAT_S = 30.0
_DOCKER_S = 30.0


def oom_kill(
    component: str, pods: int = 1, container: str = "", mib: int = 1024, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Use up the memory limit of a container of the pods ``victims``, so that the kernel kills processes in it.

    All but its first process are marked as the kernel's first choice. Evidence: the kernel's own count of kills in the container's control group
    has grown; on kind also which of the container's own processes are gone. Undone when the workload is whole. Known limits: ``mib`` must exceed the
    container's memory limit; needs bash in the container. In a Burstable pod every process is marked nearly as high (Kubernetes documentation,
    "Node out of memory behavior"), so the kernel may take the largest, which is what ate the memory.
    """
    act = partial(_oom_kill, container=container, mib=mib)
    return carry_out("oom_kill", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _oom_kill(f: Fault, container: str, mib: int) -> None:
    hit = {v: _container(f.pod(v), container) for v in f.victims}
    before = {v: _kills(f, v, c) for v, c in hit.items()}
    own = {v: _processes(f, v, c) for v, c in hit.items()}
    f.arm("whole", workload=f.workload)
    f.say("begin", containers=hit, mib=mib)
    for pod, name in hit.items():
        f.world.gateway.exec(f.world.spec.namespace, pod, name, ["bash", "-c", _EAT, "bash", str(mib * 2**20)], timeout_s=_EAT_S)
        now = f.until(partial(_killed, f, pod, name, before[pod]), f"the kernel kills in {name} of {pod}")
        f.say("evidence", pod=pod, container=name, kills=now - before[pod], **_own_gone(f, pod, own[pod]))
    f.say("end")


def _processes(f: Fault, pod: str, container: str) -> list[Process]:
    """The container's processes, seen from its node; [] where nodes cannot be looked into."""
    found = f.pod(pod)
    with suppress(NotSupported):
        return f.world.nodes.processes(found.node, found.container(container).id)
    return []


def _own_gone(f: Fault, pod: str, before: list[Process]) -> dict[str, list[str]]:
    """Names of those of ``before`` that do not live any more."""
    if not before:
        return {}
    living = f.world.nodes.alive(f.pod(pod).node, before)
    return {"own_gone": sorted(p.name for p in before if not any(p.same(one) for one in living))}


def _killed(f: Fault, pod: str, container: str, before: int) -> int:
    """The count of kills once it has grown; 0 before."""
    now = _kills(f, pod, container)
    return now if now > before else 0


def _kills(f: Fault, pod: str, container: str) -> int:
    done = f.world.cluster.exec(f.world.spec.namespace, pod, container, ["bash", "-c", _OOM_KILLS])
    return oom_kills(done.stdout.decode(errors="replace"))


def oom_kills(text: str) -> int:
    """The kernel's count of OOM kills in ``memory.events`` (v2) or ``memory.oom_control`` (v1).

    :raises FaultFailed: it is in neither.
    """
    found = re.findall(r"^oom_kill (\d+)$", text, re.MULTILINE)
    if not found:
        raise FaultFailed("the container's control group does not count OOM kills")
    return max(map(int, found))


def fd_exhaust(
    component: str, pods: int = 1, container: str = "", files: int = 16, for_s: float = 20.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Let every process of a container of the pods ``victims`` open ``files`` files at most, for ``for_s`` seconds. kind only.

    Evidence: the limit as the kernel has it, and how many files a process holds that has reached it. Undone when every process that the container
    has by then may open as many as before. Known limits: the soft limit of each process, not the system's table of files.
    """
    act = partial(_fd_exhaust, container=container, files=files, for_s=for_s)
    return carry_out("fd_exhaust", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _fd_exhaust(f: Fault, container: str, files: int, for_s: float) -> None:
    hit = {v: f.pod(v) for v in f.victims}
    ids = {v: p.container(_container(p, container)).id for v, p in hit.items()}
    for name, pod in hit.items():
        found = f.world.nodes.processes(pod.node, ids[name])
        soft = max((restore.fd_limit(pod.node, p.pid) for p in found), default=0)
        if soft <= files:
            raise FaultFailed(f"may open {soft} files already, so {files} would change nothing", where=name)
        f.arm("fd_limits", node=pod.node, container=ids[name], soft=soft)
    f.say("begin", files=files, for_s=for_s)
    for name, pod in hit.items():
        limited = _limit(f, pod.node, ids[name], files)
        f.say("evidence", pod=name, files=files, processes=limited)
    f.hold(for_s)
    f.say("end")


def _limit(f: Fault, node: str, container: str, files: int) -> list[int]:
    """The processes that were limited, each read back.

    :raises FaultFailed: none was.
    """
    for process in f.world.nodes.processes(node, container):
        run(["docker", "exec", node, "prlimit", "--pid", str(process.pid), f"--nofile={files}:"], timeout_s=_DOCKER_S, check=False)
    limited = [p.pid for p in f.world.nodes.processes(node, container) if restore.fd_limit(node, p.pid) == files]
    if not limited:
        raise FaultFailed("no process took the limit", where=container[:12])
    return limited


def _container(pod: Pod, name: str) -> str:
    names = [c.name for c in pod.containers if not c.init]
    if name and name not in names:
        raise FaultFailed(f"has no container '{name}', only {', '.join(names)}", where=pod.name)
    return name or names[0]
