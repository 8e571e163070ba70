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

from suite.naming import UserError
from suite.protocol import Diverged
from tasks.mobile_vsr import quality
from tasks.mobile_vsr.models import fold
from tasks.mobile_vsr.patches import cut
from tasks.mobile_vsr.player import Routing, Sent, Stream, pack
from tasks.mobile_vsr.task import BATCH, VideoProblem

RATE, FLOOR = 1e-3, 4e-8
SAVE_STEPS = 200  #: least steps between two checkpoints
SCORE_BATCH = 64
BELOW_BICUBIC = 2.0  #: dB that a general model may lie below bicubic interpolation and still rank patches (stdo.md 6)

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
    """Learning rate after a share of the training: floor + (rate - floor) (1 + cos(pi progress)) / 2 (stdo.md 2.4)."""
    return floor + 0.5 * (rate - floor) * (1 + math.cos(math.pi * progress))


def l1(model: nn.Module, pool: Pool, index: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of a batch."""
    return (model(x) - y).abs().mean()


def shuffled_batches(
    sizes: Sequence[int], generator: torch.Generator, batch: int = BATCH, *, keep_rest: bool = False
) -> list[tuple[int, torch.Tensor]]:
    """One epoch as (pool, indices) batches, from all pools shuffled together.

    A pool of its own drops what does not fill a batch, or is one batch where it is smaller than one (stdo.md 2.4).  Several
    pools, or one with `keep_rest`, fill a buffer each in the order of arrival; a full buffer is a batch, and so is what is
    left at the end (dy_dca.md 2.3).
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


class Overfitter:
    """Runs the stages of one solve.  Make one per solve: it reads the checkpoint, if there is one."""

    def __init__(self, problem: VideoProblem) -> None:
        self.problem = problem
        self._saved: dict[str, Any] = problem.run.load() or {"finished": {}, "current": None, "books": {}}
        self._finished: dict[str, Any] = self._saved["finished"]
        problem.books.clear()
        problem.books.update(self._saved["books"])
        self._total = problem.budget
        self.notes: dict[str, float] = {}  #: of the Solution: what was found out on the way

    def fit(
        self,
        stage: str,
        model: nn.Module,
        pools: Sequence[Pool],
        *,
        budget: float = 0,
        steps: int = 0,
        general: int = 0,
        rate: float = RATE,
        loss: Loss = l1,
        batches: Callable[[int], Iterator[tuple[Pool, torch.Tensor]]] | None = None,
        after_backward: Callable[[], None] | None = None,
        constant: bool = False,
        keep_rest: bool = False,
        network: str = "",
    ) -> nn.Module:
        """Train `model` in place; returns it.

        Args:
            budget: ends after so many fine patches; `steps` after so many optimizer steps.  One of them is given.
            general: fine patches granted for content other than the clip; 0: the patches are the clip's.
            batches: an epoch's batches, instead of all patches of the pools shuffled.
            after_backward: acts on the gradients.
            constant: keep the learning rate.
            keep_rest: see `shuffled_batches`.
            network: whose steps these are, where a network has several stages; else the stage's own.

        Raises Diverged when the loss is not finite; OverBudget and Stopped come from the books.  Does nothing in the `speed`
        division.
        """
        problem = self.problem
        if problem.spec.division == "speed":
            return model
        if stage in self._finished:
            model.load_state_dict(self._finished[stage])
            return model
        optimizer = torch.optim.Adam(model.parameters(), rate)
        state: dict[str, Any] = {"done": 0.0, "steps": 0, "epoch": 0, "best": None, "best_loss": math.inf}
        current = self._saved["current"]
        if current is not None and current["stage"] == stage:
            model.load_state_dict(current["model"])
            optimizer.load_state_dict(current["optimizer"])
            state = dict(current["state"])
        model.train()
        goal = float(steps or budget)
        if goal < 1:
            raise UserError(f"no step is left for stage {stage!r}; ask for fewer networks")
        saved_at, finished, mean = state["steps"], False, math.nan
        while not finished:
            total, weight = torch.zeros((), dtype=torch.float64, device=problem.device), 0
            begun = _progress(state, steps, goal)
            for pool, index in batches(state["epoch"]) if batches else self._epoch(stage, state["epoch"], pools, keep_rest):
                worth = math.ceil(len(index) * pool.worth)
                finished = state["steps"] >= steps if steps else state["done"] + worth > goal
                if finished:
                    break
                problem.book(network or stage, worth, general=bool(general), granted=general)
                if not constant:
                    by_epoch = problem.schedule == "epoch" and not general
                    optimizer.param_groups[0]["lr"] = cosine(begun if by_epoch else _progress(state, steps, goal), rate)
                x, y = (t[index].to(problem.device).float().div_(255) for t in (pool.x, pool.y))
                value = loss(model, pool, index, x, y)
                optimizer.zero_grad(set_to_none=True)  # a network without a gradient in this step does not move
                value.backward()
                if after_backward is not None:
                    after_backward()
                optimizer.step()
                total += value.detach() * y.numel()
                weight += y.numel()
                state["done"] += worth
                state["steps"] += 1
            if not weight:
                break
            mean = float(total) / weight
            if not math.isfinite(mean):
                raise Diverged(f"the training loss is {mean} in epoch {state['epoch']} of stage {stage!r}")
            state["epoch"] += 1
            if problem.select == "best" and not general and mean < state["best_loss"]:
                state["best"], state["best_loss"] = copy.deepcopy(model.state_dict()), mean
            if state["steps"] - saved_at >= SAVE_STEPS:
                saved_at = state["steps"]
                current = {"stage": stage, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state}
                problem.run.save({"finished": self._finished, "current": current, "books": dict(problem.books)})
                self._report(stage, mean)
        if state["best"] is not None:
            model.load_state_dict(state["best"])
        if math.isfinite(mean):
            self._report(stage, mean)
        self._finished[stage] = copy.deepcopy(model.state_dict())
        return model

    def note(self, **values: float) -> None:
        """Put values on the run's curve."""
        self.problem.run.progress(self._clip_patches(), self._total, **values)

    def _epoch(self, stage: str, epoch: int, pools: Sequence[Pool], keep_rest: bool) -> Iterator[tuple[Pool, torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.problem.run.seed(f"order {stage}", epoch))
        for i, index in shuffled_batches([len(p) for p in pools], generator, keep_rest=keep_rest):
            yield pools[i], index

    def _report(self, stage: str, loss: float) -> None:
        self.note(**{f"train_loss.{stage}".replace(" ", "_"): loss})

    def _clip_patches(self) -> int:
        books = self.problem.books
        return min(self._total, books.get("clip", 0) + BATCH * sum(n for k, n in books.items() if k.startswith("steps ")))


def _progress(state: Mapping[str, Any], steps: int, goal: float) -> float:
    """Share of a stage that is done, in steps or in patches."""
    return float(state["steps"] if steps else state["done"]) / goal


# -- what methods share


def clip_pool(problem: VideoProblem) -> Pool:
    """All fine patches of the clip."""
    return Pool(*problem.patches)


def general_model(fitter: Overfitter, name: str = "", *, coarse: bool = False, stage: str = "general") -> nn.Module:
    """f0: a network trained on other content than the clip (stdo.md 2.2 and 6)."""
    problem = fitter.problem
    x, y = problem.general_patches(coarse)
    pool = Pool(x, y, 4.0 if coarse else 1.0)
    granted = problem.general_budget(round(len(pool) * pool.worth))
    return fitter.fit(stage, problem.network(name, f"init {stage}"), [pool], budget=granted, general=granted)


def ranking_model(fitter: Overfitter) -> tuple[nn.Module, torch.Tensor]:
    """f0, and how well it restores every fine patch: (N,) PSNR, dB, what patches are ranked by (stdo.md 2.2).

    Raises UserError where it is too far below bicubic interpolation: it would rank by how foreign a patch looks, not by how
    hard it is (stdo.md 6).  Not asked on the smoke tier and in the `speed` division, where it is hardly trained.
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
    """Pixels of border that are cut where a fine patch is judged (stdo.md 2.2)."""
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
    """Indices of the fine patches of `count` time chunks: frame t of T is in chunk floor(t K / T) (vsr_baselines.md 2.2)."""
    frames = len(problem.numbers)
    cells = problem.grid[0] * problem.grid[1]
    chunk = (torch.arange(frames) * count // frames).repeat_interleave(cells)
    return members(chunk, count)


def members(assign: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Indices of each chunk, from the chunk of each patch (N,)."""
    return [(assign == k).nonzero().flatten() for k in range(count)]
