"""The guard before foreign clusters: what is not allowed by name, or is another cluster, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.cluster import context, kind, tools
from harness.errors import ClusterFailed, GuardRefused
from harness.model.target import Node, Target
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress

CHECKOUT = Checkout.find()
NODES = """{"items": [{"metadata": {"name": "n1", "labels": {}}, "spec": {"podCIDRs": ["10.1.0.0/24"]}, "status": {
 "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
 "nodeInfo": {"kubeletVersion": "v1.34.0", "kernelVersion": "6", "containerRuntimeVersion": "containerd://2"}}}]}"""


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


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


def test_the_keys_of_a_context_reach_its_target(home: Path):
    allow(home, {"name": "lab", "edge_node": "n1", "storage_class": "fast", "image_registry": "registry.example.org:5000/team/mail"})
    target = context.target_for_context("lab", CHECKOUT)
    assert (target.storage_class, target.image_registry) == ("fast", "registry.example.org:5000/team/mail")
    assert [n.name for n in target.nodes if n.edge] == ["n1"]
    assert not target.ours
    assert "label" not in (home / "calls").read_text()


def test_without_the_key_the_label_alone_makes_an_edge(home: Path):
    allow(home, "lab")
    assert [n for n in context.target_for_context("lab", CHECKOUT).nodes if n.edge] == []
    (home / "kubectl").write_text((home / "kubectl").read_text().replace('"labels": {}', '"labels": {"mailgale.dev/edge": "true"}'))
    assert [n.name for n in context.target_for_context("lab", CHECKOUT).nodes if n.edge] == ["n1"]
    allow(home, {"name": "lab", "edge_node": "other"})
    assert [n for n in context.target_for_context("lab", CHECKOUT).nodes if n.edge] == []


def test_every_file_of_kubeconfig_is_kept_for_what_stands_in_another(home: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "clusters").write_text(yaml.safe_dump({"clusters": [{"name": "c"}]}))
    monkeypatch.setenv("KUBECONFIG", f"{home}/none:{home}/kubeconfig:{home}/clusters")
    allow(home, "lab")
    (home / "kubectl").write_text((home / "kubectl").read_text().replace('echo "$@"', 'echo "$KUBECONFIG" "$@"'))
    target = context.target_for_context("lab", CHECKOUT)
    assert target.kubeconfig == f"{home}/kubeconfig:{home}/clusters"
    assert all(line.startswith(f"{home}/kubeconfig:{home}/clusters --context lab") for line in (home / "calls").read_text().splitlines())


def test_this_checkouts_own_cluster_is_known_by_its_uid_and_said_to_be(home: Path, monkeypatch: pytest.MonkeyPatch):
    own = Target(
        "kind", "mailgale-x", "/own/kubeconfig", "kind-mailgale-x", "u1", (Node("w1", "worker", ("192.0.2.1",)), Node("w3", "worker", ("192.0.2.3",), edge=True)),
        ("192.0.2.9/32",), ("10.244.0.0/16",), ("10.96.0.0/16",), volumes_dir="/volumes", engine="docker 28", unsupported={"netem": "no module"},
    )
    asked, notes = [], Notes()
    monkeypatch.setattr(kind, "current", lambda checkout: asked.append(checkout) or own)
    allow(home, "lab")
    monkeypatch.setattr(kind, "recorded_uid", lambda checkout: "u2")
    assert not context.target_for_context("lab", CHECKOUT, notes).ours
    assert (asked, notes.said) == ([], [])
    monkeypatch.setattr(kind, "recorded_uid", lambda checkout: "u1")
    target = context.target_for_context("lab", CHECKOUT, notes)
    assert target.ours
    assert (target.kind, target.context, target.kubeconfig, target.volumes_dir) == ("context", "lab", str(home / "kubeconfig"), "/volumes")
    assert {"netem", "node-commands", "node-changes"} <= set(target.unsupported)
    assert ["own kind cluster" in n for n in notes.said] == [True]


@pytest.mark.parametrize(
    ("value", "good"),
    [("registry.example.org/mail", True), ("registry.example.org:5000/a/b-c", True), ("localhost:5000/x", True), ("[fd00::1]:5000/x", True), ("build:5000/x", True),
     ("mail", False), ("user/mail", False), ("registry.example.org", False), ("registry.example.org/", False), ("https://registry.example.org/x", False),
     ("registry.example.org/Mail", False), ("registry.example.org/x:1", False), ("registry.example.org/x --all", False), (5000, False)],
)  # fmt: skip
def test_a_registry_is_a_host_and_a_prefix(home: Path, value: object, good: bool):
    allow(home, {"name": "lab", "image_registry": value})
    if good:
        assert context.target_for_context("lab", CHECKOUT).image_registry == value
    else:
        with pytest.raises(GuardRefused, match="image_registry of lab"):
            context.target_for_context("lab", CHECKOUT)


@pytest.mark.parametrize(
    "text",
    ["allowed_contexts: lab", "- lab", "{", "allowed_contexts: [{uid: x}]", "allowed_contexts: [{name: lab, ui: x}]",
     "allowed_contexts: ['']", "allowed_contexts: [lab, lab]", "allowed_contexts: [{name: lab, uid: ''}]", "allowed_contexts: [{name: lab, uid: 5}]",
     "allowed_contexts: [{name: lab, edge_node: [n1]}]", "allowed_contexts: [{name: lab, storage_class: 'a b'}]", "allowed_contexts: [{name: lab, 1: x}]",
     "allowed_contexts: [{name: lab, pod_networks: [rubbish]}]", "allowed_contexts: [{name: lab, pod_networks: 10.0.0.0/8}]"],
)  # fmt: skip
def test_a_configuration_that_cannot_be_understood_allows_nothing(home: Path, text: str):
    (home / "mailgale").mkdir()
    (home / "mailgale" / "config.yaml").write_text(text)
    with pytest.raises(GuardRefused):
        context.target_for_context("lab", CHECKOUT)
