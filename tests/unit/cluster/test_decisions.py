"""Keep or replace, topologies, names, abilities, versions: what is decided without a cluster."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.cluster import (
    abilities,
    egress,
    found,
    golang,
    kind,
    limits,
    load,
    node_image,
    recipe,
    registry,
    settle,
    tools,
    topology,
)
from harness.cluster.settle import host_networks
from harness.errors import ClusterFailed, CommandFailed, UsageError
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress

CHECKOUT = Checkout.find()
SINGLE = topology.load(CHECKOUT, "single")
WANTED = found.Wanted(SINGLE, "image:1", "net", "/volumes")
RECORD = {"name": "single", "topology": SINGLE.digest}


def containers() -> list[found.Container]:
    roles = ["control-plane", "worker", "worker", "worker"]
    return [
        found.Container(f"n{i}", role, True, "image:1", ("net",), {topology.NODE_VOLUMES: "/volumes"}, ("172.20.0.1", "fd00::1"))
        for i, role in enumerate(roles)
    ]


def test_a_cluster_as_wanted_stays():
    assert found.why_replace(containers(), WANTED, RECORD) == ""
    balancer = replace(containers()[0], name="lb", role="external-load-balancer", image="haproxy")
    assert found.why_replace([*containers(), balancer], WANTED, RECORD) == ""


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        (lambda c: c[1:], "0 control planes and 3 workers"),
        (lambda c: [*c[:3], replace(c[3], image="image:0")], "another node image"),
        (lambda c: [*c[:3], replace(c[3], networks=("kind",))], "in the network kind"),
        (lambda c: [*c[:3], replace(c[3], mounts={})], "lacks the volumes"),
    ],
)
def test_every_difference_is_a_reason_to_replace(defect, reason):
    assert reason in found.why_replace(defect(containers()), WANTED, RECORD)


def test_a_half_built_cluster_and_another_topology_file_are_replaced():
    assert "never completed" in found.why_replace(containers(), WANTED, {})
    assert "topology file" in found.why_replace(containers(), WANTED, {**RECORD, "topology": "other"})


def test_the_host_is_seen_as_the_gateways():
    assert host_networks(containers()) == ("172.20.0.1/32", "fd00::1/128")


@pytest.mark.parametrize(("name", "planes"), [("single", 1), ("ha", 3)])
def test_topologies_are_dual_stack_with_one_edge_and_shared_volumes(name: str, planes: int):
    read = topology.load(CHECKOUT, name)
    assert (read.control_planes, read.workers) == (planes, 3)
    assert [":" in n for n in read.pod_networks] == [False, True]
    config = yaml.safe_load(read.render("c", Path("/v"), default_cni=False))
    assert config["name"] == "c"
    assert config["networking"]["disableDefaultCNI"] is True
    assert all(n["extraMounts"] == [{"hostPath": "/v", "containerPath": topology.NODE_VOLUMES}] for n in config["nodes"])
    assert [bool(n.get("labels")) for n in config["nodes"]] == [False] * (planes + 2) + [True]
    assert "extraMounts" not in read.config["nodes"][0]


def test_an_unknown_topology_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'single'"):
        topology.load(CHECKOUT, "singel")


@pytest.mark.parametrize(
    ("ref", "full"),
    [
        ("mailgale/mx:1", "docker.io/mailgale/mx:1"),
        ("mailgale/mx", "docker.io/mailgale/mx:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("ghcr.io/a/b:2", "ghcr.io/a/b:2"),
    ],
)
def test_images_are_named_as_containerd_names_them(ref: str, full: str):
    assert load.full_name(ref) == full


def test_a_probe_that_fails_is_unsupported_with_what_it_said():
    script = abilities.script({"good": "true", "bad": "echo first >&2; echo refused >&2; false", "mute": "false"})
    said = subprocess.run(["bash", "-s"], input=script, capture_output=True, text=True, check=True).stdout
    assert abilities.unsupported(said) == {"bad": "refused", "mute": "this kernel has none"}


@pytest.mark.parametrize(("text", "version"), [("go version go1.24.4 linux/amd64", (1, 24)), ("go version go1.9", (1, 9)), ("", (0, 0))])
def test_versions_of_go(text: str, version: tuple[int, int]):
    assert golang.version_of(text) == version


def test_a_kubectl_that_is_too_old_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = tmp_path / "kubectl"
    old.write_text('#!/bin/sh\necho \'{"clientVersion": {"gitVersion": "v1.20.2"}}\'\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert tools.version_of(old) == (1, 20)
    assert tools.host_kubectl() is None
    with pytest.raises(ClusterFailed, match=r"no kubectl of 1\.28"):
        tools.kubectl_path(CHECKOUT)


def test_a_recipe_changes_with_content_name_mode_and_arguments(tmp_path: Path):
    (tmp_path / "a").write_text("1")
    first = recipe.digest([tmp_path])
    assert first == recipe.digest([tmp_path])
    assert first != recipe.digest([tmp_path], "more")
    (tmp_path / "a").chmod(0o755)
    second = recipe.digest([tmp_path])
    (tmp_path / "a").write_text("2")
    third = recipe.digest([tmp_path])
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, third, recipe.digest([tmp_path])}) == 4


def test_go_modules_are_pinned_with_checksums():
    sources = recipe.folder(CHECKOUT)
    pinned = {"kubernetes": "k8s.io/kubernetes", "etcd": "go.etcd.io/etcd/server/v3", "coredns": "github.com/coredns/coredns"}
    versions = recipe.versions(CHECKOUT)
    for part, module in pinned.items():
        folder = sources / "node-image" / "go" / part
        version = versions[part.upper()]
        assert f"{module} {version}\n" in (folder / "go.mod").read_text()
        assert f"{module} {version} h1:" in (folder / "go.sum").read_text()
    assert "@sha256:" in versions["KINDEST_NODE"]


def test_own_images_only():
    assert node_image.is_built_here(node_image.built_ref(CHECKOUT))
    assert not node_image.is_built_here("kindest/node:v1.34.3")


def test_low_inotify_limits_are_raised_and_said(tmp_path: Path):
    (tmp_path / "max_user_instances").write_text("128\n")
    (tmp_path / "max_user_watches").write_text("9999999\n")
    assert limits.too_low(tmp_path) == {"max_user_instances": 128}
    assert limits.raise_inotify(SilentProgress(), tmp_path)
    assert (tmp_path / "max_user_instances").read_text() == "2048\n"


def test_limits_that_cannot_be_raised_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "max_user_instances").write_text("128\n")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert not limits.raise_inotify(SilentProgress(), tmp_path)


def test_a_silent_registry_is_remembered_and_the_switch_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(registry, "registry_mirrors", lambda engine: ())
    monkeypatch.setattr(registry, "_ping", lambda: bool(asked.append(1)))
    engine = None
    assert not registry.answers(engine, CHECKOUT)
    assert not registry.answers(engine, CHECKOUT)
    assert len(asked) == 1
    monkeypatch.setenv(registry.SWITCH, "yes")
    assert not registry.answers(engine, CHECKOUT)
    assert len(asked) == 2
    monkeypatch.setattr(registry, "_ping", lambda: True)
    assert registry.answers(engine, CHECKOUT)
    monkeypatch.setenv(registry.SWITCH, "no")
    assert not registry.answers(engine, CHECKOUT)


def test_the_egress_installer_is_shell_and_names_every_network():
    text = egress.installer(CHECKOUT, ("10.0.0.0/8", "fd00::/8"))
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "\n10.0.0.0/8\nfd00::/8\nNETWORKS\n" in text
    assert egress.dropping_rules('{"nftables": [{"rule": {"expr": [{"accept": null}]}}]}') == []
    assert len(egress.dropping_rules('{"nftables": [{"rule": {"expr": [{"counter": {"packets": 3, "bytes": 9}}, {"drop": null}]}}]}')) == 1


def test_without_an_engine_status_says_so_and_there_is_no_current_cluster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kind, "answering", lambda: None)
    assert kind.status(CHECKOUT).problem == "no container engine answers"
    assert kind.current(CHECKOUT) is None


@pytest.mark.parametrize("script", ["egress", "entrypoint", "kubelet-cgroups", "pod-routes", "with-limits"])
def test_scripts_of_the_node_image_are_shell(script: str):
    path = recipe.folder(CHECKOUT) / "node-image" / "node" / "rootfs" / "usr" / "local" / "bin" / script
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_cgroup_v2_roots_get_every_controller_that_can_be_had(tmp_path: Path):
    script = recipe.folder(CHECKOUT) / "node-image" / "node" / "rootfs" / "usr" / "local" / "bin" / "kubelet-cgroups"
    for group in ("", "kubelet", "kubelet.slice"):
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / "cgroup.controllers").write_text("cpu memory pids\n")
    env = {**os.environ, "CGROUP_ROOT": str(tmp_path)}
    assert subprocess.run([script], env=env, check=False).returncode == 0
    (tmp_path / "kubelet" / "cgroup.controllers").write_text("cpu pids\n")
    done = subprocess.run([script], env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "lacks the controller memory" in done.stderr


class Refusing:
    """An API that refuses every question."""

    context = "c"

    def get(self, *words: str) -> object:
        raise CommandFailed("connection refused")


def test_a_cluster_that_never_answers_is_reported_with_its_last_word(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settle, "_READY_S", 0.05)
    with pytest.raises(ClusterFailed, match=r"4 ready nodes.*connection refused"):
        settle.nodes_ready(Refusing(), 4, SilentProgress())
