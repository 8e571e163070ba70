"""Makes digits.npz, the 8x8 digits of scikit-learn split by class: ``python -m tasks.vit_training.make_data WHEEL``.

WHEEL: any wheel of scikit-learn, of which digits.csv.gz is read (BSD 3-clause; Alpaydin, Kaynak 1998, CC BY 4.0), checked by its
SHA-256.  clothing10_64_jpeg.zip is shipped as it came: photographs of github.com/alexeygrigorev/clothing-dataset-small
(CC0), cut square and reduced to 64x64.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from suite.naming import UserError
from tasks.images.datasets import Arrays
from tasks.vit_training.data import EMBEDDED

MEMBER = "sklearn/datasets/data/digits.csv.gz"
SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
TEST, VAL = 360, 180  #: of 1,797 images


def digits(images: np.ndarray, labels: np.ndarray) -> Arrays:
    """360 test and 180 validation images, drawn class by class by seed 0; in stored order within each split.

    Args:
        images: (n, 8, 8), 0 to 16.
        labels: (n,) int.
    """
    order = np.random.Generator(np.random.Philox(0)).permutation(len(labels))
    # how far each image is through its own class: the first so many of this order hold every class in its share
    far = np.empty(len(labels))
    for k in np.unique(labels):
        own = order[labels[order] == k]
        far[own] = (np.arange(len(own)) + 0.5) / len(own)
    held = np.argsort(far, kind="stable")[: TEST + VAL]
    test, val = np.sort(held[:TEST]), np.sort(held[TEST:])
    train = np.setdiff1d(np.arange(len(labels)), held)
    arrays: Arrays = {"classes": np.array([str(k) for k in range(10)])}
    for split, rows in (("train", train), ("val", val), ("test", test)):
        arrays |= {f"{split}_x": images[rows].astype(np.uint8), f"{split}_y": labels[rows].astype(np.uint8)}
    return arrays


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=EMBEDDED["digits"].parent)
    options = parser.parse_args(arguments)
    with zipfile.ZipFile(options.wheel) as wheel:
        packed = wheel.read(MEMBER)
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise UserError(f"{options.wheel}: {MEMBER} is another version than the one that this project ships")
    rows = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.int64)
    np.savez_compressed(options.out / EMBEDDED["digits"].name, **digits(rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]))


if __name__ == "__main__":
    main()
