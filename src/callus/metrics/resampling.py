"""Intervals by group: groups are drawn with replacement, since files of one group tell much the same.

An interval of files taken as independent is far too narrow where a radiograph stands in many files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from callus.errors import CallusError
from callus.metrics.bca import Spread, spread_of
from callus.metrics.proportions import poisson, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]

DRAWS: Final = 2000
LEVEL: Final = 0.95
ONE_GROUP: Final = "all cases are of one group: what varies between groups is unknown"
FEW_DRAWS: Final = "too few draws of groups define it"
_BLOCK: Final = 2_000_000  # numbers at once
_TWO: Final = 2  # groups without which nothing varies


@dataclass(frozen=True)
class Interval:
    """A figure with its interval.

    Attributes:
        value: the figure; None where it is not defined (or infinite).
        low: of the interval; None where there is none (or it is infinite).
        high: the same.
        method: how the interval was made, in words; empty where there is none.
        reason: why something is None; empty where nothing is.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give value, low, high, method, and reason where there is one, ready for JSON."""
        told: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high, "method": self.method}
        return told | {"reason": self.reason} if self.reason else told


class Resampling:
    """Groups drawn with replacement within their stratum; many statistics share one set of draws.

    Attributes:
        index: int64 (n,), the number of each row's group, from 0.
        groups: how many.
        single: whether every group has one row.
        draws: how many.
        stratum: int64 (groups,), the number of the stratum within which a group is drawn.
        seed: that they were made from. The order of the rows changes nothing.
    """

    def __init__(self, group: ArrayLike, stratum: ArrayLike | None = None, draws: int = DRAWS, seed: int = 0) -> None:
        """Draw.

        Args:
            group: (n,) whatever names a row's group.
            stratum: (n,) of each row, for example its label; the stratum of a group is the set of what its rows have.
                A stratum of one group joins the smallest larger one: alone, it would never vary. None: all groups are
                of one stratum.
            draws: at least 100.
            seed: of the draws.

        Raises:
            CallusError: a group is missing, the lengths differ, or there are too few draws.
        """
        if draws < 100:  # noqa: PLR2004
            raise CallusError(f"{draws} draws are too few for an interval; expected 100 or more")
        self.index, self.groups = group_index(group)
        self.draws, self.seed = draws, seed
        self.single = self.groups == self.index.size
        self.stratum = self._strata(stratum)
        self._times = self._drawn()

    @cached_property
    def across(self) -> Resampling:
        """The same groups, drawn from all of them whatever their stratum: for what depends on how many each has."""
        return self if self.stratum.max(initial=0) == 0 else Resampling(self.index, None, self.draws, self.seed)

    def check_rows(self, rows: int) -> None:
        """Refuse rows that are not those of the groups.

        Raises:
            CallusError: their number is another.
        """
        if self.index.size != rows:
            raise CallusError(f"{self.index.size} groups do not go with {rows} rows; expected one each")

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum rows (n,) or (n, k) by group: (groups,) or (groups, k)."""
        if values.ndim == 1:
            return np.bincount(self.index, values, self.groups).astype(np.float64)
        return np.stack([self.sums(column) for column in values.T], axis=1)

    def spread(self, sums: NDArray[np.float64], statistic: Statistic, counts: NDArray[np.bool_]) -> Spread | None:
        """Draw a statistic of sums.

        Args:
            sums: (groups, k) as :meth:`sums` gives them.
            statistic: from (d, k) sums over all groups to (d,); NaN where it is not defined.
            counts: bool (groups,), the groups that the statistic depends on.

        Returns:
            The spread; None where fewer than half of the draws are defined, or fewer than two groups count.
        """
        drawn = np.concatenate([statistic(times.astype(np.float64) @ sums) for times in self.blocks(self.groups)])
        return self.spread_of(
            drawn, statistic(sums.sum(axis=0) - sums), float(statistic(sums.sum(axis=0)[None])[0]), counts
        )

    def spread_of(
        self, drawn: NDArray[np.float64], without: NDArray[np.float64], value: float, counts: NDArray[np.bool_]
    ) -> Spread | None:
        """Describe the spread of a statistic that was worked out elsewhere, as :func:`callus.metrics.bca.spread_of`."""
        return spread_of(drawn, without, value, self.stratum, counts)

    def blocks(self, width: int) -> Iterator[NDArray[np.uint8]]:
        """Give how often each group was drawn, (some draws, groups), so that times ``width`` they stay in bounds."""
        step = max(1, _BLOCK // max(width, 1))
        for first in range(0, self.draws, step):
            yield self._times[first : first + step]

    def blocks_without(self, width: int) -> Iterator[NDArray[np.uint8]]:
        """Give the same for the jackknife: each row leaves one group out."""
        step = max(1, _BLOCK // max(width, 1))
        for first in range(0, self.groups, step):
            rows = np.arange(first, min(first + step, self.groups))
            times = np.ones((len(rows), self.groups), np.uint8)
            times[rows - first, rows] = 0
            yield times

    def method(self, spread: Spread) -> str:
        """Name the interval in words."""
        told = f"BCa cluster bootstrap, {self.draws:,} draws of {self.groups:,} groups, widened for few groups"
        return f"{told}; {spread.left_out:,} draws without a value left out" if spread.left_out else told

    def no_spread(self) -> str:
        """Say why there is no spread."""
        return FEW_DRAWS if self.groups >= _TWO else ONE_GROUP

    def _strata(self, stratum: ArrayLike | None) -> NDArray[np.int64]:
        """Number the stratum of each group, (groups,)."""
        if stratum is None:
            return np.zeros(self.groups, np.int64)
        values = np.asarray(stratum).ravel()
        if values.size != self.index.size:
            raise CallusError(f"{values.size} strata do not go with {self.index.size} groups; expected one each")
        kinds, kind = np.unique(values.astype(str), return_inverse=True)
        has = np.zeros((self.groups, len(kinds)), np.bool_)
        has[self.index, kind] = True
        numbers = np.unique(has, axis=0, return_inverse=True)[1].ravel() if self.groups else np.zeros(0)
        numbers = numbers.astype(np.int64)
        sizes = np.bincount(numbers)
        alone, larger = np.flatnonzero(sizes == 1), np.flatnonzero(sizes > 1)
        if len(alone):
            numbers[np.isin(numbers, alone)] = larger[np.argmin(sizes[larger])] if len(larger) else alone[0]
        return numbers

    def _drawn(self) -> NDArray[np.uint8]:
        """How often each group was drawn, (draws, groups).

        A byte is enough: a stratum of m groups gives one group m times at most, and more than 255 times with a
        probability below 1 / 255! where m is larger.
        """
        random = np.random.default_rng(self.seed)
        times = np.zeros((self.draws, self.groups), np.uint8)
        for stratum in np.unique(self.stratum):
            members = np.flatnonzero(self.stratum == stratum)
            size = len(members)
            step = max(1, _BLOCK // size)
            for first in range(0, self.draws, step):
                rows = min(step, self.draws - first)
                chosen = random.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
                counted = np.bincount(chosen.ravel(), minlength=rows * size).reshape(rows, size)
                times[first : first + rows, members] = counted
        return times


def ratio_interval(
    numerator: ArrayLike,
    denominator: ArrayLike,
    group: ArrayLike,
    *,
    stratum: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
    events: bool = False,
    resampling: Resampling | None = None,
) -> Interval:
    """Give a sum over a sum with its interval by group: any share, mean or rate.

    By BCa cluster bootstrap (Efron, JASA 1987, 82:171; groups drawn as in Davison and Hinkley 1997, section 3.8),
    widened for few groups (see :mod:`callus.metrics.bca`). Where no group has more than one row that counts, and each
    is a yes or a no, by Wilson's score interval. Where all draws are equal (20 of 20 right), or fewer than four groups
    carry the variance, by Wilson's (or the Poisson's) with as many cases as the groups are worth if all files of a
    group were alike, which is at most their number (Kish, Survey Sampling, 1965).

    Args:
        numerator: (n,) at least 0; rows where both are 0 do not count.
        denominator: (n,) at least 0.
        group: (n,) whatever names a row's group.
        stratum: (n,) of each row, often its label; see :class:`Resampling`.
        draws: of the bootstrap.
        seed: of the draws.
        level: of the interval, in (0, 1).
        events: whether the numerator counts events, such as false boxes in an image, of which a case may have several.
        resampling: draws to share between statistics, of the same rows; ``group``, ``stratum``, ``draws`` and ``seed``
            are then not looked at.

    Returns:
        The ratio and its interval. None and the reason where the denominator's sum is 0, and no interval where fewer
        than two groups count.

    Raises:
        CallusError: the lengths differ, a number is negative or none, a group is missing.
    """
    above, below = checked_ratio(numerator, denominator)
    check_level(level)
    if resampling is None:
        resampling = Resampling(group, stratum, draws, seed)
    resampling.check_rows(above.size)
    if below.sum() == 0:
        return Interval(None, None, None, "", "no case to measure it on")
    value = float(above.sum() / below.sum())
    rows = (below > 0) | (above > 0)
    sums = resampling.sums(np.stack([above, below], axis=1))
    counts = np.bincount(resampling.index[rows], minlength=resampling.groups)
    if (counts > 0).sum() < _TWO:
        return Interval(value, None, None, "", ONE_GROUP)
    if not events and counts.max() == 1 and (below[rows] == 1).all() and np.isin(above, (0, 1)).all():
        return Interval(value, *wilson(value, int(rows.sum()), level), "Wilson")
    spread = resampling.spread(sums, _ratio, counts > 0)
    if spread is None:
        return Interval(value, None, None, "", FEW_DRAWS)
    if spread.few:
        return _few_ratio(value, sums, level, events=events)
    low, high = spread.ends(level)
    return Interval(value, min(low, value), max(high, value), resampling.method(spread))


def group_index(group: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """Number groups (n,) from 0 in the order of their names: int64 (n,), and how many there are.

    Raises:
        CallusError: a group is missing.
    """
    names = np.asarray(group, dtype=object).ravel()
    if missing := int(pd.isna(names).sum()):
        raise CallusError(f"{missing} of {names.size} rows have no group; expected a name for each")
    unique, index = np.unique(names.astype(str), return_inverse=True)
    return index.astype(np.int64), len(unique)


def checked_ratio(numerator: ArrayLike, denominator: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give both as float64 (n,).

    Raises:
        CallusError: the lengths differ, or a number is negative or none.
    """
    above = np.asarray(numerator, dtype=np.float64).ravel()
    below = np.asarray(denominator, dtype=np.float64).ravel()
    if above.size != below.size:
        raise CallusError(f"{above.size} numerators do not go with {below.size} denominators; expected one each")
    for name, values in (("numerators", above), ("denominators", below)):
        if wrong := int((~(np.isfinite(values) & (values >= 0))).sum()):
            raise CallusError(f"{wrong} of {values.size} {name} are negative or no numbers; expected 0 or more")
    return above, below


def check_level(level: float) -> None:
    """Refuse a level that is none.

    Raises:
        CallusError: it is not in (0, 1).
    """
    if not 0 < level < 1:
        raise CallusError(f"the level is {level}; expected more than 0 and less than 1, such as 0.95")


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan))


def _few_ratio(value: float, sums: NDArray[np.float64], level: float, *, events: bool) -> Interval:
    """The interval where no group differs from the others, or fewer than four do, so that draws tell little."""
    size = alike_size(sums[:, 1])
    worth = f"{size:.1f} cases, what the groups are worth if all of a group are alike (hardly any group differs)"
    if events:
        return Interval(value, *poisson(value, size, level), f"Poisson (Garwood) with {worth}")
    if (sums[:, 0] <= sums[:, 1]).all():
        return Interval(value, *wilson(value, size, level), f"Wilson with {worth}")
    return Interval(value, None, None, "", "hardly any group differs, so that nothing tells how it varies")


def alike_size(weights: NDArray[np.float64]) -> float:
    """How many independent cases groups of these sizes (groups,) are worth if files of a group are alike (Kish 1965).

    At most the number of groups that have a case, and that where all have the same size.
    """
    return float(weights.sum() ** 2 / (weights**2).sum())
