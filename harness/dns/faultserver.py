"""The fault proxy as a server of its own, told its rules while it runs: ``python3 -m harness.dns.faultserver``.

Environment: ``UPSTREAM`` (IPv4 address of the real resolver, ``:PORT`` if not 53), ``PORT`` (53), ``CONTROL`` (9353), ``RULES`` (a list of rules as
JSON that hold from the begin; none). Without rules it only passes on.

``GET /counters`` on the control port answers JSON: ``seen``, ``passed``, ``unanswered`` and, for each rule since it was set, ``picked`` and ``struck``
(``rules``), with the sum of all rules that were (``struck``). ``PUT /rules`` takes a list of rules, on loopback only; a rule that cannot be is refused with
400 and changes nothing. ``python3 -m harness.dns.faultserver rules JSON`` does that from inside and prints the counters, ``counters`` only prints them.
It needs dnspython and nothing else of mailgale but its own modules, so that an image can hold it.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness.dns.faults import Fault, Rule
from harness.dns.proxy import FaultProxy, Struck, fault_proxy
from harness.errors import UsageError

CONTROL_PORT = 9353
_TIMEOUT_S = 5.0
_BODY_MAX = 1 << 20
_LISTS = ("zones", "sources")


def rule_of(data: Mapping[str, Any]) -> Rule:
    """A rule from JSON: ``{"fault": "servfail", "qtypes": ["MX"], "zones": [], "sources": [], "rate": 1, "delay_s": 0, "data": {}}``.

    :raises UsageError: an unknown key or fault, or a value that cannot be.
    """
    unknown = sorted(set(data) - set(Rule.__dataclass_fields__))
    if unknown:
        raise UsageError(f"unknown key '{unknown[0]}'", where="DNS fault", todo=f"one of {', '.join(Rule.__dataclass_fields__)}")
    try:
        given: dict[str, Any] = {**data, "fault": Fault(str(data.get("fault"))), "qtypes": frozenset(data.get("qtypes", ()))}
        return Rule(**{**given, **{k: tuple(data.get(k, ())) for k in _LISTS}})
    except (ValueError, TypeError) as error:
        raise UsageError(f"no such rule: {error}", where="DNS fault", todo=f"faults: {', '.join(Fault)}") from error


class Controlled:
    """A proxy whose rules change; what the rules before struck stays counted."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy, self._before = proxy, 0
        self._lock = threading.Lock()

    def put(self, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Put ``rules`` in the place of those that hold; the counters then."""
        made = [Struck(rule_of(r)) for r in rules]
        with self._lock:
            self._before += sum(s.struck for s in self.proxy.struck)
            self.proxy.struck = made
        return self.counters()

    def counters(self) -> dict[str, Any]:
        """What the proxy has counted."""
        p, now = self.proxy, list(self.proxy.struck)
        return {
            "seen": p.seen, "passed": p.passed, "unanswered": p.unanswered, "struck": self._before + sum(s.struck for s in now),
            "rules": [{"fault": str(s.rule.fault), "picked": s.picked, "struck": s.struck} for s in now],
        }


def _handler(controlled: Controlled) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*((200, controlled.counters()) if self.path == "/counters" else (404, {"error": "only /counters is here"})))

        def do_PUT(self) -> None:
            if self.client_address[0] not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
                self._answer(403, {"error": "rules are set from inside only"})
                return
            try:
                body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), _BODY_MAX))
                self._answer(200, controlled.put(json.loads(body)))
            except (ValueError, UsageError, AttributeError, TypeError) as error:
                self._answer(400, {"error": str(error)})

        def _answer(self, code: int, body: Mapping[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Requests are not logged: they come every few seconds."""

    return Handler


class _Control(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def serve(upstream: tuple[str, int], port: int, control: int, stop: threading.Event, rules: Sequence[Rule] = ()) -> None:
    """Pass on until ``stop`` is set. Raises OSError when a port cannot be had."""
    udp, tcp = _sockets(port)
    with fault_proxy(FaultProxy(upstream, rules), udp, tcp) as proxy, _Control(("::", control), _handler(Controlled(proxy))) as http_server:
        threading.Thread(target=http_server.serve_forever, name="control", daemon=True).start()
        stop.wait()
        http_server.shutdown()


def _sockets(port: int) -> tuple[list[socket.socket], list[socket.socket]]:
    made = []
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        one = socket.socket(socket.AF_INET, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("0.0.0.0", port))
        one.setblocking(False)
        made.append(one)
    made[1].listen(256)
    return [made[0]], [made[1]]


def ask(method: str, path: str, body: str | None = None) -> tuple[int, str]:
    """One request to the control port of this host; (status, text). Raises OSError when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", _control_port(), timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _control_port() -> int:
    return int(os.environ.get("CONTROL", str(CONTROL_PORT)))


def main(argv: Sequence[str]) -> int:
    """See the module. Exit code 0, 1 when the rules were refused, 2 for a wrong command or environment."""
    if argv:
        if argv[0] not in ("rules", "counters") or len(argv) != 1 + (argv[0] == "rules"):
            sys.stderr.write("usage: faultserver [rules JSON | counters]\n")
            return 2
        status, text = ask("PUT", "/rules", argv[1]) if argv[0] == "rules" else ask("GET", "/counters")
        sys.stdout.write(text + "\n")
        return 0 if status == http.HTTPStatus.OK else 1
    try:
        rules = [rule_of(r) for r in json.loads(os.environ.get("RULES") or "[]")]
    except (ValueError, TypeError, UsageError) as error:
        sys.stderr.write(f"RULES: {error}\n")
        return 2
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    address, _, port = os.environ["UPSTREAM"].partition(":")
    serve((address, int(port or 53)), int(os.environ.get("PORT", "53")), _control_port(), stop, rules)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
