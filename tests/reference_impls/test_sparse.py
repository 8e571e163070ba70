"""Unstructured sparsity: counts to the weight, scores against the authors' code, every method end to end."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from reference_impls.image_pruning.gmp import Shrinking
from reference_impls.image_pruning.random_weights import RandomWeights
from reference_impls.image_pruning.rigl import Rigging, Rigl, swap
from reference_impls.image_pruning.set import Evolving, Set
from reference_impls.parts import rewinding, saliency, sparse
from reference_impls.parts.training import Trainer
from suite import registry
from suite.naming import UserError
from suite.protocol import Stopped
from tasks.images.recipes import Sgd
from tests.helpers import MemoryRun, problem, spec

GOLDEN = Path(__file__).parents[1] / "golden"
UNSTRUCTURED = ("random_weights", "magnitude", "gmp", "snip", "grasp", "synflow", "rigl", "set", "imp")
EXPLORING = ("gmp", "rigl", "set")


class GoldenNet(nn.Module):
    """The network of the golden vectors."""

    def __init__(self, z: dict[str, np.ndarray]) -> None:
        super().__init__()
        shapes = {n: z[f"W_{n}"].shape for n in ("c1", "c2", "fc")}
        self.c1 = nn.Conv2d(shapes["c1"][1], shapes["c1"][0], 3, padding=1, bias=False)
        self.c2 = nn.Conv2d(shapes["c2"][1], shapes["c2"][0], 3, padding=1, stride=2, bias=False)
        self.fc = nn.Linear(shapes["fc"][1], shapes["fc"][0], bias=False)
        with torch.no_grad():
            for name in shapes:
                getattr(self, name).weight.copy_(torch.from_numpy(z[f"W_{name}"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.c2(F.relu(self.c1(x)))).mean((2, 3)))


@pytest.mark.parametrize("name", ["mag", "snip", "grasp", "synflow"])
def test_scores_and_masks_are_the_authors(name: str) -> None:
    with np.load(GOLDEN / "pruning_baselines_scores.npz") as file:
        z = dict(file)
    model = GoldenNet(z)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    layers = sparse.weighted(model)
    batch = (torch.from_numpy(z["x"]), torch.from_numpy(z["y"]).long())
    score = {
        "mag": lambda: sparse.magnitudes(layers),
        "snip": lambda: saliency.snip(model, layers, [batch]),
        "grasp": lambda: saliency.grasp(model, layers, [batch]),
        "synflow": lambda: saliency.synflow(model, layers, tuple(z["x"].shape[1:])),
    }[name]
    found = score()
    largest = max(float(np.abs(z[f"{name}_score_{n}"]).max()) for n in layers)
    for n in layers:
        np.testing.assert_allclose(found[n].detach(), z[f"{name}_score_{n}"], atol=1e-6 * largest, rtol=1e-5)
    size = sum(m.weight.numel() for m in layers.values())
    count = size - int((1 - float(z["density"])) * size)
    masks = saliency.prune_iteratively(layers, score, count, int(z[f"{name}_steps"]), float(z["density"]))
    for n in layers:
        np.testing.assert_array_equal(masks[n], z[f"{name}_mask_{n}"].astype(bool))
    for n, t in model.state_dict().items():
        assert torch.equal(t, before[n]), "scoring changed the network"


@pytest.mark.parametrize(("widths", "density"), [((8, 8, 11), 0.09), ((12, 10, 9), 0.03), ((13, 12, 13), 0.17)])
def test_a_schedule_goes_by_the_density_and_not_by_the_count_that_it_rounds_to(widths: tuple[int, ...], density: float) -> None:
    """SynFlow (Tanaka et al. 2020): k = int((1 - d_e) N) of the scores go, d_e = d^((e+1)/E), where d N is no whole number."""
    generator = torch.Generator().manual_seed(0)
    a, b, c = widths
    shapes = {"c1": (a, 3, 3, 3), "c2": (b, a, 3, 3), "fc": (c, b)}
    model = GoldenNet({f"W_{n}": torch.randn(s, generator=generator).numpy() for n, s in shapes.items()})
    layers = sparse.weighted(model)
    size, steps = sum(m.weight.numel() for m in layers.values()), 100
    assert size * density != int(size * density)

    start = {n: m.weight.detach().clone() for n, m in layers.items()}
    expected = {n: torch.ones_like(w) for n, w in start.items()}
    for e in range(steps):
        k = int((1 - density ** ((e + 1) / steps)) * size)
        scores = saliency.synflow(model, layers, (3, 8, 8))
        threshold = torch.cat([s.flatten() for s in scores.values()]).sort().values[k - 1] if k else -1
        expected = {n: m * (scores[n] > threshold) for n, m in expected.items()}
        with torch.no_grad():
            for n, m in layers.items():
                m.weight.copy_(start[n] * expected[n])
    with torch.no_grad():
        for n, m in layers.items():
            m.weight.copy_(start[n])

    count = size - int((1 - density) * size)
    masks = saliency.prune_iteratively(layers, lambda: saliency.synflow(model, layers, (3, 8, 8)), count, steps, density)
    for n, mask in masks.items():
        assert torch.equal(mask, expected[n].bool()), n


def test_four_rounds_of_global_pruning() -> None:
    with np.load(GOLDEN / "structure_lth_imp.npz") as file:
        z = dict(file)
    masks = {n: torch.ones(z[f"round0_{n}_weight"].shape, dtype=torch.bool) for n in ("conv2", "conv3")}
    counts = rewinding.ladder(sparse.alive(masks), 1, float(z["rate"]), whole=round)
    for k in range(4):
        scores = {n: torch.from_numpy(z[f"round{k}_{n}_weight"]).abs() for n in masks}
        masks = sparse.keep_top(scores, counts[k], among=masks)
        for n, mask in masks.items():
            np.testing.assert_array_equal(mask, z[f"round{k}_{n}_mask"].astype(bool))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 50), st.randoms())
def test_keep_top_keeps_that_many_whatever_the_scores(sizes: list[int], count: int, random: object) -> None:
    generator = torch.Generator().manual_seed(sum(sizes) + count)
    scores = {str(i): torch.randint(0, 3, (n,), generator=generator).float() for i, n in enumerate(sizes)}
    among = {n: torch.rand(s.shape, generator=generator) < 0.5 for n, s in scores.items()}
    assert sparse.alive(sparse.keep_top(scores, count)) == min(count, sum(sizes))
    inside = sparse.keep_top(scores, count, among=among)
    assert sparse.alive(inside) == min(count, sparse.alive(among))
    assert not any((m & ~among[n]).any() for n, m in inside.items())


def test_ties_go_to_the_earlier_and_nan_is_smallest() -> None:
    scores = {"a": torch.tensor([1.0, float("nan"), 1.0]), "b": torch.tensor([1.0, -float("inf")])}
    masks = sparse.keep_top(scores, 2)
    assert masks["a"].tolist() == [True, False, True]
    assert masks["b"].tolist() == [False, False]
    only = {"a": torch.tensor([False, True, False]), "b": torch.tensor([False, True])}
    assert sparse.alive(sparse.keep_top(scores, 2, among=only)) == 2


@given(st.floats(0.01, 1.0), st.integers(1, 40), st.integers(1, 40))
def test_erk_sums_to_its_budget(density: float, c_in: int, c_out: int) -> None:
    shapes = {"stem": (c_out, 3, 3, 3), "conv": (c_out, c_in, 3, 3), "fc": (10, c_out)}
    total = sum(int(np.prod(s)) for s in shapes.values())
    count = max(3, round(density * total))
    counts = sparse.erk_counts(shapes, count)
    assert sum(counts.values()) == min(count, total)
    assert all(0 <= counts[n] <= np.prod(s) for n, s in shapes.items())
    shares = sparse.erk_densities(shapes, density)
    assert sum(shares[n] * np.prod(s) for n, s in shapes.items()) == pytest.approx(density * total)


def test_swap_drops_the_weakest_and_lets_the_wished_for_return() -> None:
    strength = torch.tensor([5.0, 1.0, 3.0, 0.0, 0.0])
    mask = torch.tensor([1, 1, 1, 0, 0], dtype=torch.bool)
    assert swap(strength, torch.tensor([0.0, 0, 0, 9, 1]), mask, 1).tolist() == [True, False, True, True, False]
    assert swap(strength, torch.tensor([0.0, 9, 0, 1, 1]), mask, 1).tolist() == mask.tolist()
    assert swap(strength, torch.zeros(5), mask, 0) is mask


def test_masks_hold_for_weights_and_momentum() -> None:
    p = problem(target="nonzero=0.2")
    model = p.model()
    layers = sparse.maskable(model)
    masks = sparse.keep_top(sparse.magnitudes(layers), sparse.target_count(p, model, layers))
    hooks = sparse.Masked(layers, masks)
    Trainer(p).fit("train", model, Sgd(), epochs=1, hooks=hooks)
    assert hooks.optimizer is not None
    for name, layer in layers.items():
        assert not layer.weight[~masks[name]].any()
        assert not hooks.optimizer.state[layer.weight]["momentum_buffer"][~masks[name]].any()
        assert layer.weight[masks[name]].all()


def test_the_ladder_and_the_plan() -> None:
    assert sparse.small_interval(93) == sparse.small_interval(93, "smoke") == 50
    assert sparse.small_interval(93, least=1) == 46
    assert sparse.small_interval(390, "paper") == sparse.small_interval(1251, "paper", least=1) == 100
    assert rewinding.ladder(1000, 512, 0.2) == [800, 640, 512]
    assert rewinding.ladder(1000, 600, 0.2) == [800, 640, 600]
    assert rewinding.ladder(1000, 100, 0.2, most=2) == [316, 100]
    for epochs in (3, 6, 18, 60, 160):
        for trainings in (t for t in (1, 2, 3, 6) if t <= epochs):
            spread = rewinding.plan(epochs, trainings, 0.05)
            assert spread.first + (trainings - 1) * spread.each == epochs
            assert 1 <= spread.each <= spread.first
            assert 0 <= spread.rewind < spread.first
    assert rewinding.plan(18, 6, 0.05) == rewinding.Plan(first=8, each=2, rewind=1, skip=1)
    # Chen et al. 2022: a fresh schedule, the whole length
    assert rewinding.plan(18, 6, 0.05, fresh=True) == rewinding.Plan(first=3, each=3, rewind=1, skip=0)
    whole = Sgd(lr=1.0)
    assert rewinding.later(whole, 2).rate(0, 8) == whole.rate(2, 10)


def configured(name: str) -> Any:
    # at smoke size the default interval comes after the last step; SynFlow's cuts are alike, fewer take less
    settings = ["interval=2"] if name in EXPLORING else ["steps=20"] if name == "synflow" else []
    return registry.configure(registry.load(registry.method("image_pruning", name)), settings)


@functools.cache
def straight(name: str) -> tuple[Any, Any]:
    """A problem and its solve that nothing stops, one for all tests that look at it or hold another against it."""
    p = problem(target="nonzero=0.2")
    return p, configured(name).solve(p)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSTRUCTURED)
def test_every_method_meets_its_target_within_its_budget(name: str) -> None:
    p, trained = straight(name)
    size = sum(m.weight.numel() for m in sparse.weighted(p.model()).values())
    fast = problem(target="nonzero=0.2", division="speed")
    for asked, found in ((p, trained), (fast, configured(name).solve(fast))):
        weighed = {m.name: m.value for m in registry.task("image_pruning").weigh(asked, found)}
        assert round(weighed["kept.nonzero"] * size) == round(0.2 * size)
        assert weighed["kept.macs"] == 1.0, "nothing is smaller in fact"
    assert 0 < p.run.examples <= p.budget


@pytest.mark.parametrize("layerwise", ["erk", "uniform", "global"])
def test_random_weights_are_as_many_as_asked(layerwise: str) -> None:
    p = problem(target="nonzero=0.1234", division="speed")
    layers = sparse.weighted(RandomWeights(layerwise=layerwise).solve(p).model)  # type: ignore[arg-type]
    kept = {n: int(m.weight.count_nonzero()) for n, m in layers.items()}
    size = {n: m.weight.numel() for n, m in layers.items()}
    assert sum(kept.values()) == round(0.1234 * sum(size.values()))
    free = [n for n in layers if n != "conv1"]
    density = sum(kept[n] for n in free) / sum(size[n] for n in free)
    off = [abs(kept[n] - density * size[n]) for n in free]
    if layerwise == "uniform":
        assert max(off) < 1
    elif layerwise == "global":
        assert max(off) > 1
        assert all(d < 5 * (size[n] * density) ** 0.5 for n, d in zip(free, off, strict=True))


def test_pieces_score_like_one_batch() -> None:
    with np.load(GOLDEN / "pruning_baselines_scores.npz") as file:
        z = dict(file)
    model = GoldenNet(z)
    layers = sparse.weighted(model)
    x, y = torch.from_numpy(z["x"]), torch.from_numpy(z["y"]).long()
    cut = [3, 3, len(x) - 6]
    pieces = list(zip(x.split(cut), y.split(cut), strict=True))
    for score in (saliency.snip, saliency.grasp):
        whole, parts = score(model, layers, [(x, y)]), score(model, layers, pieces)
        largest = max(float(s.abs().max()) for s in whole.values())
        for n in layers:
            torch.testing.assert_close(parts[n], whole[n], rtol=1e-5, atol=1e-6 * largest)
    assert saliency.piece((3, 32, 32)) == 1024
    assert saliency.piece((3, 224, 224)) == 20
    assert saliency.piece((3, 4096, 4096)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_many_classes_do_not_overdraw_a_small_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saliency, "PIECE_PIXELS", 200 * 16 * 16)
    p = problem(target="nonzero=0.2")
    registry.configure(registry.load(registry.method("image_pruning", name)), ["per_class=1000"]).solve(p)
    assert p.run.examples == p.budget


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_scoring_leaves_statistics_and_modes_alone(name: str) -> None:
    p = problem(target="nonzero=0.2")
    model = p.model().train()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            m.num_batches_tracked.fill_(7)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    layers = sparse.maskable(model, stem=True)
    batches = [p.sample(20, "test")]
    if name == "synflow":
        saliency.synflow(model, layers, p.input)
    else:
        getattr(saliency, name)(model, layers, batches)
    assert all(m.training for m in model.modules())
    for n, t in model.state_dict().items():
        assert torch.equal(t, before[n]), n
        assert t.dtype == before[n].dtype


def test_gradual_pruning_follows_its_cubic() -> None:
    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(4, 25, 2, bias=False), "b": nn.Linear(30, 20, bias=False)}
    hooks = Shrinking(layers, 100, 3, 10)
    kept = []
    for _ in range(13):
        hooks.after_backward()
        hooks.after_step()
        kept.append(sparse.alive(hooks.masks))
    assert kept[:2] == [1000, 1000]
    for step in (3, 6, 9, 10):
        assert kept[step - 1] == 1000 - round(900 * (1 - (1 - step / 10) ** 3))
    assert kept[-1] == 100
    assert sum(int(m.weight.count_nonzero()) for m in layers.values()) == 100


@pytest.mark.parametrize("grow", ["set", "gradient", "random"])
def test_exploring_conserves_the_count_drops_the_smallest_and_starts_at_zero(grow: str) -> None:
    p = problem(target="nonzero=0.2")
    model = p.model()
    layers = sparse.maskable(model)
    masks = sparse.random_masks(layers, {n: m.weight.numel() // 3 for n, m in layers.items()}, 1)
    hooks: sparse.Exploring
    if grow == "set":
        hooks = Evolving(Set(interval=1), p, layers, dict(masks), 100)
    else:
        hooks = Rigging(Rigl(interval=1, grow=grow), p, layers, dict(masks), 100)  # type: ignore[arg-type]
    optimizer = Sgd().optimizer(model)
    hooks.begin(optimizer)
    F.cross_entropy(model(torch.randn(8, *p.input)), torch.arange(8)).backward()
    optimizer.step()  # momentum everywhere, also where the masks are not
    hooks.after_step()
    before = {n: m.weight.detach().clone() for n, m in layers.items()}
    assert hooks.after_backward() is (grow == "set"), "RigL's update takes the place of the step"
    hooks.after_step()
    for n, layer in layers.items():
        old, new, strength = masks[n], hooks.masks[n], before[n].abs()
        gone, come = old & ~new, new & ~old
        assert int(new.sum()) == int(old.sum())
        assert int(gone.sum()) == int(come.sum()) <= int(0.3 * int(old.sum()))
        assert come.any()
        dropped = strength[old].sort().values[: int(0.3 * int(old.sum()))]
        assert strength[gone].max() <= dropped[-1] + 1e-4  # RigL's drop is blurred by noise of 1e-5
        momentum = optimizer.state[layer.weight]["momentum_buffer"]
        assert not layer.weight[come].any()
        assert not momentum[come].any()
        assert not layer.weight[~new].any()
        if grow == "gradient":
            assert layer.weight.grad is not None
            assert layer.weight.grad.abs()[come].min() >= layer.weight.grad.abs()[~new & ~old].max()
    hooks.step = 99
    held = dict(hooks.masks)
    assert hooks.after_backward(), "from T_end on the optimizer alone moves"
    assert all(hooks.masks[n] is m for n, m in held.items())


@pytest.mark.slow
def test_another_target_is_one_clear_line() -> None:
    p = problem(target="macs=0.5")
    with pytest.raises(UserError, match="nonzero=SHARE"):
        registry.configure(registry.load(registry.method("image_pruning", "snip")), []).solve(p)
    p = problem(target="nonzero=0.0001")
    with pytest.raises(UserError, match="may not go"):
        registry.configure(registry.load(registry.method("image_pruning", "magnitude")), []).solve(p)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gmp", "rigl", "set", "imp", "snip", "grasp"])
def test_a_stopped_run_ends_alike(name: str) -> None:
    asked, method = spec(target="nonzero=0.2"), configured(name)
    p, whole = straight(name)
    first = MemoryRun(asked, stop_after=6)
    with pytest.raises(Stopped):
        method.solve(problem(first, target="nonzero=0.2"))
    resumed = MemoryRun(asked, saved=first.saved)
    again = method.solve(problem(resumed, target="nonzero=0.2"))
    assert resumed.examples == p.run.examples, "scoring images are booked once"
    for (key, a), b in zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
