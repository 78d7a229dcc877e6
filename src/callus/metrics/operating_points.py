"""The two thresholds that make the three levels, chosen on the validation split and never on the test split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from callus.labels import Level

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
    labels, scores = _checked(label, probability)
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


def _checked(label: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    labels = np.asarray(label).ravel()
    scores = np.asarray(probability, dtype=np.float64).ravel()
    if labels.size != scores.size:
        raise CallusError(f"{scores.size} probabilities do not go with {labels.size} labels; expected one each")
    if not np.isin(labels, (0, 1)).all():
        raise CallusError("a label is neither 0 nor 1; leave out the files whose label is unknown")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise CallusError("a probability is not in [0, 1]; calibrate the logits first")
    return labels.astype(np.int64), scores
