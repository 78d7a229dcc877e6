"""From a logit to a probability that means what it says: Platt scaling, fitted on the validation split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np
from scipy import special

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

Method = Literal["platt", "identity"]

SMALLEST_SLOPE = 0.01
"""Per standard deviation of the logit. A model that ranks no better than chance is told so by probabilities that
hardly move from the share of fractures; the order of the logits is kept all the same."""


@dataclass(frozen=True)
class Calibration:
    """``probability = sigmoid(slope * logit + intercept)``; strictly increasing, so that ranks and AUROC stay.

    Attributes:
        slope: above zero.
        intercept: in logits.
        method: "platt" where it was fitted, "identity" where it could not be.
        reason: why it is not an ordinary fit; empty where it is one.
    """

    slope: float = 1.0
    intercept: float = 0.0
    method: Method = "platt"
    reason: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope > 0):
            raise CallusError(f"the calibration's slope is {self.slope}; expected a number above 0")
        if not math.isfinite(self.intercept):
            raise CallusError(f"the calibration's intercept is {self.intercept}; expected a number")
        if self.method not in get_args(Method):
            raise CallusError(f"the calibration's method is {self.method!r}; expected {' or '.join(get_args(Method))}")

    @overload
    def probability(self, logit: float) -> float: ...
    @overload
    def probability(self, logit: NDArray[Any]) -> NDArray[np.float64]: ...
    def probability(self, logit: float | NDArray[Any]) -> float | NDArray[np.float64]:
        """Give the calibrated probability of a fracture.

        Args:
            logit: what the network returned, one or (n,).

        Returns:
            float64 in [0, 1], shaped as ``logit``.
        """
        result = special.expit(self.slope * np.asarray(logit, dtype=np.float64) + self.intercept)
        return float(result) if np.ndim(result) == 0 else np.asarray(result)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``bundle.json``."""
        values: dict[str, Any] = {"method": self.method, "slope": self.slope, "intercept": self.intercept}
        return values | {"reason": self.reason} if self.reason else values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`as_dict` wrote."""
        return cls(float(values["slope"]), float(values["intercept"]), values["method"], str(values.get("reason", "")))


def fit_platt(logit: ArrayLike, label: ArrayLike) -> Calibration:
    """Fit slope and intercept by maximum likelihood to smoothed labels.

    The targets are (n₊ + 1) / (n₊ + 2) for a fracture and 1 / (n₋ + 2) for none instead of 1 and 0, which keeps the
    slope finite where the two classes do not overlap (Platt 1999, "Probabilistic outputs for support vector machines
    and comparisons to regularized likelihood methods", section 2.2).

    Args:
        logit: (n,) of the validation split, finite.
        label: (n,) 0 or 1.

    Returns:
        The fit. The identity with a reason where a class is missing or all logits are equal; a slope at its floor with
        a reason where the logits rank the labels no better than chance.

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, or a logit is not finite.
    """
    scores, labels = _checked(logit, label)
    fractured = int(labels.sum())
    sound = labels.size - fractured
    if not fractured or not sound:
        missing = "fractured" if not fractured else "not fractured"
        return Calibration(method="identity", reason=f"no {missing} case to calibrate on")
    spread = float(scores.std())
    if spread <= 1e-9 * max(1.0, float(np.abs(scores).max())):
        return Calibration(method="identity", reason="all logits are equal")
    centre = float(scores.mean())
    standard = (scores - centre) / spread
    target = np.where(labels == 1, (fractured + 1) / (fractured + 2), 1 / (sound + 2))
    slope, intercept = _maximum_likelihood(standard, target)
    reason = ""
    if slope <= SMALLEST_SLOPE:
        reason = "the logits rank the validation cases no better than chance"
    return Calibration(slope / spread, intercept - slope * centre / spread, "platt", reason)


def _maximum_likelihood(score: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept with the smallest cross entropy; convex, so there is one."""
    from scipy import optimize  # noqa: PLC0415 - a quarter of a second, and identification only applies a fit

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = parameters[0] * score + parameters[1]
        error = special.expit(z) - target
        value = np.logaddexp(0.0, z) - target * z
        return float(value.mean()), np.array([(error * score).mean(), error.mean()])

    start = np.array([1.0, special.logit(target.mean())])
    found = optimize.minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(SMALLEST_SLOPE, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    return float(found.x[0]), float(found.x[1])


def _checked(logit: ArrayLike, label: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    scores = np.asarray(logit, dtype=np.float64).ravel()
    labels = np.asarray(label).ravel()
    if scores.size != labels.size:
        raise CallusError(f"{scores.size} logits do not go with {labels.size} labels; expected one each")
    if not np.isin(labels, (0, 1)).all():
        raise CallusError("a label is neither 0 nor 1; leave out the files whose label is unknown")
    if not np.isfinite(scores).all():
        raise CallusError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} logits are not numbers; expected none")
    return scores, labels.astype(np.int64)
