"""Channel groups: what goes together, and that a network without them gives what the masked one gives."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from suite.naming import UserError
from tasks.images.channels import ChannelGroup, Names, channel_groups, compact, mask_
from tasks.images.networks import build


@pytest.mark.parametrize(("architecture", "size"), [("resnet20", 28), ("vgg16", 32), ("resnet18", 32), ("resnet50", 64)])
def test_compact_equals_masked(architecture: str, size: int) -> None:
    draw = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = build(architecture, 7, (3, size, size)).eval()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias)
            m.running_mean.normal_(generator=draw)
    keep = {g.name: torch.rand(g.width, generator=draw) < 0.4 for g in channel_groups(model)}
    x = torch.randn(2, 3, size, size, generator=draw)
    small = compact(model, keep)
    before = sum(p.numel() for p in model.parameters())
    mask_(channel_groups(model), keep)
    with torch.no_grad():
        expected, found = model(x), small(x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert sum(p.numel() for p in small.parameters()) < before
    torch.testing.assert_close(pickle.loads(pickle.dumps(small))(x), found)  # a Solution crosses processes


class Flattened(nn.Module):
    """Convolutions with biases, with or without batch norms, and a map that is flattened before the last layer."""

    def __init__(self, widths: tuple[int, int], side: int, norm: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, widths[0], 3, padding=1), nn.Conv2d(widths[0], widths[1], 3, padding=1)
        self.bn1, self.bn2 = (nn.BatchNorm2d(w) if norm else nn.Identity() for w in widths)
        self.fc = nn.Linear(widths[1] * side * side, 3)
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(F.gelu(self.bn2(self.conv2(x))).flatten(1))

    def prunable(self) -> list[Names]:
        return [Names(f"conv{i}", f"bn{i}" if self.norm else "", after) for i, after in ((1, "conv2"), (2, "fc"))]


@torch.no_grad()
def trained(model: nn.Module, draw: torch.Generator) -> nn.Module:
    """Weights, biases and statistics as after training: none is 0 or 1."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            for t in (m.weight, m.bias, m.running_mean):
                t.normal_(generator=draw)
            m.running_var.uniform_(0.5, 1.5, generator=draw)
        elif isinstance(m, nn.Linear | nn.Conv2d):
            m.bias.normal_(generator=draw)
    return model.eval()


def held(model: nn.Module, keep: Mapping[str, torch.Tensor], x: torch.Tensor) -> nn.Module:
    """The smaller network, whose logits are held to the masked one's."""
    small = compact(model, keep)
    mask_(channel_groups(model), keep)
    with torch.no_grad():
        expected, found = model(x), small(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(1 + expected.abs().max()))
    return small


WIDTHS, TENTHS = st.integers(1, 9), st.integers(0, 10)


@settings(max_examples=40)
@given(st.lists(WIDTHS, min_size=1, max_size=4), st.integers(1, 12), st.booleans(), st.integers(0, 2**31), TENTHS)
def test_a_perceptron_without_channels_gives_what_the_masked_one_gives(
    hidden: list[int], features: int, norm: bool, seed: int, tenths: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    model = trained(build("-".join(["mlp", *map(str, hidden)]) + ("-bn" if norm else ""), 3, (features,)), draw)
    groups = channel_groups(model)
    assert [g.width for g in groups] == hidden
    assert all((g.norm is not None) == norm for g in groups)
    keep = {g.name: torch.rand(g.width, generator=draw) < tenths / 10 for g in groups}
    small = held(model, keep, torch.randn(5, features, generator=draw))
    assert [g.width for g in channel_groups(small)] == [max(1, int(m.sum())) for m in keep.values()]
    for g in channel_groups(model):
        dropped = ~keep[g.name]
        assert not any(part[dropped].any() for part in g.parts())
        assert g.consumer is not None
        assert not g.consumer.weight[:, dropped].any()


@settings(max_examples=30)
@given(st.tuples(WIDTHS, WIDTHS), st.integers(1, 4), st.booleans(), st.integers(0, 2**31), TENTHS)
def test_convolutions_before_a_flattened_map_do_too(widths: tuple[int, int], side: int, norm: bool, seed: int, tenths: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    model = trained(Flattened(widths, side, norm), draw)
    keep = {g.name: torch.rand(g.width, generator=draw) < tenths / 10 for g in channel_groups(model)}
    small = held(model, keep, torch.randn(3, 2, side, side, generator=draw))
    assert small.fc.in_features == max(1, int(keep["conv2"].sum())) * side * side


def test_a_group_carries_the_names_of_its_layers() -> None:
    for architecture, shape in (("resnet20", (3, 16, 16)), ("vgg16", (3, 32, 32)), ("resnet50", (3, 64, 64)), ("mlp-4-3-bn", (5,))):
        model = build(architecture, 3, shape)
        for g in channel_groups(model):
            layers = (g.layer, g.norm, g.consumer)
            assert [model.get_submodule(n) if n else None for n in g.names] == list(layers)
            assert g.name == g.names.layer


def test_what_cannot_be_masked_or_ranked_is_told() -> None:
    layer, after = nn.Linear(3, 4), nn.Linear(4, 2)
    with pytest.raises(UserError, match="affine"):
        ChannelGroup(layer, nn.BatchNorm1d(4, affine=False), after, Names("a", "b", "c"))
    with pytest.raises(UserError, match="no batch norm"):
        _ = ChannelGroup(layer, None, after, Names("a", "", "c")).bn
