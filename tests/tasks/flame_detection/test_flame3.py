"""FLAME 3: both layouts, blocks of time, what is left out and why; the scenes that are shipped."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from suite.naming import UserError
from tasks.flame_detection import flame3, make_data, patches, reading
from tasks.flame_detection.data import SCENES
from tasks.flame_detection.flame3 import TEST, TRAIN, VAL, Pair
from tasks.flame_detection.problem import PatchSet
from tests.tasks.flame_detection import sets


def pair(number: int, at: float | None, group: str = "Fire") -> Pair:
    taken = None if at is None else sets.START + timedelta(seconds=at)
    return Pair(f"{group}/{number:05}", group, Path("rgb"), Path("tiff"), taken)


OFFICIAL = (82, 126, 34, 16, 17, 99, 32, 106, 21, 89)  #: frames of the blocks of the official fire frames


def of_sizes(sizes: tuple[int, ...], group: str = "Fire", start: float = 0) -> list[Pair]:
    """Frames 5 s apart in blocks that lie 301 s apart; numbers are shuffled."""
    times, at = [], start
    for size in sizes:
        times += [at + 5 * i for i in range(size)]
        at = times[-1] + 301
    numbers = np.random.default_rng(0).permutation(len(times)).tolist()
    return [pair(n, times[i], group) for i, n in sorted(enumerate(numbers), key=lambda x: x[1])]


# -- the official set


def test_the_official_blocks_are_the_published_split() -> None:
    found = of_sizes(OFFICIAL)
    by = flame3.split(found)
    assert len(by.names) == 10
    assert np.bincount(by.block).tolist() == list(OFFICIAL)
    assert {k: by.split.count(k) for k in (TRAIN, VAL, TEST)} == {TRAIN: 434, VAL: 99, TEST: 89}
    assert {by.block[i] for i, s in enumerate(by.split) if s == TEST} == {9}
    assert {by.block[i] for i, s in enumerate(by.split) if s == VAL} == {5}


def test_numbers_do_not_split() -> None:
    found = of_sizes(OFFICIAL)
    swapped = [Pair(f"Fire/{i:05}", p.group, p.rgb, p.tiff, p.taken) for i, p in enumerate(reversed(found))]
    assert flame3.split(swapped).split == flame3.split(found).split[::-1]


def test_a_gap_of_300_seconds_parts_nothing_and_301_does() -> None:
    one, two = ([pair(i, t) for i, t in enumerate((0, 10, last, last + 10))] for last in (310, 311))
    assert len(flame3.split(one).names) == 1
    assert flame3.split(two).names == ["Fire 1", "Fire 2"]


def test_folders_of_few_blocks_are_cut_in_time_with_a_buffer() -> None:
    found = [pair(i, 5 * i) for i in range(100)]  # one block: 70, 15 and 15 frames, 5 s apart
    by = flame3.split(found)
    assert by.split[:70] == [TRAIN] * 70
    # a frame 30 s from the last training one is dropped, 35 s is not
    assert [s[:5] for s in by.split[69:77]] == ["train", *["a val"] * 6, "valid"]
    assert by.split[76:85] == [VAL] * 9
    assert [s[:5] for s in by.split[84:92]] == ["valid", *["a tes"] * 6, "test"]
    assert by.split[85] == "a test frame within 30 s of another split's"


def test_folders_whose_flights_overlap_keep_their_splits_apart() -> None:
    fire, calm = of_sizes((40, 30, 30)), of_sizes((50, 30, 20), "No Fire", 50)
    found = [*fire, *calm]
    by = flame3.split(found)
    times = {k: np.array([flame3._seconds(p) for p, s in zip(found, by.split, strict=True) if s == k]) for k in (TRAIN, VAL, TEST)}
    for one, other in ((VAL, TRAIN), (TEST, TRAIN), (TEST, VAL)):
        assert np.abs(times[one][:, None] - times[other]).min() > 30
    assert any("within 30 s" in s for s in by.split)
    assert by.names == ["Fire 1", "Fire 2", "Fire 3", "No Fire 1", "No Fire 2", "No Fire 3"]


def test_a_frame_without_a_time_is_in_no_split() -> None:
    by = flame3.split([pair(0, 0), pair(1, None), pair(2, 5)])
    assert by.split[1].startswith("no EXIF DateTime")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> PatchSet:
    """Six blocks of fire, one of no fire; a frame of each kind of trouble."""
    root = tmp_path_factory.mktemp("flame3")
    times = [1000 * block + 2 * i for block in range(6) for i in range(3)]
    numbers = np.random.default_rng(1).permutation(len(times)).tolist()
    frames = [{"number": n, "at": t} for n, t in zip(numbers, times, strict=True)]
    calm = [{"number": 100 + i, "at": 20_000 + 100 * i, "fire": False} for i in range(10)]
    extra = [
        {"number": 60, "at": 400},  # no TIFF
        {"number": 61, "at": 401},  # no RGB
        {"number": 62, "at": 402},  # of integers
        {"number": 63, "at": 403},  # another size
        {"number": 64, "at": 404},  # a truncated JPEG
        {"number": 65, "at": None},
        {"number": 66, "at": 405, "smoke": True, "flame": False},
        {"number": 67, "at": 406},  # RGB twice as large
        {"number": 68, "at": 407},  # RGB of another view
    ]
    sets.flame3(root, [*frames, *calm, *extra])
    rgb, tiff = root / "Fire/RGB/Corrected FOV", root / "Fire/Thermal/Celsius TIFF"
    (tiff / "00060.TIFF").unlink()
    (rgb / "00061.JPG").unlink()
    Image.fromarray(sets.celsius().astype(np.uint16)).save(tiff / "00062.TIFF")
    sets.tiff(tiff / "00063.TIFF", sets.celsius(64, 80))
    content = (rgb / "00064.JPG").read_bytes()
    (rgb / "00064.JPG").write_bytes(content[: len(content) // 2])
    taken = sets.START + timedelta(seconds=406)
    sets.jpeg(rgb / "00067.JPG", sets.colours(128, 160, True, seed=67).repeat(2, 0).repeat(2, 1), taken)
    sets.jpeg(rgb / "00068.JPG", sets.colours(300, 400), taken)
    (root / "Fire/RGB/Raw").mkdir()
    return flame3.official(root)


def test_files_that_cannot_be_used_are_left_out_and_told(official: PatchSet) -> None:
    left = official.left_out
    words = {
        "Fire/00060": "no TIFF of this number in Fire/Thermal/Celsius TIFF",
        "Fire/00061": "no RGB picture of this number in Fire/RGB/Corrected FOV",
        "Fire/00062": "holds 16-bit integers, not temperatures",
        "Fire/00063": "80x64 pixels, 160x128 are expected",
        "Fire/00064": "truncated or damaged",
        "Fire/00065": "no EXIF DateTime",
        "Fire/00066": "filled with smoke, in a training block",
        "Fire/00068": "400x300 pixels beside a thermal picture of 160x128: another field of view",
    }
    for name, word in words.items():
        assert word in left[name]
    assert "Fire/00067" not in left  # is resized
    rest = {n: why for n, why in left.items() if n not in words}
    assert all(n.startswith("No Fire/") and "within 30 s" in why for n, why in rest.items())
    assert all("\n" not in why for why in left.values())


def test_patches_have_the_tiffs_truth_and_the_pictures_label(official: PatchSet) -> None:
    (fold,) = official.folds
    assert official.grid == (2, 2)
    assert official.scenes == ("Fire 1", "Fire 2", "Fire 3", "Fire 4", "Fire 5", "Fire 6", "Fire 7", "No Fire 1")
    every = reading.joined([fold.train, fold.val, fold.test])
    first = torch.arange(len(every)) % 4 == 0  # the spot is in the first of four patches
    fire = every.scene < 7
    assert torch.equal(every.truth, (first & fire).long())
    assert torch.equal(every.truth_200, every.truth)
    shown = first & fire & ~every.obscured
    assert torch.equal(every.label == 1, shown)
    assert every.degrees is not None
    assert torch.equal(every.degrees.amax((1, 2, 3)), every.celsius)
    # by its own least and largest value a calm frame's spot is as bright as a fire
    assert every.thermal.view(-1, 4 * 64 * 64).amax(1).min() > 0.9


def test_smoke_is_never_trained_on_and_no_block_is_in_two_splits(official: PatchSet) -> None:
    (fold,) = official.folds
    assert not fold.train.obscured.any()
    assert not fold.val.obscured.any()
    assert official.notes == ["the camera's range ends nowhere in " + official.notes[0].split()[-2] + " frames"]
    scenes = [set(p.scene[p.scene < 7].tolist()) for p in (fold.train, fold.val, fold.test)]
    assert all(scenes)
    assert sum(map(len, scenes)) == len(set.union(*scenes))
    frames = [set(p.frame.tolist()) for p in (fold.train, fold.val, fold.test)]
    assert sum(map(len, frames)) == len(set.union(*frames))


def test_a_test_block_keeps_its_smoky_frames(tmp_path: Path) -> None:
    frames = [{"number": i, "at": 1000 * (i // 2) + i, "smoke": i == 5, "flame": i != 5} for i in range(6)]
    (fold,) = flame3.official(sets.flame3(tmp_path, frames)).folds
    # three blocks of two are equally near to 15 %: the first is the test
    assert fold.test.obscured.sum() == 0
    (fold,) = flame3.official(sets.flame3(tmp_path / "b", [{**f, "at": 5000 - f["at"]} for f in frames])).folds  # type: ignore[operator]
    assert sorted(fold.test.obscured.tolist()) == [False] * 4 + [True] * 4


def test_the_time_is_read_from_the_raw_pictures_where_the_corrected_ones_lost_it(tmp_path: Path) -> None:
    root = sets.flame3(tmp_path, [{"number": 1, "at": None}, {"number": 2, "at": None}])
    sets.jpeg(root / "Fire/Thermal/Raw JPG/00001.JPG", sets.colours(), sets.START)
    sets.jpeg(root / "Fire/RGB/Raw/00002.JPG", sets.colours(30, 40), sets.START + timedelta(seconds=7))
    assert [p.taken for p in flame3.pairs(root)[0]] == [sets.START, sets.START + timedelta(seconds=7)]


def test_nothing_to_use_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "Fire").mkdir()
    with pytest.raises(UserError, match=r"no pictures in .*: put there Fire/"):
        flame3.official(tmp_path)
    root = sets.flame3(tmp_path / "a", [{"number": 3, "at": 0}])
    shutil.rmtree(root / "Fire/Thermal")
    with pytest.raises(UserError, match="none of its 1 frames can be used, such as Fire/00003: no TIFF"):
        flame3.official(root)
    with pytest.raises(UserError, match="no frame is left for the test"):
        flame3.official(sets.flame3(tmp_path / "b", [{"number": 3, "at": 0}]))


# -- scenes


@pytest.fixture(scope="module")
def scenes() -> PatchSet:
    return flame3.scenes(SCENES)


def test_one_scene_is_left_out_in_each_fold(scenes: PatchSet) -> None:
    assert scenes.scenes == ("Sycan/00006", "Sycan/00007", "Sycan/00008", "Wilamette/00001")
    assert scenes.grid == (8, 10)
    assert scenes.left_out == {}
    for out, fold in enumerate(scenes.folds):
        assert fold.test.scene.unique().tolist() == [out]
        assert len(fold.test) == 80
        assert len(fold.val) == 0
        assert set(fold.train.scene.tolist()) == {0, 2, 3} - {out}  # never the smoke-filled one
        assert len(fold.train) == 285 * len({0, 2, 3} - {out})
        assert fold.test.obscured.all() == (out == 1)
        assert not fold.train.obscured.any()
        assert fold.test.thermal.min() == 0
        assert fold.test.thermal.max() == 1


def test_truth_at_80_and_200_degrees_and_labels_beside_it(scenes: PatchSet) -> None:
    tests = [f.test for f in scenes.folds]
    assert [int(t.truth.sum()) for t in tests] == [10, 30, 10, 12]
    assert [int((t.truth_200 == 1).sum()) for t in tests] == [0, 18, 8, 12]
    assert [int((t.truth_200 == -1).sum()) for t in tests] == [3, 0, 0, 0]  # the camera of the first stops at 187.4
    assert [int(t.label.sum()) for t in tests] == [9, 2, 2, 10]
    assert [int(((t.label == 1) & (t.truth == 1)).sum()) for t in tests] == [4, 0, 2, 7]
    assert [float(t.celsius.max()) for t in tests] == pytest.approx([187.42, 475.90, 595.88, 500.0], abs=0.01)
    train = scenes.folds[1].train
    assert min(len(r) for r in patches.kinds(train.label, train.warm).values()) >= 80


def test_scenes_tell_where_their_cameras_end_and_how_far_their_labels_agree(scenes: PatchSet) -> None:
    assert len(scenes.notes) == 4
    ends = "the camera's range ends below at -40.6 and above at 187.4; RGB marks "
    assert scenes.notes[0].startswith(f"Sycan/00006: -40.6 to 187.4 °C, {ends}")
    assert "ends above at 500.0" in scenes.notes[3]


def test_scenes_of_another_size_than_most_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 5):
        shape = (256, 320) if number == 1 else (128, 160)
        sets.jpeg(tmp_path / "Burn/RGB" / f"{number}.JPG", sets.colours(*shape, flame=True, seed=number))
        sets.tiff(tmp_path / "Burn/TIFF" / f"{number}.TIFF", sets.celsius(*shape, seed=number))
    found = flame3.scenes(tmp_path, "burn")
    assert found.scenes == ("Burn/2", "Burn/3", "Burn/4")
    assert "320x256 pixels, 160x128 are expected" in found.left_out["Burn/1"]
    assert found.notes[-1].startswith("4 frames have no EXIF time: each counts as a scene")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)  # what a header says may be enormous
    found = flame3.scenes(tmp_path, "burn")
    assert found.scenes == ("Burn/2", "Burn/3", "Burn/4")
    assert "Burn/TIFF/1.TIFF: truncated or damaged" in found.left_out["Burn/1"]
    for number in (2, 3, 4):
        sets.tiff(tmp_path / "Burn/TIFF" / f"{number}.TIFF", sets.celsius(48, 60, seed=number))
        sets.jpeg(tmp_path / "Burn/RGB" / f"{number}.JPG", sets.colours(48, 60, flame=True, seed=number))
    with pytest.raises(UserError, match="none of its 4 frames can be used"):
        flame3.scenes(tmp_path, "burn")


def test_windows_of_training_can_be_without_overlap() -> None:
    assert len(flame3.scenes(SCENES, stride=64).folds[0].train) == 160


def test_shipped_pictures_hold_no_position_and_the_originals_data() -> None:
    scans = {}
    for path in sorted(SCENES.rglob("*.JPG")):
        content = path.read_bytes()
        assert reading.stripped(content) == content
        with Image.open(path) as image:
            assert not image.getexif()
            assert image.size == (640, 512)
        assert b"Exif" not in content
        assert b"http://" not in content
        scans[path.relative_to(SCENES).as_posix()] = content
    assert len(scans) == 8
    assert (SCENES / "LICENSE.cc-by-nc-4.0").stat().st_size == 19347
    assert sum(p.stat().st_size for p in SCENES.rglob("*") if p.is_file()) == 1_227_375


def test_the_script_makes_the_shipped_scenes_again(tmp_path: Path) -> None:
    origin = os.environ.get("WEIGHIN_ORIGINAL_FLAME3")
    if not origin:
        pytest.skip("WEIGHIN_ORIGINAL_FLAME3 does not name the folder of the original files")
    make_data.main([origin, "--out", str(tmp_path)])
    made = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert made == {p.relative_to(SCENES): p.read_bytes() for p in SCENES.rglob("*") if p.is_file()}
    for name in make_data.SHA256:
        with Image.open(Path(origin) / name) as old, Image.open(SCENES / name) as new:
            assert np.array_equal(np.asarray(old), np.asarray(new))


def test_another_version_of_an_original_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the folder `data`"):
        make_data.main([str(tmp_path), "--out", str(tmp_path)])
    sets.jpeg(tmp_path / "Images_Sycan/RGB/00006.JPG", sets.colours())
    with pytest.raises(UserError, match="another version"):
        make_data.main([str(tmp_path), "--out", str(tmp_path)])


def sample(root: Path, site: str, number: int, at: float | None, **more: bool) -> None:
    taken = None if at is None else sets.START + timedelta(seconds=at)
    sets.jpeg(root / site / "RGB" / f"{number:05}.JPG", sets.colours(seed=number, **{"flame": True, **more}), taken)
    sets.tiff(root / site / "TIFF" / f"{number:05}.TIFF", sets.celsius(seed=number))


def test_frames_that_follow_each_other_are_one_scene(tmp_path: Path) -> None:
    for number, at in ((3, 0), (1, 200), (2, 450), (7, 800)):
        sample(tmp_path, "A", number, at)
    sample(tmp_path, "B", 1, 100)  # at the same time elsewhere
    sample(tmp_path, "C", 1, None)
    sample(tmp_path, "C", 2, None)  # without a time each is a scene
    found = flame3.scenes(tmp_path)
    assert found.scenes == ("A/00001", "A/00007", "B/00001", "C/00001", "C/00002")
    assert set(found.left_out) == {"A/00002", "A/00003"}
    assert "of the same scene as A/00001" in found.left_out["A/00003"]


def test_a_scene_goes_on_with_its_next_frame_where_one_is_broken(tmp_path: Path) -> None:
    for number, at in ((1, 0), (2, 5)):
        sample(tmp_path, "A", number, at)
    sample(tmp_path, "B", 1, 0)
    (tmp_path / "A/TIFF/00001.TIFF").write_bytes(b"II")
    found = flame3.scenes(tmp_path)
    assert found.scenes == ("A/00002", "B/00001")
    assert "A/00001" in found.left_out


def test_too_few_scenes_are_one_line(tmp_path: Path) -> None:
    sample(tmp_path, "A", 1, 0)
    with pytest.raises(UserError, match="1 scenes, 1 of them clear of smoke"):
        flame3.scenes(tmp_path)
    sample(tmp_path, "A", 2, 5000, smoke=True, flame=False)
    with pytest.raises(UserError, match="a clear one must be left to train on"):
        flame3.scenes(tmp_path)
    shutil.rmtree(tmp_path / "A/TIFF")
    (tmp_path / "A/TIFF").mkdir()
    with pytest.raises(UserError, match="none of its 2 frames can be used, such as A/00001: no TIFF of this number in A/TIFF"):
        flame3.scenes(tmp_path)


@pytest.mark.parametrize("spelt", ["No_Fire", "no fire", "NoFire"])
def test_a_folder_of_frames_without_fire_is_known_in_any_spelling(tmp_path: Path, spelt: str) -> None:
    frames = [{"number": i, "at": 1000 * i, "fire": i % 2 == 0} for i in range(8)]
    root = sets.flame3(tmp_path / "set", frames)
    (root / "No Fire").rename(root / spelt)
    found, left = flame3.pairs(root)
    assert sorted(p.group for p in found) == ["Fire"] * 4 + ["No Fire"] * 4
    assert left == {}
    (root / "No-Fire").mkdir()
    with pytest.raises(UserError, match="put the frames of No Fire into one folder"):
        flame3.pairs(root)


def test_a_set_without_one_of_its_folders_says_so(tmp_path: Path) -> None:
    found = flame3.official(sets.flame3(tmp_path / "set", [{"number": i, "at": 1000 * i} for i in range(4)]))
    assert "no frame of No Fire/: all of them show fire, by their folder" in found.notes
