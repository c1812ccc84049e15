"""A stack that changes nodes is for our own nodes only; what nodes say decides (a stand-in for the engine answers in their place)."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import CleanupIncomplete, GuardRefused
from harness.model.target import Node, Target
from harness.stack import nodecache

CHANGING = [{"kind": "DaemonSet", "metadata": {"name": "node-local-dns", "labels": {nodecache.LABEL: "yes"}}}]
NODES = (Node("worker", "worker", ("192.0.2.1",)),)


def target(kind: str = "kind") -> Target:
    return Target(kind, "t", "", "", "u", NODES, (), (), ())


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``docker exec`` prints; nothing changes it, as on a node whose rules cannot be removed."""
    told = tmp_path / "told"
    told.write_text("")
    command = tmp_path / "docker"
    command.write_text(f'#!/bin/sh\n[ "$1" = inspect ] && echo true || cat {told}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return told


def test_foreign_nodes_are_not_changed() -> None:
    with pytest.raises(GuardRefused, match="ours on kind only"):
        nodecache.allow(target("context"), CHANGING, "ns")
    nodecache.allow(target("context"), [{"kind": "Deployment", "metadata": {"name": "x"}}], "ns")
    assert nodecache.clear(target("context"), "ns") == []


@pytest.mark.parametrize(("told", "refused"), [("", ""), ("owner=ns\naddress=lo\n", ""), ("owner=other\n", "that of other"), ("address=lo\n", "is on lo already")])
def test_a_second_cache_is_refused(says: Path, told: str, refused: str) -> None:
    says.write_text(told)
    if not refused:
        nodecache.allow(target(), CHANGING, "ns")
        return
    with pytest.raises(GuardRefused, match=refused):
        nodecache.allow(target(), CHANGING, "ns")


def test_what_cannot_be_removed_is_exit_10(says: Path) -> None:
    says.write_text("owner=ns\naddress=lo\n")
    with pytest.raises(CleanupIncomplete, match="still on worker") as error:
        nodecache.clear(target(), "ns")
    assert error.value.exit_code == 10


@pytest.mark.parametrize("told", ["", "owner=other\naddress=lo\n", "address=lo\n"])
def test_what_is_not_ours_is_not_cleared(says: Path, told: str) -> None:
    says.write_text(told)
    assert nodecache.clear(target(), "ns") == []
