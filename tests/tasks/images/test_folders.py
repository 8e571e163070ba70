"""Folders of classes that real users have: one numbering of classes, and every picture looked at before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from suite.naming import UserError
from tasks.common import pictures
from tasks.images import datasets, folders
from tasks.images.sources import ImageFiles, imagenet
from tests.users import image_folders

COLOUR = np.array(list(image_folders.COLOURS.values()))


def source(kind: str, root: Path) -> ImageFiles:
    image_folders.make(kind, root)
    datasets.digest(root / "imagenet")  # looks at every picture, as the order of a run does
    found = imagenet(root / "imagenet")
    found.size, found.workers = 32, 0
    return found


def right(found: ImageFiles) -> float:
    """The share of test pictures that a look at their mean colour is right about."""
    hits = []
    for x, y in found.evaluate("test", 64):
        mean = torch.tensor(found.mean).view(3, 1, 1)
        colour = 255 * (x * torch.tensor(found.std).view(3, 1, 1) + mean).mean((2, 3))
        nearest = np.abs(colour.numpy()[:, None] - COLOUR).sum(2).argmin(1)
        hits += (np.array([*image_folders.COLOURS])[nearest] == np.array(found.classes)[y.numpy()]).tolist()
    return float(np.mean(hits))


@pytest.mark.parametrize(
    ("kind", "count", "told"),
    [
        ("plain", 12, ""),
        ("val_lacks_class", 8, "val has no picture of n01"),
        ("hidden_in_train", 12, ""),
        ("hidden_in_val", 12, ""),
        ("cmyk", 12, ""),
        ("alpha", 13, "pictures with opacity, which was dropped: 1"),
        ("grey16", 13, "pictures of 16 bits that were scaled to 8: 1"),
        ("dotfile", 12, ""),
    ],
)
def test_what_is_right_on_every_picture_is_right(kind: str, count: int, told: str, tmp_path: Path) -> None:
    found = source(kind, tmp_path)
    assert found.classes == ("n01", "n02", "n03")
    assert len(found.parts["test"]) == count
    assert right(found) == (1.0 if kind != "grey16" else pytest.approx(12 / 13, abs=0.08))
    assert "; ".join(found.notes).startswith(told)
    assert bool(found.notes) == bool(told)
    assert set(found.parts["train"]) | set(found.parts["val"]) == set(range(24))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("val_other_class", "val has n04, which train lacks"),
        ("empty_class_train", "train has no picture in n00"),
        ("empty_class_val", "val has n00, which train lacks"),
        ("flat_val", "val has no folders of classes"),
        ("truncated", r"val/n02/1\.JPEG: is truncated"),
    ],
)
def test_what_cannot_be_right_is_said_before_the_run(kind: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        source(kind, tmp_path)


def test_a_class_that_val_has_but_without_pictures_is_told(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    for file in (tmp_path / "imagenet" / "val" / "n03").iterdir():
        file.unlink()
    assert folders.read(tmp_path / "imagenet").notes == ("val has no picture of n03: nothing is said of such a class",)


def test_endings_in_capitals_and_pictures_in_deeper_folders_count(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    n02 = tmp_path / "imagenet" / "val" / "n02"
    (n02 / "1.JPEG").rename(n02 / "1.JpG")
    (n02 / "more" / ".trash").mkdir(parents=True)
    (n02 / "2.JPEG").rename(n02 / "more" / "2.JPEG")
    (n02 / "3.JPEG").rename(n02 / "more" / ".trash" / "3.JPEG")
    found = source("plain", tmp_path / "b"), imagenet(tmp_path / "imagenet")
    assert [len(f.parts["test"]) for f in found] == [12, 11]


def test_other_pictures_under_the_same_names_and_sizes_are_another_set(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    file = tmp_path / "imagenet" / "val" / "n02" / "1.bmp"
    digests = []
    for colour in ((30, 200, 30), (31, 200, 30)):
        image_folders.picture(colour, 5).save(file)
        folders._looks.cache_clear()
        folders.digest.cache_clear()
        datasets.digest.cache_clear()
        folders.read.cache_clear()
        digests.append((file.stat().st_size, datasets.digest(tmp_path / "imagenet")))
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 72).reshape(64, 72).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    with Image.open(tmp_path / "ramp.png") as image:
        found = np.asarray(pictures.rgb(image)).astype(float)
    assert (found[..., 0] == found[..., 2]).all()
    assert np.abs(found[..., 1] - ramp / 257).max() <= 0.5
    assert pictures.look(tmp_path / "ramp.png").endswith("72x64")


def test_numbers_whose_white_nobody_knows_are_refused(tmp_path: Path) -> None:
    for name, values in (("f.tif", np.full((8, 8), 300.5, np.float32)), ("i.tif", np.full((8, 8), 70_000, np.int32))):
        Image.fromarray(values).save(tmp_path / name)
        with pytest.raises(ValueError, match="scale them to 8 bits"):
            pictures.look(tmp_path / name)


def test_a_picture_that_says_it_lies_is_told(tmp_path: Path) -> None:
    image = image_folders.picture((200, 30, 30), 1)
    exif = image.getexif()
    exif[pictures.ORIENTATION] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert pictures.look(tmp_path / "a.jpg") == "RGB 72x64 turned"


def test_notes_of_a_picture_that_are_broken_do_not_break_it(tmp_path: Path) -> None:
    image_folders.picture((200, 30, 30), 1).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00XX no header of a TIFF")
    assert pictures.look(tmp_path / "a.jpg") == "RGB 72x64"


def test_twelve_bits_have_the_mode_of_sixteen_and_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((8, 8), 4095, np.uint16))
    image.save(tmp_path / "a.tif")
    assert pictures.look(tmp_path / "a.tif").startswith("I;16")
    with Image.open(tmp_path / "a.tif") as image:
        assert np.asarray(pictures.rgb(image)).max() == round(4095 * 255 / 65535)
        image.tag_v2[pictures.BITS] = (12,)
        with pytest.raises(ValueError, match="whose white nobody knows"):
            pictures.rgb(image)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    (tmp_path / "imagenet" / "val" / "n01" / "9.heic").write_bytes(b"")
    (tmp_path / "imagenet" / "train" / "readme.txt").write_text("")
    assert folders.looked(tmp_path / "imagenet").notes == (
        "2 files have no ending of a picture, or lie in no class, and were left out",
    )


def test_a_png_that_is_damaged_inside_is_named_before_the_run(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    file = tmp_path / "imagenet" / "val" / "n02" / "l.png"
    image_folders.picture((30, 200, 30), 3).save(file)
    content = bytearray(file.read_bytes())
    content[200] ^= 255
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"val/n02/l\.png: is truncated or damaged"):
        datasets.digest(tmp_path / "imagenet")


def test_a_link_that_leads_back_brings_no_picture_into_another_class(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    (tmp_path / "imagenet" / "val" / "n02" / "loop").symlink_to(tmp_path / "imagenet")
    found = folders.read(tmp_path / "imagenet")
    assert (len(found.files), found.notes) == (36, ())


def test_names_of_classes_are_the_same_in_whatever_characters_a_system_stores_them(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    base = tmp_path / "imagenet"
    (base / "train" / "n02").rename(base / "train" / "K\u00e4se")
    (base / "val" / "n02").rename(base / "val" / "Ka\u0308se")
    found = folders.read(base)
    assert found.classes == ("K\u00e4se", "n01", "n03")
    assert len(found.files) == 36
    (base / "val" / "n03").rename(base / "val" / "N03 ")
    folders.read.cache_clear()
    with pytest.raises(UserError, match=r"val has 'N03 ', which train lacks \(case or blanks alone differ\)"):
        folders.read(base)


def test_a_class_of_two_folders_in_two_spellings_is_refused(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    base = tmp_path / "imagenet"
    (base / "train" / "n02").rename(base / "train" / "K\u00e4se")
    (base / "train" / "n03").rename(base / "train" / "Ka\u0308se")
    with pytest.raises(UserError, match="train has two folders K\u00e4se, of composed and of other characters"):
        folders.read(base)


def test_a_link_to_a_class_that_is_not_mounted_is_refused(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    for split in folders.SPLITS:
        (tmp_path / "imagenet" / split / "n09").symlink_to("/media/none/n09")
    with pytest.raises(UserError, match="train: n09 leads to what is not there: mount it, or take the link away"):
        folders.read(tmp_path / "imagenet")


def test_classes_of_one_picture_leave_nothing_for_validation(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    for picture in sorted((tmp_path / "imagenet" / "train").rglob("*.JPEG")):
        if picture != sorted(picture.parent.iterdir())[0]:
            picture.unlink()
    with pytest.raises(UserError, match="each class has a single picture in train"):
        folders.parts(folders.read(tmp_path / "imagenet"))


def test_what_a_file_system_leaves_in_a_class_is_passed_over(tmp_path: Path) -> None:
    image_folders.make("plain", tmp_path)
    thumb = tmp_path / "imagenet" / "train" / "n01" / "@eaDir" / "SYNOPHOTO_THUMB_M.jpg"
    thumb.parent.mkdir()
    Image.new("RGB", (8, 8)).save(thumb)
    (tmp_path / "imagenet" / "train" / "@eaDir").mkdir()
    found = folders.read(tmp_path / "imagenet")
    assert (len(found.files), found.notes) == (36, ())


def test_a_colour_that_is_none_and_pages_behind_the_first_are_told(tmp_path: Path) -> None:
    """Opacity of a palette, or of one grey, is no mode of its own."""
    Image.new("P", (8, 8)).save(tmp_path / "palette.png", transparency=0)
    Image.new("L", (8, 8)).save(tmp_path / "grey.png", transparency=0)
    Image.new("L", (8, 8)).save(tmp_path / "pages.tif", save_all=True, append_images=[Image.new("L", (8, 8))])
    looks = [pictures.look(tmp_path / name) for name in ("palette.png", "grey.png", "pages.tif")]
    assert looks == ["P 8x8 through", "L 8x8 through", "L 8x8 pages"]
    assert pictures.told(looks) == [
        "pictures with opacity, which was dropped: 2",
        "files of several pictures, of which the first was taken: 1",
    ]
