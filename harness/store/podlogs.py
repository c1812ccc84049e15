"""Hints from the pods' own logs: under which queue IDs a mail passed. A hint only: IDs are reused and collide across pods."""

from __future__ import annotations

import re
from collections.abc import Collection

from harness.store.run import ArmDir

#: Bytes read of one log; hints are not worth more.
READ_MAX = 256 << 20


def queue_ids(arm: ArmDir, run_id: str, mails: Collection[int]) -> dict[int, str]:
    """For each of ``mails`` that Postfix's cleanup(8) logged: ``<pod> <queue id>``, several with commas. Missing logs: {}."""
    prefix = re.escape(f"{run_id}.{arm.label}.").encode()
    line = re.compile(rb"([0-9A-Za-z]{6,20}): message-id=<" + prefix + rb"(\d{1,18})@")
    wanted, found = set(mails), dict[int, list[str]]()
    for path in sorted(arm.logs.glob("*.log")) if wanted and arm.logs.is_dir() else []:
        with path.open("rb") as handle:
            for queue_id, number in line.findall(handle.read(READ_MAX)):
                if int(number) in wanted:
                    found.setdefault(int(number), []).append(f"{path.name.split('.')[0]} {queue_id.decode()}")
    return {mail: ", ".join(dict.fromkeys(ids)) for mail, ids in found.items()}


def matches(arm: ArmDir, pattern: re.Pattern[bytes], pods: Collection[str]) -> list[bytes]:
    """What the first group of ``pattern`` matched in the logs of ``pods``, in the order of their names. Missing logs: []."""
    found: list[bytes] = []
    for path in sorted(p for p in arm.logs.glob("*.log") if p.name.split(".")[0] in pods) if arm.logs.is_dir() else []:
        with path.open("rb") as handle:
            found += [m[1] for m in pattern.finditer(handle.read(READ_MAX))]
    return found
