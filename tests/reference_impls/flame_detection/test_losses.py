"""Losses against the public implementations that the sheet names, and what becomes of odd batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reference_impls.parts.flame_losses import (
    centre_loss,
    reconstruction_loss,
    triplet_centre_loss,
    triplet_cosine_centre_loss,
)
from tests.helpers import golden_tensors

LOSSES: dict[str, Any] = {"cl": centre_loss, "tcl": triplet_centre_loss, "tccl": triplet_cosine_centre_loss}


@pytest.mark.parametrize("name", ["cl", "tcl_m5", "tcl_m1", "tccl_m1", "tccl_m0.2"])
def test_values_and_gradients_are_the_public_implementations(name: str) -> None:
    z = golden_tensors("flamefinder_losses")
    x, centres = z["x"].clone().requires_grad_(), z["centers"].clone().requires_grad_()
    kind, _, margin = name.partition("_m")
    loss = LOSSES[kind](x, z["y"], centres, *([float(margin)] if margin else []))
    assert loss.item() == pytest.approx(z[name], rel=1e-5)
    for found, expected in zip(torch.autograd.grad(loss, (x, centres)), (z[f"{name}_dx"], z[f"{name}_dc"]), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [triplet_centre_loss, triplet_cosine_centre_loss])
def test_of_several_other_centres_only_the_hardest_counts(loss: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, centres = torch.randn(1, 4, generator=generator), torch.randn(4, 4, generator=generator)
    y = torch.tensor([2])
    alone = [loss(x, torch.tensor([0]), centres[[2, k]], 9.0).item() for k in (0, 1, 3)]
    wanted = centres.clone().requires_grad_()
    whole = loss(x, y, wanted, 9.0)
    assert whole.item() == pytest.approx(max(alone), rel=1e-6)
    whole.backward()
    assert wanted.grad is not None
    moved = wanted.grad.abs().sum(1) > 0
    assert moved[2]
    assert int(moved.sum()) == 2


def test_center_loss_has_no_half_and_its_batch_is_averaged() -> None:
    x, centres = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(2, 2)
    assert centre_loss(x, torch.tensor([0, 1]), centres).item() == 12.5
    # a half in TCL: 12.5 + 1 - 0.5, not 25 + 1 - 1
    far = torch.tensor([[0.0, 0.0], [3.0, 3.0]])
    assert triplet_centre_loss(x[:1], torch.tensor([0]), far, 1.0).item() == pytest.approx(12.5 + 1 - 0.5)


def test_a_batch_without_flame_still_pushes_from_the_centre_of_flame() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(16, 8, generator=generator), torch.zeros(16, dtype=torch.int64)
    for loss, margin in ((triplet_centre_loss, 50.0), (triplet_cosine_centre_loss, 2.0)):
        centres = torch.randn(2, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
        value = loss(x, y, centres, margin)
        value.backward()
        assert value.isfinite()
        assert centres.grad is not None
        assert (centres.grad.abs().sum(1) > 0).all()
    centres = torch.zeros(2, 8, requires_grad=True)
    centre_loss(x, y, centres).backward()
    assert centres.grad is not None
    assert not centres.grad[1].any(), "center loss knows the own centre alone"


def test_a_zero_vector_has_cosine_zero_and_no_gradient_that_is_not_a_number() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    centres = torch.stack([torch.zeros(4), torch.ones(4)]).requires_grad_()
    loss = triplet_cosine_centre_loss(x, torch.tensor([0, 1]), centres, 0.5)
    loss.backward()
    assert loss.item() == 0.5, "both distances are 1"
    for tensor in (x, centres):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_half_precision_around_does_not_reach_distances() -> None:
    z = golden_tensors("flamefinder_losses")
    with torch.autocast("cpu", torch.bfloat16):
        for name, arguments in (("cl", ()), ("tcl", (5.0,)), ("tccl", (1.0,))):
            found = LOSSES[name](z["x"], z["y"], z["centers"], *arguments)
            assert found.dtype == torch.float32
            assert found.item() == pytest.approx(
                LOSSES[name](z["x"].double(), z["y"], z["centers"].double(), *arguments).item(), 1e-6
            )


def test_reconstruction_is_a_mean_over_pixels() -> None:
    assert reconstruction_loss(torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)).item() == 0.25
