"""A run of N mails as the store would hold it, made by column; and its check, in a process of its own.

``python -m tests.bench.synthetic make FOLDER N`` writes the run (every 100,000th mail lost), ``… check FOLDER`` reads it back and judges
``no-loss``; prints one JSON line: seconds, peak resident bytes, lost, accepted.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from harness.checks import no_loss
from harness.model.outcome import Outcome, Population, Proto, Stage
from harness.selftest.friday import META, friday_plan
from harness.store.history import load
from harness.store.log import LogWriter
from harness.store.ops import DONE, INVOKE, OFFER
from harness.store.run import RunDir

USERS, CHUNK, LOST_EVERY = 1000, 100_000, 100_000
ADDRESSES = [f"user{i}@example.org" for i in range(1, USERS + 1)]


def make(folder: Path, mails: int) -> None:
    run = RunDir.create(folder, friday_plan(), META, arms=[(1, "1x")], plan_bytes=b"# plan\n")
    with LogWriter(run.conductor_log, "conductor") as log:
        log.event("phase", name="run", edge="begin")
    arm = run.arm(1, "1x")
    arm.spec.write_text("{}\n")
    with LogWriter(arm.load_log(), "load") as log:
        log.event("recipients", addresses=ADDRESSES)
        log.event("senders", addresses=["a@example.net"], clients=["192.0.2.1"])
        for first in range(1, mails + 1, CHUNK):
            numbers = np.arange(first, min(first + CHUNK, mails + 1), dtype=np.uint64)
            log.rows(2, offers(numbers))
            log.rows(3, rows(INVOKE, numbers, t=numbers * 1000 + 10, rcpt=numbers % USERS, attempt=1, proto=int(Proto.SMTP)))
            log.rows(4, rows(
                DONE, numbers, t=numbers * 1000 + 20, rcpt=numbers % USERS, attempt=1, proto=int(Proto.SMTP), outcome=int(Outcome.OK),
                stage=int(Stage.DOT), code=250, enhanced=20000,
            ))  # fmt: skip
    census(arm.census_log, mails)


def offers(numbers: np.ndarray) -> bytes:
    made = np.zeros(len(numbers), OFFER)
    made["mail"], made["t_due"], made["rcpt"], made["size"], made["population"] = numbers, numbers * 1000, numbers % USERS, 2000, int(Population.ELASTIC)
    made["sha"] = np.repeat(numbers, 2).view("V16")
    return made.tobytes()


def rows(dtype: np.dtype, numbers: np.ndarray, **columns: object) -> bytes:
    made = np.zeros(len(numbers), dtype)
    made["mail"] = numbers
    for name, value in columns.items():
        made[name] = value
    return made.tobytes()


def census(path: Path, mails: int) -> None:
    with LogWriter(path, "census") as log:
        for number in (1, 2):
            for first in range(1, mails + 1, CHUNK):
                for mail in range(first, min(first + CHUNK, mails + 1)):
                    if mail % LOST_EVERY:
                        address = ADDRESSES[mail % USERS]
                        sha = mail.to_bytes(8, "little").hex() * 2
                        log._events += (
                            f'{{"kind":"copy","round":{number},"source":"mailbox","where":"{address}/INBOX","recipient":"{address}","mail":{mail},"sha":"{sha}",'
                            f'"uid":"{mail}","bounce_of":null,"failed":[],"orphan":false,"t":1}}\n'
                        ).encode()
                log.flush()
            for address in ADDRESSES:
                log.event("scope", round=number, source="mailbox", where=f"{address}/INBOX", complete=True, why="", found=mails // USERS)
            log.event("scope", round=number, source="queue", where="mx-0:deferred", complete=True, why="", found=0)


def check(folder: Path) -> dict[str, float]:
    begin = time.monotonic()
    with load(RunDir.open(next(folder.iterdir()))) as history:
        verdict = no_loss.check(history.arms[0], {"lost_max": 0})
    seconds = time.monotonic() - begin
    return {"seconds": seconds, "cpu_s": time.process_time(), "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, **verdict.figures}


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(check(Path(sys.argv[2]))))
