"""Data-level tickets against the authors' functions and against plain ones."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.parts.vit_blocks import Flow, TokenBlock, class_attention, complement, compose, connect, flow_of, heads
from reference_impls.parts.vit_schedule import prune_blocks, pruned
from reference_impls.parts.vit_tickets import (
    EdgeSelector,
    Entry,
    FixedPatches,
    InvertedSelector,
    OnPatches,
    RandomPatches,
    Selecting,
    TicketSelector,
    VarianceSelector,
    inverted,
    kept_lists,
    nested,
    packed,
    rankings,
    ratio_leaving,
    selector_macs,
    ticket_size,
    zeroed,
)
from reference_impls.parts.vit_token_labels import box, token_label_loss, unmixed
from reference_impls.parts.vit_training import VitTrainer
from reference_impls.vit_training.data_level_lth import DataLevelLth
from suite import parallel, registry
from suite.meters import operations
from suite.naming import UserError
from suite.protocol import Spec, Stopped
from tasks.images.datasets import Examples
from tasks.images.recipes import AdamW, Recipe
from tasks.images.sources import InMemory
from tasks.images.workloads import Training, training_steps
from tasks.vit_training.examining import examine
from tasks.vit_training.networks import Shape, build
from tasks.vit_training.patches import ChosenPatches, OnTickets, choose
from tasks.vit_training.problem import BEFORE, Trained, VitProblem
from tests.helpers import MemoryRun, golden, golden_tensors
from tests.tasks.images.helpers import timm
from tests.tasks.vit_training.helpers import vit_problem

ARCHITECTURE = "vit-24-4-2-p8"
ARMS = ("ticket", "random", "random_fixed", "inverted", "variance", "edges", "all")
EPOCHS, BATCH, TRAIN = 2, 8, 24


# problems and networks


def pictures(train: int) -> Examples:
    """Images of 32 pixels whose class is the colour of one bright patch of 8, anywhere on noise."""
    draw = torch.Generator().manual_seed(3)
    x, y = {}, {}
    for split, count in (("train", train), ("val", 30), ("test", 30)):
        y[split] = torch.arange(count) % 3
        x[split] = torch.randint(0, 60, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)
        for image, label in zip(x[split], y[split], strict=True):
            row, column = torch.randint(4, (2,), generator=draw).tolist()
            image[label, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 190
    return Examples(x, y, ("red", "green", "blue"), torch.full((3,), 0.2), torch.full((3,), 0.2), 4)


def problem(
    run: MemoryRun | None = None,
    *,
    target: str = "tokens=0.5",
    division: str = "closed",
    architecture: str = ARCHITECTURE,
    recipe: Recipe | None = None,
    epochs: int = EPOCHS,
    train: int = TRAIN,
) -> VitProblem:
    timm("timm")
    asked = run.spec if run else Spec("vit_training", 1, "smoke", division, f"pictures/{architecture}", target, 0)
    recipe = recipe or AdamW(lr=2e-3, warmup=1)
    rest = (architecture, epochs, BATCH, "fp32", torch.device("cpu"), recipe)
    return VitProblem(asked, run or MemoryRun(asked), InMemory(pictures(train)), *rest)


@cache
def _solved(arm: Any) -> tuple[VitProblem, Trained]:
    p = problem()
    return p, DataLevelLth(arm=arm).solve(p)


def solved(arm: Any = "ticket") -> tuple[VitProblem, Trained]:
    """Each arm is solved once for all tests; the Solution is a copy that a test may alter, the problem is read alone."""
    p, found = _solved(arm)
    return p, copy.deepcopy(found)


def densely(epochs: int = EPOCHS, recipe: Recipe | None = None) -> nn.Module:
    """A network trained by nothing but the trainer."""
    p = problem(epochs=epochs, recipe=recipe)
    return VitTrainer(p).fit("train", p.network()).model


def once(call: Callable[..., Any]) -> Callable[..., Any]:
    """What it answers first, it answers always."""
    answers: list[Any] = []

    def answer(*args: Any) -> Any:
        if not answers:
            answers.append(call(*args))
        return answers[0]

    return answer


def golden_network(saved: dict[str, Any], prefix: str, block: type[nn.Module] | None = None) -> Any:
    """The network of the golden vectors."""
    models = timm("timm.models.vision_transformer")
    model = models.VisionTransformer(
        img_size=32,
        patch_size=int(saved["patch_size"]),
        num_classes=10,
        embed_dim=12,
        depth=12,
        num_heads=int(saved["num_heads"]),
        mlp_ratio=float(saved["mlp_ratio"]),
        block_fn=block or models.Block,
    )
    model.patch_drop = ChosenPatches()
    model.load_state_dict({k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)})
    return model.eval()


def selector_network(architecture: str = "vit-24-6-2-p4", size: int = 32) -> Any:
    torch.manual_seed(5)
    timm("timm")
    model = build(architecture, 3, (3, size, size), block=TokenBlock)
    for w in model.parameters():
        if w.dim() > 1:
            nn.init.normal_(w, std=0.3)  # scores that differ
    return connect(model, Flow()).eval()


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# the authors' functions


def test_the_selectors_lists_and_logits_equal_the_authors() -> None:
    saved = golden_tensors("data_level_lth_ticket")
    model = connect(golden_network(saved, "teacher.", TokenBlock), Flow(target=saved["keep_rate"], record=True))
    with torch.no_grad():
        logits = model(saved["images"])
    assert (logits - saved["teacher_logits"]).abs().max() <= 2e-3
    for i, block in enumerate((3, 6, 9)):
        assert torch.equal(flow_of(model).kept[i], saved[f"idx_block{block}"])


def test_the_ticket_equals_the_authors_though_nothing_behind_the_last_prune_is_computed() -> None:
    saved = golden_tensors("data_level_lth_ticket")
    network = connect(golden_network(saved, "teacher.", TokenBlock), Flow())
    lists = kept_lists(rankings(network, saved["images"], saved["keep_rate"]), nested(64, saved["keep_rate"]))
    for i, block in enumerate((3, 6, 9)):
        assert torch.equal(lists[i], saved[f"idx_block{block}"])
    for block in network.blocks[10:]:
        block.forward = None  # would raise
    ticket = TicketSelector(network, 64, saved["keep_rate"])(saved["images"])
    assert torch.equal(ticket, saved["ticket"])
    assert torch.equal(ticket.sort(1).values, saved["ticket_sorted"])
    assert torch.equal(compose([saved[f"idx_block{b}"] for b in (3, 6, 9)]), saved["ticket"])


def test_a_students_logits_equal_the_authors_on_the_ticket_and_on_all_patches() -> None:
    saved = golden_tensors("data_level_lth_student")
    model = golden_network(saved, "student.")
    with torch.no_grad():
        assert (model(saved["images"]) - saved["student_logits_dense"]).abs().max() <= 2e-3
        choose(model, saved["ticket"])
        on_ticket = model(saved["images"])
        assert (on_ticket - saved["student_logits_ticket"]).abs().max() <= 2e-3
        choose(model, saved["ticket"].sort(1).values)
        assert (model(saved["images"]) - on_ticket).abs().max() <= 1e-5  # the order does not matter: positions were added before


def test_a_block_with_and_without_fusion_equals_the_authors() -> None:
    saved = golden_tensors("data_level_lth_evit_block")
    block = TokenBlock(12, int(saved["num_heads"]), mlp_ratio=2, qkv_bias=True, norm_layer=timm("timm.layers").LayerNorm)
    for norm in (block.norm1, block.norm2):
        norm.eps = 1e-6
    block.load_state_dict({k[2:]: v for k, v in saved.items() if k.startswith("w.")})
    block.flow, block.prunes, block.first = Flow(target=saved["keep_rate"], record=True), True, True
    block.eval()
    with torch.no_grad():
        q, k, _ = heads(block.attn, block.norm1(saved["x"]))
        torch.testing.assert_close(class_attention(q, k), saved["cls_attn"], rtol=0, atol=1e-5)
        out = block(saved["x"])
        assert torch.equal(block.flow.kept[0], saved["topk_idx"])
        assert torch.equal(complement(block.flow.kept[0], 20), saved["complement"])
        torch.testing.assert_close(out, saved["x_out"], rtol=0, atol=2e-4)
        block.flow.fuse = True
        fused = block(saved["x"])
    torch.testing.assert_close(fused, saved["x_out_fused"], rtol=0, atol=2e-4)
    assert (out.shape[1] - 1, fused.shape[1] - 1) == (saved["n_tokens"], saved["n_tokens_fused"])


def test_nested_counts_equal_the_authors_for_all_keep_rates() -> None:
    saved = golden("data_level_lth_image")
    for i, patches in enumerate(saved["n_patches"]):
        for j, ratio in enumerate(saved["keep_rates"]):
            assert list(nested(int(patches), float(ratio))) == saved["left_after_each_step"][i, j].tolist()


def test_zeroed_and_packed_images_equal_the_authors() -> None:
    saved = golden_tensors("data_level_lth_image")
    assert torch.equal(zeroed(saved["images"], saved["index"], saved["patch"]), saved["zeroed"])
    small = packed(saved["images"], saved["index"], saved["patch"])
    assert torch.equal(small, saved["small_dense"])
    assert small.shape[-1] == saved["keep_side"] * saved["patch"]
    shuffled = saved["index"][:, torch.randperm(9, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(packed(saved["images"], shuffled, saved["patch"]), small)  # sorted ascending first
    assert torch.equal(zeroed(saved["images"], shuffled, saved["patch"]), saved["zeroed"])


def test_the_loss_on_token_labels_equals_the_authors() -> None:
    saved = golden_tensors("data_level_lth_tokenlabel")
    index = compose([saved["idx1"], saved["idx2"], saved["idx3"]])
    weights = {"class_weight": saved["cls_weight"], "dense_weight": saved["dense_weight"]}
    loss = token_label_loss(saved["cls_logits"], saved["aux_logits"], saved["target"], index, **weights)
    assert float(loss) == pytest.approx(saved["loss"], abs=1e-5)
    unused = saved["target"].clone()
    unused[..., 0] = 99
    assert token_label_loss(saved["cls_logits"], saved["aux_logits"], unused, index, **weights) == loss


# counts


def test_counts_are_those_of_the_tables() -> None:
    of_196 = {0.95: (187, 178, 170), 0.9: (177, 160, 144), 0.85: (167, 142, 121), 0.8: (157, 126, 101), 0.75: (147, 111, 84)}
    of_64 = {
        0.95: (61, 58, 56),
        0.9: (58, 53, 48),
        0.85: (55, 47, 40),
        0.8: (52, 42, 34),
        0.75: (48, 36, 27),
        0.7: (45, 32, 23),
    }
    for patches, table in ((196, of_196), (64, of_64)):
        for ratio, counts in table.items():
            assert nested(patches, ratio) == counts
    shares = [round(100 * ticket_size(196, k) / 196, 1) for k in of_196]
    assert shares == [86.7, 73.5, 61.7, 51.5, 42.9]


def test_multiply_adds_of_students_and_selectors_are_those_of_the_tables() -> None:
    deit = {"t": Shape(192, 12, 3, 16, 224, 1000), "s": Shape(384, 12, 6, 16, 224, 1000), "b": Shape(768, 12, 12, 16, 224, 1000)}
    table = {
        "t": (1.254, 1.072, 0.896, 0.745, 0.618, 0.514),
        "s": (4.599, 3.959, 3.331, 2.786, 2.320, 1.930),
        "b": (17.564, 15.179, 12.819, 10.753, 8.971, 7.469),
    }
    for name, shape in deit.items():
        found = []
        for k in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75):
            n = ticket_size(196, k) + 1
            found.append(round(shape.macs(((n, n),) * 12) / 1e9, 3))
        assert tuple(found) == table[name]
    # a whole pass of the selector, as the authors run it; of it the ticket needs less
    whole = deit["s"].macs(pruned(deit["s"], 0.9))
    assert round(whole / 1e9, 2) == 3.99
    assert 0.75 < selector_macs(deit["s"], 0.9) / whole < 0.85


@pytest.mark.parametrize("ratio", [0.3, 0.7, 0.9, 0.97])
def test_a_selector_costs_what_is_counted_on_it(ratio: float) -> None:
    network = selector_network()
    shape = Shape(24, 6, 2, 4, 32, 3)
    counted = operations.count(TicketSelector(network, 64, ratio), (torch.zeros(1, 3, 32, 32),)).total("macs")
    entered = [64, *nested(64, ratio)[:2]]
    # beside the formula's the row of the class token once more for each prune
    assert counted - selector_macs(shape, ratio) == sum(n + 1 for n in entered) * 24


@pytest.mark.parametrize("patches", [16, 64, 196])
def test_a_keep_ratio_is_found_for_every_count(patches: int) -> None:
    missed, others = 0, {ticket_size(patches, i / 1e4) for i in range(1, 10_001)}
    for wanted in range(1, patches + 1):
        found = ticket_size(patches, ratio_leaving(patches, wanted))
        assert abs(found - wanted) <= min(abs(n - wanted) for n in others)
        missed += found != wanted
    assert missed <= patches // 8
    assert ratio_leaving(patches, patches) == 1


def test_the_ratio_has_as_few_decimals_as_can_be() -> None:
    assert [ratio_leaving(64, n) for n in (64, 56, 48, 40, 23)] == [1.0, 0.95, 0.9, 0.85, 0.7]
    assert ratio_leaving(196, 144) == 0.9


# selectors


@pytest.mark.parametrize("depth", [1, 2, 4, 6, 8, 12])
def test_tickets_of_every_depth_are_what_the_network_itself_keeps(depth: int) -> None:
    network = selector_network(f"vit-12-{depth}-2-p4")
    flow = flow_of(network)
    flow.record, flow.target = True, 0.7
    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network(x)
    kept, flow.target = flow.kept, 1.0
    selector = TicketSelector(network, 64, 0.7)
    assert selector.prunes == len(set(prune_blocks(depth))) == len(kept)
    assert torch.equal(selector(x), compose(kept))


def test_a_selector_stays_in_evaluation_mode_and_builds_no_graph() -> None:
    network = selector_network("vit-24-12-2-p4")  # so deep that it drops paths in training
    selector = TicketSelector(network, 64, 0.8)
    x = torch.randn(4, 3, 32, 32)
    first = selector(x)
    selector.train()
    assert not any(m.training for m in selector.modules())
    assert torch.equal(selector(x.requires_grad_()), first)
    assert not first.requires_grad


def test_where_all_stay_a_ticket_is_all_patches_in_order() -> None:
    network = selector_network()
    x = torch.randn(2, 3, 32, 32)
    everything = torch.arange(64).expand(2, -1)
    for selector in (TicketSelector(network, 64, 1.0), InvertedSelector(network, 64, 0.99), VarianceSelector(64, 1.0, 4)):
        assert torch.equal(selector(x), everything)
    lists = kept_lists([torch.tensor([[1, 0, 2]]), torch.tensor([[2, 1, 0]])], (3, 2))
    assert [i.tolist() for i in lists] == [[[0, 1, 2]], [[2, 1]]]


def test_inverted_begins_with_what_was_dropped_first_by_rising_score() -> None:
    # of six patches 3 0 5 1 stay, by falling score, and 2 is the lowest; of these the first and the last stay, of them the last
    orders = [torch.tensor([[3, 0, 5, 1, 4, 2]]), torch.tensor([[0, 3, 2, 1]]), torch.tensor([[1, 0]])]
    kept, last = (4, 2, 1), [2, 4, 0, 5, 3, 1]
    for count in range(1, 7):
        assert inverted(orders, (*kept[:2], count))[0, :count].tolist() == last[:count]
    assert compose(kept_lists(orders, kept)).tolist() == [[1]]


def test_inverted_is_a_plain_reading_of_a_networks_own_scores() -> None:
    network = selector_network()
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    scores: list[np.ndarray] = []

    class Watched(TokenBlock):
        def score(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            scores.append(super().score(q, k).numpy())
            return super().score(q, k)

    for block in network.blocks:
        block.__class__ = Watched
    found = InvertedSelector(network, 64, 0.7)(x).numpy()
    counts = nested(64, 0.7)
    for image in range(3):
        entered, order = np.arange(64), []
        for score, count in zip(scores, counts, strict=True):
            rank = np.argsort(score[image])
            order += entered[rank[:-count]].tolist()
            left = entered[rank[-count:]].tolist()
            entered = entered[rank[-count:][::-1]]
        assert found[image].tolist() == (order + left)[: counts[-1]]
    assert not set(found[0]) & set(TicketSelector(network, 64, 0.7)(x)[0].tolist())  # 23 and 23 of 64


def test_variance_and_edges_prefer_patches_of_texture() -> None:
    x = torch.zeros(1, 3, 32, 32)
    x[0, :, 0:8, 8:16] = 5.0  # a bright plane: no variance within, an edge at its border
    x[0, :, 16:24, 16:24] = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    x[0, :, 24:32, 0:8] = torch.linspace(-4, 4, 8)  # a slope: of more variance than the noise, of less edges
    by_variance, by_edges = VarianceSelector(16, 0.5, 8), EdgeSelector(16, 0.5, 8)
    count = ticket_size(16, 0.5)
    assert by_variance(x).shape == (1, count) == (1, 2)
    assert by_variance(x).tolist() == [[12, 10]]
    patches = x.reshape(1, 3, 4, 8, 4, 8).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2).flatten(2)
    torch.testing.assert_close(by_variance.score(x), patches.var(-1))
    assert by_edges(x).tolist()[0][0] == 1  # the plane's lower and right border lie in its own patch
    assert by_edges.score(x)[0, 10] > by_edges.score(x)[0, 12]


# random patches


def test_random_patches_are_uniform_and_addressed_by_seed_epoch_and_step() -> None:
    pick = RandomPatches(16, 7)
    x = torch.zeros(4000, 3, 8, 8)
    state = torch.get_rng_state()
    pick.begin(0)
    first, second = pick(x, 0.8), pick(x, 0.8)
    assert torch.equal(torch.get_rng_state(), state)  # neither weights nor order are disturbed
    assert first.shape == (4000, ticket_size(16, 0.8))
    assert all(len(set(row)) == len(row) for row in first.tolist())
    shares = torch.bincount(first.flatten(), minlength=16) / 4000
    assert (shares - first.shape[1] / 16).abs().max() < 0.04
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    other = RandomPatches(16, 7)
    other.begin(1)
    assert not torch.equal(other(x, 0.8), first)
    other.begin(0)
    assert torch.equal(other(x, 0.8), first)
    assert torch.equal(other(x, 0.8), second)


def test_fixed_patches_are_the_same_in_every_step_and_a_smaller_batch_has_the_first() -> None:
    pick = FixedPatches(16, 8)
    x = torch.zeros(8, 3, 8, 8)
    first = pick(x, 0.8)
    pick.begin(3)
    assert torch.equal(pick(x, 0.8), first)
    assert torch.equal(pick(x[:5], 0.8), first[:5])
    assert len({tuple(sorted(row)) for row in first.tolist()}) > 4
    noise = torch.rand(8, 16, generator=torch.Generator().manual_seed(62))
    assert torch.equal(pick.noise, noise)


@pytest.mark.parametrize("kind", ["random", "fixed"])
def test_processes_share_the_draws_of_a_batch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def draws() -> torch.Tensor:
        pick = RandomPatches(16, 7) if kind == "random" else FixedPatches(16, 8)
        return pick(torch.zeros(8 // parallel.world(), 3, 8, 8), 0.8)

    alone, own = draws(), []
    monkeypatch.setattr(parallel, "world", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        own.append(draws())
    assert torch.equal(own[0], alone[0::2])
    assert torch.equal(own[1], alone[1::2])


def test_random_patches_are_zeroed_in_training_too() -> None:
    """The released code leaves random images untouched: its guard is a flag that its scripts do not pass."""
    x = torch.randn(2, 3, 16, 16) + 9
    index = RandomPatches(16, 1)(x, 0.8)
    black = (zeroed(x, index, 4) == 0).all(1).view(2, 4, 4, 4, 4).permute(0, 1, 3, 2, 4).flatten(3).all(-1).flatten(1)
    assert black.sum(1).tolist() == [16 - index.shape[1]] * 2
    assert not black.gather(1, index).any()


def test_only_a_square_of_patches_is_packed() -> None:
    with pytest.raises(UserError, match="square"):
        packed(torch.zeros(1, 3, 16, 16), torch.arange(10)[None], 4)
    x = torch.randn(1, 3, 224, 224)
    ticket = RandomPatches(196, 0)(x, 0.9)
    assert packed(x, ticket, 16).shape == (1, 3, 192, 192)  # Swin's window of 6


# token labels


def test_unmixing_swaps_the_outputs_of_a_patch_that_both_images_kept() -> None:
    inside = torch.zeros(16, dtype=torch.bool)
    inside[[5, 6, 9, 10]] = True
    draw = torch.Generator().manual_seed(0)
    index = torch.stack([torch.randperm(16, generator=draw)[:11] for _ in range(5)])
    outputs = torch.randn(5, 11, 3, generator=draw)
    found = unmixed(outputs, inside, index)
    moved = 0
    for i in range(5):
        other = index[4 - i].tolist()
        for t, patch in enumerate(index[i].tolist()):
            swaps = bool(inside[patch]) and patch in other
            expected = outputs[4 - i, other.index(patch)] if swaps else outputs[i, t]
            assert torch.equal(found[i, t], expected)
            moved += swaps
    assert moved > 4
    assert torch.equal(unmixed(found, inside, index), outputs)  # twice is not at all
    # of all patches in raster order it is the swap of a square
    whole = torch.randn(4, 16, 3, generator=draw)
    expected = whole.view(4, 4, 4, 3).clone()
    expected[:, 1:3, 1:3] = whole.view(4, 4, 4, 3).flip(0)[:, 1:3, 1:3]
    assert torch.equal(unmixed(whole, inside), expected.view(4, 16, 3))


def test_a_perfect_network_has_no_more_loss_with_mix_token_than_without() -> None:
    """Outputs that are each token's own label: un-mixed by place in the list they would be of another patch."""
    draw = torch.Generator().manual_seed(1)
    labels = torch.eye(6)[torch.randint(6, (4, 16), generator=draw)]
    target = torch.cat([torch.zeros(4, 6, 1), torch.full((4, 6, 1), 1 / 6), labels.transpose(1, 2)], 2)
    kept = torch.randperm(16, generator=draw)[:9]
    index = torch.stack([kept[torch.randperm(9, generator=draw)] for _ in range(4)])  # the same patches in other orders
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[0:3, 1:4] = True
    mixed = torch.where(inside.view(16, 1), labels.flip(0), labels)
    outputs = 50 * mixed.gather(1, index.unsqueeze(-1).expand(-1, -1, 6))
    flat = torch.zeros(4, 6)
    plain = token_label_loss(flat, unmixed(outputs, inside.flatten(), index), target, index, class_weight=0)
    assert float(plain) < 1e-5
    assert float(token_label_loss(flat, outputs, target, index, class_weight=0)) > 1


def test_a_box_mixes_the_class_target_by_its_area() -> None:
    inside = torch.zeros(16, dtype=torch.bool)
    inside[:4] = True
    target = torch.eye(3)[torch.tensor([0, 1])]
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    found = token_label_loss(logits, torch.zeros(2, 16, 3), target, inside=inside, dense_weight=0)
    expected = torch.nn.functional.cross_entropy(logits, 0.75 * target + 0.25 * target.flip(0))
    torch.testing.assert_close(found, expected)
    # a label of the whole image is that of its patches
    dense = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1))
    both = token_label_loss(logits, dense, target, torch.arange(7).expand(2, -1))
    expected = torch.nn.functional.cross_entropy(logits, target)
    expected += 0.5 * torch.nn.functional.cross_entropy(dense.flatten(0, 1), target.repeat_interleave(7, 0))
    torch.testing.assert_close(both, expected)


def test_boxes_are_rectangles_of_every_size() -> None:
    draw = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(300):
        inside = box(14, draw).view(14, 14)
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns)
        areas.append(float(inside.float().mean()))
    assert min(areas) == 0
    assert max(areas) > 0.7
    assert 0.2 < sum(areas) / 300 < 0.45  # half of the images, were none clipped


# the arms


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_keeps_to_its_budget_and_tells_what_it_did(arm: str) -> None:
    p, found = solved(arm)
    whole = EPOCHS * TRAIN
    assert p.run.spent[""] == p.budget == whole
    learns, looks = arm in ("ticket", "inverted"), arm in ("variance", "edges")
    # a dense training, and one epoch of the selector where there is one; arm=all is its own dense training
    assert p.run.spent[BEFORE] == (0 if arm == "all" else whole) + (0 if looks else TRAIN)
    assert [b.name for b in found.before] == (["dense", "selector"] if learns else [])
    assert [b.batches for b in found.before] == ([whole // BATCH, TRAIN // BATCH] if learns else [])
    assert found.tested == ("tickets" if learns or looks else "all")
    assert found.notes == {"arm": arm, "k": 0.76, "patches": 16 if arm == "all" else 8, "of": 16}
    assert (found.frozen is not None) == learns
    assert found.training.steps == whole // BATCH
    if arm == "all":
        assert found.schedule is None
    else:
        assert found.schedule.tokens(0.5) == ((9, 9),) * 4
    x = torch.randn(6, 3, 32, 32)
    ticket = found.selector(x)
    assert ticket.shape == (6, 8)
    assert all(len(set(row)) == 8 for row in ticket.tolist())
    kinds = {"inverted": InvertedSelector, "variance": VarianceSelector, "edges": EdgeSelector}
    assert type(found.selector) is kinds.get(arm, TicketSelector)
    # neither network has an index left, and each takes the ticket
    found.model.eval()
    with torch.no_grad():
        dense = found.model(x)
        choose(found.model, ticket)
        assert not torch.equal(found.model(x), dense)
        choose(found.model, None)
        assert found.whole(x[:1]).shape == (1, 3)
    assert all(m.index is None for n in (found.model, found.whole) for m in n.modules() if isinstance(m, ChosenPatches))


def test_arms_share_weights_and_order_and_differ_by_their_patches_alone() -> None:
    found, dense = {arm: solved(arm)[1] for arm in ARMS}, densely()
    assert same(found["all"].model, dense)
    assert all(same(s.whole, dense) for s in found.values())
    for a in ARMS:
        assert not any(same(found[a].model, found[b].model) for b in ARMS if b != a)
    # one selector per seed and ratio, whichever arm it is of
    trained = [found[a].selector.network for a in ("ticket", "random", "random_fixed", "inverted", "all")]
    assert all(same(t, trained[0]) for t in trained[1:])


@pytest.mark.parametrize("arm", ["ticket", "random", "random_fixed", "variance"])
def test_where_all_patches_stay_every_arm_is_the_dense_training(arm: str) -> None:
    recipe = AdamW(lr=2e-3, warmup=0)
    found = DataLevelLth(arm=arm).solve(problem(target="tokens=1", epochs=1, recipe=recipe))
    assert same(found.model, densely(1, recipe))
    assert found.frozen is None or found.frozen(0.5) == 0
    x = torch.randn(3, 3, 32, 32)
    assert torch.equal(found.selector(x), torch.arange(16).expand(3, -1))


@pytest.mark.parametrize(
    ("arm", "stops"),
    [  # batches from where a life of the run goes on; an epoch is three
        ("ticket", (2, 7, 4, 4)),  # in the dense training, the selector's, and each epoch of the real one
        ("random", (2, 4, 10)),  # in each epoch of the real training, and in the selector's behind the dense one
    ],
)
def test_a_solve_that_is_stopped_again_and_again_ends_as_if_it_had_not_been(arm: str, stops: tuple[int, ...]) -> None:
    method, (_, whole) = DataLevelLth(arm=arm), solved(arm)
    asked, saved = problem().spec, None
    for stop in stops:
        run = MemoryRun(asked, stop_after=stop, saved=saved)
        with pytest.raises(Stopped):
            method.solve(problem(run))
        saved = run.saved
    again = MemoryRun(asked, saved=saved)
    p = problem(again)
    found = method.solve(p)
    for ours, theirs in ((found.model, whole.model), (found.whole, whole.whole), (found.selector, whole.selector)):
        assert same(ours, theirs)
    assert again.spent[""] == p.budget


def test_the_ticket_is_the_selectors_own_of_the_very_batch() -> None:
    p, found = solved()
    assert isinstance(found.training.loss, OnPatches)
    assert found.training.loss.pick is found.selector
    model, (x, y) = copy.deepcopy(found.model), next(iter(problem().batches(0)))
    choose(model, found.selector(x))
    expected = p.recipe.loss(model, x, y)
    choose(model, None)
    assert torch.equal(found.training.loss(model, x, y), expected)
    assert model.patch_drop.index is None
    # an image that the recipe mixes is selected as it is mixed
    seen: list[torch.Tensor] = []
    mixing = AdamW(mixup=0.8)
    loss = OnPatches(lambda images, _: seen.append(images) or found.selector(images), 16, mixing.loss)
    taken: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    loss(model, x, y)
    assert seen[0] is taken[0]
    assert not torch.equal(seen[0], x)


def test_an_index_does_not_outlive_a_step_that_fails() -> None:
    p = problem()
    model = p.network()
    model.patch_drop = Entry(0.8)
    loss = OnPatches(RandomPatches(16, 0), 16, p.recipe.loss)
    with pytest.raises(RuntimeError):
        loss(model, torch.zeros(2, 5, 32, 32), torch.zeros(2, dtype=torch.long))  # no picture: of five channels
    assert model.patch_drop.index is None


def test_the_selector_is_fine_tuned_without_drop_path_at_a_constant_ratio_from_the_dense_weights() -> None:
    # so deep that it drops paths in training
    p = problem(architecture="vit-12-12-2-p8", epochs=1, recipe=AdamW(lr=2e-3, warmup=0))
    found = DataLevelLth(selector_share=0.34).solve(p)
    dense, tuned = found.before
    assert dense.model is found.whole
    training = tuned.training
    assert (training.recipe.lr, training.recipe.least) == pytest.approx((p.recipe.lr / 10, p.recipe.lr / 100))
    assert training.recipe.weight_decay == 1e-6
    assert training.recipe.rate(0, 10) == training.recipe.lr  # no warm-up
    # the same by hand: the first epoch's batches, in evaluation mode
    network = connect(p.network(TokenBlock), Flow(keep=0.76, target=0.76)).eval()
    network.load_state_dict(dense.model.state_dict())
    optimizer = training.recipe.optimizer(network)
    training.recipe.set_rate(optimizer, 0, 1)
    for x, y in problem(architecture="vit-12-12-2-p8").batches(0):
        optimizer.zero_grad()
        p.recipe.loss(network, x, y).backward()
        optimizer.step()
    assert same(network, tuned.model)
    assert not same(network, dense.model)
    # no fine-tuning at all: the dense weights select, as the authors' scripts for CIFAR have it
    bare = DataLevelLth(selector_share=0.0).solve(problem(epochs=1))
    assert same(bare.selector.network, bare.whole)
    assert [b.name for b in bare.before] == ["dense"]


@pytest.mark.slow
def test_validation_looks_at_what_the_arm_is_tested_on() -> None:
    for arm, tickets in (("ticket", True), ("inverted", True), ("random", False), ("all", False)):
        p, found = solved(arm)
        last = [value for name, value in p.run.values if name == "end_top1"]
        tested = OnTickets(found.selector, found.model) if tickets else found.model
        assert last == [p.validate(tested)]


@pytest.mark.slow
def test_a_solution_can_be_pickled_and_its_steps_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("dense", "tuned"):  # the same for all arms
        monkeypatch.setattr(DataLevelLth, stage, once(getattr(DataLevelLth, stage)))
    batches = list(problem().batches(0))
    for arm in ("ticket", "random", "random_fixed", "edges"):
        # ten epochs of one batch: the cosine begins at a tenth and ends at four
        method = DataLevelLth(arm=arm, schedule="cosine", k=0.7)
        found = pickle.loads(pickle.dumps(method.solve(problem(epochs=10, train=BATCH, architecture="vit-24-2-2-p8"))))
        training = replace(found.training, set_point=found.schedule.set)
        seen: list[int] = []
        found.model.blocks[0].register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].shape[1]))
        assert found.points == (0.0, 0.2, 0.4)
        # the steps of several points in turns
        calls = [w.prepare() for w in training_steps(found.model, training, found.points, lambda: batches)]
        seen.clear()
        for call in (*calls, *reversed(calls)):
            call()
        expected = [found.schedule.tokens(point)[0][0] for point in found.points]
        assert expected[0] == 17 > expected[1] > expected[2]
        assert seen == [*expected, *reversed(expected)]
        for stage in found.before:
            assert isinstance(stage.training, Training)
            training_steps(stage.model, stage.training, (0.5,), lambda: batches)[0].prepare()()


# targets


def test_targets_are_met_by_the_number_of_patches() -> None:
    p = problem(target="tokens=0.75", architecture="vit-48-6-3-p4")
    plan = DataLevelLth().plan(p)
    assert (plan.ticket, plan.k) == (48, 0.9)
    attained = {ticket_size(64, i / 1e4) for i in range(1, 10_001)}
    for arm, share in product(("ticket", "random"), (0.4, 0.8, 0.95, 1.0)):
        p = problem(target=f"train_macs={share}", architecture="vit-48-6-3-p4")
        plan = DataLevelLth(arm=arm).plan(p)
        shape, looks = p.vit, arm == "ticket"

        def cost(count: int, shape: Shape = shape, looks: bool = looks) -> float:
            # of three passes, forward and backward, the selector has the forward one; where all stay it is not asked
            selecting = selector_macs(shape, ratio_leaving(64, count)) / 3 if looks and count < 64 else 0
            return (shape.macs(((count + 1, count + 1),) * shape.depth) + selecting) / shape.macs(shape.full)

        assert abs(cost(plan.ticket) - share) == pytest.approx(min(abs(cost(n) - share) for n in attained))
    assert DataLevelLth(k=0.85).plan(p).ticket == 40  # which the target does not ask for
    steps = 30 * (TRAIN // BATCH)
    for arm in ("random", "ticket"):
        p = problem(target="train_macs=0.6", architecture="vit-48-6-3-p4", epochs=30)
        ramped, shape = DataLevelLth(arm=arm, schedule="cosine").plan(p), p.vit
        asking = Selecting(ramped.entering, ramped.chooser) if arm == "ticket" else lambda _: 0
        taken = [shape.macs(ramped.entering.tokens(i / steps)) + asking(i / steps) / 3 for i in range(steps)]
        assert sum(taken) / steps / shape.macs(shape.full) == pytest.approx(0.6, abs=0.01)
        assert ramped.ticket < DataLevelLth(arm=arm).plan(p).ticket
    ramped = DataLevelLth(schedule="cosine").plan(problem(target="tokens=0.5", architecture="vit-48-6-3-p4", epochs=30))
    seen = [ramped.entering.tokens(i / steps)[0][0] - 1 for i in range(steps)]
    assert sum(seen) / steps / 64 == pytest.approx(0.5, abs=0.01)  # the mean over the steps is what the target is held to


def test_along_the_cosine_all_patches_enter_first_and_the_selector_is_not_asked() -> None:
    p = problem(architecture="vit-24-4-2-p4", epochs=30)
    method = DataLevelLth(schedule="cosine", k=0.7)
    plan = method.plan(p)
    counts = [plan.entering.tokens(i / 30)[0][0] - 1 for i in range(30)]
    assert counts[0] == 64  # one epoch of warm-up
    assert counts[11:] == [23] * 19
    assert counts == sorted(counts, reverse=True)
    cost, whole = Selecting(plan.entering, plan.chooser), selector_macs(p.vit, 0.7)
    assert cost(0.0) == 0  # all patches stay
    assert cost(0.4) == whole < cost(0.2)
    asked: list[float] = []
    model = p.network()
    model.patch_drop = Entry(0.7)
    loss = OnPatches(lambda images, keep: asked.append(keep) or RandomPatches(64, 0)(images, keep), 64, p.recipe.loss)
    x, y = torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.long)
    for point in (0.0, 0.2, 0.4):
        plan.entering.set(model, point)
        loss(model, x, y)
    assert len(asked) == 2
    assert asked[1] == 0.7


def test_longer_training_shows_as_many_patches_and_needs_the_open_division() -> None:
    def epochs(k: float, of: int = 300) -> int:
        return DataLevelLth(arm="random", longer=True, k=k).plan(problem(epochs=of)).epochs

    # the authors' 350, 412, 489 and 586; 711.1 they round down
    assert [epochs(k) for k in (0.95, 0.9, 0.85, 0.8, 0.75)] == [350, 412, 489, 586, 712]
    assert epochs(0.7, 343) == 1000
    method = DataLevelLth(arm="random", longer=True, k=0.8)
    with pytest.raises(UserError, match="--division open"):
        method.solve(problem())
    p = problem(division="open", epochs=1)
    found = method.solve(p)
    assert found.training.epochs == 2
    assert p.run.spent[""] == 2 * TRAIN


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["ticket", "random", "variance"])
def test_the_task_finds_what_the_method_says(arm: str) -> None:
    task = registry.task("vit_training")
    p = vit_problem(epochs=1, target="tokens=0.75", case="digits/vit-24-4-2-p8")
    found = DataLevelLth(arm=arm).solve(p)
    measures = {m.name: m.value for m in task.weigh(p, found)}
    assert measures["kept.tokens"] == 0.75
    costs = {"ticket": 2, "random": 0.5, "variance": 0.5}  # a dense training besides, or none
    assert measures["total_macs_share"] > costs[arm]
    evidence = task.examine(p, found)
    columns = ("all", "ticket", "random", "parent_all", "parent_ticket", "parent_random", "found")
    assert all(evidence[c].min() >= 0 for c in columns)
    tested = evidence["all"] if arm == "random" else evidence["ticket"]
    assert (evidence["prediction"] == tested).all()


def test_a_smaller_selector_may_choose_for_a_wider_network() -> None:
    p = problem()
    found = DataLevelLth(selector="vit-12-4-2-p8").solve(p)
    assert found.selector.network.embed_dim == 12
    assert found.whole.embed_dim == found.model.embed_dim == 24
    assert found.before[0].model.embed_dim == 12
    _, own = solved()
    assert same(found.whole, own.whole)
    assert found.frozen(0.5) == selector_macs(Shape(12, 4, 2, 8, 32, 3), 0.76) < own.frozen(0.5)
    for selector in ("vit-12-4-2-p4", "swin-t"):
        with pytest.raises(UserError, match="patches of 8"):
            DataLevelLth(selector=selector).solve(problem())
    with pytest.raises(UserError, match="smaller share"):
        DataLevelLth(selector="vit-12-4-2-p8", selector_share=1.0).solve(problem())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"arm": "best"}, "ticket, random"),
        ({"k": 0.0}, "above 0"),
        ({"k": 1.1}, "at most 1"),
        ({"schedule": "linear"}, "cosine"),
        ({"longer": True}, "arm=random"),
        ({"longer": True, "arm": "random", "schedule": "cosine"}, "constant"),
        ({"selector_share": -0.1}, "from 0 to 1"),
        ({"selector_rate": 0.0}, "above 0"),
    ],
)
def test_settings_that_cannot_be_are_told_apart(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        DataLevelLth(**settings)


def test_wrong_targets_and_networks_raise_before_any_training() -> None:
    for wrong, words in (("examples=0.5", "tokens=0.8"), ("train_macs=0.001", "out of reach"), ("tokens=1.5", "at most 1")):
        p = problem(target=wrong)
        with pytest.raises(UserError, match=words):
            DataLevelLth().solve(p)
        assert not p.run.spent
    with pytest.raises(UserError, match="no plain ViT"):
        DataLevelLth().solve(problem(architecture="swin-t"))


def test_the_speed_division_has_shapes_and_no_examples() -> None:
    for arm in ARMS:
        p = problem(division="speed")
        found = DataLevelLth(arm=arm).solve(p)
        assert not p.run.spent.get("")
        assert same(found.model, p.network())
        assert found.training.steps == EPOCHS * (TRAIN // BATCH)
        assert found.selector(torch.randn(2, 3, 32, 32)).shape == (2, 8)


@pytest.mark.slow
def test_a_ticket_tells_more_than_random_patches_and_inverted_ones_tell_least(monkeypatch: pytest.MonkeyPatch) -> None:
    # the selector and the training that it starts from are the same for all arms
    for stage in ("dense", "tuned"):
        monkeypatch.setattr(DataLevelLth, stage, once(getattr(DataLevelLth, stage)))
    tested, recall = {}, {}
    for arm in ("ticket", "random", "inverted"):
        p = problem(target="tokens=0.25", epochs=12, recipe=AdamW(lr=4e-3, warmup=1))
        found = DataLevelLth(arm=arm).solve(p)
        columns = examine(p, found, 5, 0)
        tested[arm] = (columns["ticket"] == columns["label"]).mean()
        x, _ = next(p.source.evaluate("test", 100))
        bright = x.view(-1, 3, 4, 8, 4, 8).amax((1, 3, 5)).flatten(1).argmax(1)
        recall[arm] = (found.selector(x) == bright[:, None]).any(1).float().mean()
    assert tested["ticket"] > tested["random"] + 0.1 > tested["inverted"] + 0.2
    assert recall["ticket"] == recall["random"] > 0.5 > 0.1 > recall["inverted"]
