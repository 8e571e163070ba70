"""Recipes: their schedules are timm's and torch's to the digit, and what decays is what decays there."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.image_pruning.chex import Released
from reference_impls.parts.training import Hooks, Trainer
from suite.protocol import Stopped
from tasks.images.recipes import AdamW, Recipe, Sgd
from tasks.images.sources import InMemory
from tests.helpers import MemoryRun
from tests.tasks.images.helpers import pictures, problem, spec, timm


class Rates(Hooks):
    """Notes the rate of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.optimizer: torch.optim.Optimizer | None = None

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def after_backward(self) -> bool:
        assert self.optimizer is not None
        self.seen.append(self.optimizer.param_groups[0]["lr"])
        return True


def timms(recipe: AdamW, length: int, warmup: int) -> list[float]:
    """The rates of timm's own scheduler."""
    schedule = timm("timm.scheduler").CosineLRScheduler(
        torch.optim.AdamW([nn.Parameter(torch.zeros(1))], recipe.lr),
        t_initial=length,
        lr_min=recipe.least,
        warmup_t=warmup,
        warmup_lr_init=recipe.warmup_from,
    )
    return [schedule._get_lr(t)[0] for t in range(length)]


def test_a_schedule_by_steps_is_timms() -> None:
    p = problem(recipe=AdamW(lr=1e-3, warmup=2, stepwise=True), epochs=6)
    rates = Rates()
    Trainer(p).fit("train", p.model(), p.recipe, epochs=6, hooks=rates)
    assert p.steps_per_epoch == 8
    assert rates.seen == pytest.approx(timms(p.recipe, 48, 16), rel=1e-12)


def test_a_schedule_by_epochs_is_timms() -> None:
    recipe = AdamW(lr=1e-3)
    assert [recipe.rate(e, 30) for e in range(30)] == pytest.approx(timms(recipe, 30, 5), rel=1e-12)


def test_a_warm_up_may_start_at_its_first_share() -> None:
    recipe = AdamW(lr=1e-3, warmup=2, warmup_from=1e-3 / 3, least=1e-5)
    expected = [1e-3 * (e + 1) / 3 if e < 2 else 1e-3 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * e / 40))) for e in range(40)]
    assert [recipe.rate(e, 40) for e in range(40)] == pytest.approx(expected, rel=1e-12)


def test_a_cosine_by_steps_is_torchs_with_a_warm_up_of_torchs() -> None:
    p = problem(recipe=Sgd(lr=0.5, warmup=1, stepwise=True, least=0.01), epochs=4)
    rates = Rates()
    Trainer(p).fit("train", p.model(), p.recipe, epochs=4, hooks=rates)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 8, 1.0, total_iters=7)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24, 0.01)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [8])
    expected = []
    for _ in range(32):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates.seen == pytest.approx(expected, rel=1e-9)


def test_a_rate_by_epochs_is_the_same_in_all_steps_of_an_epoch() -> None:
    p = problem(recipe=Sgd(warmup=2), epochs=4)
    rates = Rates()
    Trainer(p).fit("train", p.model(), p.recipe, epochs=4, hooks=rates)
    assert rates.seen == [p.recipe.rate(e, 4) for e in range(4) for _ in range(8)]


def test_a_recipe_taken_up_later_goes_on_where_it_would_have_been() -> None:
    for recipe in (Sgd(warmup=2), Sgd(schedule="steps", milestones=(0.5,)), AdamW(warmup=3)):
        later = Recipe.of(problem(recipe=recipe), skip=2)
        assert [later.rate(e, 8) for e in range(8)] == [recipe.rate(e, 10) for e in range(2, 10)]
        assert type(later) is type(recipe)


class Positioned(nn.Module):
    """A network with all that decays or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.ln, self.head = nn.LayerNorm(4), nn.Linear(4, 2)
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)

    def no_weight_decay(self) -> set[str]:
        return {"cls_token"}


def decays(optimizer: torch.optim.Optimizer) -> dict[int, float]:
    return {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}


def test_what_decays_under_adamw_is_what_timm_lets_decay() -> None:
    model = Positioned()
    found = decays(AdamW().optimizer(model))
    names = {n: found.get(id(p)) for n, p in model.named_parameters()}
    assert [n for n, decay in names.items() if decay == 0.05] == ["conv.weight", "head.weight"]
    assert names["frozen"] is None
    theirs = timm("timm.optim").param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    assert found == {id(p): g["weight_decay"] for g in theirs for p in g["params"]}


def test_what_decays_under_sgd_is_all_but_batch_norms() -> None:
    model = Positioned()
    found = decays(Sgd().optimizer(model))
    free = {n for n, p in model.named_parameters() if found[id(p)] == 0}
    assert free == {"bn.weight", "bn.bias"}


def test_a_recipe_of_a_method_is_the_problems_with_its_changes() -> None:
    p = problem(recipe=Sgd(lr=0.3, warmup=2))
    assert Recipe.of(p) == p.recipe
    assert Recipe.of(p, lr=0.1) == Sgd(lr=0.1, warmup=2)
    assert Released.of(p) == Released(lr=0.3, warmup=2)
    assert Recipe.of(problem(recipe=AdamW(betas=(0.8, 0.9)))) == AdamW(betas=(0.8, 0.9))


def test_a_recipe_says_in_words_what_it_holds() -> None:
    assert Sgd().summary(128) == "SGD 0.1, momentum 0.9, weight decay 5e-4, batch 128, cosine"
    imagenet = Sgd(1.024, 2.0**-15, momentum=0.875, warmup=8, label_smoothing=0.1, mixup=0.2)
    assert imagenet.summary() == (
        "SGD 1.024, momentum 0.875, weight decay 2^-15, 8 epochs of warm-up, cosine, label smoothing 0.1, mixup 0.2"
    )
    assert AdamW().summary(512) == "AdamW 5e-4, weight decay 0.05, batch 512, 5 epochs of warm-up, cosine"


def test_soft_targets_that_are_labels_give_the_loss_of_labels() -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3), torch.randn(8, 4), torch.randint(3, (8,))
    hard, soft = Sgd().loss(model, x, y), Sgd(mixup=0.5, label_smoothing=0.1).loss(model, x, F.one_hot(y, 3).float())
    torch.testing.assert_close(hard, soft)


def test_mixup_draws_what_it_drew() -> None:
    model, recipe = nn.Linear(4, 3), Sgd(mixup=0.2, label_smoothing=0.1)
    x, y = torch.randn(8, 4), torch.randint(3, (8,))
    torch.manual_seed(5)
    found = recipe.loss(model, x, y)
    torch.manual_seed(5)
    share, other = float(torch.distributions.Beta(0.2, 0.2).sample()), torch.randperm(8)
    logits = model(share * x + (1 - share) * x[other])
    losses = [F.cross_entropy(logits, labels, label_smoothing=0.1) for labels in (y, y[other])]
    assert torch.equal(found, share * losses[0] + (1 - share) * losses[1])


def by_adamw(run: MemoryRun) -> dict[str, torch.Tensor]:
    p = problem(InMemory(pictures()), "resnet20", AdamW(lr=1e-3, warmup=1, stepwise=True, mixup=0.2), run, epochs=3, batch=8)
    return Trainer(p).fit("train", p.model(), p.recipe, epochs=3).state_dict()


@functools.cache
def straight() -> dict[str, torch.Tensor]:
    """What nothing stopped, one for all that are held against it."""
    return by_adamw(MemoryRun(spec("resnet20")))


@pytest.mark.slow
@pytest.mark.parametrize("moment", [3, 11, 20])
def test_a_stopped_training_by_adamw_and_steps_ends_as_if_it_had_not_been(moment: int) -> None:
    asked = spec("resnet20")
    run = MemoryRun(asked, stop_after=moment)
    with pytest.raises(Stopped):
        by_adamw(run)
    again = by_adamw(MemoryRun(asked, saved=run.saved))
    assert all(torch.equal(v, again[k]) for k, v in straight().items())


def test_the_curve_bears_the_name_of_what_the_problem_validates() -> None:
    p = problem(epochs=2)
    p.validation = "val_worst_group"
    Trainer(p).fit("train", p.model(), p.recipe, epochs=2)
    assert {name for name, _ in p.run.values} == {"train_loss", "val_worst_group"}
