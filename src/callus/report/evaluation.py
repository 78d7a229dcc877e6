"""Run a model over a split of a manifest and write what came out: predictions, figures, a page.

The figures are those of the bundle that ships: it is run through :class:`callus.identify.Identifier`, as every other
user of it does. Probabilities are calibrated and thresholds fixed where the model was trained; nothing is chosen here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

import callus
from callus.atomic import whole_file, whole_folder
from callus.bundle.engine import FLOAT32
from callus.dataset.manifest import digest, group_keys, readable
from callus.errors import CallusError, DatasetError
from callus.identify import Finding, Identifier
from callus.labels import FRACTURED, LABEL_NAMES, LEVELS, NOT_FRACTURED, RESEARCH_ONLY
from callus.metrics.intervals import ranking_intervals, threshold_intervals
from callus.metrics.resampling import Resampling
from callus.metrics.scores import score_table
from callus.progress import progress
from callus.report.leaks import Leaks, find_leaks

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

FILES: Final = ("metrics.json", "predictions.parquet", "report.html")
"""What an evaluation's folder holds; a folder that holds anything else is not replaced."""
ALL: Final = "all"
PICTURES: Final = 48
SCHEMA_VERSION: Final = 1


@dataclass(frozen=True)
class Evaluation:
    """What came out, before it is written.

    Attributes:
        metrics: what ``metrics.json`` holds.
        predictions: what ``predictions.parquet`` holds, one row a file in the manifest's order.
        findings: the answers by path, without their features.
        curves: the training's ``curves.png``; None where the model is no run folder.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    findings: dict[str, Finding]
    curves: Path | None


def evaluate(
    model: str | os.PathLike[str],
    frame: pd.DataFrame,
    split: str,
    out: Path,
    *,
    allow_leaks: bool = False,
    pictures: int = PICTURES,
    threads: int | None = None,
) -> dict[str, Any]:
    """Evaluate a model on a split and write ``metrics.json``, ``predictions.parquet`` and ``report.html`` to ``out``.

    The folder appears whole or not at all. A file that cannot be read is listed and stops nothing.

    Args:
        model: a bundle's folder, a ``.callus`` file, or a run folder.
        frame: the manifest.
        split: a name in its column ``split``, or "all".
        out: folder to write; one that a former evaluation wrote is replaced.
        allow_leaks: go on where :func:`callus.report.leaks.find_leaks` would refuse; what is written then says so.
        pictures: at most how many pictures stand in the page.
        threads: cores for the network; None for all that this process may use.

    Returns:
        What ``metrics.json`` holds (``docs/evaluate.md`` describes it).

    Raises:
        DatasetError: no such split, no file in it can be read, or its groups also stand in another split or were
            trained on.
        BundleError: the model cannot be loaded.
        CallusError: something else lies in ``out``, or it cannot be written.
    """
    from callus.report.pages import report_page  # noqa: PLC0415 - matplotlib and Jinja2, once there is something to say

    check_ours(out)
    rows = rows_of(frame, split)
    identifier = Identifier(model, threads=threads)
    leaks = find_leaks(frame, rows, identifier.bundle.info["training"], Path(model))
    if leaks.refusals and not allow_leaks:
        raise leaks.error(split)
    result = run(identifier, frame, rows, split, leaks, Path(model))
    with whole_folder(out) as folder:
        with whole_file(folder / "metrics.json", "w") as file:
            json.dump(result.metrics, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        result.predictions.to_parquet(folder / "predictions.parquet", index=False)
        (folder / "report.html").write_text(report_page(result, pictures=pictures), encoding="utf-8")
    return result.metrics


def rows_of(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of a split; all rows for "all".

    Raises:
        DatasetError: nothing has that split; those that exist are named.
    """
    if split == ALL:
        return frame
    rows = frame[frame["split"] == split]
    if len(rows):
        return rows
    names = sorted(set(frame["split"]) - {""})
    if names:
        raise DatasetError(f"no row has the split {split!r}", hint=f"expected one of {', '.join([*names, ALL])}")
    raise DatasetError(f"no row has the split {split!r}: the manifest is not split", hint="split it, or take 'all'")


def run(
    identifier: Identifier, frame: pd.DataFrame, rows: pd.DataFrame, split: str, leaks: Leaks, model: Path
) -> Evaluation:
    """Answer every readable row and count; writes nothing.

    Args:
        identifier: the model.
        frame: the whole manifest.
        rows: those of the split.
        split: its name.
        leaks: what makes the figures too good.
        model: where the model came from; a run folder has the training's curves.
    """
    readable_rows = rows[readable(rows)]
    findings: dict[str, Finding] = {}
    errors = dict(rows.loc[~readable(rows), ["path", "note"]].itertuples(index=False, name=None))
    with progress(f"evaluating {identifier.name}", len(readable_rows)) as advance:
        for path, _, answer in identifier.identify_many(readable_rows["path"]):
            if isinstance(answer, Finding):
                # Thousands of features a file are of no use here.
                findings[path] = replace(answer, features=np.zeros(0, np.float32))
            else:
                errors[path] = answer.what
            advance()
    if not findings:
        first = next(iter(errors.items()), ("", "there are none"))
        raise DatasetError(f"none of the {len(rows)} files of split {split!r} can be read; {first[0]}: {first[1]}")
    predictions = _predictions(rows, findings, errors)
    curves = model / "curves.png"
    return Evaluation(
        _metrics(identifier, predictions, split, digest(frame), leaks),
        predictions,
        findings,
        curves if curves.is_file() else None,
    )


def _predictions(rows: pd.DataFrame, findings: dict[str, Finding], errors: dict[str, str]) -> pd.DataFrame:
    """One row a file: what it shows, what the model said, or why it said nothing."""
    answers = [findings.get(path) for path in rows["path"]]
    return pd.DataFrame(
        {
            "path": rows["path"].to_numpy(),
            "sha256": rows["sha256"].to_numpy(),
            "label": rows["label"].astype("Int8").to_numpy(),
            "radiograph": rows["radiograph"].to_numpy(),
            "group": group_keys(rows).to_numpy(),
            "split": rows["split"].to_numpy(),
            "region": rows["region"].to_numpy(),
            "view": rows["view"].to_numpy(),
            "logit": pd.array([None if one is None else one.logit for one in answers], dtype="Float64"),
            "probability": pd.array([None if one is None else one.probability for one in answers], dtype="Float64"),
            "level": ["" if one is None else one.level for one in answers],
            "cautions": ["" if one is None else "; ".join(one.cautions) for one in answers],
            "error": [errors.get(path, "") for path in rows["path"]],
        }
    ).astype({"label": "Int8"})


def judged(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows that have both a label and an answer: those that figures are counted on."""
    return predictions[predictions["label"].notna() & predictions["probability"].notna()]


def _metrics(
    identifier: Identifier,
    predictions: pd.DataFrame,
    split: str,
    manifest_sha256: str,
    leaks: Leaks,
) -> dict[str, Any]:
    """What ``metrics.json`` holds."""
    rows = judged(predictions)
    label = rows["label"].to_numpy(dtype=int)
    probability = rows["probability"].to_numpy(dtype=float)
    points = identifier.bundle.engine_info(FLOAT32).operating_points
    thresholds = {
        "at_0.5": 0.5,
        "high_sensitivity": points.high_sensitivity,
        "high_specificity": points.high_specificity,
    }
    failed = predictions[predictions["error"] != ""]
    return {
        "schema_version": SCHEMA_VERSION,
        "callus": callus.__version__,
        "research_only": RESEARCH_ONLY,
        "model": {
            "name": identifier.name,
            "engine": identifier.engine.name,
            "bundle_sha256": bundle_digest(identifier),
            "operating_points": points.as_dict(),
        },
        "data": {
            "split": split,
            "manifest_sha256": manifest_sha256,
            "files": len(predictions),
            "judged": len(rows),
            "radiographs": _distinct(rows["radiograph"], rows["path"]),
            "groups": int(rows["group"].nunique()),
            "fractured": int((label == FRACTURED).sum()),
            "not_fractured": int((label == NOT_FRACTURED).sum()),
            "unlabelled": int(predictions["label"].isna().sum()),
            "failed": len(failed),
        },
        "figures": {name: score_table(label, probability, threshold) for name, threshold in thresholds.items()},
        "classification_report": classification_report(label, probability),
        "levels": _levels(rows),
        "intervals": intervals(rows, thresholds),
        "leaks": leaks.counts,
        "warnings": leaks.warnings + _class_warnings(label, len(predictions)),
        "failures": failed[["path", "error"]].to_dict("records"),
    }


def intervals(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[str, dict[str, dict[str, Any]]]:
    """The figures with their 95 % intervals by group.

    Args:
        rows: label, probability and group of each judged file.
        thresholds: by name.

    Returns:
        By threshold's name and figure: value, low, high, method, and reason where one of them is None.
    """
    label, probability = rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy(dtype=float)
    resampling = Resampling(rows["group"].to_numpy(), label)
    ranking = ranking_intervals(label, probability, resampling)
    return {
        name: {
            figure: interval.as_dict()
            for figure, interval in (ranking | threshold_intervals(label, probability, at, resampling)).items()
        }
        for name, at in thresholds.items()
    }


def bundle_digest(identifier: Identifier) -> str:
    """SHA-256 of ``bundle.json``'s content (keys sorted), the same for a folder and a ``.callus`` file.

    It holds the SHA-256 of every other file, so it stands for the whole bundle.
    """
    text = json.dumps(identifier.bundle.info, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


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


def _levels(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many of each class are at each level."""
    return {
        level: {
            name: int(((rows["level"] == level) & (rows["label"] == value)).sum())
            for value, name in LABEL_NAMES.items()
        }
        for level in LEVELS
    }


def _distinct(radiograph: pd.Series[str], path: pd.Series[str]) -> int:
    """How many radiographs the files show; a file whose radiograph is unknown is one of its own."""
    return int(radiograph.where(radiograph != "", path).nunique())


def _class_warnings(label: Any, files: int) -> list[str]:
    """What the labels do not let us say."""
    if not len(label):
        return [f"none of the {files} files has both a label and an answer: there are predictions, but no figures"]
    for value, missing in ((FRACTURED, "sensitivity"), (NOT_FRACTURED, "specificity")):
        if not (label == value).any():
            return [f'no file is labelled "{LABEL_NAMES[value]}": {missing} and AUROC are undefined']
    return []


def check_ours(out: Path) -> None:
    """A folder is replaced only where nothing but a former evaluation lies in it.

    Raises:
        CallusError: something else is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise CallusError("is a file; an evaluation is written to a folder", where=out, hint="name another --out")
    names = {child.name for child in out.iterdir()}
    strange = sorted(names - set(FILES))
    if strange or (names and "metrics.json" not in names):
        raise CallusError(
            f"holds {(strange or sorted(names))[0]!r}, which no evaluation wrote",
            where=out,
            hint="name an empty or a new folder",
        )
