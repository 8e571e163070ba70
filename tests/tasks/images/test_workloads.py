"""What is timed: networks as they are deployed, and steps of their training."""

from __future__ import annotations

import pytest
import torch

from suite.naming import UserError
from tasks.images.networks import build
from tasks.images.workloads import fold_batch_norms


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
