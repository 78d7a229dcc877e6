"""Bias-corrected and accelerated intervals from draws of groups, and the p value that goes with them.

Efron, JASA 1987, 82:171.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME: Final = 1e-12
"""Draws nearer to each other than this, in parts of the value where it is above 1, are equal but for rounding."""
FEW: Final = 4.0
"""Where fewer groups than this carry a share's variance, the draws hardly know how it varies.

Measured by ``bench/coverage.py``: with 30 groups of files that are much alike, the 95 % interval of a sensitivity of
0.95 covers it in 79 to 82 % by BCa alone, and in 97 % with Wilson's in its place there."""
_ENOUGH: Final = 0.5  # share of the draws that have to be defined
_TWO: Final = 2  # groups without which nothing varies
_NONE: Final = 1e-150  # of a variance: the square of less vanishes


@dataclass(frozen=True)
class Spread:
    """What the draws of a statistic tell, for its interval and for a test.

    Attributes:
        value: the statistic itself.
        drawn: (d,) sorted statistic of the draws where it is defined; may hold infinities.
        left_out: draws where it is not.
        bias: median bias of the draws, z0 of BCa, in standard errors.
        acceleration: of BCa, from the jackknife.
        widen: standard error by the groups over that of the draws; above 1 where groups are few.
        freedom: degrees of freedom of that standard error; about how many groups carry it.
        error: that standard error; 0 where no group changes anything.
    """

    value: float
    drawn: NDArray[np.float64]
    left_out: int
    bias: float
    acceleration: float
    widen: float
    freedom: float
    error: float

    @property
    def few(self) -> bool:
        """Whether the draws tell too little of the spread: they are all equal, or fewer than 4 groups carry it."""
        return self.constant or self.freedom < FEW

    @property
    def constant(self) -> bool:
        """Whether all draws are equal, so that they tell nothing of the spread."""
        first, last = float(self.drawn[0]), float(self.drawn[-1])
        return first == last or (math.isfinite(last - first) and last - first <= SAME * max(1.0, abs(first)))

    def ends(self, level: float) -> tuple[float, float]:
        """Low and high of the BCa interval; they may be infinite."""
        reach = self.widen * float(special.stdtrit(self.freedom, (1 + level) / 2))
        size = len(self.drawn)
        low, high = (size + 1) * self._share(-reach), (size + 1) * self._share(reach)
        first, last = max(math.floor(low) - 1, 0), max(min(math.ceil(high) - 1, size - 1), 0)
        return float(self.drawn[first]), float(self.drawn[last])

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p value: one less the largest level at which the BCa interval leaves ``null`` out.

        That is the inversion of Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 15.4. Where no
        draw reaches ``null`` the draws cannot tell how far it is away, and the jackknife's standard error does. It is
        at least 1 / (draws + 1) (Davison and Hinkley, Bootstrap Methods, 1997, section 4.2).
        """
        size = len(self.drawn)
        p = self._inverted(null)
        if self.error > 0 and not self.drawn[0] <= null <= self.drawn[-1]:
            p = min(p, 2 * float(special.stdtr(self.freedom, -abs(self.value - null) / self.error)))
        return min(1.0, max(p, 1 / (size + 1)))

    def _inverted(self, null: float) -> float:
        """One less the level at which an end of the interval is ``null``."""
        size = len(self.drawn)
        below = float((self.drawn < null).sum()) + float((self.drawn == null).sum()) / 2
        moved = float(special.ndtri((below + 0.5) / (size + 1))) - self.bias
        if 1 + self.acceleration * moved <= 0:
            return 0.0
        deviation = moved / (1 + self.acceleration * moved) - self.bias
        return 2 * float(special.stdtr(self.freedom, -abs(deviation) / self.widen))

    def _share(self, deviation: float) -> float:
        """The share of draws below the end that lies ``deviation`` standard errors away, by Efron's formula."""
        moved = self.bias + deviation
        left = 1 - self.acceleration * moved
        if left <= 0:  # beyond all draws
            return float(moved > 0)
        return float(special.ndtr(self.bias + moved / left))


def spread_of(
    drawn: NDArray[np.float64],
    without: NDArray[np.float64],
    value: float,
    stratum: NDArray[np.int64],
    counts: NDArray[np.bool_],
) -> Spread | None:
    """Describe the spread of a statistic.

    Args:
        drawn: (draws,) of the draws, NaN where it is not defined.
        without: (groups,) with each group left out, the same.
        value: of all groups.
        stratum: (groups,) within which each group was drawn.
        counts: bool (groups,), the groups that the statistic depends on.

    Returns:
        The spread; None where fewer than half of the draws are defined, or fewer than two groups count.
    """
    defined = np.sort(drawn[~np.isnan(drawn)])
    if len(defined) < _ENOUGH * len(drawn) or counts.sum() < _TWO:
        return None
    same = np.isclose(defined, value, rtol=SAME, atol=SAME)
    below = float(((defined < value) & ~same).sum()) + float(same.sum()) / 2
    bias = float(special.ndtri((below + 0.5) / (len(defined) + 1)))
    return Spread(value, defined, len(drawn) - len(defined), bias, *_moments(without, stratum, counts))


def _moments(
    without: NDArray[np.float64], stratum: NDArray[np.int64], counts: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """Acceleration, widening, degrees of freedom and standard error from a jackknife by stratum.

    The acceleration is that of Davison and Hinkley, Bootstrap Methods, 1997, section 5.3. A bootstrap of m groups gives
    (m - 1) / m of the variance, and no t quantile: the interval is expanded as Hesterberg (Am Stat 2015, 69:371) says.
    The degrees of freedom are the number of groups that carry the variance, as in ``delong``, or Satterthwaite's over
    the strata where these are fewer.
    """
    second = third = fourth = full = squares = 0.0
    for number in np.unique(stratum[counts]):
        part = without[counts & (stratum == number) & np.isfinite(without)]
        if len(part) < _TWO:
            continue
        shift = (part.mean() - part) * (len(part) - 1) / len(part)
        variance = float((shift**2).sum())
        second += variance
        third += float((shift**3).sum())
        fourth += float((shift**4).sum())
        unbiased = variance * len(part) / (len(part) - 1)
        full += unbiased
        squares += unbiased**2 / (len(part) - 1)
    if second < _NONE:
        return 0.0, 1.0, math.inf, 0.0
    freedom = min(second**2 / fourth, full**2 / squares)
    return third / (6 * second**1.5), math.sqrt(full / second), freedom, math.sqrt(full)
