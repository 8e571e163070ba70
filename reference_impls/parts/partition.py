"""Rows of a mask gathered into parts that share columns: hypergraph partitioning (the regrouping of Chen et al. 2022).

Mt-KaHyPar takes the place of hMETIS, which is closed source.  Its deterministic preset gives the same parts on every
machine, whatever the threads, and needs no seed.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch

from suite.extras import need


@cache
def _library() -> tuple[Any, Any]:
    mtkahypar = need("mtkahypar", "partitioning by Mt-KaHyPar")
    return mtkahypar, mtkahypar.initialize(1, print_warnings=False)  # once a process


def hypergraph(mask: torch.Tensor) -> tuple[int, list[list[int]]]:
    """Vertices and hyperedges of a mask (rows, columns) bool: the rows with a one, and each column's rows among them."""
    filled = mask[mask.any(1)].cpu()
    columns, rows = filled.T.nonzero(as_tuple=True)
    ends = np.bincount(columns.numpy(), minlength=mask.shape[1]).cumsum()
    edges = np.split(rows.numpy(), ends[:-1])
    return len(filled), [e.tolist() for e in edges if len(e)]


def partition(mask: torch.Tensor, parts: int, balance: float = 0.6) -> torch.Tensor:
    """Part of each row that has a one, in row order, so that few columns have ones in several parts.

    Args:
        mask: (rows, columns) bool.
        parts: how many; no more than there are rows with a one.
        balance: the most that a bisection may give to one side, as a share (hMETIS's imbalance factor 10: 0.6).

    Returns:
        (non-empty rows,) int64 labels from 0.
    """
    rows, edges = hypergraph(mask)
    parts = min(parts, rows)
    edges = [e for e in edges if len(e) > 1]  # the others cannot be cut
    if parts < 2 or not edges:
        return torch.arange(rows) * max(1, parts) // max(1, rows)
    library, session = _library()
    context = session.context_from_preset(library.PresetType.DETERMINISTIC)
    # a part may grow as large as log2(parts) bisections would let it
    context.set_partitioning_parameters(parts, (2 * balance) ** math.log2(parts) - 1, library.Objective.CUT)
    context.logging = False
    found = session.create_hypergraph(context, rows, len(edges), edges).partition(context)
    return torch.tensor(found.get_partition(), dtype=torch.int64)
