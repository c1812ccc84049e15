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
_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One change.

    :param index: of the changed node among the module's places. :param change: which of that node's changes.
    :param lines: first and last line of the statement around it, which a test must come to. :param text: that statement's source.
    :param inside: it is in the body of a function; else it works when the module is imported.
    """

    path: str
    index: int
    change: int
    line: int
    what: str
    lines: tuple[int, int]
    text: str
    inside: bool

    @property
    def name(self) -> str:
        """Where and what, in a line."""
        return f"{self.path}:{self.line}: {self.what}"

    def tree(self, source: str) -> ast.Module:
        """``source``, which must be that of the module as it is, with the change."""
        tree = ast.parse(source)
        node, changes = next(islice(_places(tree), self.index, None))
        made = _Replace(node, changes[self.change][1](copy.deepcopy(node))).visit(tree)
        return ast.fix_missing_locations(made)


Change = tuple[str, Callable[[ast.AST], ast.AST | None]]


def mutants(path: str, source: str) -> list[Mutant]:
    """Every mutant of ``source``, in the order of its lines; none is the same program."""
    tree, found = ast.parse(source), []
    around = _statements(tree)
    for index, (node, changes) in enumerate(_places(tree)):
        statement, inside = around[id(node)]
        first, last = _reach(statement)
        text = " ".join(line.strip() for line in source.splitlines()[first - 1 : last])
        for n, (what, make) in enumerate(changes):
            if _differs(node, make(copy.deepcopy(node))):
                found.append(Mutant(path, index, n, getattr(node, "lineno", 0), what, (first, last), text, inside))
    return sorted(found, key=lambda m: (m.line, m.what, m.index, m.change))


def _differs(node: ast.AST, by: ast.AST | None) -> bool:
    return by is None or ast.dump(node) != ast.dump(by)


def _statements(tree: ast.Module) -> dict[int, tuple[ast.stmt, bool]]:
    """For each node: the innermost statement around it, and whether it is in a function's body."""
    found: dict[int, tuple[ast.stmt, bool]] = {}

    def walk(node: ast.AST, statement: ast.stmt | None, inside: bool) -> None:
        if isinstance(node, ast.stmt):
            statement = node
        if statement is not None:
            found[id(node)] = (statement, inside)
        for field, value in ast.iter_fields(node):
            body = inside or (isinstance(node, _FUNCTION | ast.Lambda) and field == "body")
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    walk(child, statement, body)

    walk(tree, None, False)
    return found


def _reach(statement: ast.stmt) -> tuple[int, int]:
    """The lines that run with ``statement``: of an ``if`` or a loop its head, of a function its whole body."""
    body = getattr(statement, "body", None)
    if body and not isinstance(statement, _FUNCTION):
        return statement.lineno, max(statement.lineno, body[0].lineno - 1)
    return statement.lineno, statement.end_lineno or statement.lineno


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
