"""The lab's DNS on the real stack, asked on the wire; and a lab that answers otherwise is refused."""

from __future__ import annotations

import pytest

from harness.dns.lab import prove_names
from harness.dns.probe import Expectation
from harness.errors import GuardRefused

pytestmark = pytest.mark.cluster


def test_every_dns_pod_knows_the_lab_and_nothing_else(stack):
    assert len(prove_names(stack)) == 2


def test_a_name_that_must_not_be_known_but_is_refuses_the_run(stack):
    with pytest.raises(GuardRefused, match="does not answer as it must"):
        prove_names(stack, [Expectation("example.net.", "MX", "NXDOMAIN", False, "planted")])
