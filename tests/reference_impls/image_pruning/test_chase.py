"""Chase against the authors' own functions (chase_masks.npz), and what the sheet says must be visible."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reference_impls.image_pruning.chase import (
    Chase,
    Chasing,
    apply_region,
    channel_rate,
    channel_scores,
    delete_channels,
    density_budget,
    drop,
    grow,
    is_deletion,
    region_of,
    swap_rate,
)
from reference_impls.parts.sparse import alive, erk_densities
from reference_impls.parts.training import Trainer
from suite import registry
from suite.naming import UserError
from tasks.images.recipes import Sgd
from tests.helpers import MemoryRun, problem, spec

GOLDEN = Path(__file__).parents[2] / "golden" / "chase_masks.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as z:
        return dict(z)


def shapes(z: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {
        str(n): tuple(int(x) for x in (s[:2] if "classifier" in str(n) else s))
        for n, s in zip(z["param_names"], z["param_shapes"], strict=True)
    }


def split(z: dict[str, np.ndarray], name: str) -> dict[str, torch.Tensor]:
    sizes = shapes(z)
    pieces = torch.from_numpy(z[name]).split([math.prod(s) for s in sizes.values()])
    return {n: p.view(s) for (n, s), p in zip(sizes.items(), pieces, strict=True)}


def masks(z: dict[str, np.ndarray], name: str) -> dict[str, torch.Tensor]:
    return {n: m.bool() for n, m in split(z, name).items()}


def test_erk_and_schedules(golden: dict[str, np.ndarray]) -> None:
    sizes = shapes(golden)
    found = erk_densities(sizes, float(golden["density"]))
    np.testing.assert_allclose(list(found.values()), golden["erk_density"], rtol=1e-6)
    kept = sum(found[n] * math.prod(s) for n, s in sizes.items())
    assert kept == pytest.approx(float(golden["baseline_nonzero"]))
    s_c, e_g, epochs, e_s, per_epoch, r, d = golden["sched_params"]
    t_c = int(e_g * per_epoch)
    rates = [s_c * channel_rate(int(t), t_c) for t in golden["sched_step"]]
    np.testing.assert_allclose(rates, golden["sched_channel_rate"], atol=1e-6)
    t_1 = int(per_epoch * (epochs - e_s))
    overshot = [density_budget(t, t_1, d, r) for t in range(1, t_1 + 1)]
    np.testing.assert_allclose(overshot, golden["sched_total_density_per_step"][:t_1], atol=1e-6)
    whole = int(epochs * per_epoch)
    swaps = [swap_rate(t, whole) for t in range(1, whole + 1)]
    np.testing.assert_allclose(swaps, golden["sched_dst_rate_per_step"], atol=1e-6)


def test_scores_and_three_deletions(golden: dict[str, np.ndarray]) -> None:
    weights, mask = split(golden, "weight0"), masks(golden, "mask0")
    layers = [str(n) for n in golden["prunable_layers"]]
    umm = {n: channel_scores(weights[n]) for n in layers}
    np.testing.assert_allclose(torch.cat(list(umm.values())), golden["score_mag_wise"], rtol=1e-5)
    masked = torch.cat([channel_scores(weights[n], mask[n]) for n in layers])
    np.testing.assert_allclose(masked, golden["score_mask_wise"], rtol=1e-5)

    names = list(shapes(golden))
    consumers = {n: names[names.index(n) + 1] for n in layers}
    flags = {n: torch.ones(len(umm[n]), dtype=torch.bool) for n in layers}
    floors = dict(zip(layers, (int(x) for x in golden["minimum_layer"]), strict=True))
    calls: list[tuple[int, int]] = []

    def first(items: list[int], count: int) -> list[int]:
        calls.append((len(items), count))
        return items[:count]

    for j in range(3):
        scores = {n: channel_scores(weights[n]) for n in layers}
        flags = delete_channels(scores, flags, len(golden["score_mag_wise"]) * (1 - float(golden[f"del{j}_rate"])), floors, first)
        np.testing.assert_array_equal(torch.cat(list(flags.values())), golden[f"del{j}_alive"].astype(bool))
        mask = apply_region(mask, flags, consumers)
        weights = {n: w * mask[n] for n, w in weights.items()}
    assert calls == [tuple(row) for row in golden["del_sample_calls"].tolist()]
    for n, m in masks(golden, "del_final_mask").items():
        assert torch.equal(mask[n], m), n
        assert torch.equal(weights[n], split(golden, "del_final_weight")[n]), n
    for n, m in region_of(shapes(golden), flags, consumers).items():
        assert torch.equal(m, masks(golden, "region")[n]), n

    sliced = [
        (int(flags[n].sum()) if n in flags else s[0], int(flags[p].sum()) if p in flags else s[1], *s[2:])
        for (n, s), p in zip(shapes(golden).items(), [None, *names], strict=False)
    ]
    assert sliced == [
        tuple(s[:2] if "classifier" in n else s) for n, s in zip(names, golden["merged_shapes"].tolist(), strict=True)
    ]


def test_deletions_of_vgg_on_cifar() -> None:
    at = [t for t in range(1, 80_001) if is_deletion(t, 65_000, 1000, 8000)]
    assert at == [7500 + 8000 * k for k in range(8)]
    assert channel_rate(at[-1], 65_000) == pytest.approx(0.99999, abs=1e-5)


@pytest.mark.slow
def test_layers_explore_within_their_own_budgets() -> None:
    _, hooks, _ = chased(exploration="layerwise")
    sizes = {n: int(r.sum()) for n, r in region_of(hooks.shapes, hooks.flags, hooks.consumers).items()}
    wanted = erk_densities(hooks.shapes_left(), hooks.budget / sum(sizes.values()))
    for name, size in sizes.items():
        assert abs(int(hooks.masks[name].sum()) - wanted[name] * size) <= 1, name


def test_one_drop_and_one_growth_as_released(golden: dict[str, np.ndarray]) -> None:
    region, mask = masks(golden, "region"), masks(golden, "del_final_mask")
    strength = {n: w.abs() for n, w in split(golden, "del_final_weight").items()}
    dropped = drop(strength, mask, region, int(golden["kill_n"]), exact=False)
    for n, m in masks(golden, "kill_mask").items():
        assert torch.equal(dropped[n], m), n
    grown = grow({n: g.abs() for n, g in split(golden, "grad").items()}, dropped, region, int(golden["grow_n"]), exact=False)
    for n, m in masks(golden, "grow_mask").items():
        assert torch.equal(grown[n], m), n
    assert alive(grown) == int(golden["after_nonzero"])


def test_a_drop_revives_nobody_and_a_growth_fills_what_there_is() -> None:
    region = {"a": torch.ones(6, dtype=torch.bool)}
    mask = {"a": torch.tensor([1, 1, 1, 0, 0, 0], dtype=torch.bool)}
    zeros = {"a": torch.zeros(6)}
    for exact in (True, False):
        assert not (drop(zeros, mask, region, 2, exact=exact)["a"] & ~mask["a"]).any()
    assert alive(drop(zeros, mask, region, 2)) == 1
    assert alive(grow(zeros, mask, region, 99)) == 6
    assert alive(grow(zeros, mask, region, 2)) == 5
    assert alive(grow(zeros, mask, region, 0)) == 3


def test_floors_hold_and_the_shortfall_moves_on() -> None:
    scores = {"a": torch.tensor([0.1, 0.2, 0.3, 0.4]), "b": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    flags = {n: torch.ones(4, dtype=torch.bool) for n in scores}
    out = delete_channels(scores, flags, 4.0, {"a": 3, "b": 1}, lambda x, k: x[:k])
    assert out["a"].tolist() == [False, True, True, True]
    assert int(out["b"].sum()) == 1
    # nothing can go: it ends
    assert all(f.all() for f in delete_channels(scores, flags, 0.0, {"a": 4, "b": 4}, lambda x, k: x[:k]).values())


def chased(run: MemoryRun | None = None, **settings: Any) -> tuple[Any, Chasing, Any]:
    """A run at the smoke tier, with many explorations and deletions."""
    p = problem(run, target="nonzero=0.2")
    model = p.model()
    method = Chase(interval=2, channel_interval=2, **settings)
    hooks = Chasing(method, p, model)
    Trainer(p).fit("train", model, Sgd(), epochs=p.epochs - 1, hooks=hooks)
    return p, hooks, model


@pytest.mark.slow
def test_the_sheets_invariants() -> None:
    p, hooks, model = chased()
    # (i) alive channels follow the schedule to within rounding, but for floors
    t = max(s for s in range(1, hooks.t_channels) if (s + 1) % 2 == 0)
    wanted = hooks.first_count * (1 - 0.5 * channel_rate(t, hooks.t_channels))
    assert abs(sum(int(f.sum()) for f in hooks.flags.values()) - wanted) <= len(hooks.flags)
    assert hooks.trace == sorted(hooks.trace, reverse=True)
    assert [s["step"] for s in hooks.spreads] == list(range(hooks.interval, hooks.step + 1, hooks.interval))
    assert all(s["umm"] > 0 and 0 <= s["density"] <= 1 for s in hooks.spreads)
    # (ii) K_0 weights at the end; none outside their mask
    assert abs(alive(hooks.masks) - hooks.budget) <= 2
    for name, layer in hooks.layers.items():
        assert not layer.weight[~hooks.masks[name]].any()
    # (iii) logits before and after slicing
    model.eval()
    x = torch.randn(4, *p.input)
    with torch.no_grad():
        torch.testing.assert_close(p.compact(model, hooks.flags)(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_random_channels_and_layerwise_exploration_run() -> None:
    for settings in ({"score": "random"}, {"exploration": "layerwise"}, {"score": "masked", "parity": True}):
        _, hooks, _ = chased(**settings)
        slack = 2 + 2 * len(hooks.layers) + 2 * hooks.step
        assert abs(alive(hooks.masks) - 0.2 * hooks.total) <= slack


@pytest.mark.slow
@pytest.mark.parametrize("target", ["macs=0.5", "macs=0.25"])
@pytest.mark.parametrize("score", ["unmasked", "random"])
def test_a_target_of_operations_leaves_room_for_the_weights(target: str, score: Any) -> None:
    p = problem(target=target)
    model = p.model()
    hooks = Chasing(Chase(interval=2, channel_interval=2, score=score), p, model)
    # late layers hold the weights, early ones the operations: these scores alone would empty the late ones
    with torch.no_grad():
        for i, g in enumerate(hooks.groups):
            g.layer.weight.mul_(2.0**-i)
    Trainer(p).fit("train", model, Sgd(), epochs=p.epochs - 1, hooks=hooks)
    widths = {n: int(f.sum()) for n, f in hooks.flags.items()}
    assert p.macs_of(widths) == pytest.approx(p.spec.targets["macs"] * p.dense_macs, rel=0.01)
    region = alive(region_of(hooks.shapes, hooks.flags, hooks.consumers))
    assert region == hooks.held(widths)
    # K_0 weights are there, and free places beside them to explore
    assert abs(alive(hooks.masks) - hooks.budget) <= 2
    assert region > 1.1 * hooks.budget


def test_a_target_that_cannot_hold_the_weights_says_so() -> None:
    p = problem(target="macs=0.25")
    with pytest.raises(UserError, match="set density lower"):
        Chasing(Chase(density=0.6), p, p.model())


def test_what_grows_starts_at_zero() -> None:
    p = problem(target="nonzero=0.2")
    model = p.model()
    hooks = Chasing(Chase(), p, model)
    hooks.begin(Sgd().optimizer(model))
    for layer in hooks.layers.values():
        layer.weight.grad = layer.weight.detach().abs() + 1  # what is dropped wants to come back first
        hooks.optimizer.state[layer.weight]["momentum_buffer"] = torch.ones_like(layer.weight)  # type: ignore[union-attr]
    before = {n: (m.clone(), hooks.layers[n].weight.detach().clone()) for n, m in hooks.masks.items()}
    with torch.no_grad():
        hooks.explore(hooks.t_end - 1)
    moved = 0
    for name, layer in hooks.layers.items():
        mask, weight = before[name]
        now = layer.weight.detach()
        stayed = mask & (now == weight) & (weight != 0)
        grown = hooks.masks[name] & ~stayed
        moved += int(grown.sum())
        assert not now[grown].any()
        assert not hooks.optimizer.state[layer.weight]["momentum_buffer"][grown].any()  # type: ignore[union-attr]
    assert moved > 0


@pytest.mark.slow
@pytest.mark.parametrize("target", ["macs=0.5", "nonzero=0.2"])
def test_targets_are_met(target: str) -> None:
    from suite import registry

    p = problem(target=target)
    found = Chase(interval=2).solve(p)
    (name, share), *_ = p.spec.targets.items()
    weighed = {m.name: m.value for m in registry.task("image_pruning").weigh(p, found)}
    assert weighed[f"kept.{name}"] == pytest.approx(share, rel=0.01)
    assert p.run.examples <= p.budget


@pytest.mark.parametrize("target", ["macs=0.5", "nonzero=0.2"])
def test_the_speed_division_yields_the_shape_and_as_many_weights_as_training(target: str) -> None:
    p = problem(target=target, division="speed")
    found = Chase().solve(p)
    weighed = {m.name: m.value for m in registry.task("image_pruning").weigh(p, found)}
    assert weighed["kept.nonzero"] == pytest.approx(0.2, rel=0.01)
    if target.startswith("macs"):
        assert p.macs(found.model) == pytest.approx(0.5 * p.dense_macs, rel=0.01)


def test_a_best_state_before_the_last_deletion_is_deployed_with_its_own_channels() -> None:
    """With a long last phase the best state may be older than deletions that follow it."""
    p = problem(target="nonzero=0.2")
    hooks = Chasing(Chase(interval=2, channel_interval=2), p, p.model())
    hooks.keep_best()
    hooks.best["top1"] = 101.0  # no later state is better
    hooks.delete(1.0)
    assert sum(int(f.sum()) for f in hooks.flags.values()) < hooks.first_count
    hooks.finish()
    assert all(bool(f.all()) for f in hooks.flags.values())


def test_spread_tells_channels_that_are_alike_from_such_that_are_not() -> None:
    p = problem(target="nonzero=0.2")
    hooks = Chasing(Chase(), p, p.model())
    for g in hooks.groups:
        g.layer.weight.data.fill_(1.0)
        hooks.masks[g.name] = torch.ones_like(hooks.masks[g.name])
    assert hooks.spread() == {"umm": 0.0, "density": 1.0}
    for g in hooks.groups:  # half of the channels: a quarter of the size, an empty mask
        half = g.width // 2
        g.layer.weight.data[:half] = 0.25
        hooks.masks[g.name][:half] = False
    found = hooks.spread()
    assert found["umm"] == pytest.approx(0.375 / 0.625)
    assert found["density"] == 0.0


def test_a_layer_that_lost_all_of_its_channels_is_left_out_of_the_densities() -> None:
    p = problem(target="nonzero=0.2")
    hooks = Chasing(Chase(parity=True, exploration="layerwise"), p, p.model())
    name = hooks.groups[0].name
    hooks.flags[name] = torch.zeros_like(hooks.flags[name])
    hooks.masks = apply_region(hooks.masks, hooks.flags, hooks.consumers)
    for layer in hooks.layers.values():
        layer.weight.grad = torch.randn_like(layer.weight)
    hooks.explore(2)
    assert alive({name: hooks.masks[name]}) == 0
    assert alive(hooks.masks) > 0


@pytest.mark.slow
def test_a_stopped_run_ends_alike() -> None:
    from suite.protocol import Stopped

    asked = spec(target="nonzero=0.2")
    straight = Chase(interval=2, channel_interval=2).solve(problem(MemoryRun(asked), target="nonzero=0.2"))
    first = MemoryRun(asked, stop_after=6)
    with pytest.raises(Stopped):
        Chase(interval=2, channel_interval=2).solve(problem(first, target="nonzero=0.2"))
    again = Chase(interval=2, channel_interval=2).solve(problem(MemoryRun(asked, saved=first.saved), target="nonzero=0.2"))
    for (name, a), b in zip(straight.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
