"""Vision transformers by name, with fresh weights: timm's, whose patches can be chosen, and what they cost on paper.

``vit-48-6-3-p4`` is one of width 48, depth 6, 3 heads and patches of 4 pixels; ``deit-t``, ``deit-s``, ``deit-b``, ``swin-t``,
``swin-s`` and ``lvvit-s`` are the papers'.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from suite.naming import UserError
from tasks.vit_training.patches import ChosenPatches, timm

NAME = re.compile(r"vit-([1-9]\d*)-([1-9]\d*)-([1-9]\d*)-p([1-9]\d*)")
DEIT = {"deit-t": (192, 12, 3, 16), "deit-s": (384, 12, 6, 16), "deit-b": (768, 12, 12, 16)}
SWIN = {"swin-t": (2, 2, 6, 2), "swin-s": (2, 2, 18, 2)}
LVVIT = ("lvvit-s",)
DEEP = 12  #: a ViT so deep drops paths in training, as DeiT does
DROP_PATH = 0.1
SWIN_DROP_PATH = 0.2

BACKWARD = 3  #: multiply-adds of a training step over those of its forward pass

Tokens = Sequence[tuple[int, int]]  #: of each block how many tokens its attention and its MLP see, class token included


@dataclass(frozen=True)
class Shape:
    """What a plain ViT's cost on paper is made of."""

    width: int
    depth: int
    heads: int
    patch: int
    size: int  #: of an image, in pixels
    classes: int
    channels: int = 3
    hidden: int = 0  #: of the MLP; 0: four times the width

    @property
    def patches(self) -> int:
        return (self.size // self.patch) ** 2

    @property
    def full(self) -> Tokens:
        """All tokens in every block."""
        return ((self.patches + 1, self.patches + 1),) * self.depth

    def macs(self, tokens: Tokens) -> int:
        """Multiply-adds of one image's forward pass (our own count): no biases, norms, softmax, top-k or gathers."""
        c, hidden = self.width, self.hidden or 4 * self.width
        blocks = sum(4 * n * c * c + 2 * n * n * c + 2 * m * c * hidden for n, m in tokens)
        return blocks + self.patches * self.channels * self.patch**2 * c + c * self.classes


def shape(architecture: str, classes: int, input_shape: Sequence[int]) -> Shape | None:
    """Of a plain ViT by name; None of other networks.  Raises UserError where the images do not fit it."""
    match = NAME.fullmatch(architecture)
    if match is None and architecture not in DEIT:
        return None
    width, depth, heads, patch = (int(n) for n in match.groups()) if match else DEIT[architecture]
    _check_square(architecture, input_shape)
    if input_shape[-1] % patch:
        raise UserError(
            f"{architecture}: {input_shape[-1]} pixels cannot be cut into patches of {patch}; name a patch that divides them,"
            " as in vit-48-6-3-p4"
        )
    if width % heads:
        raise UserError(f"{architecture}: {width} channels cannot be shared by {heads} heads; choose a number that divides them")
    return Shape(width, depth, heads, patch, int(input_shape[-1]), classes, int(input_shape[0]))


def build(architecture: str, classes: int, input_shape: Sequence[int], *, block: type[nn.Module] | None = None) -> nn.Module:
    """A network by name; its weights come from torch's stream: timm's initialisation, the class token's as DeiT's.

    Args:
        input_shape: of an image, (3, size, size).
        block: what takes the place of timm's `Block` (a plain ViT's, an LV-ViT's) or `SwinTransformerBlock`, with the same
            parameters: initial weights do not depend on it.

    Raises UserError where there is no such network, or none for such images.
    """
    found = shape(architecture, classes, input_shape)
    if found is not None:
        models = timm("timm.models.vision_transformer")
        model: Any = models.VisionTransformer(
            img_size=found.size,
            patch_size=found.patch,
            in_chans=found.channels,
            num_classes=classes,
            embed_dim=found.width,
            depth=found.depth,
            num_heads=found.heads,
            drop_path_rate=DROP_PATH if found.depth >= DEEP else 0.0,
            block_fn=block or models.Block,
        )
        nn.init.trunc_normal_(model.cls_token, std=0.02)  # timm starts it at 1e-6, DeiT at 0.02
        model.patch_drop = ChosenPatches()
        return model  # type: ignore[no-any-return]
    if architecture in LVVIT or architecture in SWIN:
        _check_square(architecture, input_shape)
        if input_shape[0] != 3:
            raise UserError(f"{architecture} is for images of 3 channels, and here they have {input_shape[0]}; choose a ViT")
    if architecture in LVVIT:
        from tasks.vit_training.lvvit import LvVit

        return LvVit(classes, int(input_shape[-1]), block=block)
    if architecture in SWIN:
        from tasks.vit_training.swin import swin

        return swin(SWIN[architecture], classes, int(input_shape[-1]), SWIN_DROP_PATH, block)
    names = ", ".join([*DEIT, *SWIN, *LVVIT, "vit-48-6-3-p4 and the like (width, depth, heads, patch)"])
    raise UserError(f"no architecture {architecture!r}; there are: {names}")


def _check_square(architecture: str, input_shape: Sequence[int]) -> None:
    if len(input_shape) != 3 or input_shape[1] != input_shape[2]:
        raise UserError(f"{architecture} is for square images, and an example here is {tuple(input_shape)}")
