"""A/A: pairs of runs in which nothing was changed, compared. What ``compare`` calls a regression there is a false difference.

Each run is a generated Friday burst of one arm in six blocks, judged and extracted as a real one is; from block to block deliveries and
users' operations vary log-normally (sigma 0.15), drawn by the pair, the side and the block. Limit: real hosts also drift between two
runs; how much is shown by two real runs of one plan (``mailgale run PLAN --blocks 6``, twice, then ``mailgale compare``).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.judge.compare import SAME, UNKNOWN, Comparison, compare
from harness.judge.extract import Extract, extract
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import friday_plan
from harness.selftest.table import Row

PAIRS, BLOCKS, BURST, SIGMA = 20, 6, 60, 0.15
#: Of 20 pairs at the 5 % that all intervals of a pair together may err, so many are no surprise (1 % beyond).
FALSE_MAX = 4


def made(root: Path, pair: int, side: str) -> Extract:
    """One run of a pair, written below ``root`` and extracted."""
    plan = friday_plan()
    relaxed = tuple(replace(c, limits={**c.limits, "attempts_min": 20.0}) if c.name == "load-was-real" else c for c in plan.checks)
    history = HistoryBuilder(root / side, replace(plan, checks=relaxed), blocks=BLOCKS, arms=["1x"], burst=BURST)
    for arm in history.arms:
        _vary(arm, random.Random(f"aa/{pair}/{side}/{arm.block}"))
    return extract(history.write())


def _vary(arm: ArmBuilder, rng: random.Random) -> None:
    """This block's deliveries and operations take so much longer or shorter."""
    slow, reading = (rng.lognormvariate(0, SIGMA) for _ in range(2))
    for mail in arm.mails:
        if mail.sight is not None:
            mail.sight = mail.t_ok + (mail.sight - mail.t_ok) * slow * rng.lognormvariate(0, SIGMA)
    arm.userops = [(start, start + round((end - start) * reading * rng.lognormvariate(0, SIGMA)), *rest) for start, end, *rest in arm.userops]


def pair(number: int) -> Comparison:
    """Compare the two runs of pair ``number``."""
    with tempfile.TemporaryDirectory(prefix="mailgale-selftest-") as root:
        return compare(made(Path(root), number, "a"), made(Path(root), number, "b"))


def aa_row(found: Iterable[Comparison]) -> Row:
    """The false-difference rate of ``found`` as a line of the table."""
    begin, pairs = time.monotonic(), list(found)
    false = [c for c in pairs if c.regressions]
    told = [d for c in pairs for d in c.differences if d.verdict != UNKNOWN]
    beyond = sum(d.verdict != SAME for d in told)
    reason = f"{len(false)} of {len(pairs)} pairs called a regression; {beyond} of {len(told)} single intervals beyond 1"
    well = bool(told) and len(false) <= FALSE_MAX
    return Row("a/a", f"{len(pairs)} A/A pairs", "nothing", "compare", f"at most {FALSE_MAX} regressions", f"{len(false)} regressions", well, reason,
               round(time.monotonic() - begin, 1))
