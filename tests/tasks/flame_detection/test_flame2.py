"""FLAME 2: classes of all frames against the golden vector, the 19 runs and their split, labels files, stand-in pictures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from suite.naming import UserError
from tasks.flame_detection import flame2, reading
from tasks.flame_detection.flame2 import DROPPED, NN, TEST, TRAIN, VAL, YN, YY
from tasks.flame_detection.problem import PatchSet
from tests.helpers import golden
from tests.tasks.flame_detection import sets


def test_every_frames_class_is_the_authors() -> None:
    """Golden vectors: the class of each frame by the original `MyDataset`."""
    expected = golden("flame_baselines_flame2_labels")["label"]
    found = flame2.classes()
    assert len(found) == 53_451
    assert np.array_equal(found, expected)
    assert np.bincount(found).tolist() == [13_700, 25_435, 14_316]


RUNS = [
    *[(NN, 13_700), (YY, 999), (YN, 1281), (YY, 3822), (YN, 97), (YY, 7284), (YN, 331), (YY, 3780), (YN, 215), (YY, 2088)],
    *[(YN, 332), (YY, 2621), (YN, 1480), (YY, 123), (YN, 3488), (YY, 3638), (YN, 5927), (YY, 1080), (YN, 1165)],
]


def test_there_are_19_runs() -> None:
    found = flame2.classes()
    assert [(int(found[a]), b - a) for a, b in flame2.runs(found)] == RUNS
    assert flame2.runs(np.zeros(0, np.int8)) == []


def test_each_long_run_is_parted_70_10_20_with_gaps_of_50() -> None:
    found = flame2.classes()
    split = flame2.split(found)
    for first, end in flame2.runs(found):
        n, here = end - first, split[first:end]
        if n < 600:
            continue
        val, test = int(0.7 * n), int(0.7 * n) + int(0.1 * n)
        assert (here[:val] == TRAIN).all()
        assert (here[val : val + 50] == DROPPED).all()
        assert (here[val + 50 : test] == VAL).all()
        assert (here[test : test + 50] == DROPPED).all()
        assert (here[test + 50 : n - 50] == TEST).all()
        assert (here[n - 50 :] == DROPPED).all()


def test_short_runs_are_for_training_without_50_at_each_end_where_that_leaves_any() -> None:
    found = flame2.classes()
    split = flame2.split(found)
    short = {end - first: split[first:end] for first, end in flame2.runs(found) if end - first < 600}
    assert sorted(short) == [97, 123, 215, 331, 332]
    assert (short.pop(97) == TRAIN).all()
    for n, here in short.items():
        assert (here[50:-50] == TRAIN).all()
        assert (here == TRAIN).sum() == n - 100


def test_splits_lie_50_frames_apart() -> None:
    split = flame2.split(flame2.classes())
    kept = np.flatnonzero(split != DROPPED)
    for a, b in pairwise(kept.tolist()):
        if split[a] != split[b]:
            assert b - a > 50
    assert {k: int((split == k).sum()) for k in (TRAIN, VAL, TEST, DROPPED)} == {TRAIN: 37339, VAL: 4530, TEST: 9082, DROPPED: 2500}


def test_every_30th_frame_has_a_rule_of_its_own() -> None:
    numbers, split = flame2.every(flame2.classes(), 30)
    assert len(numbers) == 1782
    assert numbers[:3].tolist() == [1, 31, 61]
    found = flame2.classes()[::30]
    assert np.array_equal(split, flame2.split(found, 2, 20))
    for first, end in flame2.runs(found):
        n, here = end - first, split[first:end]
        if n >= 20:
            val, test = int(0.7 * n), int(0.7 * n) + int(0.1 * n)
            assert (here[:val] == TRAIN).all()
            assert (here[val : min(val + 2, test)] == DROPPED).all()
            assert (here[test + 2 : n - 2] == TEST).all()
            assert (here[-2:] == DROPPED).all()
        else:
            assert set(here[2:-2].tolist() if n > 4 else here.tolist()) <= {TRAIN}
    assert {k: int((split == k).sum()) for k in (TRAIN, VAL, TEST)} == {TRAIN: 1240, VAL: 138, TEST: 308}


def test_a_run_is_parted_to_the_letter_in_floating_point() -> None:
    # int(0.7 * 90) is 62: 0.7 * 90 is a little under 63
    assert (flame2.split(np.zeros(90, np.int8), 0, 10) == TRAIN).sum() == 62


# -- labels


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


HEADER = ("Frame Pair Labels\t\t", "first\tlast\tfire/smoke")


def test_a_labels_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "l.txt", *HEADER, "1\t3\tNN", "4\t4\tYY", "5\t6\tYN")
    assert flame2.read_labels(path).tolist() == [NN, NN, NN, YY, YN, YN]


def test_four_columns_blanks_small_letters_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "l.txt", "\ufeffheader", "", "10) of many", "1\t3\tN\tN\r", "4 4 y y", "  5\t6\tYn ", "", "9\t9\tNN")
    # frames that no line tells of are -1
    assert flame2.read_labels(path).tolist() == [NN, NN, NN, YY, YN, YN, -1, -1, NN]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["1\t3\tNN", "what is this"], "line 4 is 'what is this'"),
        (["1\t3\tNY"], "smoke without fire"),
        (["1\t3\tNN", "3\t5\tYY"], "frame 3 is told of twice"),
        (["5\t3\tNN"], "from frame 5 to 3"),
        (["0\t3\tNN"], "from frame 0 to 3"),
        ([], "no line of labels"),
        (["1\t99999999999\tNN"], "10,000,000 are the most"),
    ],
)
def test_a_wrong_labels_file_is_one_line(tmp_path: Path, lines: list[str], words: str) -> None:
    path = write(tmp_path / "l.txt", *HEADER, *lines)
    with pytest.raises(UserError, match=words) as e:
        flame2.read_labels(path)
    assert str(e.value).startswith(f"{path}: ")


# -- pictures


#: three runs of 40 frames
KINDS = {i: "NN" if i <= 40 else "YY" if i <= 80 else "YN" for i in range(1, 121)}
LINES = ("1\t40\tNN", "41\t80\tYY", "81\t120\tYN")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = sets.flame2(tmp_path_factory.mktemp("flame2"), LINES, 120, KINDS)
    rgb, thermal = root / "254p RGB Images", root / "254p Thermal Images"
    (rgb / "254p RGB Frame (2).jpg").unlink()
    (thermal / "254p Thermal Frame (3).jpg").unlink()
    (rgb / "254p RGB Frame (4).jpg").write_bytes((rgb / "254p RGB Frame (4).jpg").read_bytes()[:700])
    sets.jpeg(thermal / "254p Thermal Frame (5).jpg", sets.colours(32, 32))
    sets.jpeg(rgb / "254p RGB Frame (6).jpg", sets.colours(128, 128))
    sets.jpeg(rgb / "254p RGB Frame (7).jpg", sets.colours(64, 90))
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> Iterator[PatchSet]:
    """The set with gaps of one frame, and runs of at least 20 that are parted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flame2, "GAP", 1)
        patch.setattr(flame2, "SHORT", 20)
        yield flame2.patch_set(root)


def test_frames_are_split_by_runs_and_smoke_is_only_tested_on(found: PatchSet) -> None:
    (fold,) = found.folds
    assert found.scenes == ("NN", "YY", "YN")
    assert found.grid == (2, 2)
    frames = [sorted(set((p.frame + 1).tolist())) for p in (fold.train, fold.val, fold.test)]
    # of each run of 40: 28, 4 and 8, one dropped in front of validation and test and one behind the test
    assert frames[0] == [1, 6, *range(8, 29), *range(81, 109)]
    assert frames[1] == [30, 31, 32, 110, 111, 112]
    assert frames[2] == [*range(34, 40), *range(74, 80), *range(114, 120)]
    assert not fold.train.obscured.any()
    assert not fold.val.obscured.any()
    assert torch.equal(fold.test.obscured, fold.test.scene == YY)


def test_labels_are_of_clear_frames_and_no_truth_is_known(found: PatchSet) -> None:
    (fold,) = found.folds
    test = fold.test
    assert (test.label[test.scene == NN] == 0).all()
    assert (test.label[test.scene == YY] == -1).all()
    fire = test.label[test.scene == YN].view(-1, 4)
    assert (fire[:, 0] == 1).all()
    assert (fire[:, 1:] == 0).all()
    for part in (fold.train, fold.val, test):
        # frames without fire have no patch with fire; of the others nobody knows
        assert torch.equal(part.fire, (part.scene != NN).long())
        assert torch.equal(part.truth, -part.fire)
        assert torch.equal(part.truth_200, -part.fire)
        assert part.celsius.isnan().all()
        assert part.degrees is None
    # where nothing labels a patch it is not warm either
    assert not test.warm[test.scene == YY].any()
    assert test.warm[test.scene == NN].any()


def test_what_cannot_be_used_is_told(found: PatchSet) -> None:
    left = found.left_out
    assert left["frame 2"] == "no RGB picture of this number"
    assert left["frame 3"] == "no thermal picture of this number"
    assert "truncated or damaged" in left["frame 4"]
    assert "32x32 pixels, most have 64x64" in left["frame 5"]
    assert "frame 6" not in left  # is resized
    assert "90x64 pixels beside a thermal picture of 64x64" in left["frame 7"]
    assert left["frames 41 to 68"] == "filled with smoke (YY), in a training or validation block"
    assert left["frames 29 to 29"] == "at the border of two splits"


def test_the_thermal_input_is_brightness_scaled_over_the_frame(found: PatchSet, root: Path) -> None:
    test = found.folds[0].test
    with Image.open(root / "254p Thermal Images" / "254p Thermal Frame (34).jpg") as image:
        image.draft("L", None)
        bright = np.asarray(image.convert("L"), np.float32)
    scaled = (bright - bright.min()) / (bright.max() - bright.min())
    assert torch.allclose(test.thermal[0, 0], torch.from_numpy(scaled[:32, :32]), atol=1e-6)
    assert torch.allclose(test.thermal[3, 0], torch.from_numpy(scaled[32:, 32:]), atol=1e-6)


def test_brightness_is_nearly_that_of_the_colours(root: Path) -> None:
    path = root / "254p Thermal Images" / "254p Thermal Frame (9).jpg"
    colours = reading.read_rgb(path)
    assert np.abs(reading.luma(colours) - reading.read_luma(path)).max() < 3  # its colours are not halved
    assert reading.luma(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))[0] == pytest.approx([76.245, 149.685, 29.07])


def test_every_second_frame(root: Path, found: PatchSet) -> None:
    (fold,) = flame2.patch_set(root, step=2).folds
    # of each run of 20: 14, 2 and 4, the gap of one frame is one of these
    assert sorted(set(fold.test.frame.tolist())) == [34, 36, 74, 76, 114, 116]
    assert sorted(set(fold.val.frame.tolist())) == [30, 110]
    assert set((fold.train.frame % 2).tolist()) == {0}


def test_without_a_labels_file_the_authors_table_serves(tmp_path: Path) -> None:
    root = sets.flame2(tmp_path, LINES, 3, KINDS)
    flame2.labels_file(root).unlink()  # type: ignore[union-attr]
    labels = flame2._labels(root, 3)
    assert np.array_equal(labels, flame2.classes())
    with pytest.raises(UserError, match="frame 53452 is none of FLAME 2's"):
        flame2._labels(root, 53_452)


def test_nothing_to_use_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pictures in .*put there '254p RGB Images'"):
        flame2.patch_set(tmp_path)
    root = sets.flame2(tmp_path / "a", LINES, 8, KINDS)
    for path in (root / "254p Thermal Images").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="frames can be used, such as frame 1: no thermal picture of this number"):
        flame2.patch_set(root)
