"""Compact forms of the shipped sets and what they stand for; ACSIncome from its official file.

A compact table holds every column once, in whole numbers: Adult is a quarter of a megabyte then, and 21 MB as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from suite.naming import UserError
from tasks.fair_pruning.sets import ACS_RACES
from tasks.images.datasets import Arrays

if TYPE_CHECKING:
    import pandas as pd

UNSEEN = 255  #: the code of a value that the training rows do not have: none of its inputs is set
ACS_NUMBERS = ("AGEP", "SCHL", "WKHP")
#: values of a one-hot column in order, and what a code is divided by: occupations and places of birth by their hundreds
ACS_CODES: Mapping[str, tuple[range, int]] = {
    "COW": (range(1, 10), 1),
    "MAR": (range(1, 6), 1),
    "OCCP": (range(100), 100),
    "POBP": (range(6), 100),
    "RELP": (range(18), 1),
    "RAC1P": (range(1, 10), 1),
}
ACS_INCOME = 50_000  #: dollars; above it is the label 1
ACS_TEST = 0.2  #: of the rows, by seed 0
ACS_WHERE = (
    "put there ACSIncome, 2018, all states, as www.openml.org/d/43141 gives it: acsincome.parquet or acsincome.arff"
    " (American Community Survey, public-use microdata of the US Census Bureau, by folktables; public domain)"
)


def expand(table: Mapping[str, np.ndarray]) -> Arrays:
    """A compact table as the arrays that `tasks.images.datasets.examples` takes; val is left out.

    Inputs, float32 (n, d), in this order: ``numbers``, standardised with the training rows' mean and deviation; ``categories``,
    codes uint8 with the names of the values in ``{name}_names``, one-hot; ``flags``, 0 or 1, as they are.  Each name has
    ``{split}_{name}`` (n,) of train and test.  ``columns``, the attributes, and ``group`` stay what they are.
    """
    numbers, categories, flags = ([str(n) for n in table.get(k, ())] for k in ("numbers", "categories", "flags"))
    scales = {n: _mean_and_deviation(table[f"train_{n}"]) for n in numbers}
    columns = [str(n) for n in table["columns"]]
    arrays = {k: table[k] for k in ("classes", "columns", "group", *(f"{n}_names" for n in columns))}
    for split in ("train", "test"):
        y = table[f"{split}_y"]
        widths = [len(table[f"{n}_names"]) for n in categories]
        x = np.zeros((len(y), len(numbers) + sum(widths) + len(flags)), np.float32)
        for i, n in enumerate(numbers):
            mean, deviation = scales[n]
            x[:, i] = (table[f"{split}_{n}"] - mean) / deviation
        first = len(numbers)
        for n, width in zip(categories, widths, strict=True):
            x[:, first : first + width] = table[f"{split}_{n}"][:, None] == np.arange(width)
            first += width
        for i, n in enumerate(flags):
            x[:, first + i] = table[f"{split}_{n}"]
        arrays |= {f"{split}_x": x, f"{split}_y": y} | {f"{split}_{n}": table[f"{split}_{n}"] for n in columns}
    return arrays


def _mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Of whole numbers (n,); a constant's deviation is taken as 1.

    In integers: exact, and the same on every machine.
    """
    n, total, squares = len(values), int(values.sum(dtype=np.int64)), int((values.astype(np.int64) ** 2).sum())
    return total / n, ((n * squares - total**2) / n**2) ** 0.5 or 1.0


def residuals(images: np.ndarray) -> np.ndarray:
    """What is left of images uint8 (n, h, w, 3) when each pixel is foretold by its neighbours: uint8 (n, 3, h, w).

    Photographs deflate to two thirds that way.  Everything is modulo 256, so nothing is lost.
    """
    planes = np.moveaxis(images, -1, 1).copy()
    planes[:, ::2] -= planes[:, 1:2]  # red and blue go with green
    planes[:, :, 1:] -= planes[:, :, :-1].copy()
    planes[..., 1:] -= planes[..., :-1].copy()
    return planes


def images(residuals: np.ndarray) -> np.ndarray:
    """The images of `residuals`, uint8 (n, h, w, 3)."""
    planes = residuals.cumsum(-1, dtype=np.uint8).cumsum(-2, dtype=np.uint8)
    planes[:, ::2] += planes[:, 1:2]
    return np.ascontiguousarray(np.moveaxis(planes, 1, -1))


def locate_acsincome(root: Path) -> Path:
    """ACSIncome's file in a folder; raises UserError that says where to get it."""
    found = [p for p in (root / "acsincome.parquet", root / "acsincome.arff") if p.is_file()]
    if not found:
        raise UserError(f"no acsincome.parquet in {root}: {ACS_WHERE}")
    return found[0]


def acsincome(path: Path) -> Arrays:
    """ACSIncome as a compact table: 151 inputs, sex and race among them.

    An occupation is one of a hundred, a place of birth one of six (the United States, then continents): the hundreds of their
    codes.  With every code an input of its own there would be some 800.
    """
    frame = _acs_frame(path)
    count = len(frame["AGEP"])
    test = np.zeros(count, bool)
    test[np.random.Generator(np.random.Philox(0)).permutation(count)[: round(ACS_TEST * count)]] = True
    columns = {n: frame[n] for n in ACS_NUMBERS}
    for name, (known, divisor) in ACS_CODES.items():
        codes = frame[name] // divisor - known[0]
        columns[name] = np.where((codes >= 0) & (codes < len(known)), codes, UNSEEN).astype(np.uint8)
    for name, most in (("SEX", 2), ("RAC1P", len(ACS_RACES))):
        if frame[name].min() < 1 or frame[name].max() > most:
            raise UserError(f"{path}: {name} has values {frame[name].min()}..{frame[name].max()}; they must be in 1..{most}")
    columns |= {"sex": (2 - frame["SEX"]).astype(np.uint8), "race": columns["RAC1P"]}
    columns["y"] = (frame["PINCP"] > ACS_INCOME).astype(np.uint8)
    table: Arrays = {"numbers": np.array(ACS_NUMBERS), "categories": np.array(list(ACS_CODES)), "flags": np.array(["sex"])}
    table |= {f"{n}_names": np.array(known) for n, (known, _) in ACS_CODES.items()}
    table |= {"columns": np.array(["sex", "race"]), "group": np.array("sex"), "classes": np.array(["<=50K", ">50K"])}
    table |= {"sex_names": np.array(["Female", "Male"]), "race_names": np.array(ACS_RACES)}
    for name, values in columns.items():
        table |= {f"train_{name}": values[~test], f"test_{name}": values[test]}
    return table


def _acs_frame(path: Path) -> dict[str, np.ndarray]:
    """The columns that are used, int64 (n,)."""
    import pandas as pd

    wanted = [*ACS_NUMBERS, *ACS_CODES, "SEX", "PINCP"]
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else _arff(path)
    except (ValueError, OSError) as e:  # pyarrow's errors and pandas' are among them
        raise UserError(f"{path}: cannot be read ({e}); get it again") from e
    for name in wanted:
        if name not in frame.columns:
            raise UserError(f"{path}: no column {name!r}; there are: {', '.join(str(c) for c in frame.columns)}")
    out = {}
    for name in wanted:
        try:
            values = pd.to_numeric(frame[name].astype(object)).to_numpy(np.float64)
        except (ValueError, TypeError) as e:
            raise UserError(f"{path}: {name} has a value that is no number ({e})") from e
        wrong = ~np.isfinite(values)
        if wrong.any():
            raise UserError(f"{path}: {name} is missing or not finite in row {int(wrong.argmax())}, of {int(wrong.sum())} rows")
        out[name] = values.astype(np.int64)
    if len(frame) < 10:
        raise UserError(f"{path}: {len(frame)} rows: the file is truncated")
    return out


def _arff(path: Path) -> pd.DataFrame:
    """A dense ARFF file: attributes, then lines in commas in which a question mark is a missing value."""
    import pandas as pd

    names, header = [], 0
    with path.open() as file:
        for line in file:
            header += 1
            word, _, rest = line.strip().partition(" ")
            if word.lower() == "@attribute":
                names.append(rest.strip().split(maxsplit=1)[0].strip("'\""))
            if word.lower() == "@data":
                break
        else:
            raise ValueError("no @data line")
    return pd.read_csv(path, skiprows=header, header=None, names=names, na_values="?", index_col=False, comment="%")
