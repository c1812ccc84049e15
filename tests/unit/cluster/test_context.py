"""The guard before foreign clusters: what is not allowed by name, or is another cluster, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.cluster import context, tools
from harness.errors import ClusterFailed, GuardRefused
from harness.support.checkout import Checkout

CHECKOUT = Checkout.find()
NODES = """{"items": [{"metadata": {"name": "n1", "labels": {}}, "spec": {"podCIDRs": ["10.1.0.0/24"]}, "status": {
 "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
 "nodeInfo": {"kubeletVersion": "v1.34.0", "kernelVersion": "6", "containerRuntimeVersion": "containerd://2"}}}]}"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with one kubeconfig and a kubectl that answers as a small cluster does."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({"current-context": "prod", "contexts": [{"name": "prod"}, {"name": "lab"}]}))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none:{kubeconfig}")
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        '#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\ncase "$*" in\n'
        """*kube-system*) echo '{"metadata": {"uid": "u1"}}' ;;\n*servicecidrs*) echo '10.2.0.0/16 fd00::/112' ;;\n"""
        f"*nodes*) cat <<'E'\n{NODES}\nE\n;;\nesac\n"
    )
    kubectl.chmod(0o755)
    monkeypatch.setattr(tools, "kubectl_path", lambda checkout: kubectl)
    return tmp_path


def allow(home: Path, *entries: object) -> None:
    (home / "mailgale").mkdir(exist_ok=True)
    (home / "mailgale" / "config.yaml").write_text(yaml.safe_dump({"allowed_contexts": list(entries)}))


def test_nothing_is_allowed_without_a_configuration_and_nothing_is_asked(home: Path):
    with pytest.raises(GuardRefused, match="'prod' is not allowed"):
        context.target_for_context("prod", CHECKOUT)
    assert not (home / "calls").exists()


def test_an_allowed_context_becomes_a_target_and_every_call_names_it(home: Path):
    allow(home, "lab")
    target = context.target_for_context("lab", CHECKOUT)
    assert (target.kind, target.context, target.uid) == ("context", "lab", "u1")
    assert target.pod_networks == ("10.1.0.0/24",)
    assert target.service_networks == ("10.2.0.0/16", "fd00::/112")
    assert target.generator_networks == ("127.0.0.1/32",)
    assert all("--context lab" in line for line in (home / "calls").read_text().splitlines())


def test_networks_of_the_configuration_win(home: Path):
    allow(home, {"name": "lab", "uid": "u1", "generator_networks": ["10.9.0.0/24"], "pod_networks": ["10.8.0.0/16"]})
    target = context.target_for_context("lab", CHECKOUT)
    assert (target.generator_networks, target.pod_networks) == (("10.9.0.0/24",), ("10.8.0.0/16",))


def test_another_cluster_under_an_allowed_name_is_refused(home: Path):
    allow(home, {"name": "lab", "uid": "u0"})
    with pytest.raises(GuardRefused, match="another cluster"):
        context.target_for_context("lab", CHECKOUT)


def test_a_near_name_is_offered_but_not_taken(home: Path):
    allow(home, "lab")
    with pytest.raises(GuardRefused, match="did you mean 'lab'"):
        context.target_for_context("lap", CHECKOUT)


def test_an_allowed_name_that_no_kubeconfig_has(home: Path):
    allow(home, "gone")
    with pytest.raises(ClusterFailed, match="no context 'gone'"):
        context.target_for_context("gone", CHECKOUT)


@pytest.mark.parametrize(
    "text",
    ["allowed_contexts: lab", "- lab", "{", "allowed_contexts: [{uid: x}]", "allowed_contexts: [{name: lab, ui: x}]",
     "allowed_contexts: [{name: lab, pod_networks: [rubbish]}]", "allowed_contexts: [{name: lab, pod_networks: 10.0.0.0/8}]"],
)  # fmt: skip
def test_a_configuration_that_cannot_be_understood_allows_nothing(home: Path, text: str):
    (home / "mailgale").mkdir()
    (home / "mailgale" / "config.yaml").write_text(text)
    with pytest.raises(GuardRefused):
        context.target_for_context("lab", CHECKOUT)
