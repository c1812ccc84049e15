"""A pod as a place for look-ups: entered through the /proc of its node. Node and pod are nested namespaces here, as in a kind node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dns.count import Case, ResolverConfig, count
from harness.dns.libcs import program
from harness.dns.pod import place_of
from harness.errors import NotReady, NotSupported, UsageError
from harness.support.checkout import Checkout
from tests.servers.dnslab import needs, until

RESOLV = "search a.example b.example\nnameserver 127.0.0.1\noptions ndots:5 timeout:1 attempts:1\n"
#: In a "node" (own processes and mounts), a "pod" (own network, own resolv.conf); the pod's loopback is up and nobody answers there.
_NODE = """\
mount --bind "$1" /etc/resolv.conf
unshare --net sh -c 'ip link set lo up; echo $$ > "$0"; exec sleep 60' "$2" &
wait
"""


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Path]:
    """The pod's directory in the node's /proc, as seen from here."""
    needs("unshare", "ip")
    resolv, pid = tmp_path / "resolv.conf", tmp_path / "pid"
    resolv.write_text(RESOLV)
    node = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net", "sh", "-c", _NODE, "sh", str(resolv), str(pid)], stderr=subprocess.PIPE
    )
    try:
        until(lambda: node.poll() is not None or (pid.exists() and pid.read_text().strip()), "the pod")
        assert node.poll() is None, node.stderr.read() if node.stderr else ""
        yield Path(f"/proc/{children(node.pid)[0]}/root/proc/{pid.read_text().strip()}")
    finally:
        node.kill()
        node.wait()


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_look_ups_are_made_in_the_pods_network_with_its_resolv_conf(pod: Path, tmp_path: Path):
    place = place_of(pod, "pod x")
    assert place.config == ResolverConfig(("127.0.0.1",), ("a.example", "b.example"), ("ndots:5", "timeout:1", "attempts:1"))
    assert os.stat(place.namespace).st_ino not in (os.stat("/proc/self/ns/net").st_ino,)
    counted = count(place, program("glibc", Checkout.find()), Case("mx.example.net", "glibc", 5, "ipv4"), tmp_path)
    # Nobody listens: the kernel says so at once, and the search goes on in none of the domains.
    assert {n.name for n in counted.tree.names} <= {"mx.example.net.a.example.", "mx.example.net.b.example.", "mx.example.net."}
    assert counted.tree.queries >= 1
    assert counted.tree.unanswered == counted.tree.queries
    assert counted.flaws == ()


def test_a_process_on_this_machines_own_network_is_refused():
    with pytest.raises(UsageError, match="this machine's own network"):
        place_of(Path("/proc/self"), "pod x")


def test_a_process_that_is_not_here_is_not_supported():
    with pytest.raises(NotSupported):
        place_of(Path("/proc/1/root/proc/999999999"), "pod x")


def test_a_resolv_conf_without_a_server_is_no_place(pod: Path, tmp_path: Path):
    (tmp_path / "resolv.conf").write_text("search a.example\n")
    with pytest.raises(NotReady, match="names no server"):
        place_of(pod, "pod x")


def test_options_stay_and_ndots_is_replaced():
    config = ResolverConfig.parse("# x\ndomain old\nnameserver 10.0.0.1\nsearch a b # c\nnameserver fd00::1\noptions ndots:5 edns0\noptions timeout:1\n")
    assert config.text(1) == "search a b\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:1 edns0 timeout:1\n"
