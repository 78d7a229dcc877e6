"""Everything that is counted on a data set's answers, as ``metrics.json`` holds it (``docs/evaluate.md``).

Probabilities are calibrated and thresholds fixed where the model was trained; nothing is chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.dataset.groups import components
from callus.errors import CallusError
from callus.labels import FRACTURED, LABEL_NAMES, LEVELS, NOT_FRACTURED
from callus.metrics.curves import precision_recall_curve, roc_curve
from callus.metrics.decision_curve import decision_curve
from callus.metrics.intervals import ranking_intervals, threshold_intervals
from callus.metrics.localisation import Located, localisation
from callus.metrics.operating_points import OperatingPoints, figures_at
from callus.metrics.reliability import reliability
from callus.metrics.resampling import DRAWS, Resampling
from callus.metrics.scores import How, UnitLevel, aggregate, score_table
from callus.report.answers import judged
from callus.report.subgroups import subgroups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

UNITS: Final[tuple[UnitLevel, ...]] = ("radiograph", "study")
"""What files are put together to, beside being counted one by one."""
_CURVE_POINTS: Final = 500


@dataclass(frozen=True)
class Measuring:
    """How it is counted.

    Attributes:
        points: the bundle's operating points.
        map_threshold: of the bundle, in [0, 1].
        prevalence: share of fractured cases, in (0, 1), for which PPV, NPV and net benefit are wanted; None: that of
            the cases.
        how: the files of one radiograph, and of one study, are put together: by their mean or their largest.
        draws: of the bootstrap.
        seed: of the draws.
    """

    points: OperatingPoints
    map_threshold: float
    prevalence: float | None = None
    how: How = "mean"
    draws: int = DRAWS
    seed: int = 0

    @property
    def thresholds(self) -> dict[str, float]:
        """By name: 0.5 and the operating points."""
        return {
            "at_0.5": 0.5,
            "high_sensitivity": self.points.high_sensitivity,
            "high_specificity": self.points.high_specificity,
        }


def counts(predictions: pd.DataFrame) -> dict[str, Any]:
    """What the data set is: files, those that count, radiographs, groups, classes, what failed, where it came from."""
    rows = judged(predictions)
    return {
        "files": len(predictions),
        "judged": len(rows),
        "radiographs": int(_named(rows, ("radiograph",)).nunique()),
        "studies": int(rows.loc[rows["study"] != "", "study"].nunique()),
        "groups": int(rows["group"].nunique()),
        "fractured": int((rows["label"] == FRACTURED).sum()),
        "not_fractured": int((rows["label"] == NOT_FRACTURED).sum()),
        "unlabelled": int(predictions["label"].isna().sum()),
        "failed": int((predictions["error"] != "").sum()),
        "sources": sorted(set(rows["source"]) - {""}),
    }


def measure(predictions: pd.DataFrame, asked: Measuring) -> dict[str, Any]:
    """Count everything that needs no more than predictions.

    Args:
        predictions: of :class:`callus.report.answers.Answers`; the rows with a label and an answer count.
        asked: how.

    Returns:
        figures, classification_report, levels, intervals, level_intervals, aggregated, calibration, curves and
        decision_curve, ready for JSON; what the rows do not define is None, with a reason beside it.
    """
    rows = judged(predictions)
    label, probability = rows["label"].to_numpy(dtype=np.int64), rows["probability"].to_numpy(dtype=np.float64)
    group = rows["group"].to_numpy(dtype=object)
    drawn = Resampling(group, label, asked.draws, asked.seed)
    levels = figures_at(label, probability, group, asked.points, draws=asked.draws, seed=asked.seed).levels
    told = _figures(label, probability, drawn, asked)
    calibration = reliability(label, probability, group, draws=asked.draws, seed=asked.seed).as_dict()
    calibration["brier"] = told["intervals"]["at_0.5"]["brier"]  # one quantity, one interval
    benefit = decision_curve(label, probability, group, prevalence=asked.prevalence, draws=asked.draws, seed=asked.seed)
    return {
        **told,
        "classification_report": classification_report(label, probability),
        "levels": _levels(rows),
        "level_intervals": {
            name: {level: share.as_dict() for level, share in shares.items()} for name, shares in levels.items()
        },
        "aggregated": {"how": asked.how} | {unit: _aggregated(rows, unit, asked) for unit in UNITS},
        "calibration": calibration,
        "curves": {
            "roc": roc_curve(label, probability, drawn).as_dict(),
            "precision_recall": precision_recall_curve(label, probability, drawn).as_dict(),
        },
        "decision_curve": benefit.as_dict(),
    }


def measure_subgroups(predictions: pd.DataFrame, rows: pd.DataFrame, asked: Measuring) -> dict[str, Any]:
    """Count by subgroup.

    Args:
        predictions: as :func:`measure` takes them.
        rows: the manifest's, in the same order; they tell size, metal and fractures.
        asked: how.
    """
    told = ("region", "view", "hardware", "source", "width", "height", "boxes", "polygons")
    both = predictions[["label", "probability", "group"]].reset_index(drop=True)
    both = both.assign(**{name: rows[name].array for name in told})
    found = subgroups(judged(both), asked.points, draws=asked.draws, seed=asked.seed)
    return {category: [one.as_dict() for one in members] for category, members in found.items()}


def measure_places(images: Sequence[Located], asked: Measuring) -> dict[str, Any] | None:
    """Hold the maps against boxes and polygons; None where no fractured image has any."""
    if not any(image.fractures for image in images):
        return None
    told = localisation(images, asked.map_threshold, draws=asked.draws, seed=asked.seed).as_dict()
    curve = told["froc_curve"]  # a point for each box that was predicted, many more than anyone can see
    keep = np.unique(np.linspace(0, len(curve) - 1, _CURVE_POINTS).round().astype(int))
    return told | {"froc_curve": [curve[place] for place in keep if curve], "map_threshold": asked.map_threshold}


def _figures(label: ArrayLike, probability: ArrayLike, drawn: Resampling, asked: Measuring) -> dict[str, Any]:
    """Figures and intervals at each threshold."""
    figures, intervals = {}, {}
    ranking = ranking_intervals(label, probability, drawn)
    for name, threshold in asked.thresholds.items():
        figures[name] = score_table(label, probability, threshold, prevalence=asked.prevalence)
        found = ranking | threshold_intervals(label, probability, threshold, drawn, prevalence=asked.prevalence)
        intervals[name] = {figure: interval.as_dict() for figure, interval in found.items()}
    return {"figures": figures, "intervals": intervals}


def _aggregated(rows: pd.DataFrame, unit: UnitLevel, asked: Measuring) -> dict[str, Any]:
    """The same by radiograph or by study, at the same thresholds; or the reason why there is nothing more to say."""
    if unit == "study" and not (rows["study"] != "").any():
        return {"reason": "the manifest names no study"}
    names = _named(rows, ("radiograph",) if unit == "radiograph" else ("study", "radiograph"))
    try:
        units = aggregate(rows["label"], rows["probability"], names, asked.how, level=unit)
    except CallusError as error:
        return {"reason": error.what}
    if len(units.unit) == len(rows):
        return {"reason": f"every {unit} has one file: these are the figures by file"}
    # A study may stand in several groups of a manifest of one's own: they are one then.
    joined = _named_groups({"unit": names.astype("str"), "group": rows["group"].astype("str")})
    drawn = Resampling(joined[units.first], units.label, asked.draws, asked.seed)
    return {
        "units": len(units.unit),
        "fractured": int(units.label.sum()),
        "files": len(rows),
        **_figures(units.label, units.probability, drawn, asked),
    }


def _named_groups(keys: Mapping[str, pd.Series[str]]) -> NDArray[np.object_]:
    """Join rows that share a key: (n,) the smallest "group" among the joined, whatever the rows' order."""
    joined = components({name: key.reset_index(drop=True) for name, key in keys.items()}, len(keys["group"]))
    smallest = keys["group"].reset_index(drop=True).groupby(joined).transform("min")
    return smallest.to_numpy(dtype=object)


def _named(rows: pd.DataFrame, columns: tuple[str, ...]) -> pd.Series[str]:
    """What each row belongs to, by the first of the columns that says so, else itself; never alike by accident."""
    names = rows["path"].map("path {}".format)
    for column in reversed(columns):
        names = names.where(rows[column] == "", rows[column].map(f"{column} {{}}".format))
    return names


def _levels(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many of each class are at each level."""
    return {
        level: {
            name: int(((rows["level"] == level) & (rows["label"] == value)).sum())
            for value, name in LABEL_NAMES.items()
        }
        for level in LEVELS
    }


def classification_report(label: Any, probability: Any, threshold: float = 0.5) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and support of each class, and their means.

    Args:
        label: (n,) 0 or 1.
        probability: (n,) in [0, 1].
        threshold: at or above it a file is called fractured.

    Returns:
        By class name, "macro average" and "weighted average": precision, recall, f1 (None where undefined), support.
    """
    label, called = np.asarray(label), np.asarray(probability) >= threshold
    report: dict[str, dict[str, Any]] = {}
    for value, name in LABEL_NAMES.items():
        is_class, is_called = label == value, called == bool(value)
        hits = int((is_class & is_called).sum())
        report[name] = {
            "precision": hits / int(is_called.sum()) if is_called.any() else None,
            "recall": hits / int(is_class.sum()) if is_class.any() else None,
            "f1": 2 * hits / int(is_class.sum() + is_called.sum()) if (is_class | is_called).any() else None,
            "support": int(is_class.sum()),
        }
    classes = list(report.values())
    support = [one["support"] for one in classes]
    for name, weights in (("macro average", [1] * len(classes)), ("weighted average", support)):
        report[name] = {key: _mean([one[key] for one in classes], weights) for key in ("precision", "recall", "f1")} | {
            "support": sum(support)
        }
    return report


def _mean(values: list[float | None], weights: list[int]) -> float | None:
    """The weighted mean; None where a value that counts is undefined."""
    counted = [(value, weight) for value, weight in zip(values, weights, strict=True) if weight]
    if not counted or any(value is None for value, _ in counted):
        return None
    return float(np.average([value or 0.0 for value, _ in counted], weights=[weight for _, weight in counted]))
