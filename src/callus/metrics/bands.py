"""Intervals of many figures at once, worked out from the same draws of groups: curves and what is read off them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from callus.metrics.resampling import LEVEL, Interval, check_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from callus.metrics.resampling import Resampling

    Figures = Callable[[NDArray[np.uint8]], NDArray[np.float64]]

SAME = "every draw of groups gives the same value"


def drawn_intervals(
    resampling: Resampling,
    figures: Figures,
    counts: NDArray[np.bool_],
    *,
    width: int,
    undefined: str,
    level: float = LEVEL,
) -> list[Interval]:
    """Give figures with their BCa intervals by group (see :class:`callus.metrics.resampling.Resampling`).

    Args:
        resampling: the draws.
        figures: from how often each group was drawn, uint8 (d, groups), to the k figures, (d, k); NaN where one is not
            defined.
        counts: bool (groups,), the groups that the figures depend on.
        width: numbers that ``figures`` holds at once for one draw; it is given as few draws as keep that in bounds.
        undefined: the reason where a figure is not defined on all groups.
        level: of the intervals, in (0, 1).

    Returns:
        One for each figure. No interval where fewer than two groups count, or all draws are equal.

    Raises:
        CallusError: the level is none.
    """
    check_level(level)
    everything = figures(np.ones((1, resampling.groups), np.uint8))[0]
    if np.isnan(everything).all():
        return [Interval(None, None, None, "", undefined) for _ in everything]
    width = max(width, resampling.groups)
    drawn = np.concatenate([figures(times) for times in resampling.blocks(width)])
    without = np.concatenate([figures(times) for times in resampling.blocks_without(width)])
    return [
        _interval(resampling, drawn[:, place], without[:, place], float(value), counts, undefined, level)
        for place, value in enumerate(everything)
    ]


def _interval(
    resampling: Resampling,
    drawn: NDArray[np.float64],
    without: NDArray[np.float64],
    value: float,
    counts: NDArray[np.bool_],
    undefined: str,
    level: float,
) -> Interval:
    if np.isnan(value):
        return Interval(None, None, None, "", undefined)
    spread = resampling.spread_of(drawn, without, value, counts)
    if spread is None:
        return Interval(value, None, None, "", "too few groups, or draws of groups, have a case to measure it on")
    if spread.constant:
        return Interval(value, None, None, "", SAME)
    low, high = spread.ends(level)
    return Interval(value, min(low, value), max(high, value), resampling.method(spread))
