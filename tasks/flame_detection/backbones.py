"""The networks that FlameFinder is compared with: trunks of one picture, or of two, under one linear layer.

All see thermal pictures as three equal channels, as FLAME 2 stores them and ImageNet's first layers want them.  What is changed
for patches of a few dozen pixels: LeNet-5 and torchvision's networks halve a picture so often that patches under 32 pixels are
enlarged to 32 (and for torchvision's those over 224 shrunk to 224); FireNet's dense layers are made for 64, so its patches are
brought to that; VGG's pooling before the dense layers is 7 x 7 for 224 pixels and in proportion below, down to 1 x 1, where 7 x 7
would only repeat values.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from suite.compat import import_torchvision
from suite.naming import UserError

Mode = Literal["thermal", "rgb", "early", "late"]
Name = Literal["flame", "lenet5", "firenet", "mobilenetv2", "resnet18", "vgg16", "vgg19", "logistic"]
PRETRAINED = {"mobilenetv2": "mobilenet_v2", "resnet18": "resnet18", "vgg16": "vgg16", "vgg19": "vgg19"}  #: torchvision's names
LEAST, FIRENET = 32, 64  #: sides that patches are enlarged to
IMAGENET_SIDE = 224  #: that larger ones are shrunk to
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
VGG_POOL = 7


class Backbone(nn.Module):
    """A trunk for each picture, their features side by side, and a linear layer.

    Pictures by mode: thermal alone, RGB alone, both as six channels of one, RGB first (early fusion), or each through a trunk of
    its own, RGB first (late fusion).  With one class the logits are (n,), positive: flame; else (n, classes).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        trunk: Callable[[int], nn.Module],
        features: int,
        mode: Mode,
        classes: int = 1,
        *,
        side: int | None = None,
        dropout: float = 0.0,
        logit_dropout: float = 0.0,
        imagenet: bool = False,
    ) -> None:
        """Fresh weights, from torch's stream.

        Args:
            trunk: of so many channels, (n, C, side, side) to (n, features).
            side: pictures are resized to it; None: as they are.
            dropout: of the features.
            logit_dropout: of the logits, as FLAME 2's code has it.
            imagenet: whether pictures are scaled as ImageNet's are.
        """
        super().__init__()
        if mode not in get_args(Mode):
            raise UserError(f"no mode {mode!r}; there are: {', '.join(get_args(Mode))}")
        self.mode, self.side, self.classes, self.imagenet = mode, side, classes, imagenet
        self.colour = mode != "thermal"
        streams = 2 if mode == "late" else 1
        self.trunks = nn.ModuleList(trunk(6 if mode == "early" else 3) for _ in range(streams))
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(streams * features, classes), nn.Dropout(logit_dropout))
        for name, values in zip(("mean", "std"), IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, thermal: torch.Tensor, rgb: torch.Tensor | None = None) -> torch.Tensor:
        """thermal (n, 1 or 3, P, P) and where the mode asks for it RGB (n, 3, P, P), in 0..1."""
        logits: torch.Tensor = self.out(self.embed(thermal, rgb))
        return logits.squeeze(-1) if self.classes == 1 else logits

    def embed(self, thermal: torch.Tensor, rgb: torch.Tensor | None = None) -> torch.Tensor:
        """Penultimate activations, (n, D)."""
        pictures = self._pictures(thermal, rgb)
        return torch.cat([trunk(x) for trunk, x in zip(self.trunks, pictures, strict=True)], 1)

    def _pictures(self, thermal: torch.Tensor, rgb: torch.Tensor | None) -> list[torch.Tensor]:
        if self.colour and rgb is None:
            raise UserError(f"mode={self.mode} reads RGB and was given none: use mode=thermal")
        parts = [] if rgb is None or not self.colour else [self._prepared(rgb)]
        if self.mode != "rgb":
            parts.append(self._prepared(thermal.expand(-1, 3, -1, -1)))
        return [torch.cat(parts, 1)] if self.mode == "early" else parts

    def _prepared(self, x: torch.Tensor) -> torch.Tensor:
        if self.side is not None and self.side != x.shape[-1]:
            shrinks = self.side < x.shape[-1]
            x = F.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=False, antialias=shrinks)
        return (x - self.mean) / self.std if self.imagenet else x


def build(name: Name, patch: int, mode: Mode = "thermal", classes: int = 1, weights: Path | None = None) -> Backbone:
    """A network by name for patches of so many pixels a side, with fresh weights from torch's stream.

    Args:
        weights: torchvision's file of ImageNet weights (a state dict) for the trunks; None: from scratch.  Pictures are then
            scaled as ImageNet's are.

    Raises UserError where there is no such network or mode, or the weights do not fit.
    """
    if name not in get_args(Name):
        raise UserError(f"no network {name!r}; there are: {', '.join(get_args(Name))}")
    if weights is not None and (name not in PRETRAINED or mode == "early"):
        raise UserError(f"there are no ImageNet weights for {name} in mode={mode}: leave pretrained out")
    side = max(patch, LEAST)
    if name == "flame":
        return Backbone(FlameTrunk, FlameTrunk.width, mode, classes)
    if name == "logistic":
        # features are the pixels, of six channels where both pictures make one
        features = (6 if mode == "early" else 3) * patch * patch
        return Backbone(lambda _: nn.Flatten(), features, mode, classes)
    if name == "lenet5":
        return Backbone(lambda c_in: _lenet5(c_in, side), 84, mode, classes, side=side)
    if name == "firenet":
        return Backbone(_firenet, 128, mode, classes, side=FIRENET)
    side, state = min(side, IMAGENET_SIDE), None if weights is None else _read(weights)
    pretrained: dict[str, Any] = {"side": side, "imagenet": state is not None}
    if name == "mobilenetv2":
        return Backbone(lambda c_in: _mobilenetv2(c_in, state), 1280, mode, classes, dropout=0.2, **pretrained)
    if name == "resnet18":
        features = 256 if mode == "late" else 512
        return Backbone(lambda c_in: _resnet18(c_in, features, state), features, mode, classes, **pretrained)
    return Backbone(lambda c_in: _Vgg(name, c_in, side, state), 4096, mode, classes, **pretrained)


class Separable(nn.Sequential):
    """A 3x3 convolution of each channel, then a 1x1 one across them; no biases."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False), nn.Conv2d(channels, channels, 1, bias=False)
        )


class FlameTrunk(nn.Module):
    """The small Xception-like network of the first FLAME paper, up to its global average; 8 channels throughout."""

    width = 8

    def __init__(self, c_in: int) -> None:
        super().__init__()
        w = self.width
        self.stem = self.stem_for(c_in)
        main = [m for _ in range(2) for m in (Separable(w), nn.BatchNorm2d(w), nn.ReLU())]
        self.main = nn.Sequential(*main, nn.MaxPool2d(3, 2, 1))
        self.side = nn.Conv2d(w, w, 1, 2)
        self.last = nn.Sequential(Separable(w), nn.BatchNorm2d(w), nn.ReLU())

    @classmethod
    def stem_for(cls, c_in: int) -> nn.Sequential:
        """The first layers for so many channels; the authors' code holds those for 3 and for 6 at once and uses one."""
        return nn.Sequential(nn.Conv2d(c_in, cls.width, 3, 2, 1), nn.BatchNorm2d(cls.width), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        r = self.stem(x)
        found: torch.Tensor = self.last(self.main(r) + self.side(r))
        return found.mean((2, 3))


def _lenet5(c_in: int, side: int) -> nn.Sequential:
    """LeNet-5 as FLAME 2's authors adapt it: three convolutions, the dense layer as wide as the picture leaves it."""
    left = ((side - 4) // 2 - 4) // 2 - 4
    return nn.Sequential(
        *(nn.Conv2d(c_in, 6, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten()),
        *(nn.Linear(120 * left * left, 84), nn.Tanh()),
    )


def _firenet(c_in: int) -> nn.Sequential:
    """FireNet (Jadon et al. 2019) for 64x64: convolutions without padding, averages, dropout; dense 256 and 128."""
    layers: list[nn.Module] = []
    for a, b in ((c_in, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(a, b, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Dropout(0.5)]
    dense = [nn.Flatten(), nn.Linear(64 * 6 * 6, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 128), nn.ReLU()]
    return nn.Sequential(*layers, *dense)


def _mobilenetv2(c_in: int, state: dict[str, torch.Tensor] | None) -> nn.Module:
    net: nn.Module = import_torchvision().models.mobilenet_v2(weights=None)
    _load(net, state)
    net.classifier = nn.Identity()
    if c_in != 3:
        net.features[0][0] = nn.Conv2d(c_in, 32, 3, 2, 1, bias=False)  # type: ignore[index, assignment]
    return net


def _resnet18(c_in: int, features: int, state: dict[str, torch.Tensor] | None) -> nn.Module:
    net: nn.Module = import_torchvision().models.resnet18(weights=None)
    _load(net, state)
    net.fc = nn.Identity() if features == 512 else nn.Linear(512, features)
    if c_in != 3:
        net.conv1 = nn.Conv2d(c_in, 64, 7, 2, 3, bias=False)
    return net


class _Vgg(nn.Module):
    """torchvision's VGG without its last layer, whose first dense layer reads as many places as the picture leaves."""

    def __init__(self, name: str, c_in: int, side: int, state: dict[str, torch.Tensor] | None) -> None:
        super().__init__()
        vgg = import_torchvision().models.vgg
        places = min(VGG_POOL, side // 32)
        plan = vgg.cfgs[{"vgg16": "D", "vgg19": "E"}[name]]
        self.features = vgg.make_layers(plan, batch_norm=False)
        self.pool = nn.AdaptiveAvgPool2d(places)
        self.dense = nn.Sequential(
            *(nn.Linear(512 * places * places, 4096), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(4096, 4096), nn.ReLU()),
            nn.Dropout(0.5),
        )
        if state is None:
            self._draw()
        else:
            ours = {"classifier.0": "dense.0", "classifier.3": "dense.3", "features": "features"}
            own = {name.replace(a, b, 1): v for name, v in state.items() for a, b in ours.items() if name.startswith(f"{a}.")}
            if "dense.0.weight" in own:
                own["dense.0.weight"] = fold_places(own["dense.0.weight"], places)
            _load(self, own)
        if c_in != 3:
            self.features[0] = nn.Conv2d(c_in, 64, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.dense(self.pool(self.features(x)).flatten(1))
        return found

    def _draw(self) -> None:
        """torchvision's initial weights."""
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]
            elif isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, 0, 0.01)
                nn.init.zeros_(m.bias)


def fold_places(weight: torch.Tensor, places: int) -> torch.Tensor:
    """Weights (out, 512 * 7 * 7) of VGG's first dense layer for a map of places x places: the same answers.

    Adaptive pooling of a smaller map to 7 x 7 is linear, so the weights can be multiplied by it once.
    """
    if places == VGG_POOL:
        return weight
    one_hot = torch.eye(places * places).view(places * places, 1, places, places)
    spread = F.adaptive_avg_pool2d(one_hot, VGG_POOL).view(places * places, VGG_POOL * VGG_POOL)
    return torch.einsum("ocq,pq->ocp", weight.view(len(weight), -1, VGG_POOL * VGG_POOL), spread).flatten(1)


def weights_file(name: Name, folder: str) -> Path:
    """torchvision's ImageNet weights of a network in the user's data folder; raises UserError where they are not there.

    Nothing is downloaded: torchvision's file (``vgg19-dcbb9e9d.pth``) lies in ``<data folder>/weights``.
    """
    theirs = PRETRAINED.get(name)
    found = sorted((Path(folder) / "weights").glob(f"{theirs}-*.pth")) if folder and theirs else []
    if len(found) != 1:
        where = f"exactly one {theirs}-*.pth of torchvision into <data folder>/weights and name that folder by --data"
        raise UserError(f"{name} with pretrained=true: {f'put {where}' if theirs else 'there are no ImageNet weights for it'}")
    return found[0]


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # whatever a file that is none raises
        raise UserError(f"{path}: not a file of weights that torch reads; download torchvision's anew") from e
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path}: holds no state dict; give torchvision's file as it is")
    return state


def _load(net: nn.Module, state: dict[str, torch.Tensor] | None) -> None:
    if state is None:
        return
    try:
        net.load_state_dict(state)
    except RuntimeError as e:
        raise UserError("these weights are another network's; give torchvision's file as it is") from e
