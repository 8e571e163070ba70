"""What block execution takes, as a share of the dense convolution's time in the same run, beside the share of its work.

`pytest tests/benchmarks/test_blocks.py --benchmark-enable -s` times layers of the sizes that networks have; without it
the same code runs on tiny ones and nothing is judged.
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from reference_impls.parts.blocks import Block, BlockConv2d, pays
from tests.benchmarks.timing import seconds

ROUNDS = 9


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
@pytest.mark.parametrize(("channels", "size", "rows"), [(64, 4, 32), (64, 8, 32), (128, 16, 32), (256, 8, 32), (512, 4, 64)])
def test_blocks_against_the_convolution(
    channels: int, size: int, rows: int, share: float, benchmark: BenchmarkFixture, prepared: None
) -> None:
    judged = bool(benchmark.enabled)
    images = 64 if judged else 2
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last)
    places = conv.weight[0].numel()
    blocks = [
        Block(part.sort().values, torch.randperm(places, generator=generator)[: int(share * places)])
        for part in torch.randperm(channels, generator=generator).split(rows)
    ]
    fast = BlockConv2d(conv, blocks)
    x = torch.randn(images, channels, size, size, generator=generator).to(memory_format=torch.channels_last)
    ratios = []
    with torch.inference_mode():
        fast(x)
        for _ in range(ROUNDS if judged else 1):
            dense = seconds(lambda: conv(x)) if judged else 1.0
            ratios.append((seconds(lambda: fast(x)) if judged else 1.0) / dense)
        benchmark.pedantic(lambda: fast(x), rounds=1, iterations=1)
    ratio = sorted(ratios)[len(ratios) // 2]
    benchmark.extra_info["ratio"] = round(ratio, 3)
    assert ratio > 0
    if judged:
        chosen = "by blocks" if pays(blocks, conv.weight) else "dense"
        print(f"\n{channels} channels of {size}x{size}, {share:.0%} of the work: {ratio:.2f} of the time; executed {chosen}")
