"""What of an arm runs beside what: DNS look-ups beside the load and its faults, none while queues settle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from harness.rehearse import arm as arm_module
from harness.rehearse.arm import ArmRun
from harness.stack.deployed import Stack


class _Arm:
    """As much of an arm as its mail needs."""

    def __init__(self, seen: list[str]) -> None:
        self.seen, self.checkout, self.progress = seen, None, None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.seen.append(name)
        yield


def beside(seen: list[str], name: str) -> Callable[..., Any]:
    @contextmanager
    def run(*_: object) -> Iterator[Any]:
        seen.append(f"{name} begins")
        yield type("Counted", (), {"finish": lambda self: None})()
        seen.append(f"{name} ends")

    return run


def test_nobody_looks_names_up_while_queues_settle(monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []
    for name in ("counting", "looking_up", "faults_beside"):
        monkeypatch.setattr(arm_module, name, beside(seen, name))
    for name in ("prove_path", "run_load", "heal", "_recorder", "_answers", "_settle", "_census", "with_queues"):
        monkeypatch.setattr(arm_module, name, lambda *_, **__: None)
    monkeypatch.setattr(arm_module.specs, "census", lambda *_, **__: None)
    monkeypatch.setattr(arm_module.relief, "lift_cpu_limits", lambda *_, **__: ())
    arm_module._mail(cast(ArmRun, _Arm(seen)), cast(Stack, None))
    assert seen == [
        "counting begins", "looking_up begins", "faults_beside begins", "load", "heal", "faults_beside ends", "looking_up ends", "settle", "counting ends", "census",
    ]
