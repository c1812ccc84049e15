"""Names that would never leave unbound are refused, with the zone that keeps them."""

from __future__ import annotations

import pytest

from harness.dns.localzones import local_zone, refuse_local_zones
from harness.errors import UsageError


@pytest.mark.parametrize(("name", "zone"), [
    ("a.b.test", "test."), ("TEST.", "test."), ("x.invalid.", "invalid."), ("localhost", "localhost."), ("a.onion", "onion."),
    ("1.2.0.192.in-addr.arpa", "2.0.192.in-addr.arpa."), ("9.31.172.in-addr.arpa", "31.172.in-addr.arpa."), ("a.home.arpa.", "home.arpa."),
])
def test_they_are_found(name: str, zone: str):
    assert local_zone(name) == zone
    with pytest.raises(UsageError, match="unbound answers this by itself"):
        refuse_local_zones(["example.net", name])


@pytest.mark.parametrize("name", ["test.example.com", "mytest", "example.net", "9.32.172.in-addr.arpa", "4.3.2.1.in-addr.arpa", "a.local"])
def test_others_are_not(name: str):
    assert local_zone(name) is None
    refuse_local_zones([name])


def test_a_zone_that_the_configuration_gives_back_is_let_through():
    refuse_local_zones(["1.2.0.192.in-addr.arpa"], nodefault=["2.0.192.in-addr.arpa."])
