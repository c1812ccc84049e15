"""The cluster's lease: one holder, renewed, a live one never displaced, a dead one displaced and named."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from harness.errors import GuardRefused
from harness.kube import runlease
from harness.kube.gateway import Gateway
from harness.kube.runlease import DURATION_S, NAME, Holder, RunLease, held, holder
from harness.support.clock import wait_for
from harness.support.process import Identity, birth
from tests.servers.fake_api import FakeApi

PATH = f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{NAME}"
ELSEWHERE = "otherhost/0badb007/42/4711"


def lease(identity: str, *, age_s: float = 1.0, run: str = "20260101T000000Z-x-0001", labelled: bool = True, duration_s: int = DURATION_S) -> dict[str, object]:
    renewed = (datetime.now(UTC) - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    labels = {"app.kubernetes.io/managed-by": "mailgale"} if labelled else {}
    return {"metadata": {"name": NAME, "labels": labels, "annotations": {"mailgale.dev/run": run, "mailgale.dev/checkout": "bbbb2222"}},
            "spec": {"holderIdentity": identity, "leaseDurationSeconds": duration_s, "renewTime": renewed}}


def dead_here() -> str:
    """The identity of a process of this host that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    born = birth(done.pid)
    done.wait()
    return str(replace(Identity.own(), pid=done.pid, birth=born or "1"))


def test_it_is_held_renewed_and_gone_at_the_end(api: FakeApi, gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runlease, "RENEW_S", 0.05)
    before: list[Holder] = []
    with held(gateway, "aaaa1111", on_takeover=before.append) as one:
        assert before == [], "there was nobody to displace"
        assert api.objects[PATH]["spec"]["leaseDurationSeconds"] == 15, "the janitor acts after so long without a sign of life"
        one.name_run("r1")
        first = holder(gateway)
        assert first is not None
        assert (first.identity, first.run, first.checkout) == (str(Identity.own()), "r1", "aaaa1111")
        wait_for(lambda: (now := holder(gateway)) and now.renewed != first.renewed, deadline_s=5, what="a renewal", every_s=0.02)
        one.check()
    assert PATH not in api.objects


@pytest.mark.parametrize("identity", [ELSEWHERE, ""])
def test_a_second_run_is_refused_and_told_who_holds_it(api: FakeApi, gateway: Gateway, identity: str):
    """The second case: a process of this host that lives."""
    api.put(PATH, lease(identity or str(replace(Identity.own(), pid=1, birth=birth(1))), age_s=1.0 if identity else 900.0))
    with pytest.raises(GuardRefused, match=r"20260101T000000Z-x-0001 \(checkout bbbb2222, process (42 on otherhost|1 on )") as refused:
        RunLease(gateway, "aaaa1111").acquire()
    assert refused.value.exit_code == 7
    assert api.mutations == []


def test_a_dead_holder_of_this_host_is_displaced_at_once_and_named(api: FakeApi, gateway: Gateway):
    api.put(PATH, lease(dead_here(), age_s=0.0))
    seen: list[Holder] = []
    with held(gateway, "aaaa1111", on_takeover=seen.append):
        assert [h.run for h in seen] == ["20260101T000000Z-x-0001"]
        now = holder(gateway)
        assert now is not None
        assert now.identity == str(Identity.own())


def test_a_holder_elsewhere_is_displaced_only_after_no_sign_of_life(api: FakeApi, gateway: Gateway):
    api.put(PATH, lease(ELSEWHERE, age_s=60.0, duration_s=1))
    with held(gateway, "aaaa1111"):
        assert PATH in api.objects


def test_a_sign_of_life_keeps_a_late_holder(api: FakeApi, gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    """Its clock is behind, so it looks stale; but it renews while it is watched."""
    api.put(PATH, lease(ELSEWHERE, age_s=60.0))
    looked = []

    def look(*args: object, **kwargs: object) -> bool:
        looked.append(1)
        return True

    monkeypatch.setattr(runlease, "wait_for", look)
    with pytest.raises(GuardRefused, match="another run is under way"):
        RunLease(gateway, "aaaa1111").acquire()
    assert looked


def test_one_that_could_not_be_deleted_at_the_end_does_not_keep_its_own_process_from_the_next(api: FakeApi, gateway: Gateway):
    api.failures["DELETE", PATH] = 503
    with held(gateway, "aaaa1111"):
        with pytest.raises(GuardRefused, match="another run is under way"):
            RunLease(gateway, "aaaa1111").acquire()
    assert PATH in api.objects
    api.failures.clear()
    with held(gateway, "aaaa1111"):
        assert api.objects[PATH]["spec"]["holderIdentity"] == str(Identity.own())
    assert PATH not in api.objects


def test_losing_it_is_said_before_anything_new_begins(api: FakeApi, gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runlease, "RENEW_S", 0.05)
    with held(gateway, "aaaa1111") as one:
        api.put(PATH, lease(ELSEWHERE))
        wait_for(lambda: one.lost, deadline_s=5, what="the loss", every_s=0.02)
        with pytest.raises(GuardRefused, match=r"is lost: held by .*otherhost"):
            one.check()
    assert api.objects[PATH]["spec"]["holderIdentity"] == ELSEWHERE, "the lease of another was taken away"


def test_an_api_that_is_away_for_a_while_does_not_lose_it(api: FakeApi, gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runlease, "RENEW_S", 0.05)
    with held(gateway, "aaaa1111") as one:
        api.failures[("PATCH", PATH)] = 500
        before = one.renewed
        wait_for(lambda: sum(m == "PATCH" for m, _, _ in api.requests) > 2, deadline_s=5, what="failed renewals", every_s=0.02)
        del api.failures[("PATCH", PATH)]
        wait_for(lambda: one.renewed > before, deadline_s=5, what="the next renewal", every_s=0.02)
        one.check()


@pytest.mark.parametrize("spoil", ["foreign", "unreadable", "unwritable"])
def test_what_cannot_be_evaluated_refuses(api: FakeApi, gateway: Gateway, spoil: str):
    if spoil == "foreign":
        api.put(PATH, lease("", labelled=False))
    else:
        api.failures[("GET" if spoil == "unreadable" else "POST", PATH.removesuffix(f"/{NAME}"))] = 403
    with pytest.raises(GuardRefused):
        RunLease(gateway, "aaaa1111").acquire()
    assert not any(m in ("PATCH", "DELETE") for m, _ in api.mutations)


def test_one_that_was_quicker_is_told_of_even_when_it_is_gone_again(api: FakeApi, gateway: Gateway):
    api.failures["POST", PATH.removesuffix(f"/{NAME}")] = 409
    with pytest.raises(GuardRefused, match="another run took the cluster's lease a moment ago"):
        RunLease(gateway, "aaaa1111").acquire()


def test_a_lease_that_was_deleted_is_lost(api: FakeApi, gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runlease, "RENEW_S", 0.05)
    with held(gateway, "aaaa1111") as one:
        del api.objects[PATH]
        wait_for(lambda: one.lost, deadline_s=5, what="the loss", every_s=0.02)
        assert one.lost == "deleted"


def test_its_own_write_whose_answer_was_lost_loses_nothing(api: FakeApi, gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runlease, "RENEW_S", 0.05)
    with held(gateway, "aaaa1111") as one:
        api.put(PATH, api.objects[PATH])
        before = one.renewed
        wait_for(lambda: one.renewed > before, deadline_s=5, what="the next renewal", every_s=0.02)
        one.check()


def test_a_lease_that_nobody_holds_is_taken_without_a_word(api: FakeApi, gateway: Gateway):
    api.put(PATH, lease("", age_s=900.0))
    seen: list[Holder] = []
    with held(gateway, "aaaa1111", on_takeover=seen.append):
        assert seen == []


def test_a_holder_of_another_make_is_named_as_it_is(api: FakeApi, gateway: Gateway):
    api.put(PATH, lease("somebody else's words"))
    with pytest.raises(GuardRefused, match="checkout bbbb2222, somebody else's words, renewed"):
        RunLease(gateway, "aaaa1111").acquire()


def test_nothing_is_renewed_behind_the_release(api: FakeApi, gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    """A renewal under way is waited for: it would make the lease anew."""
    monkeypatch.setattr(runlease, "RENEW_S", 0.5)
    under_way, ended, go = threading.Event(), threading.Event(), threading.Event()

    def renew(self: RunLease) -> None:
        under_way.set()
        go.wait(5)
        ended.set()

    monkeypatch.setattr(RunLease, "_renew", renew)
    one = RunLease(gateway, "aaaa1111")
    one.acquire()
    assert under_way.wait(5)
    threading.Timer(0.1, go.set).start()
    one.release()
    assert ended.is_set()
    assert PATH not in api.objects
