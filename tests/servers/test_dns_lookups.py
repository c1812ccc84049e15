"""Look-ups from inside a network namespace, over a real cable to a real server: what a pod would see, and nothing hidden by a retry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.dns.faults import Fault, Rule
from harness.dns.lookups import LOG, Asker, LookupSpec, repeated
from harness.dns.netns import Lab
from harness.dns.proxy import FaultProxy, fault_proxy
from harness.dns.responder import Responder
from harness.dns.serve import serving
from harness.errors import UsageError
from harness.model.zipf import Zipf, domain
from harness.store.log import read_events
from tests.servers.dnslab import bound, needs, network, until

DATA = {f"d{n}.zipf.example.net.": {"TXT": ['"v=spf1 -all"']} for n in range(1, 21)}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    needs("ip")
    with network() as made:
        yield made


def asked(lab: Lab, folder: Path, *rules: Rule, seconds: float = 1.5) -> tuple[list[dict[str, Any]], Responder]:
    """What the prober recorded with ``rules`` in force between it and the responder."""
    responder = Responder(DATA)
    port, udp, tcp = bound()
    spec = folder / "lookups.json"
    LookupSpec(str(folder), 7, (Asker("mx-0", str(lab.client), lab.server4),), rate_per_s=40, domains=20).write(spec)
    with serving(responder, udp, tcp), fault_proxy(FaultProxy(("127.0.0.1", port), rules), *lab.listen()):
        child = subprocess.Popen([sys.executable, "-m", "harness.dns.lookups", str(spec)], env={**os.environ})
        try:
            until(lambda: (folder / LOG).exists(), "the log")
            time.sleep(seconds)  # the length of the experiment
        finally:
            child.send_signal(signal.SIGTERM)
            assert child.wait(20) == 0
    return [e for e in read_events(folder / LOG) if isinstance(e, dict) and e["kind"] in ("lookup", "log_closed")], responder


def test_every_lookup_is_one_query_and_popular_names_come_first(lab: Lab, tmp_path: Path) -> None:
    events, responder = asked(lab, tmp_path)
    looked = [e for e in events if e["kind"] == "lookup"]
    assert len(looked) > 20
    assert {e["outcome"] for e in looked} == {"NOERROR"}
    assert sum(responder.asked.values()) == len(looked)
    assert {kind for _, kind, _ in responder.asked} == {"TXT"}
    assert Counter(e["name"] for e in looked).most_common(1)[0][0] in (domain(1), domain(2), domain(3))
    assert events[-1]["kind"] == "log_closed"


@pytest.mark.parametrize(
    ("rule", "outcome", "tcp"),
    [
        (Rule(Fault.SERVFAIL), "SERVFAIL", False), (Rule(Fault.NXDOMAIN), "NXDOMAIN", False), (Rule(Fault.DROP), "timeout", False),
        (Rule(Fault.TRUNCATE), "NOERROR", True),
    ],
)
def test_what_goes_wrong_is_the_outcome(lab: Lab, tmp_path: Path, rule: Rule, outcome: str, tcp: bool) -> None:
    events, _ = asked(lab, tmp_path, rule, seconds=0.6)
    looked = [e for e in events if e["kind"] == "lookup"]
    assert looked
    assert {(e["outcome"], e["tcp"]) for e in looked} == {(outcome, tcp)}


def test_the_same_question_again_and_again_arrives_each_time(lab: Lab) -> None:
    responder = Responder(DATA)
    with serving(responder, *lab.listen()):
        assert repeated(Asker("mx-0", str(lab.client), lab.server4), "path-1.zipf.example.net.", "SRV", 20) == 20
    assert sum(responder.asked.values()) == 20


@pytest.mark.parametrize("text", ["{}", "no json", '{"arm_dir": "x", "seed": 1, "askers": [], "rate_per_s": 0}', '{"arm_dir": "x", "seed": 1, "askers": [], "more": 1}'])
def test_a_spec_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(UsageError):
        LookupSpec.read(tmp_path / "s.json")


def test_zipfs_law() -> None:
    law = Zipf(100, 1.0)
    drawn = Counter(law.rank(n / 10_000) for n in range(10_000))
    assert drawn[1] / drawn[2] == pytest.approx(2, rel=0.02)
    assert drawn[1] / drawn[10] == pytest.approx(10, rel=0.05)
    assert (min(drawn), max(drawn), law.rank(0.0), law.rank(1 - 2**-53)) == (1, 100, 1, 100)
    with pytest.raises(ValueError, match="no distribution"):
        Zipf(0)
