"""A ViT trained from scratch on the patches that a trained selector picks of each image; random and all patches as its arms.

Paper: Shen, Kong, Qin, Dong, Yuan, Meng, Tang, Ma, Wang. Data Level Lottery Ticket Hypothesis for Vision Transformers.
IJCAI 2023, arXiv 2211.01484.

A dense network is trained on all patches; its weights are fine-tuned as an EViT without fusion, which is the selector; then a
network of the same initial weights is trained on the patches (the ticket) that the frozen selector has left of the very batch. Both
trainings before it are on the clock, as `before`. `arm` says which patches that network is given instead.

Deviations: the keep ratio follows from the target, tokens=SHARE or train_macs=SHARE, in which a step's selector counts, unless `k`
is given. Accuracy is that of Figure 1's caption (the ticket arm tested on tickets), not the released log's on all patches. The
selector stops where its last prune has ranked the patches and builds no graph; the released loop runs all of it, with a graph. Its
learning rate starts at a tenth of the training's and falls to a hundredth; the authors start at a 25th on ImageNet
(`selector_rate=0.04`). Random patches are drawn by a seed, and in one draw, which equals three nested ones. `arm=all` trains on
all patches and is off target; that training is also the dense one that its selector starts from. Of arms whose training asks no
trained selector, what only their tests ask for is trained off the clock. The authors' ablation that swaps keys and values is left
out. Of LV-ViT and Swin there are the paper's functions in `reference_impls.parts`, and no arm.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from torch import nn

from reference_impls.parts.vit_blocks import Flow, TokenBlock, connect
from reference_impls.parts.vit_schedule import Ramp, mean_macs
from reference_impls.parts.vit_tickets import (
    Drawing,
    EdgeSelector,
    EnteringPatches,
    Entry,
    FixedPatches,
    InvertedSelector,
    OnPatches,
    RandomPatches,
    Selecting,
    Selector,
    TicketSelector,
    VarianceSelector,
    prunes_of,
    ratio_leaving,
    ticket_size,
)
from reference_impls.parts.vit_training import Fitted, VitTrainer, trained
from suite.naming import UserError
from tasks.vit_training import networks
from tasks.vit_training.networks import BACKWARD, Shape
from tasks.vit_training.patches import OnTickets
from tasks.vit_training.problem import BEFORE_TRAININGS, Same, Trained, VitProblem, asked

__all__ = ["DataLevelLth"]

Arm = Literal["ticket", "random", "random_fixed", "inverted", "variance", "edges", "all"]
LEARNED = {"ticket": TicketSelector, "inverted": InvertedSelector}  #: arms whose training asks a trained selector
PIXELS = {"variance": VarianceSelector, "edges": EdgeSelector}
WEIGHT_DECAY = 1e-6  #: of the selector's fine-tuning


@dataclass(frozen=True)
class DataLevelLth:
    """A ticket is what three prunes that each keep a share `k` leave of the patches."""

    version: ClassVar[int] = 1

    #: what the network trains on: the selector's ticket; as many random patches, drawn anew in every step, or once for each place
    #: in a batch; the patches that the selector drops first; those of most pixel variance, or of most edges; or all patches
    arm: Arm = "ticket"
    k: float | None = None  #: share of the patches that each of the selector's prunes keeps; None: by the target
    schedule: Literal["constant", "cosine"] = "constant"  #: whether k holds from the first step, or is reached along a cosine
    longer: bool = False  #: whether the random arm trains for ceil(epochs / k^3): as many patches as the dense training
    selector: str | None = None  #: architecture of a selector other than the network, of the same patches; None: its own
    selector_share: float = 0.1  #: epochs of the selector's fine-tuning, in whole trainings; 0: dense weights select
    selector_rate: float = 0.1  #: its first learning rate, in the training's; it falls to a tenth of that

    def __post_init__(self) -> None:
        if self.arm not in get_args(Arm):
            raise UserError(f"no arm {self.arm!r}; there are: {', '.join(get_args(Arm))}")
        if self.k is not None and not 0 < self.k <= 1:
            raise UserError(f"k={self.k}: a prune keeps a share above 0 and at most 1 of the patches")
        if self.schedule not in ("constant", "cosine"):
            raise UserError(f"no schedule {self.schedule!r}; there are: constant, cosine")
        if self.longer and (self.arm, self.schedule) != ("random", "constant"):
            raise UserError("longer=true makes up for the patches that arm=random with schedule=constant leaves out; choose these")
        if not 0 <= self.selector_share <= 1:
            raise UserError(f"selector_share={self.selector_share}: the selector learns for a share from 0 to 1 of the epochs")
        if not self.selector_rate > 0:
            raise UserError(f"selector_rate={self.selector_rate}: a learning rate lies above 0")

    def solve(self, problem: VitProblem) -> Trained:
        plan = self.plan(problem)
        chooser = replace(problem, architecture=self.selector or problem.architecture)
        own = chooser.architecture == problem.architecture
        if problem.spec.division == "closed":
            self.within(plan.epochs, problem.epochs, 1 + self.selector_share + (not own))
        trainer = VitTrainer(problem)
        selector, dense, before = plan.of_pixels(), None, []
        if self.arm in LEARNED:
            dense = self.dense(trainer, chooser)
            tuned = self.tuned(trainer, chooser, dense, plan.k)
            selector = plan.learned(tuned.model)
            stages = {"dense": dense, "selector": tuned}
            before = [f.before(n, evaluating=f is tuned) for n, f in stages.items() if f.steps]
        student = self.student(trainer, problem, plan, selector)
        # what only the tests ask for is no part of what the method costs
        with problem.run.off_clock():
            # a dense training of the same weights, order and draws would be arm=all's once more
            whole = student if self.arm == "all" else dense if dense and own else self.dense(trainer, problem)
            if selector is None:
                start = whole if own else self.dense(trainer, chooser)
                selector = plan.learned(self.tuned(trainer, chooser, start, plan.k).model)
        tickets = self.arm in LEARNED or self.arm in PIXELS
        return trained(
            student,
            {"arm": self.arm, "k": plan.k, "patches": plan.ticket, "of": plan.shape.patches},
            before,
            schedule=None if self.arm == "all" else plan.entering,
            points=(0.0, 0.2, 0.4) if self.schedule == "cosine" and self.arm != "all" else (0.5,),
            frozen=Selecting(plan.entering, plan.chooser) if self.arm in LEARNED else None,
            selector=selector,
            tested="tickets" if tickets else "all",
            whole=whole.model,
        )

    def within(self, epochs: int, granted: int, before: float) -> None:
        """Raises UserError where the closed division grants no such training, or not as many trainings before it."""
        if epochs > granted:
            raise UserError(f"longer=true takes {epochs} epochs and {granted} are granted; run it with --division open")
        if before > BEFORE_TRAININGS:
            raise UserError(
                f"selector_share={self.selector_share:g} makes {before:g} trainings before the real one, and {BEFORE_TRAININGS} are"
                " granted; choose a smaller share, or run it with --division open"
            )

    def plan(self, problem: VitProblem) -> Plan:
        """What follows from the settings and the target; raises UserError where they cannot be met."""
        name, share = asked(problem, "tokens", "train_macs")
        shape = problem.vit
        chooser = self.chooser(problem)
        prunes, constant = prunes_of(chooser.depth), self.schedule == "constant"

        def entering(k: float) -> EnteringPatches:
            return EnteringPatches(Ramp(k, problem.epochs, problem.steps_per_epoch, constant), shape, prunes)

        def left(count: int) -> float:
            """What is left of the target's measure where so many patches enter at last: the mean over the steps."""
            steps = 1 if constant else problem.epochs * problem.steps_per_epoch
            schedule = entering(ratio_leaving(shape.patches, count, prunes))
            tokens = schedule.tokens
            if name == "train_macs":
                selecting = Selecting(schedule, chooser) if self.arm in LEARNED else Same(0.0)
                # forward and backward of the network, forward alone of its selector
                ours = mean_macs(shape, tokens, steps) + sum(selecting(i / steps) for i in range(steps)) / steps / BACKWARD
                return ours / shape.macs(shape.full)
            return sum(tokens(i / steps)[0][0] - 1 for i in range(steps)) / steps / shape.patches

        if self.k is not None:
            k = self.k
        elif name == "tokens" and constant:
            k = ratio_leaving(shape.patches, max(1, round(share * shape.patches)), prunes)
        else:
            counts = range(1, shape.patches)  # what is left rises with them; with all patches there is no selector to pay
            if left(1) > 1.01 * share:
                raise UserError(f"target {problem.spec.target!r} is out of reach: one patch makes {left(1):.3f}; ask for more")
            above = bisect_left(counts, share, key=left)
            near = (*counts[max(0, above - 1) : above + 1], shape.patches)
            count = min(near, key=lambda n: abs(left(n) - share))
            k = ratio_leaving(shape.patches, count, prunes)
        # rounded first: 343 epochs at 0.7 are 1000, not 1000.0000000000003
        epochs = math.ceil(round(problem.epochs / k**prunes, 9)) if self.longer else problem.epochs
        return Plan(self.arm, k, shape, chooser, prunes, epochs, entering(k))

    def chooser(self, problem: VitProblem) -> Shape:
        """The selector's shape; raises UserError where its patches are not the network's."""
        shape = problem.vit
        if not self.selector:
            return shape
        found = networks.shape(self.selector, problem.classes, problem.input)
        if found is None or found.patch != shape.patch:
            raise UserError(
                f"selector={self.selector}: choose a plain ViT of patches of {shape.patch} pixels, as {problem.architecture} has"
            )
        return found

    def dense(self, trainer: VitTrainer, problem: VitProblem) -> Fitted:
        """A network of this problem's architecture trained on all patches, before the real training."""
        stage = "dense" if problem.architecture == trainer.problem.architecture else "selector's dense"
        return trainer.fit(stage, problem.network(), before=True)

    def tuned(self, trainer: VitTrainer, problem: VitProblem, dense: Fitted, k: float) -> Fitted:
        """Dense weights fine-tuned as an EViT without fusion, k constant, in evaluation mode, as released."""
        network = connect(problem.network(TokenBlock), Flow(keep=k, target=k))
        network.load_state_dict(dense.model.state_dict())
        if not self.selector_share:
            return Fitted(network, 0, 0.0, dense.training)
        lr = self.selector_rate * problem.recipe.lr
        recipe = replace(problem.recipe, lr=lr, least=lr / 10, schedule="timm", warmup=0, weight_decay=WEIGHT_DECAY)
        epochs = max(1, round(self.selector_share * problem.epochs))
        return trainer.fit("selector", network, epochs=epochs, recipe=recipe, before=True, evaluating=True)

    def student(self, trainer: VitTrainer, problem: VitProblem, plan: Plan, selector: Selector | None) -> Fitted:
        """The real training, from the seed's initial weights."""
        model = problem.network()
        if self.arm == "all":
            return trainer.fit("train", model)
        model.patch_drop = Entry(plan.k)
        pick = plan.drawn(problem) if selector is None else selector
        fitted = trainer.fit(
            "train",
            model,
            epochs=plan.epochs,
            hooks=Drawing(pick) if isinstance(pick, RandomPatches) else None,
            loss=OnPatches(pick, plan.shape.patches, problem.recipe.loss, plan.prunes),
            schedule=plan.entering,
            validate=None if selector is None else lambda network: problem.validate(OnTickets(selector, network)),
        )
        model.patch_drop.keep = plan.k
        return fitted


@dataclass(frozen=True)
class Plan:
    """What is known before anything is trained."""

    arm: Arm
    k: float
    shape: Shape  #: of the network
    chooser: Shape  #: of the selector
    prunes: int
    epochs: int  #: of the real training
    entering: EnteringPatches

    @property
    def ticket(self) -> int:
        """Patches that the network trains on, at the end."""
        return self.shape.patches if self.arm == "all" else ticket_size(self.shape.patches, self.k, self.prunes)

    def of_pixels(self) -> Selector | None:
        """The selector of an arm that looks at pixels alone."""
        if self.arm not in PIXELS:
            return None
        return PIXELS[self.arm](self.shape.patches, self.k, self.shape.patch, self.prunes)

    def learned(self, network: nn.Module) -> Selector:
        """What a fine-tuned network selects: its ticket, or for the inverted arm the other end."""
        return LEARNED.get(self.arm, TicketSelector)(network, self.shape.patches, self.k)

    def drawn(self, problem: VitProblem) -> RandomPatches:
        if self.arm == "random_fixed":
            return FixedPatches(self.shape.patches, problem.batch, self.prunes)
        return RandomPatches(self.shape.patches, problem.run.seed("data_level_lth random"), self.prunes)
