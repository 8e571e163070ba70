"""Networks of this task that the images' tasks do not have: a small convolutional one, and the two that the faces are read by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from suite.naming import UserError
from tasks.images import networks
from tasks.images.channels import Names

CNN = re.compile(r"cnn((?:-[1-9]\d*)+)(-bn)?")  #: cnn-16-32: two convolutions; cnn-16-32-bn: with batch norms
FACES = ("resnet10", "mobilenet_v2")


class Cnn(nn.Module):
    """Convolutions of 3x3 with ReLU, the maps halved after each, and a linear layer that reads them all."""

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int],
        classes: int,
        thin: Mapping[str, int] | None = None,
        *,
        norm: bool = False,
    ) -> None:
        super().__init__()
        size = min(shape[1:])
        if size >> len(widths) == 0:
            raise UserError(f"a picture of {size} pixels cannot be halved {len(widths)} times; name fewer layers")
        sizes = [(thin or {}).get(f"layers.{i}", width) for i, width in enumerate(widths)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip([shape[0], *sizes], sizes, strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) if norm else nn.Identity() for b in sizes)
        left = [side >> len(widths) for side in shape[1:]]
        self.fc = nn.Linear(sizes[-1] * left[0] * left[1], classes)
        self.normed = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(layer(x))), 2)
        return self.fc(x.flatten(1))

    def prunable(self) -> list[Names]:
        """Every convolution."""
        last = len(self.layers) - 1
        return [
            Names(f"layers.{i}", f"norms.{i}" if self.normed else "", f"layers.{i + 1}" if i < last else "fc")
            for i in range(last + 1)
        ]


def build(architecture: str, classes: int, shape: tuple[int, ...], widths: Mapping[str, int] | None = None) -> nn.Module:
    """A network by name with fresh weights: `tasks.images.networks.build`, and those of this module.

    resnet10 is basic blocks [1, 1, 1, 1] of 64, 128, 256, 512 channels, 4.9 million weights (BiFP names it and does not say
    what it is); mobilenet_v2 is torchvision's.
    """
    if match := CNN.fullmatch(architecture):
        if len(shape) != 3:
            raise UserError(f"{architecture} is for images, and an example here is {shape}; name a perceptron such as mlp-128-64")
        return Cnn(shape, [int(n) for n in match[1].split("-")[1:]], classes, widths, norm=bool(match[2]))
    if architecture in FACES:
        from suite.compat import import_torchvision

        if widths:
            raise UserError(f"{architecture} is built whole; cut its channels after it is built")
        models = import_torchvision().models
        if architecture == "mobilenet_v2":
            return models.mobilenet_v2(weights=None, num_classes=classes)
        return models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=classes)
    return networks.build(architecture, classes, shape, widths)
