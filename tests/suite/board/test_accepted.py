"""Whatever the checker accepts, the publisher and the pages take: odd names, ends of ranges, texts of every kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suite import bundle
from suite.board import pages, store
from suite.check import check
from suite.naming import digest
from tests import demo

HUGE = 1.7e308


def resealed(root: Path, path: Path, change: Any) -> None:
    """A bundle with a changed record, its key and id computed anew."""
    body = json.loads((path / bundle.RUN).read_text())
    change(body)
    method = body["method"]
    asked = [body["spec"], method["name"], method["version"], method["configuration"], body["data"], body["processes"]]
    body["key"] = digest([*asked, body["systems"]])
    bundle.write(root, bundle.seal({k: v for k, v in body.items() if k != "id"}), {n: path / n for n in body["files"]})
    shutil.rmtree(path)


def noted(body: dict[str, Any], *values: float) -> None:
    body["measures"] += [
        {
            "name": "noted", "part": f"x{i}", "value": v, "unit": "", "direction": "", "low": None, "high": None, "source": "meter",
            "warnings": ["wörds <b>of</b> any\nkind"],
        }
        for i, v in enumerate(values)
    ]  # fmt: skip


CHANGES: dict[str, Any] = {
    "names of people": lambda b: b.update(submitter="Zoë Čapek 李 @lab +1"),
    "notes with markup and lines": lambda b: b.update(notes=["data: <script>alert(1)</script>\n\tand {{ more }}", "△ ☂ 𝔘"]),
    "a long variant": lambda b: b["method"].update(
        version="cd" * 16, configuration={"delta0": "9" * 60}, variant=f"delta0={'9' * 60}"
    ),
    "a last seed": lambda b: b["spec"].update(seed=2**63 - 1),
    "values at the ends of their range": lambda b: noted(b, HUGE, -HUGE, 5e-324, 0.0),
    "a curve beyond reason": lambda b: b.update(
        curve=[{"examples": e, "seconds": 0.0, "name": "loss", "value": v} for e, v in ((0, HUGE), (1, -HUGE), (190_000, 0.0))]
    ),
    "a first day": lambda b: b.update(created="2026-11-24T00:00:00Z"),
    "libraries of any name": lambda b: b.update(libraries={f"lib {i}": "1.0 [x] | y" for i in range(50)}),
    "an unsupported workload": lambda b: b.update(unsupported={"infer@64/bf16": "no | such * _instructions_ <here>"}),
    "many processes": lambda b: b.update(processes=100_000),
    "no commit": lambda b: b.update(source={"weighin": "0.1.0", "commit": None, "dirty": None}),
    "a foreign source": lambda b: b["method"].update(version="ab" * 16),
    "a method of one's own": lambda b: b["method"].update(name=f"-mine.{'x' * 80}@abababababab", origin="file", version="ab" * 16),
    "a formula": lambda b: b["method"].update(name="+mine@abababababab", origin="file", version="ab" * 16, variant="=1+1"),
}


@pytest.mark.slow
def test_what_is_accepted_is_published_and_shown(tmp_path: Path) -> None:
    root = tmp_path / "results"
    demo.write(root, "dense", target="", accuracy=0.92)
    for seed, change in enumerate(CHANGES.values()):
        resealed(root, demo.write(root, seed=seed % 9, target=f"macs={0.011 + seed / 50:g}"), change)
    shutil.rmtree(root / ".work")
    assert [f.line() for f in check([root]) if f.level == "error"] == []
    assert store.publish(root, tmp_path / "b.duckdb").bundles == 1 + len(CHANGES)
    (tmp_path / "docs" / "tasks").mkdir(parents=True)
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "docs")
    page = (tmp_path / "docs" / "tasks" / "image_pruning-small.md").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<b>of</b>" not in page
    cells = [c for f in (tmp_path / "docs" / "data").glob("*.csv") for line in f.read_text().splitlines() for c in line.split(",")]
    assert "'+mine@abababababab" in cells
    assert not [c for c in cells if c.startswith(("=", "@")) or (c.startswith(("+", "-")) and not _number(c))]


def _number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
