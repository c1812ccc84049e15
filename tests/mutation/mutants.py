"""All mutants of a module's source: comparisons, logic, arithmetic, constants, returns, statements left out, and the same in SQL."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}
_SQL = [
    (re.compile(r"<>"), "="), (re.compile(r"(?<![<>=!])>(?![=>])"), ">="), (re.compile(r"(?<![<>=!])<(?![=<>])"), "<="), (re.compile(r">="), ">"),
    (re.compile(r"(?<![<>=!])=(?!=)"), "<>"), (re.compile(r"\bAND\b"), "OR"), (re.compile(r"\bOR\b"), "AND"), (re.compile(r"\bIS NOT NULL\b"), "IS NULL"),
    (re.compile(r"\bIS NULL\b"), "IS NOT NULL"), (re.compile(r"\bANTI JOIN\b"), "JOIN"), (re.compile(r"\bgreatest\b"), "least"), (re.compile(r"\bleast\b"), "greatest"),
    (re.compile(r" - 1\b"), ""), (re.compile(r"\bmin\("), "max("), (re.compile(r"\bmax\("), "min("), (re.compile(r"\bNOT\b(?! NULL)"), ""),
]
_IS_SQL = re.compile(r"\b(SELECT|WHERE|FILTER|JOIN|WHEN)\b|\bf\.\w+ ")


@dataclass(frozen=True)
class Mutant:
    """One change. ``source`` is the whole module with it."""

    path: str
    line: int
    what: str
    source: str

    @property
    def name(self) -> str:
        """Where and what, in a line."""
        return f"{self.path}:{self.line}: {self.what}"


Change = tuple[str, Callable[[ast.AST], ast.AST | None]]


def mutants(path: str, source: str) -> list[Mutant]:
    """Every mutant of ``source``, in the order of its lines; none is the same program."""
    plain, found = ast.unparse(ast.parse(source)), []
    count = sum(1 for _ in _places(ast.parse(source)))
    for index in range(count):
        node, changes = next(islice(_places(ast.parse(source)), index, None))
        made = (_applied(path, source, node, change, index) for change in changes)
        found += [m for m in made if m is not None and m.source != plain]
    return sorted(found, key=lambda m: (m.line, m.what))


def _applied(path: str, source: str, node: ast.AST, change: Change, index: int) -> Mutant | None:
    tree = ast.parse(source)
    target, _ = next(islice(_places(tree), index, None))
    made = _Replace(target, change[1](copy.deepcopy(target))).visit(tree)
    try:
        return Mutant(path, getattr(node, "lineno", 0), change[0], ast.unparse(ast.fix_missing_locations(made)))
    except (ValueError, TypeError, AttributeError):
        return None


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, by: ast.AST | None) -> None:
        self.target, self.by = target, by

    def visit(self, node: ast.AST) -> ast.AST | None:
        """The replacement for the target, everything else as it is."""
        return self.by if node is self.target else self.generic_visit(node)


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, list[Change]]]:
    """Nodes that can be changed, and how."""
    docs = {id(n.body[0]) for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef) and _documented(n)}
    left_out = {id(sub) for n in ast.walk(tree) if isinstance(n, ast.AnnAssign | ast.arg | ast.FunctionDef) for sub in _annotations(n)}
    left_out |= {id(sub) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr | ast.Raise) for sub in ast.walk(n) if not _is_sql(n)}
    for node in ast.walk(tree):
        if id(node) in left_out or id(node) in docs:
            continue
        changes = [(what, make) for kind, maker in _MAKERS.items() if isinstance(node, kind) for what, make in maker(node)]
        if changes:
            yield node, changes


def _documented(node: ast.AST) -> bool:
    body = getattr(node, "body", None)
    return bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str)


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    for name in ("annotation", "returns"):
        if getattr(node, name, None) is not None:
            yield from ast.walk(getattr(node, name))


def _is_sql(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) and _IS_SQL.search(n.value) for n in ast.walk(node))


def _compare(node: ast.AST) -> Iterator[Change]:
    assert isinstance(node, ast.Compare)
    for n, op in enumerate(node.ops):
        other = _COMPARED[type(op)]

        def make(found: ast.AST, n: int = n, other: type[ast.cmpop] = other) -> ast.AST:
            assert isinstance(found, ast.Compare)
            found.ops[n] = other()
            return found

        yield f"{type(op).__name__} -> {other.__name__}", make


def _logic(node: ast.AST) -> Iterator[Change]:
    assert isinstance(node, ast.BoolOp)
    other = ast.Or if isinstance(node.op, ast.And) else ast.And

    def make(found: ast.AST) -> ast.AST:
        assert isinstance(found, ast.BoolOp)
        found.op = other()
        return found

    yield f"{type(node.op).__name__} -> {other.__name__}", make


def _count(node: ast.AST) -> Iterator[Change]:
    assert isinstance(node, ast.BinOp)
    other = _COUNTED.get(type(node.op))
    if other is not None:

        def make(found: ast.AST) -> ast.AST:
            assert isinstance(found, ast.BinOp)
            found.op = other()
            return found

        yield f"{type(node.op).__name__} -> {other.__name__}", make


def _negated(node: ast.AST) -> Iterator[Change]:
    assert isinstance(node, ast.UnaryOp)
    if isinstance(node.op, ast.Not):
        yield "'not' left out", lambda found: found.operand  # type: ignore[attr-defined]


def _constant(node: ast.AST) -> Iterator[Change]:
    assert isinstance(node, ast.Constant)
    value = node.value
    if isinstance(value, bool):
        yield f"{value} -> {not value}", lambda found: ast.Constant(not value)
    elif isinstance(value, int):
        yield f"{value} -> {value + 1}", lambda found: ast.Constant(value + 1)
    elif isinstance(value, str) and _IS_SQL.search(value):
        for pattern, by in _SQL:
            for n, match in enumerate(pattern.finditer(value)):
                changed = value[: match.start()] + by + value[match.end() :]
                yield f"SQL: {match[0].strip()} -> {by.strip() or 'nothing'} ({n + 1}.)", lambda found, changed=changed: ast.Constant(changed)


def _branch(node: ast.AST) -> Iterator[Change]:
    assert isinstance(node, ast.If | ast.IfExp)
    for value in (True, False):

        def make(found: ast.AST, value: bool = value) -> ast.AST:
            assert isinstance(found, ast.If | ast.IfExp)
            found.test = ast.Constant(value)
            return found

        yield f"if {value}", make


def _statement(node: ast.AST) -> Iterator[Change]:
    """A call whose result nobody wants, a raise or an addition: left out."""
    if isinstance(node, ast.Raise | ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield "left out", lambda found: ast.Pass()


def _returned(node: ast.AST) -> Iterator[Change]:
    assert isinstance(node, ast.Return)
    if node.value is not None and not isinstance(node.value, ast.Constant):
        yield "return None", lambda found: ast.Return(ast.Constant(None))


_MAKERS: dict[type[ast.AST], Callable[[ast.AST], Iterator[Change]]] = {
    ast.Compare: _compare, ast.BoolOp: _logic, ast.BinOp: _count, ast.UnaryOp: _negated, ast.Constant: _constant, ast.If: _branch,
    ast.IfExp: _branch, ast.Raise: _statement, ast.AugAssign: _statement, ast.Expr: _statement, ast.Return: _returned,
}
