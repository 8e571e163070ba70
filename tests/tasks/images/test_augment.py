"""Augmentation is addressed: the same whoever loads it, and no other stream of random numbers moves."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reference_impls.parts.training import Trainer
from suite.naming import UserError
from tasks.images.augment import CropFlip, Deit
from tasks.images.recipes import AdamW
from tasks.images.sources import InMemory, epoch_rows
from tests.tasks.images.helpers import pictures, problem, timm


@pytest.fixture
def deit() -> Deit:
    timm("timm")
    return Deit()


def epoch(source: InMemory, seed: int = 2, mine: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(source.train(1, seed, 8, mine))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@pytest.mark.slow
def test_deits_augmentation_is_the_same_whatever_the_number_of_workers(deit: Deit) -> None:
    x, y = epoch(InMemory(pictures(), deit))
    assert x.shape == (64, 3, 16, 16)
    for workers in (1, 2):
        found = epoch(InMemory(pictures(), deit, workers))
        assert torch.equal(found[0], x)
        assert torch.equal(found[1], y)
    assert not torch.equal(epoch(InMemory(pictures(), deit), seed=3)[0], x)
    half, _ = epoch(InMemory(pictures(), deit), mine=slice(0, None, 2))
    assert torch.equal(half, x[::2]), "a process draws what it would have drawn alone"


def test_it_moves_no_other_stream(deit: Deit) -> None:
    states = [torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()]
    x, y = epoch(InMemory(pictures(), deit))
    deit.mix(x, y, 3, seed=4)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()


def test_repeated_augmentation_shows_fewer_images_each_varied_anew(deit: Deit) -> None:
    source = InMemory(pictures(), deit)
    rows = torch.cat(list(source.rows(1, 8)))
    x, y = epoch(source)
    assert torch.equal(y, source.examples.y["train"][rows])
    assert len(rows) == 64
    shown, copies = rows.unique(return_counts=True)
    assert (len(shown), copies.max()) == (22, 3)
    first = (rows == rows[0]).nonzero().flatten()
    assert first.tolist() == [0, 1, 2]
    assert not torch.equal(x[0], x[1])
    assert not torch.equal(x[1], x[2])


def test_repeats_are_timms() -> None:
    sampler = timm("timm.data.distributed_sampler").RepeatAugSampler(range(1024), num_replicas=1, rank=0, num_repeats=3)
    sampler.set_epoch(5)
    shuffled = torch.randperm(1024, generator=torch.Generator().manual_seed(5))
    assert epoch_rows(shuffled, 3, 256)[0].flatten().tolist() == list(sampler)


def test_an_epoch_is_of_whole_batches_and_counts_copies() -> None:
    rows, copies = epoch_rows(torch.arange(10), 1, 4)
    assert rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert not copies.any()
    rows, copies = epoch_rows(torch.arange(10), 3, 4)
    assert (rows.tolist(), copies.tolist()) == ([[0, 0, 0, 1], [1, 1, 2, 2]], [[0, 1, 2, 0], [1, 2, 0, 1]])


def test_a_batch_is_mixed_by_its_seed_and_its_targets_say_how(deit: Deit) -> None:
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    before = x.clone()
    mixed, target = deit.mix(x, y, 3, seed=1)
    assert torch.equal(x, before)
    assert torch.equal(deit.mix(x, y, 3, seed=1)[0], mixed)
    assert not torch.equal(deit.mix(x, y, 3, seed=2)[0], mixed)
    torch.testing.assert_close(target.sum(1), torch.ones(8))
    plain = Deit(cutmix=0.0, smoothing=0.0)
    mixed, target = plain.mix(x, y, 3, seed=1)
    share = float(target[0, 0])  # the first and the last image are of classes 0 and 1
    torch.testing.assert_close(mixed, share * x + (1 - share) * x.flip(0))
    torch.testing.assert_close(target, share * F.one_hot(y, 3) + (1 - share) * F.one_hot(y.flip(0), 3))
    assert deit.mix(x[:4], y[:4], 3, 1)[0].shape == (4, 3, 16, 16)
    with pytest.raises(UserError, match="even"):
        deit.mix(x[:3], y[:3], 3, 1)


def test_where_nothing_is_mixed_labels_stay_labels(deit: Deit) -> None:
    x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
    for still in (Deit(mixup=0.0, cutmix=0.0), CropFlip()):
        assert still.mix(x, y, 4, 0) == (x, y)


@pytest.mark.slow
def test_a_network_learns_under_deits_augmentation_and_draws_the_same_again(deit: Deit) -> None:
    def solve(workers: int) -> tuple[list[float], torch.Tensor]:
        p = problem(InMemory(pictures(), deit, workers), "resnet20", AdamW(lr=5e-3, warmup=1, stepwise=True), epochs=4, batch=16)
        x, y = next(iter(problem(p.source, "resnet20", batch=16).batches(0)))
        assert (y.shape, y.dtype, x.shape) == ((16, 3), torch.float32, (16, 3, 16, 16))
        model = Trainer(p).fit("train", p.model(), p.recipe, epochs=4)
        assert p.run.examples == p.budget
        return [v for n, v in p.run.values if n == "train_loss"], model.fc.weight.detach()

    losses, weight = solve(0)
    assert losses[-1] < losses[0]
    again = solve(2)
    assert again[0] == losses
    assert torch.equal(again[1], weight)


def test_small_images_are_cropped_and_pictures_are_resized(deit: Deit) -> None:
    mean, std = (0.5,) * 3, (0.25,) * 3
    small, large = (deit.training(size, mean, std).transforms[0] for size in (32, 224))
    assert (type(small).__name__, small.padding) == ("RandomCrop", 4)
    assert "ResizedCrop" in type(large).__name__
    assert large.scale == (0.08, 1.0)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "timm.data", raising=False)
    for use in (
        lambda: Deit().training(32, (0.5,) * 3, (0.5,) * 3),
        lambda: Deit().mix(torch.zeros(2, 3, 4, 4), torch.zeros(2), 2, 0),
    ):
        with pytest.raises(UserError, match=r"weighin\[vit\]"):
            use()
    assert CropFlip().training(32, (0.5,) * 3, (0.5,) * 3) is not None
