"""The names a plan may use. Filled by the layers above (which know the checks and claims), so that reading stays pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model.faults import FaultKind


@dataclass(frozen=True)
class Catalogue:
    """Everything that can be named in a plan.

    :param checks: check → limit → default (None: the plan must give it).
    :param load_params: names of the load's parameters; ``load_problem`` says what is wrong with a value ("" = nothing).
    :param load_together: what is wrong with a scenario's parameters together, for so many users ("" = nothing).
    :param dns_load_problem: what is wrong with the parameters of a dns load ("" = nothing).
    :param stack_params: keys of the ConfigMap run-params that a plan may set.
    :param capturable: components with pods that have a network of their own; ``look_ups``: resolvers that can be measured in one.
    """

    scenarios: frozenset[str]
    variants: frozenset[str]
    profiles: frozenset[str]
    topologies: frozenset[str]
    components: frozenset[str]
    claims: frozenset[str]
    checks: Mapping[str, Mapping[str, float | None]]
    faults: Mapping[str, FaultKind] = field(default_factory=dict)
    load_params: frozenset[str] = frozenset()
    load_problem: Callable[[str, Any], str] = lambda name, value: ""
    load_together: Callable[[str, Mapping[str, Any], int], str] = lambda scenario, params, users: ""
    stack_params: frozenset[str] = frozenset()
    dns_load_problem: Callable[[Mapping[str, Any]], str] = lambda params: ""
    capturable: frozenset[str] = frozenset()
    look_ups: frozenset[str] = frozenset()


def nearest(name: str, valid: Iterable[str]) -> str:
    """``did you mean 'x'?`` or the list of what exists, for the end of an error sentence."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"valid: {', '.join(names)}" if names else "there is none"
