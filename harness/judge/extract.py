"""What one run says that another can be compared with: per arm its figures block by block, and what its faults cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.claims.figures import arm_figures
from harness.errors import StoreDamaged
from harness.judge import judge_history
from harness.judge.combine import EVIDENCE
from harness.model.verdict import Status
from harness.store.history import SECOND, ArmHistory, RunHistory, load
from harness.store.run import RunDir

FORMAT = 1
#: A queue sample this long before a fault still tells what the victim held.
_CUSTODY_S = 10.0


@dataclass(frozen=True)
class ArmExtract:
    """One arm over its blocks.

    :param blocks: the figures of each block whose evidence holds (the three checks of evidence passed).
    :param left_out: blocks whose evidence does not hold; their figures show nothing.
    :param faults: faults that struck. :param with_loss: of them, those in blocks that lost acknowledged mail.
    :param custody: mails that the victims had in their queues when they struck; -1 where no victim's queue was sampled.
    """

    blocks: tuple[Mapping[str, float], ...] = ()
    left_out: int = 0
    faults: int = 0
    with_loss: int = 0
    custody: int = -1


@dataclass(frozen=True)
class Extract:
    """One run. ``conditions``: what must be the same for a difference to mean something."""

    run_id: str
    plan: str
    seal: str
    conditions: Mapping[str, str] = field(default_factory=dict)
    arms: Mapping[str, ArmExtract] = field(default_factory=dict)

    def to_json(self) -> str:
        """As JSON; :func:`read_extract` reads it back."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"


def read_extract(path: Path) -> Extract:
    """An extract from a file.

    :raises StoreDamaged: it does not read as one.
    """
    try:
        data = json.loads(path.read_text())
        if data.pop("format") != FORMAT:
            raise ValueError("another format")
        arms = {name: ArmExtract(**{**a, "blocks": tuple(a["blocks"])}) for name, a in data.pop("arms").items()}
        return Extract(arms=arms, **data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(f"is no baseline: {error!r}", where=str(path), todo="mailgale baseline set RUN") from error


def extract(run: RunDir) -> Extract:
    """Everything that a comparison needs of ``run``.

    :raises StoreDamaged: ``run.json`` does not read.
    """
    with load(run) as history:
        sound = _sound(history)
        arms: dict[str, ArmExtract] = {}
        for arm in history.arms:
            arms[arm.name] = _with_block(arms.get(arm.name, ArmExtract()), arm, arm.label in sound)
        return Extract(run.run_id, history.plan.name, run.seal_digest, _conditions(history), arms)


def _sound(history: RunHistory) -> set[str]:
    """Labels of the arms for which all evidence passed."""
    passed: dict[str, set[str]] = {}
    for v in judge_history(history).verdicts:
        if v.check in EVIDENCE and v.status == Status.PASS:
            passed.setdefault(v.arm, set()).add(v.check)
    return {label for label, checks in passed.items() if checks == set(EVIDENCE)}


def _with_block(before: ArmExtract, arm: ArmHistory, sound: bool) -> ArmExtract:
    if not sound:
        return ArmExtract(before.blocks, before.left_out + 1, before.faults, before.with_loss, before.custody)
    figures = {k: float(v) for k, v in arm_figures(arm).items() if isinstance(v, int | float)}
    struck = [e for e in arm.events("fault") if e.get("edge") == "begin"]
    held = [n for e in struck if (n := _custody(arm, e)) is not None]
    custody = max(before.custody, 0) + sum(held) if held else before.custody
    lossy = len(struck) if figures.get("lost") else 0
    return ArmExtract((*before.blocks, figures), before.left_out, before.faults + len(struck), before.with_loss + lossy, custody)


def _custody(arm: ArmHistory, begin: Mapping[str, Any]) -> int | None:
    """Queue files of the victims at the last sample before the fault; None where none was taken."""
    victims = {str(t) for t in begin.get("targets") or ()}
    last: dict[str, int] = {}
    for e in arm.events("queue"):
        if str(e.get("pod")) in victims and begin["t"] - _CUSTODY_S * SECOND <= e["t"] <= begin["t"]:
            last[str(e["pod"])] = sum(int(e.get(q) or 0) for q in ("incoming", "active", "deferred"))
    return sum(last.values()) if last else None


def _conditions(history: RunHistory) -> dict[str, str]:
    meta, plan = history.run.meta, history.plan
    host, source = meta.get("host") or {}, meta.get("source") or {}
    versions = meta.get("versions") or {}
    return {
        "plan": plan.sha256, "seed": str(plan.seed), "time scale": f"{plan.time_scale:g}", "users": str(plan.users),
        "commit": str(source.get("commit", "")), "cores": str(host.get("cores", "")), "kernel": str(host.get("kernel", "")),
        "kubernetes": str(versions.get("kubernetes", "")), "images": json.dumps(meta.get("images") or {}, sort_keys=True),
    }
