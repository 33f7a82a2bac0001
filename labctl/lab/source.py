"""What the source of an author's function shows before it runs: that it is what its decorator takes it for.

A check that returns a value, a coroutine that nobody awaits, a generator that nobody runs: each would pass
without having looked. They are refused when the file is loaded, with the line. It runs nothing.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Callable, Iterator
from typing import Any


class LabMistake(ValueError):
    """A lab file breaks a rule of the API; the loader adds the file and, where ``line`` is 0, the line."""

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def refuse_async(function: object, what: str) -> None:
    """Raise `LabMistake` for what cannot be called, and for coroutines: nobody would await them."""
    if not callable(function):
        raise LabMistake(
            f"{what} is a function below its decorator, and the decorator has a title in parentheses"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise LabMistake(
            f"{what} is an ordinary function: nobody awaits an `async def`", line=_line(function)
        )


def refuse_unplain(function: Callable[..., Any], what: str) -> None:
    """Raise `LabMistake` for coroutines and for generators: nobody would run them."""
    refuse_async(function, what)
    if inspect.isgeneratorfunction(function):
        raise LabMistake(f"{what} has no `yield`: nobody would run it", line=_line(function))


def refuse_no_generator(function: Callable[..., Any], what: str) -> None:
    """Raise `LabMistake` for a function without a ``yield``."""
    refuse_async(function, what)
    if not inspect.isgeneratorfunction(function):
        raise LabMistake(f'{what} yields its statements: `yield "title", condition`', line=_line(function))


def refuse_returning(function: Callable[..., Any]) -> None:
    """Raise `LabMistake` for a check with ``return VALUE``: the value would be lost, and the check pass."""
    for node in _own_nodes(function):
        if isinstance(node, ast.Return) and not _is_nothing(node.value):
            raise LabMistake(
                "a check returns nothing: what it sees it says with expect(...), else it passes whatever it saw",
                line=node.lineno,
            )


def yielded_titles(function: Callable[..., Any]) -> tuple[str, ...]:
    """The titles of the statements that an experiment yields, in source order.

    Raises `LabMistake` where a statement does not begin with a text that is written out.
    """
    titles = []
    for node in _own_nodes(function):
        if isinstance(node, ast.YieldFrom):
            raise LabMistake(
                "an experiment yields its statements itself, without `yield from`", line=node.lineno
            )
        if isinstance(node, ast.Yield):
            titles.append(_title(node))
    return tuple(titles)


def _title(node: ast.Yield) -> str:
    first: ast.expr | None = None
    if isinstance(node.value, ast.Tuple) and node.value.elts:
        first = node.value.elts[0]
    elif isinstance(node.value, ast.Call) and node.value.args:
        first = node.value.args[0]
    if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value.strip():
        return first.value
    raise LabMistake(
        'a statement begins with its title, written out: `yield "what must be so", condition`',
        line=node.lineno,
    )


def _is_nothing(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _own_nodes(function: Callable[..., Any]) -> Iterator[ast.AST]:
    """The nodes of a function's body in source order, those of functions inside it left out.

    None where there is no source to read (a function made at run time).
    """
    definition = _definition(function)
    if definition is None:
        return
    pending: list[ast.AST] = list(reversed(definition.body))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending += reversed(list(ast.iter_child_nodes(node)))


def _definition(function: Callable[..., Any]) -> ast.FunctionDef | None:
    unwrapped = inspect.unwrap(function)
    linecache.checkcache()
    try:
        lines, start = inspect.getsourcelines(unwrapped)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return None
    ast.increment_lineno(tree, start - 1)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == unwrapped.__name__:
            return node
    return None


def _line(function: object) -> int:
    code = getattr(function, "__code__", None)
    return int(getattr(code, "co_firstlineno", 0))
