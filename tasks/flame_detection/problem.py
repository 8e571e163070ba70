"""What a method of this task is given: thermal patches with labels from RGB, fold by fold; and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from suite.naming import UserError, address
from suite.protocol import Problem

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from tasks.images.recipes import Recipe

TOLD = 12  #: files that were left out, of which a bundle names each
CHUNK = 500  #: patches that go through a detector at once
FULL = 600.0  #: degrees Celsius that become 1 where a network sees temperatures ("celsius/600")


@dataclass(frozen=True)
class Patches:
    """n patches of P x P pixels, cut from frames in raster order.  Columns are on the processor."""

    thermal: torch.Tensor  #: (n, 1, P, P) float32, scaled to 0..1 over its frame: what is left of a temperature
    rgb: torch.Tensor | None  #: (n, 3, P, P) uint8, networks see it in 0..1; None: there is no colour picture
    label: torch.Tensor  #: (n,) int64, 1: flame; of the RGB picture, as training sees it
    truth: torch.Tensor  #: (n,) int64, 1: fire (synthetic: by construction; FLAME 3: a pixel of 80 degrees); -1: nobody knows
    truth_200: torch.Tensor  #: (n,) int64, the same at 200 degrees
    warm: torch.Tensor  #: (n,) bool: the warmest pixels of a frame are here and RGB shows no flame
    celsius: torch.Tensor  #: (n,) float32, the warmest pixel in degrees; NaN where nobody knows
    frame: torch.Tensor  #: (n,) int64, which frame, counted over the whole set
    scene: torch.Tensor  #: (n,) int64, which scene (of the synthetic set: the kind of patch: 0 flame, 1 decoy, 2 background)
    obscured: torch.Tensor  #: (n,) bool: smoke hides it
    fire: torch.Tensor  #: (n,) int64, what the set says of the frame: 1: it shows fire, 0: none; -1: the set does not say
    #: (n, 1, P, P) float32, degrees Celsius as they were measured, for rules that read temperatures; None: nobody knows any
    degrees: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: torch.Tensor) -> Patches:
        """These rows (k,) int64 or (n,) bool."""
        columns: dict[str, Any] = {name: None if value is None else value[rows] for name, value in self.__dict__.items()}
        return replace(self, **columns)


@dataclass(frozen=True)
class Fold:
    """One split.  Training patches are never obscured and never share a scene, or a block of time, with the test."""

    train: Patches
    val: Patches  #: may be empty: then nothing is selected
    test: Patches  #: clear and obscured ones


@dataclass(frozen=True)
class PatchSet:
    """A data set as the task knows it."""

    name: str
    patch: int  #: P
    folds: Sequence[Fold]  #: one; of the real scenes one for each scene that is left out
    scenes: Sequence[str]  #: names, by number
    grid: tuple[int, int]  #: patches of a frame, down and across
    left_out: Mapping[str, str] = field(default_factory=dict)  #: files that were not used, and why
    notes: Sequence[str] = ()  #: what was taken for granted, and what a reader must know of these data


@dataclass(frozen=True)
class Detector:
    """A trained detector of one fold.

    `model` is what is deployed: an nn.Module with
      forward(thermal (n, 1, P, P) [, rgb (n, 3, P, P)]) -> logits (n,), positive: flame;
      embed(thermal [, rgb]) -> (n, D) what clusters are looked for in.
    `model.colour` (bool) says whether it is given RGB as well.  Three more are False where they are absent: `model.degrees`, it is
    given `Patches.degrees` in the place of the scaled thermal picture, as rules on temperatures are; `model.absolute`, it is given
    these degrees divided by 600; `model.whole_frames`, one call holds all patches of one frame, in raster order.  See `inputs` and
    `chunks`.
    """

    model: nn.Module
    centres: torch.Tensor | None = None  #: (2, D) of no flame and of flame, in the space of `embed`; None: there are none


@dataclass(frozen=True)
class Detectors:
    """The Solution: a detector for each fold, and what their method noted."""

    folds: Sequence[Detector]
    notes: Mapping[str, Any] = field(default_factory=dict)
    #: a line an epoch of a fold (``fold``, ``epoch``, both from 0), and of each term of the loss (bce, rec, cl, tcl, tccl) its mean
    #: ``loss_<term>``, its ``weight_<term>``, the norm ``gradient_<term>`` of the weighted term on the gated features that it reads
    #: and that norm's ``share_<term>`` of all terms'; ``gradient_z_<term>`` and ``share_z_<term>`` on z before any gate;
    #: ``centre_distance``.  Empty: there is one term only.
    terms: Sequence[Mapping[str, float]] = ()


@dataclass
class FlameProblem(Problem):
    """Patches of all folds and a budget of examples.  Methods see training and validation patches, never a test one."""

    validation: ClassVar[str] = "val_balanced_accuracy"

    patches: PatchSet
    epochs: int
    batch: int
    precision: str
    device: torch.device
    recipe: Recipe
    fold: int = 0  #: which one `batches` are of
    colour: bool = False  #: whether `batches` gives RGB as well; a method that reads it asks for it by `in_colour`
    absolute: bool = False  #: whether `batches` gives degrees divided by 600 instead of the scaled picture; see `in_degrees`

    def of_fold(self, fold: int) -> FlameProblem:
        """The same problem with another fold's patches; draws are addressed by the fold."""
        return replace(self, fold=fold)

    def in_colour(self) -> FlameProblem:
        """The same problem with RGB in its batches.  Raises UserError where a fold has no RGB pictures."""
        if self.spec.division != "speed" and any(f.train.rgb is None for f in self.patches.folds):
            raise UserError(f"{self.patches.name} has no RGB pictures: use mode=thermal")
        return replace(self, colour=True)

    def in_degrees(self) -> FlameProblem:
        """The same problem with temperatures in its batches, over 600.  Raises UserError where a fold has none."""
        if self.spec.division != "speed" and any(f.train.degrees is None for f in self.patches.folds):
            raise UserError(f"{self.patches.name} has no temperatures: use thermal=scaled")
        return replace(self, absolute=True)

    @property
    def notes(self) -> Sequence[str]:
        """What was left out and why, and what is to be known of the data."""
        left = [f"left out: {name}: {why}" for name, why in self.patches.left_out.items()]
        rest = [f"and {len(left) - TOLD} more were left out"] if len(left) > TOLD else []
        return [*left[:TOLD], *rest, *self.patches.notes]

    def need_batches(self) -> None:
        """Raises UserError where the fold has not one batch to train on."""
        if self.spec.division != "speed" and not self.steps_per_epoch:
            raise UserError(f"fold {self.fold} has {len(self.train)} training patches, no batch of {self.batch}: give more of them")

    @property
    def train(self) -> Patches:
        return self.patches.folds[self.fold].train

    @property
    def val(self) -> Patches:
        return self.patches.folds[self.fold].val

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train) // self.batch

    @property
    def budget(self) -> int:
        """Patches that a closed run may see in all folds together."""
        return self.epochs * self.batch * sum(len(f.train) // self.batch for f in self.patches.folds)

    def batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Balanced, jittered batches: x (batch, C, P, P) on the device, C = 1 thermal, or 4 with RGB behind it; y (batch,) int64.

        Which rows an epoch holds and how the thermal picture is jittered does not depend on whether RGB comes along.  Spends the
        budget; an overdraft raises OverBudget.  Empty in the `speed` division.
        """
        if self.spec.division == "speed":
            return
        import torch

        from tasks.flame_detection.patches import balanced, jitter

        train, varied = self.train, self.seed("augment", epoch)
        order = balanced(train.label, train.warm, self.batch, self.steps_per_epoch, self.seed("order", epoch))
        for step, rows in enumerate(order):
            self.book(self.batch)
            x = torch.cat(columns(train, rows, colour=self.colour, absolute=self.absolute), 1)
            x = jitter(x, address(varied, step))
            yield x.to(self.device, non_blocking=True), train.label[rows].to(self.device, non_blocking=True)

    def book(self, count: int) -> None:
        """Spend so many examples of the budget: for what is learnt from training patches outside `batches`."""
        self.run.grant(self.budget)
        self.run.spend(count)

    def seed(self, purpose: str, epoch: int = 0) -> int:
        """A seed of this fold."""
        return address(self.run.seed(purpose, epoch), self.fold)

    def validate(self, model: nn.Module) -> float:
        """Balanced accuracy of the head on the labels of the validation patches in per cent, off the clock.

        NaN where there are no validation patches, or none of one class: then nothing can be selected by it.
        """
        import numpy as np

        if self.spec.division == "speed" or not len(self.val):
            return float("nan")
        with self.run.off_clock():
            label = self.val.label.numpy()
            found = scores(model, self.val, self.device) > 0
        flame, rest = label == 1, label == 0  # of others RGB tells nothing
        if not flame.any() or not rest.any():
            return float("nan")
        return 50 * float(np.mean(found[flame]) + np.mean(~found[rest]))

    def distribute(self, model: nn.Module) -> nn.Module:
        return model


def inputs(model: nn.Module, patches: Patches, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What a detector is given of these rows (k,), in the order of its arguments, each (k, C, P, P).

    Raises UserError where the set does not have what it reads.
    """
    if getattr(model, "degrees", False):
        return (_degrees(patches)[rows],)
    return columns(patches, rows, colour=bool(model.colour), absolute=bool(getattr(model, "absolute", False)))


def columns(patches: Patches, rows: torch.Tensor, *, colour: bool, absolute: bool) -> tuple[torch.Tensor, ...]:
    """What networks see of these rows (k,), float32: the thermal picture (k, 1, P, P), and with `colour` RGB (k, 3, P, P) in 0..1.

    Args:
        absolute: degrees divided by 600, neither clipped nor scaled, take the scaled picture's place.
    """
    thermal = _degrees(patches)[rows] / FULL if absolute else patches.thermal[rows]
    if not colour:
        return (thermal,)
    if patches.rgb is None:
        raise UserError("this detector reads RGB and the set has none: use mode=thermal")
    return thermal, patches.rgb[rows].float() / 255


def _degrees(patches: Patches) -> torch.Tensor:
    if patches.degrees is None:
        raise UserError("temperatures are asked for and this set has none: use a radiometric one, thermal=scaled, or luma")
    return patches.degrees


def chunks(model: nn.Module, patches: Patches) -> Iterator[torch.Tensor]:
    """Rows (k,) int64 that go through a detector in one call: so many, or where it needs them together those of a frame."""
    import torch

    if getattr(model, "whole_frames", False):
        order = patches.frame.argsort(stable=True)
        yield from order.split(patches.frame.unique(return_counts=True)[1].tolist())
    else:
        yield from torch.arange(len(patches)).split(CHUNK)


def scores(model: nn.Module, patches: Patches, device: torch.device) -> np.ndarray:
    """Logits (n,) float32, eval mode, in stored order."""
    return _through(model, model, patches, device)


def embeddings(model: nn.Module, patches: Patches, device: torch.device) -> np.ndarray:
    """What clusters are looked for in, (n, D) float32, eval mode, in stored order."""
    embed: Any = model.embed
    return _through(model, embed, patches, device)


def _through(model: nn.Module, call: Callable[..., torch.Tensor], patches: Patches, device: torch.device) -> np.ndarray:
    import numpy as np
    import torch

    was = model.training
    model.to(device).eval()
    found: list[torch.Tensor] = []
    order: list[torch.Tensor] = []
    with torch.inference_mode():
        for rows in chunks(model, patches):
            found.append(call(*(c.to(device) for c in inputs(model, patches, rows))).float().cpu())
            order.append(rows)
    model.train(was)
    if not found:
        return np.zeros(0, np.float32)
    values = torch.cat(found).numpy()
    out = np.empty_like(values)
    out[torch.cat(order).numpy()] = values
    return out
