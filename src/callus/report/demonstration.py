"""The page of ``callus demo``: the whole way, from pictures to answers, in order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from callus.atomic import whole_file
from callus.identify import Finding, Identifier
from callus.labels import FRACTURED, LABEL_NAMES
from callus.radiograph import read
from callus.report.pages import environment, png_uri
from callus.report.pictures import REFERENCE, Shown, jpeg_uri, plain_picture, shown
from callus.results.overlay import overlay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

NAMES = {"index.html", "data", "manifest.parquet", "run", "report", "identified"}
"""What a demo's folder holds."""


@dataclass(frozen=True)
class Step:
    """One step of the way as the page tells it."""

    title: str
    seconds: float
    command: str


@dataclass(frozen=True)
class Example:
    """A simulated radiograph of the first section."""

    picture: str
    caption: str
    fractured: bool


def examples(frame: pd.DataFrame, count: int = 10) -> list[Example]:
    """Take the first pictures of ``count`` patients, with and without a fracture in turn.

    Args:
        frame: a manifest of simulated radiographs.
        count: at most how many.
    """
    first = frame.drop_duplicates("patient")
    by_class = [first[first["label"] == value].head((count + 1) // 2) for value in (FRACTURED, 1 - FRACTURED)]
    turns = [rows.iloc[turn] for turn in range(count) for rows in by_class if turn < len(rows)]
    return [_example(row) for row in turns[:count]]


def _example(row: Any) -> Example:
    radiograph = read(row["path"])
    grey = plain_picture(radiograph)
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2)
    scale = grey.shape[0] / radiograph.height
    for x, y, width, height in row["boxes"]:
        corner, opposite = (
            (round(x * scale), round(y * scale)),
            (round((x + width) * scale), round((y + height) * scale)),
        )
        cv2.rectangle(picture, corner, opposite, REFERENCE, 1)
    caption = f"{row['region']}, {row['view']}: {LABEL_NAMES[int(row['label'])]}"
    return Example(jpeg_uri(picture), caption, bool(row["label"]))


def identify_examples(model: Path, frame: pd.DataFrame, out: Path, count: int = 9) -> list[Shown]:
    """Identify test radiographs and write each with its heat map to ``out``, as ``callus identify --out`` does.

    Args:
        model: a run folder.
        frame: rows of the test split.
        out: folder for the pictures.
        count: at most how many; one a patient, fractured ones twice as often.
    """
    first = frame.drop_duplicates("patient")
    fractured = first[first["label"] == FRACTURED].head(count - count // 3)
    others = first[first["label"] != FRACTURED].head(count // 3)
    labels = dict(zip([*fractured["path"], *others["path"]], [*fractured["label"], *others["label"]], strict=True))
    made = []
    for path, radiograph, answer in Identifier(model).identify_many(labels):
        if radiograph is None or not isinstance(answer, Finding):
            raise answer if isinstance(answer, Exception) else AssertionError
        name = os.path.basename(path)  # noqa: PTH119
        with whole_file(out / name) as file:
            overlay(radiograph, answer).save(file, format="PNG")
        made.append(shown(radiograph, answer, int(labels[path])))
    return made


def write_page(
    out: Path,
    frame: pd.DataFrame,
    metrics: dict[str, Any],
    identified: Sequence[Shown],
    steps: Sequence[Step],
) -> Path:
    """Write ``index.html``.

    Args:
        out: the demo's folder; the page links to what else lies there.
        frame: the manifest with its split.
        metrics: of the evaluation on the test split.
        identified: from :func:`identify_examples`.
        steps: simulate, manifest, train, evaluate, identify.

    Returns:
        The page's path.
    """
    text = (
        environment()
        .get_template("demo.html")
        .render(
            title="From radiographs to an answer",
            examples=examples(frame),
            splits=split_table(frame),
            metrics=metrics,
            curves=png_uri(out / "run" / "curves.png"),
            identified=identified,
            steps=steps,
            seconds=sum(step.seconds for step in steps),
            label_names=LABEL_NAMES,
        )
    )
    with whole_file(out / "index.html", "w") as file:
        file.write(text)
    return out / "index.html"


def split_table(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Files, patients and fractured files of each split."""
    rows = []
    for name in ("train", "val", "test"):
        part = frame[frame["split"] == name]
        fractured = int((part["label"] == FRACTURED).sum())
        rows.append({"name": name, "files": len(part), "patients": part["patient"].nunique(), "fractured": fractured})
    return rows
