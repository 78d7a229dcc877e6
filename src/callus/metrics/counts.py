"""Figures at a threshold from counts, for many draws at once.

Each takes (d, 4) sums of true negatives, false positives, false negatives and true positives, in this order, and gives
(d,); NaN where a figure is not defined, and infinity where it is that. :class:`callus.metrics.scores.Confusion` is the
same for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Counts = NDArray[np.float64]
    Figure = Callable[[Counts], Counts]

TN, FP, FN, TP = range(4)


def outcomes(label: NDArray[np.int64], probability: NDArray[np.float64], threshold: float) -> Counts:
    """Say of each row (n,) which of the four it is: float64 (n, 4), a single 1 in each row."""
    told = np.zeros((len(label), 4))
    told[np.arange(len(label)), 2 * label + (probability >= threshold)] = 1
    return told


def accuracy(counts: Counts) -> Counts:
    """Share of right calls."""
    return _over(counts[:, TN] + counts[:, TP], counts.sum(axis=1))


def sensitivity(counts: Counts) -> Counts:
    """Share of the fractured that are found."""
    return _over(counts[:, TP], counts[:, TP] + counts[:, FN])


def specificity(counts: Counts) -> Counts:
    """Share of the others that are called so."""
    return _over(counts[:, TN], counts[:, TN] + counts[:, FP])


def balanced_accuracy(counts: Counts) -> Counts:
    """Mean of the two."""
    return (sensitivity(counts) + specificity(counts)) / 2


def ppv(counts: Counts) -> Counts:
    """Share of the called that are fractured."""
    return _over(counts[:, TP], counts[:, TP] + counts[:, FP])


def npv(counts: Counts) -> Counts:
    """Share of those not called that are not fractured."""
    return _over(counts[:, TN], counts[:, TN] + counts[:, FN])


def f1(counts: Counts) -> Counts:
    """Harmonic mean of sensitivity and PPV."""
    return _over(2 * counts[:, TP], 2 * counts[:, TP] + counts[:, FP] + counts[:, FN])


def kappa(counts: Counts) -> Counts:
    """Cohen's kappa: agreement beyond that which is expected from how often either answer is given alone."""
    # In counts, not in shares: then what is nothing beyond chance is exactly 0.
    called, fractured = counts[:, TP] + counts[:, FP], counts[:, TP] + counts[:, FN]
    total = counts.sum(axis=1)
    chance = called * fractured + (total - called) * (total - fractured)
    return _over(total * (counts[:, TN] + counts[:, TP]) - chance, total**2 - chance)


def lr_positive(counts: Counts) -> Counts:
    """Likelihood ratio of a call; infinite without a false alarm."""
    return _over(sensitivity(counts), _false_alarms(counts))


def lr_positive_inverse(counts: Counts) -> Counts:
    """One over that; infinite where no fractured is found."""
    return _over(_false_alarms(counts), sensitivity(counts))


def lr_negative(counts: Counts) -> Counts:
    """Likelihood ratio of no call; infinite where everything is called."""
    return _over(_over(counts[:, FN], counts[:, TP] + counts[:, FN]), specificity(counts))


def ppv_of(inverse: Counts, prevalence: float) -> Counts:
    """PPV at a prevalence from one over the likelihood ratio of a call: Bayes' rule in odds."""
    return 1 / (1 + (1 - prevalence) / prevalence * inverse)


def npv_of(lr_negative: Counts, prevalence: float) -> Counts:
    """NPV at a prevalence from the likelihood ratio of no call."""
    return 1 / (1 + prevalence / (1 - prevalence) * lr_negative)


FIGURES: Final[dict[str, Figure]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "ppv": ppv,
    "npv": npv,
    "f1": f1,
    "kappa": kappa,
    "lr_positive": lr_positive,
    "lr_negative": lr_negative,
}
"""By the names of ``score_table``."""


def _false_alarms(counts: Counts) -> Counts:
    return _over(counts[:, FP], counts[:, TN] + counts[:, FP])


def _over(part: Counts, whole: Counts) -> Counts:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part / whole)
