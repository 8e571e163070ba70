"""What can be set of a method, read from its source: a dataclass's fields, their defaults, choices and ``#:`` comments.

Nothing is imported, so that lists and pages need no torch.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import operator
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from suite.registry import METHODS, TASKS, house_file, without_sheets

__all__ = ["Setting", "defaults", "settings"]

#: what a default may be computed with, as in ``2 / 3``
ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class Sourced(Protocol):
    """A method that has a file."""

    @property
    def path(self) -> Path: ...


@dataclasses.dataclass(frozen=True)
class Setting:
    """A field of a method's dataclass as its source has it: what ``--set name=value`` may change."""

    name: str
    values: str  #: the choices, or the type
    default: str  #: empty: must be given
    meaning: str  #: its ``#:`` comment, on the same line or above; empty without one


def settings(ref: Sourced) -> tuple[Setting, ...]:
    """The settings of a method, those of its bases first."""
    # a field that is declared again stays at its place, as in a dataclass
    return tuple({s.name: s for c in _lineage(ref) for s in c.settings()}.values())


def defaults(ref: Sourced) -> dict[str, Any]:
    """The value of each field's default; a field without one is None.  Raises ValueError where a source computes one otherwise."""
    return {name: value for c in _lineage(ref) for name, value in c.defaults()}


def _lineage(ref: Sourced) -> list[_Class]:
    """The class that solves and its bases, the oldest first; empty where there is none."""
    source = _Source(ref.path)
    for node in source.tree.body:
        lineage = list(source.lineage(node)) if isinstance(node, ast.ClassDef) and source.offers(node.name) else []
        if any("solve" in c.methods for c in lineage):
            return lineage
    return []


class _Source:
    """A module read for its dataclasses; names are followed into the house's other modules."""

    def __init__(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        found = [t for t in tokens if t.type == tokenize.COMMENT and t.string.startswith("#:")]
        self.notes = {t.start[0]: t.string[2:].strip() for t in found}
        self.alone = {t.start[0] for t in found if not t.line[: t.start[1]].strip()}

    def offers(self, name: str) -> bool:
        """Whether the module makes the name public."""
        offered = self.find("__all__")
        return not name.startswith("_") if offered is None else name in ast.literal_eval(_value(offered[1]))

    def find(self, name: str) -> tuple[_Source, ast.stmt] | None:
        """Where a name of this module is defined, and the statement."""
        for node in self.tree.body:
            if name in _names(node):
                return self, node
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                wanted = [a.name for a in node.names if (a.asname or a.name) == name]
                file = house_file(node.module, METHODS, TASKS) if wanted else None
                if file:
                    return _Source(file).find(wanted[0])
        return None

    def lineage(self, node: ast.ClassDef) -> Iterator[_Class]:
        """A class and its bases, the oldest first."""
        for base in node.bases:
            found = self.find(base.id) if isinstance(base, ast.Name) else None
            if found and isinstance(found[1], ast.ClassDef):
                yield from found[0].lineage(found[1])
        yield _Class(self, node)

    def note(self, node: ast.stmt) -> str:
        """The ``#:`` comment beside a statement, or else above it."""
        if node.end_lineno in self.notes:
            return self.notes[node.end_lineno]
        above: list[str] = []
        line = node.lineno - 1
        while line in self.alone:
            above.insert(0, self.notes[line])
            line -= 1
        return " ".join(above)

    def resolved(self, node: ast.expr) -> ast.expr:
        """What a bare name stands for, where that can be told."""
        found = self.find(node.id) if isinstance(node, ast.Name) else None
        return node if found is None or isinstance(found[1], ast.ClassDef) else _value(found[1])

    def computed(self, node: ast.expr) -> Any:
        """The value of a default: a constant, a named one, a tuple, or what arithmetic makes of these.  Raises ValueError."""
        node = self.resolved(node)
        if isinstance(node, ast.Tuple | ast.List):
            return [self.computed(e) for e in node.elts]
        if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            return ARITHMETIC[type(node.op)](self.computed(node.left), self.computed(node.right))
        return ast.literal_eval(node)


@dataclasses.dataclass(frozen=True)
class _Class:
    source: _Source
    node: ast.ClassDef

    @property
    def methods(self) -> set[str]:
        return {f.name for f in self.node.body if isinstance(f, ast.FunctionDef)}

    def fields(self) -> Iterator[ast.AnnAssign]:
        for node in self.node.body:
            if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
                yield node

    def settings(self) -> Iterator[Setting]:
        for field in self.fields():
            yield Setting(
                ast.unparse(field.target),
                _choices(self.source.resolved(field.annotation)),
                _bare(self.source.resolved(field.value)) if field.value else "",
                without_sheets(self.source.note(field)),
            )

    def defaults(self) -> Iterator[tuple[str, Any]]:
        for field in self.fields():
            yield ast.unparse(field.target), self.source.computed(field.value) if field.value else None


def _names(node: ast.stmt) -> list[str]:
    """Names that a statement defines."""
    if isinstance(node, ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [t.id for t in targets if isinstance(t, ast.Name)]


def _value(node: ast.stmt) -> ast.expr:
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return value or ast.Constant(None)


def _choices(kind: ast.expr) -> str:
    """A ``Literal``'s values apart by commas, or another annotation as it is written."""
    if isinstance(kind, ast.Subscript) and ast.unparse(kind.value).endswith("Literal"):
        return _bare(kind.slice)
    return ast.unparse(kind)


def _bare(node: ast.expr) -> str:
    """An expression as ``--set`` takes it: text without quotes, choices apart by commas."""
    if isinstance(node, ast.Tuple) and node.elts:
        return ", ".join(map(_bare, node.elts))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)
