"""What tasks that classify time: a batch as the network is deployed, and a step of its training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle, pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from suite.meters.environment import tf32
from suite.naming import UserError
from suite.protocol import Workload
from tasks.images.recipes import Recipe

if TYPE_CHECKING:
    from tasks.images.recipes import Loss

#: how a GPU is asked to compute in the speed division; a processor here has no use for the others
PRECISIONS = ("fp32", "tf32", "bf16")

Batch = tuple[torch.Tensor, torch.Tensor]


def inference(
    model: nn.Module, shape: Sequence[int], device: torch.device, batches: Sequence[int], precisions: Sequence[str] = PRECISIONS[:1]
) -> list[Workload]:
    """``infer@N``: a batch of N as deployed (batch norms folded), one fixed random input, images channels last.

    In another precision than fp32 it is called ``infer@64/tf32``; bf16 is that of weights and inputs.

    Args:
        shape: of an example.
    """

    if odd := set(precisions) - set(PRECISIONS):
        raise ValueError(f"no precision {', '.join(sorted(odd))}; there are: {', '.join(PRECISIONS)}")

    def prepare(batch: int, precision: str) -> Callable[[], torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        layout = torch.channels_last if len(shape) == 3 else torch.contiguous_format
        x = torch.randn(batch, *shape, generator=generator).to(device, memory_format=layout)
        deployed = fold_batch_norms(model.to(device), x[:2])
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        network, x = deployed.to(dtype=kind, memory_format=torch.channels_last), x.to(kind)

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return network(x)  # type: ignore[no-any-return]

        # around each call alone: workloads of several precisions take turns in one process
        return tf32()(call) if precision == "tf32" else call

    return [
        Workload(f"infer@{n}" if p == "fp32" else f"infer@{n}/{p}", lambda n=n, p=p: prepare(n, p), items=n)  # type: ignore[misc]
        for p in precisions
        for n in batches
    ]


@dataclass(frozen=True)
class Training:
    """How a network is trained: what a Solution keeps of it, so that its steps can be taken and timed again.  It can be pickled."""

    recipe: Recipe
    epochs: int
    steps: int  #: of the optimizer, in all epochs
    batch: int
    precision: str = "fp32"  #: of the training autocast: bf16 or fp32
    loss: Loss | None = None  #: None: the recipe's
    #: sets a network to a point of the schedule, 0 to 1: the share of its tokens that it keeps there
    set_point: Callable[[nn.Module, float], None] | None = None


def training_steps(
    model: nn.Module, training: Training, points: Sequence[float], batches: Callable[[], Sequence[Batch]]
) -> list[Workload]:
    """``train_step@p``: a step of the training at point p of its schedule, 0 to 1: forward, backward and the optimizer's move.

    The steps are taken by a copy of the network, which trains on, at the learning rate of the point, from an optimizer that
    has taken one step already; the network itself stays as it was.  Batches lie ready on its device and are used in turn.
    A workload's count is the number of steps of the whole training that are nearer to its point than to another.

    Args:
        points: rising.
        batches: makes the batches, off the clock; each as large as the training's.
    """
    if not points or any(a >= b for a, b in pairwise(points)) or not 0 <= points[0] <= points[-1] <= 1:
        raise ValueError(f"points {list(points)} must rise within 0 to 1")
    if training.steps < 1 or training.epochs < 1:
        raise ValueError(f"a training of {training.steps} steps in {training.epochs} epochs has no step to time")
    ready = cache(batches)  # loaded once, for all points

    def prepare(point: float) -> Callable[[], None]:
        network = copy.deepcopy(model).train()
        if training.set_point is not None:
            training.set_point(network, point)
        optimizer = training.recipe.optimizer(network)
        training.recipe.set_rate(optimizer, _epoch_at(training, point), training.epochs)
        loss, left = training.loss or training.recipe.loss, cycle(ready())
        device = next(network.parameters()).device.type

        def step() -> None:
            x, y = next(left)
            with torch.autocast(device, torch.bfloat16, enabled=training.precision == "bf16"):
                value = loss(network, x, y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

        step()  # the optimizer's moments are there from the second step on
        return step

    return [
        Workload(f"train_step@{p:g}", lambda p=p: prepare(p), items=training.batch, count=training.steps * share)  # type: ignore[misc]
        for p, share in zip(points, _shares(points), strict=True)
    ]


def _epoch_at(training: Training, point: float) -> float:
    """Epochs that are over where a step at this point is taken; whole ones where the rate is set once an epoch."""
    last = training.epochs - (training.epochs / training.steps if training.recipe.stepwise else 1)
    epoch = min(point * training.epochs, last)
    return epoch if training.recipe.stepwise else math.floor(epoch)


def _shares(points: Sequence[float]) -> list[float]:
    """How much of 0 to 1 is nearer to each of these rising points than to the others."""
    ends = [0.0, *((a + b) / 2 for a, b in pairwise(points)), 1.0]
    return [b - a for a, b in pairwise(ends)]


@torch.no_grad()
def fold_batch_norms(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """A copy as it would be deployed: each batch norm that directly follows a convolution or linear layer is folded into it.

    Which follows which is seen in one forward pass of `x` (N, ...), so any module serves.  The copy
    must give the same logits, held to the largest of them; where it does not (a layer's output is
    also used elsewhere), the batch norms that cannot be folded stay, and they alone: a network is never
    timed unfolded beside a folded parent.  torch.nn.utils.fusion does the arithmetic.

    Raises UserError where the logits are not finite: nothing can be held to them.
    """
    plain = copy.deepcopy(model).eval()
    made: dict[int, str] = {}  # id of a live output: name of the layer
    alive: list[torch.Tensor] = []  # keeps outputs, and so their ids, until the pass ends
    calls: dict[str, int] = {}
    pairs: dict[str, str] = {}

    def after(name: str, output: torch.Tensor) -> None:
        made[id(output)] = name
        alive.append(output)
        calls[name] = calls.get(name, 0) + 1

    def before(name: str, inputs: tuple[torch.Tensor, ...]) -> None:
        pairs[name] = made.get(id(inputs[0]), "")
        calls[name] = calls.get(name, 0) + 1

    handles = []
    for name, m in plain.named_modules():
        if type(m) in (nn.Conv2d, nn.Linear) and not m._forward_pre_hooks:
            handles.append(m.register_forward_hook(lambda _, __, output, name=name: after(name, output)))
        elif type(m) in (nn.BatchNorm1d, nn.BatchNorm2d) and m.affine and m.track_running_stats:
            handles.append(m.register_forward_pre_hook(lambda _, inputs, name=name: before(name, inputs)))
    expected = plain(x)
    for handle in handles:
        handle.remove()
    if not expected.isfinite().all():
        raise UserError("the network's logits are not finite, so it cannot be deployed; train it again")
    found = [(bn, layer) for bn, layer in pairs.items() if layer and calls[bn] == calls[layer] == 1]
    folded = _fold(plain, found)
    if _alike(folded(x), expected):
        return folded
    folded = plain
    for pair in found:
        trial = _fold(folded, [pair])
        folded = trial if _alike(trial(x), expected) else folded
    return folded


def _fold(model: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    """A copy with these batch norms folded into these layers, by name."""
    folded = copy.deepcopy(model)
    for bn_name, name in pairs:
        layer, bn = folded.get_submodule(name), folded.get_submodule(bn_name)
        fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        folded.set_submodule(name, fuse(layer, bn))  # type: ignore[type-var, arg-type]
        folded.set_submodule(bn_name, nn.Identity())
    return folded


def _alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether logits differ by no more than a thousandth of the largest: their scale is the network's own."""
    return bool((found - expected).abs().max() <= 1e-3 * expected.abs().max())
