"""Every Postfix queue of a deployment: on the volumes of this host (claims of dead pods included) and inside running pods.

What a mail in a queue still has to reach becomes one copy per recipient. A file without its end record was never acknowledged
(cleanup(8) writes and syncs ``E`` before Postfix says 250), so it is counted and left out; in ``corrupt`` or with octets that
are no queue file at all it makes the scope incomplete, unless its trace can still be read from it. A file in ``corrupt`` without octets, or
of zeros alone, is what a power cut leaves of one that was not synced: it has been read, and holds no mail.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.census.canonical import Seen, examine
from harness.census.found import Copy, Scope
from harness.census.queue_file import QueueFileDamaged, parse, records
from harness.census.spec import CensusSpec, target_of
from harness.errors import MailgaleError
from harness.kube.client import Cluster
from harness.kube.objects import Pod

QUEUES = ("incoming", "active", "deferred", "hold", "corrupt")
#: Queues that empty by themselves.
MOVING = ("incoming", "active", "deferred")
SIDECAR = "queue-status"
_DEPTH_MAX = 3
_EXEC_S = 60.0
#: Directories that are not there are an error; files that go while they are counted are none.
#: Of incoming only what is marked as whole.
_COUNT = (
    'for q in "$@"; do [ -d "$q" ] || { echo "no $q" >&2; exit 3; }; done;'
    ' find "$@" -type f \\( -perm -u+x -o ! -path "*/incoming/*" \\) -printf "%H\\n" 2>/dev/null; true'
)


class Place(Protocol):
    """One Postfix spool, wherever it lies."""

    @property
    def name(self) -> str: ...

    @property
    def orphan(self) -> bool: ...

    def files(self) -> Iterator[tuple[str, str, bytes]]:
        """(queue, file name, octets) of every queue file; no octets of one that is not whole (:func:`is_whole`).

        Raises OSError or MailgaleError when the spool cannot be read.
        """
        ...

    def counts(self) -> dict[str, int]:
        """Queue files by queue. Raises as :meth:`files` does."""
        ...


@dataclass(frozen=True)
class DirectoryPlace:
    """A spool in a directory of this host."""

    path: Path
    name: str
    orphan: bool = False

    def files(self) -> Iterator[tuple[str, str, bytes]]:
        seen = set()
        for queue, path in _twice(lambda: _walk(self.path)):
            # A mail that moves between queues while they are read may be met twice under one name, or not at all the first time.
            if (path.name, queue) not in seen:
                seen.add((path.name, queue))
                try:
                    yield queue, path.name, path.read_bytes() if is_whole(queue, path.stat().st_mode) else b""
                except FileNotFoundError:
                    continue

    def counts(self) -> dict[str, int]:
        found = dict.fromkeys(QUEUES, 0)
        for queue, path in _walk(self.path):
            with suppress(FileNotFoundError):
                found[queue] += is_whole(queue, path.stat().st_mode)
        return found


@dataclass(frozen=True)
class PodPlace:
    """A spool inside a running pod, read through ``tar`` and ``find`` in its container."""

    cluster: Cluster
    namespace: str
    pod: str
    container: str
    path: str
    name: str
    orphan: bool = False

    def files(self) -> Iterator[tuple[str, str, bytes]]:
        """tar's status 1 (a file changed or went while it was read) is no failure: the mail moved, and the next look reads it again."""
        archive = self._run(["tar", "-C", self.path, "-cf", "-", *QUEUES], good=(0, 1))
        try:
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                for member in tar:
                    handle = tar.extractfile(member) if member.isfile() else None
                    if handle is not None:
                        queue, _, rest = member.name.removeprefix("./").partition("/")
                        yield queue, rest.rpartition("/")[2], handle.read() if is_whole(queue, member.mode) else b""
        except tarfile.TarError as error:
            raise MailgaleError(f"what tar sent does not read: {error}", where=f"{self.namespace}/{self.pod}") from None

    def counts(self) -> dict[str, int]:
        listed = self._run(["sh", "-c", _COUNT, "sh", *(f"{self.path}/{q}" for q in QUEUES)], good=(0,))
        lines = listed.decode().split("\n")
        return {q: lines.count(f"{self.path}/{q}") for q in QUEUES}

    def _run(self, argv: list[str], good: tuple[int, ...]) -> bytes:
        done = self.cluster.exec(self.namespace, self.pod, self.container, argv, timeout_s=_EXEC_S)
        if done.code not in good:
            raise MailgaleError(
                f"{argv[0]} ended with {done.code}: {done.stderr[-300:].decode(errors='replace')}", where=f"{self.namespace}/{self.pod}"
            )
        return done.stdout


def _twice(walk: Callable[[], Iterable[tuple[str, Path]]]) -> Iterator[tuple[str, Path]]:
    """Two passes: postfix renames files between queues, and a pass can miss one that moves behind its back."""
    yield from walk()
    yield from walk()


def _walk(spool: Path) -> Iterator[tuple[str, Path]]:
    """(queue, path) of every file; hashed subdirectories included (hash_queue_names)."""
    for queue in QUEUES:
        root = spool / queue
        if not root.is_dir():
            if queue in MOVING:
                raise FileNotFoundError(2, "no such queue directory", str(root))
            continue
        for folder, _, files in os.walk(root, onerror=_unless_gone):
            yield from ((queue, Path(folder) / f) for f in sorted(files))


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def is_whole(queue: str, mode: int) -> bool:
    """Whether Postfix has marked a queue file as whole, which it does before it acknowledges the mail.

    One in ``incoming`` without the mark is being received, or was when its writer was killed: the sender has no answer and tries again, and
    qmgr never touches it. Source: Postfix src/global/mail_queue.h, MAIL_QUEUE_STAT_READY; src/global/mail_open_ok.c.
    """
    return queue != "incoming" or bool(mode & stat.S_IXUSR)


def is_spool(path: Path) -> bool:
    """Whether ``path`` is a Postfix queue directory."""
    return all((path / q).is_dir() for q in MOVING)


def spools(root: Path) -> Iterator[Path]:
    """Every Postfix queue directory at most three levels below ``root``."""
    for folder, below, _ in os.walk(root, onerror=_unless_gone):
        path = Path(folder)
        if is_spool(path):
            below.clear()
            yield path
        elif len(path.relative_to(root).parts) >= _DEPTH_MAX:
            below.clear()


def places(spec: CensusSpec) -> list[Place]:
    """Every spool of the deployment.

    :raises MailgaleError: the cluster does not say which pods run, or the volumes' directory is not there.
    """
    cluster = Cluster(target_of(spec.target)) if spec.target is not None else None
    pods = [p for p in cluster.pods(spec.namespace) if p.component in spec.queue_components] if cluster else []
    users = {claim: p.name for p in pods if not _ended(p) for claim in claims(p)}
    found: list[Place] = []
    read_here = set()
    if spec.volumes_dir:
        root = Path(spec.volumes_dir) / spec.namespace
        for claim in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []:
            # A claim that should hold a queue and has none is a queue that cannot be read, not one that is empty.
            for spool in list(spools(claim)) or ([claim] if belongs(claim.name, spec.queue_components) else []):
                orphan = cluster is not None and claim.name not in users
                found.append(DirectoryPlace(spool, users.get(claim.name, claim.name), orphan))
                read_here.add(claim.name)
    for pod in pods:
        if cluster and not _ended(pod) and not read_here & set(claims(pod)):
            container = spec.queue_container or _reading_container(pod)
            found.append(PodPlace(cluster, spec.namespace, pod.name, container, spec.queue_path, pod.name))
    return found


def belongs(claim: str, components: Iterable[str]) -> bool:
    """Whether a claim of a StatefulSet (``<volume>-<component>[-…]-<ordinal>``) is one of these components'."""
    return any(f"-{c}-" in f"-{claim}-" for c in components)


def claims(pod: Pod) -> list[str]:
    """Names of the volume claims that a pod mounts."""
    volumes: Iterable[Mapping[str, Mapping[str, str]]] = pod.raw.get("spec", {}).get("volumes") or []
    return [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]


def _reading_container(pod: Pod) -> str:
    """The sidecar that has the queue mounted for reading and CPU of its own; else the first container."""
    names = [c.name for c in pod.containers if not c.init]
    return SIDECAR if SIDECAR in names else names[0]


def _ended(pod: Pod) -> bool:
    return pod.phase in ("Succeeded", "Failed")


def read_place(place: Place, prefix: str) -> list[Scope]:
    """One scope per queue of ``place``."""
    scopes = {q: Scope("queue", f"{place.name}:{q}", detail={"orphan": place.orphan, "unfinished": 0, "emptied": 0}) for q in QUEUES}
    try:
        for queue, name, raw in place.files():
            if queue in scopes:
                _read_file(scopes[queue], place, queue, name, raw, prefix)
    except (OSError, MailgaleError) as error:
        for scope in scopes.values():
            scope.fail(str(error))
    return list(scopes.values())


def _read_file(scope: Scope, place: Place, queue: str, name: str, raw: bytes, prefix: str) -> None:
    try:
        mail = parse(raw)
    except QueueFileDamaged as error:
        _damaged(scope, place, queue, name, raw, prefix, str(error))
        return
    seen = examine(mail.content, prefix)
    for rcpt in mail.todo:
        scope.copies.append(Copy("queue", scope.where, rcpt, seen, uid=name, queue=queue, orphan=place.orphan))


def _damaged(scope: Scope, place: Place, queue: str, name: str, raw: bytes, prefix: str, why: str) -> None:
    """A file that is being written, or was when its writer died, is no acknowledged mail; anything else is damage."""
    if queue == "incoming":
        scope.detail["unfinished"] += 1
        return
    if queue == "corrupt" and not raw.strip(b"\0"):
        scope.detail["emptied"] += 1
        return
    salvaged = salvage(raw, prefix)
    if salvaged is None:
        scope.fail(f"{name}: {why}")
        return
    mail, rcpts = salvaged
    for rcpt in rcpts:
        scope.copies.append(Copy("queue", scope.where, rcpt, mail, uid=name, queue=queue, orphan=place.orphan, detail={"damage": why}))
    if not rcpts:
        scope.fail(f"{name} (mail {mail.mail}): {why}; its recipients cannot be read")


def salvage(raw: bytes, prefix: str) -> tuple[Seen, list[str]] | None:
    """Whose mail a damaged file holds, and for whom, as far as it still reads; its hash is that of what is left."""
    content, rcpts = bytearray(), []
    try:
        for kind, data in records(raw):
            if kind in b"NL":
                content += data + (b"\n" if kind == ord("N") else b"")
            elif kind == ord("R"):
                rcpts.append(data.decode("utf-8", "replace"))
    except QueueFileDamaged:
        pass
    seen = examine(bytes(content), prefix)
    return (seen, rcpts) if seen.mail is not None else None
