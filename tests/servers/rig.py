"""A whole run without a mail platform: the real conductor, load engine, observer, census, judge and report.

Real are all processes and files; the mail goes to the sink of tests.servers.load_sink, the cluster is tests.servers.fake_api.
Left out is only what a real cluster is needed for: images, deploying, and the proof that nothing leaves.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.run import _told
from harness.kube.client import Cluster
from harness.model.plan import LoadSpec as PlannedLoad
from harness.model.plan import Plan
from harness.rehearse import arm as arm_module
from harness.rehearse import specs
from harness.rehearse.arm import ArmRun
from harness.rehearse.conductor import Ended, Options, rehearse
from harness.selftest.friday import friday_plan
from harness.stack import lifecycle
from harness.stack.deployed import Stack
from harness.stack.images import Image
from harness.store.run import RunDir
from harness.support.checkout import Checkout
from harness.support.progress import SilentProgress
from tests.servers.fake_api import FakeApi
from tests.servers.load_runs import Ledger, make_spec
from tests.servers.load_sink import Sink

LOAD: dict[str, Any] = {
    "elastic_senders": 4, "backlog_per_sender": 40, "watchers": 0, "warmup_s": 0.5, "tail_s": 0.5, "burst_max_s": 20, "min_backoff_s": 20, "max_backoff_s": 40,
}


def small_plan(**changes: Any) -> Plan:
    """Two arms, settled within seconds."""
    return replace(friday_plan(), load=PlannedLoad("friday", {}, 20, 5), **changes)


class Notes(SilentProgress):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Rig:
    """Runs ``plan`` in a checkout of its own.

    :param load: parameters of the load, for every arm.
    :param on_up: called when an arm's stack would be ready.
    """

    root: Path
    api: FakeApi
    sink: Sink
    monkeypatch: pytest.MonkeyPatch
    plan: Plan = field(default_factory=small_plan)
    load: dict[str, Any] = field(default_factory=lambda: dict(LOAD))
    on_up: Callable[[ArmRun], None] = lambda arm: None

    def __post_init__(self) -> None:
        self.notes = Notes()
        real, self.checkout = Checkout.find(), Checkout(self.root / "checkout")
        self.checkout.root.mkdir(parents=True)
        (self.checkout.root / "deploy").symlink_to(real.root / "deploy")
        self.target = self.api.target(self.root)
        self.monkeypatch.setattr(lifecycle, "prepare", lambda *_, **__: {"mx": Image("mx", "mailgale/mx:1", "sha256:1")})
        self.monkeypatch.setattr(arm_module, "_up", self._up)
        self.monkeypatch.setattr(arm_module, "_isolated", lambda *_: None)
        self.monkeypatch.setattr(specs, "load", self._load)

    def run(self, **options: Any) -> Ended:
        return rehearse(self.plan, self.target, self.checkout, Options(**options), self.notes)

    def told(self, ended: Ended) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of the command."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = _told(ended, "text", took_s=1.0)
        return code, out.getvalue(), err.getvalue()

    def ledger(self, run: RunDir, arm: str) -> Ledger:
        return Ledger.read(run.path / "arms" / f"1-{arm}" / "load-1.log")

    def _up(self, arm: ArmRun) -> Stack:
        namespace = arm_module.namespace_of(arm)
        labels = {"app.kubernetes.io/managed-by": "mailgale", "mailgale.dev/checkout": self.checkout.id, "mailgale.dev/run": arm.run_id}
        self.api.namespace(namespace, **labels)
        self.on_up(arm)
        return Stack(
            namespace=namespace, target=self.target, cluster=Cluster(self.target), checkout_id=self.checkout.id, run_id=arm.run_id,
            profile="minimal", variants=(), edge4="127.0.0.1", edge6="", password="none", users=4, mail_domain="example.org",
            cluster_domain="cluster.local", dns_address="", ca_pem="", images={}, manifests_sha256="", time_scale=100.0,
        )

    def _load(self, arm: ArmRun, stack: Stack) -> Any:
        return make_spec(arm.directory.path, self.sink.port, self.load, run_id=arm.run_id, arm=arm.directory.label)


def recorded(sink: Sink, ledgers: list[Ledger], run_id: str) -> None:
    """Every mail that the sink got stands in a ledger as begun, and every acceptance that a ledger has was the sink's."""
    begun, accepted = set(), set()
    for ledger in ledgers:
        prefix = next((e for e in ledger.kinds("log_opened")), None)
        assert prefix is not None
        index = ledger.kinds("recipients")[0]["addresses"]
        begun |= {(i["mail"], index[i["rcpt"]]) for i in ledger.invokes}
        accepted |= {(d["mail"], index[d["rcpt"]]) for d in ledger.dones if d["outcome"] == 1}
    got = {(int(trace.rsplit(".", 1)[1]), address) for trace, address in sink.recipients if trace.startswith(run_id)}
    assert got, "the sink got nothing: nothing was tested"
    assert got <= begun, "mail was sent that is not on record"
    assert accepted <= got
