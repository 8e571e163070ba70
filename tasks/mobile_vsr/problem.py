"""A clip, its patches, networks for it and a budget of patches: what methods see, and what each case grants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from suite.naming import UserError
from suite.protocol import Problem
from tasks.mobile_vsr.content import Case, Setting, general_content, read_frames

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.mobile_vsr.data import Source

BATCH = 16
GENERAL_EPOCHS = 30  #: on the paper tier


@dataclass
class VideoProblem(Problem):
    """Frames, patches, networks and a budget of patches.  A clip is overfitted by design: train and test frames are the same."""

    source: Source
    setting: Setting
    case: Case
    device: torch.device

    @property
    def notes(self) -> Sequence[str]:
        return self.source.notes

    # -- frames

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of a high-resolution frame after cropping."""
        return int(self.frames[1].shape[2]), int(self.frames[1].shape[3])

    @cached_property
    def numbers(self) -> np.ndarray:
        """Numbers, from 0, of the clip's frames that are played."""
        return np.arange(0, self.source.count, self.setting.stride)

    @cached_property
    def frames(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Low- and high-resolution frames that are played, uint8 (T, 3, h, w) and (T, 3, s h, s w)."""
        return read_frames(self.source, self.setting, self.case.scale)

    @property
    def scale(self) -> int:
        return self.case.scale

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the fine grid."""
        return self.setting.rows, self.setting.columns

    @property
    def coarse_grid(self) -> tuple[int, int]:
        """The grid of Dy-DCA's coarse patches, two by two fine ones; raises UserError where the fine grid is odd."""
        rows, columns = self.grid
        if rows % 2 or columns % 2:
            raise UserError(f"a fine grid of {rows} rows x {columns} columns has no coarse one: both must be even")
        return rows // 2, columns // 2

    # -- patches

    @cached_property
    def patches(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Fine patches of all frames, low and high, uint8, frame by frame, row by row."""
        return self.cut(*self.grid)

    def cut(self, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches of all frames by another grid."""
        from tasks.mobile_vsr.patches import paired

        return paired(*self.frames, rows, columns, self.scale)

    def general_patches(self, coarse: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches of other content than this clip for the general model (`content.general_content`).

        They have the size of this clip's fine patches, or of its coarse ones.
        """
        rows, columns = self.coarse_grid if coarse else self.grid
        h, w = self.size[0] // self.scale // rows, self.size[1] // self.scale // columns
        return general_content(self.spec, self.case, h, w)

    # -- networks

    def network(self, name: str = "", purpose: str = "init") -> nn.Module:
        """A network with fresh weights that the seed addresses, on the device; the case's backbone unless named."""
        import torch

        from tasks.mobile_vsr.models import build

        with torch.random.fork_rng():
            torch.manual_seed(self.run.seed(purpose))
            model = build(name or self.case.backbone, self.scale)
        return model.to(self.device)

    # -- budget

    @property
    def starts_from_general(self) -> bool:
        """Whether every network starts from the general model; on the paper tier all start from scratch, as in the papers."""
        return self.spec.tier != "paper"

    @property
    def schedule(self) -> Literal["step", "epoch"]:
        """When the learning rate falls: every step, or every epoch as in the papers."""
        return "epoch" if self.spec.tier == "paper" else "step"

    @property
    def select(self) -> Literal["last", "best"]:
        """Which weights are sent: the last, or those of the epoch with the lowest training loss, as in the papers."""
        return "best" if self.spec.tier == "paper" else "last"

    @cached_property
    def steps(self) -> int:
        """Optimizer steps of batch 16 that awdnn's network gets."""
        return self.setting.steps or self.setting.epochs * (len(self.patches[0]) // BATCH)

    @property
    def budget(self) -> int:
        """Fine patches that a closed run may train on: in all, or each of its networks (`Case.per_model`)."""
        return self.steps * BATCH

    def steps_each(self, networks: int) -> int:
        """Optimizer steps for each of so many networks."""
        return self.steps if self.case.per_model else self.steps // networks

    def general_budget(self, patches: int) -> int:
        """Fine patches that each network may see of other content, before it sees the clip."""
        steps = self.setting.general_steps or GENERAL_EPOCHS * max(1, patches // BATCH)
        return steps * BATCH

    def book(self, network: str, patches: int, *, general: bool = False, granted: int = 0) -> None:
        """Book a batch of so many fine patches (their worth in pixels); raises OverBudget.

        Where every network has the same steps (`Case.per_model`) steps are booked, so that a batch of large patches is one too.
        """
        if general:
            limit, counter, amount = granted, f"general {network}", patches
        elif self.case.per_model:
            limit, counter, amount = self.steps, f"steps {network}", 1
        else:
            limit, counter, amount = self.budget, "clip", patches
        self.run.grant(limit, "", counter)
        self.run.spend(patches, counter, amount)
