"""A function is short and takes little, or its docstring says why not, in a sentence that begins with one of `WHY`.

A command's arguments are the options that its help lists: they count neither as arguments nor as lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.registry import HOUSE

LINES, ARGUMENTS = 60, 8
WHY = ("Long, ", "Many arguments, ")
FILES = sorted(f for folder in ("suite", "tasks", "reference_impls") for f in (HOUSE / folder).rglob("*.py"))


def unexcused(text: str) -> Iterator[str]:
    """What is too long or takes too much and does not say why."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        told = ast.get_docstring(node) or ""
        first = node.body[0]
        words = first.end_lineno - first.lineno + 1 if told and first.end_lineno else 0
        assert node.end_lineno is not None
        command = any("command" in ast.unparse(d) for d in node.decorator_list)
        lines = node.end_lineno - (first.lineno if command else node.lineno) + 1 - words
        given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
        if lines > LINES and WHY[0] not in told:
            yield f"{node.name}: {lines} lines"
        if len(given) > ARGUMENTS and WHY[1] not in told and not command:
            yield f"{node.name}: {len(given)} arguments"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(HOUSE).as_posix())
def test_functions_are_short_or_say_why(file: Path) -> None:
    assert list(unexcused(file.read_text(encoding="utf-8"))) == []


def test_what_is_long_or_takes_much_is_seen() -> None:
    long = "def f():\n" + "    pass\n" * 61
    many = "def g(a, b, c, d, e, f, g, h, *, i): pass\n"
    assert list(unexcused(long + many)) == ["f: 62 lines", "g: 9 arguments"]
    assert not list(unexcused('def g(a, b, c, d, e, f, g, h, *, i):\n    """Draws. Many arguments, as a picture says much."""\n'))
