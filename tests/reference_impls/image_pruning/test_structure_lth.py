"""Structure-LTH against the authors' own functions (structure_lth_*.npz), and what the sheet says must be visible."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference_impls.image_pruning.structure_lth import (
    Held,
    Structure,
    StructureLth,
    channel_signals,
    channels_of,
    intended_width,
    nearest,
    rank_by,
    refill,
    regroup,
    regroup_by_columns,
    released_width,
)
from reference_impls.parts import rewinding
from reference_impls.parts.blocks import BlockConv2d, batch_norms, mask_of
from reference_impls.parts.partition import hypergraph
from reference_impls.parts.sparse import Masked, alive, keep_top, maskable
from suite import registry
from suite.naming import UserError
from suite.protocol import Stopped
from tasks.images import networks
from tasks.images.workloads import fold_batch_norms
from tests.helpers import MemoryRun, problem, spec

GOLDEN = Path(__file__).parents[2] / "golden"
TASK = registry.task("image_pruning")


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"structure_lth_{name}.npz") as z:
        return dict(z)


# -- the authors' vectors


@pytest.mark.parametrize(("released", "criterion"), [("magnitude", "l1"), ("remain", "remain")])
def test_refill_is_the_authors(released: str, criterion: Any) -> None:
    z = golden("refill")
    for rate in z["rates"]:
        for layer in ("conv2", "conv3"):
            mask, weight = torch.from_numpy(z[f"{layer}_mask"]).bool(), torch.from_numpy(z[f"{layer}_weight"]).abs()
            scores = rank_by(mask, weight, criterion)
            found = refill(mask, scores, float(rate), partial=True)
            np.testing.assert_array_equal(found, z[f"{released}_{rate}_{layer}"].astype(bool))
            clean = refill(mask, scores, float(rate))
            assert torch.equal(clean, channels_of(clean).view(-1, 1, 1, 1).expand_as(clean)), "whole channels"
            assert not (clean & ~found).any()


@pytest.mark.parametrize("case", range(4))
def test_regroup_is_the_authors(case: int) -> None:
    z = golden("regroup")
    mask, part = torch.from_numpy(z[f"case{case}_mask"]).bool(), torch.from_numpy(z[f"case{case}_part"])
    vertices, edges = hypergraph(mask)
    assert [len(edges), vertices] == z[f"case{case}_hgr_header"].tolist()
    wanted = z[f"case{case}_out"].astype(bool)
    outcome = {}
    for width in (released_width, intended_width):
        blocks = regroup(mask, lambda _: part, width, float(z[f"case{case}_t1"]))
        outcome[width] = mask_of(blocks, mask.shape) if blocks else mask
        assert all(len(b.rows) <= 32 or len(b.rows) % 32 == 0 for b in blocks)
    np.testing.assert_array_equal(outcome[released_width], wanted)
    assert not np.array_equal(outcome[intended_width], wanted)
    assert alive({"": outcome[intended_width]}) < alive({"": outcome[released_width]}), "the released rule makes denser masks"


# -- refill and regroup beyond them


def test_refill_counts() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 4.0])
    half = torch.tensor([[1, 1], [0, 0], [1, 1], [0, 0]], dtype=torch.bool)
    assert channels_of(refill(half, scores)).tolist() == [True, False, True, True], "one more than two"
    few = torch.tensor([[1, 0], [0, 0], [0, 0], [0, 0]], dtype=torch.bool)
    assert channels_of(refill(few, scores)).tolist() == [False, False, False, True], "ceil(0.5)"
    assert int(channels_of(refill(few, scores, extra=0.5)).sum()) == 3
    assert refill(torch.ones(4, 2, dtype=torch.bool), torch.ones(4)).all()
    assert channels_of(refill(torch.zeros(4, 2, dtype=torch.bool), torch.zeros(4))).tolist() == [True, False, False, False]
    tied = torch.tensor([2.0, 1.0, 1.0, 1.0])
    assert refill(half, tied).tolist() == [[True, True], [True, True], [False, False], [False, False]]
    assert refill(half, tied, partial=True).tolist() == [[True, True], [True, True], [True, True], [False, False]]


@given(st.integers(1, 6), st.integers(2, 12), st.integers(0, 10), st.sampled_from([0.5, 1.5, 3.0]), st.integers(0, 10_000))
def test_widths_are_the_sheets_loops(q: int, n: int, tenths: int, t1: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(q, n, generator=generator) < tenths / 10
    order = mask.sum(0).sort(descending=True, stable=True).indices

    def released() -> int:
        left = mask.sum(1).tolist()
        for i in range(1, n):
            for j in range(q):
                left[j] -= int(mask[j, i])
                if i <= t1 * left[j]:
                    break
            else:
                return i
        return 0

    def intended() -> int:
        left = mask.sum(1).tolist()
        for i in range(1, n):
            left = [x - int(mask[j, order[i - 1]]) for j, x in enumerate(left)]
            if all(i > t1 * x for x in left):
                return i
        return 0

    assert released_width(mask, order, t1) == released()
    assert intended_width(mask, order, t1) == intended()


def test_the_papers_rule_takes_columns_that_half_of_the_rows_have() -> None:
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[:20, :20] = True
    mask[20:38, 30:50] = True
    mask[0, 59] = True
    labels = torch.arange(38) // 20
    calls = []

    def split(left: torch.Tensor) -> torch.Tensor:
        calls.append(alive({"": left}))
        return labels if len(calls) == 1 else torch.zeros(int(channels_of(left).sum()), dtype=torch.int64)

    blocks = regroup_by_columns(mask, split)
    assert [(len(b.rows), len(b.columns)) for b in blocks] == [(20, 20), (18, 20)]
    assert calls == [20 * 20 + 18 * 20 + 1, 1], "partitioned again on what is left"
    assert regroup_by_columns(mask, split, B2=30) == []


def test_the_nearest_count() -> None:
    assert nearest(lambda n: float(n), 1000, 321.0, tolerance=0) == 321
    assert nearest(lambda n: float(n // 100), 1000, 20.0) == 1000, "what cannot be reached is come near to"
    assert nearest(lambda n: float(n >= 7), 10, 0.9) in range(7, 11)


# -- deployment


def unsettled(p: Any) -> torch.nn.Module:
    """A network whose batch norms are far from the identity."""
    model = p.model()
    generator = torch.Generator().manual_seed(5)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            for t in (m.weight.data, m.bias.data, m.running_mean):
                t.copy_(torch.randn(t.shape, generator=generator))
    return model


def skewed(layers: Any) -> dict[str, torch.Tensor]:
    """Magnitudes in which columns and halves of the rows differ, as they do after training."""
    generator = torch.Generator().manual_seed(2)
    scores = {}
    for name, m in layers.items():
        c, n = m.weight.shape[0], m.weight[0].numel()
        liked = torch.randn(1 + c % 2 + 1, n, generator=generator).exp()[torch.arange(c) % 2]
        scores[name] = (torch.rand(c, n, generator=generator) * liked**2).view_as(m.weight)
    return scores


@pytest.fixture(params=["resnet20", "vgg16"])
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(networks.VGG_PLANS, "vgg16", (32, 64, "M", 64, 96, "M", 64))  # a small one
    return f"fashion/{request.param}"


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"mode": "regroup", "rule": "intended"}, {"mode": "regroup", "rule": "paper"}])
def test_what_is_deployed_is_the_masked_network(case: str, settings: dict[str, Any]) -> None:
    p = problem(case=case, target="macs=0.99", division="speed")
    model = unsettled(p)
    layers = maskable(model, classifier=False)
    structure = Structure(StructureLth(**settings), p, model, layers)
    scores = skewed(layers)
    masks, blocks = structure.of(keep_top(scores, alive({n: s > 0 for n, s in scores.items()}) // 4), scores)
    hooks = Masked(layers, masks) if settings else Held(model, layers, masks)
    hooks.after_step()
    small = structure.deploy(model, masks, blocks)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, *p.input, generator=generator).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, found = model.eval()(x), small.eval()(x)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    assert p.macs(small) == pytest.approx(structure.cost(masks, blocks)), "what is counted is what is executed"
    assert p.macs(small) < p.dense_macs
    assert any(isinstance(m, BlockConv2d) for m in small.modules()) == (bool(settings) or "resnet" in case)
    with torch.inference_mode():
        assert torch.equal(pickle.loads(pickle.dumps(small))(x), found)
        folded = fold_batch_norms(small, x)
        torch.testing.assert_close(folded(x), found, atol=1e-3 * float(expected.abs().max()), rtol=0)


def test_dead_channels_hold_still() -> None:
    p = problem()
    model = unsettled(p)
    layers = maskable(model, classifier=False)
    masks = {
        n: refill(m.weight.abs() > m.weight.abs().median(), rank_by(torch.ones_like(m.weight), m.weight.abs(), "l1"))
        for n, m in layers.items()
    }
    hooks = Held(model, layers, masks)
    hooks.after_step()
    for name, bn in batch_norms(model).items():
        if name in masks:
            dead = ~channels_of(masks[name])
            assert dead.any()
            norm = model.get_submodule(bn)
            assert not norm.weight[dead].any()
            assert not norm.bias[dead].any()
            assert norm.weight[~dead].all()


def test_signals_are_taken_layer_by_layer() -> None:
    p = problem(division="speed")
    model = p.model()
    layers = maskable(model, classifier=False)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(4, *p.input, generator=generator), torch.tensor([0, 1, 2, 3])
    for criterion in ("feature_l1", "feature_l2", "saliency"):
        signals = channel_signals(model, layers, batch, criterion)
        assert {n: len(s) for n, s in signals.items()} == {n: len(m.weight) for n, m in layers.items()}
        assert all((s >= 0).all() and s.any() for s in signals.values())
        assert len({float(s[0]) for s in signals.values()}) == len(signals)


# -- runs


def refilled(run: MemoryRun | None = None, **settings: Any) -> tuple[Any, Any]:
    p = problem(run)
    return p, StructureLth(rounds=1, **settings).solve(p)


def kept(p: Any, network: Any) -> dict[str, float]:
    return {m.name: m.value for m in TASK.weigh(p, network) if m.name.startswith("kept")}


@pytest.fixture(scope="module")
def skipped() -> list[int]:
    """How much of its schedule each training of the straight run leaves out."""
    return []


@pytest.fixture(scope="module")
def straight(skipped: list[int]) -> tuple[Any, Any]:
    from suite.meters.environment import prepare_process

    prepare_process(threads=1)
    later = rewinding.later
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewinding, "later", lambda recipe, skip: skipped.append(skip) or later(recipe, skip))
        return refilled()


def test_target_and_budget(straight: tuple[Any, Any]) -> None:
    p, network = straight
    assert kept(p, network)["kept.macs"] == pytest.approx(0.5, rel=0.01)
    assert 0 < p.run.examples <= p.budget
    notes = network.notes
    assert notes["structured"] == notes["density"]
    assert notes["unstructured"] == 0
    assert notes["density"] > notes["found"], "refill rounds channels up"


def test_a_stopped_run_ends_alike(straight: tuple[Any, Any]) -> None:
    first = MemoryRun(spec(), stop_after=9)  # in the ticket's training
    with pytest.raises(Stopped):
        refilled(first)
    _, again = refilled(MemoryRun(spec(), saved=first.saved))
    for (key, a), b in zip(straight[1].model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_every_training_has_the_schedule_from_its_start(straight: tuple[Any, Any], skipped: list[int]) -> None:
    assert skipped
    assert not any(skipped)


def test_the_control_has_the_same_masks_on_other_weights(straight: tuple[Any, Any]) -> None:
    p, control = refilled(weights="redrawn")
    assert control.notes == straight[1].notes
    assert p.macs(control.model) == p.macs(straight[1].model)
    assert not torch.equal(control.model.fc.weight, straight[1].model.fc.weight)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "settings"),
    [("macs=0.25", {"extra": 0.2, "criterion": "remain"}), ("nonzero=0.3", {"criterion": "saliency"})],
)
def test_the_speed_division_gives_shapes(target: str, settings: dict[str, Any]) -> None:
    p = problem(target=target, division="speed")
    network = StructureLth(**settings).solve(p)
    name, share = target.split("=")
    assert kept(p, network)[f"kept.{name}"] == pytest.approx(float(share), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["released", "intended"])
def test_a_regrouped_ticket(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.VGG_PLANS, "vgg16", (16, 64, "M", 64))  # two layers that may have blocks
    p = problem(case="fashion/vgg16", target="nonzero=0.5", division="speed")
    network = StructureLth(mode="regroup", rule=rule, rate=0.5).solve(p)
    assert kept(p, network)["kept.nonzero"] == pytest.approx(0.5, rel=0.01 if rule == "intended" else 0.2)
    notes = network.notes
    assert notes["density"] == pytest.approx(notes["structured"] + notes["unstructured"])
    assert notes["structured"] > 0
    assert set(notes["blocks"]) <= {"features.3", "features.7"}


def test_another_target_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="macs=SHARE or nonzero=SHARE"):
        StructureLth().solve(problem(target="edges=0.5"))
    with pytest.raises(UserError, match="form no blocks"):
        StructureLth(mode="regroup").solve(problem(target="macs=0.2"))
