"""Patches: where they are cut, how they are scaled, drawn into batches and varied."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.naming import UserError
from tasks.flame_detection import patches


def numbered(height: int, width: int) -> torch.Tensor:
    """A frame whose pixels are their own places: (1, 2, H, W) with row and column."""
    rows = torch.arange(height)[:, None].expand(height, width)
    return torch.stack([rows, torch.arange(width).expand(height, width)])[None].float()


def test_a_frame_is_cut_in_raster_order() -> None:
    cut = patches.cut(numbered(512, 640), 64)
    assert cut.shape == (80, 2, 64, 64)
    corners = cut[:, :, 0, 0].long().tolist()
    assert corners == [[64 * r, 64 * c] for r in range(8) for c in range(10)]
    assert cut[11, :, 63, 5].tolist() == [127.0, 69.0]


def test_patches_are_put_together_as_they_were_cut() -> None:
    frames = torch.cat([numbered(64, 96), numbered(64, 96) + 1000])
    assert torch.equal(patches.pasted(patches.cut(frames, 32), 2, 3), frames)


def test_254_pixels_are_cropped_to_the_middle_224() -> None:
    cut = patches.cut(numbered(254, 254), 32)
    assert len(cut) == 49
    assert cut[0, :, 0, 0].tolist() == [15.0, 15.0]
    assert cut[-1, :, -1, -1].tolist() == [238.0, 238.0]
    assert patches.grid(254, 254, 32) == (7, 7)
    assert patches.cut(numbered(255, 254), 32)[0, 0, 0, 0] == 15  # the odd pixel is dropped at the bottom
    with pytest.raises(UserError, match="40x31 pixels holds no patch of 32x32; give larger pictures"):
        patches.cut(numbered(31, 40), 32)


def test_windows_overlap_and_frames_follow_each_other() -> None:
    two = torch.cat([numbered(128, 160), 1000 + numbered(128, 160)])
    windows = patches.windows(two, 64, 32)
    assert len(windows) == 2 * 3 * 4
    assert windows[:12, :, 0, 0].long().tolist() == [[32 * r, 32 * c] for r in range(3) for c in range(4)]
    assert windows[12:, 0, 0, 0].min() == 1000
    assert len(patches.windows(numbered(512, 640), 64, 32)) == 285


@settings(max_examples=30)
@given(st.integers(5, 40), st.integers(5, 40), st.integers(1, 5), st.integers(1, 3))
def test_patches_hold_each_pixel_of_the_cropped_frame_once(height: int, width: int, side: int, count: int) -> None:
    frames = torch.arange(count * height * width).view(count, 1, height, width)
    cut = patches.cut(frames, side)
    down, across = patches.grid(height, width, side)
    assert len(cut) == count * down * across
    top, left = (height % side) // 2, (width % side) // 2
    inner = frames[:, :, top : top + down * side, left : left + across * side]
    assert sorted(cut.flatten().tolist()) == inner.flatten().tolist()


def test_a_frame_is_scaled_by_itself_and_a_constant_one_becomes_zeros() -> None:
    frames = torch.tensor([[[[-40.0, 60.0], [10.0, 160.0]]], [[[7.0, 7.0], [7.0, 7.0]]], [[[0.0, 1.0], [2.0, 4.0]]]])
    scaled = patches.scale(frames)
    assert scaled[0].flatten().tolist() == [0.0, 0.5, 0.25, 1.0]
    assert scaled[1].abs().max() == 0
    assert scaled[2].flatten().tolist() == [0.0, 0.25, 0.5, 1.0]
    assert torch.equal(patches.scale(frames * 3 + 100)[2], scaled[2])  # gain and offset are lost
    assert patches.scale(torch.zeros(0, 1, 4, 4)).shape == (0, 1, 4, 4)


def test_warm_patches_are_hot_without_a_flame() -> None:
    # the limit is the frame's: 95 of 100 pixels lie below it
    limit = patches.hot_limit(torch.stack([torch.arange(100.0).view(1, 10, 10), torch.zeros(1, 10, 10)]))
    assert limit[0] == pytest.approx(94.05)
    assert limit[1] == 0
    found = patches.warm(torch.tensor([94.0, 95.0, 99.0, 99.0]), torch.tensor([0, 0, 1, -1]), limit[:1].expand(4))
    assert found.tolist() == [False, True, False, False]


def test_a_batch_has_22_21_and_21_of_each_kind() -> None:
    label = torch.tensor([1] * 5 + [0] * 95)
    warm = torch.zeros(100, dtype=torch.bool)
    warm[5:25] = True
    rows = patches.balanced(label, warm, 64, 12, seed=3)
    assert rows.shape == (12, 64)
    assert rows.dtype == torch.int64
    counts = [((rows < 5).sum(1)), ((rows >= 5) & (rows < 25)).sum(1), (rows >= 25).sum(1)]
    assert [c.unique().tolist() for c in counts] == [[22], [21], [21]]
    assert torch.equal(rows, patches.balanced(label, warm, 64, 12, seed=3))
    assert not torch.equal(rows, patches.balanced(label, warm, 64, 12, seed=4))
    # with replacement: five flames fill 264 places, each about as often as another
    assert rows[rows < 5].bincount().min() > 30


@pytest.mark.parametrize(
    ("batch", "expected"), [(64, (22, 21, 21)), (48, (16, 16, 16)), (32, (11, 11, 10)), (2, (1, 1, 0)), (1, (1, 0, 0))]
)
def test_the_shares_of_another_batch_are_thirds_as_well(batch: int, expected: tuple[int, int, int]) -> None:
    assert patches.shares(batch) == expected


@pytest.mark.parametrize("batch", range(1, 200))
def test_shares_add_up(batch: int) -> None:
    found = patches.shares(batch)
    assert sum(found) == batch
    assert found[0] >= found[1] >= found[2] >= found[0] - 1


def test_a_missing_kind_is_filled_from_background() -> None:
    no = torch.zeros(50, dtype=torch.bool)
    label = torch.cat([torch.ones(10, dtype=torch.int64), torch.zeros(40, dtype=torch.int64)])
    rows = patches.balanced(label, no, 63, 20, seed=0)  # no warm one
    assert ((rows < 10).sum(1) == 21).all()
    none = patches.balanced(torch.zeros(50, dtype=torch.int64), no, 63, 20, seed=0)  # no flame either
    assert none.min() >= 0
    assert len(none.unique()) == 50
    flames = patches.balanced(torch.ones(4, dtype=torch.int64), no[:4], 8, 2, seed=0)  # nothing but flame
    assert set(flames.flatten().tolist()) == {0, 1, 2, 3}


def test_rows_without_a_label_are_never_drawn() -> None:
    label = torch.tensor([-1, 1, 0, 0, -1])
    warm = torch.tensor([True, False, True, False, False])
    assert set(patches.balanced(label, warm, 6, 50, seed=0).flatten().tolist()) == {1, 2, 3}
    with pytest.raises(ValueError, match="no patch of label"):
        patches.balanced(torch.tensor([-1]), torch.tensor([False]), 4, 1, seed=0)


def test_jitter_flips_all_channels_alike_and_changes_the_gain_of_thermal_alone() -> None:
    base = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x = base.expand(2000, 4, 8, 8)
    out = patches.jitter(x, seed=5)
    turns = [base, base.flip(-1), base.flip(-2), base.flip(-1).flip(-2)]
    which = torch.stack([(out[:, 1:2] == t).flatten(1).all(1) for t in turns])
    assert (which.sum(0) == 1).all()  # each RGB patch is one of the four, untouched otherwise
    assert (which.float().mean(1) - 0.25).abs().max() < 0.04
    assert torch.equal(out[:, 1], out[:, 3])
    turned = sum(w[:, None, None, None] * t for w, t in zip(which.float(), turns, strict=True))
    # gain and offset of each patch by least squares of the thermal channel on the turned patch
    centred = turned - turned.mean((1, 2, 3), keepdim=True)
    gain = (centred * out[:, :1]).sum((1, 2, 3)) / (centred**2).sum((1, 2, 3))
    offset = out[:, 0].mean((1, 2)) - gain * base.mean()
    assert torch.allclose(out[:, :1], gain[:, None, None, None] * turned + offset[:, None, None, None], atol=1e-5)
    for values, low, high in ((gain, 0.9, 1.1), (offset, -0.1, 0.1)):
        assert low - 1e-5 <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high + 1e-5
        assert abs(float(values.mean()) - (low + high) / 2) < 0.01
    assert abs(float(torch.corrcoef(torch.stack([gain, offset]))[0, 1])) < 0.08


def test_jitter_is_addressed_and_the_same_with_and_without_colour() -> None:
    x = torch.rand(16, 4, 8, 8)
    before = x.clone()
    out = patches.jitter(x, seed=9)
    assert torch.equal(x, before)
    assert torch.equal(out, patches.jitter(x, seed=9))
    assert torch.equal(out[:, :1], patches.jitter(x[:, :1], seed=9))
    assert not torch.equal(out, patches.jitter(x, seed=10))
    state = torch.random.get_rng_state()
    patches.jitter(x, seed=1)
    patches.balanced(torch.tensor([0, 1]), torch.tensor([False, False]), 4, 3, 1)
    assert torch.equal(state, torch.random.get_rng_state())  # no other stream is moved
