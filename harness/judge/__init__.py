"""From a run's record to its verdict: every check in every arm, the findings, the figures. Offline, pure, repeatable.

    verdict = judge(Path("reports/runs/20261123T214311Z-friday-burst-d336"))
    verdict.status, verdict.sentence, verdict.exit_code

A check that crashes is INCONCLUSIVE: this module is one of the two borders where any exception may arrive.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from harness import checks as checks_package
from harness import claims as claims_package
from harness.claims.figures import arm_figures
from harness.judge.combine import EVIDENCE, overall, sentence, unsound
from harness.judge.verdict import RunVerdict
from harness.model.plan import CheckSpec, Plan
from harness.model.verdict import ClaimResult, Finding, Status, Verdict
from harness.store.history import ArmHistory, RunHistory, load
from harness.store.run import RunDir, write_whole

__all__ = ["RunVerdict", "judge", "judge_history"]
T = TypeVar("T")
#: Files of the run that belong to no arm stand in the verdicts under this name.
WHOLE_RUN = "run"


def judge(run_path: Path) -> RunVerdict:
    """Judge the run at ``run_path`` and write its ``verdict.json``. Judging again gives the same bytes.

    :raises UsageError: there is no run.
    :raises StoreDamaged: ``run.json`` does not read, so nobody knows what was to be shown.
    :raises OSError: ``verdict.json`` cannot be written.
    """
    with load(RunDir.open(run_path)) as history:
        verdict = judge_history(history)
    write_whole(run_path / "verdict.json", verdict.to_bytes())
    return verdict


def judge_history(history: RunHistory) -> RunVerdict:
    """The verdict on a run that is already read. Writes nothing."""
    plan = history.plan
    verdicts = [v for arm in history.arms for v in _arm(history, arm)]
    verdicts += list(_missing(history))
    status = overall(plan, verdicts)
    return RunVerdict(
        run_id=history.run.run_id,
        status=status,
        sentence=sentence(plan, verdicts, status),
        verdicts=tuple(verdicts),
        findings=tuple(_finding(name, history, unsound(verdicts)) for name in plan.findings),
        figures={arm.label: _figures(arm) for arm in history.arms},
        expect_fail={a.name: a.expect_fail for a in plan.arms if a.expect_fail},
    )


def _arm(history: RunHistory, arm: ArmHistory) -> Iterator[Verdict]:
    """Every check that the plan asks of this arm, the evidence first."""
    modules = _modules(checks_package, "check")
    for spec in _specs(history.plan, arm):
        module = modules.get(spec.name)
        if module is None:
            yield Verdict(spec.name, arm.label, Status.INCONCLUSIVE, "this version has no such check")
            continue
        yield _with_seal(history, arm, _check(module, spec, arm))


def _specs(plan: Plan, arm: ArmHistory) -> list[CheckSpec]:
    given = {c.name: c for c in plan.checks if not c.arms or arm.name in c.arms}
    evidence = [given.pop(name, CheckSpec(name, {})) for name in EVIDENCE]
    return [*evidence, *given.values()]


def _check(module: ModuleType, spec: CheckSpec, arm: ArmHistory) -> Verdict:
    limits = {k: float(v) for k, v in {**module.LIMITS, **spec.limits}.items() if v is not None}
    made: Callable[[], Verdict] = lambda: module.check(arm, limits)  # noqa: E731
    return _guarded(made, lambda why: Verdict(spec.name, arm.label, Status.INCONCLUSIVE, f"the check broke: {why}"))


def _with_seal(history: RunHistory, arm: ArmHistory, verdict: Verdict) -> Verdict:
    """A file of the arm that is not as it was sealed makes its evidence incomplete."""
    folder = f"arms/{arm.dir.label}/"
    changed = [f"{d.path}: {d.what}" for d in history.damages if d.path.startswith(folder)]
    if verdict.check != "evidence-complete" or not changed:
        return verdict
    reason = changed[0] if verdict.status == Status.PASS else f"{verdict.reason}; {changed[0]}"
    return Verdict(verdict.check, verdict.arm, max(verdict.status, Status.INCONCLUSIVE), reason, verdict.figures, (*verdict.evidence, *changed)[:50])


def _missing(history: RunHistory) -> Iterator[Verdict]:
    """Arms that did not run, and damage to files that belong to no arm."""
    for label in history.missing_arms:
        block, _, name = label.partition("-")
        shown = f"{name}#{block}" if max(b for b, _ in history.run.planned_arms) > 1 else name
        for check in EVIDENCE:
            yield Verdict(check, shown, Status.INCONCLUSIVE, "the arm was not run")
    general = [f"{d.path}: {d.what}" for d in history.damages if not d.path.startswith("arms/")]
    if general:
        for check in EVIDENCE:
            yield Verdict(check, WHOLE_RUN, Status.INCONCLUSIVE, general[0], {}, tuple(general[:50]))


def _finding(name: str, history: RunHistory, unsound_arms: Set[str]) -> Finding:
    """What the arms with sound evidence say of a claim; those left out are named."""
    module = _modules(claims_package, "find").get(name)
    if module is None:
        return Finding(name, ClaimResult.UNDECIDED, "this version has no such claim")
    sound = [arm for arm in history.arms if arm.label not in unsound_arms]
    made: Callable[[], Finding] = lambda: module.find(sound, history.plan)  # noqa: E731
    found = _guarded(made, lambda why: Finding(name, ClaimResult.UNDECIDED, f"the claim's module broke: {why}"))
    left_out = [arm.label for arm in history.arms if arm.label in unsound_arms]
    return replace(found, reason=f"{found.reason} (left out, the evidence is not sound: {', '.join(left_out)})") if left_out else found


def _figures(arm: ArmHistory) -> Mapping[str, Any]:
    return _guarded(lambda: arm_figures(arm), lambda why: {"figures_missing": why})


def _modules(package: ModuleType, function: str) -> dict[str, ModuleType]:
    """The modules of ``package`` that have ``function``, by name with ``-`` for ``_``."""
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    found = {name.replace("_", "-"): importlib.import_module(f"{package.__name__}.{name}") for name in names}
    return {name: module for name, module in found.items() if hasattr(module, function)}


def _guarded(make: Callable[[], T], broken: Callable[[str], T]) -> T:
    """``make()``, or what to say when it breaks. A defect of ours in one check must not hide what the others say."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001
        return broken(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
