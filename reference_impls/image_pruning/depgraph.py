"""Channels that must go together are found by tracing, scored by the norms of all their weights, and removed (DepGraph).

Paper: Fang, Ma, Song, Bi Mi, Wang. DepGraph: Towards Any Structural Pruning. CVPR 2023, arXiv 2301.12900.

Deviations: 30 steps down to the operations target instead of 400 to a speed-up; every layer keeps a tenth. By default only the
groups of residual blocks' inner channels are pruned, as by every other method of the table; `groups=coupled` takes what
shortcuts tie together too, where the traced indices allow it. Budget: 200 parts training, with `sparse` 100 parts of
sparse learning, 100 parts fine-tuning.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from reference_impls.parts.channels import MacsOf, target_macs
from reference_impls.parts.filters import Masks, OneShot, Stage, inner, keep_best, protected
from reference_impls.parts.training import Hooks
from suite.extras import need
from suite.naming import UserError
from tasks.image_pruning.task import ImageProblem

__all__ = ["Depgraph"]

tp = need("torch_pruning", "depgraph")

#: what a handler of Torch-Pruning cuts: the dimension of the layer's weight
DIMENSION = {
    tp.prune_conv_out_channels: 0,
    tp.prune_linear_out_channels: 0,
    tp.prune_batchnorm_out_channels: 0,
    tp.prune_conv_in_channels: 1,
    tp.prune_linear_in_channels: 1,
}


@dataclass(frozen=True)
class Depgraph(OneShot):
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    sparse: bool = False  #: whether group norms are pulled towards zero in training first ("w/ SL")
    reg: float = 5e-4  #: strength of that pull
    p: int = 2  #: of the norm that scores a group
    steps: int = 30  #: in which channels are removed
    #: inner: channels inside of blocks alone; coupled: those that shortcuts tie together too
    groups: Literal["inner", "coupled"] = "inner"
    floor: float = 0.1  #: share of its channels that a layer always keeps

    def stages(self, problem: ImageProblem) -> list[Stage]:
        def sparse(model: nn.Module) -> SparseLearning:
            return SparseLearning(Graph(problem, model, self.groups), self)

        learning = [Stage("sparse", 100, sparse, gentle=True)] if self.sparse else []
        return [Stage("train", 200), *learning, Stage("fine_tune", 100, gentle=True)]

    def choose(self, problem: ImageProblem, model: nn.Module) -> Masks:
        """Masks of the channels with large group norms, all groups together."""
        return self.cut(problem, model)[1]

    def cut(self, problem: ImageProblem, model: nn.Module) -> tuple[nn.Module, Masks]:
        """A physically smaller copy, its groups scored anew after each step, and the masks of what is left."""
        small = copy.deepcopy(model)
        graph = Graph(problem, small, self.groups)
        left = {n: torch.arange(width) for n, width in graph.widths().items()}
        least = protected(graph.widths(), self.floor)
        for steps in range(self.steps, 0, -1):
            scores = {g.name: normalised(g.norms(self.p), "max" if self.sparse else "mean") for g in graph.groups()}
            keep = keep_best(scores, graph.macs_of, target_macs(problem), least, steps=steps)
            graph.remove(keep)
            left = {n: index[keep[n].cpu()] for n, index in left.items()}
        masks = {n: torch.zeros(graph.full[n], dtype=torch.bool) for n in left}
        for n, index in left.items():
            masks[n][index] = True
        return small.to(memory_format=torch.channels_last), masks


@dataclass(frozen=True)
class Member:
    """A layer of a group: entry `rows[i]` of its weight's dimension `dim` belongs to the group's channel `roots[i]`."""

    layer: nn.Module
    dim: int
    rows: torch.Tensor
    roots: torch.Tensor


@dataclass(frozen=True)
class Coupled:
    """Channels that live and die together, numbered as the outputs of `conv`."""

    name: str
    conv: nn.Conv2d
    members: tuple[Member, ...]

    def norms(self, p: int = 2) -> torch.Tensor:
        """Sum of |w|^p over each member's slice of a channel, averaged over the members, (C,)."""
        total = torch.zeros(self.conv.out_channels, device=self.conv.weight.device)
        for m in self.members:
            weight: torch.Tensor = m.layer.weight.detach()  # type: ignore[assignment, operator]
            local = weight.abs().pow(p).transpose(0, m.dim).reshape(weight.shape[m.dim], -1).sum(1)
            total.index_add_(0, m.roots, local[m.rows])
        return total / len(self.members)


class Graph:
    """The groups of a network, traced by Torch-Pruning; they shrink with it."""

    def __init__(self, problem: ImageProblem, model: nn.Module, which: Literal["inner", "coupled"]) -> None:
        self.names = {id(m): n for n, m in model.named_modules()}
        self.device = problem.device
        self.traced = tp.DependencyGraph().build_dependency(model, torch.zeros(1, *problem.input, device=problem.device))
        if which == "inner":
            self.roots = [g.layer for g in inner(problem.groups(model))]
        else:
            classifier = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
            found = self.traced.get_all_groups(ignored_layers=[classifier], root_module_types=[nn.Conv2d])
            self.roots = [g[0].dep.target.module for g in found]
        self.full = self.widths()
        self.macs_of = self._counter(problem, model)

    def widths(self) -> dict[str, int]:
        """Present channels of each group."""
        return {self.names[id(conv)]: conv.out_channels for conv in self.roots}

    def groups(self) -> list[Coupled]:
        """The groups as they are now; raises UserError where traced indices do not fit the layers."""
        return [self._group(conv) for conv in self.roots]

    def remove(self, keep: Masks) -> None:
        """Slice the dropped channels out of all layers of each group."""
        for conv in self.roots:
            dropped = (~keep[self.names[id(conv)]]).nonzero().flatten().tolist()
            if dropped:
                self.traced.get_pruning_group(conv, tp.prune_conv_out_channels, dropped).prune()

    def _group(self, conv: nn.Conv2d) -> Coupled:
        group = self.traced.get_pruning_group(conv, tp.prune_conv_out_channels, list(range(conv.out_channels)))
        members = []
        for item in group.items:
            dim = DIMENSION.get(item.dep.pruning_fn)
            if dim is None:
                continue  # an operation without weights
            if sorted(item.idxs) != list(range(item.dep.layer.weight.shape[dim])):
                name = self.names[id(item.dep.layer)]
                raise UserError(f"Torch-Pruning cannot follow the channels of {name} (padded shortcuts?); use --set groups=inner")
            rows, roots = (torch.tensor(x, device=self.device) for x in (item.idxs, item.root_idxs))
            members.append(Member(item.dep.layer, dim, rows, roots))
        return Coupled(self.names[id(conv)], conv, tuple(members))

    def _counter(self, problem: ImageProblem, model: nn.Module) -> MacsOf:
        rules = {(id(m.layer), m.dim): g.name for g in self.groups() for m in g.members}
        modules, rows = dict(model.named_modules()), []
        for layer in problem.count(model).layers:
            if layer["macs"]:
                module = modules[layer["name"]]
                c_out, c_in = module.weight.shape[:2]  # type: ignore[union-attr, index]
                ends = [(rules.get((id(module), 0), ""), c_out), (rules.get((id(module), 1), ""), c_in)]
                rows.append((layer["macs"] // (c_out * c_in), *ends))
        return lambda widths: sum(unit * widths.get(o, c_out) * widths.get(i, c_in) for unit, (o, c_out), (i, c_in) in rows)


def normalised(scores: torch.Tensor, by: Literal["mean", "max"]) -> torch.Tensor:
    """Scores over their mean or maximum, so that groups can be ranked together."""
    return scores / (scores.mean() if by == "mean" else scores.max())


class SparseLearning(Hooks):
    """Adds reg gamma_c w to the gradients of all weights of channel c: the weaker the channel, the stronger the pull."""

    def __init__(self, graph: Graph, method: Depgraph) -> None:
        self.groups, self.method = graph.groups(), method

    @torch.no_grad()
    def after_backward(self) -> bool:
        for g in self.groups:
            gamma = pull(g.norms(self.method.p).sqrt())
            for m in g.members:
                weight: torch.Tensor = m.layer.weight  # type: ignore[assignment]
                factor = weight.new_ones(weight.shape[m.dim]).index_copy(0, m.rows, gamma[m.roots])
                assert weight.grad is not None
                weight.grad += self.method.reg * weight * factor.view([-1 if d == m.dim else 1 for d in range(weight.dim())])
        return True


def pull(importance: torch.Tensor) -> torch.Tensor:
    """gamma_c = 2^(4 (max I - I_c) / (max I - min I)), (C,): 1 for the strongest channel, 16 for the weakest."""
    below = importance.max() - importance
    return 2 ** (4 * below / below.max().clamp_min(torch.finfo(below.dtype).tiny))
