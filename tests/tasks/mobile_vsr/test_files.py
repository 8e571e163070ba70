"""What is sent can be read back, and weighs what it should."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.naming import UserError
from tasks.mobile_vsr import codec
from tasks.mobile_vsr.models import build
from tasks.mobile_vsr.patches import cells, cut, divides, paired, paste
from tasks.mobile_vsr.player import HEADER, Group, Routing, Sent, open_player, pack, rounded
from tests.tasks.mobile_vsr.helpers import frames


@pytest.mark.parametrize("name", ["h264", "h265"])
def test_a_stream_decodes_to_its_frames_and_its_bytes_add_up(name: str) -> None:
    images = frames(8, 48, 64)
    video = codec.encode(images, name)
    assert video.sizes.sum() == len(video.stream)
    assert len(video.sizes) == 8
    decoded = np.stack(list(codec.decode(video.stream, name)))
    assert decoded.shape == images.shape
    error = ((decoded.astype(float) - images) ** 2).mean((1, 2, 3))
    assert (10 * np.log10(255**2 / error) > 26).all()
    assert codec.encode(images, name).stream == video.stream


@pytest.mark.parametrize("name", list(codec.CODECS))
def test_the_same_frames_are_the_same_bytes_at_every_call(name: str) -> None:
    images = frames(9, 74, 84)  # no multiple of 16: there x264's AVX-512 code is not steady
    assert len({codec.encode(images, name).stream for _ in range(8)}) == 1


def test_video_needs_frames_of_even_size() -> None:
    with pytest.raises(UserError, match="even sizes"):
        codec.encode(frames(1, 47, 64), "h264")
    with pytest.raises(UserError, match="no frames"):
        codec.encode([], "h264")


@settings(max_examples=30)
@given(
    st.integers(1, 9).flatmap(
        lambda k: st.tuples(st.just(k), st.lists(st.lists(st.integers(0, k - 1), min_size=3, max_size=3), min_size=1, max_size=20))
    )
)
def test_maps_come_back(drawn: tuple[int, list[list[int]]]) -> None:
    kinds, values = drawn[0], np.array(drawn[1], np.int64)
    content, coding = codec.pack_map(values, kinds)
    np.testing.assert_array_equal(codec.unpack_map(content, coding, values.shape, kinds), values)
    assert len(content) <= math.ceil(values.size * math.ceil(math.log2(kinds)) / 8)


def test_a_map_of_90000_patches_in_two_chunks_is_at_most_11250_bytes() -> None:
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 2, (450, 200))
    content, coding = codec.pack_map(noise, 2)
    assert (len(content), coding) == (11_250, "raw")
    still = np.tile(noise[:1], (450, 1))
    assert len(codec.pack_map(still, 2)[0]) < 400


def test_weights_take_four_or_two_bytes_and_come_back() -> None:
    tensors = [torch.randn(3, 4), torch.randn(5)]
    for precision, size in (("fp32", 4), ("fp16", 2)):
        content = codec.pack_weights(tensors, precision)
        assert len(content) == size * 17
        back = codec.unpack_weights(content, tensors, precision)
        for a, b in zip(tensors, back, strict=True):
            assert torch.equal(b, a if precision == "fp32" else a.half().float())
    with pytest.raises(UserError, match="damaged"):
        codec.unpack_weights(content[:-1], tensors, "fp16")


@pytest.mark.parametrize("count", [0, 1, 7, 43])
def test_a_few_changed_weights_come_back(count: int) -> None:
    index = torch.randperm(4284)[:count].sort().values
    values = torch.randn(count)
    content = codec.pack_delta(index, values, 4284, "fp32")
    assert len(content) == math.ceil(13 * count / 8) + 4 * count
    found = codec.unpack_delta(content, 4284, "fp32")
    assert torch.equal(found[0], index)
    assert torch.equal(found[1], values)


def test_cut_and_paste_are_inverse() -> None:
    whole = torch.randn(2, 3, 12, 20)
    assert torch.equal(paste(cut(whole, 3, 4), 3, 4), whole)
    assert torch.equal(cells(whole[1], 3, 4)[2, 1], cut(whole, 3, 4)[12 + 9])


def test_a_grid_that_does_not_divide_is_refused() -> None:
    low, high = torch.zeros(1, 3, 11, 17), torch.zeros(1, 3, 22, 34)  # 3x3 patches, and 7x6 ones
    with pytest.raises(UserError, match="does not divide the frame"):
        paired(low, high, 3, 5, 2)
    with pytest.raises(UserError, match="multiple of 6, its width of 10"):
        divides(22, 34, 3, 5, 2)
    with pytest.raises(UserError, match="does not fit"):
        cut(low, 12, 1)


def player_of_two() -> tuple[list[torch.nn.Module], np.ndarray]:
    models = []
    for k in range(2):
        torch.manual_seed(k)
        models.append(build("wdsr1_n8_w2", 2))
    return models, np.array([[0, 1, 1, 0], [1, 1, 0, 0]])


def test_a_player_knows_only_what_was_sent() -> None:
    models, assign = player_of_two()
    stream = pack(2, 2, Routing("map", 2, 2, assign=assign), [Sent("wdsr1_n8_w2", m) for m in models])
    assert stream.size("model") == 2 * 4 * 4340
    assert stream.size("map") == 1
    low = torch.randint(0, 256, (3, 16, 24), dtype=torch.uint8)
    played = open_player(dict(stream.files)).play(1, low)
    for cell, k in enumerate(assign[1]):
        with torch.no_grad():
            sr = models[k](cut(low[None].float() / 255, 2, 2)[cell : cell + 1])
        expected = (sr * 255).round().clamp(0, 255)
        found = cut(played[None].float(), 2, 2)[cell]
        assert (found - expected[0]).abs().max() <= 1  # folding rounds otherwise
    assert torch.equal(pickle.loads(pickle.dumps(stream)).player.play(1, low), played)
    half = rounded(stream, "fp16")
    assert half.size("model") == 2 * 2 * 4340
    assert torch.equal(half.player.models[1].tail.weight, stream.player.models[1].tail.weight.half().float())


def test_an_empty_chunk_keeps_its_number() -> None:
    models, _ = player_of_two()
    routing = Routing("map", 2, 2, assign=np.array([[0, 2, 2, 0]]), networks=(0, -1, 1))
    stream = pack(2, 1, routing, [Sent("wdsr1_n8_w2", m) for m in models])
    assert [g.network for g in stream.player.groups(0)] == [0, 1]


def test_files_that_are_not_whole_are_refused() -> None:
    models, assign = player_of_two()
    stream = pack(2, 2, Routing("map", 2, 2, assign=assign), [Sent("wdsr1_n8_w2", m) for m in models])
    with pytest.raises(UserError, match="not whole"):
        open_player({k: v for k, v in stream.files.items() if k != "model.1"})
    with pytest.raises(UserError, match="not whole"):
        open_player({**stream.files, HEADER: b"{"})
    with pytest.raises(UserError, match="damaged"):
        open_player({**stream.files, "model.0": b"1234"})


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 0, 5, 1, 4, 2], [1, 4]])
def test_what_a_group_takes_it_puts_back_in_place(order: list[int]) -> None:
    frame = torch.arange(3 * 8 * 12).view(3, 8, 12)
    place = torch.tensor(order)
    group = Group(2, 3, 0, place // 3, place % 3)
    patches = group.take(frame)
    for patch, k in zip(patches, order, strict=True):
        row, column = k // 3, k % 3
        assert torch.equal(patch, frame[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4])
    out = torch.zeros_like(frame)
    group.put(out, patches)
    mine = torch.zeros(2, 3, dtype=torch.bool).index_put_((place // 3, place % 3), torch.tensor(True))
    mine = mine.repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert torch.equal(out, frame * mine)
