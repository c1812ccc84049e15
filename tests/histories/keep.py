"""A run made small: the records alone, sealed anew, and what the judge says of them beside it."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.judge import RunVerdict, judge_history
from harness.store.history import load
from harness.store.run import RunDir

HERE = Path(__file__).resolve().parent
#: What the judge reads. Left out: the pods' own logs but those of mail that left, captures, and what tools wrote for people.
RECORDS = ("run.json", "plan.yaml", "conductor*.log", "abort-*.json", "arms/*/*.log", "arms/*/logs/outbound-*.postfix.log")
#: Figures that must be the same to the last digit.
EXACT = ("offered", "accepted", "delivered", "lost", "duplicated", "corrupted", "undetermined")


def keep(run: Path, note: str, into: Path = HERE) -> Path:
    """Make the small history of ``run``; the archive's path.

    :param note: what happened in it, for people.
    :raises ValueError: without the rest it is judged otherwise, so it cannot be made small.
    """
    with tempfile.TemporaryDirectory() as root:
        small = Path(root) / run.name
        for path in sorted(p for pattern in RECORDS for p in run.glob(pattern) if p.is_file()):
            target = small / path.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if (run / "seal.json").exists():
            RunDir.open(small).seal()
        said, whole = summary(small), summary(run)
        if said != whole:
            raise ValueError(f"{run.name} is judged otherwise when it is small: {said} and not {whole}")
        archive = into / f"{run.name}.tar.xz"
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(small, run.name, filter=_plain)
    body = {"note": note, "seal": RunDir.open(run).seal_digest, **said}
    archive.with_name(f"{run.name}.json").write_text(json.dumps(body, indent=1) + "\n")
    return archive


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without whose files they were."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def summary(run: Path) -> dict[str, Any]:
    """What is said of a run, as far as it must stay so."""
    with load(RunDir.open(run)) as history:
        return told(judge_history(history))


def told(verdict: RunVerdict) -> dict[str, Any]:
    """The same of a verdict: its status, that of every check in every arm, and the counts of mails."""
    figures = {arm: {k: f[k] for k in EXACT if k in f} for arm, f in verdict.figures.items()}
    return {
        "status": verdict.status.name, "exit_code": verdict.exit_code,
        "checks": {f"{v.check} in {v.arm}": v.status.name for v in verdict.verdicts}, "figures": figures,
    }


def kept() -> list[str]:
    """The ids of the runs that are kept here."""
    return sorted(p.name.removesuffix(".tar.xz") for p in HERE.glob("*.tar.xz"))


@contextmanager
def unpacked(run_id: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The directory of a kept run, and what was said of it."""
    with tempfile.TemporaryDirectory() as root:
        with tarfile.open(HERE / f"{run_id}.tar.xz") as tar:
            tar.extractall(root, filter="data")
        yield Path(root) / run_id, json.loads((HERE / f"{run_id}.json").read_text())
