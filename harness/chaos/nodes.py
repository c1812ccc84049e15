"""The nodes of a kind cluster from outside: processes of a container, power, pause, network namespaces.

A kind node is a container of the engine; its processes are seen by ``docker exec``. Source: ctr(8) of containerd, proc(5).
On other targets every method raises NotSupported: what cannot be seen is not claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.errors import CommandFailed, MailgaleError, NotSupported
from harness.model.target import Target
from harness.support.shell import Completed, run

_EXEC_S = 30.0
#: How long an orderly stop of a node may take before it is killed.
_STOP_S = 20


class FaultFailed(MailgaleError):
    """A fault that did not happen, could not be proven, or was not over in time."""


@dataclass(frozen=True)
class Process:
    """One process on a node, told apart from a later one with its number by when it began (clock ticks since boot)."""

    pid: int
    birth: str
    state: str = ""
    name: str = ""  #: as the kernel knows it, cut to 15 characters (proc(5), comm)

    def same(self, other: Process) -> bool:
        return (self.pid, self.birth) == (other.pid, other.birth)


class Nodes:
    """Nodes of ``target`` by name."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def processes(self, node: str, container_id: str) -> list[Process]:
        """Every process of a container; [] when it has none any more.

        :raises NotSupported: no kind cluster. :raises CommandFailed: the node does not answer.
        """
        listed = self._exec(node, "ctr", "-n", "k8s.io", "tasks", "ps", container_id, check=False)
        if listed.code != 0:
            if "not found" in listed.stderr or "no running task" in listed.stderr:
                return []
            raise CommandFailed(f"cannot list the processes of {container_id[:12]}: {listed.stderr.strip()}", where=node)
        pids = [int(w[0]) for line in listed.stdout.splitlines() if (w := line.split()) and w[0].isdigit()]
        return self._states(node, pids)

    def alive(self, node: str, processes: Iterable[Process]) -> list[Process]:
        """Those of ``processes`` that still live (a zombie does not)."""
        before = list(processes)
        now = self._states(node, [p.pid for p in before])
        return [n for n in now if n.state not in ("Z", "X") and any(n.same(b) for b in before)]

    def signal(self, node: str, processes: Iterable[Process], name: str) -> None:
        """Send the signal ``name`` (``KILL``, ``STOP``, ``CONT``) to those that still live."""
        living = self.alive(node, processes)
        if living:
            self._exec(node, "kill", f"-{name}", *(str(p.pid) for p in living), check=False)

    def thaw(self, node: str, processes: Iterable[Mapping[str, Any]]) -> str:
        """SIGCONT to all; "" or those that are still stopped. Idempotent."""
        known = [Process(int(p["pid"]), str(p["birth"])) for p in processes]
        self.signal(node, known, "CONT")
        stopped = [p.pid for p in self.alive(node, known) if p.state == "T"]
        return f"still stopped on {node}: {stopped}" if stopped else ""

    def power(self, node: str, verb: str) -> None:
        """``kill`` (as a power cut does to processes), ``stop`` (its init may stop services, 20 s), ``pause``, ``unpause``."""
        words = ["stop", "--time", str(_STOP_S)] if verb == "stop" else [verb]
        self._docker(*words, self._known(node), timeout_s=_EXEC_S + _STOP_S)

    def start(self, node: str) -> None:
        """Have the node's container run, whatever was done to it; nothing happens when it does."""
        state = self.state(node)
        if state == "paused":
            self.power(node, "unpause")
        elif state != "running":
            self._docker("start", self._known(node))

    def state(self, node: str) -> str:
        """What the engine says of the node's container: ``running``, ``paused``, ``exited``, …"""
        return self._docker("inspect", "--format", "{{.State.Status}}", self._known(node)).stdout.strip()

    def inside(self, node: str, *words: str, input: str | None = None, check: bool = True) -> Completed:
        """Run a command on the node, ``input`` as its standard input.

        :raises CommandFailed: it fails (with ``check``), or the node does not answer.
        """
        flags = ["-i"] if input is not None else []
        return self._docker("exec", *flags, self._known(node), *words, check=check, input=input)

    def network_of(self, node: str, process: Process) -> str:
        """The file on ``node`` that names the network namespace of ``process``; "" when it is the node's own.

        A pod's namespace has such a file as long as the pod lives, whatever becomes of its containers (containerd's CNI keeps it).

        :raises CommandFailed: the process is gone, or its namespace has no name.
        """
        script = (
            'own=$(stat -Lc %i /proc/1/ns/net) its=$(stat -Lc %i "/proc/$1/ns/net") || exit 3; [ "$own" != "$its" ] || exit 0; '
            'for f in /run/netns/*; do [ "$(stat -Lc %i "$f")" != "$its" ] || { echo "$f"; exit 0; }; done; exit 4'
        )
        return self._exec(node, "sh", "-c", script, "sh", str(process.pid)).stdout.strip()

    def _states(self, node: str, pids: Iterable[int]) -> list[Process]:
        wanted = [str(p) for p in pids]
        if not wanted:
            return []
        script = 'for p in "$@"; do cat /proc/$p/stat 2>/dev/null; done; true'
        found = self._exec(node, "sh", "-c", script, "sh", *wanted)
        return [_process(line) for line in found.stdout.splitlines() if line.strip()]

    def _exec(self, node: str, *words: str, check: bool = True) -> Completed:
        return self._docker("exec", self._known(node), *words, check=check)

    def _docker(self, *words: str, check: bool = True, input: str | None = None, timeout_s: float = _EXEC_S) -> Completed:
        return run(["docker", *words], timeout_s=timeout_s, check=check, input=input)

    def _known(self, node: str) -> str:
        if self._target.kind != "kind":
            raise NotSupported("processes and power of nodes can be reached on kind clusters only")
        if node not in {n.name for n in self._target.nodes}:
            raise CommandFailed("the target has no such node", where=node)
        return node


def plain(processes: Iterable[Process]) -> list[dict[str, Any]]:
    """Processes as data for an undo log."""
    return [asdict(p) for p in processes]


def _process(stat: str) -> Process:
    pid, _, rest = stat.partition(" (")
    name, _, after = rest.rpartition(")")
    fields = after.split()
    return Process(int(pid), fields[19], fields[0], name)
