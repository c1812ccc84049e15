"""Which modules are mutated, and in which test files those are that have to see it. Which test of them comes to which line is measured."""

from __future__ import annotations

_CHECKS = ("tests/checks",)
_DEFECTS = "tests/unit/selftest/test_selftest.py::test_each_defect_is_seen_by_the_named_check"
_JUDGE = ("tests/unit/judge",)
_MAIL = (*_CHECKS, _DEFECTS)
_KUBE = ("tests/unit/kube", "tests/unit/chaos")

#: Area → module → what pytest is given.
_AREAS: dict[str, dict[str, tuple[str, ...]]] = {
    "judge": {f"harness/judge/{m}.py": _JUDGE for m in ("__init__", "combine", "compare", "extract", "verdict")},
    "checks": {
        **{f"harness/checks/{m}.py": _CHECKS for m in ("common", "no_failed_sessions", "outages", "ready_throughout")},
        **{f"harness/checks/{m}.py": _MAIL for m in (
            "all_accepted", "availability", "delivery_latency", "evidence_complete", "faults_happened", "integrity", "load_was_real", "mailbox_state",
            "no_loss", "no_unexplained_duplicates", "queue_drained", "rate_control",
        )},
        **{f"harness/checks/{m}.py": (*_MAIL, "tests/unit/dns") for m in ("dns_account", "dns_capacity", "dns_evidence", "dns_lookups", "dns_path")},
        "harness/store/fates.py": _MAIL,
    },
    "guards": {f"harness/{m}.py": _KUBE for m in ("kube/guards", "kube/gateway", "kube/runlease", "chaos/caps", "chaos/lease")},
    "undo": {f"harness/chaos/{m}.py": _KUBE for m in ("undo", "restore", "mirror")},
}
MODULES: dict[str, tuple[str, ...]] = {path: tests for modules in _AREAS.values() for path, tests in modules.items()}
#: What is counted by itself.
AREAS: dict[str, frozenset[str]] = {area: frozenset(modules) for area, modules in _AREAS.items()}
