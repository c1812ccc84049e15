"""Real runs are judged as they were, and can be judged otherwise: a mail taken out of one shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.verdict import Status
from harness.store.run import SEAL, RunDir
from tests.histories.keep import kept, summary, unpacked

LARGEST_BYTES = 300_000


@pytest.mark.slow
@pytest.mark.parametrize("run_id", kept())
def test_a_real_run_is_judged_as_it_was(run_id: str):
    with unpacked(run_id) as (run, said):
        found = summary(run)
        assert found == {k: said[k] for k in found}
        assert said["status"] in Status.__members__


@pytest.mark.slow
@pytest.mark.parametrize("run_id", [r for r in kept() if "power-loss" in r])
def test_a_record_that_is_changed_is_judged_otherwise(run_id: str):
    """The control: a cut ledger, with the old seal and with a new one."""
    with unpacked(run_id) as (run, said):
        ledger = next(iter(sorted(run.glob("arms/*/load-1.log"))))
        ledger.write_bytes(ledger.read_bytes()[:-4000])
        assert summary(run)["status"] != said["status"]
        (run / SEAL).unlink()
        RunDir.open(run).seal()
        assert summary(run)["status"] != said["status"]


def test_there_are_some_and_they_are_small():
    sizes = {r: (Path(__file__).parent / f"{r}.tar.xz").stat().st_size for r in kept()}
    assert len(sizes) >= 4
    assert {r: s for r, s in sizes.items() if s > LARGEST_BYTES} == {}
