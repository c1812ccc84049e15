"""The conservation account: it closes, or it says where it does not; it never passes on missing data."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness.model.dns import CaptureQuality
from harness.model.dnsaccount import Step, settle
from harness.model.verdict import Status

QUIET = {"app": True, "node cache": True, "unbound": True}
WIRE = Step("app", "node cache", 1000, 1000, tolerance=0.0)
CACHE = Step("node cache", "unbound", 1000, 303, {"cache hits": -720, "prefetch": 15, "probes": 5, "retries": 2})


def test_an_account_that_closes():
    account = settle([WIRE, CACHE], quiet=QUIET, captures={"app": CaptureQuality(packets=2000)})
    assert (account.status, account.problems) == (Status.PASS, ())
    assert (CACHE.expected, CACHE.residual) == (302, 1)


@pytest.mark.parametrize(("step", "said"), [
    (replace(WIRE, received=999), "-1 of 1000"),  # between two captures nothing may be missing
    (replace(CACHE, received=310), r"\+8 of 302"),
    (replace(CACHE, received=290), "-12 of 302"),
    (replace(CACHE, received=None), "not counted"),
    (replace(CACHE, sent=None), "not counted"),
    (replace(CACHE, terms={"cache hits": -1300}, received=0), "contradict"),
    (replace(CACHE, sent=0, received=0, terms={}), "no queries at all"),
    (replace(CACHE, sent=0, received=5, terms={}), r"\+5 of 0"),
    (replace(CACHE, terms={}), "-697 of 1000"),  # the cache hits were forgotten
])
def test_what_does_not_close_is_inconclusive(step: Step, said: str):
    account = settle([step], quiet=QUIET)
    assert account.status is Status.INCONCLUSIVE
    assert re.search(said, account.problems[0])


def test_the_tolerance_is_a_share_of_what_was_expected():
    assert settle([Step("app", "unbound", 1000, 1010)], quiet=QUIET).status is Status.PASS
    assert settle([Step("app", "unbound", 1000, 1011)], quiet=QUIET).status is Status.INCONCLUSIVE


def test_a_capture_with_drops_spoils_an_account_that_closes():
    account = settle([WIRE], quiet=QUIET, captures={"app": CaptureQuality(packets=2000, drops=1)})
    assert (account.status, account.problems) == (Status.INCONCLUSIVE, ("app: 1 packets dropped by the kernel",))


@pytest.mark.parametrize("quiet", [{}, {"app": True}, {**QUIET, "node cache": False}])
def test_edges_that_were_not_quiet_spoil_it(quiet: dict[str, bool]):
    assert settle([WIRE], quiet=quiet).status is Status.INCONCLUSIVE


def test_no_steps_are_no_account():
    assert settle([], quiet=QUIET).status is Status.INCONCLUSIVE
