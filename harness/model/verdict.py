"""Verdicts and how they combine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Status(IntEnum):
    """Ordered: combining takes the worst."""

    PASS = 0
    INCONCLUSIVE = 1
    FAIL = 2


@dataclass(frozen=True)
class Verdict:
    """What one check says about one arm.

    :param check: name of the check (its module's file name with ``-`` for ``_``).
    :param arm: arm's name, with ``#block`` when there is more than one block.
    :param reason: one sentence for a reviewer.
    :param figures: numbers the sentence rests on, by name with unit (``lost``, ``p99_ms``).
    :param evidence: the mails or moments that show it, at most 50 lines; a red names the mail that was lost.
    """

    check: str
    arm: str
    status: Status
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()


class ClaimResult(IntEnum):
    """What the run says of one claim of the talk."""

    CONFIRMED = 1
    CONFIRMED_UNDER_CONDITIONS = 2
    REFUTED = 3
    UNDECIDED = 4


@dataclass(frozen=True)
class Finding:
    """A statement over several arms, e.g. that doubling the pods doubled the intake (T15)."""

    claim: str
    result: ClaimResult
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    conditions: str = ""


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of ``statuses``; of none at all: INCONCLUSIVE, since no data is no pass."""
    return max(statuses, default=Status.INCONCLUSIVE)
