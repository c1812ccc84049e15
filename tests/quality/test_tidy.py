"""The project's own rules of style, enforced: sizes, broad excepts, sleeps, prints, docstrings, machine paths."""

from __future__ import annotations

import ast
import gc
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES_MAX = 70
FUNCTION_LINES_MEDIAN_MAX = 9
MODULE_LINES_MAX = 400
#: The two named borders where anything at all may arrive.
BROAD_EXCEPTS = {"harness/cli/main.py", "harness/judge/__init__.py"}
#: Waiting for a condition is in support.clock; pacing loops that sample at an interval may sleep too, and a delay that is the fault itself.
SLEEPS_ALLOWED = re.compile(r"^harness/(support/clock|cli/terminal|observe/|load/|chaos/|dns/proxy|dns/lookups)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    return sorted(p for p in (ROOT / "harness").rglob("*.py"))


def tree(path: Path) -> ast.Module:
    """The module's syntax tree. Without the collector: CPython 3.11 miscounts its depth when a finalizer runs inside the parser."""
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: Function) -> int:
    """Lines of a function without its docstring."""
    body = node.body
    doc = ast.get_docstring(node, clean=False)
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if doc is not None:
        first = body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def long_functions(paths: list[Path]) -> list[str]:
    return [f"{name(p)}:{f.lineno} {f.name}: {length(f)}" for p in paths for f in functions(p) if length(f) > FUNCTION_LINES_MAX]


def broad_excepts(path: Path) -> list[int]:
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {k.id for k in kinds if isinstance(k, ast.Name)}
            reraises = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(node))
            if node.type is None or "Exception" in names or ("BaseException" in names and not reraises):
                found.append(node.lineno)
    return found


def test_no_function_is_too_long():
    assert long_functions(sources()) == []


def test_the_median_function_is_short():
    assert statistics.median(length(f) for p in sources() for f in functions(p)) <= FUNCTION_LINES_MEDIAN_MAX


def test_no_module_is_too_long():
    assert [f"{name(p)}: {n}" for p in sources() if (n := len(p.read_text().splitlines())) > MODULE_LINES_MAX] == []


def test_broad_excepts_stand_at_the_two_borders_only():
    assert {name(p) for p in sources() if broad_excepts(p)} <= BROAD_EXCEPTS


def test_only_the_cli_prints():
    printing = [
        f"{name(p)}:{n.lineno}"
        for p in sources()
        if not name(p).startswith("harness/cli/")
        for n in ast.walk(tree(p))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"
    ]
    assert printing == []


def test_no_sleeps_for_luck():
    sleeping = [
        f"{name(p)}:{n.lineno}"
        for p in sources()
        if not SLEEPS_ALLOWED.match(name(p))
        for n in ast.walk(tree(p))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "sleep"
    ]
    assert sleeping == []


def test_every_module_says_what_it_is():
    assert [name(p) for p in sources() if not (ast.get_docstring(tree(p)) or "").strip()] == []


def test_public_functions_have_docstrings():
    missing = []
    for path in sources():
        for node in tree(path).body:
            named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if named and not node.name.startswith("_") and not ast.get_docstring(node):
                missing.append(f"{name(path)}:{node.lineno} {node.name}")
    assert missing == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [("try:\n  x()\nexcept Exception:\n  pass\n", [3]), ("try:\n  x()\nexcept (OSError, Exception):\n  pass\n", [3]),
     ("try:\n  x()\nexcept:\n  pass\n", [3]), ("try:\n  x()\nexcept OSError:\n  pass\n", []),
     ("try:\n  x()\nexcept BaseException:\n  y()\n  raise\n", [])],
)
def test_the_search_for_broad_excepts_finds_them(tmp_path: Path, code: str, lines: list[int]):
    (tmp_path / "m.py").write_text(code)
    assert broad_excepts(tmp_path / "m.py") == lines


def test_the_search_for_long_functions_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "m.py").write_text("def f():\n" + "    x = 1\n" * 75)
    assert len(long_functions([tmp_path / "m.py"])) == 1


def test_no_machine_paths_in_tracked_files():
    home = "/" + "root"  # in parts, so that this file is searched as well
    pattern = rf"(^|[^A-Za-z0-9_.-])/(work|farm)/|{home}/\.(cache|pyenv)|{home}/go"
    found = subprocess.run(
        ["git", "grep", "-nIE", pattern, "--", "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
