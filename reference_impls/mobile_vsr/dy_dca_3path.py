"""Dy-DCA as the paper's figure draws it: three patch sizes and three branches.

Paper: Li, Shu, Ji, Qin, Afghah, Niu, Ma. Data Overfitting for On-Device Super-Resolution with Dynamic Algorithm and Compiler
Co-Design. ECCV 2024, arXiv 2407.02813.

Deviations: as dy_dca, with its 50 epochs instead of 80 on the paper tier; the released code has two sizes, so the third (a quadrant
that is restored badly is cut once more), its threshold of 35 dB and branches of 2, 4 and 6 blocks (small tier: 1, 2 and 3) are
chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.mobile_vsr.dy_dca import DyDca

__all__ = ["DyDca3path"]


@dataclass(frozen=True)
class DyDca3path(DyDca):
    """Settings as of dy_dca; `threshold` is that of coarse patches."""

    version: ClassVar[int] = 1

    blocks: ClassVar[tuple[int, ...]] = (6, 4, 2)
    small_blocks: ClassVar[tuple[int, ...]] = (3, 2, 1)
    fixed: ClassVar[tuple[float, ...]] = (40.0, 35.0)
