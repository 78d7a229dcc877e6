"""The two thresholds that make the three levels: chosen on the validation split, on the test split only measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from callus.errors import CallusError
from callus.labels import LABEL_NAMES, LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from callus.labels import Level
    from callus.metrics.resampling import Interval

TARGET = 0.95
"""Sensitivity of the one threshold and specificity of the other, where nobody asks for something else."""
UNDECIDED = 0.5
"""The threshold where a class is missing, so that nothing can be measured."""


@dataclass(frozen=True)
class OperatingPoints:
    """Thresholds on the calibrated probability.

    Attributes:
        high_sensitivity: at or above it nothing is called "none".
        high_specificity: at or above it the level is "fracture"; never below ``high_sensitivity``.
        reason: why they are not what was asked for; empty where they are.
    """

    high_sensitivity: float = UNDECIDED
    high_specificity: float = UNDECIDED
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.high_sensitivity <= self.high_specificity <= 1.0:
            raise CallusError(
                f"the operating points are {self.high_sensitivity} (high sensitivity) and {self.high_specificity} "
                "(high specificity); expected 0 <= high sensitivity <= high specificity <= 1"
            )

    def level(self, probability: float) -> Level:
        """Name the level of a calibrated probability."""
        if probability >= self.high_specificity:
            return "fracture"
        return "doubt" if probability >= self.high_sensitivity else "none"

    def as_dict(self) -> dict[str, Any]:
        """As they stand in ``bundle.json``."""
        values: dict[str, Any] = {
            "high_sensitivity": self.high_sensitivity,
            "high_specificity": self.high_specificity,
        }
        return values | {"reason": self.reason} if self.reason else values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OperatingPoints:
        """Read what :meth:`as_dict` wrote."""
        return cls(float(values["high_sensitivity"]), float(values["high_specificity"]), str(values.get("reason", "")))


@dataclass(frozen=True)
class PointFigures:
    """What a threshold gives on a split that it was not chosen on; each figure with its interval by group.

    Attributes:
        threshold: at or above it a case is called fractured.
        sensitivity: share of the fractured that are called so.
        specificity: share of the others that are not.
        ppv: share of the called that are fractured, at this split's prevalence.
        npv: share of the others that are not, at this split's prevalence.
    """

    threshold: float
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        names = ("sensitivity", "specificity", "ppv", "npv")
        return {"threshold": self.threshold} | {name: getattr(self, name).as_dict() for name in names}


@dataclass(frozen=True)
class LevelFigures:
    """What both operating points give.

    Attributes:
        high_sensitivity: at the lower threshold.
        high_specificity: at the upper one.
        levels: by class name ("fractured", "not fractured") and level, the share of that class at that level.
    """

    high_sensitivity: PointFigures
    high_specificity: PointFigures
    levels: Mapping[str, Mapping[Level, Interval]]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "high_sensitivity": self.high_sensitivity.as_dict(),
            "high_specificity": self.high_specificity.as_dict(),
            "levels": {
                name: {level: share.as_dict() for level, share in shares.items()}
                for name, shares in self.levels.items()
            },
        }


def figures_at(
    label: ArrayLike,
    probability: ArrayLike,
    group: ArrayLike,
    points: OperatingPoints,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> LevelFigures:
    """Measure operating points on a split that they were not chosen on; nothing is chosen here.

    Args:
        label: (n,) 0 or 1.
        probability: (n,) calibrated, in [0, 1].
        group: (n,) whatever names a row's group.
        points: as the bundle has them.
        draws: of the bootstrap. For shares of a class groups are drawn within what classes they hold, for PPV and NPV
            all alike: these hang on the prevalence, which is an estimate too. (With 80 groups of alike files a nominal
            95 % interval of the PPV that kept the prevalence held the truth in 82 % of 400 simulations, this in 97 %.)
        seed: of the draws.
        level: of the intervals, in (0, 1).

    Returns:
        The figures; None with a reason where there is no case to measure one on.

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, a probability is not in [0, 1], or a group is
            missing.
    """
    # Pandas, which identification, for which this module is loaded, has no use for.
    from callus.metrics.resampling import Resampling, ratio_interval  # noqa: PLC0415

    labels, scores = checked_probabilities(label, probability)
    within, across = Resampling(group, labels, draws, seed), Resampling(group, None, draws, seed)

    def share(part: NDArray[np.bool_], whole: NDArray[np.bool_], resampling: Resampling = within) -> Interval:
        return ratio_interval(part & whole, whole, group, resampling=resampling, level=level)

    def at(threshold: float) -> PointFigures:
        called, fractured = scores >= threshold, labels == 1
        return PointFigures(
            threshold,
            sensitivity=share(called, fractured),
            specificity=share(~called, ~fractured),
            ppv=share(fractured, called, across),
            npv=share(~fractured, ~called, across),
        )

    reached = np.array([points.level(score) for score in scores.tolist()], dtype=object)
    levels = {
        name: {one: share(reached == one, labels == value) for one in LEVELS} for value, name in LABEL_NAMES.items()
    }
    return LevelFigures(at(points.high_sensitivity), at(points.high_specificity), levels)


def choose(
    label: ArrayLike, probability: ArrayLike, *, sensitivity: float = TARGET, specificity: float = TARGET
) -> OperatingPoints:
    """Choose both thresholds on the validation split.

    The one is the highest threshold that still has the sensitivity, the other the lowest that has the specificity;
    each is put midway between the two neighbouring scores that it may lie between (with 0 and 1 at the ends). Where a
    good model's two cross, both become their midpoint, which keeps both promises, and "doubt" is empty.

    Args:
        label: (n,) 0 or 1.
        probability: (n,) calibrated, in [0, 1].
        sensitivity: wanted share of fractures at or above the first threshold, in (0, 1].
        specificity: wanted share of the others below the second, in (0, 1]. Beyond reach where the highest such
            probability is 1 itself: the threshold is then 1.

    Returns:
        The operating points. Where a class is missing its threshold is 0.5 (moved so that the two do not cross), and
        ``reason`` says so.

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, a probability or a target is out of range.
    """
    labels, scores = checked_probabilities(label, probability)
    for name, target in (("sensitivity", sensitivity), ("specificity", specificity)):
        if not 0.0 < target <= 1.0:
            raise CallusError(f"the wanted {name} is {target}; expected more than 0 and at most 1")
    fractured, others = scores[labels == 1], scores[labels == 0]
    if not fractured.size or not others.size:
        return _one_class(scores, fractured, others, sensitivity, specificity)
    low = _high_sensitivity(fractured, scores, sensitivity)
    high = _high_specificity(others, scores, specificity)
    if low > high:
        low = high = _midway(high, low)
    return OperatingPoints(low, high)


def _high_sensitivity(fractured: NDArray[np.float64], scores: NDArray[np.float64], target: float) -> float:
    score = float(np.sort(fractured)[-_count(target, fractured.size)])
    below = scores[scores < score]
    middle = _midway(float(below.max()) if below.size else 0.0, score)
    return middle if not below.size or middle > below.max() else score


def _high_specificity(others: NDArray[np.float64], scores: NDArray[np.float64], target: float) -> float:
    score = float(np.sort(others)[_count(target, others.size) - 1])
    above = scores[scores > score]
    upper = float(above.min()) if above.size else 1.0
    middle = _midway(score, upper)
    return middle if middle > score else upper


def _one_class(
    scores: NDArray[np.float64],
    fractured: NDArray[np.float64],
    others: NDArray[np.float64],
    sensitivity: float,
    specificity: float,
) -> OperatingPoints:
    if fractured.size:
        low = _high_sensitivity(fractured, scores, sensitivity)
        return OperatingPoints(low, max(low, UNDECIDED), "no case that is not fractured to choose the specificity on")
    if others.size:
        high = _high_specificity(others, scores, specificity)
        return OperatingPoints(min(high, UNDECIDED), high, "no fractured case to choose the sensitivity on")
    return OperatingPoints(reason="no case to choose thresholds on")


def _count(target: float, size: int) -> int:
    """How many of ``size`` make the share: 0.95 of 20 is 19, whatever 0.95 is in binary."""
    return max(1, math.ceil(target * size - 1e-9))


def _midway(lower: float, upper: float) -> float:
    return lower + (upper - lower) / 2


def checked_probabilities(label: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give labels as int64 (n,) and probabilities as float64 (n,).

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, or a probability is not in [0, 1].
    """
    labels = np.asarray(label).ravel()
    scores = np.asarray(probability, dtype=np.float64).ravel()
    if labels.size != scores.size:
        raise CallusError(f"{scores.size} probabilities do not go with {labels.size} labels; expected one each")
    if not np.isin(labels, (0, 1)).all():
        raise CallusError("a label is neither 0 nor 1; leave out the files whose label is unknown")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise CallusError("a probability is not in [0, 1]; calibrate the logits first")
    return labels.astype(np.int64), scores
