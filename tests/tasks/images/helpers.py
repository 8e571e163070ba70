"""Sets and problems that several of these tests need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from suite.compat import declare_operators
from suite.protocol import Spec
from tasks.images.datasets import Examples
from tasks.images.problem import PrunableProblem
from tasks.images.recipes import Recipe, Sgd
from tasks.images.sources import InMemory, Source
from tests.helpers import MemoryRun

SIZES = {"train": 256, "val": 64, "test": 200}


def write_npz(folder: Path, name: str = "mine", size: int = 48, **changes: object) -> Path:
    draw = np.random.Generator(np.random.Philox(5))
    arrays = {
        f"{s}_{k}": v
        for s, n in (("train", 300), ("val", 40), ("test", 60))
        for k, v in (
            ("x", draw.integers(0, 256, (n, size, size, 3), dtype=np.uint8)),
            ("y", draw.integers(0, 4, n).astype(np.uint8)),
        )
    }
    arrays["classes"] = np.array(["a", "b", "c", "d"])
    arrays |= changes  # type: ignore[arg-type]
    path = folder / f"{name}.npz"
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def timm(name: str) -> Any:
    """A module of timm; the test is skipped where it is not installed."""
    declare_operators()
    return pytest.importorskip(name)


def table(seed: int = 0) -> Examples:
    """Two classes of 6 features that a line parts; of the smaller group's rows a third is labelled at random."""
    draw = torch.Generator().manual_seed(seed)
    x = {s: torch.randn(n, 6, generator=draw) for s, n in SIZES.items()}
    group = {s: (torch.rand(n, generator=draw) < 0.3).long() for s, n in SIZES.items()}
    y = {s: (v[:, 0] + v[:, 1] > 0).long() for s, v in x.items()}
    for s, n in SIZES.items():
        odd = (torch.rand(n, generator=draw) < 0.33) & (group[s] == 1)
        y[s] = torch.where(odd, torch.randint(2, (n,), generator=draw), y[s])
    columns = {s: {"kind": group[s], "age": torch.arange(n) % 7} for s, n in SIZES.items()}
    return Examples(x, y, ("no", "yes"), columns=columns, names={"kind": ("many", "few")}, group="kind")


def pictures(count: int = 64, size: int = 16) -> Examples:
    """Images of three colours, a class each."""
    draw = torch.Generator().manual_seed(1)
    y = {s: torch.arange(count) % 3 for s in SIZES}
    x = {s: torch.randint(0, 100, (count, 3, size, size), generator=draw, dtype=torch.uint8) for s in SIZES}
    for s in SIZES:
        x[s][torch.arange(count), y[s]] += 120
    return Examples(x, y, ("red", "green", "blue"), torch.full((3,), 0.4), torch.full((3,), 0.25), 2)


def spec(architecture: str = "mlp-16-8", division: str = "closed") -> Spec:
    """Of no task."""
    return Spec("none", 1, "smoke", division, f"table/{architecture}", "macs=0.5", 0)


def problem(
    source: Source | None = None,
    architecture: str = "mlp-16-8",
    recipe: Recipe | None = None,
    run: MemoryRun | None = None,
    *,
    epochs: int = 3,
    batch: int = 32,
    division: str = "closed",
) -> Any:
    """A problem of no task: the table above, unless another source is given."""
    asked = run.spec if run else spec(architecture, division)
    rest = (architecture, epochs, batch, "fp32", torch.device("cpu"), recipe or Sgd())
    return PrunableProblem(asked, run or MemoryRun(asked), source or InMemory(table()), *rest)
