"""How detectors are trained: a network for each fold, the best epoch where there is a validation block, and FlameFinder's terms.

Stages bear the fold's name and share one checkpoint, so a stopped run goes on in the fold and epoch that it was in.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from reference_impls.parts import flame_losses
from reference_impls.parts.training import Hooks, Trainer
from suite.protocol import Diverged, Run
from tasks.flame_detection import backbones
from tasks.flame_detection.networks import METRIC, Learner
from tasks.flame_detection.problem import Detector, Detectors, FlameProblem
from tasks.flame_detection.recipes import Adam, binary_cross_entropy
from tasks.images.recipes import Recipe

CentreLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  #: of features, labels and centres

LOOKS = 8  #: batches of an epoch, evenly spread, that gradients of single terms are measured on
APART = 100.0  #: distance of the centres beyond which they have diverged


class FoldTrainer(Trainer):
    """The stages of all folds of one solve.  Make one per solve: it reads the checkpoint, if there is one."""

    def folds(self, problem: FlameProblem) -> Iterator[tuple[FlameProblem, Trainer]]:
        """Each fold's problem, and its trainer.  Raises UserError where a fold has no batch to train on."""
        count = len(problem.patches.folds)
        for fold in range(count):
            other = copy.copy(self)
            own = problem.of_fold(fold)
            own.need_batches()
            own.run = _FoldRun(problem.run, fold, count)
            other.problem, other._epochs = own, {}
            other._stages = self._stages.on(f"fold {fold}")
            yield own, other


class _FoldRun:
    """A run whose progress is counted over all folds, and whose curve leaves out what is undefined."""

    def __init__(self, run: Run, fold: int, folds: int) -> None:
        self._run, self._fold, self._folds = run, fold, folds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def progress(self, done: float, total: float, **values: float) -> None:
        finite = {k: v for k, v in values.items() if math.isfinite(v)}
        self._run.progress(self._fold * total + done, self._folds * total, **finite)


class Best(Hooks):
    """Keeps the network of the epoch with the best validation score, of equal ones the last.

    Without a validation block nothing is kept, and the last epoch's network stays.
    """

    def __init__(self, problem: FlameProblem, model: nn.Module) -> None:
        self.problem, self.model = problem, model
        self.epoch = self.steps = 0
        self.kept: dict[str, Any] | None = None

    def before_epoch(self, epoch: int) -> None:
        self.epoch, self.steps = epoch, 0

    def after_step(self) -> None:
        self.steps += 1
        if self.steps == self.problem.steps_per_epoch:
            self.after_epoch()

    def after_epoch(self) -> None:
        """The epoch's last step is done."""
        if not len(self.problem.val):
            return
        score = self.problem.validate(self.model)
        if math.isfinite(score) and (self.kept is None or score >= self.kept["score"]):
            self.kept = {"score": score, "epoch": self.epoch, "model": copy.deepcopy(self.model.state_dict()), **self.beside()}

    def beside(self) -> dict[str, Any]:
        """What goes with the network of an epoch."""
        return {}

    def choose(self) -> dict[str, Any]:
        """Give the network its best epoch's weights, and return what was kept of that epoch; empty: the last one's stays."""
        if self.kept is None:
            return {}
        self.model.load_state_dict(self.kept["model"])
        return self.kept

    def state(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.kept = state["kept"]


def fit(problem: FlameProblem, make: Callable[[FlameProblem], nn.Module], recipe: Recipe) -> Detectors:
    """A network trained by binary cross-entropy on each fold.

    Args:
        make: a fresh network for a fold's problem; torch's stream is seeded for it.
    """
    detectors, notes = [], _Notes()
    for own, trainer in FoldTrainer(problem).folds(problem):
        with torch.random.fork_rng():
            torch.manual_seed(own.seed("init"))
            model = make(own).to(own.device)
        model.absolute = own.absolute  # type: ignore[assignment]
        best = Best(own, model)
        trainer.fit("train", model, recipe, epochs=own.epochs, hooks=best)
        notes.chosen(best.choose())
        detectors.append(Detector(model))
    return Detectors(detectors, notes.said())


def fit_backbone(
    problem: FlameProblem, name: backbones.Name, mode: backbones.Mode, lr: float, *, pretrained: bool = False
) -> Detectors:
    """A network of FLAME 2's authors trained by binary cross-entropy on each fold.

    Raises UserError where the mode reads RGB and there is none, or ImageNet weights are asked for that are not there.
    """
    asked = problem if mode == "thermal" else problem.in_colour()
    weights = backbones.weights_file(name, problem.spec.data) if pretrained else None
    return fit(asked, lambda own: backbones.build(name, own.patches.patch, mode, weights=weights), Adam.of(problem, lr=lr))


@dataclass(frozen=True)
class Terms:
    """The weights of FlameFinder's loss beside BCE's 1, and its margins; a term of weight 0 is not computed."""

    rec: float = 1.0
    cl: float = 0.01
    tcl: float = 0.05
    tccl: float = 0.5
    margin: float = 5.0  #: m, of TCL
    cosine_margin: float = 0.5  #: m_c, of TCCL
    centre_rate: float = 0.5  #: of the centres' SGD

    def metric(self) -> dict[str, CentreLoss]:
        """The losses that read centres and count."""
        losses: dict[str, CentreLoss] = {
            "cl": flame_losses.centre_loss,
            "tcl": partial(flame_losses.triplet_centre_loss, margin=self.margin),
            "tccl": partial(flame_losses.triplet_cosine_centre_loss, margin=self.cosine_margin),
        }
        return {name: losses[name] for name in METRIC if getattr(self, name) > 0}


class MetricLearning(Best):
    """FlameFinder's loss, its centres, and what each term does.

    The network descends the weighted sum.  The centres have an SGD of their own, without momentum, and follow the gradient of the
    *unweighted* sum of those of CL, TCL and TCCL that count, so that no weight slows one of them and none speeds another.

    Gradients of single terms, each with its weight, are measured on `LOOKS` batches of an epoch, off the clock: with respect to
    the features that the term reads, gated where they are (of the reconstruction: z), and with respect to z before any gate, where
    all terms meet.
    """

    def __init__(self, problem: FlameProblem, learner: Learner, terms: Terms) -> None:
        super().__init__(problem, learner)
        self.learner, self.terms, self.metric = learner, terms, terms.metric()
        generator = torch.Generator().manual_seed(problem.seed("init centres"))
        self.centres = torch.randn(2, learner.lfe.head.in_features, generator=generator).to(problem.device)
        self.history: list[dict[str, float]] = []  #: by epoch
        self._gradient: torch.Tensor | None = None
        self._every = max(1, -(-problem.steps_per_epoch // LOOKS))

    def before_epoch(self, epoch: int) -> None:
        super().before_epoch(epoch)
        self._sums: dict[str, torch.Tensor] = {}
        self._looks = 0

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The weighted sum of a batch, x (B, 1, P, P) and y (B,) int64."""
        read = self.learner.read(x)
        # a copy: what flows back into the centres by the weighted sum must not count
        centres = self.centres.clone().requires_grad_()
        losses = {"bce": binary_cross_entropy(read.logits, y)}
        if self.terms.rec > 0:
            assert read.image is not None
            losses["rec"] = flame_losses.reconstruction_loss(read.image, x)
        metric = {name: loss(read.gated[name].float(), y, centres) for name, loss in self.metric.items()}
        if metric:
            (self._gradient,) = torch.autograd.grad(sum(metric.values()), centres, retain_graph=True)  # type: ignore[arg-type]
        losses |= metric
        weighted = {name: self._weight(name) * value for name, value in losses.items()}
        self._note({f"loss_{name}": value.detach() for name, value in losses.items()})
        if self.steps % self._every == 0 and len(losses) > 1:
            self._look(weighted, {name: read.gated.get(name, read.z) for name in losses}, read.z)
        return torch.stack(list(weighted.values())).sum() if len(weighted) > 1 else weighted["bce"]

    def after_step(self) -> None:
        if self._gradient is not None:
            self.centres -= self.terms.centre_rate * self._gradient
            self._gradient = None
        super().after_step()

    def after_epoch(self) -> None:
        if len(self._sums) > 1:  # BCE alone has nothing to be compared with
            self.history.append(self._row())
            if not self.problem.fold:  # points of several folds would lie behind one another on one curve
                told = {f"share.{n}": share for n, share in _shares(self.history[-1]).items()}
                self.problem.run.progress(self.epoch + 1, self.problem.epochs, **told)
        if not torch.isfinite(self.centres).all():
            raise Diverged(f"the centres are no longer finite after epoch {self.epoch} of fold {self.problem.fold}")
        super().after_epoch()

    @property
    def distance(self) -> float:
        """Between the centres."""
        return float((self.centres[1] - self.centres[0]).norm())

    def beside(self) -> dict[str, Any]:
        return {"centres": self.centres.clone()}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "centres": self.centres.clone(), "history": copy.deepcopy(self.history)}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.centres = state["centres"].clone().to(self.problem.device)
        self.history = copy.deepcopy(state["history"])

    def _weight(self, term: str) -> float:
        return 1.0 if term == "bce" else float(getattr(self.terms, term))

    def _note(self, values: Mapping[str, torch.Tensor]) -> None:
        """Add to the epoch's sums; they are looked at once an epoch, so nothing waits for the device in between."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def _look(self, weighted: Mapping[str, torch.Tensor], read: Mapping[str, torch.Tensor], z: torch.Tensor) -> None:
        """Measure each term's gradient; torch's graph stays for the step."""
        self._looks += 1
        with self.problem.run.off_clock():
            for name, value in weighted.items():
                own, before = torch.autograd.grad(value, (read[name], z), retain_graph=True)
                self._note({f"gradient_{name}": own.float().norm(), f"gradient_z_{name}": before.float().norm()})

    def _row(self) -> dict[str, float]:
        """The epoch's means: ``loss_<term>`` and its ``weight_<term>``, ``gradient_<term>`` of the weighted term and its
        ``share_<term>``, the same before the gate as ``gradient_z_<term>`` and ``share_z_<term>``.
        """
        names = [k.removeprefix("loss_") for k in self._sums if k.startswith("loss_")]
        row = {"fold": float(self.problem.fold), "epoch": float(self.epoch)}
        row |= {f"loss_{n}": float(self._sums[f"loss_{n}"]) / self.steps for n in names}
        row |= {f"weight_{n}": self._weight(n) for n in names}
        for kind in ("", "z_"):
            norms = {n: float(self._sums[f"gradient_{kind}{n}"]) / self._looks for n in names}
            total = sum(norms.values())
            row |= {f"gradient_{kind}{n}": norm for n, norm in norms.items()}
            row |= {f"share_{kind}{n}": norm / total if total else float("nan") for n, norm in norms.items()}
        if self.metric:
            row["centre_distance"] = self.distance
        return row


def fit_metric(problem: FlameProblem, make: Callable[[FlameProblem], Learner], terms: Terms) -> Detectors:
    """FlameFinder's network trained on each fold; what is deployed has neither decoder nor other losses' gates.

    Centres that ended nearer than a tenth of the margin, or were ever further apart than `APART`, are counted in the notes, by
    fold; centres that no term moves are none.  Raises Diverged where a loss or a centre is no longer finite.
    """
    detectors, history, notes = [], [], _Notes()
    recipe = problem.recipe
    for own, trainer in FoldTrainer(problem).folds(problem):
        learner = make(own).to(own.device)
        learner.absolute = learner.lfe.absolute = own.absolute
        hooks = MetricLearning(own, learner, terms)
        trainer.fit("train", learner, recipe, epochs=own.epochs, hooks=hooks, loss=hooks.loss)
        kept = hooks.choose()
        centres = kept.get("centres", hooks.centres) if hooks.metric else None
        notes.chosen(kept)
        if centres is not None:
            notes.centres(centres, hooks.history, terms.margin)
        history += hooks.history
        detectors.append(Detector(learner.lfe, centres))
    return Detectors(detectors, notes.said() | _shares_by_epoch(history), history)


def _shares(row: Mapping[str, float]) -> dict[str, float]:
    """Share of each term in the gradients before any gate, by term."""
    return {name.removeprefix("share_z_"): value for name, value in row.items() if name.startswith("share_z_")}


def _shares_by_epoch(history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Of each epoch the mean over folds: `share_z`, each term's share, and `share_of_centres`, that among those which read centres.

    Nothing where there is one term only.
    """
    of_epoch: dict[float, list[dict[str, float]]] = {}
    for row in history:
        of_epoch.setdefault(row["epoch"], []).append(_shares(row))
    means = [{name: sum(f[name] for f in folds) / len(folds) for name in folds[0]} for _, folds in sorted(of_epoch.items())]
    metric = [{name: share for name, share in m.items() if name in METRIC} for m in means]
    among = [{name: share / sum(m.values()) for name, share in m.items()} for m in metric if sum(m.values())]
    return ({"share_z": means} if means else {}) | ({"share_of_centres": among} if among else {})


class _Notes:
    """What is noted of all folds together."""

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._distances: list[float] = []
        self._collapsed = self._diverged = 0

    def chosen(self, kept: Mapping[str, Any]) -> None:
        if kept:
            self._epochs.append(kept["epoch"] + 1)

    def centres(self, centres: torch.Tensor, history: list[dict[str, float]], margin: float) -> None:
        distance = float((centres[1] - centres[0]).norm())
        self._distances.append(distance)
        self._collapsed += distance < margin / 10
        self._diverged += any(row["centre_distance"] > APART for row in history)

    def said(self) -> dict[str, Any]:
        said: dict[str, Any] = {"epochs_chosen": self._epochs} if self._epochs else {}
        if self._distances:
            said |= {"centre_distances": self._distances, "centres_collapsed": self._collapsed, "centres_diverged": self._diverged}
        return said
