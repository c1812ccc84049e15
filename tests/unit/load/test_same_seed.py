"""Same seed, same plan: schedule, targets and messages hash equal, in processes that share nothing (not even the hash seed of Python)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

WHAT = """
import hashlib, random, sys
from itertools import islice
from dataclasses import replace
from harness.chaos.targets import victims
from harness.load.arrivals import arrivals
from harness.load.messages import Messages
from harness.load.params import Params
from harness.model.outcome import Population
from harness.rehearse.order import Options, arms_in_order
from tests.unit.chaos.plans import COMPONENTS, fault, plan, target
from tests.unit.chaos.test_targets_render import pod

seed = int(sys.argv[1])
said = hashlib.sha256()
for kind, options in (("constant", {}), ("poisson", {}), ("mmpp", {}), ("diurnal", {}), ("step", {})):
    said.update(repr((kind, list(islice(arrivals(kind, 20.0, options, seed), 300)))).encode())
messages = Messages(seed, Params(recipients_max=3), [f"user{n}@example.org" for n in range(1, 21)], ["x@example.net"], "r.1-a.")
messages.senders = ["a@example.net"]
for n in range(200):
    mail = messages.make(Population.ELASTIC, n, 0, 0)
    said.update(repr(mail.rcpts).encode() + messages.sha(mail))
pods = [pod(f"mx-{n}", "w1") for n in range(9)]
chosen = replace(plan(), seed=seed)
said.update(repr((victims(fault(pods=4), seed, pods, target(), COMPONENTS), arms_in_order(chosen, Options(blocks=5)))).encode())
print(said.hexdigest())
"""


def told(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WHAT, str(seed)], capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", [1, 20221107])
def test_everything_hashes_equal(seed: int) -> None:
    assert told(seed, "1") == told(seed, "2")


def test_another_seed_hashes_otherwise() -> None:
    assert told(1, "1") != told(2, "1")
