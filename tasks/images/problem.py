"""What a method of a task that classifies is given: data, models and a budget of examples; and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from suite import parallel
from suite.naming import address
from suite.protocol import Operations, Problem
from tasks.images.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.images.channels import ChannelGroup
    from tasks.images.sources import Source


@dataclass(frozen=True)
class Network:
    """The Solution: the network that is deployed, and what its method noted about it."""

    model: nn.Module
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ClassificationProblem(Problem):
    """Data, models and a budget of examples.  Methods see training and validation examples, never a test label."""

    validation: ClassVar[str] = "val_top1"  #: what `validate` measures, as the curve of a run calls it

    source: Source
    architecture: str
    epochs: int
    batch: int
    precision: str  #: of the training autocast: bf16 or fp32
    device: torch.device
    recipe: Recipe  #: the set's own, the same for every method

    @property
    def notes(self) -> Sequence[str]:
        return self.source.notes

    @property
    def classes(self) -> int:
        return len(self.source.classes)

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of an example: (3, size, size) of an image, (features,) of a table's row."""
        return self.source.input

    @cached_property
    def steps_per_epoch(self) -> int:
        return self.source.train_count // self.batch

    @property
    def budget(self) -> int:
        """Examples that a closed run may see: the same for every method."""
        return self.epochs * self.steps_per_epoch * self.batch

    def model(self, widths: Mapping[str, int] | None = None, memory_format: torch.memory_format | None = None) -> nn.Module:
        """A fresh network on the device, its initial weights addressed by the seed; thin where widths are given.

        Args:
            memory_format: of convolutions' weights; None: channels last, which is what is timed.  Code that views weights as one
                row (`torch.nn.utils.prune` does) needs `torch.contiguous_format`.
        """
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(self.run.seed("init"))
            model = self.build(widths)
        return model.to(self.device, memory_format=memory_format or torch.channels_last)

    def build(self, widths: Mapping[str, int] | None = None) -> nn.Module:
        """A network of the case's architecture; its weights come from torch's stream."""
        from tasks.images.networks import build

        return build(self.architecture, self.classes, self.input, widths)

    def macs(self, model: nn.Module) -> int:
        """Multiply-adds of one example, counted on the network itself."""
        return int(self.count(model).total("macs"))

    def count(self, model: nn.Module) -> Operations:
        import torch

        from suite.meters import operations

        return operations.count(model, (torch.zeros(1, *self.input, device=self.device),))

    def batches(self, epoch: int, among: torch.Tensor | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Augmented training batches of an epoch, on the device; order and augmentation addressed by the seed.

        Labels are (n,) int64, or where the augmentation mixes images soft targets (n, classes).  Spends the budget; an overdraft
        raises OverBudget.  Empty in the `speed` division.

        Args:
            among: the training rows (k,) that the epoch consists of; None: all.
        """
        if self.spec.division == "speed":
            return
        (order, augment), augmentation = self._addresses(epoch), self.source.augmentation
        for step, (x, y) in enumerate(self.source.train(order, augment, self.batch, self._mine, among)):
            self._book(self.batch)
            x, y = self._to_device(x), y.to(self.device, non_blocking=True)
            yield augmentation.mix(x, y, self.classes, address(augment, "mix", step)) if augmentation else (x, y)

    def rows(self, epoch: int, among: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Which training rows each batch of `batches` holds, (n,) int64: what a method keeps of an example goes by them.

        `source.columns("train")` gives these rows' attributes and group.
        """
        if self.spec.division != "speed":
            yield from self.source.rows(self._addresses(epoch)[0], self.batch, self._mine, among)

    def sample(self, count: int, purpose: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Training examples without augmentation for scoring; they count against the budget like any others."""
        return next(self.samples(count, purpose, count))

    def samples(self, count: int, purpose: str, piece: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The examples of `sample`, at most `piece` of them on the device at once; all are booked with the first."""
        self._book(count)
        for x, y in self.source.sample(count, self.run.seed(purpose), piece):
            yield self._to_device(x), y.to(self.device)

    def distribute(self, model: nn.Module) -> nn.Module:
        """What a training step calls: the model, or its wrapper that averages gradients over processes."""
        return parallel.distribute(model)

    def validate(self, model: nn.Module) -> float:
        """Top-1 on the validation split in per cent, eval mode, off the clock: for choices."""
        if self.spec.division == "speed":
            return float("nan")
        with self.run.off_clock():
            label, prediction, _ = self.predict(model, "val")
        return 100 * float((label == prediction).mean())

    def predict(self, model: nn.Module, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, predictions and confidences over a split, fp32, in stored order."""
        import torch

        was = model.training
        model.eval()
        columns: list[tuple[Any, Any, Any]] = []
        with torch.inference_mode():
            for x, y in self.source.evaluate(split, 500):
                p = model(self._to_device(x)).float().softmax(1)
                confidence, prediction = p.max(1)
                columns.append((y, prediction.cpu(), confidence.cpu()))
        model.train(was)
        label, prediction, confidence = (torch.cat(c).numpy() for c in zip(*columns, strict=True))
        return label, prediction, confidence

    def _addresses(self, epoch: int) -> tuple[int, int]:
        """Seeds of an epoch's order and augmentation."""
        return self.run.seed("order", epoch), self.run.seed("augment", epoch)

    @property
    def _mine(self) -> slice:
        """Of a batch the items that are this process's."""
        return parallel.share(self.batch)

    def _book(self, count: int) -> None:
        self.run.grant(self.budget)
        self.run.spend(count)

    def _to_device(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        layout = torch.channels_last if x.dim() == 4 else torch.preserve_format
        return x.to(self.device, memory_format=layout, non_blocking=True)


@dataclass
class PrunableProblem(ClassificationProblem):
    """Networks whose inner channels can go."""

    def groups(self, model: nn.Module) -> list[ChannelGroup]:
        """Prunable inner channels of a network, in module order."""
        from tasks.images.channels import channel_groups

        return channel_groups(model)

    def compact(self, model: nn.Module, keep: Mapping[str, torch.Tensor]) -> nn.Module:
        """A physically smaller copy, its logits equal to the masked network's."""
        from tasks.images.channels import compact

        return compact(model, keep)

    @cached_property
    def _layers(self) -> list[tuple[int, str, str, int, int]]:
        """A line a dense layer: MACs at a width of one in and out, groups that rule out and in, dense widths."""
        model = self.model()
        groups = self.groups(model)
        modules = dict(model.named_modules())
        widths = {g.name: g.width for g in groups}
        rules_in = {g.names.consumer: g.name for g in groups if g.consumer is not None}
        sliced = {g.name for g in groups if g.consumer is not None}
        rows = []
        for layer in self.count(model).layers:
            if not layer["macs"]:
                continue
            name, weight = layer["name"], modules[layer["name"]].weight
            feeding = rules_in.get(name, "")
            c_out, c_in = int(weight.shape[0]), widths.get(feeding, int(weight.shape[1]))
            rows.append((int(layer["macs"]) // (c_out * c_in), name if name in sliced else "", feeding, c_out, c_in))
        return rows

    def macs_of(self, widths: Mapping[str, int]) -> int:
        """Multiply-adds of the network with these inner widths (dense where not named), without building it."""
        return sum(u * widths.get(o, c_out) * widths.get(i, c_in) for u, o, i, c_out, c_in in self._layers)

    @cached_property
    def dense_macs(self) -> int:
        return self.macs_of({})
