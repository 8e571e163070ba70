"""Networks whose inner channels can be pruned, and the physical removal of channels.

Only what torchvision lacks is written here: the CIFAR ResNets and VGGs.  Compaction is our own and not
Torch-Pruning's: it slices only the *inner* channels that every sheet prunes (block inputs and outputs
stay), so it is a few exact index operations whose indices a method keeps in hand, and a layer may lose
all its channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from suite.naming import UserError

CIFAR_DEPTHS = {"resnet20": 3, "resnet32": 5, "resnet56": 9, "resnet110": 18}
VGG_PLANS = {
    "vgg16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512),
    "vgg19": (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512),
}
TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101")


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that live and die together: rows of `conv`, entries of `bn`, input columns of `consumer`."""

    name: str  #: module path of the convolution
    conv: nn.Conv2d
    bn: nn.BatchNorm2d
    consumer: nn.Conv2d | nn.Linear | None  #: None: the output is added to a shortcut, so it is masked but never sliced

    @property
    def width(self) -> int:
        return self.conv.out_channels


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut (option A: stride, then pad with zero channels)."""

    def __init__(self, c_in: int, c_out: int, stride: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.extra = stride, c_out - c_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet-20/32/56/110 of He et al. 2016, section 4.2; `widths` thins the inner channels of named blocks."""

    def __init__(self, blocks: int, classes: int, widths: Mapping[str, int] | None = None) -> None:
        super().__init__()
        widths = widths or {}
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages, c_in = [], 16
        for s, c_out in enumerate((16, 32, 64)):
            stage = []
            for b in range(blocks):
                inner = widths.get(f"stages.{s}.{b}.conv1", c_out)
                stage.append(BasicBlock(c_in, c_out, 2 if s and not b else 1, inner))
                c_in = c_out
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class CifarVgg(nn.Module):
    """VGG-16/19 with batch norm and one linear layer, as used on CIFAR."""

    def __init__(self, plan: tuple[int | str, ...], classes: int, widths: Mapping[str, int] | None = None) -> None:
        super().__init__()
        widths = widths or {}
        layers: list[nn.Module] = []
        c_in = 3
        for item in plan:
            if item == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            c_out = widths.get(f"features.{len(layers)}", int(item))
            layers += [nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
            c_in = c_out
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(c_in, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def build(architecture: str, classes: int, size: int, widths: Mapping[str, int] | None = None) -> nn.Module:
    """A network by name with fresh weights: Kaiming normal fan-out convolutions, BN scale 1, shift 0.

    `size` decides the stem of ResNet-18 to -101: under 64 px a 3x3 one without pooling.
    """
    if architecture in CIFAR_DEPTHS:
        model: nn.Module = CifarResNet(CIFAR_DEPTHS[architecture], classes, widths)
    elif architecture in VGG_PLANS:
        model = CifarVgg(VGG_PLANS[architecture], classes, widths)
    elif architecture in TORCHVISION:
        from suite.compat import import_torchvision

        model = getattr(import_torchvision().models, architecture)(weights=None, num_classes=classes)
        if size < 64:
            model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            model.maxpool = nn.Identity()
        if widths:
            model = _thin(model, widths)
    else:
        names = ", ".join([*CIFAR_DEPTHS, *VGG_PLANS, *TORCHVISION])
        raise UserError(f"no architecture {architecture!r}; there are: {names}")
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            initialise(m)
    return model


def initialise(module: nn.Module) -> None:
    """Fresh weights for one layer: convolutions by Kaiming's rule, what has another rule by torch's."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif hasattr(module, "reset_parameters"):
        module.reset_parameters()


def channel_groups(model: nn.Module) -> list[ChannelGroup]:
    """The prunable groups of a network, in module order (chex.md 2.1).

    conv1 of a basic block; conv1 and conv2 of a bottleneck, and its down-sampling convolution, whose
    output joins the shortcut; every convolution of a VGG.
    """
    groups: list[ChannelGroup] = []
    if isinstance(model, CifarVgg):
        convs = [(f"features.{i}", m) for i, m in enumerate(model.features) if isinstance(m, nn.Conv2d)]
        followers: list[nn.Conv2d | nn.Linear] = [*(m for _, m in convs[1:]), model.fc]
        for (name, conv), follower in zip(convs, followers, strict=True):
            bn = model.get_submodule(f"features.{int(name.split('.')[1]) + 1}")
            assert isinstance(bn, nn.BatchNorm2d)
            groups.append(ChannelGroup(name, conv, bn, follower))
        return groups
    for name, block in model.named_modules():
        if hasattr(block, "conv3"):
            groups.append(ChannelGroup(f"{name}.conv1", block.conv1, block.bn1, block.conv2))
            groups.append(ChannelGroup(f"{name}.conv2", block.conv2, block.bn2, block.conv3))
            if block.downsample is not None:
                groups.append(ChannelGroup(f"{name}.downsample.0", block.downsample[0], block.downsample[1], None))
        elif hasattr(block, "conv2") and hasattr(block, "bn2"):
            groups.append(ChannelGroup(f"{name}.conv1", block.conv1, block.bn1, block.conv2))
    return groups


@torch.no_grad()
def mask_(groups: list[ChannelGroup], keep: Mapping[str, torch.Tensor]) -> None:
    """Zero what the masks drop, in place: rows of the weights, BN scale and shift, the consumer's columns."""
    for g in groups:
        if g.name not in keep:
            continue
        m = keep[g.name].to(g.conv.weight)
        g.conv.weight.mul_(m.view(-1, 1, 1, 1))
        g.bn.weight.mul_(m)
        g.bn.bias.mul_(m)
        if isinstance(g.consumer, nn.Conv2d):
            g.consumer.weight.mul_(m.view(1, -1, 1, 1))
        elif g.consumer is not None:
            g.consumer.weight.mul_(m)


@torch.no_grad()
def compact(model: nn.Module, keep: Mapping[str, torch.Tensor]) -> nn.Module:
    """A physically smaller copy without the dropped channels; logits equal the masked network's in eval mode.

    A dropped channel is constant 0 after its masked BN (scale 0, shift 0), so nothing is lost but work.
    Where a layer keeps none, one zero channel stays: a convolution needs a width.  A group whose
    output joins a shortcut is masked and keeps its width.
    """
    small = copy.deepcopy(model)
    groups = channel_groups(small)
    mask_(groups, keep)
    for g in groups:
        if g.consumer is None or g.name not in keep:
            continue
        index = keep[g.name].to(device=g.conv.weight.device, dtype=torch.bool).nonzero().flatten()
        if len(index) == 0:
            index = torch.zeros(1, dtype=torch.long, device=g.conv.weight.device)
        if len(index) < g.width:
            _slice(g, index)
    return small


@torch.no_grad()
def fold_batch_norms(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """A copy as it would be deployed: each batch norm that directly follows a convolution is folded into its weights.

    Which follows which is seen in one forward pass of `x` (N, C, H, W), so any module serves.  The copy
    must give the same logits, held to the largest of them; where it does not (a convolution's output is
    also used elsewhere), the batch norms that cannot be folded stay, and they alone: a network is never
    timed unfolded beside a folded parent.  torch.nn.utils.fusion does the arithmetic.

    Raises UserError where the logits are not finite: nothing can be held to them.
    """
    plain = copy.deepcopy(model).eval()
    made: dict[int, str] = {}  # id of a live output: name of the convolution
    alive: list[torch.Tensor] = []  # keeps outputs, and so their ids, until the pass ends
    calls: dict[str, int] = {}
    pairs: dict[str, str] = {}

    def after(name: str, output: torch.Tensor) -> None:
        made[id(output)] = name
        alive.append(output)
        calls[name] = calls.get(name, 0) + 1

    def before(name: str, inputs: tuple[torch.Tensor, ...]) -> None:
        pairs[name] = made.get(id(inputs[0]), "")
        calls[name] = calls.get(name, 0) + 1

    handles = []
    for name, m in plain.named_modules():
        if type(m) is nn.Conv2d and not m._forward_pre_hooks:
            handles.append(m.register_forward_hook(lambda _, __, output, name=name: after(name, output)))  # type: ignore[misc]
        elif type(m) is nn.BatchNorm2d:
            handles.append(m.register_forward_pre_hook(lambda _, inputs, name=name: before(name, inputs)))  # type: ignore[misc]
    expected = plain(x)
    for handle in handles:
        handle.remove()
    if not expected.isfinite().all():
        raise UserError("the network's logits are not finite, so it cannot be deployed; train it again")
    found = [(bn, conv) for bn, conv in pairs.items() if conv and calls[bn] == calls[conv] == 1]
    folded = _fold(plain, found)
    if _alike(folded(x), expected):
        return folded
    folded = plain
    for pair in found:
        trial = _fold(folded, [pair])
        folded = trial if _alike(trial(x), expected) else folded
    return folded


def _fold(model: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    """A copy with these batch norms folded into these convolutions, by name."""
    folded = copy.deepcopy(model)
    for bn_name, conv_name in pairs:
        conv, bn = folded.get_submodule(conv_name), folded.get_submodule(bn_name)
        folded.set_submodule(conv_name, fuse_conv_bn_eval(conv, bn))  # type: ignore[type-var]
        folded.set_submodule(bn_name, nn.Identity())
    return folded


def _alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether logits differ by no more than a thousandth of the largest: their scale is the network's own."""
    return bool((found - expected).abs().max() <= 1e-3 * expected.abs().max())


def _slice(g: ChannelGroup, index: torch.Tensor) -> None:
    n = len(index)
    g.conv.weight = nn.Parameter(g.conv.weight[index].clone(memory_format=torch.preserve_format))
    g.conv.out_channels = n
    if g.conv.bias is not None:
        g.conv.bias = nn.Parameter(g.conv.bias[index].clone())
    for name in ("weight", "bias"):
        setattr(g.bn, name, nn.Parameter(getattr(g.bn, name)[index].clone()))
    for name in ("running_mean", "running_var"):
        setattr(g.bn, name, getattr(g.bn, name)[index].clone())
    g.bn.num_features = n
    consumer = g.consumer
    assert consumer is not None
    consumer.weight = nn.Parameter(consumer.weight[:, index].clone(memory_format=torch.preserve_format))
    if isinstance(consumer, nn.Conv2d):
        consumer.in_channels = n
    else:
        consumer.in_features = n


def _thin(model: nn.Module, widths: Mapping[str, int]) -> nn.Module:
    """The first `widths[name]` channels of each named group: a shape to train from fresh weights."""
    keep = {g.name: torch.arange(g.width) < widths[g.name] for g in channel_groups(model) if g.name in widths}
    return compact(model, keep)
