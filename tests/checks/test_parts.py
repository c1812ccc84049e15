"""Parts of checks by themselves, on a handful of events: what counts as changed, as unready, as the generator's doing."""

from __future__ import annotations

import importlib
import pkgutil
from types import SimpleNamespace
from typing import Any

import pytest

from harness import checks
from harness.checks import all_accepted, mailbox_state, outages, ready_throughout
from harness.model.outcome import Proto
from harness.model.verdict import Status
from harness.store.history import SECOND

FAIL, UNSURE = Status.FAIL, Status.INCONCLUSIVE


def arm(*events: dict[str, Any], **more: Any) -> Any:
    """As much of an arm as these parts ask for."""
    return SimpleNamespace(events=lambda kind: [e for e in events if e["kind"] == kind], **more)


@pytest.mark.parametrize(("counts", "excuse", "said"), [
    ({}, "", []), ({"refused": 2}, "", [(FAIL, "2 mails refused")]), ({"refused": 1}, "it was slow", [(FAIL, "1 mail refused")]),
    ({"deferred": 1}, "it was slow", [(FAIL, "1 mail still deferred")]), ({"unanswered": 1}, "", [(FAIL, "1 mail without an answer")]),
    ({"unanswered": 3}, "it was slow", [(UNSURE, "3 mails without an answer, but it was slow")]),
    ({"never_attempted": 3}, "it was slow", [(UNSURE, "3 mails never attempted, but it was slow")]),
    ({"never_attempted": 1, "refused": 1}, "", [(FAIL, "1 mail refused"), (FAIL, "1 mail never attempted")]),
])
def test_who_is_to_blame_for_mail_that_was_not_accepted(counts: dict[str, int], excuse: str, said: list[tuple[Status, str]]):
    assert all_accepted._problems({**dict.fromkeys(("refused", "deferred", "unanswered", "never_attempted"), 0), **counts}, excuse) == said


def test_the_servers_own_words_are_told_once_and_ten_at_most():
    replies = [{"kind": "reply", "stage": "RCPT", "code": c, "enhanced": e, "text": t} for c, e, t in (
        (250, "2.0.0", "ok"), (399, None, "odd"), (400, "4.0.0", "later"), (550, None, "no"), (550, None, "no"), (0, None, None))]
    assert all_accepted._replies(arm(*replies)) == ("reply at RCPT: 400 4.0.0 later", "reply at RCPT: 550  no", "reply at RCPT: 0")
    many = [{"kind": "reply", "stage": "DOT", "code": 500 + n} for n in range(20)]
    assert len(all_accepted._replies(arm(*many))) == 10


def looks(*seen: dict[int, str]) -> list[Any]:
    return [{("box", mail): set(ids.split()) for mail, ids in look.items()} for look in seen]


@pytest.mark.parametrize(("seen", "said"), [
    (({1: "a"}, {1: "a"}, {1: "a"}), []), (({1: "a"}, {1: "b"}, {1: "b"}), ["mail 1 in box: unique ID a became b"]),
    (({1: "a"}, {}, {1: "b"}), ["mail 1 in box: unique ID a became b"]), (({1: "a"}, {1: "a b"}, {1: "a b"}), []), (({1: "a b"}, {1: "a"}, {1: "a"}), []),
    (({1: "a"}, {1: "b"}, {1: "c"}), ["mail 1 in box: unique ID a became b"]), (({}, {1: "a"}, {1: "b"}), ["mail 1 in box: unique ID a became b"]),
    (({1: "a b"}, {1: "b c"}, {}), ["mail 1 in box: unique ID a became c"]),
    (({2: "x", 1: "a"}, {2: "y", 1: "b"}, {}), ["mail 1 in box: unique ID a became b", "mail 2 in box: unique ID x became y"]),
])
def test_a_unique_id_has_changed_when_one_is_gone_and_another_came(seen: tuple[dict[int, str], ...], said: list[str]):
    assert list(mailbox_state._changed(looks(*seen))) == said


def test_what_pop3_and_imap_showed_when():
    found = arm(
        {"kind": "uidl", "mailbox": "User1@x/INBOX", "mail": 1, "uidl": "a"}, {"kind": "scope", "round": 1, "where": "user1@x/INBOX by POP3", "uidls": [[1, "b"], [2, "c"]]},
        {"kind": "scope", "round": 2, "where": "user1@x/INBOX by POP3", "uidls": [[1, "d"]]}, {"kind": "scope", "round": 2, "where": "user2@x/INBOX", "uidvalidity": 8},
        {"kind": "before", "where": "user2@x/INBOX", "uidvalidity": 7}, {"kind": "uidvalidity", "mailbox": "User2@x/inbox", "uidvalidity": 7},
        {"kind": "before", "where": "user3@x/INBOX"},
    )
    assert mailbox_state._looks(found) == [{("user1@x/inbox", 1): {"a"}}, {("user1@x/inbox", 1): {"b"}, ("user1@x/inbox", 2): {"c"}}, {("user1@x/inbox", 1): {"d"}}]
    assert mailbox_state._validities(found) == {"user2@x/inbox": {7, 8}}


@pytest.mark.parametrize(("gone", "left"), [([], True), ([("deleting", 1)], True), ([("deleting", 1), ("expunged", 2)], False)])
def test_mail_read_by_pop3_that_must_be_there_still(gone: list[tuple[str, int]], left: bool):
    read = [{"kind": "uidl", "mailbox": "b", "mail": n, "uidl": "u"} for n in (1, 2)]
    assert mailbox_state._popped(arm(*read, *({"kind": k, "mail": n, "mailbox": "b"} for k, n in gone))) is left


def pod(t: float, ready: bool = True, *, name: str = "mx-1", uid: str = "u", restarts: int = 0, component: str = "mx") -> dict[str, Any]:
    return {"kind": "pod", "pod": name, "t": int(t * SECOND), "ready": ready, "uid": uid, "restarts": restarts, "component": component}


@pytest.mark.parametrize(("events", "said"), [
    ([pod(5), pod(12, False)], ["mx-1 not ready 2.0 s after the fault's begin"]), ([pod(5), pod(12, restarts=1)], ["mx-1 restarted 2.0 s after the fault's begin"]),
    ([pod(5), pod(12)], []), ([pod(5), pod(20, False)], ["mx-1 not ready 10.0 s after the fault's begin"]), ([pod(5), pod(21, False)], []),
    ([pod(5), pod(10, False)], []), ([pod(10), pod(12, False)], ["mx-1 not ready 2.0 s after the fault's begin"]),
    ([pod(5, False), pod(12, False)], []), ([pod(3, False), pod(5), pod(12, False)], ["mx-1 not ready 2.0 s after the fault's begin"]),
    ([pod(12, False)], []), ([pod(5), pod(12, False, uid="another")], []), ([pod(5, restarts=2), pod(12, restarts=2)], []),
    ([pod(5), pod(12, False), pod(13, False, restarts=1)], ["mx-1 not ready 2.0 s after the fault's begin"]),
    ([pod(5, name="hit"), pod(12, False, name="hit")], []), ([pod(5, component="meant"), pod(12, False, component="meant")], []),
])
def test_a_pod_that_went_out_of_service(events: list[dict[str, Any]], said: list[str]):
    found = ready_throughout._lost(events, 10 * SECOND, 20 * SECOND, {"hit", "meant"})
    assert [text for _, text in found] == said


def test_whom_a_fault_meant():
    plan = SimpleNamespace(faults=[SimpleNamespace(name="k", target={"component": "mx"}), SimpleNamespace(name="j", target={"component": "filter"})])
    assert ready_throughout._hit(arm(plan=plan), {"name": "k", "targets": ["StatefulSet/mx", "mx-0"]}) == {"mx", "mx-0"}
    assert ready_throughout._hit(arm(plan=plan), {"name": "j"}) == {"filter"}


#: What holds where a plan says nothing (None: it must say something). A default that changes makes old plans promise something else.
DEFAULTS: dict[str, dict[str, float | None]] = {
    "all_accepted": {"not_accepted_max": 0, "lag_p99_ms_max": 250, "mails_min": 1},
    "availability": {"failed_share_max": 0.01, "outage_s_max": 60, "grace_s": 10, "operations_min": 20},
    "delivery_latency": {"p99_ms_max": None, "p50_ms_max": 0, "mails_min": 20},
    "dns_account": {"layers_min": 4, "queries_min": 50},
    "dns_capacity": {"per_s_min": None},
    "dns_lookups": {"failed_share_max": None, "p99_ms_max": 0, "lookups_min": 100},
    "dns_path": {},
    "evidence_complete": {"gap_s_max": 15},
    "faults_happened": {"attempts_min": 1},
    "integrity": {
        "corrupted_max": 0, "misdelivered_max": 0, "rejected_but_delivered_max": 0, "resurrected_max": 0,
        "vanished_max": 0, "bounced_max": 0, "quarantined_max": 0, "unknown_max": 0,
    },
    "load_was_real": {"attempts_min": 100, "lag_p99_ms_max": 250, "host_cpu_p95_max": 0.8, "throttled_share_min": 0},
    "mailbox_state": {"renumbered_max": 0, "flags_lost_max": 0, "uidls_changed_max": 0},
    "no_failed_sessions": {"failed_max": 0, "operations_min": 20},
    "no_loss": {"lost_max": 0},
    "no_unexplained_duplicates": {"unexplained_max": 0, "possible_max": 0, "explained_share_max": 0.05},
    "queue_drained": {"left_max": 0},
    "rate_control": {
        "ordinary_p99_ms_max": 60000, "ordinary_deferred_share_max": 0.05, "system_share_max": 0.01,
        "refused_max": 0, "late_max": 0, "client_mails_max": 0, "client_window_s": 10,
    },
    "ready_throughout": {"unready_max": 0, "grace_s": 10},
}


def test_defaults_do_not_change_unnoticed():
    names = [info.name for info in pkgutil.iter_modules(checks.__path__)]
    modules = {name: importlib.import_module(f"harness.checks.{name}") for name in names}
    assert {name: m.LIMITS for name, m in modules.items() if hasattr(m, "LIMITS")} == DEFAULTS


def test_a_protocol_that_nobody_knows_has_a_name():
    assert [outages._name(n) for n in (int(Proto.SMTP), 99)] == ["smtp", "protocol-99"]
