"""DNS of one arm, counted: a process of its own, ``python -m harness.dns SPEC.json``, that writes ``dns.log`` and ``dns/POD.pcap``.

First it measures what single look-ups cost in the pods (harness.dns.behaviours), then it captures in the network of every pod of the
named components, says that it is ready, and goes on until it is told to stop (SIGTERM) and all is quiet. Then it reads what was captured and
writes counts; the pcap files stay as evidence. Limits: a pod that comes after the begin is not captured (the check ``dns-account`` sees that);
pods on their node's network are refused; nodes must be containers of this machine.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from harness.cluster.engine import Engine, answering
from harness.dns.behaviours import Bench, measured
from harness.dns.capture import Capture, capturing
from harness.dns.chroots import stale
from harness.dns.count import ResolverConfig
from harness.dns.decode import Decoded, decode
from harness.dns.joined import Reading, joined, read_all
from harness.dns.pod import process_of
from harness.dns.spec import CountSpec
from harness.dns.totals import counts
from harness.errors import MailgaleError, NotReady, NotSupported
from harness.kube.client import Cluster
from harness.kube.objects import Pod
from harness.model.dnsflow import PARTS, Layer, Watched, passed
from harness.model.dnspurpose import Names
from harness.stack.dnsservers import PART
from harness.store.log import LogWriter
from harness.support.clock import now_ns, wait_for

LOG, FOLDER = "dns.log", "dns"
#: A layer is quiet when nothing but probes passed it for so long before the end.
_QUIET_NS = 1_000_000_000
_PARENT_EVERY_S = 1.0


@dataclass(frozen=True)
class Subject:
    """A pod that is captured: what it is, its process in this machine's /proc, its resolv.conf."""

    pod: Pod
    watched: Watched
    process: Path
    config: ResolverConfig
    chroot: str = ""  #: why its Postfix goes by another resolv.conf, "" where it does not

    @property
    def namespace(self) -> Path:
        return self.process / "ns" / "net"


def subjects(cluster: Cluster, engine: Engine, namespace: str, components: Sequence[str]) -> list[Subject]:
    """Every running pod of ``components``.

    :raises NotReady: a component has none. :raises NotSupported: a pod is on its node's network.
    """
    found = []
    for component in components:
        pods = [p for p in cluster.pods(namespace, component=component) if p.phase == "Running" and not p.deleting]
        if not pods:
            raise NotReady(f"component '{component}' has no running pod to capture", where=namespace)
        found += [_subject(engine, p) for p in pods]
    return found


def _subject(engine: Engine, pod: Pod) -> Subject:
    if pod.raw.get("spec", {}).get("hostNetwork"):
        raise NotSupported(f"pod {pod.name} is on its node's network, where its queries cannot be told from others'")
    layer = PARTS.get(pod.labels.get(PART, ""), Layer.APPLICATION)
    process = process_of(engine, pod)
    try:
        text, chroot = (process / "root" / "etc" / "resolv.conf").read_text(), stale(process / "root")
    except OSError as error:
        raise NotSupported(f"pod {pod.name} cannot be reached from this machine: {error.strerror}") from error
    return Subject(pod, Watched(pod.name, pod.component, layer, frozenset(pod.ips)), process, ResolverConfig.parse(text), chroot)


class Counting:
    """One arm's counting.

    :raises NotReady: pods or engine are not there. :raises NotSupported: they cannot be captured here.
    """

    def __init__(self, spec: CountSpec, log: LogWriter) -> None:
        self.spec, self._log = spec, log
        engine = answering()
        if engine is None:
            raise NotReady("no container engine answers, so the pods' networks cannot be entered")
        self._cluster, self._inside = Cluster(spec.target()), Cluster(spec.inside_target())
        self.subjects = subjects(self._cluster, engine, spec.namespace, spec.capture)
        search = next((s.config.search for s in self.subjects if s.watched.layer is Layer.APPLICATION), ())
        self._names = Names(spec.namespace, spec.cluster_domain, search)

    def run(self, stop: threading.Event) -> None:
        """Measure, capture until ``stop`` or the parent's end, count.

        :raises NotReady: a capture cannot be opened. :raises OSError: the record cannot be written.
        """
        self._look_ups()
        folder = Path(self.spec.arm_dir) / FOLDER
        folder.mkdir()
        with ExitStack() as open_:
            captures = [(s, open_.enter_context(capturing(s.namespace, folder / f"{s.pod.name}.pcap"))) for s in self.subjects]
            begin = now_ns()
            first = read_all(self._cluster, self._pods, inside=self._inside)
            stop.wait(self.spec.baseline_s)
            Path(self.spec.ready).touch()
            self._wait(stop)
            waited, quiet = self._quiet([c for s, c in captures if s.watched.layer is Layer.APPLICATION])
            last = read_all(self._cluster, self._pods, inside=self._inside)
            end = now_ns()
        self._log.event("dns_window", begin=begin, end=end, baseline_s=self.spec.baseline_s, waited_s=round(waited, 1), quiet=quiet)
        decoded = [(s, c, decode(c)) for s, c in captures]
        self._count(decoded, begin, end)
        self._join(decoded, first, last)

    def _look_ups(self) -> None:
        bench = Bench(
            {s.watched.component: s.process for s in reversed(self.subjects)}, self.spec.namespace, self.spec.cluster_domain, self.spec.mail_domain,
            self._names, self.spec.nonce,
        )
        for cell in measured(bench, self.spec.look_ups):
            self._log.event("dns_look_up", **cell)
            self._log.flush()

    def _wait(self, stop: threading.Event) -> None:
        parent = os.getppid()
        while not stop.wait(_PARENT_EVERY_S) and os.getppid() == parent:
            pass

    def _quiet(self, captures: Sequence[Capture]) -> tuple[float, bool]:
        """Wait until the applications ask nothing more: seconds waited, and whether that came."""
        begin = now_ns()
        seen, since = -1, begin

        def still() -> bool:
            nonlocal seen, since
            total = sum(c.taken for c in captures)
            if total != seen:
                seen, since = total, now_ns()
            return now_ns() - since >= self.spec.quiet_s * 1e9

        try:
            wait_for(still, deadline_s=self.spec.quiet_max_s, what="DNS to be quiet", every_s=0.1)
        except NotReady:
            return (now_ns() - begin) / 1e9, False
        return (now_ns() - begin) / 1e9, True

    def _count(self, seen: Sequence[tuple[Subject, Capture, Decoded]], begin: int, end: int) -> None:
        clients = _clients(s for s, _, _ in seen)
        for subject, capture, decoded in seen:
            self._one(subject, capture, decoded, begin, end, clients)
            self._log.flush()

    def _join(self, seen: Sequence[tuple[Subject, Capture, Decoded]], first: Mapping[str, Reading], last: Mapping[str, Reading]) -> None:
        """The servers' own counters beside the captures."""
        clients = _clients(s for s, _, _ in seen)
        for pod, records in ((s.watched, decoded.records) for s, _, decoded in seen if s.pod.name in first):
            found = joined(pod, records, first[pod.pod], last[pod.pod], clients)
            self._log.event("dns_counted", pod=pod.pod, component=pod.component, layer=pod.layer.value, **found)

    @property
    def _pods(self) -> list[Pod]:
        return [s.pod for s in self.subjects]

    def _one(self, subject: Subject, capture: Capture, decoded: Decoded, begin: int, end: int, clients: dict[str, str]) -> None:
        pod, config = subject.watched, subject.config
        about = {"pod": pod.pod, "component": pod.component, "layer": pod.layer.value}
        self._log.event(
            "dns_capture", **about, uid=subject.pod.uid, addresses=sorted(pod.addresses), file=f"{FOLDER}/{capture.path.name}", search=list(config.search),
            nameservers=list(config.nameservers), options=list(config.options), chroot=subject.chroot, messages=len(decoded.records), **asdict(decoded.quality),
        )
        own = (f"{self.spec.cluster_domain}.",) if pod.layer is Layer.CLUSTER else ()
        flow = passed(pod, decoded.records, begin_ns=begin, end_ns=end, clients=clients, own_zones=own)
        self._log.event(
            "dns_passed", **about, received=dict(flow.received), sent=flow.sent, local=flow.local, terms=dict(flow.terms), unexplained=flow.unexplained,
            quiet=end - flow.last_ns >= _QUIET_NS, open_at_end=flow.open_at_end,
        )
        for row in counts(pod, decoded.records, self._names, clients, begin_ns=begin, end_ns=end):
            self._log.event("dns_count", **about, **row)


def _clients(subjects: Iterable[Subject]) -> dict[str, str]:
    """Address → layer of every captured pod."""
    return {address: s.watched.layer.value for s in subjects for address in s.watched.addresses}


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def told(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    return stop


def main(spec_path: Path) -> int:
    """Count one arm; 0 when the log was closed well.

    :raises MailgaleError: it could not begin, or not go on; the log says so as an ``incident``.
    """
    stop, spec = _stop_on_signals(), CountSpec.read(spec_path)
    with LogWriter(Path(spec.arm_dir) / LOG, "dns") as log:
        try:
            Counting(spec, log).run(stop)
        except (MailgaleError, NotSupported) as error:
            log.event("incident", what=f"DNS was not counted: {error}", where="dns")
            raise error if isinstance(error, MailgaleError) else NotReady(f"not supported here: {error}") from error
        except OSError as error:
            raise MailgaleError(f"DNS was not counted: {error}", where=spec.arm_dir) from error
    return 0
