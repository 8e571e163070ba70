"""Metric losses beside the classifier: flame and other patches as two tight clusters, features weighted by attention (FlameFinder).

Paper: Rajoli, Khoshdel, Afghah, Ma. FlameFinder: Illuminating Obscured Fire through Smoke with Attentive Deep Metric Learning. IEEE
TGRS 2024, arXiv 2404.06653.

Rows of the ablation are settings: ``losses`` adds term after term, ``attention=none`` leaves the gate out.

Deviations: FlameFinder, reconstructed: no code was published and only the abstract names the pieces (local features,
reconstruction, attention, BCE, CL, TCL, TCCL), so layers, weights of the terms, the gate's form and the recipe are this project's;
the losses are those of public implementations. Centres follow the unweighted sum of their losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from reference_impls.parts.flame_training import Terms, fit_metric
from suite.naming import UserError
from tasks.flame_detection.networks import Attention, learner
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Flamefinder"]

Losses = Literal["rec", "rec+cl", "rec+cl+tcl", "rec+cl+tcl+tccl"]
Weights = Literal["default", "strong"]
WEIGHTS: dict[str, dict[str, float]] = {
    "default": {"rec": 1.0, "cl": 0.01, "tcl": 0.05, "tccl": 0.5},
    "strong": {"rec": 1.0, "cl": 0.1, "tcl": 0.2, "tccl": 1.0},
}


@dataclass(frozen=True)
class Flamefinder:
    """Symbols as in the paper's abstract: lambda of a term is `lambda_<term>`, m `margin`, m_c `cosine_margin`."""

    version: ClassVar[int] = 1

    losses: Losses = "rec+cl+tcl+tccl"  #: beside binary cross-entropy: reconstruction, center, triplet-center, its cosine form
    attention: Attention = "shared"  #: no gate, one for all losses, or one for each that reads centres
    weights: Weights = "default"  #: which set of the terms' weights
    lambda_rec: float | None = None  #: of the reconstruction, instead of the set's; 0 leaves a term out
    lambda_cl: float | None = None  #: of center loss
    lambda_tcl: float | None = None  #: of triplet-center loss
    lambda_tccl: float | None = None  #: of triplet-cosine-center loss
    margin: float = 5.0  #: of triplet-center loss
    cosine_margin: float = 0.5  #: of its cosine form; the public code's default is 1
    centre_rate: float = 0.5  #: of the centres' own SGD
    thermal: Literal["scaled", "celsius"] = "scaled"  #: scaled: over each frame, as cameras do; celsius: temperatures, over 600

    def __post_init__(self) -> None:
        for name in WEIGHTS["default"]:
            given = getattr(self, f"lambda_{name}")
            if given is not None and given < 0:
                raise UserError(f"lambda_{name}={given}: a weight is 0 or more")
            if given and name not in self.losses.split("+"):
                raise UserError(f"lambda_{name}={given}, but losses={self.losses} has no {name}: choose losses that do")
        if self.margin < 0 or self.cosine_margin < 0 or self.centre_rate < 0:
            raise UserError("margin, cosine_margin and centre_rate must be 0 or more")

    def terms(self) -> Terms:
        """The weights and margins that these settings come to."""
        asked = self.losses.split("+")
        own = {name: getattr(self, f"lambda_{name}") for name in WEIGHTS[self.weights]}
        chosen = {n: w if own[n] is None else own[n] for n, w in WEIGHTS[self.weights].items()}
        counted = {n: w if n in asked else 0.0 for n, w in chosen.items()}
        return Terms(**counted, margin=self.margin, cosine_margin=self.cosine_margin, centre_rate=self.centre_rate)

    def solve(self, problem: FlameProblem) -> Detectors:
        terms = self.terms()
        if self.thermal == "celsius":
            problem = problem.in_degrees()
        return fit_metric(problem, lambda own: learner(own.patches.patch, self.attention, own.seed, decoder=terms.rec > 0), terms)


assert set(WEIGHTS) == set(get_args(Weights))
