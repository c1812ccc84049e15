"""A plan that cannot be run is refused with file, line and the nearest valid name, before anything is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.catalogue import catalogue, entries, find_plan
from harness.errors import PlanError
from harness.plan import load_plan
from harness.support.checkout import Checkout

CHECKOUT = Checkout.find()
GOOD = (CHECKOUT.root / "experiments" / "mx-pod-kill.yaml").read_text()
FAULT = next(line for line in GOOD.splitlines(keepends=True) if "- {name: kill-mx, when" in line)


def refusal(tmp_path: Path, text: str) -> PlanError:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(PlanError) as caught:
        load_plan(path, catalogue(CHECKOUT), shown_as="plan.yaml")
    assert caught.value.exit_code == 4
    return caught.value


def line_of(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize("path", sorted(CHECKOUT.root.glob("experiments/*.yaml")), ids=lambda p: p.stem)
def test_every_plan_of_the_project_is_valid(path: Path):
    plan = find_plan(CHECKOUT, path.stem)
    assert plan.arms
    assert {"evidence-complete", "load-was-real", "faults-happened"} <= {c.name for c in plan.checks}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("time_scale:", "time_scael:", "did you mean 'time_scale'?"),
        ("title:", "titel:", "did you mean 'title'?"),
        ("mx-1x, queue-on-pvc", "mx-1x, queue-on-pcv", "did you mean 'queue-on-pvc'?"),
        ("scenario: friday", "scenario: firday", "did you mean 'friday'?"),
        ("profile: minimal", "profile: minimum", "did you mean 'minimal'?"),
        ("no-loss: {}", "no-los: {}", "did you mean 'no-loss'?"),
        ("func: kill_pod", "func: kill_pods", "did you mean 'kill_pod'?"),
        ("component: mx,", "component: mxx,", "did you mean 'mx'?"),
        ("queue_acked: 200", "queue_akced: 200", "did you mean 'queue_acked'?"),
        ("expect: {fail: [no-loss]}", "expect: {fail: [no-lss]}", "did you mean 'no-loss'?"),
        ("    topology: single", "    topology: sinlge", "did you mean 'single'?"),
        ("elastic_senders: 20", "elastic_sender: 20", "did you mean 'elastic_senders'?"),
        ("elastic_senders: 20", "elastic_senders: -1", "'elastic_senders' must be a whole number from 0"),
        ("    topology: single", "    stack: {LIMIT_RATEE: 1 / 5s}", "did you mean 'LIMIT_RATE'?"),
        ("    topology: single", "    stack: {TIME_SCALE: '3'}", "there is no parameter of the stack 'TIME_SCALE'"),
        ("variants: [mx-1x, queue-on-pvc],", "variants: [mx-1x, queue-on-pvc], load: {tail_s: 1},", "set main: false for a control"),
        ("variants: [mx-1x, queue-on-pvc],", "variants: [mx-1x, queue-on-pvc], main: false, load: {tails_s: 1},", "did you mean 'tail_s'?"),
    ],
)
def test_a_wrong_name_is_refused_with_its_line_and_the_nearest_valid_one(tmp_path: Path, old: str, new: str, says: str):
    text = GOOD.replace(old, new, 1)
    error = refusal(tmp_path, text)
    assert says in str(error)
    assert error.where == f"plan.yaml:{line_of(text, new.strip())}"


#: mx-pod-kill with readers who delete, and as many accounts as they and the watchers are.
DELETING = GOOD.replace("        imap_users: 2\n", "        imap_users: 2\n        delete_share: 0.25\n", 1).replace("    users: 200\n", "    users: 12\n", 1)


@pytest.mark.parametrize(
    ("old", "new", "says", "line"),
    [
        ("users: 12", "users: 11", "need an account each: 12 with the watchers, but there are 11 (fewer readers and watchers, more 'users', or", "delete_share: 0.25"),
        ("pop_users: 2", "pop_users: 3", "13 with the watchers, but there are 12", "delete_share: 0.25"),
        ("delete_share: 0.25", "move_share: 0.25\n        watchers: 9", "13 with the watchers, but there are 12", "move_share: 0.25"),
        ("delete_share: 0.25", "delete_share: 0.75\n        move_share: 0.5", "'delete_share' and 'move_share' are more than 1 together", "delete_share: 0.75"),
        ("variants: [mx-1x, queue-on-pvc],", "variants: [mx-1x, queue-on-pvc], main: false, load: {imap_users: 3},", "13 with the watchers", "imap_users: 3"),
    ],
)
def test_readers_that_delete_or_move_do_not_meet_in_a_mailbox(tmp_path: Path, old: str, new: str, says: str, line: str):
    path = tmp_path / "good.yaml"
    path.write_text(DELETING)
    assert load_plan(path, catalogue(CHECKOUT)).load.params["delete_share"] == 0.25  # eight watchers by the scenario's own word, two, two
    text = DELETING.replace(old, new, 1)
    error = refusal(tmp_path, text)
    assert says in str(error)
    assert error.where == f"plan.yaml:{line_of(text, line)}"


def test_readers_that_only_look_may_share_a_mailbox(tmp_path: Path):
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD.replace("        imap_users: 2\n", "        imap_users: 20\n", 1).replace("    users: 200\n", "    users: 12\n", 1))
    assert load_plan(path, catalogue(CHECKOUT)).users == 12


def test_a_fault_without_target_is_refused(tmp_path: Path):
    error = refusal(tmp_path, GOOD.replace("{component: mx, pods: 1, grace_s: 0}", "{grace_s: 0}"))
    assert "has no target" in str(error)


def test_a_fault_without_trigger_is_refused(tmp_path: Path):
    text = GOOD.replace(FAULT, "")
    assert "no trigger" in str(refusal(tmp_path, text))


def loaded(tmp_path: Path, when: str):
    (tmp_path / "plan.yaml").write_text(GOOD.replace(FAULT, f"      - {{name: kill-mx, {when}, deadline_s: 120}}\n"))
    return load_plan(tmp_path / "plan.yaml", catalogue(CHECKOUT))


def test_a_fault_that_repeats_is_several_with_names_and_times_of_their_own(tmp_path: Path):
    found = loaded(tmp_path, "when: {burst_peak: 3, then_s: 1}, repeat: {times: 3, every_s: 20}").faults
    found = [f for f in found if f.name.startswith("kill-mx")]
    assert [(f.name, dict(f.when)) for f in found] == [
        ("kill-mx", {"burst_peak": 3, "then_s": 1}), ("kill-mx.2", {"burst_peak": 3, "then_s": 21}), ("kill-mx.3", {"burst_peak": 3, "then_s": 41})]
    assert len({f.kind for f in found}) == 1


@pytest.mark.parametrize("when", ["when: {then_s: 5}", "when: {at_s: 1, accepted: 5}", "when: {queue_dept: 5}", "when: {at_s: 1}, repeat: {times: 1, every_s: 2}"])
def test_a_fault_has_one_trigger(tmp_path: Path, when: str):
    with pytest.raises(PlanError, match=r"plan.yaml:\d+"):
        loaded(tmp_path, when)


def test_a_missing_limit_is_refused(tmp_path: Path):
    text = GOOD.replace("      no-loss: {}", "      no-loss: {}\n      delivery-latency: {}")
    error = refusal(tmp_path, text)
    assert "delivery-latency" in str(error)
    assert "limit" in str(error)


def test_an_arm_without_variants_is_refused(tmp_path: Path):
    error = refusal(tmp_path, GOOD.replace("variants: [mx-1x, queue-on-pvc]", "variants: []", 1))
    assert error.where == f"plan.yaml:{line_of(GOOD, '- {name: queue-on-pvc')}"


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: 1\na: 2\n", "stands twice"), ("a: &x 1\nb: *x\n", "aliases"), ("- 1\n", "mapping"), ("", "mapping"), ("a: [", "not valid")],
)
def test_yaml_that_hides_something_is_refused(tmp_path: Path, text: str, says: str):
    assert says in str(refusal(tmp_path, text))


def test_a_plan_that_does_not_exist_is_refused_with_the_nearest_name():
    with pytest.raises(PlanError, match="did you mean 'friday-burst'"):
        find_plan(CHECKOUT, "fridayburst")


def test_the_catalogue_describes_everything_it_lists():
    assert [e for e in entries(CHECKOUT) if not e.text] == []


def placed(text: str, **keys: object) -> str:
    """The plan with further keys under ``load``."""
    lines = "".join(f"      {k}: {v}\n" for k, v in keys.items())
    return text.replace("    load:\n", f"    load:\n{lines}", 1)


def test_a_load_may_be_placed_in_the_cluster(tmp_path: Path):
    path = tmp_path / "plan.yaml"
    path.write_text(placed(GOOD, placement="cluster", workers=3))
    plan = load_plan(path, catalogue(CHECKOUT))
    assert (plan.load.in_cluster, plan.load.workers) == (True, 3)
    path.write_text(GOOD)
    plan = load_plan(path, catalogue(CHECKOUT))
    assert (plan.load.in_cluster, plan.load.workers) == (False, 1)


@pytest.mark.parametrize(
    ("keys", "says"),
    [({"workers": 2}, "one process loads from this host"), ({"placement": "moon"}, "'load.placement'"), ({"placement": "cluster", "workers": 0}, "'load.workers'"),
     ({"placment": "cluster"}, "did you mean 'placement'")],
)
def test_a_wrong_placement_is_refused(tmp_path: Path, keys: dict[str, object], says: str):
    error = refusal(tmp_path, placed(GOOD, **keys))
    assert says in str(error)
