"""Without the run's lease nothing acts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from chaoslib.exceptions import ActivityFailed

from harness.chaos import actions
from harness.chaos.lease import VARIABLE, Lease, held
from harness.errors import GuardRefused
from harness.model.faults import KINDS


def check(lease, run_id="run", namespace="ns"):
    lease.check(run_id=run_id, namespace=namespace)


def test_it_holds_for_its_run_until_its_end(tmp_path):
    with held(tmp_path / "lease", run_id="run", namespace="ns") as lease:
        check(Lease.from_environment(lease.environment))
        for wrong in ({"run_id": "other"}, {"namespace": "default"}):
            with pytest.raises(GuardRefused, match="another run's"):
                check(lease, **wrong)
        with pytest.raises(GuardRefused, match="another run's"):
            check(Lease(lease.path, "guessed"))
        with pytest.raises(GuardRefused, match="there already"), held(tmp_path / "lease", run_id="x", namespace="y"):
            pass
    with pytest.raises(GuardRefused, match="the run is over"):
        check(lease)


def test_a_dead_holder_is_no_holder(tmp_path):
    path = tmp_path / "lease"
    code = f"from harness.chaos.lease import held; from pathlib import Path; import os\nwith held(Path({str(path)!r}), run_id='run', namespace='ns'): os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(GuardRefused, match="is dead"):
        check(Lease(path, json.loads(path.read_text())["token"]))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"token": 1}', "\0"])
def test_one_that_cannot_be_read_refuses(tmp_path, text):
    (tmp_path / "lease").write_text(text)
    with pytest.raises(GuardRefused):
        check(Lease(tmp_path / "lease", "t"))


@pytest.mark.parametrize("name", actions.__all__)
def test_every_action_refuses_by_hand(name, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    extra = {key: 1 for key in KINDS[name].required if key != "component"}
    with pytest.raises(ActivityFailed, match="no lease"):
        getattr(actions, name)("mx", victims=["mx-0"], **extra)


def test_only_its_owner_may_read_it_and_one_that_is_gone_ends_well(tmp_path):
    with held(tmp_path / "lease", run_id="run", namespace="ns") as lease:
        assert lease.path.stat().st_mode & 0o777 == 0o600
        lease.path.unlink()


@pytest.mark.parametrize("text", ["", "token", "token@", "@/path", "@"])
def test_half_a_lease_is_none(text):
    with pytest.raises(GuardRefused):
        Lease.from_environment({VARIABLE: text})
