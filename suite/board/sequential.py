"""How far a difference must lie from a bound where it may be looked at again and again.

A claim is looked at once the seeds that it was planned with are there, by the ordinary 95 % interval, and, where that leaves it
undecided, again after each seed more, up to `MOST_SEEDS`.  Each look can be wrong: the more there are, the oftener one is.  So the looks
of seeds that were added share 5 % among them all, by Lan and DeMets' (1983) function of how much of the information (seeds over the most
there will be) is in, that which comes near O'Brien and Fleming's bounds: strict early, close to the ordinary interval at the end.

What that holds, of a claim whose truth lies at its bound: looks of added seeds take it for beyond or short of the bound in 5 % of claims
at most, however many there are; and as only one of the two verdicts can be wrong, all looks together, the first among them, give a
wrong one in 5 % at most (2.5 % at the first, 2.5 % at all later ones).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

MOST_SEEDS = 10  #: of a claim; what these leave undecided stays so
TAIL = 0.025  #: chance on either side of a 95 % interval, and that which all looks of a design share
GRID = 1601  #: points at which the density of what no look has ended is known


def spent(share: float) -> float:
    """How much of `TAIL` is spent when a share of the information, above 0, is in: 2 - 2 Phi(z / sqrt(share)), Phi(z) = 1 - TAIL / 2."""
    from scipy import special

    z = -float(special.ndtri(TAIL / 2))
    return 2 * float(special.ndtr(-z / math.sqrt(min(share, 1.0))))


@cache
def tails(first: int, most: int = MOST_SEEDS) -> tuple[float, ...]:
    """The chance on either side of a mean that the interval of each look leaves: at `first` seeds, at one more, up to `most`.

    By integrating the density of the sum of seeds over those paths that no look has ended (Armitage, McPherson and Rowe 1969), with
    the noise known; where it is estimated, t quantiles of the same chances stand in.
    """
    from scipy import optimize, special

    out: list[float] = []
    # the sum before the first look, at 0, and afterwards its density on a grid, with the weights of the trapezoid rule
    grid, weight, before = np.zeros(1), np.ones(1), 0.0
    seeds = 0
    for n in range(first, most + 1):
        now, apart = spent(n / most), math.sqrt(n - seeds)

        def beyond(
            edge: float, grid: np.ndarray = grid, weight: np.ndarray = weight, apart: float = apart, asked: float = now - before
        ) -> float:
            return float(weight @ special.ndtr((grid - edge) / apart)) - asked

        edge = float(optimize.brentq(beyond, 0, 12 * math.sqrt(most)))
        out.append(float(special.ndtr(-edge / math.sqrt(n))))
        later = np.linspace(-9 * math.sqrt(most), edge, GRID)
        density = np.exp(-(((later[:, None] - grid) / apart) ** 2) / 2) @ weight / math.sqrt(2 * math.pi) / apart
        step = later[1] - later[0]
        grid, weight, before, seeds = later, density * step, now, n
        weight[[0, -1]] /= 2
    return tuple(out)


def tail(first: int, n: int) -> float:
    """Of the look at n seeds of a claim whose first was at `first`: that of the 95 % interval at the first, the design's later on."""
    if n <= first:
        return TAIL
    found = tails(first, max(first, MOST_SEEDS))
    return found[min(n - first, len(found) - 1)]
