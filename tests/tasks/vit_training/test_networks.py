"""Vision transformers by name: counts to the unit, fresh weights, chosen patches, and what is said where there is no network."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from reference_impls.parts.vit_blocks import Flow, TokenBlock, connect
from reference_impls.parts.vit_schedule import pruned
from suite.meters import operations
from suite.naming import UserError
from tasks.vit_training import lvvit, networks, swin
from tasks.vit_training.patches import ChosenPatches, choose, gather_patches, take_patches, timm
from tests.tasks.vit_training.helpers import vit_problem

IMAGE = (3, 224, 224)
SMALL = "vit-48-6-3-p8"


def on_paper(name: str, classes: int = 1000, image: tuple[int, ...] = IMAGE) -> nn.Module:
    """A network without data."""
    with torch.device("meta"):
        return networks.build(name, classes, image)


def of(name: str, image: tuple[int, ...] = IMAGE, classes: int = 1000) -> networks.Shape:
    found = networks.shape(name, classes, image)
    assert found is not None
    return found


def seeded(name: str = SMALL, size: int = 32, block: Any = None) -> nn.Module:
    torch.manual_seed(3)
    return networks.build(name, 10, (3, size, size), block=block)


# --- counts


@pytest.mark.parametrize(
    ("name", "params", "giga"),
    [  # timm's
        ("deit-t", 5_717_416, "1.254"),
        ("deit-s", 22_050_664, "4.599"),
        ("deit-b", 86_567_656, "17.564"),
    ],
)
def test_deit_has_the_papers_parameters_and_multiply_adds(name: str, params: int, giga: str) -> None:
    model, shape = on_paper(name), of(name)
    assert sum(p.numel() for p in model.parameters()) == params
    macs = shape.macs(shape.full)
    assert f"{macs / 1e9:.3f}" == giga
    count = operations.count(model, (torch.zeros(1, *IMAGE, device="meta"),))
    assert (count.total("macs"), count.total("params"), count.warnings) == (macs, params, ())


def test_deit_t_to_the_unit() -> None:
    n, c = 197, 192
    blocks = 12 * (4 * n * c * c + 2 * n * n * c + 8 * n * c * c)
    shape = of("deit-t")
    assert shape.macs(shape.full) == blocks + 196 * 768 * c + 1000 * c == 1_253_683_200


def test_swin_t_has_the_papers_parameters() -> None:
    assert sum(p.numel() for p in on_paper("swin-t").parameters()) == 28_288_354


@pytest.mark.parametrize(
    ("ratio", "giga"), [(1.0, "4.60"), (0.9, "3.99"), (0.8, "3.44"), (0.7, "3.00"), (0.6, "2.61"), (0.5, "2.28")]
)
def test_deit_s_that_drops_patches_costs_what_evit_does(ratio: float, giga: str) -> None:
    shape = of("deit-s")
    assert f"{shape.macs(pruned(shape, ratio)) / 1e9:.2f}" == giga


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["vit-48-4-3-p8", "vit-24-12-2-p8"])  # the second drops paths
def test_the_formula_is_what_is_counted_in_either_mode_and_form_of_attention(name: str, fused: bool, training: bool) -> None:
    model: Any = networks.build(name, 10, (3, 32, 32)).train(training)
    for block in model.blocks:
        block.attn.fused_attn = fused
    count = operations.count(model, (torch.zeros(2, 3, 32, 32),), training=training)
    shape = of(name, (3, 32, 32), 10)
    assert count.total("macs") == 2 * shape.macs(shape.full)
    assert count.warnings == ()
    assert all(m.training == training for m in model.modules())


@pytest.mark.parametrize(("patch", "patches"), [(4, 144), (6, 64), (8, 36)])
def test_images_of_48_pixels(patch: int, patches: int) -> None:
    name, image = f"vit-24-2-2-p{patch}", (3, 48, 48)
    model: Any = networks.build(name, 7, image)
    shape = of(name, image, 7)
    assert shape.patches == patches
    assert shape.full == ((patches + 1, patches + 1),) * 2
    assert tuple(model.pos_embed.shape) == (1, patches + 1, 24)
    assert model(torch.zeros(2, *image)).shape == (2, 7)
    assert operations.count(model, (torch.zeros(1, *image),)).total("macs") == shape.macs(shape.full)


def test_fewer_tokens_and_a_narrower_mlp_cost_what_they_cost() -> None:
    shape = networks.Shape(width=8, depth=2, heads=2, patch=4, size=8, classes=3, channels=1, hidden=10)
    first, second = 4 * 5 * 64 + 2 * 25 * 8 + 2 * 4 * 8 * 10, 4 * 4 * 64 + 2 * 16 * 8 + 2 * 3 * 8 * 10
    assert shape.macs(((5, 4), (4, 3))) == first + second + 4 * 1 * 16 * 8 + 8 * 3


# --- weights


def test_names_and_shapes_are_those_of_timm() -> None:
    with torch.device("meta"):
        theirs = timm("timm").create_model("deit_tiny_patch16_224").state_dict()
    ours = on_paper("deit-t").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert list(ours) == list(theirs)


def test_the_class_token_starts_as_deits() -> None:
    torch.manual_seed(0)
    model: Any = networks.build("vit-768-1-12-p16", 10, (3, 32, 32))
    assert 0.017 < model.cls_token.detach().std() < 0.023  # timm's is 1e-6
    assert 0.017 < model.pos_embed.detach().std() < 0.023
    weights = [p for name, p in model.blocks.named_parameters() if name.endswith(("qkv.weight", "proj.weight", "fc1.weight"))]
    assert all(0.019 < w.detach().std() < 0.021 for w in weights)
    assert all(not p.any() for name, p in model.blocks.named_parameters() if name.endswith("bias"))


class Other(TokenBlock):
    """A block with no parameters of its own."""


@pytest.mark.parametrize("name", [SMALL, "vit-24-12-2-p8"])
def test_initial_weights_do_not_depend_on_the_block(name: str) -> None:
    plain, other = seeded(name), seeded(name, block=Other)
    assert isinstance(other.blocks[0], Other)  # type: ignore[index]
    _assert_equal(plain, other)
    connect(other, Flow())
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(plain.eval()(x), other.eval()(x), atol=1e-6)


def test_neither_do_those_of_lvvit_and_swin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvvit, "DEPTH", 2)
    _assert_equal(seeded("lvvit-s"), seeded("lvvit-s", block=Other))
    theirs = timm("timm.models.swin_transformer").SwinTransformerBlock
    monkeypatch.setitem(networks.SWIN, "swin-t", (1, 1, 1, 1))
    mine = type("Mine", (theirs,), {})
    other = seeded("swin-t", block=mine)
    assert sum(isinstance(m, mine) for m in other.modules()) == 4
    _assert_equal(seeded("swin-t"), other)


def test_a_problems_networks_are_alike_and_move_no_stream() -> None:
    problem = vit_problem()
    before = torch.get_rng_state()
    first, second = problem.network(), problem.network(Other)
    assert torch.equal(torch.get_rng_state(), before)
    _assert_equal(first, second)
    other = vit_problem(seed=1).network()
    assert not torch.equal(first.cls_token, other.cls_token)  # type: ignore[arg-type]


@pytest.mark.parametrize(("depth", "last"), [(11, 0.0), (12, 0.1)])
def test_a_deep_network_drops_paths_as_deit_does(depth: int, last: float) -> None:
    model: Any = on_paper(f"vit-24-{depth}-2-p8", 10, (3, 32, 32))
    rates = [getattr(b.drop_path1, "drop_prob", 0.0) for b in model.blocks]
    assert rates == pytest.approx([last * i / (depth - 1) for i in range(depth)])


def _assert_equal(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items())


# --- chosen patches


def test_all_patches_pass_where_none_are_chosen() -> None:
    x = torch.randn(2, 5, 3)
    assert ChosenPatches()(x) is x
    model = seeded()
    theirs: Any = seeded()
    theirs.patch_drop = nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    every = torch.arange(16).expand(2, -1)
    plain = model(images)
    assert torch.equal(plain, theirs(images))
    choose(model, every)
    assert torch.equal(model(images), plain)


def test_chosen_patches_come_in_their_order_behind_the_class_token() -> None:
    x = torch.arange(2 * 5 * 3.0).view(2, 5, 3)
    index = torch.tensor([[3, 0], [1, 2]])
    by_hand = torch.stack([torch.stack([x[b, 0], *(x[b, 1 + i] for i in row)]) for b, row in enumerate(index.tolist())])
    assert torch.equal(take_patches(x, index), by_hand)
    assert torch.equal(gather_patches(x[:, 1:], index), by_hand[:, 1:])
    chosen = ChosenPatches()
    chosen.index = index
    assert torch.equal(chosen(x), by_hand)


def test_a_patch_that_is_left_out_has_no_influence_and_a_chosen_one_keeps_its_place() -> None:
    model = seeded().eval()
    index = torch.tensor([[5, 0, 15]])
    choose(model, index)
    images = torch.randn(1, 3, 32, 32)
    others = images.clone().unfold(2, 8, 8).unfold(3, 8, 8)  # (1, 3, 4, 4, 8, 8)
    grid = torch.ones(16, dtype=torch.bool)
    grid[index] = False
    others[:, :, grid.view(4, 4)] = 0.0
    changed = others.permute(0, 1, 2, 4, 3, 5).reshape(1, 3, 32, 32)
    assert not torch.equal(images, changed)
    seen = model(images)
    assert torch.equal(seen, model(changed))
    choose(model, index.flip(1))
    assert torch.allclose(model(images), seen, atol=1e-6), "positions were added before: the order does not matter"
    choose(model, torch.tensor([[5, 0, 14]]))
    assert not torch.allclose(model(images), seen, atol=1e-4)
    choose(model, None)
    assert not torch.allclose(model(images), seen, atol=1e-4)


def test_fewer_patches_cost_what_the_formula_says() -> None:
    model = networks.build("vit-24-2-2-p8", 10, (3, 32, 32))
    choose(model, torch.tensor([[0, 3, 9]]))
    shape = of("vit-24-2-2-p8", (3, 32, 32), 10)
    assert operations.count(model, (torch.zeros(1, 3, 32, 32),)).total("macs") == shape.macs(((4, 4),) * 2)


def test_a_network_that_cannot_leave_patches_out_says_so() -> None:
    with pytest.raises(UserError, match="SwinTransformer cannot leave patches out; choose a ViT"):
        choose(on_paper("swin-t"), None)


@pytest.mark.parametrize("block", [None, TokenBlock])
def test_a_network_is_copied_and_pickled(block: Any) -> None:
    model = seeded(block=block).eval()
    if block:
        connect(model, Flow(keep=0.5, target=0.5))
    choose(model, torch.tensor([[1, 4, 9, 12], [0, 2, 3, 15]]))
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    copied, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for other in (copied, pickled):
        assert torch.equal(other(x), expected)
        choose(other, None)
    assert torch.equal(model(x), expected), "a copy has a choice of its own"
    if block:
        flows = {id(b.flow) for b in copied.blocks}  # type: ignore[union-attr]
        assert len(flows) == 1
        assert id(model.blocks[0].flow) not in flows  # type: ignore[index, union-attr]


# --- what cannot be


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("vit-48-6-3-p5", (3, 32, 32), "vit-48-6-3-p5: 32 pixels cannot be cut into patches of 5; name a patch that divides them"),
        ("vit-48-6-3-p64", (3, 32, 32), "32 pixels cannot be cut into patches of 64"),
        ("deit-t", (3, 100, 100), "deit-t: 100 pixels cannot be cut into patches of 16"),
        ("vit-50-6-3-p4", (3, 32, 32), "vit-50-6-3-p4: 50 channels cannot be shared by 3 heads"),
        ("vit-48-6-3-p4", (13,), r"for square images, and an example here is \(13,\)"),
        ("vit-48-6-3-p4", (3, 32, 64), "for square images"),
        ("swin-t", (32,), "swin-t is for square images"),
        ("swin-t", (3, 32, 64), "swin-t is for square images"),
        ("swin-t", (1, 32, 32), "swin-t is for images of 3 channels, and here they have 1"),
        ("swin-t", (3, 48, 48), "multiple of 32"),
        ("lvvit-s", (32,), "lvvit-s is for square images"),
        ("lvvit-s", (1, 32, 32), "lvvit-s is for images of 3 channels"),
        ("lvvit-s", (3, 40, 40), "lvvit-s cuts images into patches of 16"),
        ("resnet20", (3, 32, 32), "no architecture 'resnet20'; there are: deit-t, deit-s, deit-b, swin-t, swin-s, lvvit-s, vit-48"),
        ("vit-48-0-3-p4", (3, 32, 32), "no architecture"),
        ("vit-48-6-3", (3, 32, 32), "no architecture"),
        ("xvit-48-6-3-p4", (3, 32, 32), "no architecture"),
        ("vit-48-6-3-p4-large", (3, 32, 32), "no architecture"),
    ],
)
def test_a_network_that_cannot_be_says_why(name: str, image: tuple[int, ...], said: str) -> None:
    with pytest.raises(UserError, match=said), torch.device("meta"):
        networks.build(name, 10, image)


def test_only_a_plain_vit_has_a_cost_by_formula() -> None:
    for name in ("swin-t", "swin-s", "lvvit-s", "resnet20"):
        assert networks.shape(name, 10, (3, 32, 32)) is None
    assert of("vit-48-6-3-p4", (1, 32, 32), 10) == networks.Shape(48, 6, 3, 4, 32, 10, 1)


def test_a_grey_image_has_one_channel() -> None:
    model = networks.build("vit-24-2-2-p8", 10, (1, 32, 32))
    shape = of("vit-24-2-2-p8", (1, 32, 32), 10)
    assert operations.count(model, (torch.zeros(1, 1, 32, 32),)).total("macs") == shape.macs(shape.full)


def test_swin_says_which_sizes_it_has_windows_for() -> None:
    assert [swin.window(s) for s in (32, 64, 96, 128, 160, 224, 384)] == [4, 4, 6, 4, 5, 7, 12]
    with pytest.raises(UserError, match="here they have 100"):
        swin.window(100)
