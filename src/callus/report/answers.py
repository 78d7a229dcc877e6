"""What a bundle answers to the files of a manifest: the one thing that every figure is counted on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from callus.dataset.manifest import group_keys, readable
from callus.errors import BundleError, DatasetError
from callus.identify import Finding, Identifier
from callus.labels import FRACTURED
from callus.metrics.boxes import Box, boxes_from_map
from callus.metrics.localisation import Located
from callus.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALLEST_AREA: Final = 1.0
"""Pixels that a polygon has to cover."""
FAINTEST: Final = 0.01
"""Height of the map from which boxes are counted: low enough for every rate of false boxes that is told."""


@dataclass(frozen=True)
class Answers:
    """What was asked, and what came out.

    Attributes:
        rows: of the manifest, all that were asked for.
        predictions: what ``predictions.parquet`` holds, one row a file in the same order.
        findings: the answers by path, without their features.
        unanswered: paths of files that could be read, and to which the network gave no answer.
    """

    rows: pd.DataFrame
    predictions: pd.DataFrame
    findings: dict[str, Finding]
    unanswered: tuple[str, ...] = ()

    @property
    def judged(self) -> pd.DataFrame:
        """The predictions that have both a label and an answer: those that figures are counted on."""
        return judged(self.predictions)


def answer(identifier: Identifier, rows: pd.DataFrame, what: str) -> Answers:
    """Answer every file that can be read; one that cannot stops nothing.

    Args:
        identifier: the model.
        rows: of a manifest.
        what: they are, for the error, such as "split 'test'".

    Raises:
        DatasetError: not one file can be read.
        BundleError: the network gives no answer to any file.
    """
    can_be_read = readable(rows)
    findings: dict[str, Finding] = {}
    errors = dict(rows.loc[~can_be_read, ["path", "note"]].itertuples(index=False, name=None))
    unanswered: list[str] = []
    failure: BundleError | None = None
    with progress(f"{identifier.name} answers {what}", int(can_be_read.sum())) as advance:
        for path, _, found in identifier.identify_many(rows.loc[can_be_read, "path"]):
            if isinstance(found, Finding):
                # Thousands of features a file are of no use here.
                findings[path] = replace(found, features=np.zeros(0, np.float32))
            else:
                errors[path] = found.what
                if isinstance(found, BundleError):
                    unanswered.append(path)
                    failure = failure or found
            advance()
    if not findings and failure is not None:
        raise failure
    if not findings:
        first = next(iter(errors.items()), ("", "there are none"))
        raise DatasetError(f"none of the {len(rows)} files of {what} can be read; {first[0]}: {first[1]}")
    return Answers(rows, _predictions(rows, findings, errors), findings, tuple(unanswered))


def judged(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows that have both a label and an answer: those that figures are counted on."""
    return predictions[predictions["label"].notna() & predictions["probability"].notna()]


def located(identifier: Identifier, answers: Answers) -> list[Located]:
    """Tell of each judged file where its fractures are and where the model looked, in the predictions' order.

    Boxes are those of the whole map, whatever the file's level and from ``FAINTEST`` on: the level "none" and the
    bundle's threshold hold boxes back that FROC has to count. Grad-CAM is scaled to its own highest place in each
    picture, so that its height tells nothing between two pictures: there a box's score is the map's times the picture's
    probability.
    """
    relative = identifier.bundle.info["outputs"]["map"]["kind"] == "gradcam"
    rows = answers.rows.drop_duplicates("path").set_index("path")
    made = []
    for path, label, group in answers.judged[["path", "label", "group"]].itertuples(index=False, name=None):
        finding = answers.findings[path]
        boxes = boxes_from_map(finding.map, finding.map_to_original, FAINTEST, finding.shape)
        if relative:
            boxes = tuple(replace(box, score=box.score * finding.probability) for box in boxes)
        made.append(_located(finding, str(group), int(label), boxes, rows.loc[path]))
    return made


def _located(finding: Finding, group: str, label: int, boxes: tuple[Box, ...], row: Mapping[Any, Any]) -> Located:
    boxes_there, polygons_there = places(row, finding.shape)
    highest = np.unravel_index(int(finding.map.argmax()), finding.map.shape)
    x, y = finding.map_to_original @ [float(highest[1]), float(highest[0]), 1.0]
    return Located(
        group=group,
        label=label,
        boxes=boxes,
        reference=boxes_there,
        polygons=polygons_there,
        peak=(float(x), float(y)),
        heat=finding.map,
        map_to_original=finding.map_to_original,
    )


def places(row: Mapping[Any, Any], shape: tuple[int, int]) -> tuple[list[list[float]], list[list[float]]]:
    """Boxes and polygons of a row, cut to its picture; those outside of it, or without an area, are left out.

    Args:
        row: of a manifest.
        shape: the picture's height and width, pixels.
    """
    height, width = shape
    boxes = []
    for x, y, wide, high in row["boxes"]:
        left, top = max(x, 0.0), max(y, 0.0)
        right, bottom = min(x + wide, float(width)), min(y + high, float(height))
        if right > left and bottom > top:
            boxes.append([left, top, right - left, bottom - top])
    polygons = []
    for polygon in row["polygons"]:
        corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2).clip(0, (width, height))
        following = np.roll(corners, -1, axis=0)
        area = abs(float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum())) / 2
        if area >= SMALLEST_AREA:
            polygons.append(corners.ravel().tolist())
    return boxes, polygons


def misplaced(answers: Answers) -> int:
    """How many boxes and polygons of judged fractured files :func:`places` leaves out."""
    paths = set(answers.judged.loc[answers.judged["label"] == FRACTURED, "path"])
    lost = 0
    for row in answers.rows[answers.rows["path"].isin(paths)].to_dict("records"):
        kept = places(row, answers.findings[row["path"]].shape)
        lost += len(row["boxes"]) + len(row["polygons"]) - len(kept[0]) - len(kept[1])
    return lost


def _predictions(rows: pd.DataFrame, findings: dict[str, Finding], errors: dict[str, str]) -> pd.DataFrame:
    """One row a file: what it shows, what the model said, or why it said nothing."""
    answers = [findings.get(path) for path in rows["path"]]
    return pd.DataFrame(
        {
            "path": rows["path"].to_numpy(),
            "sha256": rows["sha256"].to_numpy(),
            "label": rows["label"].astype("Int8").to_numpy(),
            "radiograph": rows["radiograph"].to_numpy(),
            "study": rows["study"].to_numpy(),
            "group": group_keys(rows).to_numpy(),
            "split": rows["split"].to_numpy(),
            "source": rows["source"].to_numpy(),
            "region": rows["region"].to_numpy(),
            "view": rows["view"].to_numpy(),
            "logit": pd.array([None if one is None else one.logit for one in answers], dtype="Float64"),
            "probability": pd.array([None if one is None else one.probability for one in answers], dtype="Float64"),
            "level": ["" if one is None else one.level for one in answers],
            "cautions": ["" if one is None else "; ".join(one.cautions) for one in answers],
            "error": [errors.get(path, "") for path in rows["path"]],
        }
    ).astype({"label": "Int8"})
