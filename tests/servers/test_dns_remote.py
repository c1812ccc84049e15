"""``dns count`` on a cluster whose nodes are not here: by a pod of our own, through the API server alone.

The API server is the fake one. The "pod" is a network namespace with files of its own; what is executed in it runs there for real, with a container's
rights: no CAP_SYS_ADMIN, no CAP_NET_ADMIN. A lab's server answers it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import dns as command
from harness.cli.main import cli
from harness.dns.count import TALK_SEARCH, Case, count
from harness.dns.libcs import Program, program
from harness.dns.remote import remote_place
from harness.dns.responder import Responder
from harness.dns.serve import serving
from harness.errors import CommandFailed, GuardRefused, NotReady, NotSupported, UsageError
from harness.kube.client import Cluster, Executed
from harness.model.target import Node
from harness.stack import lifecycle
from harness.stack.deployed import Stack
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress
from tests.servers.dnslab import needs, network
from tests.servers.fake_api import FakeApi, fake_api

CHECKOUT = Checkout.find()
NAMESPACE = CHECKOUT.namespace("t")
OURS = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": CHECKOUT.id, "mailgale.dev/run": "none"}
NAME = "omgi.iij.ad.jp"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods/"
_IN_POD = """\
for f in resolv.conf hosts nsswitch.conf; do mount --bind "$1/$f" "/etc/$f" || exit 125; done
mount --bind "$1/tmp" /tmp || exit 125
caps=$2; shift 2
exec setpriv --bounding-set="$caps" "$@"
"""


@dataclass
class Pod:
    """Where executed commands run."""

    folder: Path
    net: Path
    resolv: str
    caps: str = "-sys_admin,-net_admin"

    def exec(self, cluster: Cluster, namespace: str, pod: str, container: str, argv: list[str], *, timeout_s: float = 30.0, stdin: bytes | None = None) -> Executed:
        if argv == ["cat", "/etc/resolv.conf"]:
            assert (pod, container) == ("mx-0", "postfix")
            return Executed(0, self.resolv.encode(), b"")
        assert pod.startswith("dns-count-")
        words = ["nsenter", f"--net={self.net}", "unshare", "--mount", "--propagation", "private", "sh", "-c", _IN_POD, "sh", str(self.folder), self.caps, *argv]
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout_s, check=False)
        return Executed(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pod]:
    needs("setpriv", "python3")
    known: dict[str, Any] = {f"{s}.": {} for s in TALK_SEARCH} | {f"{NAME}.": {"A": ["198.51.100.10"], "AAAA": ["2001:db8::10"]}}
    folder = tmp_path / "pod"
    (folder / "tmp").mkdir(parents=True)
    for file in ("resolv.conf", "hosts", "nsswitch.conf"):
        (folder / file).write_text("")
    with network() as net, serving(Responder(known), *net.listen()):
        made = Pod(folder, net.client, f"search {' '.join(TALK_SEARCH)}\nnameserver {net.server4}\noptions ndots:5\n")
        monkeypatch.setattr(Cluster, "exec", lambda cluster, *args, **named: made.exec(cluster, *args, **named))
        yield made


def mx_pod(**spec: Any) -> dict[str, Any]:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
              "containerStatuses": [{"name": "postfix", "containerID": "containerd://1", "state": {"running": {}}, "restartCount": 0}]}
    labels = {**OURS, "app.kubernetes.io/component": "mx"}
    return {"metadata": {"name": "mx-0", "namespace": NAMESPACE, "labels": labels}, "spec": {"nodeName": "n1", "containers": [{"name": "postfix"}], **spec}, "status": status}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as made:
        made.namespace(NAMESPACE, **OURS)
        made.put(f"{PODS}mx-0", mx_pod())
        put = made.put

        def running(path: str, value: dict[str, Any]) -> dict[str, Any]:
            """Pods run as soon as they are made."""
            if "/pods/" in path and value.get("kind") == "Pod":
                value["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            return put(path, value)

        made.put = running  # type: ignore[method-assign]
        yield made


@pytest.fixture
def stack(api: FakeApi, tmp_path: Path) -> Stack:
    target = api.target(tmp_path, kind="context", nodes=(Node("n1", "worker", ("127.0.0.1",), edge=True),))
    return Stack(
        namespace=NAMESPACE, target=target, cluster=Cluster(target), checkout_id=CHECKOUT.id, run_id="none", profile="minimal", variants=(),
        edge4="127.0.0.1", edge6="", password="", users=8, mail_domain="example.org", cluster_domain="cluster.local", dns_address="10.96.0.53",
        ca_pem="", images={"registry.example.org/mailgale/postfix:1": "sha256:1"}, manifests_sha256="", time_scale=30.0,
    )


def counted(stack: Stack, libc: str, folder: Path) -> dict[int, tuple[int, tuple[str, ...]]]:
    """ndots → queries and flaws of one look-up beside mx-0."""
    asked = stack.cluster.pod(NAMESPACE, "mx-0")
    assert asked is not None
    with remote_place(stack, asked, CHECKOUT, SilentProgress()) as place:
        assert place.bring is not None
        made = place.bring(program(libc, CHECKOUT))
        found = {n: count(place, made, Case(NAME, libc, n, "any"), folder / f"{libc}-{n}") for n in (5, 1)}
        assert all(set(c.found) == {"198.51.100.10", "2001:db8::10"} for c in found.values())
    return {n: (c.tree.queries, c.flaws) for n, c in found.items()}


@pytest.mark.parametrize("libc", ["glibc", "musl"])
def test_the_talks_numbers_by_a_pod_of_our_own(pod: Pod, stack: Stack, api: FakeApi, tmp_path: Path, libc: str):
    if libc == "musl" and shutil.which("musl-gcc") is None:
        pytest.skip("not installed here: musl-gcc")
    assert counted(stack, libc, tmp_path) == {5: (12, ()), 1: (2, ())}
    (made,) = [b for m, p, b in api.requests if m == "PATCH" and p.startswith(PODS)]
    assert (made["spec"]["nodeName"], made["spec"]["containers"][0]["securityContext"]) == ("n1", {"capabilities": {"add": ["NET_RAW"]}})
    assert [p for p in api.objects if "dns-count" in p] == []
    assert (tmp_path / f"{libc}-5" / "lookup.pcap").stat().st_size > 24


def test_where_pods_may_not_capture_it_is_not_supported(pod: Pod, stack: Stack, api: FakeApi, tmp_path: Path):
    pod.caps += ",-net_raw"
    with pytest.raises(NotSupported, match="may not capture"):
        counted(stack, "glibc", tmp_path)
    assert [p for p in api.objects if "dns-count" in p] == []


def test_a_program_that_the_node_cannot_run_is_named(pod: Pod, stack: Stack, tmp_path: Path):
    """Another architecture, say."""
    alien = tmp_path / "alien"
    alien.write_bytes(b"\x7fELF no program")
    asked = stack.cluster.pod(NAMESPACE, "mx-0")
    assert asked is not None
    with remote_place(stack, asked, CHECKOUT, SilentProgress()) as place:
        assert place.bring is not None
        with pytest.raises(CommandFailed, match=r"Python ended with 1 .*Exec format error"):
            count(place, place.bring(Program("musl", "", (str(alien),))), Case(NAME, "musl", 5, "any"), tmp_path / "x")


@pytest.mark.parametrize(("spec", "resolv", "error", "said"), [
    ({"hostNetwork": True}, None, UsageError, "hostNetwork"), ({}, "search a.example\n", NotReady, "names no server"),
])
def test_pods_that_cannot_be_asked_about(pod: Pod, stack: Stack, api: FakeApi, tmp_path: Path, spec: dict[str, Any], resolv: str | None, error: type[Exception], said: str):
    pod.resolv = resolv or pod.resolv
    api.put(f"{PODS}mx-0", mx_pod(**spec))
    with pytest.raises(error, match=said):
        counted(stack, "glibc", tmp_path)
    assert api.mutations == []


def test_in_a_namespace_that_is_not_ours_no_pod_is_made(pod: Pod, stack: Stack, api: FakeApi, tmp_path: Path):
    api.namespace(NAMESPACE)
    with pytest.raises(GuardRefused, match="not ours"):
        counted(stack, "glibc", tmp_path)


def run(stack: Stack, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr(command, "target_for", lambda *args, **named: stack.target)
    monkeypatch.setattr(lifecycle, "find", lambda target, checkout, suffix: stack if suffix == "t" else None)
    argv = ["dns", "count", NAME, "--libc", "glibc", "--family", "any", "-o", "json", "--target", "context", "--context", "staging", *words]
    return CliRunner().invoke(cli, argv, standalone_mode=False)


def test_the_command(pod: Pod, stack: Stack, monkeypatch: pytest.MonkeyPatch):
    result = run(stack, monkeypatch)
    assert result.exception is None, result.output
    document = json.loads(result.stdout)
    assert result.return_value == 0, document
    assert {u["ndots"]: (u["queries"], u["talk"], u["exact"]) for u in document["look_ups"]} == {5: (12, 12, True), 1: (2, 2, True)}
    assert f"beside {NAMESPACE}/mx-0, on n1" in document["place"]
    assert document["libcs"]["glibc"]


def test_the_command_makes_no_pod_beside_another_ones(pod: Pod, stack: Stack, api: FakeApi, monkeypatch: pytest.MonkeyPatch):
    api.namespace("shop")
    api.put("/api/v1/namespaces/shop/pods/cart-0", {"metadata": {"name": "cart-0", "namespace": "shop"}, "spec": {"nodeName": "n1"}})
    result = run(stack, monkeypatch, "--pod", "shop/cart-0")
    assert "in no stack of this checkout" in str(result.exception)
    assert api.mutations == []
