"""CHEX beside its sheet: the authors' own numbers, and what must hold in every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.image_pruning import chex
from reference_impls.parts.channels import l1_norms
from suite.compat import import_torchvision
from tasks.images.channels import ChannelGroup, channel_groups, compact, mask_
from tests.helpers import problem, shrunk

GOLDEN = Path(__file__).parents[2] / "golden"
VECTORS = np.load(GOLDEN / "chex_css_prune_regrow.npz")


class SmallBottleneckNet(nn.Module):
    """The first stages of ResNet-50's layout at base width 5, as the vectors were made with."""

    def __init__(self) -> None:
        super().__init__()
        block = import_torchvision().models.resnet.Bottleneck
        self.conv1, self.bn1 = nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)

        def stage(c_in: int, planes: int, count: int) -> nn.Sequential:
            down = nn.Sequential(nn.Conv2d(c_in, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes))
            return nn.Sequential(block(c_in, planes, 1, down), *(block(4 * planes, planes) for _ in range(count - 1)))

        self.layer1, self.layer2 = stage(5, 5, 3), stage(20, 10, 4)
        convs = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        assert [list(c.weight.shape) for c in convs] == VECTORS["conv_shapes"].tolist()


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


@torch.no_grad()
def fill(model: nn.Module, flat: np.ndarray, gamma: np.ndarray) -> list[ChannelGroup]:
    """Put the vectors' weights and scales into the network; returns its prunable groups."""
    pieces = torch.from_numpy(flat).split([c.weight.numel() for c in convolutions(model)])
    for conv, piece in zip(convolutions(model), pieces, strict=True):
        conv.weight.copy_(piece.view_as(conv.weight))
    groups = channel_groups(model)
    assert [g.width for g in groups] == VECTORS["layer_sizes"].tolist()
    for g, scale in zip(groups, torch.from_numpy(gamma).split([g.width for g in groups]), strict=True):
        g.bn.weight.copy_(scale)
    return groups


def flat_weights(model: nn.Module) -> np.ndarray:
    return torch.cat([c.weight.detach().flatten() for c in convolutions(model)]).numpy()


def by_layer(name: str) -> list[torch.Tensor]:
    return list(torch.from_numpy(VECTORS[name]).split(VECTORS["layer_sizes"].tolist()))


def test_the_prunable_layers_are_the_releases() -> None:
    model = SmallBottleneckNet()
    index = {id(c): i + 1 for i, c in enumerate(convolutions(model))}
    assert [index[id(g.layer)] for g in channel_groups(model)] == VECTORS["layer_index_1based"].tolist()


@pytest.mark.parametrize("i", range(5))
def test_css_scores(i: int) -> None:
    weight, rate = torch.from_numpy(VECTORS[f"css{i}_W"]), float(VECTORS[f"css{i}_rate"])
    expected = torch.from_numpy(VECTORS[f"css{i}_score"]).double()
    torch.testing.assert_close(chex.css_scores(weight, int((1 - rate) * len(weight))), expected, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(l1_norms(weight), torch.from_numpy(VECTORS[f"css{i}_l1"]), rtol=1e-5, atol=0)


def test_schedule() -> None:
    _, delta0, t_max, interval = VECTORS["sched_params"]
    epochs = VECTORS["sched_epoch"].tolist()
    assert [chex.is_update(e, int(t_max), int(interval)) for e in epochs] == VECTORS["sched_is_update"].tolist()
    updates = VECTORS["sched_is_update"]
    mine = np.array([chex.regrow_share(e, int(t_max), delta0) for e in epochs])
    np.testing.assert_allclose(mine[updates], VECTORS["sched_delta"][updates], rtol=1e-12, atol=1e-15)


def test_initial_masks() -> None:
    model = SmallBottleneckNet()
    groups = fill(model, VECTORS["conv_weight_flat"], VECTORS["prev_gamma"])
    masks = chex.initial_masks(groups, float(VECTORS["init_ratio"]), floor=0)
    assert torch.cat([masks[g.name] for g in groups]).int().tolist() == VECTORS["init_mask"].tolist()
    mask_(groups, masks)
    dead = torch.cat([l1_norms(g.layer.weight) == 0 for g in groups]).double().mean()
    assert float(dead) == pytest.approx(float(VECTORS["init_zero_fraction"]))


def test_one_whole_update() -> None:
    model = SmallBottleneckNet()
    groups = fill(model, VECTORS["conv_weight_flat"], VECTORS["prev_gamma"])
    memory = {k: v.clone() for k, v in model.state_dict().items()}
    fill(model, VECTORS["t1_conv_weight_flat"], VECTORS["t1_gamma"])

    share, delta0, t_max, _ = VECTORS["sched_params"]
    delta = chex.regrow_share(int(VECTORS["t1_epoch"]), int(t_max), delta0)
    assert delta == pytest.approx(float(VECTORS["t1_delta"]))
    scales = {g.name: g.bn.weight for g in groups}
    down, up = (chex.layer_ratios(scales, s) for s in (share, share - delta))
    np.testing.assert_allclose(list(down.values()), VECTORS["t1_ratio_down"])
    np.testing.assert_allclose(list(up.values()), VECTORS["t1_ratio_up"])
    kept, total = (chex.kept_counts(groups, r, 0, truncate=True) for r in (down, up))

    # where more filters are kept than they have weights, the release returns rounding noise
    noisy = {g.name for g in groups if kept[g.name] > g.layer.weight[0].numel()}
    assert noisy == {groups[2].name}
    seen: list[torch.Tensor] = []
    drawn: list[int] = []
    expected = iter(
        zip(
            torch.from_numpy(VECTORS["t1_prob_flat"]).split(VECTORS["t1_prob_len"].tolist()),
            VECTORS["t1_num_free_calls"],
            strict=True,
        )
    )

    def probabilities(g: ChannelGroup, keep: torch.Tensor) -> torch.Tensor:
        p = chex.regrow_probabilities(g.layer.weight, keep)
        theirs, count = next(expected)
        if g.name not in noisy:
            torch.testing.assert_close(p[~keep].sort().values, theirs.double().sort().values, rtol=2e-5, atol=1e-7)
            seen.append(p)
        drawn.append(int(count))
        return p

    def most_probable(p: torch.Tensor, count: int) -> torch.Tensor:
        assert count == drawn[-1]
        return p.argsort(descending=True)[:count]

    for g, theirs in zip(groups, by_layer("t1_css_score"), strict=True):
        torch.testing.assert_close(chex.css_scores(g.layer.weight, kept[g.name]).float(), theirs, rtol=1e-5, atol=2e-6)
    masks = chex.explore(groups, memory, kept, total, lambda g, n: chex.css_scores(g.layer.weight, n), probabilities, most_probable)
    assert len(seen) == len(drawn) - 1
    np.testing.assert_allclose(flat_weights(model), VECTORS["t1_restored_conv_weight_flat"], rtol=0, atol=0)
    restored = torch.cat([g.bn.weight.detach() for g in groups]).numpy()
    np.testing.assert_array_equal(restored, VECTORS["t1_restored_gamma"])
    for g, theirs in zip(groups, by_layer("t1_mask"), strict=True):
        if g.name in noisy:
            masks[g.name] = theirs.bool()
        else:
            assert masks[g.name].int().tolist() == theirs.tolist(), g.name
    mask_(groups, masks)
    np.testing.assert_array_equal(flat_weights(model), VECTORS["t1_final_conv_weight_flat"])
    dead = torch.cat([l1_norms(g.layer.weight) == 0 for g in groups]).double().mean()
    assert float(dead) == pytest.approx(float(VECTORS["t1_zero_fraction"]))


@pytest.mark.slow
@pytest.mark.parametrize("net", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_the_release_counts_operations_so(net: str) -> None:
    """CHEX's released `compute_flops.py`: multiply-adds of convolutions and the linear layer, plus the linear layer's biases."""
    from suite.meters import operations

    with torch.device("meta"):
        model = getattr(import_torchvision().models, net)(weights=None)
    count = operations.count(model, (torch.zeros(1, 3, 224, 224, device="meta"),))
    expected = np.load(GOLDEN / "chex_flops.npz")
    assert (count.total("macs") + model.fc.bias.numel()) / 1e9 == pytest.approx(
        float(expected[f"{net}_gmacs"]), rel=2e-7
    )  # the release adds in single precision
    assert sum(p.numel() for p in model.parameters()) == int(expected[f"{net}_params"])


@torch.no_grad()
def test_compact_equals_masked_whatever_dies() -> None:
    draw = torch.Generator().manual_seed(0)
    model = SmallBottleneckNet().eval()
    forward = nn.Sequential(model.conv1, model.bn1, nn.ReLU(), model.layer1, model.layer2)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            for tensor in (m.weight, m.bias, m.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=draw))
            m.running_var.copy_(torch.rand(m.running_var.shape, generator=draw) + 0.5)
    groups = channel_groups(model)
    keep = {g.name: torch.rand(g.width, generator=draw) < 0.5 for g in groups}
    keep[groups[0].name][:] = False  # a layer may lose everything
    x = torch.randn(2, 3, 8, 8, generator=draw)
    small = compact(model, keep)
    mask_(groups, keep)
    small_forward = nn.Sequential(small.conv1, small.bn1, nn.ReLU(), small.layer1, small.layer2)
    torch.testing.assert_close(small_forward(x), forward(x), rtol=1e-5, atol=1e-5)
    for g, s in zip(groups, channel_groups(small), strict=True):
        assert s.width == (max(1, int(keep[g.name].sum())) if g.consumer is not None else g.width)


def test_drawing_is_without_replacement_and_follows_the_probabilities() -> None:
    p = torch.tensor([0.7, 0.2, 0.1, 0.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([chex.draw(p, 2, generator) for _ in range(4000)])
    assert (draws[:, 0] != draws[:, 1]).all()
    assert (draws != 3).all()
    # first draw by p; second by what is left: P(second = 1) = .7 * .2/.3 + .1 * .2/.9
    np.testing.assert_allclose((draws[:, 0] == 0).double().mean(), 0.7, atol=0.03)
    np.testing.assert_allclose((draws[:, 1] == 1).double().mean(), 0.7 * 2 / 3 + 0.1 * 2 / 9, atol=0.03)
    assert len(chex.draw(p, 9, generator)) == 3


def explorer(p: Any, method: chex.Chex) -> chex.Exploration:
    """An exploration of a fresh network whose batch-norm scales differ as trained ones do."""
    model = p.model()
    found = chex.Exploration(method, p, model)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for g in found.groups:
            g.bn.weight.copy_(torch.rand(g.width, generator=draw) * found.masks[g.name])
    return found


@pytest.mark.parametrize("delta0", [None, 0.0])
def test_without_regrowing_no_channel_comes_back(delta0: float | None) -> None:
    p = problem(target="macs=0.5")
    found = explorer(p, chex.Chex(delta0=delta0))
    before = {n: m.clone() for n, m in found.masks.items()}
    found.update(found.t_max)  # delta is 0 here
    assert all(not (m & ~before[n]).any() for n, m in found.masks.items())
    widths = {n: int(m.sum()) for n, m in found.masks.items()}
    assert p.macs_of(widths) == pytest.approx(0.5 * p.dense_macs, rel=0.01)


@pytest.mark.slow
def test_shortcuts_are_pruned_by_the_threshold_of_all() -> None:
    p = problem(tier="paper", division="speed", case="imagenet/resnet50", target="macs=0.5")
    found = explorer(p, chex.Chex())
    free = [g for g in found.groups if g.consumer is None]
    assert len(free) == 4
    assert sum(g.width for g in found.groups) == 11_392
    living = {g.name: g.bn.weight[found.masks[g.name]] for g in found.groups}
    kept = found.kept_to_target(living)
    weakest = min(float(s.detach().sort(descending=True).values[kept[n] - 1]) for n, s in living.items() if kept[n])
    for g in free:
        assert 0 < kept[g.name] < int(found.masks[g.name].sum())
        assert kept[g.name] == int((living[g.name] >= weakest).sum())


def test_parity_decays_the_norms_of_shortcuts_alone() -> None:
    model = import_torchvision().models.resnet50(num_classes=3)
    groups = chex.Released().optimizer(model).param_groups
    norms = {id(q): n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) for q in (m.weight, m.bias)}
    decayed = {norms[id(q)] for q in groups[0]["params"] if id(q) in norms}
    assert decayed == {f"layer{i}.0.downsample.1" for i in range(1, 5)}
    assert groups[1]["weight_decay"] == 0
    assert {id(q) for g in groups for q in g["params"]} == {id(q) for q in model.parameters()}


@pytest.mark.slow
def test_a_share_of_channels_is_met_and_never_undershot_before() -> None:
    p = shrunk(problem(tier="small", division="open", target="macs=0.5"), 6, train=640, val=100, test=100)
    share, delta0 = 0.4, 0.2
    notes = chex.Chex(share=share, delta0=delta0).solve(p).notes
    full = {g.name: g.width for g in p.groups(p.model())}
    count = sum(full.values())
    gone = [1 - sum(h["widths"].values()) / count for h in notes["history"]]
    slack = len(full) / count
    assert all(share - delta0 - slack <= x <= share + slack for x in gone)
    assert gone[-1] == pytest.approx(share, abs=slack)
    assert notes["widths"] == notes["history"][-1]["widths"], "frozen after T_max"
    assert len({round(w / full[n], 2) for n, w in notes["widths"].items()}) > 1, "layers differ"
