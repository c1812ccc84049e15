"""The directory of one run: created once, written by many processes (one file each), sealed at its end.

    run = RunDir.create(runs_dir, plan, {"target": {...}, "versions": {...}})
    arm = run.arm(1, "2x")              # arms/1-2x, with the paths of its logs
    digest = run.seal()                 # seal.json: sha256 and size of every file
    damages = RunDir.open(path).verify()

Limits: the seal shows change, it does not prevent it; whoever can write the directory can seal it again, so the digest
that ``seal`` returns is printed and belongs into the change record.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import StoreDamaged, UsageError
from harness.model.plan import Plan
from harness.store.log import Damage
from harness.store.plan_json import plan_from_json, plan_to_json
from harness.support.clock import boot_id, now_ns

FORMAT = 1
SEAL = "seal.json"
#: Made by judge and report, at will and again; never sealed.
UNSEALED = frozenset({SEAL, "verdict.json", "report.html", "summary.md", "junit.xml"})
#: Room that a run sets aside, so that a disk that fills up still takes its seal, verdict and report.
BALLAST, BALLAST_BYTES = ".ballast", 16 << 20
#: Half-written files of :func:`write_whole`, left by a process that was killed.
_HALF = re.compile(r"^\.(.+)\.\d+$")
#: Written by who recovers, maybe after the seal: it says itself what it did, and changes nothing that was sealed.
_RECOVERY = re.compile(r"^arms/[^/]+/undo-\d+\.log$")
_ARM = re.compile(r"^(\d+)-(.+)$")


@dataclass(frozen=True)
class ArmDir:
    """Where the files of one arm in one block lie."""

    path: Path
    block: int
    name: str

    @property
    def label(self) -> str:
        """``<block>-<arm>``, as in the trace header."""
        return f"{self.block}-{self.name}"

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def logs(self) -> Path:
        """Directory of the pods' own logs."""
        return self.path / "logs"

    def load_log(self, n: int = 1) -> Path:
        return self.path / f"load-{n}.log"

    @property
    def observe_log(self) -> Path:
        return self.path / "observe.log"

    @property
    def faults_log(self) -> Path:
        return self.path / "faults.log"

    @property
    def census_log(self) -> Path:
        return self.path / "census.log"

    @property
    def conductor_log(self) -> Path:
        return self.path / "conductor.log"

    @property
    def undo_log(self) -> Path:
        return self.path / "undo.log"


@dataclass(frozen=True)
class RunDir:
    """One run's directory. Make it with :meth:`create`, find it again with :meth:`open`."""

    path: Path

    @classmethod
    def create(
        cls,
        root: Path,
        plan: Plan,
        meta: Mapping[str, Any],
        *,
        arms: Sequence[tuple[int, str]] = (),
        plan_bytes: bytes | None = None,
    ) -> RunDir:
        """A new directory ``<UTC time>-<plan>-<4 hex>`` under ``root`` with ``run.json`` and ``plan.yaml``.

        :param meta: what was tested: ``target``, ``versions``, ``images`` and whatever else the report shows.
        :param arms: (block, arm) in the order they will run; () = block 1, every main arm. The judge asks for each.
        :param plan_bytes: the plan's file; read from ``plan.source`` when not given.
        :raises UsageError: an arm that the plan does not have.
        """
        planned = list(arms) or [(1, a.name) for a in plan.arms if a.main]
        for _, name in planned:
            if name not in plan.arm_names:
                raise UsageError(f"the plan has no arm '{name}'", where=plan.source)
        run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{plan.name}-{secrets.token_hex(2)}"
        path = root / run_id
        (path / "arms").mkdir(parents=True)
        run = cls(path)
        (path / "plan.yaml").write_bytes(_plan_bytes(plan) if plan_bytes is None else plan_bytes)
        run.write_head({
            "format": FORMAT, "run_id": run_id, "plan": plan_to_json(plan), "sha256": plan.sha256, "seed": plan.seed,
            "arms": [{"block": b, "arm": a} for b, a in planned],
            "anchor": anchor(),
            "meta": dict(meta),
        })
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """The run at ``path``.

        :raises UsageError: there is no run.
        :raises StoreDamaged: its ``run.json`` does not read.
        """
        if not (path / "run.json").is_file():
            raise UsageError("this is no run directory", where=str(path), todo="see 'mailgale runs ls'")
        run = cls(path)
        if run.head.get("format") != FORMAT:
            raise StoreDamaged(f"format {run.head.get('format')!r} is not known", where=str(path / "run.json"))
        return run

    @cached_property
    def head(self) -> Mapping[str, Any]:
        """``run.json`` as it was when first asked for.

        :raises StoreDamaged: it does not read.
        """
        try:
            data = json.loads((self.path / "run.json").read_bytes())
        except (OSError, ValueError) as error:
            raise StoreDamaged(f"cannot be read: {error}", where=str(self.path / "run.json")) from error
        if not isinstance(data, dict):
            raise StoreDamaged("is no JSON object", where=str(self.path / "run.json"))
        return data

    @property
    def run_id(self) -> str:
        return str(self.head["run_id"])

    @cached_property
    def plan(self) -> Plan:
        """The resolved plan. Raises StoreDamaged when it does not read."""
        return plan_from_json(self.head.get("plan", {}))

    @property
    def meta(self) -> Mapping[str, Any]:
        return dict(self.head.get("meta", {}))

    @property
    def planned_arms(self) -> tuple[tuple[int, str], ...]:
        """(block, arm) in the order they were to run."""
        return tuple((int(a["block"]), str(a["arm"])) for a in self.head.get("arms", ()))

    @property
    def conductor_logs(self) -> tuple[Path, ...]:
        """The conductor's log of each session, the last one being that of now: ``conductor.log``, ``conductor-2.log``, …"""
        later = range(2, 2 + len(self.head.get("sessions", ())))
        return (self.path / "conductor.log", *(self.path / f"conductor-{n}.log" for n in later))

    @property
    def conductor_log(self) -> Path:
        """That of the last session."""
        return self.conductor_logs[-1]

    def arm(self, block: int, name: str) -> ArmDir:
        """The directory of arm ``name`` in ``block``, made if it is not there."""
        arm = ArmDir(self.path / "arms" / f"{block}-{name}", block, name)
        arm.logs.mkdir(parents=True, exist_ok=True)
        return arm

    def arm_dirs(self) -> list[ArmDir]:
        """Every arm directory that exists, by block, then in the plan's order, then by name."""
        names = self.plan.arm_names
        order = {n: i for i, n in enumerate(names)}
        found = [ArmDir(p, int(m[1]), m[2]) for p in (self.path / "arms").glob("*") if (m := _ARM.match(p.name)) and p.is_dir()]
        return sorted(found, key=lambda a: (a.block, order.get(a.name, len(names)), a.name))

    def update_meta(self, **more: Any) -> None:
        """Add what is known only later (image digests, timings, clean-up) to ``run.json``. Not after :meth:`seal`.

        :raises StoreDamaged: the run is sealed.
        """
        if (self.path / SEAL).exists():
            raise StoreDamaged("a sealed run cannot change", where=str(self.path))
        self.write_head({**self.head, "meta": {**self.meta, **more}})

    def write_head(self, head: Mapping[str, Any]) -> None:
        """Replace ``run.json``. Raises OSError: it is as it was."""
        write_whole(self.path / "run.json", json.dumps(head, indent=1, sort_keys=True, default=str).encode() + b"\n")
        self.__dict__.pop("head", None)

    def set_aside(self) -> None:
        """Reserve ``BALLAST_BYTES`` of the disk for the end of the run. Idempotent.

        :raises OSError: the disk has less than that.
        """
        handle = os.open(self.path / BALLAST, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.posix_fallocate(handle, 0, BALLAST_BYTES)
        except OSError:
            self.release()
            raise
        finally:
            os.close(handle)

    def release(self) -> None:
        """Give back what :meth:`set_aside` took, so that the rest can be written."""
        (self.path / BALLAST).unlink(missing_ok=True)

    def seal(self) -> str:
        """Write ``seal.json``; its own SHA-256 in hex is returned, to be printed.

        :raises StoreDamaged: already sealed, or something that is no plain file lies in the run.
        :raises OSError: disk full and the like; there is no seal then.
        """
        if (self.path / SEAL).exists():
            raise StoreDamaged("the run is sealed already", where=str(self.path))
        files = {}
        for name, path in _files(self.path):
            if path.is_symlink() or not path.is_file():
                raise StoreDamaged("is no plain file, so it cannot be sealed", where=str(path))
            files[name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        body = _seal_body(files)
        write_whole(self.path / SEAL, body)
        return hashlib.sha256(body).hexdigest()

    @property
    def seal_digest(self) -> str:
        """SHA-256 of ``seal.json`` in hex; "" when the run is not sealed."""
        path = self.path / SEAL
        return _sha256(path) if path.is_file() else ""

    def verify(self) -> list[Damage]:
        """Every file that is not as it was sealed: changed, missing, or not known to the seal. [] = all well.

        A run without a seal has one damage that says so.
        """
        sealed = self._sealed_files()
        if isinstance(sealed, Damage):
            return [sealed]
        damages, seen = [], set()
        for name, path in _files(self.path):
            seen.add(name)
            if name not in sealed and _RECOVERY.match(name):
                continue
            what = _difference(path, sealed.get(name))
            if what:
                damages.append(Damage(name, 0, what))
        damages += [Damage(name, 0, "missing since the seal") for name in sorted(set(sealed) - seen)]
        return damages

    def _sealed_files(self) -> dict[str, Any] | Damage:
        try:
            raw = (self.path / SEAL).read_bytes()
            data = json.loads(raw)
        except FileNotFoundError:
            return Damage(SEAL, 0, "the run was never sealed: it did not come to its end")
        except ValueError:
            return Damage(SEAL, 0, "the seal itself does not read")
        files = data.get("files") if isinstance(data, dict) and data.get("format") == FORMAT else None
        if not isinstance(files, dict) or raw != _seal_body(files):
            return Damage(SEAL, 0, "the seal itself is not as it was written")
        return files


def anchor() -> dict[str, Any]:
    """Now on both clocks, and the boot that the monotonic one counts from."""
    return {"wall_ns": time.time_ns(), "monotonic_ns": now_ns(), "boot": boot_id()}


def _seal_body(files: Mapping[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, "files": files}, indent=1, sort_keys=True).encode() + b"\n"


def _plan_bytes(plan: Plan) -> bytes:
    path = Path(plan.source)
    return path.read_bytes() if plan.source and path.is_file() else b""


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Everything under ``root`` that the seal covers, as (relative name, path), sorted."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not _left_out(name) and (path.is_symlink() or not path.is_dir()):
            yield name, path


def _left_out(name: str) -> bool:
    half = _HALF.match(name)
    return name in UNSEALED or name == BALLAST or bool(half and half[1] in {*UNSEALED, "run.json"})


def _difference(path: Path, entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return "not there when the run was sealed"
    if path.is_symlink() or not path.is_file():
        return "no plain file any more"
    size = path.stat().st_size
    if size != entry.get("bytes"):
        return f"{size} bytes, sealed with {entry.get('bytes')}"
    return "" if _sha256(path) == entry.get("sha256") else "changed since the seal"


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_whole(path: Path, body: bytes) -> None:
    """Write and fsync beside ``path``, then rename: a reader sees the old file or the new one, never half of it.

    :raises OSError: disk full and the like; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as handle:
            handle.write(body)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
