"""Tri-Level E-ViT's patches and connections: the authors' numbers, what follows from them, and what a whole training counts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from reference_impls.parts import vit_attention_masks
from reference_impls.parts.vit_attention_masks import (
    MaskedBlock,
    MaskFlow,
    Masking,
    connect_masked,
    kth_largest,
    linked,
    linked_exactly,
    masked_softmax,
    open_share,
    rows,
)
from reference_impls.parts.vit_blocks import attend, class_attention, flow_of, heads, merge
from reference_impls.parts.vit_schedule import IfMasksSaved, Ramp, keep_ratio, kept, mean_macs, milestones, prune_blocks, pruned
from reference_impls.parts.vit_training import VitTrainer
from reference_impls.vit_training.tri_level_evit import Left, TriLevelEvit, masking_of
from suite.naming import UserError
from suite.protocol import Spec
from tasks.images.recipes import AdamW
from tasks.images.sources import Shapes
from tasks.vit_training import costs
from tasks.vit_training.networks import Shape, build
from tasks.vit_training.patches import timm
from tasks.vit_training.problem import Trained, VitProblem
from tests.helpers import MemoryRun, golden_tensors
from tests.reference_impls.vit_training import thinning
from tests.reference_impls.vit_training.thinning import BATCH, DEPTH, PATCHES, SHAPE, TRAIN, images, network

LOWEST = torch.finfo(torch.float32).min
EXACT = pytest.mark.parametrize("exact", [True, False], ids=["eps", "fused"])
DENSE: dict[str, Any] = {"examples": 1.0, "tokens": 1.0, "attention": 1.0}
small = partial(thinning.problem, architecture="vit-24-4-2-p4", epochs=10)
coarse = partial(thinning.problem, epochs=10)  #: of 16 patches, where their number does not matter


def masked(keep: float = 0.9, links: float = 0.3, *, exact: bool = False, training: bool = False) -> Any:
    """The small network of 64 patches with the same ratios in training and evaluation."""
    flow = MaskFlow(keep, keep, links=links, links_target=links, exact=exact, record=True, watch=True)
    return connect_masked(network(MaskedBlock), flow).train(training)


def fresh(architecture: str, classes: int = 3) -> Any:
    """A network for images of 32 pixels with weights as they are drawn."""
    timm("timm")
    torch.manual_seed(0)
    return build(architecture, classes, (3, 32, 32), block=MaskedBlock)


def additive(mask: torch.Tensor) -> torch.Tensor:
    """Of 0 and 1 (B, n, n) the one that is added, (B, 1, n, n)."""
    return torch.zeros(mask.shape).masked_fill(mask == 0, LOWEST)[:, None]


# --- the authors' numbers


def test_the_schedule_is_the_authors() -> None:
    z = golden_tensors("tri_level_evit_schedule")
    per_epoch, begin, end = int(z["iters_per_epoch"]), int(z["warmup_epochs"]), int(z["total_epochs"])
    steps = zip(z["epoch"].tolist(), z["iteration"].tolist(), strict=True)
    found = [keep_ratio(epoch, i, z["base"], per_epoch, begin, end) for epoch, i in steps]
    torch.testing.assert_close(torch.tensor(found), z["ratio"].float(), atol=1e-7, rtol=0)
    assert milestones(300) == (begin, end)
    assert milestones(30) == (1, 11)
    assert [milestones(e) for e in (1, 2, 10)] == [(1, 2), (1, 2), (1, 4)]
    ramp = Ramp(z["base"], 300, per_epoch)
    whole = 300 * per_epoch
    assert [ramp.at(i / whole) for i in z["iteration"].tolist()] == found


def golden_block(z: dict[str, Any], exact: bool) -> MaskedBlock:
    block: MaskedBlock = MaskedBlock(12, z["num_heads"], qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)).eval()
    block.load_state_dict({k[2:]: v for k, v in z.items() if k.startswith("w.")})
    block.flow = MaskFlow(target=z["token_ratio"], links_target=z["attn_ratio"], exact=exact, record=True)
    block.flow.mask = z["mask_in"][:, None].float() if exact else additive(z["mask_in"])
    block.prunes = True
    return block


def released(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The released softmax, line by line."""
    largest = torch.max(logits, dim=-1, keepdim=True)[0]
    weights = (logits - largest).exp_() * mask
    return (weights + 1e-6 / logits.shape[-1]) / (weights.sum(dim=-1, keepdim=True) + 1e-6)


@EXACT
@torch.no_grad()
def test_a_block_is_the_authors(exact: bool) -> None:
    """Their form is met to the bit by what is computed here, and their vectors but for rounding, which processors differ in."""
    z = golden_tensors("tri_level_evit_block")
    block = golden_block(z, exact)
    q, k, v = heads(block.attn, block.norm1(z["x"]))
    if exact:
        weights = masked_softmax(q, k, block.flow.mask)
        assert torch.equal(weights, released(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, z["mask_in"][:, None].float()))
        out, seen = weights @ v, weights.mean(1)
        torch.testing.assert_close(seen[:, 0, 1:], z["cls_attn"], atol=2e-8, rtol=0)  # 1.5e-8, with any set of instructions
        torch.testing.assert_close(seen[:, 1:, 1:], z["patch_attn"], atol=1e-7, rtol=0)  # 8.9e-8
    else:
        out = attend(q, k, v, block.flow.mask)
        torch.testing.assert_close(class_attention(q, k), z["cls_attn"], atol=1e-6, rtol=0)
    torch.testing.assert_close(merge(block.attn, out), z["attn_out"], atol=1e-5, rtol=0)
    found = block(z["x"])
    if exact:
        x = z["x"] + merge(block.attn, out)
        stay = z["token_idx"].long()[..., None].expand(-1, -1, x.shape[-1])
        x = torch.cat([x[:, :1], x[:, 1:].gather(1, stay)], 1)
        assert torch.equal(found, x + block.mlp(block.norm2(x)))
    torch.testing.assert_close(found, z["x_out"], atol=2e-6 if exact else 1e-5, rtol=0)  # 1.5e-6 and 2.3e-6
    assert torch.equal(block.flow.kept[0], z["token_idx"].long())
    mask = block.flow.mask
    assert mask is not None
    assert torch.equal(mask[:, 0] == (1 if exact else 0), z["mask_out"] == 1)


@EXACT
@torch.no_grad()
def test_a_network_is_the_authors(exact: bool) -> None:
    """Their form and the fused one differ from the vectors by rounding: 1e-6."""
    z = golden_tensors("tri_level_evit_model")
    model = fresh("vit-12-12-3-p4", 10)
    model.load_state_dict({k[2:]: v for k, v in z.items() if k.startswith("w.")})
    flow = MaskFlow(target=z["keep_ratio"], links_target=z["attn_ratio"], exact=exact, record=True, watch=True)
    connect_masked(model, flow).eval()
    counts: list[int] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, out: counts.append(out.shape[1]))
    torch.testing.assert_close(model(z["images"]), z["logits"], atol=2e-6 if exact else 1e-5, rtol=0)
    assert counts == z["tokens_after_block"].tolist()
    for number, index in zip((3, 6, 9), flow.kept, strict=True):
        assert torch.equal(index, z[f"token_idx_{number}"].long())
    assert flow.spread is not None
    torch.testing.assert_close(flow.spread, z["last_cls_attn_var"], atol=1e-9, rtol=0)
    torch.testing.assert_close(flow.spread, z["last_cls_attn"].var(1), atol=1e-9, rtol=0)
    flow.target = flow.links_target = 1.0
    torch.testing.assert_close(model(z["images"]), z["logits_dense"], atol=1e-5, rtol=0)


# --- what follows from them


@torch.no_grad()
def test_a_mask_acts_from_the_block_behind_its_prune_on(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = MaskFlow(target=0.8, links_target=0.3)
    model = connect_masked(fresh("vit-24-12-2-p4"), flow).eval()
    seen: list[tuple[int, torch.Tensor | None]] = []

    def spy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        seen.append((q.shape[2], mask))
        return attend(q, k, v, mask)

    monkeypatch.setattr(vit_attention_masks, "attend", spy)
    model(images(2))
    counts, masks = [n for n, _ in seen], [m for _, m in seen]
    assert counts == [65] * 4 + [53] * 3 + [43] * 3 + [35] * 2  # a pruning block attends with all that enter it
    assert masks[:4] == [None] * 4
    for first, last in ((4, 6), (7, 9), (10, 11)):
        assert masks[first] is not None
        assert all(m is masks[first] for m in masks[first : last + 1])
    assert len({id(m) for m in masks[4:]}) == 3
    assert flow.mask is None  # nothing is held between passes


@EXACT
@torch.no_grad()
def test_the_class_token_sees_all_and_is_seen_by_all(exact: bool) -> None:
    block = golden_block(golden_tensors("tri_level_evit_block"), exact)
    block(golden_tensors("tri_level_evit_block")["x"])
    mask = block.flow.mask
    assert mask is not None
    open_ = mask[:, 0] == (1 if exact else 0)
    assert open_[:, 0].all()
    assert open_[:, :, 0].all()


def test_a_patch_need_not_see_itself() -> None:
    z = golden_tensors("tri_level_evit_block")
    own = z["mask_out"][:, 1:, 1:].diagonal(dim1=1, dim2=2)
    assert 0 < own.sum() < own.numel()
    q = torch.eye(6).expand(1, 1, 6, 6) * 4
    mask, _ = linked(q, -q, None, 3, None)  # each token likes itself least
    assert (mask[0, 0].diagonal()[1:] == LOWEST).all()


def test_of_equally_strong_connections_more_than_wanted_stay() -> None:
    weights = torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.2, 0.1]])
    mask, left = linked_exactly(weights[None], None, 2)
    assert mask[0, 0, 1:, 1:].sum(-1).tolist() == [2, 4, 4, 2]
    assert left == 2 + 4 + 4 + 2 + 9
    same = torch.ones(1, 2, 5, 4)  # patches that do not differ
    mask, left = linked(same, same, None, 1, None)
    assert (mask == 0).all()
    assert left == 25


def test_kth_largest_is_the_sorted_rows() -> None:
    values = torch.randint(0, 6, (5, 7, 9), generator=torch.Generator().manual_seed(0)).float()
    for count in range(1, 10):
        expected = values.sort(-1, descending=True).values[..., count - 1 : count]
        assert torch.equal(kth_largest(values, count), expected)
        assert kth_largest(values.to("meta"), count).shape == expected.shape  # as on a GPU


def test_ceilings_are_taken_of_the_plain_double_product() -> None:
    assert kept(100, 0.55) == 56  # 100 * 0.55 is 55.000000000000007
    assert kept(10, 0.3) == 3
    assert [kept(n, 0.01) for n in (1, 7, 100)] == [1, 1, 1]
    compounded = []
    for ratio in (0.9, 0.8, 0.7):
        n, found = 196, []
        for _ in range(3):
            n = kept(n, ratio)
            found.append(n)
        compounded.append(found)
    assert compounded == [[177, 160, 144], [157, 126, 101], [138, 97, 68]]


def test_blocks_prune_at_a_quarter_half_and_three_quarters() -> None:
    assert [prune_blocks(d) for d in (6, 8, 12)] == [(1, 3, 4), (2, 4, 6), (3, 6, 9)]
    blocks: Any = masked().blocks
    assert [b.prunes for b in blocks] == [i in (1, 2, 3) for i in range(DEPTH)]


@EXACT
def test_nothing_differentiates_through_who_stays_and_what_is_linked(exact: bool) -> None:
    """The gradient is that of a network in which both are given."""
    model = masked(exact=exact, training=True)
    blocks, flow, x = model.blocks, flow_of(model), images(3)
    made: list[torch.Tensor | None] = []
    for block in blocks:
        block.register_forward_hook(lambda *_: made.append(flow.mask))  # type: ignore[attr-defined]
    model(x).square().sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert len(found) == len(list(model.parameters()))
    assert all(m is None or not m.requires_grad for m in made)
    model.zero_grad()
    tokens, mask, kept_ = _embedded(model, x), None, iter(flow.kept)
    for block, after in zip(blocks, made, strict=True):
        q, k, v = heads(block.attn, block.norm1(tokens))
        out = masked_softmax(q, k, mask) @ v if exact else attend(q, k, v, mask)
        tokens = tokens + merge(block.attn, out)
        if block.prunes:
            tokens = rows(tokens, nn.functional.pad(next(kept_) + 1, (1, 0)))
            mask = after
        tokens = tokens + block.mlp(block.norm2(tokens))
    model.head(model.norm(tokens)[:, 0]).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(p.grad, found[name], atol=1e-5, rtol=1e-4)


def _embedded(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Positions are added here, once: whoever stays keeps the one that it came with."""
    return model._pos_embed(model.patch_embed(x))  # type: ignore[no-any-return]


@torch.no_grad()
def test_where_all_patches_stay_their_order_does_not_matter() -> None:
    """The released code sorts them even then; here they are left where they are, and the answer is the same."""
    model, x = masked(1.0, 1.0), images(3)
    tokens = _embedded(model, x)
    for block in model.blocks:
        tokens = rows(tokens, nn.functional.pad(torch.randperm(PATCHES).expand(3, -1) + 1, (1, 0)))
        tokens = block(tokens)
    torch.testing.assert_close(model.head(model.norm(tokens)[:, 0]), model(x), atol=1e-4, rtol=0)


@EXACT
def test_with_all_ratios_one_it_is_dense(exact: bool) -> None:
    thinning.assert_dense(masked(1.0, 1.0, exact=exact), images())
    assert flow_of(masked(1.0, 1.0)).kept == []


def test_drop_path_rises_to_a_tenth_at_depth_twelve_and_is_drawn_for_either_branch() -> None:
    rates = [[getattr(d, "drop_prob", 0.0) for d in (b.drop_path1, b.drop_path2)] for b in fresh("vit-24-12-2-p8").blocks]
    assert rates == [pytest.approx([0.1 * i / 11] * 2) for i in range(12)]
    assert not [m for m in fresh("vit-24-6-2-p8").modules() if getattr(m, "drop_prob", 0.0)]


@torch.no_grad()
def test_evaluation_has_the_target_ratios_from_the_first_step_on() -> None:
    model = masked(0.7, 0.3)
    flow: Any = flow_of(model)
    Masking(Ramp(0.7, 30, 5), Ramp(0.3, 30, 5), SHAPE).set(model, 0.0)
    assert (flow.keep, flow.links) == (1.0, 1.0)
    x = images(2)
    model.train()(x)
    assert [i.shape[1] for i in flow.kept] == [64, 64, 64]
    assert flow.left == flow.whole == DEPTH * 65**2
    model.eval()(x)
    assert [i.shape[1] for i in flow.kept] == [45, 32, 23]


@torch.no_grad()
def test_a_patch_with_too_few_open_connections_left_opens_to_all() -> None:
    """Masked connections are equally strong: 0 here, one small weight all in the released form; the authors' own masks show it."""
    authors = golden_tensors("tri_level_evit_block")["mask_out"][:, 1:, 1:].sum(-1)
    assert set(authors.flatten().tolist()) == {kept(12, 0.4), 12}
    q, k, _ = torch.randn(3, 1, 2, 9, 4, generator=torch.Generator().manual_seed(1))
    open_ = torch.zeros(1, 9, 9)
    open_[:, 0], open_[:, :, 0], open_[:, :, 1:3] = 1, 1, 1  # each patch sees two patches
    for count, expected in ((2, 2), (3, 8)):
        fused, left = linked(q, k, None, count, additive(open_))
        weights = masked_softmax(q, k, open_[:, None])[:, :, 1:, 1:].mean(1)
        exact, left_exactly = linked_exactly(weights, None, count)
        assert torch.equal(fused == 0, exact == 1)
        assert left == left_exactly == 17 + 8 * expected
    # so the second and third prune leave more than their share: a network with fresh weights a twelfth more connections in all
    shape, flow = Shape(24, 12, 2, 4, 32, 3), MaskFlow(0.9, links=0.3)
    model = connect_masked(fresh("vit-24-12-2-p4"), flow).train()
    model(images(8))
    assert 1.05 < flow.left / flow.whole / open_share(shape, 0.9, 0.3) < 1.2


@torch.no_grad()
def test_no_row_is_masked_whole_and_one_that_were_would_weigh_all_tokens_alike() -> None:
    q, k, v = torch.randn(3, 2, 2, 6, 4, generator=torch.Generator().manual_seed(2))
    for count in (1, 3, 5):
        mask, _ = linked(q, k, None, count, None)
        assert ((mask == 0).sum(-1) >= count + 1)[:, :, 1:].all()  # the class token, and as many patches as wanted
    nothing = torch.zeros(2, 1, 6, 6)
    torch.testing.assert_close(masked_softmax(q, k, nothing), torch.full((2, 2, 6, 6), 1 / 6))
    torch.testing.assert_close(attend(q, k, v, nothing + LOWEST), v.mean(2, keepdim=True).expand(-1, -1, 6, -1))


@torch.no_grad()
def test_how_far_both_forms_of_a_mask_are_apart() -> None:
    """1e-7 of logits of 0.5 with fresh weights, 7e-5 of 5 with large ones; eps counts where masked logits lie far above all."""
    for small_weights, bounds, size in ((True, (0, 1e-6), (0.1, 1)), (False, (1e-6, 2e-4), (1, 10))):
        found = []
        for exact in (True, False):
            flow = MaskFlow(target=0.7, links_target=0.1, exact=exact)
            model = fresh("vit-24-12-2-p4") if small_weights else network(MaskedBlock)
            found.append(connect_masked(model, flow).eval()(images()))
        difference, largest = (found[0] - found[1]).abs().max(), found[0].abs().max()
        assert bounds[0] <= difference <= bounds[1], difference
        assert size[0] < largest < size[1]
    for gap, weight in ((5.0, 2.5e-5), (8.0, 5.0e-4), (11.0, 9.7e-3), (14.0, 0.125), (20.0, 0.332)):
        k = torch.tensor([0.0, 0.0, gap]).view(1, 1, 3, 1)
        weights = masked_softmax(torch.ones(1, 1, 3, 1), k, torch.tensor([1.0, 1.0, 0.0]).expand(1, 1, 3, 3))
        assert weights[0, 0, 0, 2].item() == pytest.approx(weight, rel=0.02)


@pytest.mark.parametrize("pruned_too", [False, True])
def test_masks_do_not_depend_on_how_many_images_go_through_at_once(pruned_too: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, 7, 3, 17, 8, generator=generator).requires_grad_()
    index = torch.rand(7, 16, generator=generator).argsort(1)[:, :11] if pruned_too else None
    before = additive((torch.rand(7, 17, 17, generator=generator) < 0.5).int().index_fill(2, torch.tensor([0]), 1))
    found = []
    for chunk in (1, 3 * 17 * 17 * 2, 2**22):
        monkeypatch.setattr(vit_attention_masks, "CHUNK", chunk)
        mask, left = linked(q, k, index, 4, before)
        assert not mask.requires_grad
        assert left == pytest.approx((mask == 0).sum().item() / 7)
        found.append(mask)
    assert all(torch.equal(found[0], m) for m in found)
    weights = (q @ k.transpose(-2, -1) * 8**-0.5 + before).softmax(-1).mean(1)[:, 1:, 1:].detach()
    if index is not None:
        weights = torch.stack([w[i][:, i] for w, i in zip(weights, index, strict=True)])
    expected = weights >= weights.sort(-1, descending=True).values[..., 3:4]
    assert torch.equal(found[0][:, 0, 1:, 1:] == 0, expected)


def test_rows_are_taken_as_a_gather_takes_them_and_so_are_their_gradients() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 9, 5, generator=generator, requires_grad=True)
    at = torch.rand(3, 9, generator=generator).argsort(1)[:, :6]
    weights = torch.randn(3, 6, 5, generator=generator)
    ours, theirs = rows(x, at), x.gather(1, at.unsqueeze(-1).expand(-1, -1, 5))
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(f, x, weights)[0] for f in (ours, theirs)))


def test_the_masks_are_all_that_is_kept_for_the_backward_pass() -> None:
    def saved(model: nn.Module) -> int:
        storages: dict[int, int] = {}

        def pack(t: torch.Tensor) -> torch.Tensor:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            model.train()(images(4)).sum().backward()
        return sum(storages.values())

    dense, ours, released = (saved(masked(1.0, r, exact=e)) for r, e in ((1.0, False), (0.3, False), (0.3, True)))
    mask = 4 * 65 * 80 * 4  # images, rows, entries that rows lie apart, bytes; that of the last block acts on none
    assert 0 < ours - dense <= 2 * mask
    assert released - dense > 8 * mask


def test_networks_are_copied_saved_and_trained_in_bf16() -> None:
    for exact in (True, False):
        thinning.assert_copies(masked(exact=exact), images())
        thinning.assert_steps_in_bf16(masked(exact=exact))


# --- multiply-adds


def test_multiply_adds_on_paper_and_counted() -> None:
    shape = Shape(48, 6, 3, 4, 32, 10)
    found = [round(shape.macs(pruned(shape, r)) / 1e6, 3) for r in (1.0, 0.9, 0.8, 0.7)]
    assert found == [13.364, 11.547, 9.922, 8.483]
    masking = Masking(Ramp(0.7, 30, 6), Ramp(0.3, 30, 6), SHAPE)
    model = masked()
    for point in (0.0, 0.1, 0.9):
        told = SHAPE.macs(masking.tokens(point))
        besides = thinning.step_macs(model, masking, point) - told  # a class row a prune, and attention between those that stay
        n = [a for a, _ in masking.tokens(point)]
        k = [b - 1 for _, b in masking.tokens(point)]
        rows_ = sum(n[i] * 24 for i in (1, 2, 3) if k[i] < n[i] - 1) + n[3] * 24  # the last one for its variance
        links = sum(k[i] * n[i] * 24 for i in (1, 2, 3)) if masking.links.at(point) < 1 else 0
        assert besides == rows_ + links


def test_the_share_that_masks_leave_on_paper() -> None:
    assert open_share(SHAPE, 0.9, 1.0) == 1.0
    k = kept(64, 0.3)
    masked_block = 2 * 64 + 1 + 64 * k
    assert open_share(SHAPE, 1.0, 0.3) == (2 * 65**2 + 2 * masked_block) / (4 * 65**2)
    model = masked(1.0, 0.3, training=True)
    model(images(4))
    flow: Any = flow_of(model)
    assert flow.whole == 4 * 65**2
    # the mask of block 2 sees fewer open connections than it wants nowhere: all patches stay, and so do their links
    assert flow.left / flow.whole == pytest.approx(open_share(SHAPE, 1.0, 0.3))


# --- whole trainings


def share(problem: VitProblem, solution: Trained) -> dict[str, float]:
    return {m.name: m.value for m in costs.weigh(problem, solution)}


def left_of(solution: Trained) -> Left:
    """What the masks left of attention."""
    assert isinstance(solution.ideal, IfMasksSaved)
    assert isinstance(solution.ideal.left, Left)
    return solution.ideal.left


@pytest.mark.slow
def test_the_random_control_draws_as_many_examples_and_patches_and_costs_the_same() -> None:
    """Step for step what the learned choice costs; the examples stay, the patches are drawn anew in every step."""
    control, problem = TriLevelEvit(examples=0.75, tokens=0.8, choice="random"), coarse(epochs=4)
    drawn, learned = control.solve(problem), TriLevelEvit(examples=0.75, tokens=0.8).solve(coarse(epochs=4))
    ours, theirs = share(problem, drawn), share(problem, learned)
    names = ("train_macs", "images_processed", "kept.tokens")
    assert [ours[n] for n in names] == [theirs[n] for n in names]
    assert sum(s["exchanged"] for s in drawn.notes["swaps"]) == 0 < sum(s["exchanged"] for s in learned.notes["swaps"])
    assert drawn.training is not None
    assert drawn.training.loss is None, "nothing is recorded"
    assert drawn.keeps is not None
    x = images(2)
    assert torch.equal(drawn.keeps(x), drawn.keeps(x.flip(0))), "chosen by the seed, not by the image"


def test_random_patches_are_drawn_anew_in_every_step_and_again_where_a_run_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    drawn = vit_attention_masks.drawn_scores
    monkeypatch.setattr(vit_attention_masks, "drawn_scores", lambda like, seed: seeds.append(seed) or drawn(like, seed))
    TriLevelEvit(examples=1.0, tokens=0.7, choice="random").solve(coarse(epochs=2))
    assert len(set(seeds)) > TRAIN // BATCH
    monkeypatch.undo()
    method = TriLevelEvit(examples=0.75, tokens=0.8, choice="random")
    thinning.assert_resumes(method, (5,), epochs=4)


def test_a_training_with_all_levels_off_is_the_dense_one_bit_for_bit() -> None:
    changes: dict[str, Any] = {"epochs": 2, "recipe": AdamW(lr=2e-3, warmup=0)}
    problem = coarse(target="train_macs=0.9", **changes)
    ours = TriLevelEvit(**DENSE).solve(problem)
    dense = VitTrainer(coarse(**changes)).fit("train", coarse().network())
    left, right = ours.model.state_dict(), dense.model.state_dict()
    assert all(torch.equal(left[k], right[k]) for k in left)
    found = share(problem, ours)
    assert (found["kept.train_macs"], found["examples_share"]) == (1.0, 1.0)  # off target, and told so
    assert ours.ideal is None
    assert ours.points == (0.5,)


@pytest.mark.parametrize("wanted", [0.9, 0.7, 0.5])
def test_one_ratio_serves_examples_and_patches(wanted: float) -> None:
    """Epochs are whole batches, so that patches make up for what the examples leave over."""
    problem = small(target=f"train_macs={wanted}")
    problem.source = Shapes((3, 32, 32), 3, 1280)
    size, tokens = TriLevelEvit().sizes(problem)
    assert abs(size / 1280 - tokens) < 0.02
    steps = size // BATCH
    masking = masking_of(problem, steps, tokens, 1.0)
    cost = mean_macs(problem.vit, masking.tokens, 10 * steps) / problem.vit.macs(problem.vit.full)
    assert steps / problem.steps_per_epoch * cost == pytest.approx(wanted, rel=0.005)


def test_given_levels_are_left_alone_and_the_others_make_up_what_is_asked_for() -> None:
    whole = 48
    problem = small(target="train_macs=0.8", train=whole)
    assert TriLevelEvit(examples=1.0, tokens=1.0).sizes(problem) == (whole, 1.0)
    size, tokens = TriLevelEvit(tokens=1.0).sizes(problem)
    assert (size // BATCH, tokens) == (5, 1.0)  # 5 of 6 steps are nearer to 0.8 than 4
    size, tokens = TriLevelEvit(examples=0.9).sizes(problem)
    assert size == whole - round(0.1 * whole)
    assert TriLevelEvit(examples=0.9, tokens=0.7).sizes(problem) == (size, 0.7)
    size, tokens = TriLevelEvit(examples=1.0).sizes(problem)
    assert size == whole
    assert 0 < tokens < 1
    assert TriLevelEvit(examples=0.5).sizes(problem)[1] == 1.0  # too few examples already


@pytest.mark.slow
def test_a_training_costs_what_is_asked_for_and_shows_as_many_images_as_it_says() -> None:
    method = TriLevelEvit(examples=0.9)
    problem = small(target="train_macs=0.6")
    solution = method.solve(problem)
    found = share(problem, solution)
    removed = round(0.1 * TRAIN)
    assert found["images_processed"] == 10 * BATCH * ((TRAIN - removed) // BATCH)
    assert problem.run.spent == {"": found["images_processed"]}
    assert found["kept.train_macs"] == pytest.approx(0.6, rel=0.01)
    assert 0.94 < found["train_macs_ideal"] / found["train_macs"] < 0.96
    assert solution.notes["examples"] == TRAIN - removed
    assert [s["epoch"] for s in solution.notes["swaps"]] == [1, 2, 3, 4, 5]
    assert solution.points == (0.0, 0.2, 0.4)
    assert solution.keeps is not None
    n = PATCHES
    for _ in range(3):
        n = kept(n, solution.notes["token_ratio"])
    assert solution.keeps(images(2)).shape == (2, n)


@pytest.mark.slow
def test_the_ideal_share_is_counted_on_the_masks_of_each_epoch() -> None:
    """Nothing in the dense epochs; then what the masks leave, more than on paper where patches open to all."""
    solution = TriLevelEvit(examples=1.0, tokens=1.0, attention=0.3).solve(small(train=2 * BATCH))
    left = left_of(solution)
    counted = left.counted
    assert counted[0] == 1.0
    assert [left(p) for p in (0.0, 0.05, 0.1, 0.35, 0.99, 1.0)] == [counted[i] for i in (0, 0, 1, 3, 9, 9)]
    assert counted[1] > counted[2] > counted[3]
    assert counted[-1] == pytest.approx(open_share(SHAPE, 1.0, 0.3), rel=0.01)
    fewer = TriLevelEvit(examples=1.0, tokens=0.8, attention=0.3).solve(small())
    behind = left_of(fewer).counted[5:]  # the ramp
    assert sum(behind) / 5 > 1.02 * open_share(SHAPE, 0.8, 0.3)


def test_without_batches_the_ideal_share_is_that_on_paper() -> None:
    spec = Spec("vit_training", 1, "smoke", "speed", "pictures/vit-24-4-2-p4", "train_macs=0.6", 0)
    problem = thinning.problem(MemoryRun(spec), architecture="vit-24-4-2-p4", epochs=10)
    problem.source = Shapes((3, 32, 32), 3, TRAIN)
    solution = TriLevelEvit().solve(problem)
    assert solution.ideal is not None
    ratio = solution.notes["token_ratio"]
    left = left_of(solution)
    assert left(0.0) == 1.0
    assert left(0.9) == open_share(problem.vit, ratio, 0.3)
    assert solution.schedule is not None
    tokens = solution.schedule.tokens(0.9)
    hidden = 2 * sum(n * n for n, _ in tokens) * problem.vit.width * (1 - left(0.9))
    assert solution.ideal(0.9) == pytest.approx(problem.vit.macs(tokens) - hidden)
    assert solution.training is not None
    assert solution.training.steps == 10 * (solution.notes["examples"] // BATCH)


def test_both_forms_train_alike() -> None:
    assert TriLevelEvit(masked="fused") == TriLevelEvit()
    solution = TriLevelEvit(examples=1.0, tokens=0.8, masked="eps").solve(coarse(epochs=4))
    other = TriLevelEvit(examples=1.0, tokens=0.8).solve(coarse(epochs=4))
    x = images()
    with torch.no_grad():
        torch.testing.assert_close(solution.model.eval()(x), other.model.eval()(x), atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["forgetting", "forgetting+cls"])
def test_a_stopped_run_ends_as_if_it_had_never_been_stopped(criterion: Any) -> None:
    method = TriLevelEvit(examples=0.75, tokens=0.8, criterion=criterion)
    # epochs are two batches: it is stopped in the first that are thinned, before the last swap, and behind it
    whole, again = thinning.assert_resumes(method, (3, 9, 3), epochs=10)
    assert left_of(whole).counted == left_of(again).counted
    assert whole.notes == again.notes


def test_the_variance_of_the_last_class_attention_goes_with_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from reference_impls.parts.vit_examples import SwappedExamples

    recorded: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    monkeypatch.setattr(SwappedExamples, "record", lambda self, logits, y, variance=None: recorded.append((logits, variance)))
    criteria: tuple[Any, ...] = ("forgetting", "forgetting+cls")
    for criterion in criteria:
        recorded.clear()
        problem = small(epochs=1)
        TriLevelEvit(examples=0.75, tokens=0.8, criterion=criterion).solve(problem)
        assert [len(logits) for logits, _ in recorded] == [BATCH] * 2
        for _, variance in recorded:
            assert (variance is None) == (criterion == "forgetting")
            assert variance is None or (variance.shape == (BATCH,) and (variance > 0).all())


def test_a_solution_is_saved_and_its_steps_are_taken_again() -> None:
    problem = coarse(epochs=2)
    solution = TriLevelEvit(examples=0.75, tokens=0.8, criterion="forgetting+cls").solve(problem)
    for other in (solution, thinning.loaded(solution)):
        found = costs.workloads(problem, other, 4)
        assert [w.name for w in found] == ["train_step@0", "train_step@0.2", "train_step@0.4", "infer@4"]
        for workload in found:
            workload.prepare()()
        assert share(problem, other)["examples_share"] == 2 / 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"examples": 0.0}, "examples"),
        ({"tokens": 1.5}, "tokens"),
        ({"attention": -0.1}, "attention"),
        ({"masked": "bool"}, "masked"),
        ({"criterion": "loss"}, "criterion"),
        ({"swap_share": 2.0}, "swap_share"),
        ({"keep_lowest": -1}, "keep_lowest"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TriLevelEvit(**settings)


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        (TriLevelEvit(), {"target": "tokens=0.75"}, "train_macs"),
        (TriLevelEvit(), {"target": "train_macs=1.5"}, "at most 1"),
        (TriLevelEvit(examples=1.0), {"target": "train_macs=0.1"}, "out of reach"),
        (TriLevelEvit(), {"target": "train_macs=0.8", "architecture": "lvvit-s"}, "plain ViT"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(method: TriLevelEvit, changes: dict[str, Any], said: str) -> None:
    problem = thinning.problem(epochs=10, **changes)
    with pytest.raises(UserError, match=said):
        method.solve(problem)
    assert not problem.run.spent.get("", 0)


def test_mixed_images_are_counted_too() -> None:
    """The recipe's own mixing calls the network itself: what it answered is what is recorded."""
    problem = coarse(recipe=AdamW(lr=2e-3, warmup=1, mixup=0.8))
    solution = TriLevelEvit(examples=0.75, tokens=0.8).solve(problem)
    assert all(s["exchanged"] > 0 for s in solution.notes["swaps"])
