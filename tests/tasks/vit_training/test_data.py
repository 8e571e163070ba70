"""The sets of vit_training: digits on noise are where they are said to be, photographs are the archive's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from suite.naming import UserError
from tasks.vit_training import data, make_data


@pytest.fixture(scope="module")
def digits() -> data.DigitsOnNoise:
    return data.DigitsOnNoise(data.read_digits())


def test_digits_are_split_by_class(digits: data.DigitsOnNoise) -> None:
    arrays = data.read_digits()
    counts = {s: np.bincount(arrays[f"{s}_y"]) for s in ("train", "val", "test")}
    assert {s: int(c.sum()) for s, c in counts.items()} == {"train": 1257, "val": 180, "test": 360}
    assert all(np.ptp(counts[s]) <= 3 for s in ("val", "test"))
    every = np.concatenate([arrays[f"{s}_x"].reshape(-1, 64) for s in counts])
    assert every.min() == 0
    assert every.max() == 16
    assert digits.train_count == 1257


def test_sixteen_patches_tell_the_class_and_the_others_are_noise(digits: data.DigitsOnNoise) -> None:
    ((x, y),) = digits.evaluate("test", 2000)
    assert x.shape == (1080, 3, 32, 32)
    assert torch.equal(x[:, 0], x[:, 2])
    told = digits.informative("test", 4)
    assert told.shape == (1080, 64)
    assert (told.sum(1) == 16).all()
    patches = torch.nn.functional.unfold(x[:, :1], 4, stride=4).transpose(1, 2)  # (n, 64, 16)
    rest = patches[~told]
    assert abs(float(rest.std()) - data.SIGMA) < 0.002
    assert abs(float(rest.mean())) < 0.002
    # what lies over the noise is the doubled digit, of which the mean is known
    shown = data.read_digits()["test_x"][digits.pictures("test").numpy()].reshape(len(x), -1).mean(1) / 16
    over = patches[told].view(len(x), -1).mean(1).numpy()
    assert np.abs(over - shown).max() < 5 * data.SIGMA / 16
    assert torch.equal(y[::3], y[2::3])


def test_a_patch_of_eight_holds_at_least_four_that_tell(digits: data.DigitsOnNoise) -> None:
    count = digits.informative("test", 8).sum(1)
    assert set(count.tolist()) == {4, 6, 9}  # an offset of 4 pixels cuts patches of 8


def test_training_digits_are_placed_anew_each_epoch_and_alike_whatever_is_chosen(digits: data.DigitsOnNoise) -> None:
    among = torch.arange(100, 400)
    rows = torch.cat(list(digits.rows(5, 50, among=among)))
    x = torch.cat([b for b, _ in digits.train(5, 7, 50, among=among)])
    assert set(rows.tolist()) <= set(among.tolist())
    whole = torch.cat([b for b, _ in digits.train(9, 7, 1257)])
    where = torch.cat(list(digits.rows(9, 1257)))
    placed = {int(r): w for r, w in zip(where, whole, strict=True)}
    assert all(torch.equal(placed[int(r)], v) for r, v in zip(rows, x, strict=True))
    other = torch.cat([b for b, _ in digits.train(9, 8, 1257)])
    assert not torch.equal(whole, other)


def test_a_process_gets_its_share_of_each_batch(digits: data.DigitsOnNoise) -> None:
    whole = [x for x, _ in digits.train(1, 2, 48)]
    mine = [x for x, _ in digits.train(1, 2, 48, slice(1, None, 2))]
    assert all(torch.equal(a[1::2], b) for a, b in zip(whole, mine, strict=True))


@pytest.mark.slow
def test_photographs_are_the_archives() -> None:
    clothes = data.clothing()
    assert {s: tuple(x.shape) for s, x in clothes.x.items()} == {
        "train": (3068, 3, 64, 64), "val": (341, 3, 64, 64), "test": (372, 3, 64, 64),
    }  # fmt: skip
    assert clothes.classes == ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")
    counts = torch.bincount(clothes.y["train"]).tolist()
    assert counts == [241, 123, 455, 184, 468, 290, 198, 202, 112, 795]
    assert len(clothes.y["train"][:200].unique()) == 10  # the first ones, a sliver, are of all classes


def test_the_shipped_digits_are_what_the_script_makes(tmp_path: Path) -> None:
    original = os.environ.get("WEIGHIN_ORIGINAL_SKLEARN")
    if not original:
        pytest.skip("WEIGHIN_ORIGINAL_SKLEARN does not name the original file")
    make_data.main([original, "--out", str(tmp_path)])
    with np.load(tmp_path / "digits.npz") as new, np.load(data.EMBEDDED["digits"]) as old:
        assert new.files == old.files
        assert all(np.array_equal(new[k], old[k]) for k in new.files)


def test_a_missing_set_says_what_to_put_where() -> None:
    with pytest.raises(UserError, match="--data DIR"):
        data.source("mine", "")
    with pytest.raises(UserError, match="imagenet, clothing10, digits"):
        data.shapes("mine")


def test_the_task_is_listed_without_torch() -> None:
    asked = "import sys; from suite import registry; registry.task('vit_training'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", asked], check=True)
