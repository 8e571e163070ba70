"""Networks by name: counts to the unit."""

from __future__ import annotations

import pytest
import torch

from suite.meters import operations
from tasks.images.networks import build


def printed(value: float, like: str) -> str:
    """A number in the unit and with the digits of another that is printed: 40551040 like "1.23 M" is "40.55 M"."""
    number, unit = like.split()
    return f"{value / {'M': 1e6, 'G': 1e9}[unit]:.{len(number.partition('.')[2])}f} {unit}"


@pytest.mark.parametrize(
    ("architecture", "classes", "size", "macs", "params"),
    [  # multiply-adds of convolutions and linear layers, parameters: ours, worked out by hand
        ("resnet20", 10, 32, "40.55 M", "0.270 M"),
        ("resnet32", 10, 32, "68.86 M", "0.464 M"),
        ("resnet56", 10, 32, "125.49 M", "0.853 M"),
        ("resnet110", 10, 32, "252.89 M", "1.728 M"),
        ("vgg16", 10, 32, "313.20 M", "14.72 M"),
        ("vgg19", 10, 32, "398.14 M", "20.04 M"),
        ("resnet18", 10, 32, "555.4 M", "11.17 M"),
        ("resnet18", 100, 32, "0.555 G", "11.22 M"),
        ("resnet50", 100, 32, "1298.0 M", "23.71 M"),
        ("resnet18", 1000, 224, "1.814 G", "11.69 M"),
        ("resnet34", 1000, 224, "3.664 G", "21.80 M"),
        ("resnet50", 1000, 224, "4.089 G", "25.56 M"),
        ("resnet101", 1000, 224, "7.801 G", "44.55 M"),
    ],
)
def test_operations_and_parameters(architecture: str, classes: int, size: int, macs: str, params: str) -> None:
    with torch.device("meta"):
        model = build(architecture, classes, (3, size, size))
    count = operations.count(model, (torch.zeros(1, 3, size, size, device="meta"),))
    assert printed(count.total("macs"), macs) == macs
    assert printed(count.total("params"), params) == params
    assert count.total("params") == sum(p.numel() for p in model.parameters())
    assert count.warnings == ()


def test_resnet20_to_the_unit() -> None:
    # stem 3*16*9*32^2; 6 + 6 + 6 convolutions, the first of stages 2 and 3 from half the channels; linear 64*10
    stem, first = 3 * 16 * 9 * 32**2, 6 * 16 * 16 * 9 * 32**2
    second = (16 * 32 + 5 * 32 * 32) * 9 * 16**2
    third = (32 * 64 + 5 * 64 * 64) * 9 * 8**2
    count = operations.count(build("resnet20", 10, (3, 32, 32)), (torch.zeros(1, 3, 32, 32),))
    assert count.total("macs") == stem + first + second + third + 640 == 40_551_040
