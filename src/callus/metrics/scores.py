"""Plain figures of a classifier. Each takes labels (n,) of 0 and 1 and probabilities (n,); undefined ones are None.

Intervals of them are made in ``intervals.py``, which resamples groups.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import metrics

from callus.errors import CallusError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Confusion:
    """Counts at a threshold, positive being "fractured".

    Attributes:
        tn: not fractured, called so.
        fp: not fractured, called fractured.
        fn: fractured, missed.
        tp: fractured, found.
    """

    tn: int
    fp: int
    fn: int
    tp: int

    @property
    def accuracy(self) -> float | None:
        """Share of right calls."""
        return _share(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn)

    @property
    def sensitivity(self) -> float | None:
        """Share of the fractured that are found; None without a fractured case."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """Share of the others that are called so; None without one."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of sensitivity and specificity; None where one of them is."""
        if self.sensitivity is None or self.specificity is None:
            return None
        return (self.sensitivity + self.specificity) / 2

    @property
    def ppv(self) -> float | None:
        """Positive predictive value, at the prevalence of these cases; None where nothing is called fractured."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> float | None:
        """Negative predictive value, at the prevalence of these cases; None where everything is called fractured."""
        return _share(self.tn, self.tn + self.fn)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of sensitivity and PPV; None where there is neither a fractured case nor a call."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def confusion(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> Confusion:
    """Count at a threshold; a probability at the threshold is called fractured."""
    labels, scores = _checked(label, probability)
    called = scores >= threshold
    fractured = labels == 1
    return Confusion(
        tn=int((~called & ~fractured).sum()),
        fp=int((called & ~fractured).sum()),
        fn=int((~called & fractured).sum()),
        tp=int((called & fractured).sum()),
    )


def auroc(label: ArrayLike, probability: ArrayLike) -> float | None:
    """Area under the receiver operating characteristic; None where a class is missing. Logits do as well."""
    labels, scores = _checked(label, probability)
    return float(metrics.roc_auc_score(labels, scores)) if _both(labels) else None


def auprc(label: ArrayLike, probability: ArrayLike) -> float | None:
    """Average precision (area under precision and recall by steps); None where a class is missing."""
    labels, scores = _checked(label, probability)
    return float(metrics.average_precision_score(labels, scores)) if _both(labels) else None


def brier(label: ArrayLike, probability: ArrayLike) -> float | None:
    """Mean squared difference of probability and label; None without a case."""
    labels, scores = _checked(label, probability)
    return float(np.mean((scores - labels) ** 2)) if labels.size else None


def accuracy(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Share of right calls; None without a case."""
    return confusion(label, probability, threshold).accuracy


def sensitivity(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Share of the fractured at or above the threshold; None without one."""
    return confusion(label, probability, threshold).sensitivity


def specificity(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Share of the others below the threshold; None without one."""
    return confusion(label, probability, threshold).specificity


def score_table(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> dict[str, Any]:
    """Put all figures at one threshold together, ready for JSON.

    Args:
        label: (n,) 0 or 1.
        probability: (n,) calibrated, in [0, 1].
        threshold: at or above it a case is called fractured.

    Returns:
        n, positives, threshold, auroc, auprc, brier, accuracy, balanced_accuracy, sensitivity, specificity, ppv, npv,
        f1 and confusion {tn, fp, fn, tp}. What the cases do not define is None.

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, or a probability is no number.
    """
    counts = confusion(label, probability, threshold)
    return {
        "n": counts.tn + counts.fp + counts.fn + counts.tp,
        "positives": counts.fn + counts.tp,
        "threshold": float(threshold),
        "auroc": auroc(label, probability),
        "auprc": auprc(label, probability),
        "brier": brier(label, probability),
        "accuracy": counts.accuracy,
        "balanced_accuracy": counts.balanced_accuracy,
        "sensitivity": counts.sensitivity,
        "specificity": counts.specificity,
        "ppv": counts.ppv,
        "npv": counts.npv,
        "f1": counts.f1,
        "confusion": asdict(counts),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _both(labels: NDArray[np.int64]) -> bool:
    return bool(0 < labels.sum() < labels.size)


def _checked(label: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    labels = np.asarray(label).ravel()
    scores = np.asarray(probability, dtype=np.float64).ravel()
    if labels.size != scores.size:
        raise CallusError(f"{scores.size} probabilities do not go with {labels.size} labels; expected one each")
    if not np.isin(labels, (0, 1)).all():
        raise CallusError("a label is neither 0 nor 1; leave out the files whose label is unknown")
    if not np.isfinite(scores).all():
        raise CallusError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} probabilities are not numbers")
    return labels.astype(np.int64), scores
