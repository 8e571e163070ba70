"""The smallest weights of the dense network removed at once, all layers together, then fine-tuning; or the smallest filters.

Paper: Han, Pool, Tran, Dally. Learning both Weights and Connections for Efficient Neural Networks. NeurIPS 2015. Of filters: Li,
Kadav, Durdanovic, Samet, Graf. Pruning Filters for Efficient ConvNets. ICLR 2017, arXiv 1608.08710.

Deviations: one threshold for the whole network (`layerwise=true`: one share for each layer), the first and the last layer are
pruned like the others; of filters one share for each layer, by their L1 norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.parts.channels import l1_norms, largest
from reference_impls.parts.fair import Cut, Pruner, asked, by_filters, cut_of, dense, filter_groups, kept_count, removed
from reference_impls.parts.fairness import Loss
from reference_impls.parts.sparse import Masks, apply_masks, keep_top, magnitudes, weighted
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairProblem

__all__ = ["Magnitude"]


@dataclass(frozen=True)
class Magnitude(Pruner):
    """Cut once, fine-tune."""

    version: ClassVar[int] = 1

    layerwise: bool = False  #: whether every layer keeps the same share of its weights

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        if by_filters(problem):
            model = dense(problem, trainer, loss)
            share = asked(problem, "filters")
            groups = filter_groups(problem, model)
            keep = {g.name: largest(l1_norms(g.layer.weight), g.width - removed(share, g.width)) for g in groups}
            return cut_of(problem, model, {}, small=problem.compact(model, keep))
        share = asked(problem, "nonzero")
        model = dense(problem, trainer, loss)
        layers = weighted(model)
        sizes = {n: m.weight.numel() for n, m in layers.items()}
        scores = magnitudes(layers)
        if self.layerwise:
            masks: Masks = {n: _largest(s, sizes[n] - removed(share, sizes[n])) for n, s in scores.items()}
        else:
            masks = keep_top(scores, kept_count(problem, sum(sizes.values())))
        cut = cut_of(problem, model, masks)
        apply_masks(layers, masks)
        return cut


def _largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    return largest(scores.flatten(), count).view_as(scores)
