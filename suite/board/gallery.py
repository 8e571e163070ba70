"""Pictures to look at: two methods' crops of the same place over each other, parted by a slider."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suite import pictures
from suite.board.tables import Board, Row

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    from suite.protocol import Task
    from suite.show import Likeness


@dataclass(frozen=True)
class Shot:
    """One picture on a page."""

    key: str  #: names the method, or the original, for the script
    label: str
    mark: int | None  #: of the method; None: the original
    file: str  #: below the folder ``pictures`` of the site
    width: int
    height: int
    #: to the original, of this crop, by what the task declares; NaN where there is none, infinite where they are equal
    likeness: float
    data: bytes


@dataclass(frozen=True)
class Scene:
    """One place of the test data, as the original and as each method puts it out."""

    words: str
    shots: Sequence[Shot]


@dataclass(frozen=True)
class Gallery:
    """All scenes of a ranking."""

    scenes: Sequence[Scene]
    left: str  #: keys of what is compared at first
    right: str
    credit: str
    note: str  #: how crops are chosen, and what the number under them is
    unit: str  #: of that number


def gallery(db: duckdb.DuckDBPyConnection, board: Board, task: Task[Any, Any]) -> Gallery | None:
    """The pictures of a board's methods as their papers set them; None where there are none that may be shown."""
    declared = task.show.gallery
    credit = task.show.credit(board.ranking.case, 0, board.ranking.division)
    if declared is None or not credit:
        return None
    found = _stored(db, board)
    methods = board.plain
    originals = _originals(db, board, declared.reference)
    scenes = []
    for name in sorted({n for _, n in found if not n.endswith(pictures.ORIGINAL)}, key=_natural):
        original = originals.get(name)
        target = pictures.decode(original[1]) if original else None
        shots = (
            [_shot("original", "original", None, f"{name}{pictures.ORIGINAL}", *original, target, declared.likeness)]
            if original
            else []
        )
        shots += [
            _shot(r.method, r.label, r.mark, name, *found[r.method, name], target, declared.likeness)
            for r in methods
            if (r.method, name) in found
        ]
        scenes.append(Scene(name.replace("-", " "), shots))
    if not scenes:
        return None
    like = declared.likeness
    told = [declared.rule, f"In {like.unit}: {like.name} of the crop alone." if like else ""]
    return Gallery(
        scenes, *_first(scenes, methods, declared.reference), credit, " ".join(filter(None, told)), like.unit if like else ""
    )


def _first(scenes: Sequence[Scene], methods: Sequence[Row], reference: str) -> tuple[str, str]:
    """What a page begins with: the reference, beside the best method of a paper, or of any that there is."""
    there = [s.key for s in scenes[0].shots]
    left = reference if reference in there else there[0]
    kinds = {r.method: r.kind for r in methods}
    others = sorted((k for k in there if k not in (left, "original")), key=lambda k: kinds[k] != "paper")
    return left, (others or there)[0]


def _stored(db: duckdb.DuckDBPyConnection, board: Board) -> dict[tuple[str, str], tuple[str, bytes]]:
    """Run and picture by method and name; of several seeds the first."""
    where, values = board.asked
    rows = db.execute(
        "SELECT c.method, p.name, p.run, p.webp FROM counted AS c JOIN pictures AS p ON p.run = c.id"
        f" WHERE {where} AND c.variant = '' ORDER BY c.seed DESC",
        values,
    ).fetchall()
    return {(method, name): (run, data) for method, name, run, data in rows}


def _originals(db: duckdb.DuckDBPyConnection, board: Board, reference: str) -> dict[str, tuple[str, bytes]]:
    """Run and original by the name of the place, of the same data whatever the rest of the case: the reference is not run in each."""
    r = board.ranking
    rows = db.execute(
        "SELECT p.name, p.run, p.webp FROM counted AS c JOIN pictures AS p ON p.run = c.id"
        " WHERE (c.task, c.version, c.tier, c.method, c.origin) = (?, ?, ?, ?, 'reference')"
        ' AND split_part(c."case", \'/\', 1) = ? AND p.name LIKE ? ORDER BY c."case" = ?, c.seed DESC, c.id',
        [r.task, r.version, r.tier, reference, r.case.partition("/")[0], f"%{pictures.ORIGINAL}", r.case],
    ).fetchall()
    return {name.removesuffix(pictures.ORIGINAL): (run, data) for name, run, data in rows}


def _shot(
    key: str, label: str, mark: int | None, name: str, run: str, data: bytes, target: np.ndarray | None, how: Likeness | None
) -> Shot:
    seen = pictures.decode(data)
    height, width, _ = seen.shape
    value = how.of(seen, target) if how is not None and target is not None and seen.shape == target.shape else math.nan
    return Shot(key, label, mark, f"{run[:12]}-{name}.webp", width, height, value, data)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in name.split("-")]


__all__: Sequence[str] = ["Gallery", "Scene", "Shot", "gallery"]
