"""Block execution: the masked convolution's output, the blocks' own multiply-adds, nothing else."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from reference_impls.parts.blocks import Block, BlockConv2d, batch_norms, mask_of, pays, whole_channels, with_blocks
from suite.meters import operations


def places(count: int, total: int, seed: int) -> torch.Tensor:
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]


def blocks_of(conv: nn.Conv2d, *, overlap: bool) -> list[Block]:
    """A block that was cut in two, one of whole channels, one of all; some rows are in none, or in two."""
    area = conv.kernel_size[0] * conv.kernel_size[1]
    rows = torch.randperm(conv.out_channels, generator=torch.Generator().manual_seed(0))
    scattered = places(conv.in_channels * area // 3, conv.in_channels * area, 1)
    whole = (torch.tensor([1, 4, 7])[:, None] * area + torch.arange(area)).flatten()
    everything = torch.arange(conv.in_channels * area)
    begin = 16 if overlap else 20
    return [
        Block(rows[:17], scattered),
        Block(rows[17:20], scattered),
        Block(rows[begin:30], whole),
        Block(rows[30:35], everything),
    ]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(3, 1, 1, 1), (3, 2, 1, 1), (1, 2, 0, 1), (3, 1, 2, 2)])
def test_output_and_operations(kernel: int, stride: int, padding: int, dilation: int, overlap: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 40, kernel, stride, padding, dilation)
    blocks = blocks_of(conv, overlap=overlap)
    masked = copy.deepcopy(conv)
    masked.weight.data *= mask_of(blocks, conv.weight.shape)
    found = BlockConv2d(conv, blocks)
    x = torch.randn(3, 12, 9, 11)
    for layout in (torch.channels_last, torch.contiguous_format):
        with torch.inference_mode():
            y = found(x.to(memory_format=layout))
        torch.testing.assert_close(y, masked(x), atol=1e-4, rtol=0)
        assert y.is_contiguous(memory_format=torch.channels_last)
    found(x).sum().backward()  # places found under inference mode serve here too
    assert found.weight.grad is not None
    counted = operations.count(found, (x[:1],))
    assert counted.total("macs") == sum(b.size for b in blocks) * y.shape[2] * y.shape[3]
    assert counted.warnings == ()
    file = io.BytesIO()
    torch.save(found, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), found(x))


def test_many_images_are_gathered_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = nn.Conv2d(12, 40, 3, padding=1)
    found = BlockConv2d(conv, blocks_of(conv, overlap=False))
    x = torch.randn(5, 12, 6, 6).to(memory_format=torch.channels_last)
    whole = found(x)
    monkeypatch.setattr("reference_impls.parts.blocks.CACHED", 2 * 36 * 36)
    in_turns = found(x)
    torch.testing.assert_close(in_turns, whole)
    assert in_turns.is_contiguous(memory_format=torch.channels_last)


def test_only_plain_convolutions() -> None:
    block = [Block(torch.arange(2), torch.arange(9))]
    for conv in (nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding_mode="circular")):
        with pytest.raises(ValueError, match="plain convolution"):
            BlockConv2d(conv, block)
    with pytest.raises(ValueError, match="at least one"):
        BlockConv2d(nn.Conv2d(4, 4, 3), [])


def test_columns_that_are_whole_channels() -> None:
    assert whole_channels(torch.tensor([9, 10, 11, 12, 13, 14, 15, 16, 17]), 9).tolist() == [1]
    assert whole_channels(torch.tensor([8, 9, 10, 11, 12, 13, 14, 15, 16]), 9) is None
    assert whole_channels(torch.tensor([0, 3]), 9) is None
    assert whole_channels(torch.tensor([0, 3]), 1).tolist() == [0, 3]


def test_where_blocks_pay() -> None:
    wide, narrow = torch.empty(256, 256, 3, 3), torch.empty(64, 64, 3, 3)
    assert pays([Block(torch.arange(32), torch.arange(460)) for _ in range(8)], wide)
    assert not pays([Block(torch.arange(256), torch.arange(2304))], wide)
    assert pays([Block(torch.arange(32), torch.arange(115)) for _ in range(2)], narrow)
    assert not pays([Block(torch.arange(32), torch.arange(173)) for _ in range(2)], narrow)
    # the two halves of a block that was cut share what is gathered
    small, columns = torch.empty(64, 24, 3, 3), torch.arange(80)
    assert pays([Block(torch.arange(1), columns), Block(torch.arange(1), columns)], small)
    assert not pays([Block(torch.arange(1), columns), Block(torch.arange(1), columns.clone())], small)


def test_a_batch_norm_is_folded_in() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 20, 3, bias=False), nn.BatchNorm2d(20))
    model(torch.randn(16, 3, 9, 9))  # running statistics of its own
    nn.init.normal_(model[4].weight)
    blocks = [Block(torch.arange(2, 19), torch.arange(0, 72, 2))]
    model[3].weight.data *= mask_of(blocks, model[3].weight.shape)
    assert batch_norms(model) == {"0": "1", "3": "4"}
    fast = with_blocks(model, {"3": blocks})
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(fast(x), model.eval()(x), atol=1e-5, rtol=1e-5)
    assert isinstance(fast[4], nn.Identity)
    assert isinstance(fast[1], nn.BatchNorm2d)
