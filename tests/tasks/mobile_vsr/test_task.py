"""The task: what is scored is what is played, bytes are those of real files, wrong input is one clear line."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from suite.naming import UserError
from suite.protocol import Unsupported
from suite.truth import column_digest
from tasks.common.truth import entries
from tasks.mobile_vsr import codec, data, quality, runtimes, task
from tasks.mobile_vsr.content import SETTINGS, read_case
from tests.helpers import MemoryRun
from tests.tasks.mobile_vsr.helpers import TASK, frames, problem, spec, write_clip


def measures(evidence: dict[str, np.ndarray], **changes: object) -> dict[tuple[str, str], float]:
    return {(m.name, m.part): m.value for m in TASK.score(spec(), {**evidence, **changes})}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Evidence of bicubic on a clip of one's own, and the clip's frames as decoded."""
    folder = tmp_path_factory.mktemp("clips")
    images = frames(9, 150, 170)
    (folder / "mine").mkdir()
    for t, image in enumerate(images):
        Image.fromarray(image).save(folder / "mine" / f"{t:03d}.png")
    asked = spec(case="mine/x2", data=str(folder))
    p = TASK.problem(asked, MemoryRun(asked))
    from reference_impls.mobile_vsr.bicubic import Bicubic

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHIN_CACHE", str(folder / "cache"))
        return TASK.examine(p, Bicubic().solve(p)), images


def test_what_is_scored_is_what_an_outsider_computes(played: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    evidence, images = played
    height, width = 148, 168  # 75 x 85 low-resolution pixels, cut to 2 x 2 patches
    assert evidence["pixels"].tolist() == [height * width] * 5
    assert evidence["frame"].tolist() == [0, 2, 4, 6, 8]
    assert evidence["covers"].tolist() == [2, 2, 2, 2, 1]
    errors = []
    for t in range(0, 9, 2):
        high = images[t, :height, :width]
        low = Image.fromarray(high).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
        again = np.asarray(low.resize((width, height), Image.Resampling.BICUBIC))
        errors.append((((again.astype(float) - high) / 255) ** 2).mean())
    np.testing.assert_allclose(evidence["error_frame"], errors, rtol=1e-6)
    found = measures(evidence)
    assert found["psnr_frame", ""] == pytest.approx(-10 * np.log10(np.mean(errors)))
    assert found["psnr_worst_frame", ""] == pytest.approx(-10 * np.log10(np.max(errors)))
    assert found["psnr_worst_5", ""] == found["psnr_worst_frame", ""]
    assert found["bytes", "model"] == 0
    shown = 9 * height * width
    assert found["bits_per_pixel", ""] == pytest.approx(8 * found["bytes", "total"] / shown)
    assert found["psnr_played", "h264"] < found["psnr_frame", ""]


def test_errors_of_other_protocols_are_those_of_quality(played: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    evidence, images = played
    height, width = 148, 168
    for i, t in enumerate(range(0, 9, 2)):
        high = images[t, :height, :width]
        again = data.bicubic(data.bicubic(high, height // 2, width // 2), height, width)
        sr, hr = (torch.from_numpy(x.transpose(2, 0, 1).copy())[None].float() / 255 for x in (again, high))
        assert evidence["error_cafm"][i] == pytest.approx(quality.mse(sr, hr, 8).item())
        corners = [(slice(None), slice(None), slice(a, a + 74), slice(b, b + 84)) for a in (0, 74) for b in (0, 84)]
        shaved = [quality.mse(sr[c], hr[c], 6).item() for c in corners]  # the fine grid's 2 x 2 patches
        assert evidence["error_patch_shave"][i] == pytest.approx(np.mean(shaved))
    assert evidence["patches"].tolist() == [4] * 5


def test_patches_are_shaved_where_the_player_cuts() -> None:
    from reference_impls.mobile_vsr.dy_dca import DyDca

    p = problem(division="speed")
    stream = DyDca().solve(p)
    hr = p.frames[1][:1].float() / 255
    sr = stream.player.play(0, p.frames[0][0])[None].float() / 255
    errors = []
    for rows, columns, _, row, column in stream.player.sequence(0):
        h, w = hr.shape[2] // rows, hr.shape[3] // columns
        where = (..., slice(row * h, (row + 1) * h), slice(column * w, (column + 1) * w))
        errors.append(quality.mse(sr[where], hr[where], 6).item())
    assert len({(rows, columns) for rows, columns, *_ in stream.player.sequence(0)}) == 2
    found, count = task.patch_errors(stream, 0, sr, hr, p.grid)
    assert (found, count) == (pytest.approx(np.mean(errors)), len(errors))


def test_the_speed_division_plays_the_papers_sizes_without_their_clips() -> None:
    from reference_impls.mobile_vsr.dy_dca import DyDca
    from reference_impls.mobile_vsr.stdo import Stdo

    def asked(clip: str, **changes: Any) -> Any:
        return problem(tier="paper", division="speed", case=f"{clip}-wdsr1_n8_w2", **changes)

    p = asked("game_15/x4", seed=1)
    assert (p.frames[0].shape[2:], p.size) == ((270, 480), (1080, 1920))
    assert p.frames[1].float().std(dim=(1, 2, 3)).min() > 10  # a picture, none of them blank
    stream = Stdo().solve(p)
    assert stream.player.play(0, p.frames[0][0]).shape == (3, 1080, 1920)
    assert stream.notes["chunk_sizes"] == [150, 150]
    assert {w.name for w in TASK.workloads(p, stream)} == {f"play/{r}" for r in {"eager", *runtimes.JUDGED}}
    assert {m.name for m in TASK.weigh(p, stream)} == {"macs", "params", "nonzero"}
    # nothing can be restored at 40 dB by an untrained network: half is cut, as on the small tier
    assert DyDca().solve(asked("game_15/x2")).notes["split"] == pytest.approx(0.5)
    assert TASK.digest(asked("bosphorus/x2").spec) == TASK.digest(p.spec)
    with pytest.raises(UserError, match="is not shipped"):
        asked("holiday/x2")
    with pytest.raises(UserError, match="is not shipped"):
        problem(tier="paper", case="game_15/x4")


def test_bytes_are_those_of_the_encoded_clip(played: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    evidence, images = played
    lows = [data.bicubic(i[:148, :168], 74, 84) for i in images]
    for name in codec.CODECS:
        assert evidence[f"bytes_video_{name}"].sum() == len(codec.encode(lows, name).stream)


def test_evidence_that_cannot_be_is_refused(played: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    evidence, _ = played
    for wrong in ({"error_frame": np.full(5, np.nan)}, {"bytes_model": np.full(5, -1)}, {"ssim": np.full(5, 1.5)}):
        with pytest.raises(UserError, match="run the method again"):
            measures(evidence, **wrong)
    perfect = measures(evidence, error_frame=np.zeros(5))
    assert perfect["psnr_frame", ""] == 100


def test_the_truth_is_the_clips() -> None:
    for (tier, clip), entry in entries("mobile_vsr").items():
        setting = SETTINGS[tier, clip, 2]
        count = {"bigbuckbunny": 132, "bottle": 1189}[clip]
        numbers = np.arange(0, count, setting.stride)
        covers = np.diff(np.append(numbers, count))
        columns = {"row": np.arange(len(numbers)), "frame": numbers, "covers": covers}
        assert entry["columns"] == {k: column_digest(v, TASK.columns[k]) for k, v in columns.items()}
        assert entry["data"] == data.digest(data.locate(clip, ""))
    assert {t for t, _ in entries("mobile_vsr")} == {"smoke", "small"}


def test_frames_patches_and_grids_of_the_small_tier() -> None:
    sizes = {("bigbuckbunny", 2): (36, 32), ("bigbuckbunny", 4): (30, 32), ("bottle", 2): (30, 32), ("bottle", 4): (44, 40)}
    whole = {"bigbuckbunny": (720, 1280), "bottle": (360, 640)}
    for (clip, scale), size in sizes.items():
        setting = SETTINGS["small", clip, scale]
        height, width = setting.crop or whole[clip]
        assert (height // scale // setting.rows, width // scale // setting.columns) == size
        assert size[0] % 2 == size[1] % 2 == 0  # a third level of Dy-DCA halves them
        assert setting.rows % 2 == setting.columns % 2 == height % (scale * setting.rows) == width % (scale * setting.columns) == 0


def test_a_problem_gives_the_same_network_and_other_content() -> None:
    p = problem()
    x, y = p.patches
    assert (x.shape[1:], y.shape[1:], len(x)) == ((3, 36, 32), (3, 72, 64), 4 * 32)
    low, high = p.general_patches()
    assert (low.shape[1:], high.shape[1:]) == (x.shape[1:], y.shape[1:])
    assert torch.equal(p.network().head.bias, problem().network().head.bias)
    a, b = (problem(seed=s).network().tail.parametrizations.weight.original1 for s in (0, 1))
    assert not torch.equal(a, b)


def test_multiply_adds_of_a_frame() -> None:
    p = problem(division="speed")
    parent = TASK.parent(p)
    count = {m.name: m.value for m in TASK.weigh(p, parent)}
    assert count["macs"] == 144 * 256 * 4284  # low-resolution pixels times convolution weights
    assert count["params"] == 4340
    assert TASK.operations(p, parent).warnings == ()


@pytest.mark.parametrize("runtime", ["eager", "eager_patch"])
def test_a_player_alone_in_a_process(runtime: str) -> None:
    from reference_impls.mobile_vsr.dy_dca import DyDca
    from tasks.mobile_vsr import phone

    p = problem(division="speed")
    stream = DyDca().solve(p)
    found = {(m.name, m.part): m.value for m in phone.measure(stream, p.frames[0][:, :, :72, :128], runtime, [1])}
    part = f"{runtime}@1"
    assert 0 < found["frame_latency", f"{part} p50"] <= found["frame_latency", f"{part} p99"]
    assert found["frames_per_second", part] == pytest.approx(1 / found["frame_latency", f"{part} p50"])
    assert found["play_memory", part] > 0
    assert ("switch_cost", part) in found  # sizes alternate
    assert ("program_bytes", part) not in found  # torch plays the networks themselves
    single = TASK.parent(p)
    assert phone.switch_cost(single.player, p.frames[0][:1, :, :72, :128], None) is None


@pytest.mark.parametrize("runtime", ["export", "onnx_reinit", "onnx_static", "openvino", "executorch_reinit", "executorch"])
def test_a_process_that_plays_only_loads_what_another_made(runtime: str) -> None:
    from reference_impls.mobile_vsr.dy_dca import DyDca
    from tasks.mobile_vsr import phone

    p = problem(division="speed")
    try:
        measured = phone.measure(DyDca().solve(p), p.frames[0][:, :, :72, :128], runtime, [1])
    except Unsupported as e:
        pytest.skip(str(e))
    found = {m.name: m.value for m in measured}
    assert found["program_bytes"] > 4 * 4340  # two networks of that many weights and more
    assert found["play_memory"] >= 0 < found["load_seconds"]
    arenas = [m.value for m in measured if m.name == "planned_arena"]
    assert len(arenas) == (2 if runtime.startswith("executorch") else 0)
    assert arenas == sorted(set(arenas))  # without a delegate the plan holds more
    assert found["import_memory"] >= 0
    assert found["frames_per_second"] > 0


def test_an_absent_runtime_is_unsupported_before_anything_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.mobile_vsr import phone

    asked: list[str] = []

    def process(what: str, *rest: Any) -> dict[str, Any]:
        asked.append(what)
        raise Unsupported("ONNX Runtime needs the package onnxruntime")

    monkeypatch.setattr(phone, "_process", process)
    monkeypatch.setattr(runtimes, "package", lambda *_: None)
    p = problem(division="speed")
    with pytest.raises(Unsupported, match="needs the package"):
        phone.measure(TASK.parent(p), p.frames[0], "onnx", [1])
    assert asked == ["make"]


def test_programs_are_made_once_for_all_numbers_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.mobile_vsr import phone

    asked: list[tuple[str, int]] = []
    played = dict.fromkeys(("p50", "p90", "p99", "first_frame", "load_seconds", "load_memory", "play_memory"), 1.0)

    def process(what: str, _: Path, threads: int) -> dict[str, Any]:
        asked.append((what, threads))
        return {"program_bytes": 5} if what == "make" else {**played, "warnings": []}

    monkeypatch.setattr(phone, "_process", process)
    p = problem(division="speed")
    parts = {m.part for m in phone.measure(TASK.parent(p), p.frames[0], "export", [1, 2]) if m.name == "program_bytes"}
    assert asked == [("make", 1), ("play", 1), ("play", 2)]
    assert parts == {"export@1", "export@2"}
    asked.clear()
    phone.measure(TASK.parent(p), p.frames[0], "aoti", [1, 2])  # its loops are compiled for a number
    assert asked == [("make", 1), ("play", 1), ("make", 2), ("play", 2)]
    for plain in runtimes.PLAIN:
        asked.clear()
        phone.measure(TASK.parent(p), p.frames[0], plain, [1, 2])  # torch plays the networks themselves
        assert asked == [("play", 1), ("play", 2)]


def test_what_claims_hold_planned_execution_against_plays_with_every_seed() -> None:
    claims = tomllib.loads(Path(task.__file__).with_name("claims.toml").read_text(encoding="utf-8"))["claim"]
    read = {claim[k].split()[1].removesuffix("@1") for claim in claims for k in ("measure", "over") if "@" in claim.get(k, "")}
    assert {"executorch", "executorch_reinit", "eager_patch"} <= read
    assert "eager" not in read  # all patches of a size in one call: not the same calls
    for seed in (0, 1):
        assert read <= set(task.played_runtimes(spec(tier="small", seed=seed), runtimes.JUDGED))


def test_a_switch_is_what_a_patch_costs_more_after_another_kind_of_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.mobile_vsr import phone

    order = [[0, 0, 0, 1], [0, 0, 1, 1]]  # networks of two frames' patches: the second frame begins with a switch back
    first, switch, same = 90.0, 5.0, 1.0
    readings = iter(clock(order, first, switch, same))
    monkeypatch.setattr(phone, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    player: Any = SimpleNamespace(sequence=lambda t: [(1, 4, k, 0, i) for i, k in enumerate(order[t])])
    low = torch.zeros(2, 3, 4, 16, dtype=torch.uint8)
    assert phone.switch_cost(player, low, lambda x, k: x) == pytest.approx(switch - same)


def clock(order: list[list[int]], first: float, switch: float, same: float) -> list[float]:
    """Readings before and after every patch; the first takes `first`, one of another network than the last `switch`."""
    now, readings, before = 0.0, [], None
    for k in (k for frame in order for k in frame):
        took = first if before is None else switch if k != before else same
        readings += [now, now + took]
        now, before = now + took, k
    return readings


def test_ssim_and_a_frames_worth() -> None:
    x = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(quality.ssim(x, x), torch.ones(2, dtype=torch.float64), atol=1e-5, rtol=0)
    assert float(quality.ssim(x, 1 - x).max()) < 0.1


def test_a_streams_cache_is_held_to_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHIN_CACHE", str(tmp_path / "cache"))
    write_clip(tmp_path / "mine.mp4", frames(3, 64, 64))
    source = data.locate("mine", str(tmp_path))
    first = codec.low_streams(source, 2, (64, 64))
    (file,) = (tmp_path / "cache").glob("*.npz")
    file.write_bytes(file.read_bytes()[:-200])
    again = codec.low_streams(source, 2, (64, 64))
    assert again["h264"].stream == first["h264"].stream
    assert len(list(codec.decode(again["h265"].stream, "h265"))) == 3
    assert codec.low_streams(source, 2, (64, 64))["h265"].stream == again["h265"].stream


# -- wrong input


@pytest.mark.parametrize(
    "case", ["bottle", "bottle/2", "bottle/x5", "bottle/x2-nothing", "bottle/x2-espcn-edsr16", "../x2", "a/b/x2"]
)
def test_a_case_that_is_none(case: str) -> None:
    with pytest.raises(UserError, match=r"write clip/x2|no backbone"):
        read_case(spec(case=case))


def test_cases_are_read() -> None:
    case = read_case(spec(tier="paper", case="vlog_15/x4-espcn-per_model"))
    assert (case.clip, case.scale, case.backbone, case.per_model) == ("vlog_15", 4, "espcn", True)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("game_15/x2", "DIV2K_train_HR/00001.png .* no licence is stated"),
        ("bosphorus/x2", "Bosphorus_1920x1080_120fps_420_8bit_YUV.yuv.*CC BY-NC 3.0"),
        ("unheard/x2", "put unheard.mp4 there"),
    ],
)
def test_a_missing_clip_says_what_to_put_where(case: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        TASK.digest(spec(tier="paper", case=case, data=str(tmp_path)))
    with pytest.raises(UserError, match="--data"):
        TASK.digest(spec(tier="paper", case=case))


def test_no_frames_and_a_folder_of_other_sizes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no frames"):
        TASK.digest(spec(case="empty/x2", data=str(tmp_path)))
    (tmp_path / "mixed").mkdir()
    for t, size in enumerate((160, 120)):
        Image.fromarray(frames(1, size, size)[0]).save(tmp_path / "mixed" / f"{t}.png")
    with pytest.raises(UserError, match=r"1\.png is 120x120, 0\.png 160x160; scale all frames of a clip to one size"):
        _ = problem(case="mixed/x2", data=str(tmp_path)).frames
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken: 0\.png: is no picture"):
        TASK.digest(spec(case="broken/x2", data=str(tmp_path)))


def test_a_truncated_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "mine.mp4", frames(12, 160, 160))
    whole = path.read_bytes()
    assert problem(case="mine/x2", data=str(tmp_path)).frames[1].shape == (4, 3, 160, 160)
    for left in (0, 20, len(whole) // 2, len(whole) - 2000):
        path.write_bytes(whole[:left])
        with pytest.raises(UserError, match=r"truncated|copy it again|copy the file again"):
            _ = problem(case="mine/x2", data=str(tmp_path)).frames


def test_odd_sizes_are_cropped_and_small_ones_refused(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for t, image in enumerate(frames(2, 151, 173)):
        Image.fromarray(image).save(folder / f"{t}.png")
    low, high = problem(case="odd/x2", data=str(tmp_path)).frames
    assert (low.shape, high.shape) == ((2, 3, 74, 86), (2, 3, 148, 172))
    (tmp_path / "tiny").mkdir()
    Image.fromarray(frames(1, 40, 40)[0]).save(tmp_path / "tiny" / "0.png")
    with pytest.raises(UserError, match="too small"):
        TASK.digest(spec(case="tiny/x2", data=str(tmp_path)))


def test_a_missing_codec_or_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx265"})
    with pytest.raises(UserError, match="no libx265"):
        codec.check_encoders()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"weighin\[video\]"):
        data.library()


def test_low_resolution_frames_of_another_size(tmp_path: Path) -> None:
    source = data.Source("game_15", tmp_path, "vsd4k", 1)
    path = tmp_path / "DIV2K_train_LR_bicubic" / "X2" / "00001x2.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(frames(1, 30, 40)[0]).save(path)
    high = frames(1, 64, 80)[0]
    with pytest.raises(UserError, match="40x30, and the high-resolution frame over 2 is 40x32"):
        data.low_resolution(source, 0, high, 2)
