"""Chase: dynamic sparse training whose sparsity gathers in whole channels, which are then removed during the same run.

Paper: Yin, Li, Fang, Shen, Huang, Wang, Menkovski, Ma, Pechenizkiy, Liu. Dynamic Sparsity Is Channel-Level Sparsity Learner.
NeurIPS 2023, arXiv 2305.19454.

Deviations: a target of operations (``macs=``) lets the cubic schedule run on multiply-adds, since another share of channels
would meet it in every run; with ``nonzero=`` alone it runs on channels as in the paper. With a target of operations the weights
that a channel holds count beside its score, as little as is needed for a region that holds K_0 and the exploration. Counts are
exact where the released code is off by one (`parity` brings that back), a layer always keeps a channel, and the last of the
epochs is spent on recomputing batch-norm statistics. Learning rate and length of a run are the table's: the paper's interval of
deletions is a setting, ImageNet's strict threshold and its raised floor of the density are left out. The state of best
validation is deployed, where other methods of the table deploy their last, and the last epoch's is not kept beside it. The
density is 0.2 for every network, also where the paper has 0.1. The `speed` division, which trains nothing, deletes by the
initial weights and has K_0 of them, drawn at random, in the channels that are left. MEST, and channels removed at once from a
trained RigL network, are not run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from reference_impls.parts.channels import close_gap, ranked_widths, target_macs
from reference_impls.parts.sparse import Masked, Masks, alive, erk_densities, keep_top, small_interval, weighted
from reference_impls.parts.training import Trainer
from suite.naming import UserError
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.channels import ChannelGroup
from tasks.images.recipes import Recipe

__all__ = ["Chase"]

Flags = dict[str, torch.Tensor]
Sample = Callable[[list[int], int], list[int]]
PAPER_INTERVAL = 1000  #: steps between explorations (Chase's released scripts)
STEPS = 8  #: halvings for how much a channel's weights count beside its score


@dataclass(frozen=True)
class Chase:
    """Symbols as in the paper and the released scripts."""

    version: ClassVar[int] = 1

    density: float = 0.2  #: d, the share of weights that stay; a target nonzero= comes first
    channel_sparsity: float = 0.5  #: S_c, the share of channels that leave, where no target of operations sets it
    beta: float = 0.2  #: a layer keeps at least this share of the channels that an even removal would leave it
    overshoot: float = 0.05  #: r, how far the density lies above its goal at the start
    channels_end: float = 0.8  #: E_g / E: channels leave up to this share of the epochs
    last: float = 0.2  #: E_s / E: share of the epochs, the last ones, whose best state is deployed
    interval: int = 0  #: steps between explorations; 0: 1000 on the paper tier, else max(50, half an epoch)
    channel_interval: int = 0  #: steps between deletions; 0: an epoch
    #: whether weights are dropped and grown over all layers together or within each
    exploration: Literal["global", "layerwise"] = "global"
    score: Literal["unmasked", "masked", "random"] = "unmasked"  #: UMM, its mean over the mask, or the control
    parity: bool = False  #: thresholds off by one and no channel floor, as released

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        chasing = Chasing(self, problem, model)
        trainer = Trainer(problem)
        trainer.fit("train", model, Recipe.of(problem), epochs=problem.epochs - 1, hooks=chasing)
        chasing.finish()
        small = problem.compact(model, chasing.flags)
        recompute_statistics(small, problem, problem.epochs - 1)
        widths = {n: int(f.sum()) for n, f in chasing.flags.items()}
        return Network(small, {"widths": widths, "alive": chasing.trace, "spread": chasing.spreads})


class Chasing(Masked):
    """As in the released code: after each step channels may be deleted, then weights dropped and grown."""

    def __init__(self, method: Chase, problem: ImageProblem, model: nn.Module) -> None:
        self.method, self.problem, self.model = method, problem, model
        layers = weighted(model)
        self.density = problem.spec.targets.get("nonzero", method.density)
        self.shapes = {n: tuple(m.weight.shape) for n, m in layers.items()}
        self.total = sum(math.prod(s) for s in self.shapes.values())  # N_tot
        shares = erk_densities(self.shapes, self.density)
        self.budget = sum(shares[n] * math.prod(s) for n, s in self.shapes.items())  # K_0, real-valued
        generator = torch.Generator().manual_seed(problem.run.seed("chase"))
        masks = {n: (torch.rand(s, generator=generator) < shares[n]).to(layers[n].weight.device) for n, s in self.shapes.items()}
        super().__init__(layers, masks)
        self.groups = [g for g in problem.groups(model) if isinstance(g.consumer, nn.Conv2d)]
        self.consumers = {g.name: g.names.consumer for g in self.groups}
        self.flags: Flags = {g.name: torch.ones(g.width, dtype=torch.bool, device=g.layer.weight.device) for g in self.groups}
        self.first_count = sum(g.width for g in self.groups)  # F_0
        inputs = {consumer: name for name, consumer in self.consumers.items()}
        #: a layer's weights by its widths: kernel, group of its output and of its input, full widths
        self.parts = [(math.prod(s[2:]), n, inputs.get(n, ""), s[0], s[1]) for n, s in self.shapes.items()]
        least = 0 if method.parity else 1
        self.floors = {g.name: max(least, int(g.width * (1 - method.channel_sparsity) * method.beta)) for g in self.groups}
        per_epoch, epochs = problem.steps_per_epoch, problem.epochs - 1
        self.interval = method.interval or (PAPER_INTERVAL if problem.spec.tier == "paper" else small_interval(per_epoch))
        self.channel_interval = method.channel_interval or per_epoch
        self.room = self.total * (self.density + method.overshoot)
        if "macs" in problem.spec.targets:
            self.room = min(self.room, self.most_room())
        self.t_channels = int(method.channels_end * epochs * per_epoch)  # T_c
        self.t_explore = max(1, int(per_epoch * epochs * (1 - method.last)))  # T_1
        self.t_end = max(1, epochs * per_epoch)
        self.best_from = epochs - round(method.last * epochs)
        self.step = 0
        self.best: dict[str, Any] = {"top1": -1.0}
        self.trace: list[int] = []
        self.spreads: list[dict[str, float]] = []

    # -- the loop's calls

    def before_epoch(self, epoch: int) -> None:
        if epoch > self.best_from:
            self.keep_best()

    @torch.no_grad()
    def after_step(self) -> None:
        super().after_step()
        if self.layers[next(iter(self.layers))].weight.grad is None:
            return  # not a step yet: the stage begins
        self.step += 1
        t = self.step
        if is_deletion(t, self.t_channels, self.interval, self.channel_interval):
            last = t + self.channel_interval >= self.t_channels
            self.delete(1.0 if last and "macs" in self.problem.spec.targets else channel_rate(t, self.t_channels))
        if t % self.interval == 0:
            self.explore(t)
            self.spreads.append({"step": t, **self.spread()})
        super().after_step()

    def state(self) -> dict[str, Any]:
        own = {"flags": self.flags, "step": self.step, "best": self.best, "trace": self.trace, "spreads": self.spreads}
        return {**super().state(), **own}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.flags, self.step = dict(state["flags"]), int(state["step"])
        self.best, self.trace, self.spreads = dict(state["best"]), list(state["trace"]), list(state["spreads"])

    # -- channels

    def delete(self, progress: float) -> None:
        """2.4 step 3; `progress` is the schedule's share, 1 at its end."""
        scores = {g.name: self.umm(g) for g in self.groups}
        if "macs" in self.problem.spec.targets:
            self.delete_to_operations(scores, progress)
        else:
            wanted = self.first_count * (1 - self.method.channel_sparsity * progress)
            generator = torch.Generator().manual_seed(self.problem.run.seed("chase sample", self.step))
            self.flags = delete_channels(scores, self.flags, wanted, self.floors, lambda x, k: draw(x, k, generator))
        self.trace.append(sum(int(f.sum()) for f in self.flags.values()))
        self.masks = apply_region(self.masks, self.flags, self.consumers)
        for g in self.groups:
            if g.layer.bias is not None:
                g.layer.bias.mul_(self.flags[g.name])

    def delete_to_operations(self, scores: Mapping[str, torch.Tensor], progress: float) -> None:
        problem = self.problem
        goal = problem.dense_macs - (problem.dense_macs - target_macs(problem)) * progress
        left = {n: s[self.flags[n]] for n, s in scores.items()}
        full = {n: len(s) for n, s in left.items()}
        floors = {n: min(full[n], max(1, f)) for n, f in self.floors.items()}
        widths = self.roomy_widths(left, goal, floors, self.total - (self.total - self.room) * progress)
        if progress >= 1:
            widths = close_gap(widths, full, floors, problem.macs_of, goal)
        for name, width in widths.items():
            strongest = scores[name].masked_fill(~self.flags[name], -math.inf).sort(descending=True, stable=True).indices
            flags = torch.zeros_like(self.flags[name])
            flags[strongest[:width]] = True
            self.flags[name] = flags

    def roomy_widths(
        self, scores: Mapping[str, torch.Tensor], goal: float, floors: Mapping[str, int], room: float
    ) -> dict[str, int]:
        """Widths that meet `goal` multiply-adds with channels of the highest scores, and whose region holds `room` weights.

        In the end these are N_tot (d + r).  Where the scores alone leave a smaller region, a channel is ranked by
        its share of all scores mixed with its share of all weights: as little of these, to `STEPS` halvings, as is needed.
        """
        widths = ranked_widths(scores, self.problem.macs_of, goal, floors)
        if self.held(widths) >= room:
            return widths
        total = sum(float(s.sum()) for s in scores.values())
        heavy = self.weights_a_channel()
        weight = sum(heavy[n] * len(s) for n, s in scores.items())
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            part = (low + high) / 2
            mixed = {n: (1 - part) * s / max(total, 1e-30) + part * heavy[n] / weight for n, s in scores.items()}
            found = ranked_widths(mixed, self.problem.macs_of, goal, floors)
            if self.held(found) >= room:
                widths, high = found, part
            else:
                low = part
        if high == 1.0:
            by_weight = {n: torch.full_like(s, heavy[n]) for n, s in scores.items()}
            widths = ranked_widths(by_weight, self.problem.macs_of, goal, floors)
        return widths

    def held(self, widths: Mapping[str, int]) -> int:
        """Weights of the region that these inner widths leave."""
        return sum(k * widths.get(o, c_out) * widths.get(i, c_in) for k, o, i, c_out, c_in in self.parts)

    def weights_a_channel(self) -> dict[str, float]:
        """Weights that leave with one channel of each layer of full width: its filter and what reads it."""
        full = {g.name: g.width for g in self.groups}
        return {n: float(self.held(full) - self.held({**full, n: c - 1})) for n, c in full.items()}

    def most_room(self) -> int:
        """The largest region under the target of operations; raises UserError where it does not hold K_0 weights."""
        heavy = self.weights_a_channel()
        scores = {g.name: torch.full((g.width,), heavy[g.name]) for g in self.groups}
        most = self.held(ranked_widths(scores, self.problem.macs_of, target_macs(self.problem), self.floors))
        if most < self.budget:
            raise UserError(
                f"target {self.problem.spec.target!r}: networks of so few multiply-adds hold {most / self.total:.2f} of the weights"
                f" at most, and {self.density:.2f} are to stay; set density lower"
            )
        return most

    def umm(self, g: ChannelGroup) -> torch.Tensor:
        """2.4 step 3a: the channels' scores, (C,)."""
        if self.method.score == "random":
            generator = torch.Generator().manual_seed(self.problem.run.seed(f"chase random {g.name}", self.step))
            return torch.rand(g.width, generator=generator).to(g.layer.weight.device)
        return channel_scores(g.layer.weight, self.masks[g.name] if self.method.score == "masked" else None)

    def spread(self) -> dict[str, float]:
        """How unlike a layer's channels are, a mean over layers: the paper's observation is that sparse training parts them.

        `umm`: standard deviation of the scores over their mean; `density`: 10th over 50th percentile of the channels' shares of
        weights.
        """
        umm, density = [], []
        for g in self.groups:
            stays = self.flags[g.name]
            if not stays.any():
                continue  # as `parity` may have it
            scores = channel_scores(g.layer.weight, None)[stays]
            shares = self.masks[g.name][stays].flatten(1).double().mean(1)
            low, middle = shares.quantile(shares.new_tensor([0.1, 0.5])).tolist()
            umm.append(float(scores.std(correction=0) / scores.mean().clamp_min(1e-30)))
            density.append(low / middle if middle else 0.0)
        return {"umm": sum(umm) / max(1, len(umm)), "density": sum(density) / max(1, len(density))}

    # -- weights

    def explore(self, t: int) -> None:
        """2.4 step 4: drop by magnitude, grow by this step's gradient, over all layers or within each."""
        region = region_of(self.shapes, self.flags, self.consumers)
        region = {n: r.to(self.masks[n].device) for n, r in region.items()}
        strength = {n: m.weight.detach().abs() for n, m in self.layers.items()}
        wish = {n: m.weight.grad.abs() for n, m in self.layers.items() if m.weight.grad is not None}
        overshot = density_budget(t, self.t_explore, self.density, self.method.overshoot)
        swap = swap_rate(t, self.t_end)
        exact = not self.method.parity

        def turn(names: list[str], budget: float, most: float) -> None:
            def own(x: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
                return {n: x[n] for n in names}

            masks = own(self.masks)
            early = t < self.t_explore
            gone = int(alive(masks) - budget) if early else math.ceil(swap * alive(masks))
            masks = drop(own(strength), masks, own(region), gone, exact=exact)
            self.masks = {**self.masks, **masks}
            Masked.after_step(self)  # a weight that comes back at once starts at 0 like all that grow
            masks = grow(own(wish), masks, own(region), int((most if early else budget) - alive(masks)), exact=exact)
            self.masks = {**self.masks, **masks}

        if self.method.exploration == "global":
            turn(list(self.layers), self.budget, self.total * overshot)
            return
        # 3f; a layer that lost all of its channels, as `parity` may have it, has no density
        sizes = {n: size for n, r in region.items() if (size := int(r.sum()))}
        left = self.shapes_left()
        shares = erk_densities({n: left[n] for n in sizes}, self.budget / sum(sizes.values()))
        for name, size in sizes.items():
            turn([name], shares[name] * size, shares[name] * size * overshot / self.density)

    def shapes_left(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights that are not deleted."""
        left = {n: list(s) for n, s in self.shapes.items()}
        for name, flags in self.flags.items():
            left[name][0] = left[self.consumers[name]][1] = int(flags.sum())
        return {n: tuple(s) for n, s in left.items()}

    # -- the end

    def keep_best(self) -> None:
        top1 = self.problem.validate(self.model)
        if top1 >= self.best["top1"]:
            self.best = {"top1": top1, "model": copy.deepcopy(self.model.state_dict()), "flags": dict(self.flags)}

    def finish(self) -> None:
        """Take the best state of the last epochs; the `speed` division has taken no step, so it deletes at once."""
        if self.problem.spec.division == "speed":
            self.shape()
            return
        self.keep_best()
        self.model.load_state_dict(self.best["model"])
        self.flags = self.best["flags"]

    @torch.no_grad()
    def shape(self) -> None:
        """All channels deleted by the initial weights, and K_0 random weights in what is left, as after training."""
        self.delete(1.0)
        generator = torch.Generator().manual_seed(self.problem.run.seed("chase shape"))
        chance = {n: torch.rand(s, generator=generator).to(self.masks[n].device) for n, s in self.shapes.items()}
        region = {n: r.to(self.masks[n].device) for n, r in region_of(self.shapes, self.flags, self.consumers).items()}
        masks = drop(chance, self.masks, region, int(alive(self.masks) - self.budget))
        self.masks = grow(chance, masks, region, int(self.budget) - alive(masks))
        for name, initial in weighted(self.problem.model()).items():
            self.layers[name].weight.copy_(initial.weight * self.masks[name])


def channel_rate(t: float, t_channels: float) -> float:
    """s_c(t) / S_c = 1 - (1 - t/T_c)^3, clipped to [0, 1]."""
    return min(1.0, max(0.0, 1 - (1 - t / t_channels) ** 3)) if t < t_channels else 1.0


def is_deletion(t: int, t_channels: int, interval: int, channel_interval: int) -> bool:
    """Every `channel_interval` steps before T_c, half an exploration interval off its multiples."""
    return t < t_channels and (t + interval // 2) % channel_interval == 0


def density_budget(t: int, t_explore: int, density: float, overshoot: float) -> float:
    """D(t) = d + r (1 + cos(pi t / T_1)) / 2."""
    return density + overshoot * (1 + math.cos(math.pi * t / t_explore)) / 2


def swap_rate(t: int, t_end: int) -> float:
    """q(t) = 0.005 + 0.495 (1 + cos(pi t / (E n_it))) / 2."""
    return 0.005 + 0.495 * (1 + math.cos(math.pi * t / t_end)) / 2


def channel_scores(weight: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean magnitude of each filter, (C, ...) to (C,): over the whole filter (UMM), or over a mask's ones."""
    total = weight.detach().abs().flatten(1).sum(1)
    if mask is None:
        return total / weight[0].numel()
    return total / mask.flatten(1).sum(1).clamp_min(1)


def delete_channels(
    scores: Mapping[str, torch.Tensor],
    flags: Mapping[str, torch.Tensor],
    wanted: float,
    floors: Mapping[str, int],
    sample: Sample,
    *,
    strict: bool = False,
    thin: bool = True,
) -> Flags:
    """As in the released `core_dst_chase.py`: flags after the weakest alive channels of all layers were deleted.

    Args:
        scores: (C,) a layer.
        flags: (C,) bool a layer, True is alive.
        wanted: alive channels to come down to; need not be whole.
        floors: alive channels that a layer always keeps.
        sample: chooses k of a list, where a pass has more candidates than it needs.
        strict: candidates lie under the threshold (ImageNet), instead of at or under it.
        thin: whether a pass with too many candidates is thinned (CIFAR).
    """
    out = {n: f.clone() for n, f in flags.items()}
    todo = sum(int(f.sum()) for f in out.values()) - wanted
    exhausted: set[str] = set()
    while todo > 0:
        pool = [n for n in scores if n not in exhausted]
        pooled = torch.cat([scores[n][out[n]] for n in pool]) if pool else torch.empty(0)
        if len(pooled) == 0:
            break
        rank = max(int(len(pooled) - todo), 1)
        threshold = pooled.sort(descending=True).values[rank - 1]
        candidates: dict[str, list[int]] = {}
        shortfall = False
        for name in pool:
            below = scores[name] < threshold if strict else scores[name] <= threshold
            listed = (below & out[name]).nonzero().flatten()
            room = max(0, int(out[name].sum()) - floors[name])
            if len(listed) > room:
                listed = listed[scores[name][listed].sort(stable=True).indices[:room]]
                exhausted.add(name)
                shortfall = True
            candidates[name] = listed.tolist()
        total = sum(len(x) for x in candidates.values())
        if thin and total > todo:
            candidates = {n: sample(x, round(todo / total * len(x))) for n, x in candidates.items()}
        for name, chosen in candidates.items():
            out[name][chosen] = False
        todo -= sum(len(x) for x in candidates.values())
        if not shortfall:
            break
    return out


def draw(items: list[int], count: int, generator: torch.Generator) -> list[int]:
    """A random sample of `count` items, without replacement."""
    return [items[i] for i in torch.randperm(len(items), generator=generator)[:count].tolist()]


def region_of(shapes: Mapping[str, tuple[int, ...]], flags: Flags, consumers: Mapping[str, str]) -> Masks:
    """Where both the output and the input channel of a weight are alive."""
    region = {n: torch.ones(s, dtype=torch.bool) for n, s in shapes.items()}
    for name, alive_channels in flags.items():
        region[name][~alive_channels.cpu()] = False
        region[consumers[name]][:, ~alive_channels.cpu()] = False
    return region


def apply_region(masks: Masks, flags: Flags, consumers: Mapping[str, str]) -> Masks:
    """Masks without the weights of deleted channels."""
    region = region_of({n: tuple(m.shape) for n, m in masks.items()}, flags, consumers)
    return {n: m & region[n].to(m.device) for n, m in masks.items()}


def drop(
    strength: Mapping[str, torch.Tensor], masks: Masks, region: Mapping[str, torch.Tensor], count: int, *, exact: bool = True
) -> Masks:
    """Masks without the `count` smallest magnitudes of the region; as in the released code one fewer goes.

    A masked position never comes alive here, also where zeros stand at alive ones.
    """
    if count <= 0:
        return masks
    if exact:
        return keep_top(strength, alive(masks) - count, among=masks)
    inside = torch.cat([strength[n][region[n]] for n in masks])
    zeros = sum(int((region[n] & ~masks[n]).sum()) for n in masks)
    threshold = inside.sort().values[min(len(inside), count + zeros) - 1]
    return {n: m & (strength[n] >= threshold) for n, m in masks.items()}


def grow(
    wish: Mapping[str, torch.Tensor], masks: Masks, region: Mapping[str, torch.Tensor], count: int, *, exact: bool = True
) -> Masks:
    """Masks with the `count` largest gradients of the region's free places; as in the released code one fewer."""
    free = {n: region[n] & ~masks[n] for n in masks}
    places = alive(free)
    if count <= 0 or places == 0:
        return masks
    if count > places:
        return {n: masks[n] | free[n] for n in masks}
    if exact:
        chosen = keep_top({n: wish[n] for n in masks}, count, among=free)
        return {n: masks[n] | chosen[n] for n in masks}
    offered = torch.cat([wish[n][free[n]] for n in masks])
    threshold = offered.sort(descending=True).values[count - 1]
    return {n: masks[n] | (free[n] & (wish[n] > threshold)) for n in masks}


@torch.no_grad()
def recompute_statistics(model: nn.Module, problem: ImageProblem, epoch: int) -> None:
    """As in the released code: batch-norm statistics anew, plain averages over one epoch of training batches."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    batches = iter(problem.batches(epoch))
    first = next(batches, None)
    if first is None:
        return  # the `speed` division has no data
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # cumulative
    model.train()
    with torch.autocast(problem.device.type, torch.bfloat16, enabled=problem.precision == "bf16"):
        model(first[0])
        for x, _ in batches:
            model(x)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
