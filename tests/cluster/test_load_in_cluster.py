"""A load placed in the cluster: a master and two workers as pods, one of them killed without grace in mid-load.

What it had been told was accepted must be in the record all the same, though nobody closed its log: each mail that is found in a mailbox is
one that the record knows, and each that the record calls accepted is found.
"""

from __future__ import annotations

import imaplib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.chaos.nodes import Nodes
from harness.errors import CommandFailed
from harness.load import in_cluster, pods
from harness.load.in_cluster import ClusterLoad, last_state
from harness.load.spec import Access, LoadSpec
from harness.stack import lifecycle
from harness.support.clock import wait_for
from harness.support.progress import SilentProgress
from tests.cluster.conftest_stack import StackUnderTest
from tests.servers.load_runs import Ledger

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
RUN = "load-in-cluster"
TRACE = re.compile(rb"X-Mailgale-Trace: load-in-cluster\.1-a\.(\d+)", re.IGNORECASE)
PARAMS = {"steady_rate_per_s": 10, "steady_senders": 8, "burst_max_s": 12, "warmup_s": 1, "tail_s": 1, "probe_users": 8, "watchers": 2, "watch_max_s": 20,
          "deadline_floor_s": 20}


@dataclass
class Killed:
    """What is left of the load."""

    load: ClusterLoad
    stack: StackUnderTest
    folder: Path
    error: CommandFailed

    @property
    def ledgers(self) -> list[Ledger]:
        return [Ledger.read(self.folder / f"load-{n}.log") for n in (1, 2)]


@pytest.fixture(scope="module")
def killed(stack: StackUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("arm")
    ca = folder / "ca.pem"
    ca.write_text(stack.ca_pem)
    image = lifecycle.prepare(stack.target, stack.checkout, profile="minimal", progress=SilentProgress(), more=["load"])["load"]
    access = {"mx": Access(stack.edges, 10025, proxy=True), "imap": Access(stack.edges, 10993, tls="implicit", proxy=True)}
    spec = LoadSpec(RUN, "1-a", 7, "mx", access, PARAMS, str(folder), users=stack.users, password=stack.password, time_scale=30, allow=stack.edges,
                    ca_file=str(ca))
    placed = pods.Placed(image.ref, 2, stack.edges, (10025, 10993), stack.dns_address, stack.cluster_domain, 240.0, stack.target.edge.name)
    load = in_cluster.start(spec, folder, stack.stack, placed, root=stack.checkout.root, progress=SilentProgress())
    try:
        wait_for(lambda: last_state(folder / "load-2.log").get("accepted", 0) > 10, deadline_s=90, what="mail accepted from the second worker")
        sigkill(stack, "load-2")
        with pytest.raises(CommandFailed) as caught:
            load.wait(120)
    finally:
        load.stop()
    return Killed(load, stack, folder, caught.value)


def sigkill(stack: StackUnderTest, name: str) -> None:
    """Every process of the pod's container at once, from its node: a deletion, even without grace, begins with SIGTERM."""
    pod = stack.cluster.pod(stack.namespace, name)
    assert pod is not None
    nodes = Nodes(stack.target)
    found = nodes.processes(pod.node, pod.container("locust").id)
    assert len(found) >= 2, "Locust and its engine"
    nodes.signal(pod.node, found, "KILL")


def test_the_load_says_that_a_worker_is_lost(killed: Killed):
    assert "code 3" in str(killed.error)
    assert "is lost" in str(killed.error)


def test_the_other_worker_went_on_to_its_end(killed: Killed):
    one, two = killed.ledgers
    assert one.end["reason"] == "done"
    assert one.events[-1]["kind"] == "log_closed"
    assert two.kinds("load_end") == two.kinds("log_closed") == []


def test_the_whole_record_was_taken_over(killed: Killed):
    assert killed.load.problems == []
    assert [ledger.damages for ledger in killed.ledgers] == [[], []]
    assert (killed.folder / "locust_stats.csv").read_text().startswith("Type,Name")


def test_clocks_of_nodes_on_this_host_are_this_hosts(killed: Killed):
    assert {c.offset_ns for c in killed.load.clocks.values()} == {0}


def test_every_mail_in_a_mailbox_is_known_and_every_accepted_one_is_found(killed: Killed):
    ledgers = killed.ledgers
    known = {i["mail"] for ledger in ledgers for i in ledger.invokes}
    accepted = {(d["mail"], d["rcpt"]) for ledger in ledgers for d in ledger.dones if d["outcome"] == 1}
    assert len({m for m, _ in accepted if m >> 40}) >= 10, "the killed worker had sent mail"
    found: set[int] = set()

    def all_there() -> bool:
        found.update(*(mailbox(killed.stack, n) for n in range(1, 9)))
        return {m for m, _ in accepted} <= found

    wait_for(all_there, deadline_s=90, what="accepted mail in mailboxes", every_s=2)
    assert found <= known


def test_nothing_of_the_load_is_left(killed: Killed):
    def gone() -> bool:
        return not [p.name for p in killed.stack.cluster.pods(killed.stack.namespace) if p.name.startswith("load-")]

    wait_for(gone, deadline_s=60, what="the load's pods to go")
    assert killed.stack.kubectl("get", "secret", "load-task", check=False) == ""


def mailbox(stack: StackUnderTest, user: int) -> set[int]:
    """Numbers of this load's mails in a user's INBOX."""
    context = ssl.create_default_context(cadata=stack.ca_pem)
    with imaplib.IMAP4_SSL(stack.edge4, 993, ssl_context=context, timeout=20) as imap:
        imap.login(f"user{user}@{stack.mail_domain}", stack.password)
        imap.select("INBOX", readonly=True)
        _, parts = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (X-MAILGALE-TRACE)])")
    return {int(n) for part in parts if isinstance(part, tuple) for n in TRACE.findall(part[1])}
