"""The users' password is in nothing that a run leaves behind: a canary is sent with every login, and looked for afterwards."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from harness import report
from harness.judge import judge
from harness.selftest import live
from harness.selftest.friday import friday_plan
from harness.selftest.platform import Platform
from harness.store.run import RunDir

CANARY = "canary-5e7b0c1d2f-password"
#: As it is, and as AUTH PLAIN and URLs would have it.
FORMS = (CANARY.encode(), base64.b64encode(CANARY.encode())[:-4], base64.b64encode(b"\0" + CANARY.encode())[:-4], CANARY.encode().hex().encode())


def holding(root: Path) -> list[str]:
    """Files below ``root`` that hold the canary in any form."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and any(f in p.read_bytes() for f in FORMS))


@pytest.mark.slow
def test_the_password_is_in_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Load, census, verdict and report of a real run over sockets, in which every user logs in with it."""
    monkeypatch.setattr(live, "PASSWORD", CANARY)
    logins: list[bytes] = []
    run = RunDir.create(tmp_path, friday_plan(), {}, arms=[(1, live.ARM)], plan_bytes=b"# self-test\n")
    with Platform() as platform:
        pop3 = platform.boxes._answer
        monkeypatch.setattr(platform.boxes, "_answer", lambda verb, argument, *rest: logins.append(argument.encode()) or pop3(verb, argument, *rest))
        live._record(run, platform, tmp_path, live._PARAMS)
    run.seal()
    report.write(run.path, json.loads(judge(run.path).to_bytes()))
    assert CANARY.encode() in logins, "nobody logged in with it"
    assert {"report.html", "verdict.json", "seal.json"} <= {p.name for p in run.path.iterdir()}
    assert holding(run.path) == []


@pytest.mark.parametrize("form", FORMS)
def test_the_search_finds_it(tmp_path: Path, form: bytes):
    (tmp_path / "x.log").write_bytes(b"\0\1" + form + b"\n")
    assert holding(tmp_path) == ["x.log"]
