"""Intervals in closed form: of a proportion, of what is always right, and of figures made of two proportions.

All levels are two-sided: 0.95 leaves 0.025 on either side.
"""

from __future__ import annotations

import math

from scipy import special


def normal_quantile(level: float) -> float:
    """How many standard errors a two-sided interval reaches to either side: 1.96 for 0.95."""
    return float(special.ndtri((1 + level) / 2))


def wilson(share: float, size: float, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion (Wilson, JASA 1927, 22:209).

    Args:
        share: in [0, 1].
        size: number of cases, above 0; a fraction where it is an effective one.
        level: of the interval, in (0, 1).

    Returns:
        Low and high, in [0, 1].
    """
    z2 = normal_quantile(level) ** 2
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = math.sqrt(z2 * (share * (1 - share) / size + z2 / (4 * size**2))) / (1 + z2 / size)
    # At 0 and 1 the end is exact; rounding would put it beside.
    low = 0.0 if share <= 0 else max(0.0, centre - half)
    high = 1.0 if share >= 1 else min(1.0, centre + half)
    return low, high


def all_alike(size: float, level: float = 0.95) -> float:
    """How rare what never showed in independent cases may yet be: the least share of what always showed.

    The exact bound of Clopper and Pearson (Biometrika 1934, 26:404): a share below it gives ``size`` of ``size`` with
    less than half of what the level leaves.
    """
    return float(((1 - level) / 2) ** (1 / size))


def poisson(rate: float, size: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a rate of events in ``size`` cases (Garwood, Biometrika 1936, 28:437)."""
    events, outside = rate * size, (1 - level) / 2
    low = float(special.gammaincinv(events, outside)) / size if events else 0.0
    return low, float(special.gammainccinv(events + 1, outside)) / size


Triple = tuple[float, float, float]
"""An estimate with the low and the high end of its interval."""


def mean_of_two(first: Triple, second: Triple) -> tuple[float, float]:
    """The interval of the mean of two independent estimates from theirs (MOVER; Zou and Donner, Stat Med 2008)."""
    (a, low_a, high_a), (b, low_b, high_b) = first, second
    mean = (a + b) / 2
    return mean - math.hypot(a - low_a, b - low_b) / 2, mean + math.hypot(high_a - a, high_b - b) / 2


def ratio_of_two(first: Triple, second: Triple) -> tuple[float, float]:
    """The interval of the ratio of two independent estimates from theirs (MOVER; Donner and Zou, Stat Methods 2012).

    Args:
        first: none below 0.
        second: none below 0; an estimate above 0.

    Returns:
        Low and high; high is infinite where the second's low end is 0.
    """
    (a, low_a, high_a), (b, low_b, high_b) = first, second
    product = a * b
    above = max(0.0, product**2 - low_a * high_b * (2 * a - low_a) * (2 * b - high_b))
    # Where high_b is 2 b the quotient is 0 / 0, and its limit is that of the other root.
    divisor = high_b * (2 * b - high_b)
    if divisor:
        low = (product - math.sqrt(above)) / divisor
    else:
        low = low_a * (2 * a - low_a) / (2 * product) if product else 0.0
    below = max(0.0, product**2 - high_a * low_b * (2 * a - high_a) * (2 * b - low_b))
    divisor = low_b * (2 * b - low_b)
    return max(0.0, low), (product + math.sqrt(below)) / divisor if divisor else math.inf
