"""What is timed: networks as they are deployed, and steps of their training."""

from __future__ import annotations

import pickle

import pytest
import torch

from suite.naming import UserError
from tasks.images.networks import build
from tasks.images.recipes import AdamW, Recipe, Sgd
from tasks.images.workloads import PRECISIONS, Training, fold_batch_norms, inference, training_steps


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "size"), [("resnet20", 28), ("vgg16", 32), ("resnet50", 64)])
def test_folding_keeps_the_logits_and_leaves_no_batch_norm(architecture: str, size: int) -> None:
    torch.manual_seed(0)
    model = build(architecture, 10, (3, size, size))
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):  # statistics as after training: not 0 and 1
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    x = torch.randn(4, 3, size, size)
    folded = fold_batch_norms(model, x[:2])
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model.eval()(x), rtol=1e-3, atol=1e-4)


class PreActivated(torch.nn.Module):
    """Its first batch norm follows no convolution, and its second one's convolution is also used beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0, self.conv1, self.bn1 = torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)
        self.bn1.running_mean.fill_(3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(self.bn0(x))
        return self.bn1(y) + y


def test_folding_leaves_alone_what_it_would_change() -> None:
    model, x = PreActivated().eval(), torch.randn(2, 3, 4, 4)
    folded = fold_batch_norms(model, x)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules()) == 2
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x))


def test_folding_does_what_it_can_beside_what_it_cannot() -> None:
    torch.manual_seed(0)
    tail = [torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)]
    model, x = torch.nn.Sequential(PreActivated(), *tail).eval(), torch.randn(2, 3, 4, 4)
    folded = fold_batch_norms(model, x)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules()) == 2
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x))


class Scaled(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.model(x)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_folding_asks_for_no_scale_of_the_logits(scale: float) -> None:
    torch.manual_seed(0)
    model = build("resnet20", 10, (3, 16, 16))
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 16, 16)
    for inner, left in ((model, 0), (PreActivated(), 2)):
        folded = fold_batch_norms(Scaled(inner, scale), x)
        assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules()) == left


def test_logits_that_are_not_finite_are_told() -> None:
    with pytest.raises(UserError, match="not finite"):
        fold_batch_norms(Scaled(PreActivated(), float("nan")), torch.randn(2, 3, 4, 4))


def test_batch_norms_of_perceptrons_are_folded_too() -> None:
    torch.manual_seed(0)
    model = build("mlp-6-5-bn", 3, (4,))
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm1d):
            m.running_mean.normal_(0, 0.5)
            m.running_var.uniform_(0.5, 1.5)
    x = torch.randn(8, 4)
    folded = fold_batch_norms(model, x)
    assert not any(isinstance(m, torch.nn.BatchNorm1d) for m in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model.eval()(x))


def test_inference_is_timed_for_tables_and_images() -> None:
    for architecture, shape in (("mlp-6-bn", (4,)), ("resnet20", (3, 8, 8))):
        found = inference(build(architecture, 3, shape), shape, torch.device("cpu"), (1, 4), PRECISIONS)
        assert [w.name for w in found[:3]] == ["infer@1", "infer@4", "infer@1/tf32"]
        assert [w.prepare()().shape for w in found[:2]] == [(1, 3), (4, 3)]
        assert found[-1].prepare()().dtype == torch.bfloat16


class Halving(torch.nn.Module):
    """Works on as many of its features as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop, self.keep = torch.nn.Linear(6, 2), torch.nn.Dropout(0.5), 1.0
        self.seen: list[tuple[int, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = round(self.keep * x.shape[1])
        self.seen.append((kept, self.training))
        return self.drop(torch.nn.functional.linear(x[:, :kept], self.layer.weight[:, :kept], self.layer.bias))


def halve(model: torch.nn.Module, point: float) -> None:
    model.keep = 1 - point / 2  # type: ignore[assignment]


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 6, generator=draw), torch.randint(2, (8,), generator=draw)) for _ in range(3)]


@pytest.mark.parametrize("recipe", [Sgd(mixup=0.2, label_smoothing=0.1), AdamW(stepwise=True)], ids=["sgd", "adamw"])
def test_a_step_of_the_training_is_timed_and_leaves_the_network_as_it_was(recipe: Recipe) -> None:
    torch.manual_seed(0)
    model = Halving().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    training = Training(recipe, epochs=10, steps=200, batch=8, set_point=halve)
    training = pickle.loads(pickle.dumps(training))  # part of a Solution
    loads: list[int] = []

    def load() -> list[tuple[torch.Tensor, torch.Tensor]]:
        loads.append(1)
        return batches()

    found = training_steps(model, training, (0, 0.5, 1), load)
    assert [(w.name, w.items, w.count) for w in found] == [
        ("train_step@0", 8, 50.0),
        ("train_step@0.5", 8, 100.0),
        ("train_step@1", 8, 50.0),
    ]
    for workload in found:
        call = workload.prepare()
        for _ in range(5):
            call()
    assert len(loads) == 1, "batches lie ready"
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert (model.training, model.keep, model.seen) == (False, 1.0, [])
    assert all(p.grad is None for p in model.parameters())


def test_a_step_is_taken_as_the_training_takes_it_at_that_point() -> None:
    seen: list[tuple[int, bool, float]] = []
    rates: list[float] = []

    class Watched(Sgd):
        def set_rate(self, optimizer: torch.optim.Optimizer, epoch: float, epochs: int, unit: float = 1.0) -> None:
            super().set_rate(optimizer, epoch, epochs, unit)
            rates.append(optimizer.param_groups[0]["lr"])

    def loss(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value = torch.nn.functional.cross_entropy(model(x), y)
        seen.append((*model.seen[-1], float(x[0, 0])))  # type: ignore[index, misc]
        return value

    training = Training(Watched(lr=1.0), 10, 200, 8, loss=loss, set_point=halve)
    for workload in training_steps(Halving(), training, (0, 0.5, 1), batches):
        call = workload.prepare()
        call()
        call()
    firsts = [float(x[0, 0]) for x, _ in batches()]
    assert seen == [(kept, True, first) for kept in (6, 4, 3) for first in firsts], "in training mode, batches in turn"
    assert rates == [Sgd(lr=1.0).rate(e, 10) for e in (0, 5, 9)]


def test_steps_move_the_copy_by_the_optimizer() -> None:
    moved: list[torch.nn.Module] = []

    def set_point(model: torch.nn.Module, point: float) -> None:
        moved.append(model)

    model = Halving()
    call = training_steps(model, Training(Sgd(), 2, 4, 8, set_point=set_point), (0.5,), batches)[0].prepare()
    copy = moved[0].layer.weight.detach().clone()
    call()
    assert not torch.equal(moved[0].layer.weight, copy)
    assert not torch.equal(moved[0].layer.weight, model.layer.weight)


@pytest.mark.parametrize("points", [(), (1.0, 0.0), (0.0, 0.0), (0.0, 1.5)])
def test_points_of_a_training_rise_within_it(points: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must rise within 0 to 1"):
        training_steps(torch.nn.Linear(2, 2), Training(Sgd(), 2, 4, 8), points, lambda: [])


def test_a_training_without_steps_and_a_precision_that_is_none_are_told() -> None:
    with pytest.raises(ValueError, match="no step to time"):
        training_steps(torch.nn.Linear(2, 2), Training(Sgd(), 2, 0, 8), (0.0,), lambda: [])
    with pytest.raises(ValueError, match="no precision fp16"):
        inference(torch.nn.Linear(2, 2), (2,), torch.device("cpu"), (1,), ("fp16",))
    with pytest.raises(ValueError, match="no schedule 'linear'"):
        Sgd(schedule="linear")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_a_batch_norm_that_cannot_be_folded_stays(options: dict[str, bool]) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4, **options)).eval()
    x = torch.randn(5, 3)
    torch.testing.assert_close(fold_batch_norms(model, x)(x), model(x))
