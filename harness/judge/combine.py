"""How the verdicts of all checks become one: planted defects, evidence, the worst, and the sentence."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.plan import Plan
from harness.model.verdict import Status, Verdict, worst

#: Without a PASS of each in every arm, the run cannot pass.
EVIDENCE = ("evidence-complete", "load-was-real", "faults-happened")
_SHOWN = 3


def plain_arm(label: str) -> str:
    """The arm's name without its block."""
    return label.rpartition("#")[0] or label


def unsound(verdicts: Sequence[Verdict]) -> frozenset[str]:
    """Arms that lack a PASS of a check of EVIDENCE: what did not happen there shows nothing."""
    return frozenset(v.arm for v in verdicts if v.check in EVIDENCE and v.status != Status.PASS)


def effective(plan: Plan, verdict: Verdict, unsound_arms: frozenset[str] = frozenset()) -> Status:
    """What a verdict means for the plan. Where a check must fail (a planted defect), FAIL is well and PASS is a failure.

    :param unsound_arms: arms, interrupted ones for instance, in which a planted defect that was not found is no failure but INCONCLUSIVE.
    """
    name = plain_arm(verdict.arm)
    if name in plan.arm_names and verdict.check in plan.arm(name).expect_fail:
        if verdict.status == Status.PASS and verdict.arm in unsound_arms:
            return Status.INCONCLUSIVE
        return {Status.FAIL: Status.PASS, Status.PASS: Status.FAIL}.get(verdict.status, verdict.status)
    return verdict.status


def overall(plan: Plan, verdicts: Sequence[Verdict]) -> Status:
    """The worst of all; INCONCLUSIVE at best while an arm lacks one of the checks of EVIDENCE or a planted defect's check."""
    doubtful = unsound(verdicts)
    statuses = [effective(plan, v, doubtful) for v in verdicts]
    made = {(v.arm, v.check) for v in verdicts}
    for label in {v.arm for v in verdicts}:
        wanted = (*EVIDENCE, *(plan.arm(plain_arm(label)).expect_fail if plain_arm(label) in plan.arm_names else ()))
        statuses += [Status.INCONCLUSIVE for check in wanted if (label, check) not in made]
    return worst(statuses)


def sentence(plan: Plan, verdicts: Sequence[Verdict], status: Status) -> str:
    """The verdict in one sentence, with what decided it."""
    arms = list(dict.fromkeys(v.arm for v in verdicts))
    if status == Status.PASS:
        planted = [v for v in verdicts if v.status == Status.FAIL]
        found = f"; {', '.join(dict.fromkeys(v.check for v in planted))} failed where the plan says that it must" if planted else ""
        return f"PASS: all {len(verdicts)} checks hold in {len(arms)} arm{'' if len(arms) == 1 else 's'}{found}."
    doubtful = unsound(verdicts)
    decided = [v for v in verdicts if effective(plan, v, doubtful) == status]
    parts = [f"{v.check} in {v.arm} ({_why(v)})" for v in decided[:_SHOWN]]
    more = f", and {len(decided) - _SHOWN} more" if len(decided) > _SHOWN else ""
    return f"{status.name}: {'; '.join(parts) or 'there is nothing to judge'}{more}."


def _why(verdict: Verdict) -> str:
    if verdict.status == Status.PASS:
        return "the planted defect was not found"
    return verdict.reason
