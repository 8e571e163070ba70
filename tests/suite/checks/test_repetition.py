"""One run submitted twice, under another seed or name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from suite import bundle
from suite.protocol import Spec
from tests.suite.checks.forger import (
    SOURCE,
    Dots,
    Fields,
    House,
    errors,
    evidence,
    honest,
    results,
    stored,
)


def test_a_run_is_submitted_once(house: House) -> None:
    with results() as root, results() as other:
        path = honest(root)
        shutil.copytree(path, other / path.relative_to(root))
        assert errors(house, path, against=root) == []  # it is itself
        assert errors(house, Path(os.path.relpath(path)), against=root) == []
        assert errors(house, path, against=other) == []  # what stands on the board is in a clone of it
        assert [f.field for f in errors(house, root, other)] == ["id"]
        shutil.move(other / path.relative_to(root), other / "dots/small/plain/elsewhere")
        assert [f.field for f in errors(house, path, against=other)] == ["id"]


def test_the_same_order_with_the_same_evidence_is_submitted_once(house: House) -> None:
    with results() as root:
        honest(root)
        honest(root, change=lambda b: b.update(created="2026-11-26T00:00:00Z"))
        assert [f.field for f in errors(house, root)] == ["key"]


def test_two_seeds_do_not_share_evidence(house: House) -> None:
    same = evidence(0)

    def scored(body: Fields) -> None:
        ours = {m.name: stored(m) for m in Dots().score(Spec(**body["spec"]), same)}
        body["measures"] = [ours.get(m["name"], m) for m in body["measures"]]

    with results() as root:
        honest(root, seed=0)
        honest(root, seed=1, change=scored, evidence=same)
        (found,) = errors(house, root)
        assert (found.file, found.field) == (bundle.EVIDENCE, "row")
    (house.root / "plain.py").write_text(f"{SOURCE}\nseedless = True\n")
    try:
        with results() as root:
            for seed in (0, 1):
                honest(root, seed=seed, change=lambda b: (scored(b), b["method"].update(seedless=True)), evidence=same)  # type: ignore[func-returns-value]
            assert errors(house, root) == []
    finally:
        (house.root / "plain.py").write_text(SOURCE)
