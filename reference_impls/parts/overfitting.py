"""The training loop of overfitted video: Adam and L1 on patches in memory, one network a chunk, all started alike.

A solve is a sequence of named stages.  Epochs end in checkpoints, and the order of the patches is addressed by stage and epoch,
so a stopped run goes on and ends bit for bit as if it had never been stopped (on CPU).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reference_impls.parts.stages import Stage, Stages
from suite.naming import UserError
from tasks.mobile_vsr import quality
from tasks.mobile_vsr.models import fold
from tasks.mobile_vsr.patches import cut
from tasks.mobile_vsr.player import Routing, Sent, Stream, pack
from tasks.mobile_vsr.task import BATCH, VideoProblem

RATE, FLOOR = 1e-3, 4e-8
SAVE_STEPS = 200  #: least steps between two checkpoints
SCORE_BATCH = 64
BELOW_BICUBIC = 2.0  #: dB that a general model may lie below bicubic interpolation and still rank patches

Loss = Callable[[nn.Module, "Pool", torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Pool:
    """Patches of one size, uint8: x (n, 3, h, w), y (n, 3, s h, s w); `worth` is one patch in fine ones, by its pixels."""

    x: torch.Tensor
    y: torch.Tensor
    worth: float = 1.0

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: torch.Tensor) -> Pool:
        """Some of the patches."""
        return Pool(self.x[index], self.y[index], self.worth)


def cosine(progress: float, rate: float = RATE, floor: float = FLOOR) -> float:
    """Learning rate after a share of the training: floor + (rate - floor) (1 + cos(pi progress)) / 2."""
    return floor + 0.5 * (rate - floor) * (1 + math.cos(math.pi * progress))


def l1(model: nn.Module, pool: Pool, index: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of a batch."""
    return (model(x) - y).abs().mean()


def shuffled_batches(
    sizes: Sequence[int], generator: torch.Generator, batch: int = BATCH, *, keep_rest: bool = False
) -> list[tuple[int, torch.Tensor]]:
    """One epoch as (pool, indices) batches, from all pools shuffled together.

    A pool of its own drops what does not fill a batch, or is one batch where it is smaller than one.  Several
    pools, or one with `keep_rest`, fill a buffer each in the order of arrival; a full buffer is a batch, and so is what is
    left at the end (Dy-DCA's released `trainer.py`).
    """
    order = torch.randperm(sum(sizes), generator=generator)
    if len(sizes) == 1 and not keep_rest:
        size = min(batch, len(order))
        whole = len(order) // size * size
        return [(0, index) for index in order[:whole].split(size)]
    found: list[tuple[int, int, torch.Tensor]] = []
    begin = 0
    for pool, size in enumerate(sizes):
        arrived = ((order >= begin) & (order < begin + size)).nonzero().flatten()
        members = order[arrived] - begin
        for index, when in zip(members.split(batch), arrived.split(batch), strict=True):
            full = len(index) == batch
            found.append((int(when[-1]) if full else len(order) + pool, pool, index))
        begin += size
    return [(pool, index) for _, pool, index in sorted(found, key=lambda f: f[0])]


@dataclass(frozen=True)
class Course:
    """How a stage trains, and when it ends: after `budget` or after `steps`, one of which is given."""

    budget: float = 0  #: fine patches
    steps: int = 0  #: of the optimizer
    general: int = 0  #: fine patches granted for content other than the clip; 0: the patches are the clip's
    rate: float = RATE
    loss: Loss = l1
    batches: Callable[[int], Iterator[tuple[Pool, torch.Tensor]]] | None = None  #: of an epoch; None: all patches, shuffled
    after_backward: Callable[[], None] | None = None  #: acts on the gradients
    constant: bool = False  #: keep the learning rate
    keep_rest: bool = False  #: see `shuffled_batches`
    network: str = ""  #: whose steps these are, where a network has several stages; else the stage's own

    @property
    def goal(self) -> float:
        """Steps or fine patches at which the stage ends."""
        return float(self.steps or self.budget)


class Overfitter:
    """Runs the stages of one solve.  Make one per solve: it reads the checkpoint, if there is one."""

    def __init__(self, problem: VideoProblem) -> None:
        self.problem = problem
        self._stages = Stages(problem.run)
        self.notes: dict[str, float] = {}  #: of the Solution: what was found out on the way

    def fit(self, stage: str, model: nn.Module, pools: Sequence[Pool], **course: Any) -> nn.Module:
        """Train `model` in place on the pools, by the fields of `Course`; returns it.

        Raises Diverged when the loss is not finite, UserError where no step is left; OverBudget and Stopped come from the
        budget.  Does nothing in the `speed` division.
        """
        if self.problem.spec.division == "speed":
            return model
        done = self._stages.finished(stage)
        if done is not None:
            model.load_state_dict(done["model"])
            return model
        self._stages.run(stage, lambda: _Overfitting(self.problem, stage, model, pools, Course(**course)))
        return model


class _Overfitting(Stage):
    """Epochs over patches in memory, until the steps or patches of the course are done."""

    def __init__(self, problem: VideoProblem, stage: str, model: nn.Module, pools: Sequence[Pool], course: Course) -> None:
        self.problem, self.stage, self.model, self.pools, self.course = problem, stage, model, pools, course
        self.optimizer = torch.optim.Adam(model.parameters(), course.rate)
        self.patches, self.steps = 0.0, 0  # done so far
        self.best: dict[str, Any] | None = None
        self.best_loss, self.mean = math.inf, math.nan
        self.saved_at, self.ended = 0, False

    def begin(self) -> None:
        self.model.train()
        self.saved_at = self.steps
        if self.course.goal < 1:
            raise UserError(f"no step is left for stage {self.stage!r}; ask for fewer networks")

    def step(self, epoch: int) -> float | None:
        """An epoch, or what is left of the course; its mean loss over pixels, None where nothing was left."""
        course, problem = self.course, self.problem
        total, weight = torch.zeros((), dtype=torch.float64, device=problem.device), 0
        begun = self._progress()
        for pool, index in course.batches(epoch) if course.batches else self._shuffled(epoch):
            worth = math.ceil(len(index) * pool.worth)
            self.ended = self.steps >= course.steps if course.steps else self.patches + worth > course.goal
            if self.ended:
                break
            problem.book(course.network or self.stage, worth, general=bool(course.general), granted=course.general)
            if not course.constant:
                by_epoch = problem.schedule == "epoch" and not course.general
                self.optimizer.param_groups[0]["lr"] = cosine(begun if by_epoch else self._progress(), course.rate)
            x, y = (t[index].to(problem.device).float().div_(255) for t in (pool.x, pool.y))
            value = course.loss(self.model, pool, index, x, y)
            self.optimizer.zero_grad(set_to_none=True)  # a network without a gradient in this step does not move
            value.backward()
            if course.after_backward is not None:
                course.after_backward()
            self.optimizer.step()
            total += value.detach() * y.numel()
            weight += y.numel()
            self.patches += worth
            self.steps += 1
        if not weight:
            self.ended = True
            return None
        self.mean = float(total) / weight
        return self.mean

    def after(self, epoch: int, loss: float | None) -> bool:
        sent_best = self.problem.select == "best" and not self.course.general
        if loss is not None and sent_best and loss < self.best_loss:
            self.best, self.best_loss = copy.deepcopy(self.model.state_dict()), loss
        due = loss is not None and self.steps - self.saved_at >= SAVE_STEPS
        if due:
            self.saved_at = self.steps
            self._report()
        if self.ended:
            if self.best is not None:
                self.model.load_state_dict(self.best)
            if math.isfinite(self.mean):
                self._report()
        return due

    def done(self) -> bool:
        return self.ended

    def state(self) -> dict[str, Any]:
        counts = {"patches": self.patches, "steps": self.steps, "best": self.best, "best_loss": self.best_loss}
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), **counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.patches, self.steps = float(state["patches"]), int(state["steps"])
        self.best, self.best_loss = state["best"], float(state["best_loss"])

    def outcome(self) -> dict[str, Any]:
        return {"model": self.model.state_dict()}

    def _progress(self) -> float:
        """Share of the course that is done, in steps or in patches."""
        return float(self.steps if self.course.steps else self.patches) / self.course.goal

    def _shuffled(self, epoch: int) -> Iterator[tuple[Pool, torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.problem.run.seed(f"order {self.stage}", epoch))
        sizes = [len(p) for p in self.pools]
        for i, index in shuffled_batches(sizes, generator, keep_rest=self.course.keep_rest):
            yield self.pools[i], index

    def _report(self) -> None:
        problem, spent = self.problem, self.problem.run.spent
        seen = spent.get("clip", 0) + BATCH * sum(n for counter, n in spent.items() if counter.startswith("steps "))
        name = f"train_loss.{self.stage}".replace(" ", "_")
        problem.run.progress(min(problem.budget, seen), problem.budget, **{name: self.mean})


# -- what methods share


def clip_pool(problem: VideoProblem) -> Pool:
    """All fine patches of the clip."""
    return Pool(*problem.patches)


def general_model(fitter: Overfitter, name: str = "", *, coarse: bool = False, stage: str = "general") -> nn.Module:
    """f0: a network trained on other content than the clip."""
    problem = fitter.problem
    x, y = problem.general_patches(coarse)
    pool = Pool(x, y, 4.0 if coarse else 1.0)
    granted = problem.general_budget(round(len(pool) * pool.worth))
    return fitter.fit(stage, problem.network(name, f"init {stage}"), [pool], budget=granted, general=granted)


def ranking_model(fitter: Overfitter) -> tuple[nn.Module, torch.Tensor]:
    """f0, and how well it restores every fine patch: (N,) PSNR, dB, what STDO ranks patches by.

    Raises UserError where it is too far below bicubic interpolation: it would rank by how foreign a patch looks, not by how
    hard it is.  Not asked on the smoke tier and in the `speed` division, where it is hardly trained.
    """
    problem, general = fitter.problem, general_model(fitter)
    errors = patch_errors(problem, general, *problem.patches, shave_of(problem))
    if problem.spec.tier != "smoke" and problem.spec.division != "speed":
        found, bicubic = quality.aggregate_psnr(errors), bicubic_psnr(problem)
        if found < bicubic - BELOW_BICUBIC:
            raise UserError(
                f"the general model restores this clip at {found:.2f} dB, bicubic interpolation at {bicubic:.2f} dB: too poor to"
                " rank patches by; train it on more content (--tier paper takes DIV2K) or for more steps (general_steps in"
                " tasks/mobile_vsr/content.py)"
            )
        fitter.notes |= {"general_psnr": found, "bicubic_psnr": bicubic}
    return general, quality.psnr(errors)


def bicubic_psnr(problem: VideoProblem) -> float:
    """psnr_patch_shave, dB, of whole frames enlarged by bicubic interpolation, on the clip's fine patches."""
    whole = pack(problem.scale, len(problem.numbers), Routing("whole"), []).player
    errors = []
    for t, (low, high) in enumerate(zip(*problem.frames, strict=True)):
        x, y = (cut(frame[None].float() / 255, *problem.grid) for frame in (whole.play(t, low), high))
        errors.append(quality.mse(x, y, shave_of(problem)))
    return quality.aggregate_psnr(torch.cat(errors))


def shave_of(problem: VideoProblem) -> int:
    """Pixels of border that are cut where a fine patch is judged."""
    return problem.scale + 4


def starting_network(problem: VideoProblem, general: nn.Module | None) -> nn.Module:
    """What every network of every method starts from: a copy of the general model, or the same fresh weights."""
    if problem.starts_from_general and general is not None:
        return copy.deepcopy(general)
    return problem.network()


def general_start(fitter: Overfitter) -> nn.Module | None:
    """The general model where networks start from it, else None: it is not trained for nothing."""
    return general_model(fitter) if fitter.problem.starts_from_general else None


@torch.no_grad()
def patch_errors(problem: VideoProblem, model: nn.Module, x: torch.Tensor, y: torch.Tensor, shave: int) -> torch.Tensor:
    """(n,) squared error that a network leaves on patches (n, 3, h, w), uint8, `shave` pixels of border cut."""
    plain = fold(model).eval()
    found = []
    for low, high in zip(x.split(SCORE_BATCH), y.split(SCORE_BATCH), strict=True):
        sr = plain(low.to(problem.device).float() / 255)
        found.append(quality.mse(sr, high.to(problem.device).float() / 255, shave).cpu())
    return torch.cat(found)


def overfit(fitter: Overfitter, chunks: Sequence[torch.Tensor], general: nn.Module | None) -> list[nn.Module | None]:
    """One network a chunk of fine patches (indices), all started alike; None for an empty chunk.

    The clip's budget is shared equally, or every network has all of it, as the case says.
    """
    problem = fitter.problem
    pool = clip_pool(problem)
    steps = problem.steps_each(len(chunks))
    return [
        fitter.fit(f"chunk {k}", starting_network(problem, general), [pool.take(index)], steps=steps) if len(index) else None
        for k, index in enumerate(chunks)
    ]


def dispatched(
    problem: VideoProblem, models: Sequence[nn.Module | None], assign: torch.Tensor, notes: Mapping[str, Any] | None = None
) -> Stream:
    """A Solution that sends a network a chunk and the chunk of every patch (N,).  Empty chunks keep their number."""
    frames = len(problem.numbers)
    networks: list[int] = []
    for model in models:
        networks.append(-1 if model is None else sum(n >= 0 for n in networks))
    sent = [Sent(problem.case.backbone, m) for m in models if m is not None]
    routing = Routing("map", *problem.grid, assign=assign.view(frames, -1).numpy(), networks=tuple(networks))
    return pack(problem.scale, frames, routing, sent, notes=notes)


def single(problem: VideoProblem, model: nn.Module, notes: Mapping[str, Any] | None = None, name: str = "") -> Stream:
    """A Solution that sends one network for all patches, of the case's backbone unless named."""
    routing = Routing("one", *problem.grid)
    return pack(problem.scale, len(problem.numbers), routing, [Sent(name or problem.case.backbone, model)], notes=notes)


def by_time(problem: VideoProblem, sent: Sequence[Sent], notes: Mapping[str, Any] | None = None) -> Stream:
    """A Solution whose networks follow each other in time; the client needs no map."""
    return pack(problem.scale, len(problem.numbers), Routing("time", *problem.grid), sent, notes=notes)


def time_chunks(problem: VideoProblem, count: int) -> list[torch.Tensor]:
    """Indices of the fine patches of `count` time chunks: frame t of T is in chunk floor(t K / T) (NAS as CaFM has it)."""
    frames = len(problem.numbers)
    cells = problem.grid[0] * problem.grid[1]
    chunk = (torch.arange(frames) * count // frames).repeat_interleave(cells)
    return members(chunk, count)


def members(assign: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Indices of each chunk, from the chunk of each patch (N,)."""
    return [(assign == k).nonzero().flatten() for k in range(count)]
