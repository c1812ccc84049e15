"""``mailgale dns count`` in a pod of the real stack: the talk's numbers with the pod's own resolv.conf and the lab's own DNS."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import cli
from harness.dns.count import TALK_SEARCH
from harness.stack.deployed import Stack

pytestmark = pytest.mark.cluster

NAME, GONE = "client-198-51-100-7.example.net", "gone.example.net"


def count(stack: Stack, *words: str) -> dict[str, Any]:
    pod = stack.cluster.pods(stack.namespace, component="mx")[0].name
    argv = ["dns", "count", *words, "--pod", f"{stack.namespace}/{pod}", "--libc", "glibc", "--family", "any", "-o", "json"]
    result = CliRunner().invoke(cli, argv, standalone_mode=False, catch_exceptions=False)
    document: dict[str, Any] = json.loads(result.stdout)
    assert result.return_value == 0, document
    return document


def test_the_talks_numbers_in_a_pod(stack: Stack):
    document = count(stack, NAME, f"{NAME}.", GONE)
    assert tuple(document["search"]) == TALK_SEARCH
    seen = {(u["name"], u["ndots"]): u["queries"] for u in document["look_ups"]}
    assert seen == {(NAME, 5): 12, (NAME, 1): 2, (f"{NAME}.", 5): 2, (f"{NAME}.", 1): 2, (GONE, 5): 12, (GONE, 1): 12}
    assert all(u["exact"] for u in document["look_ups"])
    assert {u["name"]: bool(u["found"]) for u in document["look_ups"]} == {NAME: True, f"{NAME}.": True, GONE: False}


def test_a_pod_on_its_nodes_network_is_refused(stack: Stack):
    edge = next(p for p in stack.cluster.pods(stack.namespace) if p.raw["spec"].get("hostNetwork"))
    result = CliRunner().invoke(cli, ["dns", "count", NAME, "--pod", f"{stack.namespace}/{edge.name}"], standalone_mode=False)
    assert "hostNetwork" in str(result.exception)
