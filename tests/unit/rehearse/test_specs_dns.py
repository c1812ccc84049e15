"""Which plans have the DNS of their stack watched from inside the pods."""

from __future__ import annotations

import pytest

from harness.cli.catalogue import catalogue
from harness.plan.load import load_plan
from harness.rehearse.specs import about_dns
from harness.support.checkout import Checkout

CHECKOUT = Checkout.find()


@pytest.mark.parametrize(
    ("plan", "watched"),
    [("node-local-dns", True), ("dns-faults", True), ("unbound-price", True), ("unbound-tcp", False), ("unbound-tcp-sweep", False), ("ndots", False), ("friday-burst", False)],
)
def test_dns_is_watched_where_a_check_needs_it(plan: str, watched: bool):
    """The laboratory has no mail pods to look up from, and where queries are counted nobody else may ask."""
    assert about_dns(load_plan(CHECKOUT.root / "experiments" / f"{plan}.yaml", catalogue(CHECKOUT))) is watched
