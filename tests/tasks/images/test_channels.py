"""Channel groups: what goes together, and that a network without them gives what the masked one gives."""

from __future__ import annotations

import pickle

import pytest
import torch

from tasks.images.channels import channel_groups, compact, mask_
from tasks.images.networks import build


@pytest.mark.parametrize(("architecture", "size"), [("resnet20", 28), ("vgg16", 32), ("resnet18", 32), ("resnet50", 64)])
def test_compact_equals_masked(architecture: str, size: int) -> None:
    draw = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = build(architecture, 7, (3, size, size)).eval()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias)
            m.running_mean.normal_(generator=draw)
    keep = {g.name: torch.rand(g.width, generator=draw) < 0.4 for g in channel_groups(model)}
    x = torch.randn(2, 3, size, size, generator=draw)
    small = compact(model, keep)
    before = sum(p.numel() for p in model.parameters())
    mask_(channel_groups(model), keep)
    with torch.no_grad():
        expected, found = model(x), small(x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert sum(p.numel() for p in small.parameters()) < before
    torch.testing.assert_close(pickle.loads(pickle.dumps(small))(x), found)  # a Solution crosses processes
