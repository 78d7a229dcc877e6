"""Two models on the same radiographs: what differs between their figures, and whether that could be chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import special

from callus.metrics import counts, delong
from callus.metrics.intervals import ALIKE, missing_class
from callus.metrics.ranking import Ranking
from callus.metrics.resampling import DRAWS, LEVEL, Resampling, check_level
from callus.metrics.scores import check_prevalence, checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from callus.metrics.bca import Spread
    from callus.metrics.counts import Figure

_CLASSES: Final = {
    **dict.fromkeys(("auroc", "auprc", "balanced_accuracy", "lr_positive", "lr_negative"), (1, 0)),
    **dict.fromkeys(("ppv_at_prevalence", "npv_at_prevalence"), (1, 0)),
    "sensitivity": (1,),
    "specificity": (0,),
}
"""The classes that a figure needs; the others make do with either."""
_LIMITS: Final = {"kappa": 2.0, "lr_positive": math.inf, "lr_negative": math.inf}
"""How far two figures can differ; 1 for the others."""
_UNDEFINED: Final = {
    "ppv": "a model calls nothing fractured",
    "npv": "a model calls everything fractured",
    "f1": "neither a fractured case nor a call",
    "kappa": "labels and calls are all the same",
    "lr_positive": "a model has no false alarm (the ratio is infinite)",
    "lr_negative": "a model calls everything fractured",
    "ppv_at_prevalence": "a model calls nothing fractured",
    "npv_at_prevalence": "a model calls everything fractured",
}


@dataclass(frozen=True)
class Difference:
    """A figure of two models, side by side.

    Attributes:
        a: of the first; None where it is not defined (or infinite).
        b: of the second; the same.
        difference: a less b; None where one of them is.
        low: of its interval; None where there is none (or it is infinite).
        high: the same.
        p: two-sided p value of no difference, in (0, 1]; None where there is none.
        method: how interval and p value were made, in words; empty where there is none.
        reason: why something is None; empty where nothing is.
    """

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    method: str
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give a, b, difference, low, high, p, method, and reason where there is one, ready for JSON."""
        names = ("a", "b", "difference", "low", "high", "p", "method")
        told: dict[str, Any] = {name: getattr(self, name) for name in names}
        return told | {"reason": self.reason} if self.reason else told


def compare_figures(
    label: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    group: ArrayLike,
    threshold_a: float,
    threshold_b: float,
    *,
    prevalence: float | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
    resampling: Resampling | None = None,
) -> dict[str, Difference]:
    """Compare two models on the same rows.

    The AUROC by DeLong's covariance, Obuchowski's where groups have several rows, with a t quantile. Every other figure
    by the paired cluster bootstrap: both models are measured on the same draws of groups, and the interval of the
    difference is BCa. Its p value inverts that interval: it is one less the largest level at which 0 lies outside
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 15.4), and at least 1 / (draws + 1) (Davison
    and Hinkley, Bootstrap Methods, 1997, section 4.2). Where fewer than four groups carry the difference: the jackknife
    of groups with a t quantile.

    Args:
        label: (n,) 0 or 1.
        a: (n,) the first model's probabilities, in [0, 1].
        b: (n,) the second's, of the same rows.
        group: (n,) whatever names a row's group.
        threshold_a: at or above it the first model calls a case fractured.
        threshold_b: the same of the second.
        prevalence: share of fractured cases, in (0, 1), for which PPV and NPV are wanted as well.
        draws: of the bootstrap.
        seed: of the draws.
        level: of the intervals, in (0, 1).
        resampling: draws to share, of the same rows (with the label as stratum); ``group``, ``draws`` and ``seed`` are
            then not looked at.

    Returns:
        By the names of :func:`callus.metrics.intervals.figure_intervals`. Where no draw shows a difference, p is 1 and
        there is no interval.

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, a probability is no number, a group is missing, or
            prevalence or level are not in (0, 1).
    """
    check_level(level)
    if prevalence is not None:
        check_prevalence(prevalence)
    if resampling is None:
        resampling = Resampling(group, label, draws, seed)
    return compare_rankings(label, a, b, resampling, level) | compare_calls(
        label, a, b, threshold_a, threshold_b, resampling, level, prevalence=prevalence
    )


def compare_rankings(
    label: ArrayLike, a: ArrayLike, b: ArrayLike, resampling: Resampling, level: float = LEVEL
) -> dict[str, Difference]:
    """Compare what needs no threshold: auroc, auprc, brier; as :func:`compare_figures`."""
    pair = _pair(label, a, b, resampling, level)
    return {"auroc": pair.auroc(), "auprc": pair.auprc(), "brier": pair.brier()}


def compare_calls(
    label: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    threshold_a: float,
    threshold_b: float,
    resampling: Resampling,
    level: float = LEVEL,
    *,
    prevalence: float | None = None,
) -> dict[str, Difference]:
    """Compare the figures at the thresholds, accuracy and those after it; as :func:`compare_figures`."""
    pair = _pair(label, a, b, resampling, level)
    rows = [counts.outcomes(pair.label, *one) for one in zip(pair.scores, (threshold_a, threshold_b), strict=True)]
    sums = resampling.sums(np.concatenate(rows, axis=1))  # (groups, 8)
    return {name: pair.counted(name, figure, sums) for name, figure in _figures(prevalence).items()}


def _pair(label: ArrayLike, a: ArrayLike, b: ArrayLike, resampling: Resampling, level: float) -> _Pair:
    """Check the rows."""
    labels, first = checked(label, a)
    second = checked(label, b)[1]
    resampling.check_rows(labels.size)
    return _Pair(labels, (first, second), resampling, level)


def _figures(prevalence: float | None) -> dict[str, Figure]:
    if prevalence is None:
        return counts.FIGURES
    return counts.FIGURES | {
        "ppv_at_prevalence": lambda one: counts.ppv_of(counts.lr_positive_inverse(one), prevalence),
        "npv_at_prevalence": lambda one: counts.npv_of(counts.lr_negative(one), prevalence),
    }


class _Pair:
    """Two models' probabilities of the same rows."""

    def __init__(
        self,
        label: NDArray[np.int64],
        scores: tuple[NDArray[np.float64], NDArray[np.float64]],
        resampling: Resampling,
        level: float,
    ) -> None:
        self.label, self.scores, self._resampling, self._level = label, scores, resampling, level
        self._all = np.ones(resampling.groups, np.bool_)

    def auroc(self) -> Difference:
        """By the covariance of the two."""
        undefined, unsure = missing_class(self.label, self._resampling.index)
        if undefined:
            return _nothing(None, None, undefined)
        first, second = (float(delong.placements(self.label, one)[self.label == 1].mean()) for one in self.scores)
        areas = delong.areas(self.label, list(self.scores), self._resampling.index)
        if areas is None:
            return _nothing(first, second, unsure)
        found = areas.contrast([1.0, -1.0])
        if found.variance <= 1e-20:  # noqa: PLR2004 - a standard error of 1e-10 is rounding
            return _alike(first, second)
        name = "DeLong" if areas.single else "clustered DeLong (Obuchowski)"
        error = math.sqrt(found.variance)
        return self._by_error(first, second, error, found.freedom, f"{name} of the difference", 1.0)

    def auprc(self) -> Difference:
        """By draws in which each file only weighs more or less."""
        undefined, unsure = missing_class(self.label, self._resampling.index)
        if undefined:
            return _nothing(None, None, undefined)
        rankings = [Ranking(self.label, one, self._resampling.index) for one in self.scores]
        once = np.ones((1, self._resampling.groups), np.uint8)
        first, second = (float(one.auprc(once)[0]) for one in rankings)
        if unsure:
            return _nothing(first, second, unsure)
        (drawn_a, without_a), (drawn_b, without_b) = (one.drawn(one.auprc, self._resampling) for one in rankings)
        spread = self._resampling.spread_of(drawn_a - drawn_b, without_a - without_b, first - second, self._all)
        return self._by_draws(first, second, spread)

    def brier(self) -> Difference:
        """Of the squared errors."""
        if not self.label.size:
            return _nothing(None, None, "no case")
        columns = [(one - self.label) ** 2 for one in self.scores]
        sums = self._resampling.sums(np.stack([*columns, np.ones(self.label.size)], axis=1))
        total = sums.sum(axis=0)
        spread = self._resampling.spread(sums, _mean_difference, self._all)
        return self._by_draws(float(total[0] / total[2]), float(total[1] / total[2]), spread)

    def counted(self, name: str, figure: Figure, sums: NDArray[np.float64]) -> Difference:
        """A figure at the thresholds, from sums by group (groups, 8)."""
        total = sums.sum(axis=0)[None]
        a, b = (_number(figure(part)) for part in (total[:, :4], total[:, 4:]))
        undefined, unsure = missing_class(self.label, self._resampling.index, _CLASSES.get(name, ()))
        if a is None or b is None:
            return _nothing(a, b, undefined or _UNDEFINED.get(name, "no case"))
        if unsure:
            return _nothing(a, b, unsure)
        spread = self._resampling.spread(sums, _less(figure), self._all)
        return self._by_draws(a, b, spread, _LIMITS.get(name, 1.0))

    def _by_draws(self, a: float, b: float, spread: Spread | None, limit: float = 1.0) -> Difference:
        if spread is None:
            return _nothing(a, b, self._resampling.no_spread())
        if spread.constant:
            return _alike(a, b)
        if spread.few:
            return self._by_error(a, b, spread.error, spread.freedom, "jackknife of groups", limit)
        low, high = (None if math.isinf(end) else end for end in spread.ends(self._level))
        method = f"paired {self._resampling.method(spread)}"
        reason = "an end of the interval is infinite" if low is None or high is None else ""
        low, high = (None if low is None else min(low, a - b)), (None if high is None else max(high, a - b))
        return Difference(a, b, a - b, low, high, spread.p_value(), method, reason)

    def _by_error(self, a: float, b: float, error: float, freedom: float, name: str, limit: float) -> Difference:
        reach = float(special.stdtrit(freedom, (1 + self._level) / 2)) * error
        p = 2 * float(special.stdtr(freedom, -abs(a - b) / error))
        method = f"{name}, t with {freedom:.1f} degrees of freedom"
        return Difference(a, b, a - b, max(a - b - reach, -limit), min(a - b + reach, limit), p, method)


def _less(figure: Figure) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):  # infinite less infinite: such a draw has no value
            return np.asarray(figure(sums[:, :4]) - figure(sums[:, 4:]))

    return difference


def _mean_difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((sums[:, 0] - sums[:, 1]) / np.where(sums[:, 2] > 0, sums[:, 2], np.nan))


def _number(values: NDArray[np.float64]) -> float | None:
    return float(values[0]) if np.isfinite(values[0]) else None


def _nothing(a: float | None, b: float | None, reason: str) -> Difference:
    return Difference(a, b, None if a is None or b is None else a - b, None, None, None, "", reason)


def _alike(a: float, b: float) -> Difference:
    """Where all draws give the same difference."""
    if math.isclose(a, b, abs_tol=1e-12):
        return Difference(a, b, 0.0, None, None, 1.0, "", "no draw of groups shows a difference between the two")
    return _nothing(a, b, ALIKE)
