"""``python -m harness.dns.sensors SPEC.json LOG [once]``: the laboratory's sensors, each second, from this machine.

``dns_resolver``: TCP slots in use (``tcpusage``, whole and by thread) and counters of unbound over its control channel
(unbound-control(8), ``stats_noreset``), its listeners' queue (proc(5), ``net/tcp``) and ``ListenOverflows`` of its network.
``dns_cache``: connection reuse and requests of CoreDNS (metrics page), a few caches each second in turn.
With ``once``: an account of everything at one moment (``dns_account``) instead, for the sums before and after the load.
Nothing is asked over port 53: a question would take one of the slots that are counted. Works where the pods' network can be entered.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from harness.dns.labspec import LabSpec
from harness.dns.netns import inside
from harness.errors import MailgaleError, NotReady, RecordLost
from harness.store.log import LogWriter

_EVERY_S = 1.0
_ASK_S = 2.0
_CONTROL = ("127.0.0.1", 8953)
_METRICS = 9153
#: Metrics pages are long: so many caches each second.
_CACHES_EACH = 4
_LISTEN, _PORT = "0A", 53
_SAMPLE = re.compile(r"^coredns_(\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_STATISTICS = {
    "total.num.queries": "queries", "num.query.tcp": "queries_tcp", "total.num.recursivereplies": "replies", "total.num.cachehits": "hits",
    "total.requestlist.exceeded": "exceeded", "num.answer.rcode.SERVFAIL": "servfail", "total.tcpusage": "slots",
    "total.num.queries_discard_timeout": "discarded", "total.num.queries_wait_limit": "over_wait_limit",
}


class Resolver:
    """The unbound under test.

    :param process: directory of its process below a proc(5) file system.
    """

    def __init__(self, process: Path) -> None:
        self._process = process

    def control(self, command: str) -> str:
        """What unbound-control would print. Source: daemon/remote.c (``UBCT1 command``); without certificates, as the manifest says.

        :raises NotReady: it does not answer.
        """
        try:
            channel = inside(self._process / "ns" / "net", lambda: socket.create_connection(_CONTROL, _ASK_S))
            with channel:
                channel.sendall(f"UBCT1 {command}\n".encode())
                return _all(channel).decode()
        except OSError as error:
            raise NotReady(f"unbound's control channel: {error}") from error

    def sample(self) -> dict[str, Any]:
        """Counters and gauges of this moment."""
        said = dict(line.partition("=")[::2] for line in self.control("stats_noreset").splitlines())
        threads = sorted((k for k in said if re.fullmatch(r"thread\d+\.tcpusage", k)), key=lambda k: int(k[6:].partition(".")[0]))
        found = {name: int(float(said[key])) for key, name in _STATISTICS.items() if key in said}
        return {**found, "slots_by_thread": [int(said[k]) for k in threads], "recv_q": self._queue(), **self._overflows()}

    def settings(self) -> dict[str, Any]:
        """Version and the factors as they are in force."""
        status = self.control("status")
        version = re.search(r"^version: (\S+)", status, re.MULTILINE)
        return {
            "version": version[1] if version else "", "threads": int(self.control("get_option num-threads")),
            "incoming_num_tcp": int(self.control("get_option incoming-num-tcp")),
        }

    def _queue(self) -> int:
        """Connections that wait to be accepted, over all listeners on port 53."""
        lines = [line.split() for line in (self._process / "net" / "tcp").read_text().splitlines()[1:]]
        return sum(int(w[4].partition(":")[2], 16) for w in lines if w[3] == _LISTEN and int(w[1].partition(":")[2], 16) == _PORT)

    def _overflows(self) -> dict[str, int]:
        rows = [line.split() for line in (self._process / "net" / "netstat").read_text().splitlines() if line.startswith("TcpExt:")]
        known = dict(zip(rows[0], rows[1], strict=False))
        return {"listen_overflows": int(known.get("ListenOverflows", 0)), "listen_drops": int(known.get("ListenDrops", 0))}


def _all(channel: socket.socket) -> bytes:
    got = b""
    while part := channel.recv(1 << 16):
        got += part
    return got


def cache_counters(page: str) -> dict[str, int]:
    """Requests and use of connections by transport, from a metrics page of CoreDNS."""
    found: dict[str, int] = {}
    for name, labels, value in _SAMPLE.findall(page):
        proto = dict(_LABEL.findall(labels)).get("proto", "")
        key = {
            "dns_requests_total": "requests", "proxy_conn_cache_hits_total": f"reused_{proto}", "proxy_conn_cache_misses_total": f"opened_{proto}",
        }.get(name)
        if key:
            found[key] = found.get(key, 0) + int(float(value))
    return found


class Sensors:
    """All sensors of one arm, writing one log."""

    def __init__(self, spec: LabSpec, log: LogWriter) -> None:
        self._spec, self._log = spec, log
        self._resolver = Resolver(Path(spec.resolver))
        self._turn = 0

    def settings(self) -> None:
        """What is in force, once. :raises NotReady: unbound does not say."""
        self._log.event("dns_settings", caches=len(self._spec.caches), **self._resolver.settings())

    def account(self) -> None:
        """Everything at one moment.

        :raises NotReady: something does not answer; then there is no account.
        """
        self._log.event("dns_account", where="resolver", **self._resolver.sample())
        for pod in sorted(self._spec.caches):
            self._log.event("dns_account", where=pod, **self._cache(pod))

    def sample(self) -> None:
        """One round."""
        try:
            self._log.event("dns_resolver", **self._resolver.sample())
        except (NotReady, OSError, ValueError, KeyError) as error:
            self._missed("dns_resolver", error)
        pods = sorted(self._spec.caches)
        for pod in {pods[(self._turn + n) % len(pods)] for n in range(_CACHES_EACH)}:
            try:
                self._log.event("dns_cache", pod=pod, **self._cache(pod))
            except NotReady as error:
                self._missed(f"dns_cache {pod}", error)
        self._turn += _CACHES_EACH
        self._log.flush()

    def _missed(self, what: str, error: Exception) -> None:
        self._log.event("sample_missed", what=what, why=str(error)[:300])

    def _cache(self, pod: str) -> dict[str, int]:
        address = self._spec.caches[pod]
        connection = http.client.HTTPConnection(address, _METRICS, timeout=_ASK_S)
        try:
            connection.sock = inside(Path(self._spec.network), lambda: socket.create_connection((address, _METRICS), _ASK_S))
            connection.request("GET", "/metrics")
            return cache_counters(connection.getresponse().read().decode())
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(f"the metrics page of {pod} does not come: {error}") from error
        finally:
            connection.close()


def follow(spec: LabSpec, log: LogWriter, stop: threading.Event) -> None:
    """Sample until ``stop`` is set or the parent is gone. :raises NotReady: unbound never answered."""
    sensors, parent, due = Sensors(spec, log), os.getppid(), time.monotonic()
    sensors.settings()
    while not stop.is_set() and os.getppid() == parent:
        sensors.sample()
        due = max(due + _EVERY_S, time.monotonic())
        stop.wait(due - time.monotonic())


def main(path: Path, log_name: str, *, once: bool) -> int:
    """Run the sensors; exit code 0 when their log was closed well.

    :raises MailgaleError: they could not begin, or their record could not be written.
    """
    spec, stop = LabSpec.read(path), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with LogWriter(Path(spec.arm_dir) / log_name, "sensors") as log:
            if once:
                Sensors(spec, log).account()
            else:
                follow(spec, log, stop)
    except OSError as error:
        raise RecordLost.of(error, log_name) from error
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2], once=sys.argv[3:] == ["once"]))
    except MailgaleError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
