"""The partitioner: balanced, better than chance, the same each time."""

from __future__ import annotations

import torch

from reference_impls.parts.partition import hypergraph, partition


def cut(mask: torch.Tensor, labels: torch.Tensor) -> int:
    """Columns with ones in several parts."""
    rows = mask[mask.any(1)]
    return sum(len(labels[column].unique()) > 1 for column in rows.T)


def two_communities(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Rows in random order, half of which share one half of the columns, with some noise; one row and column are empty."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.randperm(rows, generator=generator) % 2
    own = side[:, None] == torch.arange(columns) % 2
    mask = torch.rand(rows, columns, generator=generator) < torch.where(own, 0.4, 0.01)
    mask[3], mask[:, 5] = False, False
    return mask


def test_vertices_are_rows_with_a_one_and_edges_their_columns() -> None:
    mask = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
    assert hypergraph(mask) == (2, [[0, 1], [1], [0]])


def test_parts_are_balanced_and_cut_fewer_columns_than_chance() -> None:
    mask = two_communities(64, 96)
    labels = partition(mask, 2)
    assert len(labels) == 63
    share = float(labels.double().mean())
    assert 0.4 <= share <= 0.6
    generator = torch.Generator().manual_seed(1)
    by_chance = [cut(mask, labels[torch.randperm(len(labels), generator=generator)]) for _ in range(20)]
    assert cut(mask, labels) < 0.75 * min(by_chance)
    assert torch.equal(labels, partition(mask, 2)), "the same each time"
    four = partition(mask, 4)
    assert four.unique().tolist() == [0, 1, 2, 3]
    assert int(four.bincount().max()) <= 1.2**2 * 16


def test_what_leaves_no_choice() -> None:
    assert partition(torch.zeros(4, 5, dtype=torch.bool), 2).tolist() == []
    assert partition(torch.ones(1, 5, dtype=torch.bool), 2).tolist() == [0]
    assert partition(torch.ones(6, 5, dtype=torch.bool), 1).tolist() == [0] * 6
    assert sorted(partition(torch.eye(4, dtype=torch.bool), 2).tolist()) == [0, 0, 1, 1]
    assert len(partition(torch.ones(3, 5, dtype=torch.bool), 8)) == 3
