"""A friday burst as it looks when all is well: the model behind ``builder.good_run``.

Seconds of an arm: deploy 0–20, warm-up 20–26, burst 26–…, tail 6 s, then heal, settle, census. One mx pod takes 20 mails/s
in, mailboxes take 12/s whatever stands before them, so queues grow; the limited arms take 10/s with deferrals on the way.
"""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from functools import cache
from typing import Any

from harness.load.params import MARKS
from harness.model.outcome import Deferral, Outcome, Population, Proto, Stage, UserOp
from harness.model.plan import Arm, CheckSpec, FaultSpec, LoadSpec, Plan
from harness.selftest.builder import SECOND, ArmBuilder, Attempt, Mail, ns, uidl

WARMUP, BURST, TAIL_S = 20.0, 26.0, 6.0
ELASTIC, SENDERS, PROBES = 480, 12, 8
GOODPUT = 12.0
#: Who reads during the load, and what mailboxes are numbered with.
IMAP_USER, POP_USER, UIDVALIDITY = 3, 5, 1_700_000_000
META: dict[str, Any] = {
    "target": {"kind": "kind", "name": "kind-example", "topology": "single", "nodes": 4},
    "versions": {"mailgale": "0.1.0", "kubernetes": "v1.34.4", "postfix": "3.10.4", "dovecot": "2.4.1"},
    "images": {"mailgale/mx": "sha256:" + "1f" * 32, "mailgale/mailbox": "sha256:" + "2e" * 32},
    "unsupported": {"network delay": "the kernel lacks sch_netem"},
    "timings_s": {"stack_ready": 41.0, "total": 612.0},
    "cleanup": {"complete": True, "left": []},
    "command": "mailgale run experiments/friday-burst.yaml",
}


def friday_plan() -> Plan:
    """Two arms, 1x and 2x, with the checks of this slice."""
    names = ("no-loss", "no-unexplained-duplicates", "integrity", "mailbox-state", "queue-drained", "availability",
             "evidence-complete", "load-was-real", "faults-happened")
    checks = (
        *(CheckSpec(n, {}) for n in names),
        CheckSpec("delivery-latency", {"p99_ms_max": 60000}),
        CheckSpec("rate-control", {"client_mails_max": 6, "client_window_s": 5}, ("1x-limit", "2x-limit")),
    )
    return Plan(
        name="friday-burst", title="Friday burst", question="Does doubling the mx pods double the intake but not the goodput?",
        claims=("T14", "T15"), profile="minimal", topology="single", seed=7, time_scale=30, users=20,
        load=LoadSpec("friday", {"elastic_senders": SENDERS, "backlog_per_sender": ELASTIC // SENDERS, "steady_rate_per_s": 2, "flag_share": 1}, 150, 180),
        arms=(Arm("1x", ("mx-1x",), note="one mx pod, no limit"), Arm("2x", ("mx-2x",), note="two mx pods, no limit")),
        checks=checks, findings=("t15", "t14"), held_constant={"haproxy_maxconn": "2000"}, sha256="ab" * 32,
    )


def limited_plan() -> Plan:
    """The four main arms of ``friday-burst`` and its below-saturation control."""
    plan = friday_plan()
    more = (
        Arm("1x-limit", ("mx-1x", "shared-limit")), Arm("2x-limit", ("mx-2x", "shared-limit")),
        Arm("control", ("mx-2x", "mx-light"), main=False),
    )
    return replace(plan, arms=(*plan.arms, *more), findings=("t15", "t14", "rate-control", "intake-control"))


def kill_plan() -> Plan:
    """``mx-pod-kill`` with its planted defect."""
    plan = friday_plan()
    fault = FaultSpec("kill-mx", "kill_pod", {"component": "mx", "pods": 1}, {"grace_s": 0}, {"queue_acked": 50}, 60)
    arms = (
        Arm("queue-on-pvc", ("mx-1x", "queue-on-pvc")),
        Arm("queue-on-emptydir", ("mx-1x", "queue-on-emptydir"), expect_fail=("no-loss",)),
    )
    checks = tuple(c for c in plan.checks if c.name not in ("delivery-latency", "rate-control"))
    return replace(plan, name="mx-pod-kill", title="mx pod killed", arms=arms, checks=checks, faults=(fault,), findings=())


def drain_plan() -> Plan:
    """One arm in which the node of the mx pod is drained."""
    plan = kill_plan()
    fault = FaultSpec("drain-mx", "drain", {"component": "mx", "nodes": 1}, {}, {"at_s": 14}, 60)
    return replace(plan, name="mx-drain", title="the node of an mx pod drained", arms=plan.arms[:1], faults=(fault,))


def friday_arm(plan: Plan, name: str, block: int, burst: int = ELASTIC) -> ArmBuilder:
    """One arm in which nothing went wrong; intake follows the arm's variants. A copy of its own for each caller.

    :param burst: mails of the elastic senders together.
    """
    made: ArmBuilder = pickle.loads(_made(plan.arm(name).variants, name, block, plan.users, burst))
    return made


@cache
def _made(variants: tuple[str, ...], name: str, block: int, users: int, burst: int) -> bytes:
    return pickle.dumps(_make(variants, name, block, users, burst))


def _make(variants: tuple[str, ...], name: str, block: int, users: int, burst: int) -> ArmBuilder:
    pods = 2 if "mx-2x" in variants else 1
    limited = "shared-limit" in variants
    jitter = random.Random(f"{name}-{block}")
    intake = 20.0 if "mx-light" in variants else 10.0 if limited else 20.0 * pods
    intake *= 1 + jitter.uniform(-0.02, 0.02)
    arm = ArmBuilder(name, block, users)
    arm.senders = [f"list{i}@out{i}.example.net" for i in range(SENDERS)] + ["friend@example.com", "colleague@example.com"]
    arm.clients = [f"198.51.100.{i + 1}" for i in range(len(arm.senders))]
    burst_s = burst / intake
    _elastic(arm, burst, intake, limited)
    _steady(arm, burst, burst_s)
    delivered = _deliver(arm)
    end = max([*delivered.values(), BURST + burst_s + TAIL_S]) + 4
    _phases(arm, burst_s, end, pods)
    _load_states(arm, burst_s)
    _users(arm, burst_s)
    _samples(arm, pods, delivered, end)
    _scopes(arm, pods)
    return arm


def _elastic(arm: ArmBuilder, burst: int, intake: float, limited: bool) -> None:
    rng = random.Random(7)
    for i in range(burst):
        t = BURST + i / intake
        rcpt = rng.randrange(arm.users)
        mail = Mail(i + 1, BURST, i % SENDERS, Population.ELASTIC, [rcpt], size=rng.randrange(800, 20000))
        if limited and i % 3:
            first = max(BURST + 0.01, t - 4)
            mail.attempts.append(
                Attempt(rcpt, first, first + 0.02, Outcome.FAIL, Stage.DOT, Deferral.PLANNED_LIMIT, 451, 40701)
            )
        mail.attempts.append(Attempt(rcpt, max(t, BURST + 0.05), t + 0.1))
        arm.mails.append(mail)


def _steady(arm: ArmBuilder, burst: int, burst_s: float) -> None:
    for i in range(int((BURST + burst_s + TAIL_S - WARMUP) * 2)):
        due = WARMUP + i / 2
        mail = Mail(burst + i + 1, due, SENDERS + i % 2, Population.STEADY, [i % PROBES])
        mail.attempts.append(Attempt(i % PROBES, due + 0.002, due + 0.06))
        arm.mails.append(mail)


def _deliver(arm: ArmBuilder) -> dict[int, float]:
    """Each mail's copy, and the second in which it reached its mailbox: ordinary mail soon, the rest at GOODPUT."""
    delivered, free = {}, 0.0
    for mail in sorted(arm.mails, key=lambda m: m.t_ok):
        if mail.population == Population.STEADY:
            mail.sight = mail.t_ok + 0.3 + 0.01 * (mail.number % 40)
            delivered[mail.number] = mail.sight
        else:
            free = max(mail.t_ok + 0.2, free + 1 / GOODPUT)
            delivered[mail.number] = free
        arm.inbox(mail, mail.rcpts[0])
    return delivered


def _phases(arm: ArmBuilder, burst_s: float, end: float, mx: int) -> None:
    load_end = BURST + burst_s + TAIL_S
    spans = {"deploy": (0, WARMUP), "warmup": (WARMUP, BURST), "load": (BURST, load_end), "heal": (load_end, load_end + 1),
             "settle": (load_end + 1, end), "census": (end, end + 10)}
    for name, (begin, stop) in spans.items():
        arm.event("conductor.log", "phase", begin, name=name, edge="begin")
        arm.event("conductor.log", "phase", stop, name=name, edge="end")
    arm.event("conductor.log", "expected_writers", 1, names=arm.expected)
    pods = [{"name": n, "uid": f"uid-{n}", "node": "worker", "component": n.rsplit("-", 1)[0], "image": "mailgale/mx", "image_id": "sha256:1f"}
            for n in (*(f"mx-{i}" for i in range(mx)), "mailbox-0", "mailbox-1", "filter-0")]
    arm.event("conductor.log", "pods_at_start", WARMUP, pods=pods)
    arm.event("conductor.log", "pods_at_end", end + 9, pods=[dict(p) for p in pods])
    arm.event("load-1.log", "recipients", WARMUP - 0.5, addresses=arm.recipients)
    arm.event("load-1.log", "senders", WARMUP - 0.5, addresses=arm.senders, clients=arm.clients)
    arm.event("load-1.log", "load_end", load_end, reason="done", **_state(arm, load_end))
    if any(a.deferral for m in arm.mails for a in m.attempts):
        arm.event("load-1.log", "reply", BURST + 1, code=451, enhanced="4.7.1", stage="DOT", text="Rate limit exceeded", deferral="PLANNED_LIMIT")


def _state(arm: ArmBuilder, t: float) -> dict[str, Any]:
    done = [(a, m) for m in arm.mails for a in m.attempts if a.t_done is not None and a.t_done <= t]
    ok = {m.number for a, m in done if a.outcome == Outcome.OK}
    backlog = [sum(m.sender == s and m.number not in ok for m in arm.mails) for s in range(SENDERS)]
    return {
        "due": sum(m.t_due <= t for m in arm.mails), "offered": sum(any(a.t <= t for a in m.attempts) for m in arm.mails),
        "accepted": len(ok), "deferred": sum(a.outcome == Outcome.FAIL and a.code < 500 for a, _ in done), "rejected": 0, "undetermined": 0,
        "in_flight": 1, "backlog_total": sum(backlog) if t >= BURST else 0, "backlog_min": min(backlog) if t >= BURST else 0,
        "lag_p99_ms": 1.5, "lag_max_ms": 6.0, "cpu_s": (t - WARMUP) * 0.2, "rss_bytes": 90 << 20, "connections": 24,
    }


def _load_states(arm: ArmBuilder, burst_s: float) -> None:
    t = WARMUP
    while t <= BURST + burst_s + TAIL_S:
        phase = "warmup" if t < BURST else "burst" if t < BURST + burst_s else "tail"
        arm.event("load-1.log", "load_state", t, phase=phase, **_state(arm, t))
        t += 1.0


def _users(arm: ArmBuilder, burst_s: float) -> None:
    t = WARMUP
    while t < BURST + burst_s + TAIL_S:
        for user, proto, op in ((IMAP_USER, Proto.IMAP, UserOp.LOGIN), (IMAP_USER, Proto.IMAP, UserOp.FETCH), (POP_USER, Proto.POP3, UserOp.RETR)):
            arm.userops.append((ns(t), ns(t) + 30_000_000, user, 4000, proto, op, Outcome.OK, 0, 0))
        t += 0.5
    _read(arm, t - 0.5)


def _read(arm: ArmBuilder, last: float) -> None:
    """What the two reading users did with mail that came early enough: one marks it, one remembers its unique ID."""
    arm.popped = (POP_USER,)
    arm.event("load-1.log", "uidvalidity", WARMUP, mailbox=f"{arm.recipients[IMAP_USER]}/INBOX", uidvalidity=UIDVALIDITY)
    for mail in (m for m in arm.mails if m.t_ok < last - 4):
        t, box = mail.t_ok + 3, f"{arm.recipients[mail.rcpts[0]]}/INBOX"
        if mail.rcpts[0] == IMAP_USER:
            arm.event("load-1.log", "flagged", t, mail=mail.number, mailbox=box, uid=1000, uidvalidity=UIDVALIDITY, flags=list(MARKS))
            mail.copies[0].flags = MARKS
        elif mail.rcpts[0] == POP_USER:
            arm.event("load-1.log", "uidl", t, mail=mail.number, mailbox=box, uidl=f"{uidl(mail.number)}.0")


def _samples(arm: ArmBuilder, pods: int, delivered: dict[int, float], end: float) -> None:
    taken = {m.number: m.t_ok for m in arm.mails}
    for pod in range(pods):
        name = f"mx-{pod}"
        arm.event("observe.log", "pod", 5, pod=name, component="mx", uid=f"uid-{name}", node="worker", phase="Running", ready=True, restarts=0, ips=["10.244.1.5"])
    arm.event("observe.log", "endpoints", 5, service="mx", ready=[f"10.244.1.{5 + p}" for p in range(pods)])
    for step in range(int((end + 8 - WARMUP) / 2) + 1):
        t = WARMUP + 2 * step
        waiting = [n for n, ok in taken.items() if ok <= t < delivered[n]]
        oldest = max((t - taken[n] for n in waiting), default=0.0)
        for pod in range(pods):
            share = len(waiting) // pods + (1 if pod < len(waiting) % pods else 0)
            arm.event("observe.log", "queue", t, pod=f"mx-{pod}", component="mx", incoming=0, active=share, deferred=0, hold=0, corrupt=0, oldest_s=oldest)
            busy = max(0, step - 3)
            arm.event("observe.log", "throttle", t, pod=f"mx-{pod}", component="mx", periods=20 * step, throttled=14 * busy,
                      throttled_ns=busy * SECOND, usage_ns=step * SECOND // 4, quota_cores=0.15)
        arm.event("observe.log", "host", t, cpu_share=0.5, mem_available_bytes=12 << 30)
        arm.event("observe.log", "edge", t, proxy="mx", server="mx1", sessions=24, status="UP")


def _scopes(arm: ArmBuilder, pods: int) -> None:
    queues = ("incoming", "active", "deferred", "hold", "corrupt")
    places = [("queue", f"mx-{p}:{q}") for p in range(pods) for q in queues] + [("sink", "sink.example.net")]
    places += [(s, f"{a}/{n}") for a in arm.recipients[: arm.users] for s, n in (("mailbox", "INBOX"), ("quarantine", "Junk"))]
    for n in (1, 2):
        for source, where in places:
            found = sum(c.source == source and c.where.startswith(where) for m in arm.mails for c in m.copies)
            box = {"uidvalidity": UIDVALIDITY} if source in ("mailbox", "quarantine") else {}
            arm.scopes.append({"round": n, "source": source, "where": where, "complete": True, "why": "", "found": found, **box})


def plant_kill(arm: ArmBuilder, t: float = 40.0) -> None:
    """An mx pod killed with grace 0 at second ``t``, with all its evidence; back 6 s later."""
    arm.expected = [*arm.expected, "faults.log"]
    for e in arm.of("conductor.log", "expected_writers"):
        e["names"] = arm.expected
    common = {"name": "kill-mx", "fault": "kill_pod", "targets": ["mx-0"]}
    edges = {"armed": -15.0, "triggered": -0.2, "begin": 0.0, "evidence": 0.8, "end": 6.0, "undone": 6.1}
    for edge, offset in edges.items():
        detail = {"old_uid": "uid-mx-0", "new_uid": "uid-mx-0-b", "process_gone": True} if edge == "evidence" else {}
        arm.event("faults.log", "fault", t + offset, edge=edge, detail=detail, **common)
    arm.of("conductor.log", "pods_at_end")[0]["pods"][0]["uid"] = "uid-mx-0-b"
    arm.event("observe.log", "pod", t + 0.5, pod="mx-0", component="mx", uid="uid-mx-0", node="worker", phase="Failed", ready=False, restarts=0, ips=[])
    arm.event("observe.log", "pod", t + 6, pod="mx-0", component="mx", uid="uid-mx-0-b", node="worker", phase="Running", ready=True, restarts=0, ips=["10.244.1.9"])
    arm.event("observe.log", "endpoints", t + 0.5, service="mx", ready=[])
    arm.event("observe.log", "endpoints", t + 6, service="mx", ready=["10.244.1.9"])


def plant_drain(arm: ArmBuilder, t: float = 40.0) -> None:
    """The node ``worker`` drained at second ``t``: mx and filter move to ``worker2``, where the mailboxes are."""
    plant_kill(arm, t)
    moved = {"mx-0": "uid-mx-0", "filter-0": "uid-filter-0"}
    for kind in ("pods_at_start", "pods_at_end"):
        for pod in arm.of("conductor.log", kind)[0]["pods"]:
            at_home = kind == "pods_at_start" and pod["name"] in moved
            pod.update(node="worker" if at_home else "worker2", daemonset=False)
            if kind == "pods_at_end" and pod["name"] in moved:
                pod["uid"] = f"{moved[pod['name']]}-b"
    for event in arm.of("faults.log", "fault"):
        event.update(name="drain-mx", fault="drain", targets=["worker"])
        if event["edge"] == "begin":
            event["detail"] = {"pods": [{"name": n, "uid": u, "node": "worker"} for n, u in moved.items()]}
        elif event["edge"] == "evidence":
            event["detail"] = {"left": dict(moved), "refused_by_budgets": 1}
    for at, uid, ready in ((5.0, "uid-filter-0", True), (t + 6, "uid-filter-0-b", True)):
        arm.event("observe.log", "pod", at, pod="filter-0", component="filter", uid=uid, node="worker2" if at > t else "worker", phase="Running",
                  ready=ready, restarts=0, ips=["10.244.1.7"])
