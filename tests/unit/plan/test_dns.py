"""The key ``dns`` of a plan: every name checked, with file, line and the nearest valid one; and its way into a run and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.catalogue import catalogue, find_plan
from harness.errors import PlanError
from harness.plan import load_plan
from harness.store.plan_json import plan_from_json, plan_to_json
from harness.support.checkout import Checkout

CHECKOUT = Checkout.find()
GOOD = (CHECKOUT.root / "experiments" / "ndots.yaml").read_text()
BLOCK = GOOD[GOOD.index("    dns:\n"):GOOD.index("    checks:\n")]


@pytest.mark.parametrize(("old", "new", "says"), [
    ("filter, mailbox-proxy, dns]", "fliter, mailbox-proxy, dns]", "did you mean 'filter'?"),
    ("filter, mailbox-proxy, dns]", "edge, mailbox-proxy, dns]", "there is no component that can be captured 'edge'"),
    ("filter, mailbox-proxy, dns]", "postfix, mailbox-proxy, dns]", "there is no component that can be captured 'postfix'"),
    ("filter, mailbox-proxy, dns]", "filter, dns, dns]", "'dns' stands twice"),
    ("look_ups: [glibc, musl", "look_ups: [glibc, mulsl", "did you mean 'musl'?"),
    ("      arms: [ndots-5, ndots-1]\n    checks", "      arms: [ndots-5, ndots-2]\n    checks", "there is no arm 'ndots-2'"),
    ("      capture: [", "      captrue: [", "did you mean 'capture'?"),
    ("dns-account: {arms: [ndots-5, ndots-1]}", "dns-account: {arms: [ndots-5, not-counted]}", "DNS is not counted in arm 'not-counted'"),
    (BLOCK, "", "check 'dns-account' needs the key 'dns'"),
])
def test_refusals(tmp_path: Path, old: str, new: str, says: str):
    assert old in GOOD
    (tmp_path / "plan.yaml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(PlanError) as caught:
        load_plan(tmp_path / "plan.yaml", catalogue(CHECKOUT), shown_as="plan.yaml")
    assert says in str(caught.value)
    wrong = new.split("\n")[0] or "dns-account"
    assert caught.value.where == f"plan.yaml:{next(i for i, line in enumerate(GOOD.replace(old, new, 1).splitlines(), 1) if wrong in line)}"


def test_it_survives_json_and_says_which_arms():
    plan = find_plan(CHECKOUT, "ndots")
    again = plan_from_json(plan_to_json(plan))
    assert again.dns == plan.dns
    assert {a.name: again.counts_dns(a.name) for a in again.arms} == {"ndots-5": True, "ndots-1": True, "not-counted": False}


def test_a_plan_without_it_counts_nothing():
    plan = find_plan(CHECKOUT, "friday-burst")
    assert plan_from_json(plan_to_json(plan)).dns is None
    assert not any(plan.counts_dns(a.name) for a in plan.arms)


PRICE = (CHECKOUT.root / "experiments" / "unbound-price.yaml").read_text()


def test_look_ups_of_a_plan_survive_json_and_are_few_where_it_says_nothing():
    assert plan_from_json(plan_to_json(find_plan(CHECKOUT, "unbound-price"))).look_ups_per_s == 20
    assert find_plan(CHECKOUT, "dns-faults").look_ups_per_s == 4


@pytest.mark.parametrize(("old", "new", "says"), [
    ("look_ups_per_s: 20", "look_ups_per_s: 0", "greater than 0"), ("look_ups_per_s: 20", "look_up_per_s: 25", "did you mean 'look_ups_per_s'?"),
    ("      dns-path: {}\n      dns-lookups: {limits: {failed_share_max: 0.01}}\n", "", "nobody looks up names here"),
])
def test_refusals_of_look_ups(tmp_path: Path, old: str, new: str, says: str):
    assert old in PRICE
    (tmp_path / "plan.yaml").write_text(PRICE.replace(old, new, 1).replace(", expect: {fail: [dns-lookups]}", ""))
    with pytest.raises(PlanError) as caught:
        load_plan(tmp_path / "plan.yaml", catalogue(CHECKOUT), shown_as="plan.yaml")
    assert says in str(caught.value)
