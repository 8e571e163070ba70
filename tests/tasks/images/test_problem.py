"""A problem of any task that classifies: tables with groups, counts, budgets, and who was in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reference_impls.image_pruning.imp import Imp
from reference_impls.image_pruning.l1_filters import L1Filters
from reference_impls.image_pruning.slimming import Slimming
from reference_impls.parts.sparse import Masked, keep_top, magnitudes, maskable
from reference_impls.parts.training import Trainer
from suite.naming import UserError
from suite.protocol import OverBudget
from tasks.common.scoring import by_group, gaps
from tasks.images.channels import channel_groups
from tasks.images.kept import kept
from tasks.images.networks import build
from tasks.images.recipes import AdamW
from tasks.images.sources import InMemory, Shapes
from tests.tasks.images.helpers import pictures, problem, table


def test_a_table_is_learnt_and_its_groups_are_compared() -> None:
    p = problem(epochs=8)
    model = Trainer(p).fit("train", p.model(), p.recipe, epochs=8)
    assert p.run.examples == p.budget
    label, prediction, confidence = p.predict(model, "test")
    columns = p.source.columns("test")
    group = columns[p.source.group]
    assert (len(label), len(group), confidence.min() >= 0.5) == (200, 200, True)
    found = {(m.name, m.part): m for m in by_group(label, prediction, group, table().names["kind"])}
    assert found["group_accuracy", "many"].value > 85
    assert found["worst_group", ""].value == found["group_accuracy", "few"].value < found["group_accuracy", "many"].value
    low, high = found["accuracy_gap", ""].interval
    assert low < found["accuracy_gap", ""].value < high
    assert any(m.name == "equalized_odds_gap" for m in gaps(label, prediction, group, p.classes))


@pytest.mark.parametrize("architecture", ["mlp-16-8", "mlp-16-8-bn"])
def test_channels_of_a_perceptron_are_pruned_by_the_methods_of_images(architecture: str) -> None:
    p = problem(architecture=architecture, epochs=6)
    solution = L1Filters().solve(p)
    assert p.macs(solution.model) == p.macs_of(solution.notes["widths"])
    assert p.macs(solution.model) / p.dense_macs == pytest.approx(0.5, abs=0.05)
    found = {m.name: m.value for m in kept(p.count(solution.model), solution.model, p.count(p.model()), p.model())}
    assert found["kept.macs"] == pytest.approx(p.macs(solution.model) / p.dense_macs)
    if architecture.endswith("bn"):
        assert p.macs(Slimming().solve(problem(architecture=architecture, epochs=6)).model) < p.dense_macs
    else:
        with pytest.raises(UserError, match="no batch norm"):
            Slimming().solve(problem(architecture=architecture, epochs=6))


def test_the_fast_count_is_the_count_for_perceptrons_too() -> None:
    p = problem(architecture="mlp-9-7-5-bn")
    assert p.dense_macs == p.macs(p.model()) == 6 * 9 + 9 * 7 + 7 * 5 + 5 * 2
    widths = {"layers.0": 4, "layers.2": 2}
    assert p.macs_of(widths) == p.macs(p.model(widths)) == 6 * 4 + 4 * 7 + 7 * 2 + 2 * 2
    assert [g.width for g in channel_groups(p.model(widths))] == [4, 7, 2]


def test_masks_hold_under_adamw_for_weights_and_moments() -> None:
    p = problem(recipe=AdamW(lr=1e-2, warmup=1))
    model = p.model()
    layers = maskable(model)
    masks = keep_top(magnitudes(layers), 60)
    hooks = Masked(layers, masks)
    Trainer(p).fit("train", model, p.recipe, epochs=3, hooks=hooks)
    assert hooks.optimizer is not None
    for name, layer in layers.items():
        state = hooks.optimizer.state[layer.weight]
        for tensor in (layer.weight, state["exp_avg"], state["exp_avg_sq"]):
            assert not tensor[~masks[name]].any()
            assert tensor[masks[name]].any()


def test_tickets_are_rewound_under_adamw() -> None:
    p = problem(recipe=AdamW(lr=1e-2, warmup=1), epochs=6, division="open")
    p.spec = p.run.spec = type(p.spec)(**{**vars(p.spec), "target": "nonzero=0.5"})
    model = Imp(classifier=True, stem=True).solve(p).model
    sizes = [(m.weight.numel(), int(m.weight.count_nonzero())) for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(n for _, n in sizes) == round(0.5 * sum(n for n, _ in sizes))


def test_rows_tell_who_is_in_a_batch() -> None:
    p = problem()
    stored = p.source.examples
    kind = torch.from_numpy(p.source.columns("train")["kind"])
    epochs = []
    for epoch in range(2):
        batches = list(zip(p.batches(epoch), p.rows(epoch), strict=True))
        assert len(batches) == p.steps_per_epoch
        for (x, y), rows in batches:
            assert torch.equal(x, stored.x["train"][rows])
            assert torch.equal(y, stored.y["train"][rows])
            assert torch.equal(kind[rows], stored.columns["train"]["kind"][rows])
        epochs.append(torch.cat([rows for _, rows in batches]))
        assert len(epochs[-1].unique()) == len(epochs[-1]) == 256
    assert not torch.equal(*epochs)


def test_an_epoch_may_consist_of_some_rows_alone() -> None:
    p = problem()
    among = torch.arange(0, 256, 3)
    batches = list(p.batches(0, among))
    rows = list(p.rows(0, among))
    assert len(batches) == len(rows) == len(among) // p.batch == 2
    assert p.run.examples == 64
    assert all((r % 3 == 0).all() for r in rows)
    whole = next(iter(problem().rows(0, torch.arange(256))))
    assert torch.equal(whole, next(iter(problem().rows(0)))), "all rows in their order are no choice"


def test_the_budget_of_a_table_cannot_be_overdrawn() -> None:
    p = problem(epochs=1)
    for _ in p.batches(0):
        pass
    with pytest.raises(OverBudget):
        next(iter(p.batches(1)))


def test_the_speed_division_of_a_table_has_its_shape() -> None:
    p = problem(Shapes((6,), 2, 256), division="speed")
    assert list(p.batches(0)) == list(p.rows(0)) == []
    x, y = p.sample(4, "scores")
    assert (x.shape, int(y.max()) < 2, p.source.columns("test")) == ((4, 6), True, {})
    assert p.macs(p.model()) == problem().dense_macs


def test_convolutions_do_not_take_a_table() -> None:
    with pytest.raises(UserError, match="perceptron"):
        build("resnet20", 2, (6,))
    with pytest.raises(UserError, match="mlp-128-64"):
        build("mlp-0", 2, (6,))


def test_images_of_another_number_of_channels_have_a_network() -> None:
    for architecture in ("resnet20", "vgg16", "resnet18"):
        assert build(architecture, 2, (4, 32, 32)).eval()(torch.zeros(1, 4, 32, 32)).shape == (1, 2)


def test_images_come_channels_last_and_tables_as_they_are() -> None:
    x, _ = next(iter(problem(InMemory(pictures()), "resnet20", batch=8).batches(0)))
    assert x.is_contiguous(memory_format=torch.channels_last)
    x, _ = next(iter(problem().batches(0)))
    assert (x.shape, x.dtype) == ((32, 6), torch.float32)


def test_a_sliver_keeps_each_columns_rows() -> None:
    small = table().take({"train": 10, "val": 5, "test": 7})
    assert [len(v) for v in small.columns["test"].values()] == [7, 7]
    ends = np.array([len(small.y[s]) for s in ("train", "val", "test")])
    assert ends.tolist() == [10, 5, 7]
