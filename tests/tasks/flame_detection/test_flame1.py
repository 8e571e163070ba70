"""FLAME 1: the classification layout, RGB alone."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from suite.naming import UserError
from tasks.flame_detection import flame1, reading
from tests.tasks.flame_detection import sets
from tests.users import clips


def test_training_folders_are_parted_in_time_and_test_is_the_official_one(tmp_path: Path) -> None:
    root = sets.flame1(tmp_path)
    (root / "Training/Fire/resized_frame7.jpg").write_bytes(b"\xff\xd8")
    (root / "Training/Fire/._resized_frame8.jpg").write_bytes(b"")
    found = flame1.patch_set(root)
    (fold,) = found.folds
    # of 120 frames the last 12 are held, 50 in front of them are dropped; one is broken
    assert [len(p) // 4 for p in (fold.train, fold.val, fold.test)] == [58 + 57, 12 + 12, 8]
    assert list(found.left_out) == ["Training/Fire/resized_frame7.jpg"]
    assert found.scenes == ("No_Fire", "Fire")
    assert found.notes == ["Training/No_Fire: 50 pictures between training and validation are not used", found.notes[1]]
    for part in (fold.train, fold.val, fold.test):
        marked = part.label.view(-1, 4)
        assert torch.equal(marked[:, 0], part.scene.view(-1, 4)[:, 0])
        assert (marked[:, 1:] == 0).all()
        # a picture without fire has no patch with fire; of the others nobody knows
        assert torch.equal(part.truth, -part.fire)
        assert torch.equal(part.fire, part.scene)
        assert part.degrees is None
        assert not part.obscured.any()
    # brightness takes the place of the thermal picture, in the order of numbers and not of names
    first = reading.luma(reading.read_rgb(root / "Training/No_Fire/resized_frame2.jpg"))
    scaled = torch.from_numpy((first - first.min()) / (first.max() - first.min()))
    assert torch.allclose(fold.train.thermal[8, 0], scaled[:32, :32], atol=1e-6)


def video(path: Path, frames: int, width: int = 64, fire: bool = True) -> None:
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = width, 64, "yuv444p"
        for i in range(frames):
            picture = np.ascontiguousarray(np.tile(sets.colours(64, 64, fire, seed=i), (1, width // 64, 1)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_frames_of_a_video_are_pictures_in_the_order_of_time(tmp_path: Path) -> None:
    root = sets.flame1(tmp_path, training=0, test=0)
    for part, kind, frames in (("Training", "Fire", 12), ("Training", "No_Fire", 12), ("Test", "Fire", 5), ("Test", "No_Fire", 3)):
        video(root / part / kind / "flight.mp4", frames, fire=kind == "Fire")
    (root / "Test/Fire/broken.avi").write_bytes(b"RIFF")
    found = flame1.patch_set(root, step=2)
    (fold,) = found.folds
    assert [len(p) // 4 for p in (fold.train, fold.val, fold.test)] == [6 + 6, 0, 2 + 3]
    assert list(found.left_out) == ["Test/Fire/broken.avi"]
    assert fold.test.label.view(-1, 4)[:, 0].tolist() == [0, 0, 1, 1, 1]
    fire = fold.test.rgb[8:].view(3, 2, 2, 3, 32, 32)  # type: ignore[index]
    for place, number in enumerate((0, 2, 4)):
        expected = torch.from_numpy(sets.colours(64, 64, True, seed=number)[:32, :32].copy()).permute(2, 0, 1)
        away = [(fire[place, 0, 0].int() - e.int()).abs().float().mean() for e in (expected, fold.test.rgb[0])]  # type: ignore[index]
        assert away[0] < 4
        assert away[0] < away[1]


def test_a_turned_film_is_turned_and_a_cover_passed_over(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        cover, film = container.add_stream("mjpeg", rate=1), container.add_stream("libx264", rate=10, options={"crf": "0"})
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 32, 32, "yuvj420p", av.stream.Disposition.attached_pic
        film.width, film.height, film.pix_fmt = 64, 48, "yuv444p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), format="rgb24")))
        for _ in range(3):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[:24, :32] = sets.FLAME  # top left as the sensor lies
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(film.encode(None))
    assert reading.frames_in(path) == (3, "")
    assert reading.Footage().rgb(path, 2).shape == (48, 64, 3)
    content = bytearray(path.read_bytes())
    matrix = content.rindex(b"tkhd") + 8 + 20 + 16  # of the second track, which is the film's
    assert struct.unpack(">9i", content[matrix : matrix + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)  # to be shown clockwise
    path.write_bytes(content)
    upright = reading.Footage().rgb(path, 2)
    assert upright.shape == (64, 48, 3)
    assert upright[:30, 26:, 0].min() > 200
    assert upright[34:, :, 0].max() < 60


def test_a_wide_video_is_reduced_and_a_truncated_one_read_as_far_as_it_goes(tmp_path: Path) -> None:
    wide, cut = tmp_path / "wide.mp4", tmp_path / "cut.mkv"
    video(wide, 2, width=1280)
    footage = reading.Footage()
    assert footage.rgb(wide, 1).shape == (32, 640, 3)
    assert footage.rgb(wide, 0).shape == (32, 640, 3), "going back opens it anew"
    video(cut, 40)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    there, broken = reading.frames_in(cut)
    assert 0 < there < 30
    assert "says that it lasts" in broken or "truncated" in broken
    root = sets.flame1(tmp_path / "set", training=3, test=2)
    cut.rename(root / "Test/Fire/cut.mkv")
    assert flame1.patch_set(root).left_out[f"Test/Fire/cut.mkv, behind frame {there}"] == broken
    cut = root / "Test/Fire/cut.mkv"
    with pytest.raises(UserError, match=r"cut.mkv: .*copy it again"):
        footage.rgb(cut, 39)
    (tmp_path / "none.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"none.mp4: not a whole video .*copy it again"):
        reading.frames_in(tmp_path / "none.mp4")


@pytest.mark.parametrize(("kind", "count"), [("plain", 12), ("cover_first", 12), ("vp8_altref", 14), ("avi_drops", 12)])
def test_every_picture_of_a_whole_film_is_used_and_none_is_said_to_be_missing(kind: str, count: int, tmp_path: Path) -> None:
    pytest.importorskip("av")
    clips.make(kind, tmp_path)
    (path,) = tmp_path.glob("clip.*")
    root = tmp_path / "set"
    for folder in (root / part / scene for part in flame1.PARTS for scene in flame1.SCENES):
        folder.mkdir(parents=True)
        shutil.copyfile(path, folder / path.name)
    found = flame1.patch_set(root)
    assert found.left_out == {}
    assert len(torch.unique(found.folds[0].test.frame)) == 2 * count


def test_nothing_to_use_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder Training/No_Fire; put there Training/"):
        flame1.patch_set(tmp_path)
    for name in ("Training/No_Fire", "Training/Fire", "Test/No_Fire", "Test/Fire"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"Training/No_Fire: holds no picture and no video \(.*\); put there Training/"):
        flame1.patch_set(tmp_path)
    sets.flame1(tmp_path, training=2, test=0)
    with pytest.raises(UserError, match=r"Test/No_Fire: holds no picture and no video"):
        flame1.patch_set(tmp_path)


def test_pictures_of_another_size_than_most_and_those_that_hold_no_patch_are_left_out(tmp_path: Path) -> None:
    root = sets.flame1(tmp_path, training=8, test=3)
    sets.jpeg(root / "Training/No_Fire/resized_frame0.jpg", sets.colours(96, 96))  # the first that is read
    found = flame1.patch_set(root)
    assert list(found.left_out) == ["Training/No_Fire/resized_frame0.jpg"]
    assert "96x96 pixels, most have 64x64" in found.left_out["Training/No_Fire/resized_frame0.jpg"]
    small = sets.flame1(tmp_path / "small", training=2, test=2, side=20)
    with pytest.raises(UserError, match="holds no patch of 32x32; give larger pictures"):
        flame1.patch_set(small)


def test_a_folder_with_nothing_of_use_is_named_and_what_lies_beside_is_told(tmp_path: Path) -> None:
    root = sets.flame1(tmp_path, training=8, test=3)
    for kind in ("Training", "Test"):
        (root / kind / "Fire" / "more").mkdir()
        sets.jpeg(root / kind / "Fire" / "more" / "1.jpg", sets.colours(64, 64))
    assert list(flame1.patch_set(root).left_out) == ["1 files of Training/Fire", "1 files of Test/Fire"]
    for path in (root / "Training" / "No_Fire").iterdir():
        path.rename(path.with_suffix(".bmp"))
    with pytest.raises(UserError, match=r"Training/No_Fire: holds no picture and no video \(\.jpg"):
        flame1.patch_set(root)


def test_a_number_that_all_names_share_is_no_frames_number(tmp_path: Path) -> None:
    for scene in flame1.SCENES:
        for i in (1, 2, 10):
            sets.jpeg(tmp_path / "Training" / scene / f"clip_{i}_1920x1080.jpg", sets.colours(64, 64))
    found = flame1.files(tmp_path, "Training", 1, {})
    assert [p.path.name for p in found[0]] == [f"clip_{i}_1920x1080.jpg" for i in (1, 2, 10)]
