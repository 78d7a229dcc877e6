"""Two evaluations of the same radiographs, read from their folders and matched file by file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callus.dataset.clean import counted
from callus.dataset.groups import components
from callus.dataset.manifest import few
from callus.errors import DatasetError
from callus.labels import FRACTURED, LABEL_NAMES, LEVELS, NOT_FRACTURED

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_TEXTS: Final = ("path", "sha256", "radiograph", "group", "split", "level")
SCHEMA_VERSION: Final = 1
"""Of ``metrics.json``."""
_HINT: Final = "name a folder that callus evaluate wrote"


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, read from its folder.

    Attributes:
        folder: that it was read from.
        metrics: its ``metrics.json``.
        rows: of its ``predictions.parquet``, by path: path, sha256, radiograph, group, split and level as text, label
            (Int64, missing where unknown), probability (float64, NaN where there is no answer).
        thresholds: by name: "at_0.5", "high_sensitivity", "high_specificity".
    """

    folder: Path
    metrics: dict[str, Any]
    rows: pd.DataFrame
    thresholds: dict[str, float]


@dataclass(frozen=True)
class Pairs:
    """The n files that both models answered and that have a label.

    Attributes:
        path: (n,) in A.
        label: int64 (n,), 0 or 1.
        a: float64 (n,), A's probability, in [0, 1].
        b: the same of B.
        levels: (n, 2), A's level and B's.
        radiograph: int32 (n,), its number; files that A or B says to show one radiograph share it.
        group: int32 (n,), its number; what A or B joins, or one radiograph, shares it.
        counts: what ``data`` in ``comparison.json`` holds.
        warnings: a sentence for each thing that a reader has to know.
    """

    path: NDArray[np.object_]
    label: NDArray[np.int64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    levels: NDArray[np.object_]
    radiograph: NDArray[np.int32]
    group: NDArray[np.int32]
    counts: dict[str, int]
    warnings: list[str]


def read_evaluation(folder: Path) -> Evaluated:
    """Read and check what ``callus evaluate`` wrote.

    Raises:
        DatasetError: a file is missing or is not what it has to be; the first wrong row is named.
    """
    place = folder / "metrics.json"
    try:
        metrics = json.loads(place.read_text(encoding="utf-8"))
        points = metrics["model"]["operating_points"]
        thresholds = {"at_0.5": 0.5} | {name: float(points[name]) for name in ("high_sensitivity", "high_specificity")}
        problem = _problem(metrics, thresholds)
    except FileNotFoundError as error:
        raise DatasetError("is missing: there is no evaluation", where=place, hint=_HINT) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot be read: {error}", where=place, hint=_HINT) from error
    except (KeyError, TypeError) as error:
        raise DatasetError("names no model with its operating points", where=place, hint=_HINT) from error
    if problem:
        raise DatasetError(problem, where=place, hint=_HINT)
    return Evaluated(folder, metrics, _predictions(folder / "predictions.parquet"), thresholds)


def _problem(metrics: dict[str, Any], thresholds: dict[str, float]) -> str:
    """What is wrong with an evaluation's numbers; empty where nothing is."""
    if metrics.get("schema_version") != SCHEMA_VERSION:
        return f"has schema_version {metrics.get('schema_version')!r}; this callus reads {SCHEMA_VERSION}"
    for name in ("name", "engine", "bundle_sha256"):
        if not isinstance(metrics["model"].get(name), str):
            return f"names no model.{name}"
    if wrong := [f"{name} {value}" for name, value in thresholds.items() if not 0 <= value <= 1]:
        return f"has an operating point that is none: {wrong[0]}; expected 0 to 1"
    if not isinstance(metrics.get("warnings"), list) or not isinstance(metrics.get("data"), dict):
        return "has no list of warnings, or no data"
    return ""


def _predictions(place: Path) -> pd.DataFrame:
    """Read and check the answers."""
    wanted = (*_TEXTS, "label", "probability")
    try:
        names = pq.read_schema(place).names
        if missing := [name for name in wanted if name not in names]:
            raise DatasetError(f"has no column {', '.join(missing)}", where=place, hint=_HINT)
        table = pq.read_table(place, columns=list(wanted))
        rows = pd.DataFrame({name: table[name].cast(pa.string()).fill_null("").to_pylist() for name in _TEXTS})
        rows["label"] = pd.array(table["label"].cast(pa.int64()).to_pylist(), dtype="Int64")
        probability = table["probability"].cast(pa.float64())
    except FileNotFoundError as error:
        raise DatasetError("is missing", where=place, hint=_HINT) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"cannot be read: {str(error).splitlines()[0]}", where=place, hint=_HINT) from error
    answered = probability.is_valid().to_numpy()
    values = probability.fill_null(0.5).to_numpy()
    _refuse(rows, ~((values >= 0) & (values <= 1)), values, "a probability in [0, 1], or none", place)
    _refuse(rows, ~rows["label"].isin([0, 1, pd.NA]), rows["label"], "a label of 0 or 1, or none", place)
    _refuse(rows, answered & ~rows["level"].isin(LEVELS), rows["level"], f"a level: {', '.join(LEVELS)}", place)
    rows["probability"] = np.where(answered, values, np.nan)
    rows["group"] = rows["group"].where(rows["group"] != "", rows["path"])
    return rows.sort_values("path", kind="stable", ignore_index=True)


def _refuse(rows: pd.DataFrame, wrong: Any, values: Any, expected: str, place: Path) -> None:
    """Raise where rows are wrong, naming the first."""
    at = np.flatnonzero(wrong)
    if len(at):
        said = f"{rows['path'][at[0]]} has {np.asarray(values)[at[0]]!s}, expected {expected}"
        others = f" ({len(at) - 1:,} more rows are wrong so)" if len(at) > 1 else ""
        raise DatasetError(said + others, where=place, hint="evaluate anew")


def pair(a: Evaluated, b: Evaluated) -> Pairs:
    """Match the files of two evaluations and keep those that both answered and that have a label.

    Raises:
        DatasetError: no file is in both, none of those has a label and both answers, or labels of a file differ.
    """
    rows = match(a.rows, b.rows)
    if not len(rows):
        raise DatasetError(
            f"no file is in both {a.folder} ({len(a.rows):,} files) and {b.folder} ({len(b.rows):,} files): files are "
            "matched by SHA-256, or else by path",
            hint="evaluate both models on one manifest and split",
        )
    left, right = (one.rows.iloc[rows[:, column]].reset_index(drop=True) for column, one in enumerate((a, b)))
    _refuse_other_labels(left, right)
    judged, left_out = _judged(left, right)
    if not judged.any():
        raise DatasetError(f"none of the {len(rows):,} files in both A and B has a label and an answer of both models")
    counts = {"files": len(rows), "only_a": len(a.rows) - len(rows), "only_b": len(b.rows) - len(rows)} | left_out
    warnings = _unmatched(a, b, rows) + _left_out(left_out) + _other_splits(left, right)
    left, right = left[judged].reset_index(drop=True), right[judged].reset_index(drop=True)
    shown = {"radiograph a": left["radiograph"], "radiograph b": right["radiograph"]}
    radiograph = components(shown, len(left))
    group = components(shown | {"group a": left["group"], "group b": right["group"]}, len(left))
    label = left["label"].to_numpy(dtype=np.int64)
    counts |= {
        "judged": len(left),
        "radiographs": int(radiograph.max()) + 1,
        "groups": int(group.max()) + 1,
        "fractured": int((label == FRACTURED).sum()),
        "not_fractured": int((label == NOT_FRACTURED).sum()),
    }
    warnings += _other_groups(left["group"].nunique(), right["group"].nunique(), counts["groups"])
    return Pairs(
        path=left["path"].to_numpy(dtype=object),
        label=label,
        a=left["probability"].to_numpy(dtype=np.float64),
        b=right["probability"].to_numpy(dtype=np.float64),
        levels=np.stack([left["level"].to_numpy(dtype=object), right["level"].to_numpy(dtype=object)], axis=1),
        radiograph=radiograph,
        group=group,
        counts=counts,
        warnings=warnings + _class_warnings(label) + _own_warnings(a.metrics, b.metrics),
    )


def _judged(left: pd.DataFrame, right: pd.DataFrame) -> tuple[pd.Series[bool], dict[str, int]]:
    """Which matched files count, and how many do not for which reason."""
    missing = {
        "unlabelled": left["label"].isna() | right["label"].isna(),
        "unanswered_a": left["probability"].isna(),
        "unanswered_b": right["probability"].isna(),
    }
    judged = ~(missing["unlabelled"] | missing["unanswered_a"] | missing["unanswered_b"])
    return judged, {name: int(which.sum()) for name, which in missing.items()}


def match(a: pd.DataFrame, b: pd.DataFrame) -> NDArray[np.int64]:
    """Find the rows of two tables that are one file: by SHA-256 (of equal ones those of one path first), else by path.

    A path joins two rows only where one of them has no SHA-256: two different ones are two files.

    Args:
        a: path and sha256, "" where it is unknown; sorted by path, numbered from 0.
        b: the same.

    Returns:
        int64 (k, 2), the row in ``a`` and that in ``b``, in ``a``'s order; no row stands there twice.
    """
    found = np.empty((0, 2), np.int64)
    for names in (["sha256", "path"], ["sha256"], ["path"]):
        left, right = (_keyed(one.drop(found[:, column]), names) for column, one in enumerate((a, b)))
        joined = left.merge(right, on=[*names, "copy"])[["row_x", "row_y"]].to_numpy(dtype=np.int64)
        if names == ["path"]:
            known = (a["sha256"].to_numpy()[joined[:, 0]] != "") & (b["sha256"].to_numpy()[joined[:, 1]] != "")
            joined = joined[~known]
        found = np.concatenate([found, joined])
    return found[np.argsort(found[:, 0], kind="stable")]


def _keyed(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The keys of the rows that have them; equal ones are told apart by their order."""
    some = rows[(rows[names] != "").all(axis=1)]
    return some[names].assign(copy=some.groupby(names).cumcount(), row=some.index)


def _refuse_other_labels(left: pd.DataFrame, right: pd.DataFrame) -> None:
    differ = np.flatnonzero((left["label"] != right["label"]).fillna(value=False))
    if len(differ):
        names = (f"{left['path'][row]} ({LABEL_NAMES[left['label'][row]]} in A)" for row in differ)
        raise DatasetError(
            f"the labels of {counted(len(differ), 'file')} differ between A and B: {few(list(names))}",
            hint="evaluate both models on one manifest",
        )


def _unmatched(a: Evaluated, b: Evaluated, rows: NDArray[np.int64]) -> list[str]:
    told = []
    for column, (name, one) in enumerate((("A", a), ("B", b))):
        alone = one.rows["path"].drop(rows[:, column])
        if len(alone):
            told.append(f"{counted(len(alone), 'file')} only in {name} ({few(alone, 3)})")
    return [f"{' and '.join(told)}: the comparison is on the {counted(len(rows), 'file')} in both"] if told else []


def _left_out(counts: dict[str, int]) -> list[str]:
    said = {
        "unanswered_a": "without an answer in A",
        "unanswered_b": "without an answer in B",
        "unlabelled": "without a label",
    }
    told = [f"{counted(counts[key], 'file')} {words}" for key, words in said.items() if counts[key]]
    return [f"left out: {', '.join(told)}"] if told else []


def _other_splits(left: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    differ = np.flatnonzero(left["split"] != right["split"])
    if not len(differ):
        return []
    row = differ[0]
    said = f"{left['path'][row]}: {left['split'][row] or 'none'} in A, {right['split'][row] or 'none'} in B"
    return [
        f"{counted(len(differ), 'file')} in another split in A than in B ({said}): one model may have learnt from them"
    ]


def _other_groups(in_a: int, in_b: int, joined: int) -> list[str]:
    if in_a == in_b == joined:  # what is joined is as coarse as either, so that equal counts are equal groups
        return []
    differ = f"A and B group the files in different ways ({in_a:,} and {in_b:,} groups)"
    return [f"{differ}: what either joins is taken as one group, {joined:,} in all"]


def _class_warnings(label: NDArray[np.int64]) -> list[str]:
    for value, missing in ((FRACTURED, "sensitivity"), (NOT_FRACTURED, "specificity")):
        if not (label == value).any():
            return [f'no file is labelled "{LABEL_NAMES[value]}": {missing} and AUROC cannot be compared']
    return []


def _own_warnings(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What the evaluations themselves warn of holds for the comparison as well."""
    of_a, of_b = a.get("warnings", []), b.get("warnings", [])
    told = [f"both evaluations warn: {one}" for one in of_a if one in of_b]
    told += [f"the evaluation of A warns: {one}" for one in of_a if one not in of_b]
    told += [f"the evaluation of B warns: {one}" for one in of_b if one not in of_a]
    if a["model"].get("bundle_sha256", "a") == b["model"].get("bundle_sha256", "b"):
        told.append("A and B are the same bundle")
    return told
