"""Names that look like others, or like markup."""

from __future__ import annotations

import numpy as np
import pytest

from suite import bundle
from suite.check import check
from tests.suite.checks.forger import (
    ROWS,
    VERSION,
    Change,
    House,
    errors,
    evidence,
    honest,
    measure,
    refused,
    results,
    told,
)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda b: b["spec"].update(task="../../x"), "spec.task"),
        (lambda b: b["spec"].update(task="other"), "spec.task"),
        (lambda b: b["spec"].update(task=".."), "spec.task"),
        (lambda b: b["spec"].update(case="../net"), "spec.case"),
        (lambda b: (b["method"].update(name=".."), b["spec"].update(version=1)), "method.name"),
        (lambda b: b["spec"].update(tier="paper"), "spec.tier"),
        (lambda b: b["spec"].update(target="<b>"), "spec.target"),
        (lambda b: b["spec"].update(seed="0"), "spec.seed"),
        (lambda b: b["spec"].update(seed=True), "spec.seed"),
        (lambda b: b["method"].update(name="рlain"), "method.name"),  # a Cyrillic letter
        (lambda b: b["method"].update(name="plain\n"), "method.name"),
        (lambda b: b["method"].update(name="unheard_of"), "method.name"),
        (lambda b: b["method"].update(seedless=True), "method.seedless"),
        (lambda b: b["method"].update(variant="\u202egnp"), "method.variant"),
        (lambda b: b["operations"][0].update(name="<script>"), "operations.0.name"),
        (lambda b: b["method"].update(configuration={"\x1b[2J": 1}), "method.configuration keys"),
        (lambda b: b.update(surplus=1), "surplus"),
        (lambda b: b.update(measures="none"), "measures"),
        (lambda b: measure(b, "macs").update(value="500"), "measures.0.value"),
        (lambda b: b.update(systems={}), "systems.solve"),
        (lambda b: b.update(data="0" * 64), "data"),
        (lambda b: b.update(submitter="<img>"), "submitter"),
        (lambda b: b["method"].update(configuration={"a": {"b": [[[[[[[[[[[1]]]]]]]]]]]}}), "nesting"),
    ],
)
def test_names_and_types_are_the_schemas(house: House, change: Change, field: str) -> None:
    with results() as root:
        refused(house, honest(root, change=change), field, bundle.RUN)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        (f"mine@{VERSION[:12]}", True),
        ("mine", False),
        ("mine@000000000000", False),
        (f"@{VERSION[:12]}", False),
        ("plain", False),
        (f"plain@{VERSION[:12]}", False),
        (f"P1ain@{VERSION[:12]}", False),
        (f"net-slim@{VERSION[:12]}", False),
    ],
)
@pytest.mark.parametrize("origin", ["file", "package"])
def test_others_methods_bear_their_digest_and_not_our_names(house: House, name: str, holds: bool, origin: str) -> None:
    with results() as root:
        found = errors(house, honest(root, change=lambda b: b["method"].update(name=name, origin=origin)))
        assert (not found) == holds
        assert all(f.field == "method.name" for f in found)


def test_a_source_that_differs_or_is_not_committed_is_marked(house: House) -> None:
    with results() as root:
        (mark,) = check([honest(root, change=lambda b: b["method"].update(version="cd" * 32))], registry=house)
        assert (mark.level, mark.field) == ("mark", "method.version")
        (mark,) = check([honest(root, change=lambda b: b["source"].update(dirty=True))], registry=house)
        assert (mark.level, mark.field) == ("mark", "source")


def test_versions_newer_are_refused_and_older_are_archived(house: House) -> None:
    with results() as root:
        (found,) = refused(house, honest(root, change=lambda b: b["spec"].update(version=3)), "spec.version")
        assert found.mend == "update weighin"
        old = honest(root, change=lambda b: (b["spec"].update(version=1), told("accuracy", 12.0)(b)))  # type: ignore[func-returns-value]
        (mark,) = check([old], registry=house)
        assert (mark.level, mark.field) == ("mark", "spec.version")
        (old / bundle.TIMING).write_bytes(b"")
        refused(house, old, "sha256")


def test_unknown_truth_is_an_error_in_the_closed_division_and_a_mark_in_the_open(house: House) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b["spec"].update(case="stripes/net")), "truth")
        path = honest(root, change=lambda b: b["spec"].update(case="stripes/net", division="open"))
        (mark,) = check([path], registry=house)
        assert (mark.level, mark.field) == ("mark", "truth")


def test_a_score_that_cannot_be_derived_is_said(house: House) -> None:
    table = {**evidence(), "label": np.full(ROWS, -1, np.int16)}
    with results() as root:
        path = honest(root, change=lambda b: b["spec"].update(case="stripes/net", division="open"), evidence=table)
        refused(house, path, "rows", bundle.EVIDENCE)
