"""Two evaluations side by side: figures compared in pairs, and where the two models disagree.

Everything is counted on the files that both evaluations answered and whose label both tell. Thresholds are those that
each model came with; nothing is chosen here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np

import callus
from callus.atomic import whole_file, whole_folder
from callus.errors import DatasetError
from callus.labels import FRACTURED, LABEL_NAMES, LEVELS, NOT_FRACTURED, RESEARCH_ONLY
from callus.metrics.comparison import compare_calls, compare_rankings
from callus.metrics.reliability import reliability
from callus.metrics.resampling import Resampling
from callus.metrics.scores import How, aggregate
from callus.report.folders import check_ours
from callus.report.pairing import Evaluated, Pairs, pair, read_evaluation

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILES: Final = ("comparison.html", "comparison.json")
"""What a comparison's folder holds; a folder that holds anything else is not replaced."""
MOST_DIFFERENT: Final = 20
SCHEMA_VERSION: Final = 1


def compare(a: Path, b: Path, out: Path, *, how: How = "mean", prevalence: float | None = None) -> dict[str, Any]:
    """Compare two evaluations of the same radiographs; write ``comparison.json`` and ``comparison.html`` to ``out``.

    The folder appears whole or not at all.

    Args:
        a: folder of an evaluation.
        b: folder of another.
        out: folder to write; one that a former comparison wrote is replaced.
        how: how files of one radiograph are put together, "mean" or "max" of their probabilities.
        prevalence: share of fractured cases, in (0, 1), for which PPV and NPV are wanted as well.

    Returns:
        What ``comparison.json`` holds (``docs/compare.md`` describes it).

    Raises:
        DatasetError: a folder holds no evaluation, a probability is none, no file is in both, labels of a file differ,
            or ``how`` or ``prevalence`` is not one of the above.
        CallusError: something else lies in ``out``, or it cannot be written.
    """
    from callus.report.comparison_page import comparison_page  # noqa: PLC0415 - matplotlib, once there is something

    if how not in get_args(How):
        raise DatasetError(f"files are put together by {how!r}; expected {' or '.join(get_args(How))}")
    if prevalence is not None and not 0 < prevalence < 1:
        raise DatasetError(f"the prevalence is {prevalence}; expected more than 0 and less than 1")
    check_ours(out, FILES, "comparison")
    first, second = read_evaluation(a), read_evaluation(b)
    pairs = pair(first, second)
    numbers = measure(first, second, pairs, how, prevalence)
    with whole_folder(out) as folder:
        with whole_file(folder / "comparison.json", "w") as file:
            json.dump(numbers, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        (folder / "comparison.html").write_text(comparison_page(numbers, pairs), encoding="utf-8")
    return numbers


def measure(a: Evaluated, b: Evaluated, pairs: Pairs, how: How, prevalence: float | None) -> dict[str, Any]:
    """Count: what ``comparison.json`` holds."""
    thresholds = {name: (a.thresholds[name], b.thresholds[name]) for name in a.thresholds}
    calibration = {
        name: reliability(pairs.label, one, pairs.group).as_dict() for name, one in (("a", pairs.a), ("b", pairs.b))
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "callus": callus.__version__,
        "research_only": RESEARCH_ONLY,
        "a": _described(a),
        "b": _described(b),
        "data": pairs.counts,
        "prevalence": prevalence,
        "figures": _figures(pairs.label, pairs.a, pairs.b, pairs.group, thresholds, prevalence),
        "radiographs": _by_radiograph(pairs, how, thresholds, prevalence),
        "agreement": {name: _agreement(pairs, *both) for name, both in thresholds.items()},
        "calibration": calibration,
        "levels": _levels(pairs),
        "most_different": _most_different(pairs),
        "warnings": pairs.warnings,
    }


def _described(one: Evaluated) -> dict[str, Any]:
    data = one.metrics.get("data", {})
    return {
        "folder": str(one.folder),
        "model": one.metrics["model"],
        "data": {"split": data.get("split"), "manifest_sha256": data.get("manifest_sha256"), "files": len(one.rows)},
    }


def _figures(
    label: NDArray[np.int64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    group: NDArray[np.int32],
    thresholds: dict[str, tuple[float, float]],
    prevalence: float | None,
) -> dict[str, dict[str, Any]]:
    """The figures side by side at each threshold."""
    resampling = Resampling(group, label)
    rankings = compare_rankings(label, a, b, resampling)
    told = {}
    for name, (of_a, of_b) in thresholds.items():
        found = rankings | compare_calls(label, a, b, of_a, of_b, resampling, prevalence=prevalence)
        figures = {figure: difference.as_dict() for figure, difference in found.items()}
        told[name] = {"threshold_a": of_a, "threshold_b": of_b, **figures}
    return told


def _by_radiograph(
    pairs: Pairs, how: How, thresholds: dict[str, tuple[float, float]], prevalence: float | None
) -> dict[str, Any]:
    """The same with the files of each radiograph put together; no figures, and why, where that tells nothing new."""
    fractured = np.bincount(pairs.radiograph, pairs.label)
    files = np.bincount(pairs.radiograph)
    told: dict[str, Any] = {"aggregate": how, "n": len(files), "fractured": None, "figures": None}
    if files.max() == 1:
        return told | {"reason": "every radiograph has one file"}
    conflicts = np.flatnonzero((fractured > 0) & (fractured < files))
    if len(conflicts):
        example = pairs.path[np.flatnonzero(pairs.radiograph == conflicts[0])[0]]
        return told | {"reason": f"files of one radiograph have different labels ({len(conflicts):,}; {example})"}
    units = [aggregate(pairs.label, one, pairs.radiograph, how) for one in (pairs.a, pairs.b)]
    label, group = units[0].label, pairs.group[units[0].first]
    figures = _figures(label, units[0].probability, units[1].probability, group, thresholds, prevalence)
    return told | {"fractured": int(label.sum()), "figures": figures}


def _agreement(pairs: Pairs, of_a: float, of_b: float) -> dict[str, dict[str, int]]:
    """How many files both, one or neither of the models calls rightly, by class."""
    right_a, right_b = ((one >= at) == (pairs.label == FRACTURED) for one, at in ((pairs.a, of_a), (pairs.b, of_b)))
    kinds = {
        "both_right": right_a & right_b,
        "only_a_right": right_a & ~right_b,
        "only_b_right": ~right_a & right_b,
        "both_wrong": ~right_a & ~right_b,
    }
    return {
        LABEL_NAMES[value]: {kind: int((which & (pairs.label == value)).sum()) for kind, which in kinds.items()}
        for value in (FRACTURED, NOT_FRACTURED)
    }


def _levels(pairs: Pairs) -> dict[str, dict[str, dict[str, int]]]:
    """How many files are at which level: by class, A's level, B's level."""
    at = {(a, b): (pairs.levels == [a, b]).all(axis=1) for a in LEVELS for b in LEVELS}
    return {
        LABEL_NAMES[value]: {a: {b: int((at[a, b] & (pairs.label == value)).sum()) for b in LEVELS} for a in LEVELS}
        for value in (FRACTURED, NOT_FRACTURED)
    }


def _most_different(pairs: Pairs) -> list[dict[str, Any]]:
    """The radiographs whose probabilities are furthest apart, each by the file where they are."""
    apart = np.abs(pairs.a - pairs.b)
    order = np.lexsort((pairs.path.astype(str), -apart))
    order = order[np.sort(np.unique(pairs.radiograph[order], return_index=True)[1])]
    return [
        {
            "path": str(pairs.path[row]),
            "label": int(pairs.label[row]),
            "probability_a": float(pairs.a[row]),
            "probability_b": float(pairs.b[row]),
            "level_a": str(pairs.levels[row, 0]),
            "level_b": str(pairs.levels[row, 1]),
        }
        for row in order[:MOST_DIFFERENT]
        if apart[row] > 0
    ]
