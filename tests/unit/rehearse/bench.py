"""A conductor that runs without a mail platform: everything about the run directory is real, an arm's history is written by harness.selftest.

The cluster is a small API server over a real socket (tests.servers.fake_api); what an arm does is given by the test.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.model.plan import Plan
from harness.rehearse import conductor
from harness.rehearse.arm import ArmRun
from harness.rehearse.conductor import Ended, Options, rehearse
from harness.selftest.builder import ArmBuilder
from harness.selftest.friday import friday_arm, friday_plan
from harness.stack import lifecycle
from harness.stack.images import Image
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from tests.servers.fake_api import FakeApi
from tests.servers.rig import Notes

Act = Callable[[ArmRun], None]


def write(arm: ArmRun, spoil: Callable[[ArmBuilder], None] = lambda made: None) -> None:
    """The arm's history as it looks when all is well, or as ``spoil`` leaves it."""
    arm.log.close()
    arm.directory.conductor_log.unlink()
    made = friday_arm(arm.plan, arm.arm.name, arm.block)
    spoil(made)
    made.write(arm.directory)


def half(made: ArmBuilder) -> None:
    """Stopped before its census: acknowledged mail that nobody looked for."""
    made.absent.add("census.log")
    made.unclosed.add("observe.log")


@dataclass
class Bench:
    """Runs ``plan`` as the command would. ``acts``: arm's name → what happens in it, once; then it ends well."""

    root: Path
    api: FakeApi
    monkeypatch: pytest.MonkeyPatch
    plan: Plan = field(default_factory=friday_plan)
    images: dict[str, Image] = field(default_factory=lambda: {"mx": Image("mx", "mailgale/mx:1", "sha256:1")})
    acts: dict[str, Act] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ran: list[str] = []
        self.notes = Notes()
        self.checkout = Checkout(self.root / "checkout")
        (self.checkout.root / "harness").mkdir(parents=True)
        (self.checkout.root / "harness" / "a.py").write_text("a = 1\n")
        shutil.copytree(Checkout.find().root / "deploy" / "roles", self.checkout.root / "deploy" / "roles")
        self.target = self.api.target(self.root)
        self.monkeypatch.setattr(lifecycle, "prepare", lambda *_, **__: self.images)
        self.monkeypatch.setattr(conductor, "run_arm", self._arm)

    def run(self, **options: object) -> Ended:
        return rehearse(self.plan, self.target, self.checkout, Options(**options), self.notes)  # type: ignore[arg-type]

    def runs(self) -> list[RunDir]:
        return [RunDir.open(p) for p in sorted(self.checkout.runs.glob("*"))]

    def _arm(self, arm: ArmRun) -> None:
        self.ran.append(arm.directory.label)
        act = self.acts.pop(arm.arm.name, None)
        if act is None:
            write(arm)
        else:
            act(arm)
