"""What tests of methods that thin tokens or connections share: a small problem, networks with weights that tell, counts, copies."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from reference_impls.parts.training import Loss
from suite.meters import operations
from suite.protocol import Spec, Stopped
from tasks.images.recipes import AdamW, Recipe
from tasks.images.sources import InMemory
from tasks.vit_training.networks import Shape, build
from tasks.vit_training.problem import Schedule, Trained, VitProblem
from tests.helpers import MemoryRun
from tests.tasks.images.helpers import pictures, timm

ARCHITECTURE = "vit-24-4-2-p8"
EPOCHS, BATCH, TRAIN = 2, 8, 24
SHAPE = Shape(24, 4, 2, 4, 32, 3)  #: of `network`: 64 patches
DEPTH, PATCHES = SHAPE.depth, SHAPE.patches


def problem(
    run: MemoryRun | None = None,
    *,
    target: str = "train_macs=0.8",
    epochs: int = EPOCHS,
    recipe: Recipe | None = None,
    division: str = "closed",
    architecture: str = ARCHITECTURE,
    train: int = TRAIN,
) -> VitProblem:
    """Images of 32 pixels and three colours; of 16 patches unless another architecture is named."""
    timm("timm")
    asked = run.spec if run else Spec("vit_training", 1, "smoke", division, f"pictures/{architecture}", target, 0)
    rest = (architecture, epochs, BATCH, "fp32", torch.device("cpu"), recipe or AdamW(lr=2e-3, warmup=1))
    return VitProblem(asked, run or MemoryRun(asked), InMemory(pictures(train, 32)), *rest)


def network(block: type[nn.Module] | None = None) -> Any:
    """Of 64 patches, its weights large enough that tokens and their scores differ; the same ones whatever its blocks."""
    timm("timm")
    torch.manual_seed(5)
    model: Any = build("vit-24-4-2-p4", 3, (3, 32, 32), block=block)
    for w in model.parameters():
        if w.dim() > 1:
            nn.init.normal_(w, std=0.3)
    return model.eval()


def images(count: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def step_macs(model: nn.Module, schedule: Schedule, point: float) -> float:
    """Multiply-adds that an image's forward pass really takes at a point of the training, counted on a copy."""
    model = copy.deepcopy(model).train()
    schedule.set(model, point)
    found = operations.count(model, (images(1),), training=True)
    assert not found.warnings
    return found.total("macs")


def tested_macs(model: nn.Module) -> float:
    """The same as it is tested."""
    return operations.count(model, (images(1),)).total("macs")


def loaded(thing: Any) -> Any:
    """What comes out of a file that it was saved to, as the suite saves Solutions."""
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def assert_copies(model: nn.Module, x: torch.Tensor) -> None:
    """A copy of a network that has just computed with gradients, and one out of a file, answer as it does."""
    model.train()(x)
    copies = copy.deepcopy(model), loaded(model)
    model.eval()
    with torch.no_grad():
        expected = model(x)
        for other in copies:
            assert torch.equal(other.eval()(x), expected)


def assert_dense(model: nn.Module, x: torch.Tensor) -> None:
    """It answers as timm's own blocks with the same weights do."""
    with torch.no_grad():
        assert (model.eval()(x) - network()(x)).abs().max() <= 1e-4


def assert_steps_in_bf16(model: nn.Module, loss: Loss | None = None) -> None:
    """Under autocast a step gives every parameter a finite gradient, and its loss is about that in fp32."""
    loss, x, y, found = loss or AdamW().loss, images(), torch.arange(6) % 3, {}
    for precise in (True, False):
        model.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            value = loss(model, x, y)
        value.backward()
        found[precise] = value.item()
    assert found[False] == pytest.approx(found[True], rel=0.2)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def solved(method: Any, **changes: Any) -> tuple[VitProblem, Trained]:
    asked = problem(**changes)
    return asked, method.solve(asked)


def assert_resumes(method: Any, stops: tuple[int, ...], **changes: Any) -> tuple[Trained, Trained]:
    """A run that is stopped after so many batches, again and again, ends bit for bit as one that is not.

    Batches are counted from where a life of the run goes on, the epoch that it was stopped in. Returns both Solutions: that of the
    whole run, that of the stopped one.
    """
    whole, found = solved(method, **changes)
    saved = None
    for stop in stops:
        run = MemoryRun(whole.spec, stop_after=stop, saved=saved)
        with pytest.raises(Stopped):
            method.solve(problem(run, **changes))
        saved = run.saved
    last = MemoryRun(whole.spec, saved=saved)
    again = method.solve(problem(last, **changes))
    left, right = found.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(left[k], right[k]) for k in left)
    assert last.spent == whole.run.spent
    return found, again
