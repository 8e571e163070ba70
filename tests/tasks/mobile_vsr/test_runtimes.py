"""Runtimes: each plays what eager torch plays, at every size; plans are the sheet's; what cannot run says why."""

from __future__ import annotations

import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from suite.naming import UserError
from suite.protocol import Unsupported
from tasks.mobile_vsr import runtimes
from tasks.mobile_vsr.runtimes import Branch, Program
from tests.tasks.mobile_vsr.small import COARSE, FINE, Upscaler, images, need, networks

#: of the engines' own code
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@cache
def program(name: str) -> tuple[tuple[nn.Module, nn.Module], Program]:
    """Two branches, as Dy-DCA has them: the deep one for fine patches, the shallow one for coarse ones."""
    deep, shallow = networks()
    return (deep, shallow), runtimes.load(name, [Branch(deep, FINE, (FINE,)), Branch(shallow, COARSE, (COARSE,))], threads=1)


def error(name: str, branch: int, shape: tuple[int, ...]) -> float:
    models, play = program(name)
    x = images(shape)
    with torch.inference_mode():
        wanted = models[branch](x)
    got = play(x, branch)
    assert got.shape == wanted.shape
    return float((got - wanted).abs().max())


@pytest.mark.parametrize("name", [n for n in runtimes.NAMES if n != "aoti"])
def test_a_runtime_plays_what_eager_plays(name: str) -> None:
    need(name)
    # alternating branches and sizes, as a video does: nothing of the last patch may stay behind
    for branch, shape in ((1, COARSE), (0, FINE), (1, COARSE), (1, COARSE), (0, FINE)):
        assert error(name, branch, shape) <= 1e-4


@pytest.mark.parametrize("name", ["export", "onnx_reinit", "onnx_padded", "executorch_padded", "onnx", "openvino", "onnx_static"])
def test_one_program_runs_at_other_sizes(name: str) -> None:
    need(name)
    for shape in ((1, 3, 15, 12), (1, 3, 2, 2), (1, 3, 16, 5)):
        assert error(name, 1, shape) <= 1e-4
    if "padded" not in name:
        assert error(name, 1, (1, 3, 45, 80)) <= 1e-4


def test_the_planned_program_runs_at_other_sizes_within_its_plan() -> None:
    need("executorch")
    for shape in ((1, 3, 15, 12), (1, 3, 2, 2), (1, 3, 16, 5)):
        assert error("executorch", 1, shape) <= 1e-4
    _, play = program("executorch")
    with pytest.raises(UserError, match="larger example"):
        play(images((1, 3, 17, 12)), 1)


def test_aoti_plays_what_eager_plays() -> None:
    model = networks()[1]
    try:
        play = runtimes.build("aoti", model, images(COARSE), threads=1)
    except Unsupported as e:
        pytest.skip(str(e))
    for shape in (COARSE, FINE, (1, 3, 45, 80)):
        x = images(shape)
        with torch.inference_mode():
            assert (play(x) - model(x)).abs().max() <= 1e-4


def test_aoti_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(Unsupported, match="C\\+\\+ compiler"):
        runtimes.build("aoti", networks()[1], images(COARSE), threads=1)


def test_batches_where_the_example_has_several_images() -> None:
    model = networks()[0]
    play = runtimes.build("export", model, images((4, 3, 8, 6)), threads=1)
    for shape in ((4, 3, 8, 6), (1, 3, 8, 6), (3, 3, 12, 7)):
        x = images(shape)
        with torch.inference_mode():
            assert (play(x) - model(x)).abs().max() <= 1e-4
    one = runtimes.build("eager", model, images(FINE), threads=1)
    with pytest.raises(UserError, match="built for"):
        one(images((2, 3, 8, 6)))


def test_a_padded_patch_would_leak_without_its_mask() -> None:
    model, _ = networks()
    masked = runtimes._masked(model)
    x = images(FINE)
    with torch.inference_mode():
        wanted = model(x)
        padded = nn.functional.pad(x, (0, 6, 0, 8), mode="replicate")
        inside = torch.zeros(1, 1, 16, 12)
        inside[..., :8, :6] = 1
        got = masked(padded, inside)[..., :16, :12]
        leaked = masked(padded, torch.ones(1, 1, 16, 12))[..., :16, :12]
    assert (got - wanted).abs().max() <= 1e-5
    assert (leaked - wanted).abs().max() > 1e-2


def test_a_mask_follows_convolutions_to_a_finer_size() -> None:
    class Late(nn.Module):
        """Enlarges first, by interpolation, and convolves at the large size."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
            return x + self.last(torch.relu(self.first(x)))

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Late().eval()
    need("onnx")
    play = runtimes.build("onnx_padded", model, images(COARSE), threads=1)
    for shape in (COARSE, FINE, (1, 3, 11, 12)):
        x = images(shape)
        with torch.inference_mode():
            assert (play(x) - model(x)).abs().max() <= 1e-4


def test_plans_are_the_sheets() -> None:
    """Measured with ExecuTorch: arenas of the two branches without a delegate; the symbolic one is planned at its bound."""
    need("executorch")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Upscaler(4, units=32)
    fine, coarse = (1, 3, 54, 48), (1, 3, 108, 96)
    static = runtimes.executorch_file([Branch(model, coarse, (fine, coarse))], static=True, delegate=False)
    assert runtimes.planned_bytes(static) == {"branch0_1x3x54x48": 2_021_760, "branch0_1x3x108x96": 8_087_040}
    assert runtimes.arena_bytes(static) == 8_087_040  # shared: the larger, not the sum
    symbolic = runtimes.executorch_file([Branch(model, coarse)], delegate=False)
    assert runtimes.planned_bytes(symbolic) == {"branch0": 8_087_040}


def test_arenas_on_paper_are_the_larger_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    need("executorch")
    deep, shallow = networks()
    branches = [Branch(deep, FINE, (FINE,)), Branch(shallow, COARSE, (COARSE,))]
    program = runtimes.executorch_file(branches, static=True, delegate=False)
    asked: list[dict[str, bool]] = []
    monkeypatch.setattr(runtimes, "executorch_file", lambda _, **how: asked.append(how) or program)
    fine, coarse = sorted(runtimes.planned_bytes(program).values())
    assert fine < coarse
    for name in ("executorch_static", "executorch_reinit", "executorch"):
        assert runtimes.portable_arena(name, branches) == coarse, name
    assert asked == [{"static": s, "delegate": False} for s in (True, True, False)]


def test_settings_of_onnx_runtime_that_move_memory_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    need("onnx")
    import onnxruntime as ort

    given: dict[str, object] = {}

    class Options(ort.SessionOptions):
        def __setattr__(self, name: str, value: object) -> None:
            given[name] = value
            super().__setattr__(name, value)

    monkeypatch.setattr(ort, "SessionOptions", Options)
    runtimes.build("onnx", networks()[1], images(COARSE), threads=1)
    assert given["enable_cpu_mem_arena"] is given["enable_mem_pattern"] is True


def test_weight_normalisation_is_folded() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = weight_norm(nn.Conv2d(3, 3, 3, padding=1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    model = Normed()
    plain = runtimes.deployed(model)
    assert set(plain.state_dict()) == {"conv.weight", "conv.bias"}
    assert "conv.parametrizations.weight.original0" in model.state_dict(), "the caller's network is left as it was"
    torch.testing.assert_close(plain(images(FINE)), model(images(FINE)))


def test_a_players_calls_share_one_program() -> None:
    models = networks()
    sizes = [(1, 16, 12), (0, 8, 6), (1, 8, 6)]
    calls = runtimes.calls("eager", models, sizes, threads=1)
    assert set(calls) == set(sizes)
    for k, h, w in sizes:
        x = images((1, 3, h, w))
        with torch.inference_mode():
            assert torch.equal(calls[k, h, w](x), models[k](x))


@pytest.mark.parametrize("name", ["eager", "onnx", "openvino", "executorch"])
def test_outputs_are_the_callers_own(name: str) -> None:
    need(name)
    _, play = program(name)
    first = play(images(COARSE), 1)
    before = first.clone()
    play(images(COARSE, seed=1), 1)
    assert torch.equal(first, before)


def test_torch_leaves_the_cores_to_an_engine_with_threads_of_its_own() -> None:
    had = torch.get_num_threads()
    for name, threads in (("eager", 3), ("export", 3), ("aoti", 3), ("onnx", 1), ("openvino", 1), ("executorch_static", 1)):
        with runtimes.beside(name, 3):
            assert torch.get_num_threads() == threads, name
        assert torch.get_num_threads() == had


def test_a_shelf_gives_what_another_made_in_the_same_order(tmp_path: Path) -> None:
    made = runtimes.Shelf(tmp_path, make=True)
    assert [made(lambda c=c: c) for c in (b"a", b"bc")] == [b"a", b"bc"]  # type: ignore[misc]
    loaded = runtimes.Shelf(tmp_path, make=False)
    assert [loaded(lambda: b"never made") for _ in range(2)] == [b"a", b"bc"]
    assert loaded.size == 3
    with pytest.raises(FileNotFoundError):
        loaded(lambda: b"never made")


@pytest.mark.parametrize("name", ["onnx", "openvino", "executorch", "executorch_static", "onnx_reinit"])
def test_an_absent_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino", "executorch.exir"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unsupported, match=r"needs the package .*weighin\[mobile\]"):
        runtimes.build(name, networks()[1], images(COARSE), threads=1)


def test_a_network_that_an_engine_refuses_is_unsupported_with_the_reason() -> None:
    class ByValue(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.mean() > 0.5 else x  # control flow by value cannot be traced

    with pytest.raises(Unsupported, match=r"torch\.export cannot prepare this network"):
        runtimes.build("export", ByValue(), images(COARSE), threads=1)


def test_mistakes_are_named() -> None:
    model = networks()[1]
    with pytest.raises(UserError, match="there are: onnx_reinit"):
        runtimes.build("tvm", model, images(COARSE), threads=1)
    with pytest.raises(UserError, match="one thread"):
        runtimes.build("eager", model, images(COARSE), threads=0)
    with pytest.raises(UserError, match="images, channels, height, width"):
        runtimes.build("eager", model, images((3, 16, 12)), threads=1)
    with pytest.raises(UserError, match="larger example"):
        Branch(model, FINE, (COARSE,))
    play = runtimes.build("eager", model, images(COARSE), threads=1)
    with pytest.raises(UserError, match="larger example"):
        play(images((1, 4, 16, 12)))
    with pytest.raises(UserError, match="float32 images on the CPU"):
        play(images(COARSE).double())


def test_the_ladder_stands_in_order_and_pairs_are_of_one_engine() -> None:
    rungs = {r.name: r for r in runtimes.LADDER}
    assert list(rungs) == list(runtimes.NAMES)
    assert all(a.rung <= b.rung for a, b in pairwise(runtimes.LADDER))
    for planned, again in runtimes.REPLANNED.items():
        assert rungs[planned].engine == rungs[again].engine
        assert rungs[again].rung == "R1" < rungs[planned].rung


def test_the_same_network_is_written_as_onnx_once(monkeypatch: pytest.MonkeyPatch) -> None:
    need("onnx")
    model = networks()[1]
    first = runtimes.onnx_file(Branch(model, COARSE))
    monkeypatch.setattr(torch.onnx, "export", None)
    assert runtimes.onnx_file(Branch(model, COARSE)) == first
    with torch.no_grad():
        model.tail.bias[0] += 1  # type: ignore[index, union-attr]
    with pytest.raises(Unsupported):
        runtimes.onnx_file(Branch(model, COARSE))
