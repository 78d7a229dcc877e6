"""Plain figures of a classifier. Each takes labels (n,) of 0 and 1 and probabilities (n,); undefined ones are None.

Intervals of them are made in ``intervals.py``, which resamples groups.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from sklearn import metrics

from callus.errors import CallusError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

How = Literal["mean", "max"]
UnitLevel = Literal["radiograph", "study", "patient"]


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

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa, agreement beyond chance (Cohen, Educ Psychol Meas 1960); None where chance agrees wholly."""
        chance = (self.tp + self.fp) * (self.tp + self.fn) + (self.tn + self.fn) * (self.tn + self.fp)
        total = self.tn + self.fp + self.fn + self.tp
        return _share(total * (self.tp + self.tn) - chance, total**2 - chance)

    @property
    def lr_positive(self) -> float | None:
        """Likelihood ratio of a call, sensitivity / (1 - specificity); None without a class or where it is infinite.

        Infinite is: no false alarm.
        """
        return _share(self.tp * (self.tn + self.fp), self.fp * (self.tp + self.fn))

    @property
    def lr_negative(self) -> float | None:
        """Likelihood ratio of no call, (1 - sensitivity) / specificity; None without a class or where it is infinite.

        Infinite is: everything called.
        """
        return _share(self.fn * (self.tn + self.fp), self.tn * (self.tp + self.fn))

    def ppv_at(self, prevalence: float) -> float | None:
        """PPV where a share ``prevalence`` is fractured, by Bayes' rule from sensitivity and specificity.

        None where one of them is, or where nothing is called fractured.

        Raises:
            CallusError: the prevalence is not in (0, 1).
        """
        check_prevalence(prevalence)
        if self.sensitivity is None or self.specificity is None:
            return None
        found = prevalence * self.sensitivity
        return _share(found, found + (1 - prevalence) * (1 - self.specificity))

    def npv_at(self, prevalence: float) -> float | None:
        """NPV where a share ``prevalence`` is fractured, the same way; None where everything is called fractured.

        Raises:
            CallusError: the prevalence is not in (0, 1).
        """
        check_prevalence(prevalence)
        if self.sensitivity is None or self.specificity is None:
            return None
        left = (1 - prevalence) * self.specificity
        return _share(left, left + prevalence * (1 - self.sensitivity))


def confusion(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> Confusion:
    """Count at a threshold; a probability at the threshold is called fractured."""
    labels, scores = checked(label, probability)
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
    labels, scores = checked(label, probability)
    return float(metrics.roc_auc_score(labels, scores)) if _both(labels) else None


def auprc(label: ArrayLike, probability: ArrayLike) -> float | None:
    """Average precision (area under precision and recall by steps); None where a class is missing."""
    labels, scores = checked(label, probability)
    return float(metrics.average_precision_score(labels, scores)) if _both(labels) else None


def brier(label: ArrayLike, probability: ArrayLike) -> float | None:
    """Mean squared difference of probability and label; None without a case."""
    labels, scores = checked(label, probability)
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


def kappa(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Cohen's kappa of calls and labels; None where all calls and labels are the same."""
    return confusion(label, probability, threshold).kappa


def lr_positive(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Likelihood ratio of a call; None without a false alarm (it is infinite then) or where a class is missing."""
    return confusion(label, probability, threshold).lr_positive


def lr_negative(label: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> float | None:
    """Likelihood ratio of no call; None where all are called (it is infinite then) or where a class is missing."""
    return confusion(label, probability, threshold).lr_negative


def ppv_at_prevalence(
    label: ArrayLike, probability: ArrayLike, prevalence: float, threshold: float = 0.5
) -> float | None:
    """Positive predictive value where a share ``prevalence``, in (0, 1), is fractured; see :meth:`Confusion.ppv_at`."""
    return confusion(label, probability, threshold).ppv_at(prevalence)


def npv_at_prevalence(
    label: ArrayLike, probability: ArrayLike, prevalence: float, threshold: float = 0.5
) -> float | None:
    """Negative predictive value at the same; see :meth:`Confusion.npv_at`."""
    return confusion(label, probability, threshold).npv_at(prevalence)


def score_table(
    label: ArrayLike, probability: ArrayLike, threshold: float = 0.5, *, prevalence: float | None = None
) -> dict[str, Any]:
    """Put all figures at one threshold together, ready for JSON.

    Args:
        label: (n,) 0 or 1.
        probability: (n,) calibrated, in [0, 1].
        threshold: at or above it a case is called fractured.
        prevalence: share of fractured cases, in (0, 1), for which PPV and NPV are wanted as well.

    Returns:
        n, positives, threshold, auroc, auprc, brier, accuracy, balanced_accuracy, sensitivity, specificity, ppv, npv,
        f1, kappa, lr_positive, lr_negative and confusion {tn, fp, fn, tp}; where a prevalence is named also prevalence,
        ppv_at_prevalence and npv_at_prevalence. What the cases do not define, or what is infinite, is None.

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, a probability is no number, or the prevalence is
            not in (0, 1).
    """
    counts = confusion(label, probability, threshold)
    table = {
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
        "kappa": counts.kappa,
        "lr_positive": counts.lr_positive,
        "lr_negative": counts.lr_negative,
        "confusion": asdict(counts),
    }
    if prevalence is not None:
        table["prevalence"] = float(prevalence)
        table["ppv_at_prevalence"] = counts.ppv_at(prevalence)
        table["npv_at_prevalence"] = counts.npv_at(prevalence)
    return table


@dataclass(frozen=True)
class Units:
    """Files put together, one row a radiograph, study or patient.

    Attributes:
        unit: (u,) names, in the order in which each appears first.
        label: int64 (u,).
        probability: float64 (u,).
        first: int64 (u,), the row of each unit's first file, by which its group or region is found.
        files: int64 (u,), how many files it has.
    """

    unit: NDArray[np.object_]
    label: NDArray[np.int64]
    probability: NDArray[np.float64]
    first: NDArray[np.int64]
    files: NDArray[np.int64]


def aggregate(
    label: ArrayLike,
    probability: ArrayLike,
    unit: ArrayLike,
    how: How = "mean",
    *,
    level: UnitLevel = "radiograph",
) -> Units:
    """Put the files of one radiograph, or the views of one study or patient, together.

    Args:
        label: (n,) 0 or 1.
        probability: (n,) calibrated, in [0, 1].
        unit: (n,) name of each file's radiograph, study or patient. A file without a name (empty or missing) stands for
            itself.
        how: "mean" or "max" of the probabilities.
        level: what a unit is. Files of one radiograph show the same, so their labels have to agree; a study or a
            patient is fractured where one of its files is.

    Returns:
        One row a unit.

    Raises:
        CallusError: lengths differ, a label is neither 0 nor 1, a probability is no number, labels of one radiograph
            differ, or ``how`` or ``level`` is none of the above.
    """
    if how not in get_args(How):
        raise CallusError(f"files are put together by {how!r}; expected {' or '.join(get_args(How))}")
    if level not in get_args(UnitLevel):
        raise CallusError(f"the level is {level!r}; expected one of {', '.join(get_args(UnitLevel))}")
    labels, scores = checked(label, probability)
    names = np.asarray(unit, dtype=object).ravel()
    if names.size != labels.size:
        raise CallusError(f"{names.size} units do not go with {labels.size} labels; expected one each")
    index, first = _numbered(names)
    files = np.bincount(index, minlength=len(first))
    fractured = np.bincount(index, labels, minlength=len(first))
    if level == "radiograph" and len(conflict := np.flatnonzero((fractured > 0) & (fractured < files))):
        raise CallusError(
            f"{len(conflict)} radiographs have files with different labels, such as {names[first[conflict[0]]]!r}",
            hint="correct the labels, or leave these radiographs out",
        )
    if how == "mean":
        together = np.bincount(index, scores, minlength=len(first)) / files
    else:
        together = np.full(len(first), -np.inf)
        np.maximum.at(together, index, scores)
    return Units(names[first], (fractured > 0).astype(np.int64), together, first, files.astype(np.int64))


def _numbered(names: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number names (n,) from 0 as they appear, empty and missing ones apart; also give the row that each begins at."""
    alone = pd.isna(names) | (names == "")
    # The row's number cannot be mistaken for a name, since names are strings with a letter before.
    keys = np.array(
        [f"r{row}" if own else f"n{name}" for row, (own, name) in enumerate(zip(alone, names, strict=True))]
    )
    codes, _ = pd.factorize(keys)
    first = np.unique(codes, return_index=True)[1]
    return codes.astype(np.int64), first.astype(np.int64)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _both(labels: NDArray[np.int64]) -> bool:
    return bool(0 < labels.sum() < labels.size)


def check_prevalence(prevalence: float) -> None:
    """Refuse a prevalence that is none.

    Raises:
        CallusError: it is not in (0, 1).
    """
    if not 0 < prevalence < 1:
        raise CallusError(f"the prevalence is {prevalence}; expected more than 0 and less than 1")


def checked(label: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give labels as int64 (n,) and probabilities as float64 (n,).

    Raises:
        CallusError: the lengths differ, a label is neither 0 nor 1, or a probability is no number.
    """
    labels = np.asarray(label).ravel()
    scores = np.asarray(probability, dtype=np.float64).ravel()
    if labels.size != scores.size:
        raise CallusError(f"{scores.size} probabilities do not go with {labels.size} labels; expected one each")
    if not np.isin(labels, (0, 1)).all():
        raise CallusError("a label is neither 0 nor 1; leave out the files whose label is unknown")
    if not np.isfinite(scores).all():
        raise CallusError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} probabilities are not numbers")
    return labels.astype(np.int64), scores
