"""Clips that real users have: what is played is the film, whole, in order, and of the pixels that lie in the files."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from suite.naming import UserError
from tasks.common import films
from tasks.mobile_vsr import codec, data
from tests.users import clips


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHIN_CACHE", str(tmp_path / "cache"))


def source(kind: str, folder: Path) -> data.Source:
    clips.make(kind, folder)
    return data.locate("clip", str(folder))


def played(found: data.Source) -> list[np.ndarray]:
    return [data.pixels(frame) for frame in found.high()]


def number(frame: np.ndarray) -> int:
    """The number that a frame of `clips.frames` shows in white and black blocks along its top."""
    return sum(1 << bit for bit in range(5) if frame[4:12, 16 * bit + 4 : 16 * bit + 12].mean() > 128)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("plain", range(12)),
        ("cover_first", range(12)),
        ("vfr", range(12)),
        ("avi_drops", range(12)),
        ("vp8_altref", [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14]),
        ("edit_list", range(4, 24)),
        ("one_frame", [0]),
        ("png", range(12)),
        ("png_unpadded", range(12)),
        ("png_alpha", range(12)),
        ("png_upper", range(12)),
        ("png_appledouble", range(12)),
    ],
)
def test_every_picture_of_the_film_is_played_in_order(kind: str, numbers: list[int], tmp_path: Path) -> None:
    found = source(kind, tmp_path)
    frames = played(found)
    assert found.count == len(frames) == len(numbers)
    if kind != "vp8_altref":  # with a picture left out, its successors show what its decoder makes of it
        assert [number(f) for f in frames] == list(numbers)
    assert {f.shape for f in frames} == {(clips.HEIGHT, clips.WIDTH, 3)}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("grows", "picture 7 is 384x256, those before are 192x128"),
        ("png_grows", r"00007\.png is 384x256, 00001\.png 192x128"),
        ("no_first_key", "begins without a key frame"),
    ],
)
def test_what_cannot_be_played_whole_says_so_before_the_run(kind: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as error:
        source(kind, tmp_path)
    assert "truncated" not in str(error.value)


def test_a_clip_on_its_side_is_turned_and_told(tmp_path: Path) -> None:
    found = source("rotated", tmp_path)
    frame = played(found)[3]
    assert frame.shape == (clips.WIDTH, clips.HEIGHT, 3)
    assert "turned by" in found.notes[0]
    assert 3 in [number(np.rot90(frame, turn)) for turn in (1, 3)]


def test_frames_of_sixteen_bits_are_scaled_and_told(tmp_path: Path) -> None:
    found = source("png_grey16", tmp_path)
    assert found.notes == ("pictures of 16 bits that were scaled to 8: 12",)
    for frame, true in zip(played(found), clips.frames(), strict=True):
        assert np.abs(frame[..., 0].astype(int) - true[..., 1]).max() == 0


@pytest.mark.parametrize("kind", ["full_range", "full_709", "bt709"])
def test_colours_are_what_the_file_says_that_they_are(kind: str, tmp_path: Path) -> None:
    frames = played(source(kind, tmp_path))
    true = np.load(tmp_path / "clip.npy")
    assert np.abs(np.stack(frames).astype(int) - true)[:, 8:-8, 8:-8].mean() < 4


def test_other_pixels_under_the_same_names_and_sizes_are_another_clip(tmp_path: Path) -> None:
    found = []
    for kind in ("png_stored_a", "png_stored_b"):
        shutil.rmtree(tmp_path / "clip", ignore_errors=True)
        clip = source(kind, tmp_path)
        data.digest.cache_clear()
        sizes = [p.stat().st_size for p in sorted(clip.path.iterdir())]
        found.append((sizes, data.digest(clip), codec.low_streams(clip, 2, (clips.HEIGHT, clips.WIDTH))["h264"].stream))
    (sizes, digest, stream), other = found
    assert sizes == other[0]
    assert digest != other[1]
    assert stream != other[2]


def test_numbers_that_jump_are_told(tmp_path: Path) -> None:
    clips.make("png", tmp_path)
    (tmp_path / "clip" / "00005.png").unlink()
    told = data.locate("clip", str(tmp_path)).notes
    assert told == ("the numbers of its frames are not in a row: 00006.png comes after 00004.png",)


def test_a_clip_of_any_name_is_found(tmp_path: Path) -> None:
    clips.make("plain", tmp_path)
    file = tmp_path / "clip.mp4"
    file.rename(tmp_path / "IMG_0042.MP4")
    shutil.copyfile(tmp_path / "IMG_0042.MP4", tmp_path / "Übung 1 (2).mp4")
    assert data.locate("IMG_0042", str(tmp_path)).count == data.locate("Ubung_1_2", str(tmp_path)).count == 12


@pytest.mark.parametrize("ending", ["mp4", "avi"])
def test_a_clip_that_breaks_off_is_said_to_be_truncated(ending: str, tmp_path: Path) -> None:
    codec_name, options = ("mpeg4", {"qscale": "3"}) if ending == "avi" else ("libx264", {})
    file = clips.encode(
        tmp_path / f"clip.{ending}",
        clips.frames(),
        codec_name,
        options=options,
        container={"movflags": "faststart"} if ending == "mp4" else {},
    )
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match="truncated"):
        data.locate("clip", str(tmp_path))


@pytest.mark.parametrize("sound", [False, True])
def test_a_clip_whose_file_has_no_table_and_breaks_off_is_told(sound: bool, tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as out:
        film = out.add_stream("libx264", rate=5, options={"crf": "8", "preset": "ultrafast", "threads": "1"})
        film.width, film.height, film.pix_fmt = clips.WIDTH, clips.HEIGHT, "yuv420p"
        music = out.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for image in clips.frames(30):
            out.mux(film.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            if music is not None:
                out.mux(music.encode(_silence(1600)))
        out.mux(film.encode(None))
    whole = data.locate("clip", str(tmp_path))
    assert (whole.count, whole.notes) == (30, ())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        told = " ".join(data.locate("clip", str(tmp_path)).notes)
    except UserError as e:
        told = str(e)
    assert "says that it lasts" in told or "truncated" in told


def _silence(samples: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.int16), format="s16", layout="mono")
    frame.sample_rate = 8000
    return frame


def test_a_clip_whose_end_an_edit_list_hides_is_whole(tmp_path: Path) -> None:
    file = clips.encode(tmp_path / "clip.mp4", clips.frames(24), options={"g": "6", "bf": "0"}, container={"movflags": "faststart"})
    content = bytearray(file.read_bytes())
    at = content.index(b"elst") + 8
    length = int.from_bytes(content[at + 4 : at + 8], "big")
    content[at + 4 : at + 8] = (length // 3).to_bytes(4, "big")
    file.write_bytes(content)
    found = data.locate("clip", str(tmp_path))
    assert [number(f) for f in played(found)] == list(range(found.count))
    assert 8 <= found.count <= 24
    assert found.notes == ()


def test_what_is_known_of_the_shipped_clips_is_so() -> None:
    for name, known in data.PLAYED.items():
        found = films.film(data.EMBEDDED[name])
        assert (found.count, found.rate) == known
        assert (found.turns, found.streams, found.grows, found.broken, found.short) == (0, 1, "", "", "")


def test_what_eight_bits_lose_is_told_and_a_clock_that_begins_late_is_no_missing_end(tmp_path: Path) -> None:
    kinds: dict[str, tuple[str, dict[str, str], int]] = {
        "deep": ("yuv420p10le", {}, 0),
        "fields": ("yuv420p", {"flags": "+ildct", "x264-params": "tff=1:interlaced=1"}, 0),
        "bright": ("yuv420p", {"x264-params": "transfer=smpte2084"}, 0),
        "late": ("yuv420p", {}, 94_000),
    }
    for name, (pixels, options, begins) in kinds.items():
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            for i in range(12):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i, np.uint8), format="rgb24").reformat(format=pixels)
                frame.pts, frame.time_base = i + 25 * begins, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    found = {name: data.locate(name, str(tmp_path)) for name in kinds}
    assert {name: source.count for name, source in found.items()} == dict.fromkeys(kinds, 12)
    assert found["deep"].notes == ("the clip has pictures of 10 bits, which were made into 8",)
    assert found["fields"].notes == ("the clip has interlaced pictures, whose two moments were left in one",)
    assert found["bright"].notes == ("the clip has pictures of high dynamic range, which were taken for those of the standard one",)
    assert found["late"].notes == ()
