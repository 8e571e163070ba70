"""Swin transformers: timm's, with windows that tile every stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from suite.naming import UserError
from tasks.vit_training.patches import timm

PATCH = 4
SMALLEST = 4  #: tokens that a window has across and down, where the image allows more


def window(size: int) -> int:
    """Tokens across a window for images of so many pixels; raises UserError where no window tiles every stage.

    It is a 32nd of the size, as the papers' 7 of 224 and 12 of 384, doubled until it is 4 at least.
    """
    if size < 32 or size % 32:
        raise UserError(f"a Swin's four stages halve images of a multiple of 32 pixels, and here they have {size}; choose a ViT")
    across = size // 32
    while across < SMALLEST:
        across *= 2
    return across


def swin(depths: Sequence[int], classes: int, size: int, drop_path: float, block: type[nn.Module] | None = None) -> nn.Module:
    """A Swin of width 96 and patches of 4 pixels (Liu et al., ICCV 2021), with fresh weights.

    Its stages have 56, 28, 14 and 7 tokens across where images have 224 pixels, and windows of 7; 8, 4, 2 and 1 of 32 pixels, and
    16, 8, 4 and 2 of 64, windows of 4 both; windows of 6, 4, 5, 6, 8 and 12 of 96, 128, 160, 192, 256 and 384.  A stage of no more
    tokens than a window has is one window, which is not shifted.

    Args:
        drop_path: of the last block; it grows to that from 0.
        block: what takes the place of `SwinTransformerBlock`, a subclass of it without weights of its own: initial weights do not
            depend on it.

    Raises UserError where the images do not fit.
    """
    models = timm("timm.models.swin_transformer")
    model: Any = models.SwinTransformer(
        img_size=size,
        patch_size=PATCH,
        num_classes=classes,
        embed_dim=96,
        depths=tuple(depths),
        num_heads=(3, 6, 12, 24),
        window_size=window(size),
        drop_path_rate=drop_path,
    )
    for module in model.modules() if block else ():
        if type(module) is models.SwinTransformerBlock:
            module.__class__ = block  # timm's stages take no other block
    return model  # type: ignore[no-any-return]
