"""A changed module in a process that has loaded the module already: its functions get other code, whoever holds them.

Limits: what ran when the module was imported is made again only as far as names of the module and of those that imported them by the
same name. So a change outside of a function's body that survives here has to be tried once more by an import (``run.py``).
"""

from __future__ import annotations

import inspect
import sys
from types import CodeType, FunctionType, ModuleType
from typing import Any

_KEPT = ("__name__", "__file__", "__package__", "__spec__", "__loader__", "__path__", "__doc__")


class CannotSwapError(Exception):
    """The change does not fit the loaded module; import it instead."""


def swap(module: ModuleType, code: CodeType, *, constants: bool) -> None:
    """Give ``module`` the functions and methods of ``code``, and with ``constants`` everything else that ``code`` makes.

    :raises CannotSwapError: a function would need other free variables.
    """
    fresh: dict[str, Any] = {k: v for k, v in vars(module).items() if k in _KEPT}
    exec(code, fresh)
    changed = {k: v for k, v in fresh.items() if not k.startswith("__") and vars(module).get(k) is not v and not isinstance(v, ModuleType)}
    ours = {k: v for k, v in changed.items() if _made_in(module, v)}
    for name, new in ours.items():
        (_class if isinstance(new, type) else _function)(vars(module).get(name), new)
    for name in changed.keys() - ours.keys() if constants else ():
        _constant(module, name, vars(module).get(name), _ours(module, ours, changed[name]))


def _ours(module: ModuleType, made: dict[str, Any], value: Any) -> Any:
    """``value`` with the module's own functions and classes where it holds those that were made anew."""
    if isinstance(value, dict):
        return {k: _ours(module, made, v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_ours(module, made, v) for v in value)
    name = getattr(value, "__name__", "")
    return vars(module)[name] if name in made and made[name] is value else value


def _made_in(module: ModuleType, value: object) -> bool:
    inner = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
    return isinstance(inner, FunctionType | type) and inner.__module__ == module.__name__


def _function(old: Any, new: Any) -> None:
    old, new = inspect.unwrap(old), inspect.unwrap(new)
    try:
        old.__code__ = new.__code__
    except (AttributeError, ValueError) as why:
        raise CannotSwapError(str(why)) from why
    old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__


def _class(old: Any, new: type) -> None:
    """Methods get other code; what ``dataclass`` made for itself is taken as it is."""
    for name, value in vars(new).items():
        mine = vars(old).get(name)
        if isinstance(value, property):
            _function(mine.fget, value.fget)
        elif isinstance(value, staticmethod | classmethod):
            _function(mine.__func__, value.__func__)
        elif isinstance(value, FunctionType) and value.__code__.co_filename.startswith("<"):
            setattr(old, name, FunctionType(value.__code__, value.__globals__, name, value.__defaults__, value.__closure__))
        elif isinstance(value, FunctionType):
            _function(mine, value)
        elif not name.startswith("_") and isinstance(value, int | float | str | tuple):
            setattr(old, name, value)


def _constant(module: ModuleType, name: str, old: Any, new: Any) -> None:
    if isinstance(new, dict | set) and type(old) is type(new):
        old.clear()
        old.update(new)
        return
    if isinstance(new, list) and isinstance(old, list):
        old[:] = new
        return
    for other in [m for m in sys.modules.values() if getattr(m, "__name__", "").startswith(("harness", "tests"))]:
        if vars(other).get(name) is old:
            setattr(other, name, new)
