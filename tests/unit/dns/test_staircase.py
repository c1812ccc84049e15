"""Which rates a staircase tries, for a path whose knee is known."""

from __future__ import annotations

import pytest

from harness.dns.labspec import LabSpec, problem
from harness.dns.staircase import Staircase
from harness.errors import UsageError
from harness.model.dnslab import LabLoad

CELL = {"name": "a", "caches": 4, "transport": "tcp", "delay_ms": 5}


def rates(knee: float, **params: float) -> list[float]:
    stairs = Staircase(LabLoad.of({"cells": [CELL], "start_per_s": 10, "max_per_s": 160, **params}))
    tried = []
    while (rate := stairs.next()) is not None:
        tried.append(rate)
        stairs.took(rate, 1000, 0 if rate < knee else 100)
        assert len(tried) < 30
    return tried


def test_it_doubles_and_then_closes_in():
    assert rates(60, refine=2) == [10, 20, 40, 80, 56.57, 67.27]


def test_it_ends_at_the_highest_rate():
    assert rates(1e9, max_per_s=100) == [10, 20, 40, 80, 100]


def test_it_goes_down_where_the_first_rate_fails():
    assert rates(4, refine=3) == [10, 5, 2.5, 3.54]


def test_it_does_not_go_below_one_query_a_second():
    assert rates(0, refine=8) == [10, 5, 2.5, 1.25]


def test_a_rate_without_a_query_is_no_failure():
    stairs = Staircase(LabLoad.of({"cells": [CELL]}))
    assert not stairs.bad(0, 0)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "'cells' is no list"),
        ({"cells": []}, "'cells' is no list"),
        ({"cells": [{**CELL, "transport": "quic"}]}, "'transport' is one of tcp, udp"),
        ({"cells": [{**CELL, "delay_ms": 7}]}, "'delay_ms' is one of 5, 100, 400"),
        ({"cells": [{**CELL, "caches": 0}]}, "'caches' is a whole number"),
        ({"cells": [{**CELL, "cached_share": 2}]}, "'cached_share' is a number from 0 to 1"),
        ({"cells": [{**CELL, "colour": 1}]}, "'colour' is no key of a cell"),
        ({"cells": [{"name": "a"}]}, "a cell lacks one of caches, delay_ms, transport"),
        ({"cells": [CELL, CELL]}, "names one twice"),
        ({"cells": [CELL], "rate": 5}, "'rate' is no parameter"),
        ({"cells": [CELL], "step_s": 0}, "'step_s' must be a number above 0"),
        ({"cells": [CELL], "step_s": 1, "warm_s": 2}, "leaves nothing"),
        ({"cells": [CELL], "start_per_s": 500}, "is above 'max_per_s'"),
        ({"cells": [CELL], "refine": 1.5}, "'refine' is a whole number"),
        ({"cells": [CELL], "arms_cells": {"x": ["b"]}}, "there is no cell 'b'"),
        ({"cells": [CELL], "arms_cells": {"x": []}}, "no cell"),
        ({"cells": [CELL], "zone": "lab.test"}, "its default local zone 'test.'"),
        ({"cells": [CELL], "zone": "lab.invalid."}, "its default local zone 'invalid.'"),
        ({"cells": [CELL], "zone": "localhost"}, "its default local zone 'localhost.'"),
    ],
)
def test_what_is_wrong_is_said(params: dict[str, object], says: str):
    assert says in problem(params)


def test_a_good_load_has_no_problem_and_an_arm_has_its_own_cells():
    params = {"cells": [CELL, {**CELL, "name": "b"}], "arms_cells": {"x": ["b"]}}
    assert problem(params) == ""
    load = LabLoad.of(params)
    assert ([c.name for c in load.cells_of("x")], [c.name for c in load.cells_of("y")]) == (["b"], ["a", "b"])


def test_a_rate_is_kept_until_enough_queries_count():
    load = LabLoad.of({"cells": [CELL], "step_s": 6, "warm_s": 1, "queries_min": 200})
    assert (load.lasts_s(20), load.lasts_s(100)) == (11, 6)


def test_a_spec_on_a_zone_of_unbounds_own_is_refused():
    spec = LabSpec("/tmp", "run", "a", "1-a", "1", {"cells": [CELL], "zone": "x.test"}, "", "", {})
    with pytest.raises(UsageError, match="test"):
        _ = spec.load
