"""Networks by name, with fresh weights, as wide as they are or thinner.

Only what torchvision lacks is written here: the CIFAR ResNets and VGGs, and the perceptrons for tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from suite.naming import UserError
from tasks.images.channels import Names, channel_groups, compact

CIFAR_DEPTHS = {"resnet20": 3, "resnet32": 5, "resnet56": 9, "resnet110": 18}
VGG_PLANS = {
    "vgg16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512),
    "vgg19": (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512),
}
TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101")
MLP = re.compile(r"mlp((?:-[1-9]\d*)+)(-bn)?")  #: mlp-128-64: hidden layers of 128 and 64; mlp-128-64-bn: with batch norms


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

    def __init__(self, blocks: int, classes: int, widths: Mapping[str, int] | None = None, c_in: int = 3) -> None:
        super().__init__()
        widths = widths or {}
        self.conv1 = nn.Conv2d(c_in, 16, 3, 1, 1, bias=False)
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

    def __init__(self, plan: tuple[int | str, ...], classes: int, widths: Mapping[str, int] | None = None, c_in: int = 3) -> None:
        super().__init__()
        widths = widths or {}
        layers: list[nn.Module] = []
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

    def prunable(self) -> list[Names]:
        """Every convolution, with the batch norm behind it and what reads it."""
        convs = [f"features.{i}" for i, m in enumerate(self.features) if isinstance(m, nn.Conv2d)]
        norms = [f"features.{int(name.split('.')[1]) + 1}" for name in convs]
        return [Names(*three) for three in zip(convs, norms, [*convs[1:], "fc"], strict=True)]


class Mlp(nn.Module):
    """A perceptron with ReLU, for tables; its layers have biases, the hidden ones batch norms where asked."""

    def __init__(
        self, features: int, hidden: Sequence[int], classes: int, widths: Mapping[str, int] | None = None, *, norm: bool = False
    ) -> None:
        super().__init__()
        sizes = [(widths or {}).get(f"layers.{i}", width) for i, width in enumerate(hidden)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip([features, *sizes], sizes, strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) if norm else nn.Identity() for b in sizes)
        self.fc = nn.Linear(sizes[-1], classes)
        self.normed = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return self.fc(x)

    def prunable(self) -> list[Names]:
        """Every hidden layer."""
        last = len(self.layers) - 1
        return [
            Names(f"layers.{i}", f"norms.{i}" if self.normed else "", f"layers.{i + 1}" if i < last else "fc")
            for i in range(last + 1)
        ]


def build(architecture: str, classes: int, shape: tuple[int, ...], widths: Mapping[str, int] | None = None) -> nn.Module:
    """A network by name with fresh weights: Kaiming normal fan-out convolutions, BN scale 1, shift 0.

    Args:
        shape: of an example, (C, h, w) or (features,).  The size decides the stem of ResNet-18 to -101: under 64 px a 3x3 one
            without pooling.

    Raises UserError where there is no such network, or none for such examples.
    """
    if match := MLP.fullmatch(architecture):
        hidden = [int(n) for n in match[1].split("-")[1:]]
        return Mlp(math.prod(shape), hidden, classes, widths, norm=bool(match[2]))
    if len(shape) != 3 and architecture in (*CIFAR_DEPTHS, *VGG_PLANS, *TORCHVISION):
        raise UserError(f"{architecture} is for images, and an example here is {shape}; name a perceptron such as mlp-128-64")
    if architecture in CIFAR_DEPTHS:
        model: nn.Module = CifarResNet(CIFAR_DEPTHS[architecture], classes, widths, shape[0])
    elif architecture in VGG_PLANS:
        model = CifarVgg(VGG_PLANS[architecture], classes, widths, shape[0])
    elif architecture in TORCHVISION:
        from suite.compat import import_torchvision

        model = getattr(import_torchvision().models, architecture)(weights=None, num_classes=classes)
        if shape[-1] < 64:
            model.conv1 = nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False)
            model.maxpool = nn.Identity()
        if widths:
            model = _thin(model, widths)
    else:
        names = ", ".join([*CIFAR_DEPTHS, *VGG_PLANS, *TORCHVISION, "mlp-128-64 and the like"])
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


def _thin(model: nn.Module, widths: Mapping[str, int]) -> nn.Module:
    """The first `widths[name]` channels of each named group: a shape to train from fresh weights."""
    keep = {g.name: torch.arange(g.width) < widths[g.name] for g in channel_groups(model) if g.name in widths}
    return compact(model, keep)
