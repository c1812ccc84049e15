"""What the words of `mailgale load` become: parameters, checks and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import GuardRefused, UsageError
from harness.load.spec import Access
from harness.rehearse.load_task import LoadOptions, LoadTask, task_of
from harness.store.plan_json import plan_from_json, plan_to_json

HERE = ("127.0.0.1",)
ALL = {"mx": Access(HERE, 25), "submission": Access(HERE, 587), "imap": Access(HERE, 143), "pop3": Access(HERE, 110)}


@pytest.fixture
def users(tmp_path: Path) -> str:
    path = tmp_path / "users.csv"
    path.write_text("address,password\n" + "".join(f"u{n}@example.org,\"p, {n}\"\n" for n in range(30)))
    return str(path)


def task(scenario: str, users: str, roles: str = "mx submission imap pop3", **more: Any) -> LoadTask:
    return task_of(LoadOptions(scenario, {r: ALL[r] for r in roles.split()}, user_file=users, **more))


def checks(made: LoadTask) -> dict[str, dict[str, float]]:
    return {c.name: dict(c.limits) for c in made.plan.checks}


@pytest.mark.parametrize("scenario", ["mx", "submission", "mixed", "friday"])
@pytest.mark.parametrize("how", [{"rate_per_s": 40.0}, {"messages": 1000, "connections": 12}])
def test_every_sending_scenario_can_be_told_a_rate_or_a_number(users: str, scenario: str, how: dict[str, Any]):
    made = task(scenario, users, **how)
    params = made.spec.params
    sent = params["steady_rate_per_s"] + params["submit_rate_per_s"]
    assert sent == (40 if "rate_per_s" in how else 0)
    assert params.get("messages", 0) + params["backlog_total"] == how.get("messages", 0)
    assert params["submit_internet_share"] == 0
    assert params["probe_users"] == 0
    assert {"no-loss", "no-unexplained-duplicates", "integrity", "all-accepted", "evidence-complete", "load-was-real", "faults-happened"} <= set(checks(made))
    assert plan_from_json(plan_to_json(made.plan)) == made.plan
    assert made.accounts[3] == ("u3@example.org", "p, 3")
    assert "p, 3" not in made.spec.to_json() + str(plan_to_json(made.plan)) + made.plan_bytes.decode()


def test_friday_doubles_in_the_middle_third(users: str):
    params = task("friday", users, rate_per_s=10.0, duration_s=60.0).spec.params
    assert params["steady_arrivals"] == "step"
    assert params["arrivals"] == {"factor": 2.0, "begin_s": 20.0, "end_s": 40.0}


def test_readers_are_shared_out_among_the_protocols_there_are(users: str):
    both = task("users", users, connections=30).spec.params
    assert (both["imap_users"], both["pop_users"]) == (20, 10)
    one = task("users", users, "pop3", connections=30).spec.params
    assert (one["imap_users"], one["pop_users"]) == (0, 30)


def test_without_a_reader_only_acceptance_is_judged():
    made = task_of(LoadOptions("mx", {"mx": ALL["mx"]}, messages=50))
    assert not made.reads
    assert "readers" in made.target.unsupported
    assert set(checks(made)) == {"evidence-complete", "load-was-real", "faults-happened", "all-accepted"}
    assert checks(made)["all-accepted"]["mails_min"] == 50


def test_only_the_open_loop_has_a_lag_budget(users: str):
    open_loop, closed = (checks(task("mx", users, **how)) for how in ({"rate_per_s": 5.0, "lag_budget_ms": 40.0}, {"messages": 5}))
    for check in ("load-was-real", "all-accepted"):
        assert open_loop[check]["lag_p99_ms_max"] == 40
        assert closed[check]["lag_p99_ms_max"] > 1e6


def test_set_overrides(users: str):
    assert task("mx", users, rate_per_s=5.0, params={"recipients_max": 4}).spec.params["recipients_max"] == 4
    with pytest.raises(UsageError, match="did you mean"):
        task("mx", users, rate_per_s=5.0, params={"recipient_max": 4})


@pytest.mark.parametrize("role", sorted(ALL))
def test_every_endpoint_is_guarded(users: str, role: str):
    ends = {**ALL, role: Access(("198.51.100.7",), 25)}
    options = LoadOptions("mx", ends, user_file=users, messages=5)
    with pytest.raises(GuardRefused, match=r"198\.51\.100\.7"):
        task_of(options)
    assert task_of(LoadOptions("mx", ends, user_file=users, messages=5, allow=("198.51.100.0/24",))).spec.endpoints[role].hosts == ("198.51.100.7",)
