"""Runs of the whole command ``mailgale load`` for tests."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.support.checkout import Checkout
from tests.servers.mailservers import DOMAIN, PASSWORD

_MAIN = "import sys; from harness.cli.main import main; sys.argv[0] = 'mailgale'; main()"


@dataclass(frozen=True)
class Answer:
    """How one command ended. ``data``: its JSON, empty when there is none."""

    code: int
    data: dict[str, Any]
    errors: str

    @property
    def run(self) -> Path:
        return Path(self.data["run"])

    @property
    def verdict(self) -> dict[str, Any]:
        """``verdict.json``."""
        return dict(json.loads((self.run / "verdict.json").read_text()))

    def check(self, name: str) -> dict[str, Any]:
        """What one check said."""
        return next(dict(v) for v in self.verdict["verdicts"] if v["check"] == name)

    def failed(self) -> set[str]:
        """Checks that say FAIL."""
        return {v["check"] for v in self.verdict["verdicts"] if v["status"] == "FAIL"}


def start(*words: str) -> subprocess.Popen[str]:
    """``mailgale WORDS``, from the checkout's directory or any other."""
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Checkout.find().root, start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 110) -> Answer:
    try:
        out, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends its own children
        process.wait(30)
        raise
    return Answer(process.returncode, json.loads(out) if out.startswith("{") else {}, errors)


def load(out: Path, scenario: str, *words: str, timeout_s: float = 110) -> Answer:
    """``mailgale load SCENARIO … --out OUT -o json``."""
    return finish(start("load", scenario, *words, "--out", str(out), "-o", "json"), timeout_s)


def judge(path: Path) -> Answer:
    """``mailgale judge PATH -o json``."""
    return finish(start("judge", str(path), "-o", "json"))


def user_file(folder: Path, users: int, password: str = PASSWORD) -> str:
    """A CSV of ``users`` accounts."""
    path = folder / "users.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows((f"user{n}@{DOMAIN}", password) for n in range(1, users + 1))
    return str(path)
