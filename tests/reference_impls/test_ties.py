"""Of equals the stated ones are chosen, also where they are more than the 16 that torch's sort on a CPU leaves in order anyway.

Each case below is one selection of tasks or methods: it returns what was chosen among 300 candidates of three values, and what
Python's own sort on (value, place) says.  The same cases with torch's and numpy's sorts bereft of their stability show which of
them a plain sort would get wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.graph_tickets import spectral, teddy
from reference_impls.graph_tickets.rethinking_glt import without_highest
from reference_impls.image_pruning import chase, fpgm, rigl, slimming, structure_lth
from reference_impls.image_pruning.set import Evolving
from reference_impls.mobile_vsr import emt, stdo
from reference_impls.parts import channels, graph_masks, graph_sparsifiers, sparse
from reference_impls.parts.graph_adjacency import prune_adjacency
from reference_impls.parts.graph_sparsifiers import Pairs
from tasks.graph_tickets import graph as graphs
from tasks.graph_tickets import link_data, sampling
from tasks.graph_tickets.graph import Graph
from tasks.mobile_vsr import crops

N, K = 300, 150
VALUES = [i * 7 % 3 for i in range(N)]  #: a hundred of each of 0, 1, 2, never in runs
Found = tuple[Any, Any]


def scores() -> torch.Tensor:
    return torch.tensor(VALUES, dtype=torch.float32)


def highest(count: int, among: Iterable[int] = range(N)) -> list[int]:
    """The `count` highest, the lowest index first."""
    return sorted(sorted(among, key=lambda i: (-VALUES[i], i))[:count])


def lowest(count: int, among: Iterable[int] = range(N)) -> list[int]:
    """The `count` lowest, the lowest index first."""
    return sorted(sorted(among, key=lambda i: (VALUES[i], i))[:count])


def here(mask: torch.Tensor | np.ndarray) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def missing(mask: torch.Tensor | np.ndarray) -> list[int]:
    return np.flatnonzero(~np.asarray(mask)).tolist()


# -- selections that a sort decides


def largest_channels() -> Found:
    return here(channels.largest(scores(), K)), highest(K)


def top_of_all_layers() -> Found:
    first, second = scores().split([100, 200])
    masks = sparse.keep_top({"a": first, "b": second.view(20, 10)}, K)
    return here(torch.cat([masks["a"], masks["b"].flatten()])), highest(K)


def top_among_masks() -> Found:
    free = torch.arange(N) % 2 == 1
    return here(sparse.keep_top({"a": scores()}, 70, among={"a": free})["a"]), highest(70, range(1, N, 2))


def dropped_by_set() -> Found:
    layer = nn.Linear(N, 1)
    layer.weight.data = scores().view(1, N)
    mask = (torch.arange(N) < 200).view(1, N)
    evolving = Evolving.__new__(Evolving)
    evolving.layers, evolving.masks, evolving.step, evolving.end = {"l": layer}, {"l": mask}, 0, 1
    evolving.method, evolving.seed = SimpleNamespace(drop=0.25), lambda *_: 0  # type: ignore[assignment]
    evolving.explore()
    return here(mask & ~evolving.masks["l"]), lowest(50, range(200))


def smallest_filters() -> Found:
    return missing(fpgm.norm_mask(scores().view(N, 1, 1, 1), K)), lowest(K)


def filters_nearest_to_the_median() -> Found:
    # on a line at 1, 2 and 3 those in the middle are nearest, then both ends alike
    rule = sorted(range(N), key=lambda i: (VALUES[i] != 1, i))[:K]
    return missing(fpgm.median_mask((scores() + 1).view(N, 1, 1, 1), 0, K)), sorted(rule)


def channels_deleted_by_chase() -> Found:
    flags = {"a": torch.ones(N, dtype=torch.bool)}
    out = chase.delete_channels({"a": scores()}, flags, K, {"a": 220}, lambda items, k: items[:k])
    return missing(out["a"]), lowest(N - 220)


def channels_deleted_to_operations() -> Found:
    alive = torch.arange(N) >= 20
    chasing = SimpleNamespace(
        problem=SimpleNamespace(dense_macs=N, spec=SimpleNamespace(targets={"macs": 0.5}, target="")),
        flags={"a": alive},
        floors={"a": 1},
        total=N,
        room=N,
        roomy_widths=lambda *_: {"a": K},
    )
    chase.Chasing.delete_to_operations(chasing, {"a": scores()}, 0.5)  # type: ignore[arg-type]
    return here(chasing.flags["a"]), highest(K, range(20, N))


def weights_dropped_by_chase() -> Found:
    everywhere = {"a": torch.ones(N, dtype=torch.bool)}
    return here(chase.drop({"a": scores()}, everywhere, everywhere, N - K)["a"]), highest(K)


def weights_grown_by_chase() -> Found:
    old = {"a": torch.arange(N) < 50}
    grown = chase.grow({"a": scores()}, old, {"a": torch.ones(N, dtype=torch.bool)}, 120)["a"]
    return here(grown & ~old["a"]), highest(120, range(50, N))


def weights_swapped_by_rigl() -> Found:
    mask = torch.arange(N) < 200
    kept = highest(140, range(200))
    wished = highest(60, sorted(set(range(N)) - set(kept)))
    return here(rigl.swap(scores(), scores(), mask, 60)), sorted(kept + wished)


def scales_that_a_layer_keeps_anyway() -> Found:
    return here(slimming.above_threshold({"a": scores()}, 0.9, {"a": 50})["a"]), highest(50)


def columns_of_a_block() -> Found:
    mask = torch.zeros(40, N, dtype=torch.bool)
    for column, value in enumerate(VALUES):
        mask[: 10 * (2 + value), column] = True
    (block,) = structure_lth.regroup(mask, lambda m: torch.zeros(len(m), dtype=torch.int64), lambda *_: K, nn=40)
    return block.columns.tolist(), sorted(range(N), key=lambda i: (-VALUES[i], i))[:K]


def edges_of_teddy() -> Found:
    row = torch.arange(N)
    return missing(teddy.keep_scored(Graph(row, (row + 1) % N, N), scores(), 0.5)), lowest(K)


def edges_of_the_worst_way() -> Found:
    way = torch.tensor([i % 2 for i in range(N)], dtype=torch.float32)
    rule = sorted(range(N), key=lambda i: (-VALUES[i], -(i % 2), i))[:K]
    return missing(without_highest(scores(), way, K)), sorted(rule)


def outcomes_first_met() -> Found:
    return here(spectral.first_distinct(np.array(VALUES, float), K)), lowest(K)


def adjacency_below_its_percentile() -> Found:
    signed = np.array([(-1.0) ** v for v in VALUES])  # one magnitude: the percentile removes none, the signed values decide
    rule = sorted(range(N), key=lambda i: (signed[i], i))[:K]
    return missing(prune_adjacency(signed, 50)), sorted(rule)


def positions_ranked_by_emt() -> Found:
    table = emt.rank(scores().view(30, 10).double())
    return (table[:, 0] * 10 + table[:, 1]).long().tolist(), sorted(range(N), key=lambda i: (VALUES[i], i))


def entries_drawn_for_a_node() -> Found:
    graph = Graph(torch.arange(1, N + 1), torch.zeros(N, dtype=torch.int64), N + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: scores())
        drawn = sampling.sample(graph, torch.tensor([0]), torch.Generator(), fanout=(K,))
    return drawn.entries.tolist(), sorted(range(N), key=lambda i: (VALUES[i], i))[:K]


def opposites_of_entries() -> Found:
    row, col = torch.tensor([0] * N + [1]), torch.tensor([1] * N + [0])
    return Graph(row, col, 2).reverse.tolist(), [N] * N + [0]


def entries_of_a_row() -> Found:
    node = torch.tensor(VALUES)
    order = graphs._compress(node, torch.zeros_like(node), 3)[2]
    assert order is not None
    return order.tolist(), sorted(range(N), key=lambda i: (VALUES[i], i))


def edges_held_out() -> Found:
    """Of a split whose every draw is one number: the first edges are the test's, the next the validation's."""
    row, col = np.triu_indices(30, 1)
    both = Graph(torch.from_numpy(np.r_[row, col]), torch.from_numpy(np.r_[col, row]), 30)
    draws = np.random.default_rng(0)
    rng = SimpleNamespace(random=lambda n: np.array(VALUES * 2)[:n] / 3 if isinstance(n, int) else draws.random(n))
    graph = SimpleNamespace(row=both.row.numpy(), col=both.col.numpy(), nodes=90, name="", citations=0, x=None, notes=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "Generator", lambda *_: rng)
        parts = link_data.split_edges(graph).positive  # type: ignore[arg-type]
    edges = np.stack([row, col], 1)
    order = sorted(range(len(edges)), key=lambda i: ((VALUES * 2)[i], i))
    held = np.r_[parts["test"], parts["val"]]
    return held.tolist(), edges[order[: len(held)]].tolist()


SORTED: list[Callable[[], Found]] = [
    largest_channels,
    top_of_all_layers,
    top_among_masks,
    dropped_by_set,
    smallest_filters,
    filters_nearest_to_the_median,
    channels_deleted_by_chase,
    channels_deleted_to_operations,
    weights_dropped_by_chase,
    weights_grown_by_chase,
    weights_swapped_by_rigl,
    scales_that_a_layer_keeps_anyway,
    columns_of_a_block,
    edges_of_teddy,
    edges_of_the_worst_way,
    outcomes_first_met,
    adjacency_below_its_percentile,
    positions_ranked_by_emt,
    entries_drawn_for_a_node,
    opposites_of_entries,
    entries_of_a_row,
    edges_held_out,
]


# -- selections that no order of equals can change: a threshold, a draw, a rule of their own


def weights_projected_by_teddy() -> Found:
    halves = [nn.Parameter(x.clone()) for x in (scores() + 1).split([100, 200])]
    model = SimpleNamespace(named_parameters=lambda: [("a", halves[0]), ("b", halves[1])], prunable=lambda: ["a", "b"])
    teddy.project(model, 0.5)  # type: ignore[arg-type]
    return missing(torch.cat([h.detach() for h in halves]) != 0), lowest(K)


def masks_of_ugs() -> Found:
    """All ties with the threshold go."""
    (kept,) = graph_masks.prune_lowest([scores() + 1], K)
    return here(kept), [i for i in range(N) if VALUES[i] > 1]


def weights_that_moved_most() -> Found:
    """All ties with the pivot stay."""
    mask = emt.gradient_mask({"a": torch.zeros(N)}, {"a": scores()}, 0.5)["a"]
    return here(mask > 0), [i for i in range(N) if VALUES[i] >= 1]


def weights_dropped_as_released() -> Found:
    """All ties with the threshold stay."""
    everywhere = {"a": torch.ones(N, dtype=torch.bool)}
    kept = chase.drop({"a": scores()}, everywhere, everywhere, K, exact=False)["a"]
    return here(kept), [i for i in range(N) if VALUES[i] >= 1]


def weights_grown_as_released() -> Found:
    """No tie with the threshold comes."""
    nothing = {"a": torch.zeros(N, dtype=torch.bool)}
    grown = chase.grow({"a": scores()}, nothing, {"a": torch.ones(N, dtype=torch.bool)}, K, exact=False)["a"]
    return here(grown), [i for i in range(N) if VALUES[i] > 1]


def channels_refilled() -> Found:
    """Above the threshold, and the first of those at it."""
    mask = torch.zeros(N, 2, dtype=torch.bool)
    mask[:K] = True
    above = [i for i in range(N) if VALUES[i] > 1]
    return here(structure_lth.refill(mask, scores()).all(1)), sorted([*above, VALUES.index(1)])


def clusters_of_one_size() -> Found:
    mask = torch.ones(N, 2, dtype=torch.bool)
    parts = structure_lth.clusters(mask, lambda m: torch.arange(len(m)) % 60)
    return [int(rows[0]) for rows in parts], list(range(60))


def layers_in_turn() -> Found:
    """Of equal scores each layer's first, then each layer's second."""
    found = channels.rank({f"l{i:02}": torch.ones(4) for i in range(20)})
    return found, [f"l{i:02}" for i in range(20)] * 4


def layers_of_equal_remainders() -> Found:
    shapes = {f"l{i}": (10,) for i in range(20)}
    return list(sparse.uniform_counts(shapes, 107).values()), [6] * 7 + [5] * 13


def pairs_by_a_seeded_permutation() -> Found:
    place = np.random.default_rng(3).permutation(N).tolist()
    rule = sorted(range(N), key=lambda i: (-VALUES[i], place[i]))[:K]
    return here(graph_sparsifiers.keep_highest(np.array(VALUES), K, np.random.default_rng(3))), sorted(rule)


def ranks_by_a_seeded_permutation() -> Found:
    star = Pairs.of(Graph(torch.tensor([0] * N + [*range(1, N + 1)]), torch.tensor([*range(1, N + 1)] + [0] * N), N + 1))
    place = np.random.default_rng(3).permutation(2 * N).tolist()
    order = sorted(range(N), key=lambda i: (-VALUES[i], place[i]))
    found, _ = graph_sparsifiers.local_rank(star, np.array([VALUES, VALUES]), np.random.default_rng(3))
    return found.tolist(), [order.index(i) for i in range(N)]


def chunks_of_patches() -> Found:
    """A tie goes wholly to the lower chunk."""
    found = stdo.assign_chunks(scores(), 2)
    return found.tolist(), [int(v > 1) for v in VALUES]


def the_window_of_an_even_frame() -> Found:
    """The first of several."""
    return crops.window(np.ones((200, 300), np.int64)), (0, 0)


def the_frame_of_an_even_clip() -> Found:
    """The first frame of each half."""
    return [t for t, *_ in crops.windows(np.zeros((40, 3, 70, 80), np.uint8))], [0, 20]


OTHERS: list[Callable[[], Found]] = [
    weights_projected_by_teddy,
    masks_of_ugs,
    weights_that_moved_most,
    weights_dropped_as_released,
    weights_grown_as_released,
    channels_refilled,
    clusters_of_one_size,
    layers_in_turn,
    layers_of_equal_remainders,
    pairs_by_a_seeded_permutation,
    ranks_by_a_seeded_permutation,
    chunks_of_patches,
    the_window_of_an_even_frame,
    the_frame_of_an_even_clip,
]


def of(cases: list[Callable[[], Found]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("selection", cases, ids=[c.__name__ for c in cases])


def unstable(patch: pytest.MonkeyPatch) -> None:
    """torch's sorts as they are without `stable`; numpy's, which may do as well as not, with equals in reverse."""
    sort, argsort, method = torch.sort, torch.argsort, torch.Tensor.sort
    numpy_sort = np.argsort

    def reverse(x: Any, *_: Any, kind: str | None = None, **__: Any) -> np.ndarray:
        return len(x) - 1 - numpy_sort(np.asarray(x)[::-1], kind="stable")

    patch.setattr(torch, "sort", lambda x, *a, stable=False, **k: sort(x, *a, **k))
    patch.setattr(torch, "argsort", lambda x, *a, stable=False, **k: argsort(x, *a, **k))
    patch.setattr(torch.Tensor, "sort", lambda x, *a, stable=False, **k: method(x, *a, **k))
    patch.setattr(np, "argsort", reverse)


def test_candidates_tie_more_than_a_short_sort_keeps_in_order() -> None:
    assert min(Counter(VALUES).values()) > 16


@of(SORTED + OTHERS)
def test_of_equals_the_stated_ones_are_chosen(selection: Callable[[], Found]) -> None:
    found, rule = selection()
    assert found == rule


@of(SORTED)
def test_a_sort_that_is_not_stable_would_choose_others(selection: Callable[[], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    unstable(monkeypatch)
    found, rule = selection()
    assert found != rule


@of(OTHERS)
def test_where_no_sort_of_equals_decides_its_stability_does_not_matter(
    selection: Callable[[], Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    unstable(monkeypatch)
    found, rule = selection()
    assert found == rule


def test_topk_would_project_other_weights() -> None:
    flat = scores() + 1
    assert sorted(torch.topk(flat, K, largest=False, sorted=False).indices.tolist()) != lowest(K)
