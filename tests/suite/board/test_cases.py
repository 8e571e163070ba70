"""A case is read once for all of its boards: which runs are in it, and what its arrays hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from suite.board import cases, tables

if TYPE_CHECKING:
    import duckdb


def test_every_measure_stands_in_the_arrays_of_its_case(connection: duckdb.DuckDBPyConnection) -> None:
    (case,) = cases.of_task(connection, "image_pruning")
    rows = connection.execute(
        "SELECT run, name, part, value, low, high, source, warnings FROM measures JOIN runs ON id = run WHERE tier <> 'smoke'"
    ).fetchall()
    places = {run.id: run.place for run in case.runs}
    assert case.value.shape == (len(case.runs), len(case.columns))
    assert (case.source > 0).sum() == len(rows) > 100
    for run, name, part, *told, source, warnings in rows:
        at = places[run], case.columns[name, part]
        expected = np.array([np.nan if v is None else v for v in told])
        np.testing.assert_array_equal([case.value[at], case.low[at], case.high[at]], expected)
        assert cases.SOURCES[case.source[at]] == source
        assert list(case.warnings.get(at, ())) == (warnings or [])


def test_roles_of_runs_are_those_of_the_views(connection: duckdb.DuckDBPyConnection) -> None:
    (case,) = cases.of_task(connection, "image_pruning")
    for role, view in (("counted", "counted"), ("weighed", "weighed"), ("failed", "failures")):
        there = {row[0] for row in connection.execute(f"SELECT id FROM {view}").fetchall()}
        assert {run.id for run in case.runs if getattr(run, role)} == there
    assert {run.id for run in case.runs if run.off_target} == {
        row[0] for row in connection.execute("SELECT DISTINCT id FROM kept WHERE off_target").fetchall()
    }


def test_one_case_alone_is_the_same_as_among_all_of_its_task(connection: duckdb.DuckDBPyConnection) -> None:
    (case,) = cases.of_task(connection, "image_pruning")
    alone = cases.read(connection, case.name)
    assert (alone.runs, alone.columns, alone.warnings) == (case.runs, case.columns, case.warnings)
    np.testing.assert_array_equal(alone.value, case.value)
    assert not cases.read(connection, cases.CaseName("image_pruning", 1, "small", "closed", "no/case")).runs


def test_the_parent_stands_in_each_ranking_of_its_case(connection: duckdb.DuckDBPyConnection) -> None:
    (case,) = cases.of_task(connection, "image_pruning")
    parents = {run.id for run in case.runs if run.method == "dense" and not run.target}
    for ranking in tables.rankings(connection):
        found = case.asked(ranking.target, "dense")
        assert {run.target for run in found} == {"", ranking.target}
        assert {run.id for run in found if not run.target} == parents
