"""Runs of the real engine process for tests, and its log as plain rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.load.spec import Access, LoadSpec
from harness.store import ops
from harness.store.log import Damage, read_blocks, read_events


@dataclass
class Ledger:
    """The rows of a log, by type, as dicts; its events; where it is damaged."""

    offers: list[dict[str, Any]] = field(default_factory=list)
    invokes: list[dict[str, Any]] = field(default_factory=list)
    dones: list[dict[str, Any]] = field(default_factory=list)
    userops: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        made = cls()
        lists = {2: made.offers, 3: made.invokes, 4: made.dones, 5: made.userops}
        for block in read_blocks(path):
            if isinstance(block, Damage):
                made.damages.append(block)
            elif block.type in lists:
                dtype = ops.BLOCK_TYPES[block.type]
                lists[block.type] += [dict(zip(dtype.names or (), row, strict=True)) for row in np.frombuffer(block.payload, dtype).tolist()]
        made.events = [e for e in read_events(path) if not isinstance(e, Damage)]
        return made

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["kind"] == kind]

    @property
    def end(self) -> dict[str, Any]:
        return self.kinds("load_end")[0]

    def outcomes(self) -> dict[tuple[int, int], list[int]]:
        """(mail, rcpt) → outcomes of its attempts, 3 (INFO) for one without an end; in the order of attempts."""
        ended = {(d["mail"], d["rcpt"], d["attempt"]): d["outcome"] for d in self.dones}
        assert len(ended) == len(self.dones), "an attempt ended twice"
        begun = {(i["mail"], i["rcpt"], i["attempt"]) for i in self.invokes}
        assert len(begun) == len(self.invokes), "an attempt began twice"
        assert set(ended) <= begun, "an attempt ended that never began"
        found: dict[tuple[int, int], list[int]] = defaultdict(list)
        for mail, rcpt, attempt in sorted(begun):
            found[mail, rcpt].append(ended.get((mail, rcpt, attempt), 3))
        return found


def make_spec(out: Path, port: int, params: dict[str, Any], **changes: Any) -> LoadSpec:
    """A spec against a sink on loopback, back-off 0.3 s."""
    base = LoadSpec(
        "run", "1-a", 11, "friday", {"mx": Access(("127.0.0.1",), port)}, {"min_backoff_s": 30, "max_backoff_s": 120, **params}, str(out),
        users=20, time_scale=100,
    )
    return base.replace(**changes)


def engine(spec: LoadSpec, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    """The engine process; its reports go to a file beside the log."""
    path = Path(spec.out) / "spec.json"
    path.write_text(spec.to_json())
    with (Path(spec.out) / "reports.jsonl").open("wb") as reports:
        return subprocess.Popen(
            [sys.executable, "-m", "harness.load", str(path), *words], stdout=options.pop("stdout", reports), stderr=subprocess.PIPE,
            env={**os.environ, "MAILGALE_LOAD_PASSWORD": spec.password}, **options,
        )


def finish(process: subprocess.Popen[bytes], timeout_s: float = 60) -> tuple[int, str]:
    """Exit code and standard error."""
    _, errors = process.communicate(timeout=timeout_s)
    return process.returncode, errors.decode()


def run(spec: LoadSpec, timeout_s: float = 60) -> Ledger:
    """Run the engine to its end; its log."""
    code, errors = finish(engine(spec), timeout_s)
    assert code == 0, (code, errors)
    ledger = Ledger.read(Path(spec.out) / "load-1.log")
    assert ledger.damages == []
    assert ledger.events[-1]["kind"] == "log_closed"
    assert ledger.kinds("incident") == []
    return ledger
