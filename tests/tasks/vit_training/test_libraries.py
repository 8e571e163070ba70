"""Where timm, torch-pruning and torch do otherwise than one would guess: what is built on them here does not fall for it.

The libraries' own behaviour is held by scripts in `findings/`.
"""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reference_impls.parts.vit_attention_masks import MaskedBlock, MaskFlow, connect_masked, linked, masked_softmax
from reference_impls.parts.vit_blocks import Flow, TokenBlock, attend, class_attention, connect, heads, strongest
from suite.meters import operations
from tasks.vit_training import lvvit, networks
from tasks.vit_training.patches import timm
from tests.tasks.vit_training.helpers import vit_problem

ROOT = Path(__file__).parents[3]
IMAGES = (3, 32, 32)
vit = timm("timm.models.vision_transformer")


def small(name: str = "vit-48-4-3-p4", block: type[nn.Module] | None = None) -> Any:
    torch.manual_seed(7)
    return networks.build(name, 10, IMAGES, block=block)


def sharpened(model: Any, factor: float = 8.0) -> Any:
    """With queries, keys and values as large as a trained network's, so that attention is not all but uniform."""
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight *= factor
            block.attn.qkv.bias.normal_()
    return model


# --- set_input_size puts another position parameter in place, and reset_classifier a head that is initialised otherwise


@pytest.mark.parametrize("name", ["vit-24-4-2-p4", "swin-t", "lvvit-s"])
def test_an_optimizer_of_a_fresh_network_holds_exactly_its_parameters(name: str) -> None:
    problem = vit_problem()
    with torch.device("meta"):
        model = networks.build(name, 10, IMAGES)
    held = [id(p) for group in problem.recipe.optimizer(model).param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_a_step_moves_every_parameter_of_a_problems_network() -> None:
    problem = vit_problem()
    model = problem.network()
    optimizer = problem.recipe.optimizer(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    problem.recipe.set_rate(optimizer, 5, 10)
    problem.recipe.loss(model, torch.randn(8, *problem.input), torch.arange(8)).backward()
    optimizer.step()
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []


def test_a_head_is_initialised_as_the_networks_other_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvvit, "DEPTH", 2)
    monkeypatch.setitem(networks.SWIN, "swin-t", (1, 1, 1, 1))
    torch.manual_seed(0)
    swin: Any = networks.build("swin-t", 100, IMAGES)
    label: Any = networks.build("lvvit-s", 100, IMAGES)
    plain: Any = networks.build("vit-192-1-3-p8", 100, IMAGES)
    for head in (plain.head, swin.head.fc, label.head, label.aux_head):
        assert 0.0195 < head.weight.detach().std() < 0.0205
        assert not head.bias.any()


def test_nobody_here_resizes_a_network_or_resets_its_head() -> None:
    found = []
    for folder in ("suite", "tasks", "reference_impls"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if "set_input_size" in text or "reset_classifier" in text:
                named = (n.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute))
                found += [f"{file.relative_to(ROOT)}: {n}" for n in named if n in ("set_input_size", "reset_classifier")]
    assert found == []


# --- Swin at another size is one network by img_size= and another by set_input_size


@pytest.mark.parametrize(
    ("size", "windows", "shifts"),
    [
        (32, [4, 4, 2, 1], [2, 0, 0, 0]),
        (64, [4, 4, 4, 2], [2, 2, 0, 0]),  # timm: 7, 7, 4, 2 by its argument and 2, 2, 2, 2 by its method
        (96, [6, 6, 6, 3], [3, 3, 0, 0]),
        (224, [7, 7, 7, 7], [3, 3, 3, 0]),
    ],
)
def test_swins_windows_are_named_whatever_timm_would_choose(size: int, windows: list[int], shifts: list[int]) -> None:
    with torch.device("meta"):
        ours: Any = networks.build("swin-t", 10, (3, size, size))
        theirs = timm("timm").create_model("swin_tiny_patch4_window7_224", num_classes=10, img_size=size, window_size=windows[0])
    assert [layer.blocks[0].window_size for layer in ours.layers] == [(w, w) for w in windows]
    assert [layer.blocks[1].shift_size for layer in ours.layers] == [(s, s) for s in shifts]
    assert all(size // 4 // 2**i % w == 0 for i, w in enumerate(windows)), "windows tile each stage: nothing is padded"
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


# --- timm's attention keeps the scale that it was made with


def cut_heads(model: Any, stay: int) -> Any:
    """The first so many channels of each head, as torch-pruning leaves them: timm's stored scale is the old one."""
    for block in model.blocks:
        attention, width = block.attn, block.attn.head_dim
        kept = (torch.arange(attention.num_heads)[:, None] * width + torch.arange(stay)).flatten()
        rows = torch.cat([kept + part * attention.attn_dim for part in range(3)])
        qkv, proj = attention.qkv, attention.proj
        qkv.weight, qkv.bias = nn.Parameter(qkv.weight[rows].detach()), nn.Parameter(qkv.bias[rows].detach())
        proj.weight = nn.Parameter(proj.weight[:, kept].detach())
        qkv.out_features, proj.in_features = len(rows), len(kept)
        attention.head_dim, attention.attn_dim = stay, len(kept)
    return model


def unfused(attention: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What timm's attention computes in its parts, and its weights (B, H, n, n)."""
    seen = []
    hook = attention.attn_drop.register_forward_hook(lambda module, args, out: seen.append(out))
    attention.fused_attn = False
    try:
        return attention(x), seen[0]
    finally:
        attention.fused_attn = True
        hook.remove()


@pytest.mark.parametrize("stay", [16, 6])  # channels of a head
def test_both_forms_of_attention_here_have_the_scale_of_the_heads_as_they_are(stay: int) -> None:
    model = cut_heads(sharpened(small()), stay)
    x = torch.randn(2, 65, 48)
    for block in model.blocks:
        stored = block.attn.scale
        q, k, v = heads(block.attn, x)
        ours, scores = attend(q, k, v), class_attention(q, k)
        as_they_are = masked_softmax(q, k, None)
        block.attn.scale = stay**-0.5  # what timm's unfused form has to be told
        _, weights = unfused(block.attn, x)
        assert torch.allclose(ours, weights @ v, atol=1e-5)
        assert torch.allclose(scores, weights[:, :, 0, 1:].mean(1), atol=1e-6)
        assert torch.allclose(as_they_are, weights, atol=1e-5)
        assert (stored == stay**-0.5) == (stay == 16)
        block.attn.scale = stored
        _, stale = unfused(block.attn, x)
        assert torch.allclose(stale, weights, atol=1e-5) == (stay == 16), "the test could not tell"


def test_a_cut_network_of_our_blocks_computes_as_timms_fused_one() -> None:
    theirs, ours = cut_heads(sharpened(small()), 6).eval(), cut_heads(sharpened(small(block=TokenBlock)), 6).eval()
    ours.load_state_dict(theirs.state_dict())
    connect(ours, Flow())
    x = torch.randn(2, *IMAGES)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


# --- a row of attention that is wholly masked gives zeros, other finite values or NaN


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_no_row_of_attention_is_wholly_masked(exact: bool, training: bool) -> None:
    model = sharpened(small(block=MaskedBlock), 30.0).train(training)
    flow = MaskFlow(keep=0.3, target=0.3, links=0.02, links_target=0.02, exact=exact)
    connect_masked(model, flow)
    masks: list[torch.Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda *_: masks.append(flow.mask) if flow.mask is not None else None)
    loss = model(torch.randn(4, *IMAGES)).square().sum()
    assert len(masks) == 2  # behind blocks 1 and 2; the last one's is let go
    assert [len(m[0, 0]) for m in masks] == [21, 7]
    for mask in masks:
        is_open = mask == (1 if exact else 0)
        assert is_open[..., 0].all(), "every patch sees the class token"
        assert is_open[..., 0, :].all(), "which sees all"
        assert (is_open[..., 1:, 1:].sum(-1) >= 1).all()
        assert not is_open.all()
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with torch.inference_mode():
        assert model(torch.randn(4, *IMAGES)).isfinite().all()


def test_equal_connections_open_more_and_never_none() -> None:
    alike = torch.ones(2, 3, 9, 4)
    mask, left = linked(alike, alike, torch.arange(6).expand(2, -1), 1, None)
    assert not mask.any()
    assert float(left) == 49


def test_a_wholly_masked_row_would_not_be_nan_here() -> None:
    q, k, v = torch.randn(3, 2, 3, 5, 4, requires_grad=True).unbind(0)
    shut = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    shut[:, :, 2] = False
    for mask in (shut, torch.zeros(2, 1, 5, 5).masked_fill(~shut, -torch.inf)):
        out = attend(q, k, v, mask)
        assert not out[:, :, 2].any()
        assert out.isfinite().all()
    weights = masked_softmax(q, k, shut.float())
    assert torch.allclose(weights[:, :, 2], torch.full((2, 3, 5), 0.2))


# --- torch's counter sees attention only where it falls apart, which dropout makes it do


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("block", [None, TokenBlock, MaskedBlock])
def test_training_and_evaluation_count_alike(block: type[nn.Module] | None, dropout: float) -> None:
    model = small(block=block)
    if block is MaskedBlock:
        connect_masked(model, MaskFlow())
    elif block is TokenBlock:
        connect(model, Flow())
    for b in model.blocks:
        b.attn.attn_drop.p = dropout
    shape = networks.shape("vit-48-4-3-p4", 10, IMAGES)
    assert shape is not None
    x = torch.zeros(1, *IMAGES)
    found = [operations.count(model.train(mode), (x,), training=True) for mode in (True, False)]
    assert [c.total("macs") for c in found] == [shape.macs(shape.full)] * 2
    assert [c.warnings for c in found] == [(), ()]


def test_masked_attention_is_counted_whole() -> None:
    width, n = 48, 65
    model = connect_masked(small(block=MaskedBlock), MaskFlow(links=0.5, links_target=0.5))
    shape = networks.shape("vit-48-4-3-p4", 10, IMAGES)
    assert shape is not None
    found = operations.count(model, (torch.zeros(1, *IMAGES),)).total("macs")
    scores = 3 * (n - 1) * n * width  # for each of three masks the patches' logits once more
    assert found == shape.macs(shape.full) + scores


def test_swins_attention_is_counted_in_both_modes() -> None:
    with torch.device("meta"):
        model: Any = networks.build("swin-t", 10, (3, 64, 64))
        x = torch.zeros(1, 3, 64, 64)
    stages = [(16, 96, 4, 2), (8, 192, 4, 2), (4, 384, 4, 6), (2, 768, 2, 2)]  # tokens across, width, window, blocks
    expected = 16**2 * 48 * 96 + 768 * 10
    for i, (side, width, window, depth) in enumerate(stages):
        n = side**2
        expected += depth * (12 * n * width**2 + 2 * n * window**2 * width)
        expected += n * 2 * width * width if i else 0  # four tokens of half the width become one
    for mode in (True, False):
        assert operations.count(model.train(mode), (x,), training=True).total("macs") == expected


# --- equal scores come in no order unless one is asked for


def test_of_equal_scores_the_first_stay_however_many_there_are() -> None:
    for count in (9, 17, 64, 196, 1000):  # torch's unstable sort is stable by chance up to 16
        assert strongest(torch.zeros(2, count), count).tolist() == [list(range(count))] * 2
    coarse = torch.randint(0, 5, (3, 196), generator=torch.Generator().manual_seed(0)).float()
    by_hand = [sorted(range(196), key=lambda i: (-row[i], i)) for row in coarse.tolist()]
    assert strongest(coarse, 196).tolist() == by_hand


def test_who_stays_among_fewer_stays_among_more() -> None:
    tied = torch.zeros(1, 196)
    for count in range(1, 196):  # the patches of torch's topk(3) are not among those of its topk(4)
        fewer, more = strongest(tied, count)[0].tolist(), strongest(tied, count + 1)[0].tolist()
        assert more[:-1] == fewer


def test_a_blank_images_patches_tie_and_its_first_ones_stay() -> None:
    model = connect(small(block=TokenBlock), Flow(keep=0.5, target=0.5, record=True)).eval()
    with torch.no_grad():
        model.pos_embed.zero_()  # type: ignore[operator]
        model(torch.zeros(1, *IMAGES))
    kept: Any = model.blocks[0].flow.kept  # type: ignore[index, union-attr]
    assert [k[0].tolist() for k in kept] == [list(range(32)), list(range(16)), list(range(8))]


# --- timm beside a CPU build of torch


@pytest.mark.slow
def test_a_fresh_interpreter_builds_and_reads_networks(tmp_path: Path) -> None:
    kept = tmp_path / "network"
    kept.write_bytes(pickle.dumps(small(block=TokenBlock)))
    asked = f"""
import pickle, sys
from tasks.vit_training import networks
assert "torchvision" not in sys.modules
networks.build("vit-24-1-2-p8", 10, (3, 32, 32))
with open({str(kept)!r}, "rb") as f:
    assert type(pickle.load(f).blocks[0]).__name__ == "TokenBlock"
"""
    subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=True)  # seconds: torch and torchvision are imported anew
