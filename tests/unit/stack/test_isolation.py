"""The canary listener and the judgement, without a cluster."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.target import Target
from harness.stack import listener, probe
from harness.stack.isolation import Isolation, refusal
from harness.stack.listener import Canary
from harness.support.clock import wait_for


@pytest.fixture(params=["127.0.0.1", "::1"])
def canary(request: pytest.FixtureRequest) -> Iterator[Canary]:
    made = Canary(request.param)
    yield made
    made.close()


def family(canary: Canary) -> int:
    return socket.AF_INET6 if ":" in canary.address else socket.AF_INET


def test_hears_tcp_and_udp_and_says_from_where(canary: Canary):
    with socket.create_connection((canary.address, canary.port), 5) as client:
        client.sendall(b"over-tcp\n")
    with socket.socket(family(canary), socket.SOCK_DGRAM) as client:
        client.sendto(b"over-udp\n", (canary.address, canary.port))
    for token in ("over-tcp", "over-udp"):
        assert wait_for(lambda t=token: canary.heard(t), deadline_s=5, what=token, every_s=0.05) == canary.address
    assert canary.heard("never-sent") == ""


def test_is_bounded(canary: Canary, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "_SEEN_MAX", 3)
    with socket.socket(family(canary), socket.SOCK_DGRAM) as client:
        for n in range(10):
            client.sendto(f"t{n}".encode(), (canary.address, canary.port))
    wait_for(lambda: canary.heard("t2"), deadline_s=5, what="t2", every_s=0.05)
    assert len(canary._seen) <= 3


@pytest.mark.parametrize(
    ("proof", "isolated"),
    [(Isolation(("c",), ("n",), tried=4), True), (Isolation(("c",), ("n",), leaks=("out",), tried=4), False),
     (Isolation(("c",), ("n",), unproven=("control",), tried=4), False), (Isolation(("c",), (), tried=0), False)],
)
def test_only_a_whole_proof_is_one(proof: Isolation, isolated: bool):
    assert proof.isolated is isolated


def test_what_a_pod_sends_arrives_and_a_dead_way_does_not(canary: Canary):
    for kind in ("tcp", "udp"):
        subprocess.run(["bash", "-c", probe.send(kind, canary.address, canary.port, f"by-{kind}")], check=False, timeout=10)
        assert probe.arrived(canary, f"by-{kind}")
    closed = subprocess.run(["bash", "-c", probe.send("tcp", canary.address, 1, "lost")], check=False, timeout=10, capture_output=True)
    assert closed.returncode != 0


@pytest.mark.parametrize(
    ("proof", "ours", "says"),
    [(Isolation(("c",), ("n",), leaks=("a pod reaches c",), tried=1, reached=True), False, "does not enforce NetworkPolicy.*a pod reaches c.*--target kind"),
     (Isolation(("c",), ("n",), unproven=("the control pod: failed",), tried=1, unheard=True), False, "is not reached even where a policy allows it.*the control pod"),
     (Isolation(("c",), ("n",), leaks=("a pod resolves x",), tried=1), False, "stays inside: a pod resolves x"),
     (Isolation(("c",), ("n",), leaks=("a pod reaches c",), tried=1, reached=True), True, "stays inside: a pod reaches c.*cluster down")],
)  # fmt: skip
def test_a_refusal_says_why_and_what_to_do(proof: Isolation, ours: bool, says: str):
    found = refusal(proof, ours=ours, where="lab")
    assert re.search(says, str(found))
    assert found.exit_code == 7


def test_volumes_are_removed_and_nothing_else(target: Target, tmp_path: Path):
    from harness.errors import GuardRefused
    from harness.stack import volumes

    other = tmp_path / "volumes" / "mailgale-aaaa1111-keep"
    gone = tmp_path / "volumes" / "mailgale-aaaa1111-t" / "spool-mx-0" / "active"
    for path in (other, gone):
        path.mkdir(parents=True)
    volumes.remove(target, "mailgale-aaaa1111-t")
    assert other.exists()
    assert not gone.parent.parent.exists()
    for name in ("..", "mailgale-x/../../y", "kube-system", ""):
        with pytest.raises(GuardRefused):
            volumes.remove(target, name)
