"""Which modules are mutated, and which tests have to see it. The quickest tests come first: the first that fails ends a mutant."""

from __future__ import annotations

_MAIL, _SERVICE = "tests/checks/test_mail.py", "tests/checks/test_service.py"
_DEFECTS = "tests/unit/selftest/test_selftest.py::test_each_defect_is_seen_by_the_named_check"
_JUDGE = "tests/unit/judge/test_judge.py"

#: Module → what pytest is given.
MODULES: dict[str, tuple[str, ...]] = {
    "harness/judge/combine.py": (_JUDGE,),
    "harness/judge/__init__.py": (_JUDGE,),
    "harness/judge/verdict.py": (_JUDGE,),
    "harness/checks/common.py": (_MAIL, _SERVICE),
    "harness/checks/no_loss.py": (_MAIL,),
    "harness/checks/no_unexplained_duplicates.py": (_MAIL,),
    "harness/checks/integrity.py": (_MAIL, _DEFECTS),
    "harness/checks/mailbox_state.py": ("tests/checks/test_mailbox_state.py",),
    "harness/checks/queue_drained.py": (_MAIL, _SERVICE),
    "harness/checks/availability.py": (_SERVICE,),
    "harness/checks/outages.py": (_SERVICE,),
    "harness/checks/rate_control.py": (_SERVICE, _DEFECTS),
    "harness/checks/delivery_latency.py": (_SERVICE, _DEFECTS),
    "harness/checks/load_was_real.py": (_SERVICE, _DEFECTS),
    "harness/checks/faults_happened.py": (_SERVICE, _DEFECTS),
    "harness/checks/evidence_complete.py": (_SERVICE, "tests/checks/test_endpoints.py", _DEFECTS),
    "harness/checks/all_accepted.py": ("tests/checks/test_endpoints.py",),
    "harness/store/fates.py": (_MAIL, "tests/checks/test_endpoints.py", "tests/checks/test_properties.py"),
    "harness/kube/guards.py": ("tests/unit/kube/test_guards.py", "tests/unit/kube/test_gateway.py"),
    "harness/chaos/undo.py": ("tests/unit/chaos/test_undo.py",),
}
