"""component.yaml files: the real ones read, spoilt ones are refused with their path."""

from __future__ import annotations

import pytest

from harness.errors import StackFailed
from harness.stack.catalogue import component, components, deployed, profiles, variants
from harness.support.checkout import Checkout


def test_reads_components_variants_and_profiles(checkout: Checkout):
    found = components(checkout)["mx"]
    assert (found.role, found.workloads, found.queue["port"]) == ("takes mail in", ("StatefulSet/mx",), 9154)
    assert variants(checkout) == {"mx-2x": "Two pods take mail in."}
    assert profiles(checkout) == {"minimal": "The smallest."}


def test_every_real_component_reads_and_needs_only_what_exists():
    found = components(Checkout.find())
    assert {n for c in found.values() for n in c.needs} <= set(found)


def test_of_a_stack_only_what_it_has_is_waited_for():
    """A drain asks whether every workload is whole again; one that only a variant brings never would be."""
    known = components(Checkout.find())
    found = deployed(known, ("StatefulSet/mx", "Deployment/edge"))
    assert {w for c in found.values() for w in c.workloads} == {"StatefulSet/mx", "Deployment/edge"}
    assert set(found) == set(known)
    assert found["mx"].abilities == known["mx"].abilities


@pytest.mark.parametrize(
    ("text", "why"),
    [("role: x\nworkload: [a]\n", "unknown key 'workload'"), ("workloads: []\n", "'role' is missing"), ("role: x\nabilities: [fly]\n", "no such ability"),
     ("role: x\nname: other\n", "the name is"), ("- a\n", "no mapping"), ("role: x\nneeds: dns\n", "no list"), ("a: [\n", "cannot be read")],
)
def test_spoilt_files_are_refused(checkout: Checkout, text: str, why: str):
    path = checkout.root / "deploy/components/mx/component.yaml"
    path.write_text(text)
    with pytest.raises(StackFailed, match=why) as caught:
        component(path)
    assert str(path) in str(caught.value)
