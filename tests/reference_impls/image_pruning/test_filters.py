"""Filter pruning: choices against the authors' vectors and Torch-Pruning, every method end to end."""

from __future__ import annotations

import copy
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional as F

from reference_impls.image_pruning import depgraph, fpgm, hrank, slimming, taylor
from reference_impls.image_pruning.random_channels import RandomChannels
from reference_impls.parts import filters
from reference_impls.parts.channels import widths_of
from suite import registry
from suite.naming import UserError
from suite.protocol import Stopped
from tasks.image_pruning import data
from tasks.images.channels import mask_
from tests.helpers import MemoryRun, problem, spec

GOLDEN = Path(__file__).parents[2] / "golden"
VECTORS = np.load(GOLDEN / "pruning_baselines_scores.npz")
METHODS: dict[str, list[str]] = {
    "fpgm": [],
    "slimming": [],
    "hrank": [],
    "taylor": [],
    "depgraph": [],
    "depgraph sparse": ["sparse=true"],
    "random_channels": [],
}


LOAD = cache(data.load)


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the images takes longer than most of these tests."""
    monkeypatch.setattr(data, "load", LOAD)


def tiny(run: MemoryRun | None = None, **changes: Any) -> Any:
    """A problem with epochs of four batches of 16, and 16 validation images."""
    p = problem(run, **changes)
    p.batch, p.steps_per_epoch = 16, 4
    p.batches = lambda epoch: islice(type(p).batches(p, epoch), p.steps_per_epoch)
    p.source.examples = p.source.examples.take({"train": 512, "val": 16, "test": 16})
    return p


def method(label: str, *settings: str) -> Any:
    name = label.split()[0]
    return registry.configure(registry.load(registry.method("image_pruning", name)), [*METHODS[label], *settings])


@cache
def solved(label: str, target: float = 0.5) -> tuple[Any, Any]:
    p = tiny(target=f"macs={target}")
    return p, method(label).solve(p)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms as training leaves them: no two channels alike."""
    generator = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            for t in (m.weight.data, m.bias.data, m.running_mean, m.running_var):
                t.copy_(torch.rand(t.shape, generator=generator) + 0.1)
    return model


# -- the choices


@pytest.mark.parametrize("i", [0, 1])
def test_fpgm_keeps_whom_the_authors_keep(i: int) -> None:
    weight = torch.from_numpy(VECTORS["fpgm_W"])
    by_norm = int(len(weight) * (1 - float(VECTORS[f"fpgm{i}_rate_norm"])))
    count = int(len(weight) * float(VECTORS[f"fpgm{i}_rate_dist"]))
    mask = fpgm.median_mask(weight, by_norm, count)
    assert mask.tolist() == VECTORS[f"fpgm{i}_keep"].astype(bool).tolist()
    small = fpgm.norm_mask(weight, by_norm)
    assert (~small).sum() == by_norm
    assert not (~small & ~mask).any(), "whoever goes by norm takes no part in the distances"


def test_hrank_scores_are_the_authors() -> None:
    scores = hrank.map_ranks(torch.from_numpy(VECTORS["hrank_act"]))
    assert scores.tolist() == VECTORS["hrank_score"].tolist()


def test_feature_ranks_see_the_activation_and_change_nothing() -> None:
    p = problem()
    model = randomised(p.model()).train()
    before = copy.deepcopy(model.state_dict())
    group = p.groups(model)[0]
    x, _ = p.sample(6, "test")
    found = hrank.feature_ranks(model, [group], x.split(4))[group.name]
    assert model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        maps = F.relu(model.bn1(model.conv1(x)))
        maps = F.relu(group.bn(group.layer(maps)))
    expected = [np.mean([np.linalg.matrix_rank(image[c].numpy()) for image in maps]) for c in range(group.width)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_sfp_goes_by_norm_alone_and_rates_truncate() -> None:
    p = problem()
    groups = filters.inner(p.groups(p.model()))
    assert set(fpgm.Fpgm(rate=0.4).removals(p, groups).values()) == {(0, 6), (0, 12), (0, 25)}
    assert set(fpgm.Fpgm(rule="sfp", rate=0.4).removals(p, groups).values()) == {(6, 0), (12, 0), (25, 0)}
    assert set(fpgm.Fpgm(rate=0.4, rate_norm=0.9).removals(p, groups).values()) == {(1, 6), (3, 12), (6, 25)}
    to_target = fpgm.Fpgm(rate_norm=0.9).removals(p, groups)
    assert {n: sum(x) for n, x in to_target.items()} == {n: sum(x) for n, x in fpgm.Fpgm().removals(p, groups).items()}


@pytest.mark.parametrize(("rule", "learns"), [("fpgm", False), ("sfp", True)])
def test_zeroed_filters_of_sfp_learn_and_those_of_fpgm_wait_for_the_next_choice(rule: Literal["fpgm", "sfp"], learns: bool) -> None:
    p = problem()
    model = randomised(p.model())
    groups = filters.inner(p.groups(model))
    method_ = fpgm.Fpgm(rule=rule)
    soft = fpgm.Soft(method_, groups, method_.removals(p, groups))
    soft.before_epoch(0)
    conv, gone = groups[0].layer, (~soft.keep[groups[0].name]).nonzero().flatten()
    assert len(gone)
    assert not conv.weight[gone].any()
    model.train()
    F.cross_entropy(model(torch.randn(8, *p.input)), torch.arange(8)).backward()
    assert soft.after_backward()
    assert conv.weight.grad is not None
    assert bool(conv.weight.grad[gone].any()) is learns
    assert conv.weight.grad[soft.keep[groups[0].name]].any()
    with torch.no_grad():
        conv.weight[gone[0]] = 10.0
    soft.before_epoch(1)
    assert soft.keep[groups[0].name][gone[0]], "the choice is made anew"


@pytest.mark.parametrize("architecture", ["resnet20", "vgg16", "resnet50"])
def test_what_zeroed_filters_send_on_moves_into_the_next_layer(architecture: str) -> None:
    p = problem()
    p.architecture = architecture
    model = randomised(p.model()).eval()
    groups = filters.inner(p.groups(model))
    keep = {g.name: torch.arange(g.width) % 4 > 0 for g in groups}
    with torch.no_grad():
        for g in groups:
            g.layer.weight.mul_(keep[g.name].view(-1, 1, 1, 1))
            if isinstance(g.consumer, nn.Conv2d):  # no borders: only the middle of a kernel weighs
                middle = torch.zeros(g.consumer.kernel_size)
                middle[tuple(k // 2 for k in g.consumer.kernel_size)] = 1
                g.consumer.weight.mul_(middle)
        x = torch.randn(2, *p.input)
        zeroed = model(x)
        fpgm.absorb_(model, groups, keep)
        torch.testing.assert_close(p.compact(model, keep)(x), zeroed, rtol=1e-3, atol=1e-4 * float(zeroed.abs().max()))


def test_slimming_keeps_strictly_larger_scales_and_a_tenth() -> None:
    scales = {"a": torch.tensor([0.1, 0.2, 0.3, 0.4]), "b": torch.tensor([0.01, 0.02])}
    keep = slimming.above_threshold(scales, 0.5, {"a": 1, "b": 1})  # sorted: .01 .02 .1 | .2: the fourth is the threshold
    assert keep["a"].tolist() == [False, False, True, True]
    assert keep["b"].tolist() == [False, True]
    assert filters.protected({"a": 16, "b": 30, "c": 3}) == {"a": 2, "b": 3, "c": 1}


def test_slimming_pushes_the_ranked_scales_only() -> None:
    p = problem()
    model = p.model()
    groups = filters.inner(p.groups(model))
    for q in model.parameters():
        q.grad = torch.zeros_like(q)
    with torch.no_grad():
        groups[0].bn.weight[0] = -1.0
    assert slimming.Shrinking(groups, 1e-4).after_backward()
    assert groups[0].bn.weight.grad is not None
    assert groups[0].bn.weight.grad[:2].tolist() == pytest.approx([-1e-4, 1e-4])
    touched = {n for n, q in model.named_parameters() if q.grad is not None and q.grad.any()}
    assert touched == {g.name.replace("conv1", "bn1.weight") for g in groups}


def test_gate_gradients_are_those_of_real_gates() -> None:
    torch.manual_seed(0)
    conv, bn, after = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 3)
    nn.init.normal_(bn.weight)
    nn.init.normal_(bn.bias)
    gate = torch.ones(5, requires_grad=True)
    y = F.relu(bn(conv(torch.randn(6, 3, 8, 8))) * gate.view(-1, 1, 1))
    F.cross_entropy(after(y).mean((2, 3)), torch.arange(6) % 4).backward()
    assert gate.grad is not None
    torch.testing.assert_close(taylor.gate_gradients(bn), gate.grad, rtol=1e-4, atol=1e-6)


def test_taylor_averages_smooths_and_keeps_time() -> None:
    assert taylor.timetable(186, 30, 10) == (30, 3)
    assert taylor.timetable(2000, 30, 10) == (30, 10)
    assert taylor.timetable(4, 30, 10) == (2, 1)
    p = problem()
    model = randomised(p.model())
    removing = taylor.Removing(taylor.Taylor(removals=2, interval=2), p, model, steps=8)
    name, bn = removing.groups[0].name, removing.groups[0].bn
    seen = []
    for step in range(4):
        for q in model.parameters():
            q.grad = torch.full_like(q, float(step + 1))
        seen.append(taylor.gate_gradients(bn).clone() ** 2)
        removing.after_backward()
        removing.after_step()
        if step == 1:
            torch.testing.assert_close(removing.averages[name], (seen[0] + seen[1]) / 2)
            first = removing.averages[name]
            half = widths_of(removing.keep)
    torch.testing.assert_close(removing.averages[name], 0.9 * first + 0.1 * (seen[2] + seen[3]) / 2)
    assert p.macs_of(widths_of(removing.keep)) == pytest.approx(0.5 * p.dense_macs, rel=0.01)
    full = sum(g.width for g in removing.groups)
    assert sum(half.values()) == pytest.approx((full + sum(widths_of(removing.keep).values())) / 2, abs=20)


def test_equal_steps_remove_equal_numbers_and_never_return() -> None:
    p = problem()
    groups = filters.inner(p.groups(p.model()))
    generator = torch.Generator().manual_seed(0)
    scores = {g.name: torch.rand(g.width, generator=generator) for g in groups}
    least = filters.protected({g.name: g.width for g in groups})
    keep = {g.name: torch.ones(g.width, dtype=torch.bool) for g in groups}
    counts = [sum(widths_of(keep).values())]
    for steps in range(10, 0, -1):
        new = filters.keep_best(scores, p.macs_of, 0.3 * p.dense_macs, least, keep, steps)
        assert not any((new[n] & ~keep[n]).any() for n in keep)
        keep = new
        counts.append(sum(widths_of(keep).values()))
    removed = -np.diff(counts)
    assert removed.max() - removed.min() <= 3
    assert p.macs_of(widths_of(keep)) == pytest.approx(0.3 * p.dense_macs, rel=0.01)
    assert all(widths_of(keep)[n] >= least[n] for n in keep)
    # scores that would empty a layer meet its floor
    scores[groups[0].name] -= 10
    keep = filters.keep_best(scores, p.macs_of, 0.3 * p.dense_macs, least)
    assert widths_of(keep)[groups[0].name] == least[groups[0].name] == 2


def test_split() -> None:
    assert filters.split(18, (2 / 3, 1 / 3)) == [12, 6]
    assert filters.split(160, (200, 100)) == [107, 53]
    assert filters.split(3, (200, 100, 100)) == [1, 1, 1]
    assert filters.split(2, (200, 100, 100)) == [0, 1, 1]
    assert filters.split(7, [1] * 3) == [2, 3, 2]


# -- DepGraph beside Torch-Pruning


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet20", "vgg16"])
def test_group_norms_and_sparse_learning_are_torch_prunings(architecture: str) -> None:
    p = problem()
    p.architecture = architecture
    model = randomised(p.model())
    graph = depgraph.Graph(p, model, "inner")
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    pruner = tp.pruner.GroupNormPruner(
        model, torch.zeros(1, *p.input), importance, global_pruning=True, reg=5e-4, ignored_layers=[model.fc]
    )
    groups = graph.groups()
    theirs = [graph.traced.get_pruning_group(g.conv, tp.prune_conv_out_channels, list(range(g.conv.out_channels))) for g in groups]
    for g, group in zip(groups, theirs, strict=True):
        torch.testing.assert_close(depgraph.normalised(g.norms(), "mean"), importance(group))
    pruner._groups = theirs
    for q in model.parameters():
        q.grad = torch.zeros_like(q)
    pruner.regularize(model)
    expected = {n: q.grad.clone() for n, q in model.named_parameters() if q.grad is not None}
    for q in model.parameters():
        q.grad = torch.zeros_like(q)
    depgraph.SparseLearning(graph, depgraph.Depgraph(sparse=True)).after_backward()
    for n, q in model.named_parameters():
        torch.testing.assert_close(q.grad, expected[n], rtol=1e-4, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet20", "vgg16"])
def test_traced_removal_is_the_masked_network(architecture: str) -> None:
    p = problem(target="macs=0.25")
    p.architecture = architecture
    model = randomised(p.model()).eval()
    small, keep = depgraph.Depgraph(steps=5).cut(p, model)
    assert p.macs(small) == p.macs_of(widths_of(keep)) == depgraph.Graph(p, model, "inner").macs_of(widths_of(keep))
    assert p.macs(small) == pytest.approx(0.25 * p.dense_macs, rel=0.01)
    masked = copy.deepcopy(model)
    mask_(p.groups(masked), keep)
    x = torch.randn(4, *p.input)
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(x), masked(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(p.compact(model, keep)(x), masked(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_coupled_groups_take_the_shortcuts_too() -> None:
    p = problem()
    p.architecture = "resnet18"
    model = randomised(p.model()).eval()
    graph = depgraph.Graph(p, model, "coupled")
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    for g in graph.groups():
        group = graph.traced.get_pruning_group(g.conv, tp.prune_conv_out_channels, list(range(g.conv.out_channels)))
        torch.testing.assert_close(depgraph.normalised(g.norms(), "mean"), importance(group))
    small, keep = depgraph.Depgraph(steps=2, groups="coupled").cut(p, model)
    assert "conv1" in keep
    assert p.macs(small) == graph.macs_of(widths_of(keep))
    assert p.macs(small) == pytest.approx(0.5 * p.dense_macs, rel=0.01)
    with pytest.raises(UserError, match="groups=inner"):
        depgraph.Depgraph(groups="coupled").cut(problem(), problem().model())


# -- the methods


@pytest.mark.parametrize("target", [0.5, 0.25])
@pytest.mark.parametrize("label", METHODS)
def test_every_method_meets_its_target_within_its_budget(label: str, target: float) -> None:
    p, found = solved(label, target)
    assert p.macs(found.model) == pytest.approx(target * p.dense_macs, rel=0.01)
    assert 0 < p.run.examples <= p.budget
    for g in filters.inner(p.groups(found.model)):
        assert g.width == found.notes["widths"][g.name] >= 2
    assert torch.isfinite(found.model.eval()(torch.randn(2, *p.input))).all()


@pytest.mark.slow
@pytest.mark.parametrize("label", METHODS)
def test_the_speed_division_gives_shapes(label: str) -> None:
    p = problem(target="macs=0.25", division="speed")
    found = method(label).solve(p)
    assert p.macs(found.model) == pytest.approx(0.25 * p.dense_macs, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("widths", ["uniform", "slimming", "depgraph"])
def test_random_channels_have_the_widths_of_the_rule(widths: str) -> None:
    p = problem(target="macs=0.25")
    model = randomised(p.model())
    control = RandomChannels(widths=widths)  # type: ignore[arg-type]
    ours, theirs = control.choose(p, model), control.rule.choose(p, model)
    assert widths_of(ours) == widths_of(theirs)
    assert p.macs_of(widths_of(ours)) == pytest.approx(0.25 * p.dense_macs, rel=0.01)
    assert any((ours[n] != theirs[n]).any() for n in ours)
    again = control.choose(p, model)
    assert all(torch.equal(ours[n], again[n]) for n in ours)
    small, keep = control.cut(p, model)
    mask_(p.groups(model), keep)
    x = torch.randn(2, *p.input)
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(x), model.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("label", METHODS)
def test_another_target_ends_before_the_training(label: str) -> None:
    p = problem(target="nonzero=0.5")
    with pytest.raises(UserError, match="macs=SHARE"):
        method(label).solve(p)
    assert p.run.examples == 0


def same(a: nn.Module, b: nn.Module) -> None:
    for (key, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), key


@pytest.mark.slow
@pytest.mark.parametrize("label", ["fpgm", "slimming", "taylor", "depgraph sparse"])
def test_a_stopped_run_ends_alike(label: str) -> None:
    _, straight = solved(label)
    first = MemoryRun(spec(), stop_after=10)
    with pytest.raises(Stopped):
        method(label).solve(tiny(first))
    again = method(label).solve(tiny(MemoryRun(spec(), saved=first.saved)))
    same(straight.model, again.model)


@pytest.mark.slow
def test_hrank_pays_for_its_images_once() -> None:
    ranking = method("hrank", "pretrain=0.25", "rounds=3")

    def solve(run: MemoryRun) -> Any:
        p = tiny(run)
        p.epochs = 5
        return ranking.solve(p)

    whole, first = MemoryRun(spec()), MemoryRun(spec(), stop_after=4 + 1 + 4 + 2)
    straight = solve(whole)
    with pytest.raises(Stopped):
        solve(first)
    second = MemoryRun(spec(), saved=first.saved)
    same(straight.model, solve(second).model)
    assert second.examples == whole.examples == 4 * 64 + 64


def test_filters_dropped_by_norm_stay_in_the_mask_of_the_median_however_many_are_asked_for() -> None:
    weight = torch.randn(10, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    mask = fpgm.median_mask(weight, 8, 4)
    assert int(mask.sum()) == 8
    assert torch.equal(mask, ~fpgm.norm_mask(weight, 8))
