"""Sets by their name, where they are looked for; JPEGs without positions; and what every wrong file is told as."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from suite.naming import UserError
from tasks.flame_detection import data, flame2, reading
from tests.tasks.flame_detection import sets


@pytest.mark.slow
def test_the_shipped_sets_need_no_folder_and_are_kept() -> None:
    scenes = data.source("flame3_scenes", "")
    assert scenes is data.source("flame3_scenes", "", {})
    assert len(scenes.folds) == 4
    few = data.source("synthetic", "", {"train": 48, "val": 12, "clear": 24, "smoky": 24})
    assert [len(p) for p in (few.folds[0].train, few.folds[0].val, few.folds[0].test)] == [48, 12, 48]
    assert len(data.source("flame3_scenes", "", {"stride": 64}).folds[1].train) == 240
    with pytest.raises(ValueError, match="synthetic has no size stride; there are: train, val, clear, smoky"):
        data.source("synthetic", "", {"stride": 64})


def test_digests_tell_sets_apart() -> None:
    found = [data.digest(n, "") for n in data.EMBEDDED]
    assert len({*found}) == 2
    assert all(len(d) == 64 for d in found)
    assert found == [data.digest(n, "") for n in data.EMBEDDED]


@pytest.mark.parametrize(
    ("name", "words"),
    [("flame3", "doi 10.21227/w0mz-aq48"), ("flame2", "CC BY 4.0"), ("flame1", "doi 10.21227/qad6-r683")],
)
def test_a_missing_set_says_what_to_put_where_under_which_licence(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match="--data DIR") as e:
        data.source(name, "")
    assert words in str(e.value)
    for place in (tmp_path, tmp_path / "not there"):
        with pytest.raises(UserError, match=f"put into {place / name} ") as e:
            data.source(name, str(place))
        assert words in str(e.value)
        assert "\n" not in str(e.value)
    with pytest.raises(
        UserError, match=f"no mine in .*: put into {tmp_path / 'mine'} .*SITE/RGB and SITE/TIFF.*254p.*Training/ and Test/"
    ):
        data.source("mine", str(tmp_path))


def test_a_set_is_found_under_its_name_or_in_the_folder_itself(tmp_path: Path) -> None:
    frames = [{"number": i, "at": 1000 * i} for i in range(4)]
    sets.flame3(tmp_path / "flame3", frames)
    (tmp_path / "flame3/Fire/Thermal/Celsius TIFF/00003.TIFF").write_bytes(b"")
    found = data.source("flame3", str(tmp_path))
    assert torch.equal(found.folds[0].test.thermal, data.source("flame3", str(tmp_path / "flame3")).folds[0].test.thermal)
    assert list(found.left_out) == ["Fire/00003"]
    assert found.left_out["Fire/00003"].startswith("Fire/Thermal/Celsius TIFF/00003.TIFF: "), "without this machine's folders"
    before = data.digest("flame3", str(tmp_path))
    sets.tiff(tmp_path / "flame3/Fire/Thermal/Celsius TIFF/00003.TIFF", sets.celsius())
    data.datasets.digest.cache_clear()
    assert data.digest("flame3", str(tmp_path)) != before


def test_scenes_of_ones_own_go_through_the_same_loader(tmp_path: Path) -> None:
    for number, at in ((9, 0), (10, 9000)):
        sets.jpeg(tmp_path / "Sycan/RGB" / f"{number:05}.JPG", sets.colours(flame=True), sets.START + timedelta(seconds=at))
        sets.tiff(tmp_path / "Sycan/TIFF" / f"{number:05}.TIFF", sets.celsius())
    found = data.source("flame3", str(tmp_path))
    assert found.name == "flame3"
    assert found.scenes == ("Sycan/00009", "Sycan/00010")
    assert [len(f.train) for f in found.folds] == [3 * 4, 3 * 4]
    assert [int(f.test.truth.sum()) for f in found.folds] == [1, 1]


def test_flame_1_and_2_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flame2, "GAP", 1)
    monkeypatch.setattr(flame2, "SHORT", 10)
    kinds = {i: "NN" if i <= 30 else "YN" for i in range(1, 61)}
    sets.flame2(tmp_path / "flame2", ("1\t30\tNN", "31\t60\tYN"), 60, kinds)
    sets.flame1(tmp_path / "flame1", training=8, test=3)
    second = data.source("flame2", str(tmp_path))
    assert (second.name, second.patch, second.grid) == ("flame2", 32, (2, 2))
    first = data.source("flame1", str(tmp_path), {"patch": 64})
    assert (first.name, first.patch, first.grid) == ("flame1", 64, (1, 1))
    assert len(first.folds[0].test) == 6
    few = data.source("flame1_every2", str(tmp_path))
    assert (few.name, len(few.folds[0].test)) == ("flame1_every2", 2 * 2 * 4)
    sets.flame3(tmp_path / "flame3", [{"number": i, "at": 1000 * i} for i in range(4)])
    with pytest.raises(UserError, match="leave _every2 out"):
        data.source("flame3_every2", str(tmp_path))


def test_frames_of_ones_own_are_not_told_of_by_the_authors_table(tmp_path: Path) -> None:
    """The first 13,700 frames of FLAME 2 show no fire; somebody else's may."""
    root = sets.flame2(tmp_path / "mine", ("1\t3\tYN",), 3, {})
    flame2.labels_file(root).rename(root / "labels.txt")  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"nothing else tells of these frames: put the file there \(there is labels\.txt"):
        data.source("mine", str(tmp_path))
    (root / "labels.txt").rename(root / "10_frame_pair_labels.txt")
    assert flame2.labels_file(root) == root / "10_frame_pair_labels.txt"


def test_folders_under_the_names_of_shipped_sets_are_not_passed_over(tmp_path: Path) -> None:
    for name in ("synthetic", "flame3_scenes"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=f"{name} has the name of a set that is shipped"):
            data.locate(name, str(tmp_path))


def test_a_pair_that_says_that_it_lies_is_turned_as_a_pair(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:8, :8] = 255
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=100)
    colours, bright = reading.read_rgb(tmp_path / "a.jpg"), reading.read_luma(tmp_path / "a.jpg")
    assert colours[:8, 24:].min() > 240
    assert bright[:8, 24:].min() > 240


def test_a_folder_of_ones_own_is_read_by_its_layout(tmp_path: Path) -> None:
    sets.flame1(tmp_path / "mine", training=8, test=3)
    sets.flame3(tmp_path / "burn", [{"number": i, "at": 1000 * i} for i in range(4)])
    assert data.source("mine", str(tmp_path)).name == "mine"
    assert data.source("burn", str(tmp_path)).scenes[0].startswith("Fire")
    assert data.digest("mine", str(tmp_path)) != data.digest("burn", str(tmp_path))
    with pytest.raises(UserError, match="no mine in"):
        data.source("mine", str(tmp_path / "mine"))  # of one's own only by its name


# -- pictures


def test_a_picture_of_16_bits_is_refused_and_a_turned_one_turned(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep.png: holds more than 8 bits a pixel .*scale it to 8 bits"):
        reading.read_rgb(tmp_path / "deep.png")
    exif = Image.Exif()
    exif[274] = 6  # to be shown a quarter clockwise
    rgb = np.zeros((16, 32, 3), np.uint8)
    rgb[:8, :16] = 255
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    upright = reading.read_rgb(tmp_path / "turned.png")
    assert upright.shape == (32, 16, 3)
    assert upright[:16, 8:].min() == 255
    assert upright[16:].max() == 0


def with_everything(rgb: np.ndarray, progressive: bool = False) -> bytes:
    """A JPEG with EXIF, XMP and a comment, and a second picture behind it."""
    exif = Image.Exif()
    exif[306] = "2022:10:25 16:59:26"
    exif[34853] = {1: "N", 2: (42.0, 49.0, 12.0), 3: "W", 4: (121.0, 7.0, 3.0)}
    out = io.BytesIO()
    more = {"xmp": b"<x:xmpmeta>GpsLatitude</x:xmpmeta>", "comment": b"by the pilot"}
    Image.fromarray(rgb).save(out, "JPEG", quality=90, exif=exif, progressive=progressive, restart_marker_rows=1, **more)  # type: ignore[arg-type]
    return out.getvalue() + out.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_loses_its_position_and_keeps_its_pixels(progressive: bool) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    before = with_everything(rgb, progressive)
    after = reading.stripped(before)
    with Image.open(io.BytesIO(before)) as image:
        assert image.getexif().get_ifd(34853)
        pixels = np.asarray(image.convert("RGB"))
    with Image.open(io.BytesIO(after)) as image:
        assert not image.getexif()
        assert "xmp" not in image.info
        assert "comment" not in image.info
        assert np.array_equal(np.asarray(image.convert("RGB")), pixels)
    assert b"Exif" not in after
    assert b"Gps" not in after
    assert b"pilot" not in after
    assert after.count(b"\xff\xd8\xff") == 1  # nor the picture behind it
    assert reading.stripped(after) == after


def test_a_jpeg_that_is_none_or_truncated_is_refused() -> None:
    whole = with_everything(sets.colours(48, 64))
    half = len(whole) // 2
    for content in (b"", b"II*\0", whole[:40], whole[: half - 20]):
        with pytest.raises(UserError, match="JPEG"):
            reading.stripped(content)


def test_wrong_pictures_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    whole = with_everything(sets.colours(48, 64))
    for content, words in (
        (b"", "no picture that Pillow reads"),
        (whole[: len(whole) // 2 - 300], "truncated or damaged"),
        (b"nothing", "no picture"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words) as e:
            reading.read_rgb(path)
        assert str(e.value).startswith(f"{path}: ")
        assert "\n" not in str(e.value)
    with pytest.raises(UserError, match="a picture is expected"):
        reading.read_rgb(tmp_path / "none.jpg")


def test_colours_are_resized_to_the_thermal_picture_where_the_view_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    large = np.zeros((256, 320, 3), np.uint8)
    large[:, 160:] = 200
    sets.jpeg(path, large)
    small = reading.read_rgb(path, (128, 160))
    assert small.shape == (128, 160, 3)
    assert small[:, :78].max() < 5
    assert small[:, 82:].min() > 195
    assert reading.read_rgb(path).shape == (256, 320, 3)
    assert reading.read_rgb(path, (512, 640)).shape == (512, 640, 3)
    sets.jpeg(path, sets.colours(300, 400))  # 4:3 beside 5:4
    with pytest.raises(UserError, match="another field of view"):
        reading.read_rgb(path, (512, 640))


def test_the_time_is_the_exifs(tmp_path: Path) -> None:
    plain, timed, odd = (tmp_path / f"{n}.jpg" for n in "abc")
    sets.jpeg(plain, sets.colours())
    sets.jpeg(timed, sets.colours(), sets.START)
    exif = Image.Exif()
    exif[306] = "0000:00:00 00:00:00"
    Image.fromarray(sets.colours()).save(odd, exif=exif)
    assert reading.taken([plain, odd, tmp_path / "none", timed]) == sets.START
    assert reading.taken([plain, odd]) is None
    first = Image.Exif()
    first.get_ifd(0x8769)[36867] = sets.START.strftime("%Y:%m:%d %H:%M:%S")
    Image.fromarray(sets.colours()).save(odd, exif=first)
    assert reading.taken([plain, odd]) == sets.START, "where an editor left the time of the shot alone"


def test_patches_of_shots_are_joined_with_or_without_colour() -> None:
    shots = [reading.Shot(sets.celsius(seed=i), sets.colours(seed=i), True, i) for i in range(3)]
    parts = [s.patches(64) for s in shots]
    whole = reading.joined(parts)
    assert whole.frame.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    gathered = reading.gathered(iter(parts[:2]), 3, reading.empty(64))  # fewer than were thought
    assert all(torch.equal(getattr(gathered, n), v[:8]) for n, v in whole.__dict__.items())
    assert len(reading.gathered(iter([]), 3, reading.empty(64))) == 0
    blind = reading.Shot(sets.celsius(), None, True, 0).patches(64)
    assert blind.rgb is None
    assert blind.label.unique().tolist() == [-1]
    assert reading.joined([blind, blind]).rgb is None
    # an empty part takes none of the columns away
    assert reading.joined([reading.empty(64, radiometric=True), parts[0]]).degrees is not None
