"""Libraries beside each other: what one asks of the other is answered."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from suite import compat


def test_pillow_posterizes_to_black() -> None:
    """timm's RandAugment asks for it at its strongest, and Pillow refuses it from version 13 on."""
    compat.import_torchvision()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8))
    black = ImageOps.posterize(picture, 0)
    assert (black.mode, black.size, black.getextrema()) == ("RGB", (4, 4), ((0, 0),) * 3)
    assert (np.asarray(ImageOps.posterize(picture, 1)) == np.asarray(picture) // 128 * 128).all()
    with pytest.raises(ValueError, match="bits"):
        ImageOps.posterize(picture, 9)


@pytest.mark.slow
def test_the_strongest_draw_of_deits_augmentation_is_answered() -> None:
    pytest.importorskip("timm")
    compat.import_torchvision()
    from timm.data.auto_augment import AugmentOp

    picture = Image.fromarray(np.full((4, 4, 3), 200, dtype=np.uint8))
    assert AugmentOp("PosterizeIncreasing", prob=1.0, magnitude=10)(picture).getextrema() == ((0, 0),) * 3
