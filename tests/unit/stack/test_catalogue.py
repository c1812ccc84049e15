"""component.yaml files: the real ones read, spoilt ones are refused with their path."""

from __future__ import annotations

import pytest

from harness.errors import StackFailed
from harness.stack.catalogue import component, components, profiles, variants
from harness.support.checkout import Checkout


def test_reads_components_variants_and_profiles(checkout: Checkout):
    found = components(checkout)["mx"]
    assert (found.role, found.workloads, found.queue["port"]) == ("takes mail in", ("StatefulSet/mx",), 9154)
    assert variants(checkout) == {"mx-2x": "Two pods take mail in."}
    assert profiles(checkout) == {"minimal": "The smallest."}


def test_every_real_component_reads_and_needs_only_what_exists():
    found = components(Checkout.find())
    assert {n for c in found.values() for n in c.needs} <= set(found)


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
