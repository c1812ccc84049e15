"""The DNS laboratory's words: cells of a staircase, what became of a query, and the parameters of its load.

A cell is one path under one load: so many node caches, one way upstream, one delay, one share of names that unbound has. Its
staircase doubles the rate until failures pass the share, then halves the distance (in logarithms) between the rates around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

#: What became of a query, as one letter in the record.
OK, SERVFAIL, OTHER, TIMEOUT = "o", "s", "r", "t"
OUTCOMES = {OK: "answered", SERVFAIL: "SERVFAIL", OTHER: "another code or no data", TIMEOUT: "no answer in time"}
#: Ways from a node cache to unbound, and the cache's port that takes each.
PORTS = {"tcp": 53, "udp": 5353}
#: Delays that the authority has a zone for, in ms.
DELAYS = (5, 100, 400)


@dataclass(frozen=True)
class Cell:
    """One path under one load.

    :param caches: node caches that queries go to, each query to one by chance.
    :param transport: ``tcp`` (force_tcp) or ``udp``.
    :param delay_ms: of the authority's answers.
    :param cached_share: of queries for names that unbound holds already (0 … 1).
    """

    name: str
    caches: int
    transport: str
    delay_ms: int
    cached_share: float = 0.0

    @property
    def key(self) -> str:
        """What makes it comparable with a cell of another arm."""
        return f"{self.transport}, {self.caches} caches, {self.delay_ms} ms, {self.cached_share:.0%} cached"


@dataclass(frozen=True)
class LabLoad:
    """The parameters of a load of the kind ``dns``; times in seconds.

    :param zone: where the names lie; unbound must not answer for it by itself.
    :param start_per_s: the first rate. :param max_per_s: none above it.
    :param step_s: how long a rate is kept, of which the first ``warm_s`` are not counted; longer where ``queries_min`` would not be due in it.
    :param refine: halvings between the last good and the first bad rate.
    :param rest_s: after a rate that failed, so that connections which wait for a slot are given up before the next.
    :param timeout_s: a query without an answer by then has failed (resolv.conf(5): 5 s).
    :param fail_share: the knee is where failures pass it.
    :param arms_cells: arm → names of its cells; an arm that is not named runs all.
    """

    cells: tuple[Cell, ...]
    zone: str = "delay.example"
    start_per_s: float = 10
    max_per_s: float = 320
    step_s: float = 8
    warm_s: float = 2
    refine: int = 2
    rest_s: float = 5
    queries_min: float = 200
    timeout_s: float = 5
    fail_share: float = 0.01
    arms_cells: Mapping[str, tuple[str, ...]] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> LabLoad:
        """From a plan's parameters.

        :raises ValueError: one is not valid; the message says which and why.
        """
        known = {f.name for f in fields(cls)}
        for name in params:
            if name not in known:
                raise ValueError(f"'{name}' is no parameter of a dns load")
        plain = {k: v for k, v in params.items() if k not in ("cells", "arms_cells")}
        for name, value in plain.items():
            _number(name, value)
        made = cls(cells=_cells(params.get("cells")), **plain, arms_cells=_choice(params.get("arms_cells")))
        made._consistent()
        return made

    def lasts_s(self, per_s: float) -> float:
        """How long a rate is kept."""
        return max(self.step_s, self.warm_s + self.queries_min / per_s)

    def cells_of(self, arm: str) -> tuple[Cell, ...]:
        """The cells that ``arm`` runs."""
        wanted = (self.arms_cells or {}).get(arm)
        return self.cells if wanted is None else tuple(c for c in self.cells if c.name in wanted)

    def _consistent(self) -> None:
        if self.warm_s >= self.step_s:
            raise ValueError("'warm_s' leaves nothing of 'step_s' to count")
        if self.start_per_s > self.max_per_s:
            raise ValueError("'start_per_s' is above 'max_per_s'")
        names = [c.name for c in self.cells]
        if len(set(names)) < len(names):
            raise ValueError("'cells' names one twice")
        for arm, chosen in (self.arms_cells or {}).items():
            strange = [n for n in chosen if n not in names]
            if strange or not chosen:
                raise ValueError(f"'arms_cells' of {arm}: {f'there is no cell {strange[0]!r}' if strange else 'no cell'}")


def _number(name: str, value: object) -> None:
    if name == "zone":
        if not isinstance(value, str) or not value:
            raise ValueError("'zone' is no name")
    elif isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or (value == 0 and name not in ("warm_s", "rest_s", "refine")):
        raise ValueError(f"'{name}' must be a number above 0")
    elif name == "refine" and (not isinstance(value, int) or value > 8):
        raise ValueError("'refine' is a whole number up to 8")


def _cells(value: object) -> tuple[Cell, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("'cells' is no list of cells")
    return tuple(_cell(v) for v in value)


def _cell(value: object) -> Cell:
    if not isinstance(value, Mapping):
        raise ValueError("a cell is no mapping")
    known = {f.name for f in fields(Cell)}
    for name in value:
        if name not in known:
            raise ValueError(f"'{name}' is no key of a cell")
    try:
        cell = Cell(**value)
    except TypeError:
        raise ValueError(f"a cell lacks one of {', '.join(sorted(known - {'cached_share'} - set(value)))}") from None
    if not isinstance(cell.caches, int) or not 1 <= cell.caches <= 100:
        raise ValueError(f"cell {cell.name}: 'caches' is a whole number from 1 to 100")
    if cell.transport not in PORTS:
        raise ValueError(f"cell {cell.name}: 'transport' is one of {', '.join(PORTS)}")
    if cell.delay_ms not in DELAYS:
        raise ValueError(f"cell {cell.name}: 'delay_ms' is one of {', '.join(map(str, DELAYS))}: the authority has these zones")
    if not isinstance(cell.cached_share, (int, float)) or not 0 <= cell.cached_share <= 1:
        raise ValueError(f"cell {cell.name}: 'cached_share' is a number from 0 to 1")
    return cell


def _choice(value: object) -> Mapping[str, tuple[str, ...]] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(v, (list, tuple)) for v in value.values()):
        raise ValueError("'arms_cells' is no mapping from arms to lists of cells")
    return {str(k): tuple(map(str, v)) for k, v in value.items()}
