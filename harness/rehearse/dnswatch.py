"""DNS beside an arm's load, where the plan asks about it: look-ups from inside pods, and the proof that no second cache is in the path."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cluster.engine import Engine, answering
from harness.dns import lookups
from harness.dns.chroots import stale
from harness.dns.lookups import Asker, LookupSpec
from harness.dns.pod import pod_place
from harness.errors import MailgaleError, NotSupported
from harness.kube.objects import Pod
from harness.model.zipf import ZONE
from harness.rehearse.children import Child
from harness.rehearse.specs import about_dns
from harness.stack.deployed import Stack
from harness.stack.dnsservers import PART, counters_of

if TYPE_CHECKING:
    from harness.rehearse.arm import ArmRun

#: Components whose first pod asks: where mail comes in, and where it goes out by MX.
ASKING = ("mx", "outbound")
#: On their nodes' network by their nature; neither looks up anything about a mail.
ON_THE_HOST = frozenset({"edge", "node-local-dns"})
_TIMES = 20
_EXEC_S = 20.0
#: Nothing in the stack asks for it, so every query of this type is ours.
_TYPE = "SRV"


@contextmanager
def looking_up(arm: ArmRun, stack: Stack) -> Iterator[None]:
    """Prove the path, then look names up while the block runs. Nothing happens where the plan does not ask about DNS."""
    if not about_dns(arm.plan):
        yield
        return
    engine = answering()
    try:
        if engine is None:
            raise NotSupported("no container engine answers, so no pod's network can be entered")
        askers = _askers(stack, engine)
    except NotSupported as lacking:
        arm.incident(f"not supported here: {lacking}", "dns")
        arm.log.event("not_supported", what="lookups", why=str(lacking))
        yield
        return
    for asker in askers:
        _record_path(arm, stack, asker)
    with _conntrack(arm, engine), _asking(arm, askers):
        yield


def prove_path(arm: ArmRun, stack: Stack) -> None:
    """Where the plan counts DNS and has nobody look up: the proof of the path alone, before anything is captured."""
    engine = answering()
    if not arm.plan.counts_dns(arm.arm.name) or about_dns(arm.plan) or engine is None:
        return
    try:
        for asker in _askers(stack, engine):
            _record_path(arm, stack, asker)
    except NotSupported:
        return  # counting says so


@contextmanager
def _asking(arm: ArmRun, askers: tuple[Asker, ...]) -> Iterator[None]:
    spec = arm.secrets / f"lookups-{arm.directory.label}.json"
    params = arm.plan.load_params(arm.arm.name)
    LookupSpec(
        str(arm.directory.path), arm.plan.seed, askers, arm.plan.look_ups_per_s, domains=int(params.get("zipf_domains") or LookupSpec.domains),
        exponent=float(params.get("zipf_exponent", LookupSpec.exponent)),
    ).write(spec)
    with Child("harness.dns.lookups", [spec], arm.directory.path / "lookups.out") as child:
        yield
        if not child.stop():
            arm.incident("the look-ups did not end well: see lookups.out", "dns")


@contextmanager
def _conntrack(arm: ArmRun, engine: Engine) -> Iterator[None]:
    """Each node's connection tracking before and after: ``insert_failed`` is the trace of the race that loses parallel look-ups."""

    def read(edge: str) -> None:
        for node in (n.name for n in arm.target.nodes):
            found = engine.docker("exec", node, "cat", "/proc/net/stat/nf_conntrack", check=False, timeout_s=_EXEC_S)
            arm.log.event("conntrack", node=node, edge=edge, kernel=platform.release(), counters=conntrack_of(found.stdout) if found.code == 0 else {})

    read("begin")
    yield
    read("end")


def conntrack_of(text: str) -> dict[str, int]:
    """Counters of ``/proc/net/stat/nf_conntrack``, CPUs summed; ``entries`` is that of the first. Source: Linux net/netfilter/nf_conntrack_standalone.c."""
    head, *rows = [line.split() for line in text.splitlines() if line.strip()] or [[]]
    values = [[int(v, 16) for v in row] for row in rows if len(row) == len(head)]
    return {name: column[0] if name == "entries" else sum(column) for name, column in zip(head, zip(*values, strict=True), strict=False)}


def _record_path(arm: ArmRun, stack: Stack, asker: Asker) -> None:
    try:
        arm.log.event("dns_path", **path_of(stack, asker))
    except (MailgaleError, OSError) as error:
        arm.incident(f"which way look-ups go could not be seen: {error}", "dns")


def path_of(stack: Stack, asker: Asker) -> dict[str, object]:
    """Whether what a pod asks arrives where it is sent: the same question again and again, counted at the server that must get it.

    A cache in between (kindnet's, a second node cache) answers all but the first. Pods on their node's network are named as well:
    what they ask is not theirs alone.

    :raises MailgaleError: the counters cannot be read. :raises OSError: the pod's files cannot.
    """
    pods = stack.cluster.pods(stack.namespace)
    node = next((p.node for p in pods if p.name == asker.pod), "")
    caches = [p for p in pods if p.labels.get(PART) == "node-local-dns"]
    first = [p for p in caches if p.node == node] if caches else [p for p in pods if p.labels.get(PART) == "coredns"]
    before = sum(_counted(stack, p) for p in first)
    answered = lookups.repeated(asker, f"path-{secrets.token_hex(6)}.{ZONE}.", _TYPE, _TIMES)
    arrived = sum(_counted(stack, p) for p in first) - before
    return {
        "pod": asker.pod, "node": node, "server": asker.server, "first": sorted(p.name for p in first), "asked": _TIMES, "answered": answered,
        "arrived": int(arrived), "chroot": stale(Path(asker.namespace).parents[1] / "root"),
        "host_network": sorted(p.name for p in pods if p.raw["spec"].get("hostNetwork") and p.component not in ON_THE_HOST),
    }


def _counted(stack: Stack, pod: Pod) -> float:
    return sum(n for key, n in counters_of(stack.cluster, pod).get("requests", {}).items() if f"/{_TYPE}/" in key)


def _askers(stack: Stack, engine: Engine) -> tuple[Asker, ...]:
    pods = [next(iter(sorted(p.name for p in stack.cluster.pods(stack.namespace, component=c) if p.ready)), "") for c in ASKING]
    places = [(name, pod_place(stack.cluster, engine, stack.namespace, name)) for name in pods if name]
    if not places:
        raise MailgaleError(f"no pod of {' or '.join(ASKING)} is ready", where=stack.namespace)
    return tuple(Asker(name, str(place.namespace), place.config.nameservers[0]) for name, place in places)
