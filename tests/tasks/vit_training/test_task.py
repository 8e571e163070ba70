"""The task: what it scores, what it counts and what it times."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.vit_training.dense import Dense
from suite import registry
from suite.meters.size import weight_bytes
from suite.naming import UserError
from suite.protocol import Measure
from tasks.images.workloads import Training
from tasks.vit_training import costs, task
from tasks.vit_training.examining import on_patches
from tasks.vit_training.networks import Tokens
from tasks.vit_training.problem import BEFORE, Before, Constant, Trained, VitProblem, asked
from tests.helpers import MemoryRun
from tests.tasks.vit_training.helpers import vit_problem, vit_spec

TASK = registry.task("vit_training")


def evidence(count: int = 12, **columns: object) -> dict[str, np.ndarray]:
    nobody = np.full(count, -1)
    plain = dict.fromkeys(TASK.columns, nobody) | {
        "row": np.arange(count),
        "label": np.arange(count) % 3,
        "picture": np.arange(count),
        "prediction": np.arange(count) % 3,
        "confidence": np.full(count, 0.5),
    }
    return {k: np.asarray(v).astype(TASK.columns[k]) for k, v in (plain | columns).items()}


def score(**columns: object) -> dict[tuple[str, str], float]:
    return {(m.name, m.part): m.value for m in TASK.score(vit_spec(), evidence(**columns))}


def test_what_was_not_asked_is_not_scored() -> None:
    found = score()
    assert found["top1", ""] == 100.0
    assert {name for name, _ in found} & {"tested", "parent_tested", "selector_recall"} == set()


def test_each_way_of_testing_is_a_part() -> None:
    label = np.arange(12) % 3
    wrong = (label + 1) % 3
    found = score(
        prediction=wrong,
        all=wrong,
        ticket=np.where(np.arange(12) < 6, label, wrong),
        random=np.full(12, 2),
        parent_all=wrong,
        parent_ticket=label,
        parent_random=np.full(12, task.DRAWS),
        found=np.full(12, 4),
        informative=np.full(12, 16),
    )
    assert [found["tested", part] for part in ("all", "tickets", "random")] == [0.0, 50.0, 40.0]
    assert [found["parent_tested", part] for part in ("all", "tickets", "random")] == [0.0, 100.0, 100.0]
    assert found["selector_recall", ""] == 25.0


def test_copies_of_a_picture_tell_no_more_than_one() -> None:
    """Of no measure, whether of all images, of a class or of the mean over classes; what is told stays the same."""
    label, answers = np.repeat(np.arange(3), 12), np.tile([0, 0, 1, 2], 9)

    def told(picture: np.ndarray) -> dict[tuple[str, str], Measure]:
        columns = {"label": label, "prediction": answers, "picture": picture}
        return {(m.name, m.part): m for m in TASK.score(vit_spec(), evidence(36, **columns)) if m.interval}

    once, thrice = told(np.arange(36)), told(np.arange(36) // 3)
    assert {name for name, _ in once} == {"top1", "balanced_accuracy", "worst_class", "class_accuracy"}
    for key, wide in thrice.items():
        narrow = once[key]
        assert wide.value == narrow.value
        assert width(wide) > 1.3 * width(narrow), key


def width(measure: Measure) -> float:
    assert measure.interval is not None
    return measure.interval[1] - measure.interval[0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"confidence": np.full(12, np.nan)}, "confidence"),
        ({"random": np.full(12, 6)}, "draws"),
        ({"found": np.full(12, 17), "informative": np.full(12, 16)}, "more patches"),
        ({"found": np.full(12, 4)}, "different images|more patches"),
        ({"found": np.full(12, -1), "informative": np.full(12, 16)}, "different images"),
        ({"found": np.full(12, 4), "informative": np.full(12, 4)}, "16 or -1"),
        ({"all": np.where(np.arange(12) < 6, 0, -1)}, "of some images"),
        ({"all": np.arange(12) % 3, "prediction": np.zeros(12)}, "neither the answer"),
    ],
)
def test_evidence_that_cannot_be_is_told(columns: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        score(**columns)


# --- a dense training, whole


@pytest.fixture(scope="module")
def trained() -> tuple[VitProblem, Trained]:
    problem = vit_problem(epochs=2, target="")
    return problem, Dense().solve(problem)


def test_the_dense_training_costs_what_it_costs(trained: tuple[VitProblem, Trained]) -> None:
    problem, solution = trained
    found = {m.name: m.value for m in TASK.weigh(problem, solution)}
    images = 2 * 5 * 48
    assert problem.run.spent == {"": images}
    assert found["images_processed"] == found["images_parent"] == images
    assert found["train_macs"] == 3 * images * problem.vit.macs(problem.vit.full) == found["total_macs"]
    assert [found[k] for k in ("kept.train_macs", "kept.tokens", "examples_share", "total_macs_share")] == [1.0] * 4
    assert found["train_macs_counted_share"] == 1.0
    assert found["solve_train"] == found["solve_total"]


def test_a_step_and_inference_are_timed(trained: tuple[VitProblem, Trained]) -> None:
    problem, solution = trained
    found = {w.name: w for w in TASK.workloads(problem, solution)}
    assert list(found) == ["train_step@0.5", "infer@64"]
    assert (found["train_step@0.5"].count, found["train_step@0.5"].parent_count, found["train_step@0.5"].items) == (10, 10, 48)
    before = {k: v.clone() for k, v in solution.model.state_dict().items()}
    for w in found.values():
        w.prepare()()
    assert all(torch.equal(v, before[k]) for k, v in solution.model.state_dict().items()), "a timed step trains a copy"


def test_what_is_only_compared_with_is_not_deployed(trained: tuple[VitProblem, Trained]) -> None:
    _, solution = trained
    more = replace(solution, whole=solution.model, selector=solution.model)
    alone = weight_bytes(TASK.deployed(solution))
    assert alone == sum(4 * p.numel() for p in solution.model.parameters()) == weight_bytes(TASK.deployed(more))
    other = replace(more, tested="tickets", selector=nn.Linear(5, 2))
    assert weight_bytes(TASK.deployed(other)) == alone + 4 * 12


def test_evidence_of_a_training_scores(trained: tuple[VitProblem, Trained]) -> None:
    problem, solution = trained
    table = TASK.examine(problem, solution)
    assert len(table["row"]) == 180
    assert {k: str(v.dtype) for k, v in table.items()} == dict(TASK.columns)
    assert (table["picture"][:6] == [0, 0, 0, 1, 1, 1]).all()
    assert {m.name for m in TASK.score(problem.spec, table)} >= {"top1", "worst_class", "calibration_error"}


def test_looks_are_taken_at_the_same_examples_whatever_the_epochs() -> None:
    runs, case = [], "digits/vit-24-1-2-p8"
    for share in (1.0, 0.5):
        run = MemoryRun(vit_spec(target="", case=case))
        problem = vit_problem(run, epochs=4, target="", case=case)
        from reference_impls.parts.vit_training import VitTrainer

        VitTrainer(problem).fit("train", problem.network(), epochs=int(4 * share))
        runs.append([n for n, _ in run.values if n == "val_top1"])
    assert (len(runs[0]), len(runs[1])) == (20, 10)  # each batch is more than a 24th of so short a training


# --- what cannot be


@dataclass(frozen=True)
class Claims:
    """A schedule that claims tokens which its network does not keep to."""

    seen: Tokens

    def set(self, model: nn.Module, point: float) -> None:
        return

    def tokens(self, point: float) -> Tokens:
        return self.seen


def test_a_schedule_is_held_to_a_count_of_the_network(trained: tuple[VitProblem, Trained]) -> None:
    problem, solution = trained
    half = Constant(((33, 33),) * problem.vit.depth)
    with pytest.raises(ValueError, match="its schedule says"):
        costs.forward(problem, replace(solution, schedule=half))
    with pytest.raises(ValueError, match="its schedule says"):
        costs.forward(problem, replace(solution, schedule=Claims(((99, 99),) * problem.vit.depth)))


def test_what_ran_before_is_timed_and_counted_in_the_whole(trained: tuple[VitProblem, Trained]) -> None:
    problem, solution = trained
    assert isinstance(solution.training, Training)
    before = (Before("dense", solution.model, 10, 48, solution.training), Before("scores", solution.model, 5, 48))
    other = replace(solution, before=before)
    found = {m.name: m.value for m in TASK.weigh(problem, other)}
    one = problem.vit.macs(problem.vit.full)
    assert found["kept.train_macs"] == 1.0
    assert found["total_macs"] == 480 * 3 * one + 480 * 3 * one + 240 * one
    timed = {w.name: w for w in TASK.workloads(problem, other)}
    assert [(n, timed[n].count, timed[n].parent_count, timed[n].versus) for n in ("before/dense", "before/scores")] == [
        ("before/dense", 10, 0.0, "train_step@0.5"),
        ("before/scores", 5, 0.0, "train_step@0.5"),
    ]
    for name in ("before/dense", "before/scores"):
        timed[name].prepare()()


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("digits/vit-24-4-2-p5", "patches of 5"),
        ("digits/vit-25-4-2-p4", "heads"),
        ("digits/mlp-3", "no architecture"),
        ("digits", "data/architecture"),
    ],
)
def test_a_network_that_cannot_be_is_told_before_anything_is_trained(case: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        vit_problem(case=case)


@pytest.mark.parametrize("target", ["", "macs=0.5", "tokens=0.5,train_macs=0.5"])
def test_a_target_of_another_kind_is_told(target: str) -> None:
    with pytest.raises(UserError, match=r"train_macs=0\.8"):
        asked(vit_problem(target=target), "train_macs", "tokens")


def test_what_runs_before_is_booked_apart_and_bounded() -> None:
    problem = vit_problem(epochs=2)
    before = replace(problem, counter=BEFORE)
    assert sum(len(x) for x, _ in before.plain("train")) == 240
    assert problem.run.spent == {BEFORE: 240}
    assert before.budget > 2 * problem.budget


def test_random_patches_are_the_same_for_every_network(trained: tuple[VitProblem, Trained]) -> None:
    problem, solution = trained
    tickets = torch.arange(16).expand(180, -1)
    first, again = (on_patches(problem, solution.model, tickets, 3, 5) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    whole, ticket, hits = first
    assert hits.max() <= 3
    assert whole.shape == ticket.shape == (180,)
    assert solution.model.patch_drop.index is None
