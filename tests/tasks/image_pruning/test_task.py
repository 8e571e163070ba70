"""The task: counts to the unit, budgets to the image, data of one's own through the same door."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from reference_impls.parts.training import Trainer
from suite import registry
from suite.meters import operations
from suite.naming import UserError
from suite.protocol import OverBudget
from tasks.image_pruning import data
from tasks.image_pruning.task import RECIPES, Network
from tasks.images.recipes import Recipe, Sgd
from tests.helpers import MemoryRun, problem, spec
from tests.tasks.images.helpers import write_npz

TASK = registry.task("image_pruning")


class Attending(torch.nn.Module):
    """Weights of its own in its forward, and attention, whose weights have other names."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.ones(4, 3, 1, 1))
        self.attention = torch.nn.MultiheadAttention(4, 1, bias=False, batch_first=True)
        self.fc = torch.nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, self.kernel).flatten(2).transpose(1, 2)
        return self.fc(self.attention(y, y, y, need_weights=False)[0].mean(1))


class Averaging(torch.nn.Module):
    """Multiplies by what it made itself: no weights at all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.mean(1).flatten(1) @ x.new_ones(x.shape[-1] ** 2, 1)).expand(-1, 10)


def test_networks_of_others_are_weighed() -> None:
    p = problem()
    dense = sum(m.weight.numel() for m in p.model().modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear))
    model = Attending().eval()
    with torch.no_grad():
        model.kernel[0] = 0
    found = {m.name: m.value for m in TASK.weigh(p, Network(model))}
    assert found["kept.nonzero"] == pytest.approx((9 + 3 * 16 + 16 + 40) / dense)
    assert found["macs"] - found["macs_nonzero"] == pytest.approx(p.size**2 * 12 / 4)
    found = {m.name: m.value for m in TASK.weigh(p, Network(Averaging()))}
    assert found["macs_nonzero"] == found["macs"] == p.size**2
    assert found["kept.nonzero"] == 0


@pytest.mark.skipif("x86" not in torch.backends.quantized.supported_engines, reason="no int8 kernels on this processor")
def test_int8_networks_are_weighed() -> None:
    p = problem()
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * p.size**2, 10, bias=False))
    found = {m.name: m.value for m in TASK.weigh(p, Network(torch.ao.quantization.quantize_dynamic(plain, {torch.nn.Linear})))}
    assert found["macs"] == 30 * p.size**2
    assert 0.9 * found["macs"] < found["macs_nonzero"] <= found["macs"]
    assert found["kept.nonzero"] > 0


def test_the_fast_count_is_the_count() -> None:
    p = problem()
    groups = p.groups(p.model())
    assert p.dense_macs == p.macs(p.model())
    draw = np.random.Generator(np.random.Philox(0))
    widths = {g.name: int(draw.integers(1, g.width + 1)) for g in groups}
    assert p.macs_of(widths) == p.macs(p.model(widths))


def test_the_count_warns_of_what_it_cannot_count() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.rfft(x).abs() + torch.cdist(x, x).sum()

    warnings = " ".join(operations.count(Odd(), (torch.zeros(4, 8),)).warnings)
    assert "fft" in warnings
    assert "cdist" in warnings


def test_attention_recurrence_and_sparse_products_are_counted() -> None:
    class Attention(torch.nn.Module):
        def forward(self, q: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(q, q, q)

    q = torch.zeros(1, 2, 5, 4)
    assert operations.count(Attention(), (q,)).total("macs") == 2 * 2 * 5 * 5 * 4
    encoder = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    tokens = 5
    projections = tokens * (4 * 8 * 8 + 2 * 8 * 16)
    assert operations.count(encoder, (torch.zeros(1, tokens, 8),)).total("macs") == projections + 2 * tokens * tokens * 8
    lstm = torch.nn.LSTM(6, 4, batch_first=True)
    assert operations.count(lstm, (torch.zeros(1, 7, 6),)).total("macs") == 7 * (4 * 4 * 6 + 4 * 4 * 4)

    class Sparse(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sparse.mm(torch.eye(6).to_sparse(), x)

    assert operations.count(Sparse(), (torch.zeros(6, 3),)).total("macs") == 6 * 3


def test_batches_are_addressed_and_spend_the_budget() -> None:
    first, again, other = (problem(seed=s) for s in (0, 0, 1))
    a, b, c = (list(p.batches(1)) for p in (first, again, other))
    assert all(torch.equal(x, y) for (x, _), (y, _) in zip(a, b, strict=True))
    assert not torch.equal(a[0][0], c[0][0])
    assert not torch.equal(a[0][0], next(iter(first.batches(2)))[0])
    assert first.run.examples == len(a) * first.batch + first.batch
    assert a[0][0].is_contiguous(memory_format=torch.channels_last)


def test_the_small_tiers_images_are_means_of_two_by_two() -> None:
    with np.load(data.EMBEDDED["fashion"]) as file:
        original = file["test_x"][:5].astype(float)
    images = data.load("fashion", "").x["test"][:5]
    assert images.shape == (5, 3, 16, 16)
    means = original.reshape(5, 14, 2, 14, 2).mean((2, 4))
    assert np.abs(images[:, 0, 1:-1, 1:-1].numpy() - means).max() <= 0.5
    assert not images[:, :, [0, -1]].any()


@pytest.mark.slow
def test_the_recipe_of_a_set_is_the_problems() -> None:
    assert Recipe.of(problem(tier="small")) == Sgd()
    p = problem()
    p.recipe = RECIPES["imagenet"]
    asked = Recipe.of(p, norm_decay=True)
    assert (asked.lr, asked.warmup, asked.mixup, asked.norm_decay) == (1.024, 8, 0.2, True)
    assert asked.weight_decay == 3.0517578125e-5
    assert asked.fine_tune().lr == pytest.approx(0.1024)
    # with warm-up, label smoothing and mixup the loop still learns, and draws the same again
    weights = []
    for _ in range(2):
        p = problem()
        model = p.model()
        Trainer(p).fit("train", model, Sgd(label_smoothing=0.1, mixup=0.2, warmup=1), epochs=2)
        weights.append(model.fc.weight)
    assert torch.equal(*weights)


def test_the_budget_is_the_same_for_all_and_cannot_be_overdrawn() -> None:
    p = problem()
    for epoch in range(p.epochs):
        for _ in p.batches(epoch):
            pass
    assert p.run.examples == p.budget
    with pytest.raises(OverBudget):
        p.sample(1, "score")
    free = problem(division="open")
    for epoch in range(free.epochs + 1):
        for _ in free.batches(epoch):
            pass


def test_augmentation_is_a_crop_and_a_flip_of_the_image() -> None:
    p = problem()
    images = p.source.examples
    padded = p.source._padded
    order = torch.randperm(len(images.y["train"]), generator=torch.Generator().manual_seed(p.run.seed("order", 0)))
    x, y = next(iter(p.batches(0)))
    assert torch.equal(y, images.y["train"][order[: len(y)]])
    for k in range(5):
        windows = padded[order[k]].unfold(1, p.size, 1).unfold(2, p.size, 1)  # (3, tops, lefts, size, size)
        both = torch.stack([windows, windows.flip(-1)])
        assert (both == x[k][None, :, None, None]).all(1).all(-1).all(-1).any()


def test_the_speed_division_needs_no_images() -> None:
    p = problem(tier="paper", case="imagenet/resnet18", division="speed")
    assert list(p.batches(0)) == []
    x, y = p.sample(4, "scores")
    assert (x.shape, int(y.max()) < 1000, p.batch) == ((4, 3, 224, 224), True, 1024)
    assert np.isnan(p.validate(p.model()))
    assert TASK.digest(p.spec) != TASK.digest(problem(division="speed").spec)
    with pytest.raises(UserError, match="knows no set"):
        problem(tier="paper", case="unheard/resnet18", division="speed")


def test_another_rgb_set_through_the_same_door(tmp_path: Path) -> None:
    write_npz(tmp_path)
    asked = spec(tier="small", case="mine/resnet20", data=str(tmp_path))
    p = TASK.problem(asked, MemoryRun(asked))
    assert (p.size, p.classes, p.source.train_count) == (48, 4, 300)
    x, _ = next(iter(p.batches(0)))
    assert x.shape == (128, 3, 48, 48)
    assert abs(float(x.mean())) < 0.3
    evidence = TASK.examine(p, Network(p.model()))
    measures = {(m.name, m.part): m for m in TASK.score(asked, evidence)}
    assert len(evidence["row"]) == 60
    assert ("class_accuracy", "class 3") in measures
    assert len(TASK.digest(asked)) == 64


def test_cifar_from_its_official_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from suite.compat import import_torchvision

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    draw = np.random.Generator(np.random.Philox(2))
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name in names:
        batch = {"data": draw.integers(0, 256, (40, 3072), dtype=np.uint8), "labels": draw.integers(0, 10, 40).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"c{i}" for i in range(10)]}))
    asked = spec(tier="paper", case="cifar10/resnet20", data=str(tmp_path))
    with pytest.raises(UserError, match="not the official one"):  # checksums are verified
        TASK.problem(asked, MemoryRun(asked))
    monkeypatch.setattr(import_torchvision().datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(import_torchvision().datasets.cifar, "check_integrity", lambda *_: True)
    p = TASK.problem(asked, MemoryRun(asked))
    assert (p.size, p.classes, p.epochs, p.source.train_count) == (32, 10, 160, 180)
    assert next(iter(p.batches(0)))[0].shape == (128, 3, 32, 32)


@pytest.mark.slow
def test_imagenet_from_its_folders(tmp_path: Path) -> None:
    from PIL import Image

    draw = np.random.Generator(np.random.Philox(3))
    for split, count in (("train", 6), ("val", 3)):
        for name in ("n01440764", "n01443537"):
            (tmp_path / "imagenet" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (260, 300, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "imagenet" / split / name / f"{i}.JPEG")
    asked = spec(tier="paper", case="imagenet/resnet18", data=str(tmp_path))
    p = TASK.problem(asked, MemoryRun(asked))
    p.source.workers = 0
    assert (p.size, p.classes, p.epochs) == (224, 2, 250)
    order, augment = p.run.seed("order"), p.run.seed("augment")
    (x, _), *_ = p.source.train(order, augment, p.batch)
    assert x.shape == (p.batch, 3, 224, 224)
    state = torch.get_rng_state()
    (half, _), *_ = p.source.train(order, augment, p.batch, slice(p.batch // 2, p.batch))
    assert torch.equal(half, x[p.batch // 2 :]), "a process draws what it would have drawn alone"
    assert torch.equal(state, torch.get_rng_state()), "the stream of the training is its own"
    assert not torch.equal(x, next(iter(p.source.train(order, augment + 1, p.batch)))[0])
    p.source.workers = 2
    (shared, _), *_ = p.source.train(order, augment, p.batch)
    assert torch.equal(shared, x), "whoever loads an image crops it alike"
    p.source.workers = 0
    pieces = [x for x, _ in p.samples(5, "scores", 2)]
    assert [len(x) for x in pieces] == [2, 2, 1]
    assert torch.equal(torch.cat(pieces), p.sample(5, "scores")[0])
    assert len(TASK.examine(p, Network(p.model()))["row"]) == 6


def test_score_is_what_it_says() -> None:
    evidence = {
        "row": np.arange(8, dtype=np.int32),
        "label": np.array([0, 0, 0, 0, 1, 1, 2, 2], np.int16),
        "prediction": np.array([0, 0, 0, 1, 1, 0, 0, 0], np.int16),
        "confidence": np.full(8, 0.5, np.float16),
    }
    found = {(m.name, m.part): m.value for m in TASK.score(spec(case="x/resnet20"), evidence)}
    assert found["top1", ""] == 50.0
    assert found["balanced_accuracy", ""] == pytest.approx(100 * (0.75 + 0.5 + 0) / 3)
    assert found["worst_class", ""] == 0.0
    assert found["class_accuracy", "class 0"] == 75.0
    assert found["calibration_error", ""] == 0.0
    with pytest.raises(UserError):
        TASK.score(spec(), {**evidence, "confidence": np.full(8, np.nan, np.float16)})
