"""Channels that live and die together: groups, masks, and their physical removal.

Compaction is our own and not Torch-Pruning's: it slices only the *inner* channels that every method prunes (inputs and outputs of
residual blocks stay), so it is a few exact index operations whose indices a method keeps in hand, and a layer may lose all its
channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from suite.naming import UserError


class Names(NamedTuple):
    """Module paths of a group's layers."""

    layer: str
    norm: str = ""  #: empty: none stands behind the layer
    consumer: str = ""  #: empty: the output is added to a shortcut


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that live and die together: rows of `layer` and its bias, entries of `norm`, input columns of `consumer`.

    Between layer and consumer a channel that is constant 0 must stay so: ReLU, GELU and pooling keep it, a sigmoid does not.
    A consumer may read several inputs a channel, one after the other, as behind a flattened map.
    """

    layer: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None
    consumer: nn.Conv2d | nn.Linear | None  #: None: the output is added to a shortcut, so it is masked but never sliced
    names: Names

    def __post_init__(self) -> None:
        if self.norm is not None and self.norm.weight is None:
            raise UserError(f"{self.names.norm} has neither scale nor shift, so its channels cannot be masked; give it affine=True")

    @property
    def name(self) -> str:
        """Module path of the layer; what masks and widths are called by."""
        return self.names.layer

    @property
    def width(self) -> int:
        return self.layer.weight.shape[0]

    @property
    def bn(self) -> nn.BatchNorm1d | nn.BatchNorm2d:
        """The batch norm, for a rule that cannot do without; raises UserError where there is none."""
        if self.norm is None:
            raise UserError(
                f"{self.name} has no batch norm, and this method ranks or changes channels by it; choose another network"
            )
        return self.norm

    def parts(self) -> list[nn.Parameter]:
        """What has a row or an entry a channel: weight and bias of the layer, scale and shift of the norm."""
        norm = [] if self.norm is None else [self.norm.weight, self.norm.bias]
        return [p for p in (self.layer.weight, self.layer.bias, *norm) if p is not None]


def channel_groups(model: nn.Module) -> list[ChannelGroup]:
    """The prunable groups of a network, in module order.

    Those that its method `prunable` names; else of residual blocks conv1 of a basic one, conv1 and conv2 of a bottleneck, and its
    down-sampling convolution, whose output joins the shortcut, as in CHEX's released code.
    """
    named: list[Names] = model.prunable() if hasattr(model, "prunable") else _of_blocks(model)  # type: ignore[operator]
    return [ChannelGroup(*(model.get_submodule(n) if n else None for n in names), names) for names in named]  # type: ignore[arg-type]


def _of_blocks(model: nn.Module) -> list[Names]:
    found: list[Names] = []
    for name, block in model.named_modules():
        if hasattr(block, "conv3"):
            found += [Names(f"{name}.conv{i}", f"{name}.bn{i}", f"{name}.conv{i + 1}") for i in (1, 2)]
            if block.downsample is not None:
                found.append(Names(f"{name}.downsample.0", f"{name}.downsample.1"))
        elif hasattr(block, "conv2") and hasattr(block, "bn2"):
            found.append(Names(f"{name}.conv1", f"{name}.bn1", f"{name}.conv2"))
    return found


@torch.no_grad()
def mask_(groups: Sequence[ChannelGroup], keep: Mapping[str, torch.Tensor]) -> None:
    """Zero what the masks drop, in place: rows of the weights, biases, BN scale and shift, the consumer's columns."""
    for g in groups:
        if g.name not in keep:
            continue
        m = keep[g.name].to(g.layer.weight)
        for part in g.parts():
            part.mul_(_along(m, 0, part))
        if g.consumer is not None:
            each = _inputs(g)
            g.consumer.weight.mul_(_along(m.repeat_interleave(each) if each > 1 else m, 1, g.consumer.weight))


@torch.no_grad()
def compact(model: nn.Module, keep: Mapping[str, torch.Tensor]) -> nn.Module:
    """A physically smaller copy without the dropped channels; logits equal the masked network's in eval mode.

    A dropped channel is constant 0: after its masked BN (scale 0, shift 0), or without one after its masked layer (row 0,
    bias 0), so nothing is lost but work.  Where a layer keeps none, one zero channel stays: a layer needs a width.  A group whose
    output joins a shortcut is masked and keeps its width.
    """
    small = copy.deepcopy(model)
    groups = channel_groups(small)
    mask_(groups, keep)
    for g in groups:
        if g.consumer is None or g.name not in keep:
            continue
        index = keep[g.name].to(device=g.layer.weight.device, dtype=torch.bool).nonzero().flatten()
        if len(index) == 0:
            index = torch.zeros(1, dtype=torch.long, device=g.layer.weight.device)
        if len(index) < g.width:
            _slice(g, index)
    return small


def _slice(g: ChannelGroup, index: torch.Tensor) -> None:
    n, each, consumer = len(index), _inputs(g), g.consumer
    assert consumer is not None
    columns = (index[:, None] * each + torch.arange(each, device=index.device)).flatten()
    g.layer.weight = nn.Parameter(g.layer.weight[index].clone(memory_format=torch.preserve_format))
    if g.layer.bias is not None:
        g.layer.bias = nn.Parameter(g.layer.bias[index].clone())
    _set_width(g.layer, "out", n)
    if g.norm is not None:
        for name in ("weight", "bias"):
            setattr(g.norm, name, nn.Parameter(getattr(g.norm, name)[index].clone()))
        for name in ("running_mean", "running_var"):
            setattr(g.norm, name, getattr(g.norm, name)[index].clone())
        g.norm.num_features = n
    consumer.weight = nn.Parameter(consumer.weight[:, columns].clone(memory_format=torch.preserve_format))
    _set_width(consumer, "in", len(columns))


def _set_width(layer: nn.Conv2d | nn.Linear, side: str, n: int) -> None:
    setattr(layer, f"{side}_channels" if isinstance(layer, nn.Conv2d) else f"{side}_features", n)


def _inputs(g: ChannelGroup) -> int:
    """Inputs of the consumer for one channel: 1, unless a map is flattened in between."""
    assert g.consumer is not None
    return g.consumer.weight.shape[1] // g.width


def _along(mask: torch.Tensor, dim: int, like: torch.Tensor) -> torch.Tensor:
    """A mask (C,) in a shape that multiplies dimension `dim` of another tensor."""
    return mask.view([-1 if d == dim else 1 for d in range(like.dim())])
