"""How defects of the harness itself are planted in a history or in a run's directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from harness.selftest.builder import ArmBuilder, HistoryBuilder, ns
from harness.store.run import RunDir

JUMP_AT = 40.0


def _first(history: HistoryBuilder) -> ArmBuilder:
    return history.arms[0]


def no_deferrals(history: HistoryBuilder) -> None:
    """Every mail is taken at its first attempt."""
    for mail in _first(history).mails:
        mail.attempts = [a for a in mail.attempts if not a.deferral]


def did_nothing(history: HistoryBuilder) -> None:
    """The fault claims evidence, but the samplers see the same pod before and after."""
    arm = _first(history)
    arm.events["observe.log"] = [e for e in arm.events["observe.log"] if not (e["kind"] == "pod" and e["t"] >= ns(40))]
    _restore_uids(arm)


def _restore_uids(arm: ArmBuilder) -> None:
    for pod in arm.of("conductor.log", "pods_at_end")[0]["pods"]:
        pod["uid"] = f"uid-{pod['name']}"


def _edge(arm: ArmBuilder, name: str) -> list[dict[str, object]]:
    return [e for e in arm.of("faults.log", "fault") if e["edge"] == name]


def crashed(history: HistoryBuilder) -> None:
    """The action ended with an error; its edges stop at ``failed``."""
    arm = _first(history)
    arm.events["faults.log"] = [e for e in arm.events["faults.log"] if e.get("edge") in ("armed", "triggered", "begin")]
    arm.event("faults.log", "fault", 44, name="kill-mx", fault="kill_pod", edge="failed", targets=["mx-0"], detail={"why": "403 Forbidden"})


def never_struck(history: HistoryBuilder) -> None:
    """The faults' log holds no fault."""
    _first(history).drop_events("faults.log", "fault")


def too_late(history: HistoryBuilder) -> None:
    """The fault begins after the load's end."""
    for event in _edge(_first(history), "begin"):
        event["t"] = ns(75)


def not_undone(history: HistoryBuilder) -> None:
    """No ``undone`` is on record."""
    arm = _first(history)
    arm.events["faults.log"] = [e for e in arm.events["faults.log"] if e.get("edge") != "undone"]


def drain_skips(history: HistoryBuilder) -> None:
    """The node's other pod was never asked to leave: it is in no list of the action, and at the end where it was."""
    arm = _first(history)
    for event in arm.of("faults.log", "fault"):
        event["detail"].get("left", {}).pop("filter-0", None)
        event["detail"]["pods"] = [p for p in event["detail"].get("pods", ()) if p["name"] != "filter-0"]
    arm.events["observe.log"] = [e for e in arm.events["observe.log"] if not (e["kind"] == "pod" and e["pod"] == "filter-0" and e["t"] >= ns(40))]
    for pod in arm.of("conductor.log", "pods_at_end")[0]["pods"]:
        if pod["name"] == "filter-0":
            pod.update(uid="uid-filter-0", node="worker")


def drain_moves_nothing(history: HistoryBuilder) -> None:
    """Every pod is at the end what and where it was."""
    did_nothing(history)
    for pod in _first(history).of("conductor.log", "pods_at_end")[0]["pods"]:
        pod["node"] = "worker"


def stopped(history: HistoryBuilder) -> None:
    """The load was stopped from outside."""
    _first(history).of("load-1.log", "load_end")[0]["reason"] = "stopped"


def hardly_any(history: HistoryBuilder) -> None:
    """Fifty mails only."""
    arm = _first(history)
    arm.mails = arm.mails[:50]


def hole(history: HistoryBuilder) -> None:
    """No sample of the host for 18 seconds."""
    arm = _first(history)
    arm.events["observe.log"] = [e for e in arm.events["observe.log"] if not (e["kind"] == "host" and ns(30) < e["t"] < ns(48))]


def clock(jump_s: float) -> Callable[[HistoryBuilder], None]:
    """The load's clock is ``jump_s`` off from second 40 on."""

    def plant(history: HistoryBuilder) -> None:
        arm = _first(history)
        arm.jumps["load-1.log"] = (JUMP_AT, jump_s)

    return plant


def half(history: HistoryBuilder) -> None:
    """As if the host had died: no log goes beyond second 38, there was no census."""
    arm = _first(history)
    for log in ("conductor.log", "observe.log", "load-1.log", "census.log"):
        arm.cut_log(log, 38)
    arm.scopes.clear()


def one_round(history: HistoryBuilder) -> None:
    """The second round of the census is missing."""
    arm = _first(history)
    arm.scopes = [s for s in arm.scopes if s["round"] == 1]
    for mail in arm.mails:
        for copy in mail.copies:
            copy.rounds = (1,)


def unread_mailbox(history: HistoryBuilder) -> None:
    """A mail is lost, and its recipient's mailbox could not be read."""
    arm = _first(history)
    arm.lose(7)
    arm.unread("mailbox", f"{arm.recipients[arm.mail(7).rcpts[0]]}/INBOX")


def unread_queue(history: HistoryBuilder) -> None:
    """A mail is lost, and one queue could not be read."""
    _first(history).lose(7)
    _first(history).unread("queue", "mx-0:deferred")


def forgotten_queue(history: HistoryBuilder) -> None:
    """A mail is lost, and the second pod's queues were not looked at."""
    arm = _first(history)
    arm.lose(7)
    arm.scopes = [s for s in arm.scopes if not s["where"].startswith("mx-1")]


def flags_not_looked_for(history: HistoryBuilder) -> None:
    """Users marked mail, and the census did not ask for flags."""
    for copy in (c for m in _first(history).mails for c in m.copies):
        copy.flags = None


def nobody_marked(history: HistoryBuilder) -> None:
    """The load was to mark mail and did not, so no flag could be lost."""
    arm = _first(history)
    arm.drop_events("load-1.log", "flagged")


def turn_a_bit(run: RunDir) -> None:
    """One bit in the middle of the ledger is another."""
    path = run.arm_dirs()[0].load_log()
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 4
    path.write_bytes(octets)


def cut_after_the_seal(run: RunDir) -> None:
    """The observer's log loses its last octets."""
    path = run.arm_dirs()[0].observe_log
    path.write_bytes(path.read_bytes()[:-7])


def unseal(run: RunDir) -> None:
    """The seal is gone."""
    (run.path / "seal.json").unlink()


def remove_an_arm(run: RunDir) -> None:
    """The directory of the second arm is gone."""
    shutil.rmtree(run.arm_dirs()[1].path)
