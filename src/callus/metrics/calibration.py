"""From a logit to a probability that means what it says, fitted on the validation split and nowhere else.

Platt scaling moves and stretches the logit, temperature scaling only stretches it, isotonic regression takes any rise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

Method = Literal["platt", "temperature", "isotonic", "identity"]
Fitted = Literal["platt", "temperature", "isotonic"]

SMALLEST_SLOPE = 0.01
"""Per standard deviation of the logit. A model that ranks no better than chance is told so by probabilities that
hardly move from the share of fractures; the order of the logits is kept all the same."""


@dataclass(frozen=True)
class Calibration:
    """From a logit to a probability; never falling.

    By "platt", "temperature" and "identity" it is ``sigmoid(slope * logit + intercept)`` and rises everywhere, so that
    ranks and AUROC stay. By "isotonic" it is linear from knot to knot and constant before the first and after the last.
    It is level where the fit is: there, cases that the logits tell apart become ties, and AUROC may move.

    Attributes:
        slope: above zero; 1 where ``method`` is "isotonic". Its inverse is the temperature.
        intercept: in logits; 0 where ``method`` is neither "platt" nor "identity".
        method: how it was fitted, "identity" where it could not be.
        reason: why it is not an ordinary fit; empty where it is one.
        knots: (logit, probability) of the isotonic fit, logits rising, probabilities not falling and in (0, 1); else
            empty.
    """

    slope: float = 1.0
    intercept: float = 0.0
    method: Method = "platt"
    reason: str = ""
    knots: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope > 0):
            raise CallusError(f"the calibration's slope is {self.slope}; expected a number above 0")
        if not math.isfinite(self.intercept):
            raise CallusError(f"the calibration's intercept is {self.intercept}; expected a number")
        if self.method not in get_args(Method):
            raise CallusError(f"the calibration's method is {self.method!r}; expected {' or '.join(get_args(Method))}")
        if self.method == "temperature" and self.intercept != 0:
            raise CallusError(f"the calibration's intercept is {self.intercept}; temperature scaling has 0")
        if self.method == "isotonic":
            self._check_knots()
        elif self.knots:
            raise CallusError(f"the calibration has knots and method {self.method!r}; only isotonic has them")

    def _check_knots(self) -> None:
        if not self.knots:
            raise CallusError("the isotonic calibration has no knots; expected one or more")
        if (self.slope, self.intercept) != (1.0, 0.0):
            raise CallusError("the isotonic calibration has a slope or an intercept; expected knots alone")
        if not all(math.isfinite(logit) and 0 < probability < 1 for logit, probability in self.knots):
            raise CallusError("a knot of the calibration is not a finite logit with a probability between 0 and 1")
        if not all(left[0] < right[0] and left[1] <= right[1] for left, right in pairwise(self.knots)):
            raise CallusError("the calibration's knots do not rise; expected rising logits, no falling probability")

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
        values = np.asarray(logit, dtype=np.float64)
        if self.method == "isotonic":
            result = np.interp(values, *np.array(self.knots).T)
        else:
            result = _sigmoid(self.slope * values + self.intercept)
        return float(result) if np.ndim(result) == 0 else np.asarray(result)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``bundle.json``: the knots as ``logits`` and ``probabilities``, else slope and intercept."""
        values: dict[str, Any] = {"method": self.method}
        if self.method == "isotonic":
            values["logits"] = [logit for logit, _ in self.knots]
            values["probabilities"] = [probability for _, probability in self.knots]
        else:
            values |= {"slope": self.slope, "intercept": self.intercept}
        return values | {"reason": self.reason} if self.reason else values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`as_dict` wrote.

        Raises:
            CallusError: there are not as many logits as probabilities, or they do not make a calibration.
        """
        method, reason = values["method"], str(values.get("reason", ""))
        if method != "isotonic":
            return cls(float(values["slope"]), float(values["intercept"]), method, reason)
        logits, probabilities = values["logits"], values["probabilities"]
        if len(logits) != len(probabilities):
            raise CallusError(f"{len(logits)} logits do not go with {len(probabilities)} probabilities as knots")
        knots = tuple(
            (float(logit), float(probability)) for logit, probability in zip(logits, probabilities, strict=True)
        )
        return cls(method=method, reason=reason, knots=knots)


def fit(logit: ArrayLike, label: ArrayLike, method: Fitted = "platt") -> Calibration:
    """Fit a calibration to the validation split.

    All three are fitted to smoothed labels: (n₊ + 1) / (n₊ + 2) for a fracture and 1 / (n₋ + 2) for none instead of 1
    and 0 (Platt 1999, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood
    methods", section 2.2). That keeps slopes finite where the two classes do not overlap, and isotonic probabilities
    off 0 and 1: no run of cases, however pure, is worth more than the whole split.

    Args:
        logit: (n,) of the validation split, finite.
        label: (n,) 0 or 1.
        method: "platt" fits slope and intercept by maximum likelihood; "temperature" the slope alone (Guo et al. 2017,
            "On calibration of modern neural networks"); "isotonic" the best rise in squared error, with equal logits
            as one (Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass probability
            estimates"), its knots at both ends of each level run. Isotonic wants some 1,000 cases: with fewer
            it follows chance (Niculescu-Mizil and Caruana 2005, "Predicting good probabilities").

    Returns:
        The fit. The identity with a reason where a class is missing or all logits are equal; a fit that hardly moves,
        or not at all, with a reason where the logits rank the labels no better than chance.

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, a logit is not finite, or the method is unknown.
    """
    if method not in get_args(Fitted):
        raise CallusError(f"the calibration's method is {method!r}; expected {' or '.join(get_args(Fitted))}")
    scores, labels = _checked(logit, label)
    fractured = int(labels.sum())
    sound = labels.size - fractured
    if not fractured or not sound:
        missing = "fractured" if not fractured else "not fractured"
        return Calibration(method="identity", reason=f"no {missing} case to calibrate on")
    if float(scores.std()) <= 1e-9 * max(1.0, float(np.abs(scores).max())):
        return Calibration(method="identity", reason="all logits are equal")
    target = np.where(labels == 1, (fractured + 1) / (fractured + 2), 1 / (sound + 2))
    return {"platt": _platt, "temperature": _temperature, "isotonic": _isotonic}[method](scores, target)


def _platt(scores: NDArray[np.float64], target: NDArray[np.float64]) -> Calibration:
    spread, centre = float(scores.std()), float(scores.mean())
    slope, intercept = _maximum_likelihood((scores - centre) / spread, target)
    reason = ""
    if slope <= SMALLEST_SLOPE:
        reason = "the logits rank the validation cases no better than chance"
    return Calibration(slope / spread, intercept - slope * centre / spread, "platt", reason)


def _temperature(scores: NDArray[np.float64], target: NDArray[np.float64]) -> Calibration:
    # Not moved to the centre, which would need an intercept; scaled by the distance from 0 instead of from the mean.
    scale = float(np.sqrt(np.mean(scores**2)))
    slope, _ = _maximum_likelihood(scores / scale, target, intercept=False)
    reason = ""
    if slope <= SMALLEST_SLOPE:
        reason = "no temperature fits: the logits' signs tell the validation cases no better than chance"
    return Calibration(slope / scale, 0.0, "temperature", reason)


def _isotonic(scores: NDArray[np.float64], target: NDArray[np.float64]) -> Calibration:
    from scipy import optimize  # noqa: PLC0415 - as below

    logits, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    mean = np.bincount(place, target) / count
    found = optimize.isotonic_regression(mean, weights=count)
    first, last = found.blocks[:-1], found.blocks[1:] - 1
    ends = np.unique(np.concatenate([first, last]))
    knots = tuple(zip(logits[ends].tolist(), found.x[ends].tolist(), strict=True))
    reason = "" if len(first) > 1 else "the logits rank the validation cases no better than chance"
    return Calibration(method="isotonic", reason=reason, knots=knots)


def _maximum_likelihood(
    score: NDArray[np.float64], target: NDArray[np.float64], *, intercept: bool = True
) -> tuple[float, float]:
    """Slope and intercept (or 0) with the smallest cross entropy; convex, so there is one."""
    from scipy import optimize  # noqa: PLC0415 - a quarter of a second, and identification only applies a fit

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = parameters[0] * score + parameters[1]
        error = _sigmoid(z) - target
        value = np.logaddexp(0.0, z) - target * z
        return float(value.mean()), np.array([(error * score).mean(), error.mean()])

    start = np.array([1.0, math.log(target.mean() / (1 - target.mean())) if intercept else 0.0])
    found = optimize.minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(SMALLEST_SLOPE, None), (None, None) if intercept else (0.0, 0.0)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    return float(found.x[0]), float(found.x[1])


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without overflow, and without SciPy, which takes a third of a second to import."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))


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
