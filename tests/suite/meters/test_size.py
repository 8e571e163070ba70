"""Bytes of weights, in whatever a method returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from suite.meters.size import weight_bytes


@dataclass
class Ticket:
    network: nn.Module
    edges: torch.Tensor = field(default_factory=lambda: torch.zeros(2, 1000))
    more: list[Any] = field(default_factory=list)


def test_parameters_and_buffers_count_wherever_they_are() -> None:
    linear = nn.Linear(5, 7)
    assert weight_bytes(linear) == 4 * 42
    assert weight_bytes(Ticket(linear)) == 4 * 42  # the edges are no weights
    assert weight_bytes({"a": linear, "b": (nn.BatchNorm1d(3),)}) == 4 * (42 + 4 * 3) + 8
    assert weight_bytes(Ticket(nn.Linear(2, 2, dtype=torch.float16))) == 2 * 6
    assert weight_bytes([1, "no network"]) == 0


def test_shared_storage_counts_once() -> None:
    one, two = nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)
    two.weight = one.weight
    assert weight_bytes(Ticket(nn.Sequential(one, two), more=[one])) == 100


@pytest.mark.parametrize("layout", ["coo", "csr", "csc"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_weights_count_values_and_indices(layout: str) -> None:
    module, six = nn.Module(), torch.arange(6)
    if layout == "coo":
        weights = torch.sparse_coo_tensor(torch.stack([six, six]), torch.ones(6))
    else:
        make = {"csr": torch.sparse_csr_tensor, "csc": torch.sparse_csc_tensor}[layout]
        weights = make(torch.arange(7), six, torch.ones(6), (6, 6))
    module.register_buffer("w", weights)
    assert weight_bytes(module) == 4 * 6 + 8 * (2 * 6 if layout == "coo" else 7 + 6)


def test_a_slice_keeps_the_whole_it_was_cut_from() -> None:
    module = nn.Module()
    module.register_buffer("w", torch.zeros(100)[:3])
    assert weight_bytes(module) == 400


def test_modules_without_data_count_their_shapes() -> None:
    with torch.device("meta"):
        assert weight_bytes(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))) == 2 * 4 * 30
