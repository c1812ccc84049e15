"""The fault proxy as a program: rules come and go while it serves, what they struck stays counted, and what cannot be a rule changes nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from harness.dns.responder import Responder
from harness.dns.serve import serving
from tests.servers.dnslab import bound, until

DATA = {"example.net.": {"MX": ["10 mx.example.net."]}, "mx.example.net.": {"A": ["198.51.100.1"]}}
Tell = Callable[..., tuple[int, dict[str, Any]]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[tuple[int, Tell]]:
    """The proxy's port, and a function that tells it something and returns (exit code, what it said). A parameter is its RULES."""
    port, udp, tcp = bound()
    mine, control = free_port(), free_port()
    env = {**os.environ, "UPSTREAM": f"127.0.0.1:{port}", "PORT": str(mine), "CONTROL": str(control), "RULES": getattr(request, "param", "")}
    command = [sys.executable, "-m", "harness.dns.faultserver"]

    def tell(*words: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run([*command, *words], env=env, capture_output=True, text=True, timeout=20, check=False)
        return done.returncode, json.loads(done.stdout)

    with serving(Responder(DATA), udp, tcp):
        process = subprocess.Popen(command, env=env)
        try:
            until(lambda: _listens(control), "the control port")
            yield mine, tell
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def asked(port: int, name: str, kind: str) -> str:
    try:
        return dns.rcode.to_text(dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", port=port, timeout=2).rcode())
    except dns.exception.Timeout:
        return "timeout"


def test_rules_come_and_go_and_stay_counted(server: tuple[int, Tell]) -> None:
    port, tell = server
    assert asked(port, "example.net.", "MX") == "NOERROR"
    assert tell("rules", json.dumps([{"fault": "servfail", "qtypes": ["MX"]}]))[0] == 0
    assert [asked(port, "example.net.", "MX"), asked(port, "mx.example.net.", "A")] == ["SERVFAIL", "NOERROR"]
    assert tell("counters")[1]["rules"] == [{"fault": "servfail", "picked": 1, "struck": 1}]
    assert tell("rules", "[]") == (0, {"seen": 3, "passed": 2, "unanswered": 0, "struck": 1, "rules": []})
    assert asked(port, "example.net.", "MX") == "NOERROR"


@pytest.mark.parametrize("rules", ['[{"fault": "nonsense"}]', '[{"fault": "servfail", "qtype": ["MX"]}]', '[{"fault": "delay"}]', "no json", '{"fault": 1}', '[{"fault": "drop", "qtypes": ["XX"]}]'])
def test_what_cannot_be_a_rule_changes_nothing(server: tuple[int, Tell], rules: str) -> None:
    port, tell = server
    tell("rules", '[{"fault": "nxdomain"}]')
    code, said = tell("rules", rules)
    assert code == 1
    assert said["error"]
    assert asked(port, "example.net.", "MX") == "NXDOMAIN"


@pytest.mark.parametrize("server", ['[{"fault": "delay", "delay_s": 0.3}]'], indirect=True)
def test_rules_of_the_environment_hold_from_the_begin(server: tuple[int, Tell]) -> None:
    port, tell = server
    begin = time.monotonic()
    assert asked(port, "example.net.", "MX") == "NOERROR"
    assert 0.3 <= time.monotonic() - begin < 1.5
    assert tell("counters")[1]["rules"] == [{"fault": "delay", "picked": 1, "struck": 1}]


@pytest.mark.parametrize("rules", ['[{"fault": "nonsense"}]', "no json", "7"])
def test_rules_of_the_environment_that_cannot_be_end_it(rules: str) -> None:
    env = {**os.environ, "UPSTREAM": "127.0.0.1:1", "PORT": str(free_port()), "CONTROL": str(free_port()), "RULES": rules}
    done = subprocess.run([sys.executable, "-m", "harness.dns.faultserver"], env=env, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr.startswith("RULES: ")) == (2, True)
