"""What the rules of a network fault do to real traffic, in a private network: each kind is felt as it should be, counted, and gone afterwards."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from harness.chaos import netrules
from harness.chaos.netrules import Rules
from harness.chaos.nodes import FaultFailed
from harness.dns.netns import Lab, inside
from harness.errors import NotSupported
from harness.support.shell import run as shell
from tests.servers.dnslab import needs, network, until

TABLE = "mailgale_test"
PORT = 2525
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made() -> Iterator[Lab]:
    needs("nft", "tc")
    with network() as found:
        with inside(found.server, lambda: socket.create_server((found.server6, 0), family=socket.AF_INET6)) as there:
            until(lambda: _answers(found, there.getsockname()), "the addresses to be usable")  # duplicate address detection
        yield found


def _answers(made, address):
    with inside(made.client, lambda: socket.socket(socket.AF_INET6)) as out:
        return out.connect_ex(address) == 0


@pytest.fixture
def run(made):
    """Commands in the client's namespace, where the pod would be; whatever a test leaves is taken away."""
    def within(words, text=None):
        return shell(["nsenter", f"--net={made.client}", *words], timeout_s=20, check=False, input=text)

    yield within
    assert netrules.remove(within, TABLE) == ""


@pytest.fixture
def listener(made):
    """A TCP listener on both families in the server's namespace."""
    def listen(family, address):
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address, PORT))
        found.listen(16)
        found.settimeout(2)
        return found

    both = inside(made.server, lambda: (listen(socket.AF_INET, made.server4), listen(socket.AF_INET6, made.server6)))
    yield both[0]
    for one in both:
        one.close()


def connect(made, address, timeout=0.7):
    return inside(made.client, lambda: socket.create_connection((address, PORT), timeout=timeout))


def why_not(made, address):
    """How a new connection ends: "" when it works, else the kind of the error."""
    begin = time.monotonic()
    try:
        connect(made, address).close()
    except TimeoutError:
        return "silence"
    except OSError as error:
        assert time.monotonic() - begin < 0.5
        return type(error).__name__
    return ""


def established(made, listener):
    here = connect(made, made.server4)
    there, _ = listener.accept()
    there.settimeout(0.7)
    here.settimeout(0.7)
    return here, there


def test_drop_is_silence_also_to_established_flows_and_counted(made, run, listener):
    here, there = established(made, listener)
    assert (why_not(made, made.server4), why_not(made, made.server6)) == ("", "")
    netrules.apply(run, TABLE, Rules("drop"))
    assert sum(netrules.packets(run, TABLE).values()) == 0
    here.sendall(b"x")
    with pytest.raises(TimeoutError):
        there.recv(1)
    assert (why_not(made, made.server4), why_not(made, made.server6)) == ("silence", "silence")
    assert netrules.packets(run, TABLE)["out"] > 2
    assert netrules.remove(run, TABLE) == ""
    assert netrules.packets(run, TABLE) is None
    there.settimeout(5)
    assert there.recv(1) == b"x"  # TCP's own retry, once the network is whole
    assert (why_not(made, made.server4), why_not(made, made.server6)) == ("", "")


def test_reject_is_an_answer_and_leaves_established_flows_waiting(made, run, listener):
    here, there = established(made, listener)
    netrules.apply(run, TABLE, Rules("reject"))
    assert why_not(made, made.server4) not in ("", "silence")
    assert why_not(made, made.server6) != ""  # on its way out an IPv6 packet is dropped, and the kernel tells its sender nothing
    here.sendall(b"x")
    netrules.remove(run, TABLE)
    there.settimeout(5)
    assert there.recv(1) == b"x"


def broken(connection):
    try:
        connection.sendall(b"x")
    except (ConnectionError, PermissionError):
        return True
    return False


def test_reset_kills_established_flows(made, run, listener):
    here, there = established(made, listener)
    netrules.apply(run, TABLE, Rules("reset"))
    there.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        there.recv(1)
    until(lambda: broken(here), "the other end to be told as well")
    assert why_not(made, made.server4) == "ConnectionRefusedError"
    assert netrules.packets(run, TABLE)["out"] > 0


@pytest.mark.parametrize(("family", "four", "six"), [("ipv4", "silence", ""), ("ipv6", "", "silence")])
def test_by_family(made, run, listener, family, four, six):
    netrules.apply(run, TABLE, Rules("drop", family=family))
    assert (why_not(made, made.server4), why_not(made, made.server6)) == (four, six)


@pytest.mark.parametrize("direction", ["in", "out"])
def test_by_direction(made, run, listener, direction):
    netrules.apply(run, TABLE, Rules("drop", direction=direction))
    assert why_not(made, made.server4) == "silence"
    assert set(netrules.packets(run, TABLE)) == {direction}
    heard = inside(made.server, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with heard, inside(made.client, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as out:
        heard.bind((made.server4, 0))
        heard.settimeout(0.5)
        if direction == "in":
            out.sendto(b"x", heard.getsockname())
            assert heard.recv(1) == b"x"
        else:
            with pytest.raises(PermissionError):  # a local sender is told by the output hook
                out.sendto(b"x", heard.getsockname())


def test_by_peer_and_port_and_who_is_spared(made, run, listener):
    netrules.apply(run, TABLE, Rules("drop", peers=("192.0.2.99", "2001:db8::99")))
    assert why_not(made, made.server4) == ""
    netrules.apply(run, TABLE, Rules("drop", peers=(made.server4,)))
    assert (why_not(made, made.server4), why_not(made, made.server6)) == ("silence", "")
    netrules.apply(run, TABLE, Rules("drop", spared=(made.server4,)))
    assert (why_not(made, made.server4), why_not(made, made.server6)) == ("", "silence")
    netrules.apply(run, TABLE, Rules("drop", port=PORT + 1))
    assert why_not(made, made.server4) == ""
    netrules.apply(run, TABLE, Rules("drop", port=PORT))
    assert why_not(made, made.server4) == "silence"


def through(made, count, octets, family=socket.AF_INET):
    """How many of ``count`` datagrams that come in at the client arrive."""
    heard = inside(made.client, lambda: socket.socket(family, socket.SOCK_DGRAM))
    with heard, inside(made.server, lambda: socket.socket(family, socket.SOCK_DGRAM)) as out:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        heard.bind((made.client4, 0))
        heard.setblocking(False)
        got = 0
        for n in range(count):
            out.sendto(b"x" * octets, heard.getsockname())
            got += n % 20 == 19 and _drain(heard)
        return got + _drain(heard)


def _drain(heard):
    got = 0
    try:
        while True:
            heard.recv(2000)
            got += 1
    except BlockingIOError:
        return got


def test_loss_loses_its_share(made, run):
    assert through(made, 400, 20) == 400
    netrules.apply(run, TABLE, Rules("loss", share=0.3))
    got = through(made, 2000, 20)
    assert 1250 < got < 1550  # 1400 ± 7 standard deviations
    assert netrules.packets(run, TABLE)["in"] == 2000 - got


def test_a_rate_is_kept(made, run):
    netrules.apply(run, TABLE, Rules("rate", kbytes_per_s=20))
    got = through(made, 100, 972)  # 1000 octets each with its headers: 100 kB, of which the burst of 20 kB passes
    assert 15 <= got <= 30
    assert netrules.packets(run, TABLE)["in"] == 100 - got


def test_a_delay_delays_or_is_not_supported_here(made, run, listener):
    if run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]).code != 0:  # asked of the kernel on its own
        with pytest.raises(NotSupported, match="netem"):
            netrules.delay(run, made.interface, 200, 0)
        assert netrules.delayed(run, made.interface) is None
        return
    netrules.delay(run, made.interface, 200, 0)
    begin = time.monotonic()
    connect(made, made.server4, 3).close()
    assert 0.2 <= time.monotonic() - begin < 1
    assert netrules.delayed(run, made.interface) > 0
    assert netrules.undelay(run, made.interface) == ""
    assert netrules.undelay(run, made.interface) == ""


def test_what_nft_does_not_take_is_no_silent_success(made, run):
    rules = Rules("drop", peers=("192.0.2.1",))
    with pytest.raises((FaultFailed, NotSupported)):
        netrules.apply(lambda words, text: run(words, None if text is None else text.replace("counter drop", "counter dorp")), TABLE, rules)
    with pytest.raises(FaultFailed, match="not in force"):  # planted: nft says yes and does nothing
        netrules.apply(lambda words, text: run(["true"] if text else words, text), TABLE, rules)
    with pytest.raises(FaultFailed, match="no ipv6 address"):
        Rules("drop", family="ipv6", peers=("192.0.2.1",)).text(TABLE)
    netrules.apply(run, TABLE, rules)
    assert netrules.remove(lambda words, text: run(["true"] if "delete" in words else words, text), TABLE) == f"table inet {TABLE} is still there"


@pytest.mark.parametrize("spoilt", [{"verdict": "melt"}, {"direction": "up"}, {"family": "ipv5"}, {"verdict": "loss"}, {"verdict": "rate"}])
def test_what_cannot_be_meant_is_refused(spoilt):
    with pytest.raises(FaultFailed):
        Rules(**{"verdict": "drop", **spoilt})
