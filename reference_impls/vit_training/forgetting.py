"""Training on the examples that a dense pre-run forgot most often, or never learned (forgetting scores).

Paper: Toneva, Sordoni, Tachet des Combes, Trischler, Bengio, Gordon. An Empirical Study of Example Forgetting during Deep Neural
Network Learning. ICLR 2019, arXiv 1812.05159.

Deviations: the pre-run takes a fifth of the epochs, with a schedule of its own, instead of a whole training; the network that is
trained on the subset starts anew.  The number of examples is the one whose steps come nearest to the target.  A setting gives
DeepCore's convention, which keeps the same share of each class and scores lowest what was never learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from reference_impls.parts.vit_examples import (
    Chosen,
    Counted,
    Recorded,
    drawing,
    highest,
    known_share,
    subset_size,
    train_labels,
)
from reference_impls.parts.vit_training import VitTrainer, trained
from suite.naming import UserError
from tasks.vit_training.problem import Trained, VitProblem, asked

__all__ = ["Forgetting"]

Convention = Literal["toneva", "deepcore"]


@dataclass(frozen=True)
class Forgetting:
    """Equal scores are drawn, and most are equal."""

    version: ClassVar[int] = 1

    keep: float | None = None  #: share of the training examples that stays; None: what the target asks for
    before: float = 0.2  #: epochs of the pre-run as a share of the training's
    convention: Convention = "toneva"  #: toneva: what was never learned scores highest; deepcore: it scores 0, by class

    def __post_init__(self) -> None:
        known_share("keep", self.keep)
        known_share("before", self.before)
        if self.convention not in get_args(Convention):
            raise UserError(f"convention={self.convention}: choose {' or '.join(get_args(Convention))}")

    def solve(self, problem: VitProblem) -> Trained:
        _, share = asked(problem, "train_macs")
        size = subset_size(problem, share, self.keep)
        trainer = VitTrainer(problem)
        epochs = max(1, round(self.before * problem.epochs))
        hooks = Counted(problem)
        loss = Recorded(problem.recipe, hooks.recorder)
        counting = trainer.fit("forgetting run", problem.network(), epochs=epochs, hooks=hooks, loss=loss, before=True)
        hooks.settle()
        counts, deepcore = hooks.counts, self.convention == "deepcore"
        rows = highest(
            counts.scores(0 if deepcore else epochs),
            size,
            drawing(problem.run.seed("forgetting ties")),
            labels=train_labels(problem.source) if deepcore else None,
            share=self.keep,
        )
        if len(rows) < problem.batch:
            raise UserError(f"{len(rows)} examples fill no batch of {problem.batch}; keep more of them")
        fitted = trainer.fit("train", problem.network(), hooks=Chosen(lambda epoch: rows))
        notes = {
            "examples": len(rows),
            "never_learned": int((~counts.learned).sum()),
            "never_learned_kept": int((~counts.learned[rows]).sum()),
            "never_forgotten": int((counts.learned & (counts.events == 0)).sum()),
            "events": int(counts.events.sum()),
        }
        return trained(fitted, notes, [counting.before("forgetting")])
