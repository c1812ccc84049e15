"""The container engine: the one that answers, else Docker of the Debian packages, started by hand.

Source: dockerd(8); Debian's docker.io. No systemd is needed. Podman is not looked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.cluster import capabilities, packages
from harness.errors import ClusterFailed, CommandFailed, NotReady
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress
from harness.support.shell import Completed, run, tail

_ANSWER_S = 15
_START_S = 60
#: Debian splits the client from the engine since trixie; where the name is unknown, docker.io holds both.
_PACKAGES = ("docker.io", "docker-cli", "iptables", "ca-certificates")


@dataclass(frozen=True)
class Place:
    """Where an engine keeps its files; the default is Docker's own."""

    host: str = "unix:///var/run/docker.sock"
    pidfile: Path = Path("/var/run/docker.pid")
    exec_root: Path = Path("/var/run/docker")
    data_root: Path = Path("/var/lib/docker")
    extra: tuple[str, ...] = ()  #: further arguments of dockerd

    @property
    def containerd_pidfile(self) -> Path:
        return self.exec_root / "containerd" / "containerd.pid"


@dataclass(frozen=True)
class Engine:
    """A container engine that answers.

    :param version: of its server.
    :param host: value for ``DOCKER_HOST``; "" leaves the choice to the docker client.
    """

    version: str
    host: str = ""
    driver: str = ""
    cgroups: str = ""

    def docker(
        self, *words: str | Path, timeout_s: float = 60, check: bool = True, input: str | None = None
    ) -> Completed:
        """Run ``docker words…``. Builds use the classic builder, which needs no plugin.

        :raises CommandFailed: as :func:`harness.support.shell.run` does.
        """
        return run(["docker", *words], timeout_s=timeout_s, check=check, input=input, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which other programs (kind) reach the same engine."""
        return {"DOCKER_BUILDKIT": "0", **({"DOCKER_HOST": self.host} if self.host else {})}

    def has_image(self, ref: str) -> bool:
        """Whether the engine holds ``ref``."""
        return self.docker("image", "inspect", "--format", "{{.Id}}", ref, check=False).code == 0

    def containers(self, *filters: str, running_only: bool = False) -> list[str]:
        """Names of the containers that pass all filters (``label=x=y``, ``network=n``, ``name=^x$``)."""
        words = [w for f in filters for w in ("--filter", f)]
        found = self.docker("ps", *([] if running_only else ["-a"]), *words, "--format", "{{.Names}}")
        return sorted(found.stdout.split())


@dataclass(frozen=True)
class _Stale:
    """A pid file whose process is not what the file says."""

    path: Path
    pid: int | None
    comm: str = field(default="")


def ensure_engine(checkout: Checkout, progress: Progress, place: Place | None = None) -> Engine:
    """An engine that answers; installed and started where there is none.

    :param place: where to look for one and start one; default: what the docker client uses, Docker's own places.
    :raises ClusterFailed: none answers and none can be started: not root, not Debian-like, or dockerd fails (its log is
        in the message).
    """
    found = answering(place)
    if found is not None:
        return found
    with progress.stage("container engine"):
        _may_install(shutil.which("dockerd") is not None)
        if shutil.which("dockerd") is None or shutil.which("docker") is None:
            packages.install([p for p in _PACKAGES if packages.known(p)], progress)
            found = answering(place)  # a package may start its daemon by itself
        return found or _start(checkout, progress, place or Place())


def answering(place: Place | None = None) -> Engine | None:
    """The engine that answers now, or None."""
    host = place.host if place else ""
    if shutil.which("docker") is None:
        return None
    try:
        env = {"DOCKER_HOST": host} if host else {}
        found = run(["docker", "info", "--format", "{{json .}}"], timeout_s=_ANSWER_S, check=False, env=env)
        facts = json.loads(found.stdout or "{}")
    except (CommandFailed, json.JSONDecodeError):
        return None
    if found.code != 0 or not facts.get("ServerVersion"):
        return None
    return Engine(facts["ServerVersion"], host, facts.get("Driver", ""), str(facts.get("CgroupVersion", "")))


def _may_install(present: bool) -> None:
    if os.geteuid() != 0:
        raise ClusterFailed(
            "no container engine answers, and only root can start one",
            todo="start Docker and let this user reach it (group 'docker'), or run this as root",
        )
    if not present and not packages.available():
        raise ClusterFailed(
            "no container engine answers, and this is no Debian-like system where it could be installed",
            todo="install Docker and start it",
        )


def _start(checkout: Checkout, progress: Progress, place: Place) -> Engine:
    if place == Place() and Path("/run/systemd/system").is_dir():
        run(["systemctl", "start", "docker"], timeout_s=_START_S, check=False)
        if found := answering(place):
            return found
    clear_stale(place, progress)
    log = checkout.cache / "engine" / "dockerd.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    progress.note(f"starting dockerd by hand; its log: {log}")
    with log.open("ab") as out:
        daemon = subprocess.Popen(
            dockerd_command(checkout, place), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    return _await(daemon, log, place, progress)


def dockerd_command(checkout: Checkout, place: Place) -> list[str]:
    """The command line of dockerd; with the capability shim as its runtime only where a capability is missing."""
    words = ["dockerd", *place.extra]
    if place != Place():
        words += ["--host", place.host, "--pidfile", str(place.pidfile)]
        words += ["--exec-root", str(place.exec_root), "--data-root", str(place.data_root)]
    if capabilities.missing():
        shim = capabilities.install_shim(checkout)
        words += ["--add-runtime", f"bounded={shim}", "--default-runtime", "bounded"]
    return words


def _await(daemon: subprocess.Popen[bytes], log: Path, place: Place, progress: Progress) -> Engine:
    progress.waiting("dockerd to answer")

    def probe() -> Engine | None:
        if daemon.poll() is not None:
            raise ClusterFailed(f"dockerd ended with {daemon.returncode}: {tail(log.read_text(errors='replace'))}", where=str(log))
        return answering(place)

    try:
        return wait_for(probe, deadline_s=_START_S, what="dockerd to answer")
    except NotReady as error:
        if isinstance(error, ClusterFailed):
            raise
        daemon.terminate()
        raise ClusterFailed(f"{error.what}: {tail(log.read_text(errors='replace'))}", where=str(log)) from None


def clear_stale(place: Place, progress: Progress) -> None:
    """Remove pid files whose process is gone or is another program; dockerd refuses to start over them.

    :raises ClusterFailed: a live dockerd holds the place but does not answer.
    """
    for path, program in ((place.pidfile, "dockerd"), (place.containerd_pidfile, "containerd")):
        stale = _examine(path)
        if stale is None or (program == "containerd" and stale.comm == program):
            continue  # dockerd takes over a live containerd by itself
        if stale.comm == program:
            _wait_for_slow(place, stale)
            continue
        progress.note(f"removing stale {path} (process {stale.pid} is {stale.comm or 'gone'})")
        path.unlink(missing_ok=True)


def _wait_for_slow(place: Place, holder: _Stale) -> None:
    try:
        wait_for(lambda: answering(place) or not _alive(holder.pid), deadline_s=_START_S, what="the running dockerd to answer")
    except NotReady:
        raise ClusterFailed(
            f"dockerd runs (process {holder.pid}) but does not answer", where=str(holder.path), todo=f"look at it; 'kill {holder.pid}' and run again"
        ) from None


def _alive(pid: int | None) -> bool:
    """Whether the process runs; one that ended and that nobody has reaped (no init in containers) does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return pid is not None and state not in "ZX"


def _examine(path: Path) -> _Stale | None:
    """What the pid file says, or None where there is no file."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    pid = int(text) if text.isdigit() else None
    comm = ""
    if _alive(pid):
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
    return _Stale(path, pid, comm)


def registry_mirrors(engine: Engine) -> Sequence[str]:
    """Mirrors the engine is configured with: where there are any, a pull is worth trying."""
    found = engine.docker("info", "--format", "{{json .RegistryConfig.Mirrors}}", check=False)
    mirrors = json.loads(found.stdout or "null") if found.code == 0 else None
    return tuple(mirrors or ())
