"""LV-ViT-S (Jiang et al., All Tokens Matter, NeurIPS 2021) of timm's blocks: a convolutional stem, and a head for every patch.

Parameters have the names of the released code, whose layer norms have torch's own eps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from suite.naming import UserError
from tasks.vit_training.patches import ChosenPatches, timm

PATCH, WIDTH, DEPTH, HEADS, MLP_RATIO = 16, 384, 16, 6, 3.0
RESIDUAL = 2.0  #: what residual branches are divided by
DROP_PATH = 0.1
DENSE_SHARE = 0.5  #: of the dense head's largest logit in the tested logits


class LvVit(nn.Module):
    """Logits are those of the class head plus half the largest of the dense head's over the patches, in training as in tests.

    What token labelling is trained by, both heads apart, is `both`.

    Args:
        size: of an image in pixels, square.
        block: takes the place of timm's `Block`, with the same parameters.
    """

    def __init__(self, classes: int, size: int, *, block: type[nn.Module] | None = None) -> None:
        super().__init__()
        if size % PATCH:
            raise UserError(f"lvvit-s cuts images into patches of {PATCH} pixels, and {size} is no multiple of them")
        made: Any = block or timm("timm.models.vision_transformer").Block
        self.num_classes, self.embed_dim = classes, WIDTH
        self.patch_embed = Stem()
        patches = (size // PATCH) ** 2
        self.cls_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.empty(1, patches + 1, WIDTH))
        self.patch_drop = ChosenPatches()
        rates = [DROP_PATH * i / (DEPTH - 1) for i in range(DEPTH)]
        options = {"mlp_ratio": MLP_RATIO, "qkv_bias": False, "norm_layer": nn.LayerNorm}
        self.blocks = nn.Sequential(*[made(WIDTH, HEADS, drop_path=rate, **options) for rate in rates])
        for b in self.blocks:
            b.ls1, b.ls2 = Divided(), Divided()  # timm's place for the scale of a residual branch
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        self.aux_head = nn.Linear(WIDTH, classes)
        for parameter in (self.pos_embed, self.cls_token):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.apply(_initialise)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed", "cls_token"}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, size, size) to (B, classes)."""
        of_class, of_patches = self.both(images)
        return of_class + DENSE_SHARE * of_patches.max(1).values

    def both(self, images: torch.Tensor, inside: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the class head (B, classes) and of the dense head on the patches that entered (B, T, classes).

        Args:
            inside: of mix-token the patches (N,) bool that come from the batch back to front; None: no patch does.
        """
        x = self.forward_features(images, inside)
        return self.head(x[:, 0]), self.aux_head(x[:, 1:])

    def forward_features(self, images: torch.Tensor, inside: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens behind the last norm (B, 1 + T, C)."""
        x = self.patch_embed(images)
        if inside is not None:
            x = torch.where(inside[:, None], x.flip(0), x)
        return self.norm(self.blocks(self.patch_drop(self._pos_embed(x))))  # type: ignore[no-any-return]

    def _pos_embed(self, x: torch.Tensor) -> torch.Tensor:
        """The class token in front and positions on top, as timm's method of this name."""
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed


class Stem(nn.Module):
    """Three convolutions at half the size, then one that cuts into patches: (B, 3, h, w) to (B, N, C) in raster order."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.proj = nn.Conv2d(channels, WIDTH, PATCH // 2, stride=PATCH // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = self.relu(norm(convolution(x)))
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class Divided(nn.Module):
    """A residual branch over `RESIDUAL`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / RESIDUAL


def _initialise(module: nn.Module) -> None:
    """As the released code: convolutions keep torch's own."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
