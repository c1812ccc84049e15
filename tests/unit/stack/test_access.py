"""Roles of a run on a small API server: given, in force, by kind of target, told to each process, taken back."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import NotReady
from harness.kube.client import Cluster
from harness.model.target import Target
from harness.rehearse import specs
from harness.rehearse.arm import ArmRun
from harness.selftest.friday import friday_plan
from harness.stack import access
from harness.stack.access import ROLES, Access, cluster_wide, granted, read
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress
from tests.servers.fake_api import FakeApi, fake_api

CHECKOUT = Checkout.find()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        yield made


@pytest.fixture
def given(api: FakeApi, tmp_path: Path) -> Iterator[Access]:
    with granted(api.target(tmp_path), CHECKOUT, "r1", tmp_path) as one:
        yield one


def ours(api: FakeApi) -> list[str]:
    return sorted(p for p in api.objects if "mailgale-" in p)


def test_each_role_has_an_account_and_a_token_of_its_own(given: Access, api: FakeApi):
    for role in ROLES:
        path = given.kubeconfigs[role]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        config = yaml.safe_load(path.read_text())
        assert config["users"] == [{"name": role, "user": {"token": f"token-of-{role}"}}]
        assert config["current-context"] == role
        assert given.target_as(role).context == role
        assert f"/api/v1/namespaces/{given.namespace}/serviceaccounts/{role}" in api.objects


def test_nothing_of_it_is_left(api: FakeApi, tmp_path: Path):
    with granted(api.target(tmp_path), CHECKOUT, "r1", tmp_path):
        assert ours(api)
    assert ours(api) == []


def test_what_a_killed_run_left_is_taken_back_first(api: FakeApi, tmp_path: Path):
    labels = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": CHECKOUT.id, "mailgale.dev/run": "r0"}
    api.namespace(CHECKOUT.namespace("roles"), **labels)
    with granted(api.target(tmp_path), CHECKOUT, "r1", tmp_path) as one:
        assert api.objects[f"/api/v1/namespaces/{one.namespace}"]["metadata"]["labels"]["mailgale.dev/run"] == "r1"


def test_who_may_not_give_them_is_told(api: FakeApi, tmp_path: Path):
    api.failures["PATCH", "/apis/rbac.authorization.k8s.io"] = 403
    with pytest.raises(NotReady, match=r"the roles of a run cannot be given.*use a context that may"), granted(api.target(tmp_path), CHECKOUT, "r1", tmp_path):
        raise AssertionError("they were given")
    assert ours(api) == []


@pytest.mark.parametrize(("kind", "engine", "only"), [("kind", "docker", "chaos-nodes"), ("context", "", "observe-throttling"), ("context", "docker", "")])
def test_what_only_one_kind_of_target_needs_is_given_there_alone(kind: str, engine: str, only: str):
    target = Target(kind, "t", "/nowhere", "c", "u", (), (), (), (), engine=engine)
    names = {m["metadata"]["name"] for role in ROLES for m in cluster_wide(read(CHECKOUT, role), role, "ns", target)}
    assert names & {"ns-chaos-nodes", "ns-observe-throttling"} == ({f"ns-{only}"} if only else set())
    assert {"ns-chaos", "ns-deploy", "ns-observe"} <= names


def test_it_is_waited_until_the_api_server_goes_by_them(given: Access, api: FakeApi):
    path = "/api/v1/namespaces/arm/pods"
    api.failures["GET", path] = 403
    threading.Timer(0.5, api.failures.clear).start()
    given.until_in_force("arm")
    assert sum(p == path for m, p, _ in api.requests) > 3


def test_roles_that_never_come_into_force_end_it(given: Access, api: FakeApi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(access, "_IN_FORCE_S", 0.3)
    api.failures["GET", "/api/v1/namespaces/arm/configmaps"] = 403
    with pytest.raises(NotReady, match="the role 'deploy' to be in force in arm"):
        given.until_in_force("arm")


def rules(role: str, kind: str = "Role") -> list[dict[str, Any]]:
    return [rule for one in read(CHECKOUT, role) if one["kind"] == kind for rule in one["rules"]]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_gives_rights_or_reads_secrets_but_the_one_that_deploys(role: str):
    for rule in [*rules(role), *rules(role, "ClusterRole")]:
        assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
        assert "secrets" not in rule["resources"] or role == "deploy"


def test_each_process_of_an_arm_is_told_its_own_rights(given: Access, tmp_path: Path):
    run = RunDir.create(tmp_path / "runs", friday_plan(), {}, plan_bytes=b"# a plan\n")
    block, name = run.planned_arms[0]
    arm = ArmRun(
        run.plan, run.plan.arm(name), block, run.run_id, run.arm(block, name), given.target, CHECKOUT, tmp_path, False, SilentProgress(), {}, access=given,
    )
    told = specs.observe(arm, "n")
    assert (told.kubeconfig, told.context) == (str(given.kubeconfigs["observe"]), "observe")
    assert told.inside_target().context == "census", "who watches runs nothing in a pod"
    assert Cluster(told.target()).api.context == "observe"
    arm.log.close()
