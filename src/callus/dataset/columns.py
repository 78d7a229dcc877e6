"""The manifest's columns, their dtypes, and what a cell may hold."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import pandas as pd

from callus.labels import FRACTURED, NOT_FRACTURED, REGIONS

COLUMNS: Final = (
    "path",  # relative to the manifest's folder where it lies below it, else absolute; absolute once read
    "sha256",  # of the file's bytes, hex; empty where not even the bytes could be read
    "width",  # pixels; empty where unreadable
    "height",
    "label",  # 1 fractured, 0 not, empty unknown
    "radiograph",  # the picture that the file shows: copies share it
    "study",
    "patient",
    "group",  # what must never cross a split
    "split",  # train, val, test, fold0...; empty where not in any
    "source",  # which source the row came from
    "region",  # of callus.labels.REGIONS
    "view",  # frontal, lateral, oblique, or several joined by +
    "hardware",  # metal in the picture
    "boxes",  # [x, y, width, height], original pixels, origin at the top left corner
    "polygons",  # [x0, y0, x1, y1, ...], the same
    "note",  # what is to be known about the file; begins with UNREADABLE where it cannot be read
)
UNREADABLE: Final = "unreadable: "
DISAGREES: Final = "labels disagree: "
"""The part of a note begins so where a folder, a label file and what is drawn say different things of a file."""
_NUMBERS: Final[dict[str, Any]] = {"label": "Int8", "width": "Int32", "height": "Int32"}
_SHAPES: Final = ("boxes", "polygons")
_TRUTH: Final = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "": None}
_SHOWN: Final = 3


def conform(frame: pd.DataFrame, problems: list[str] | None = None) -> pd.DataFrame:
    """Give a new frame with the manifest's columns in their order and of their dtypes.

    Args:
        frame: has all of ``COLUMNS``; cells as text (from CSV), numbers, lists or arrays.
        problems: what is wrong is added here, a line each; None: the cells are trusted.
    """
    found: list[str] = []
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        values = frame[name]
        if name in _NUMBERS:
            columns[name] = _numbers(name, values, found)
        elif name == "hardware":
            columns[name] = _truths(values, found)
        elif name in _SHAPES:
            columns[name] = _shapes(name, values, found)
        else:
            columns[name] = values.astype("object").where(values.notna(), "").astype("str").array
    conformed = pd.DataFrame(columns, index=pd.RangeIndex(len(frame)), columns=list(COLUMNS))
    _bad_cells("path", conformed["path"], conformed["path"] == "", "a path", found)
    _bad_cells(
        "region", conformed["region"], ~conformed["region"].isin(["", *REGIONS]), f"one of {', '.join(REGIONS)}", found
    )
    conformed.attrs = dict(frame.attrs)
    if problems is not None:
        problems.extend(found)
    return conformed


def _numbers(name: str, values: pd.Series[Any], problems: list[str]) -> Any:
    text = values.astype("object").where(values.notna(), "")
    numbers = pd.to_numeric(text.where(text != "", None), errors="coerce")
    good = numbers.isin([FRACTURED, NOT_FRACTURED]) if name == "label" else (numbers >= 1) & (numbers % 1 == 0)
    expected = "1 (fractured), 0 (not fractured) or empty" if name == "label" else "a count of pixels or empty"
    _bad_cells(name, text, (text != "") & ~good, expected, problems)
    return numbers.where(good).astype(_NUMBERS[name]).array


def _truths(values: pd.Series[Any], problems: list[str]) -> Any:
    text = values.astype("object").where(values.notna(), "").astype("str").str.lower()
    _bad_cells("hardware", text, ~text.isin(list(_TRUTH)), "true, false or empty", problems)
    return pd.array([_TRUTH.get(cell) for cell in text], dtype="boolean")


def _shapes(name: str, values: pd.Series[Any], problems: list[str]) -> pd.Series[Any]:
    cells: list[list[list[float]]] = []
    bad: list[bool] = []
    for value in values:
        cell = _shape_list(value)
        good = cell is not None and all(_is_box(shape) if name == "boxes" else _is_polygon(shape) for shape in cell)
        cells.append(cell if good and cell is not None else [])
        bad.append(not good)
    expected = "lists of x, y, width, height" if name == "boxes" else "lists of x0, y0, x1, y1, x2, y2..."
    _bad_cells(name, values, pd.Series(bad, index=values.index), expected, problems)
    return pd.Series(cells, dtype="object")


def _shape_list(value: Any) -> list[list[float]] | None:
    """Read one cell: JSON text, a list or array of lists of numbers, or nothing; None where it is neither."""
    if value is None or (isinstance(value, (str, float)) and (value == "" or value != value)):  # noqa: PLR0124 - NaN
        return []
    try:
        shapes = json.loads(value) if isinstance(value, str) else value
        return [[float(number) for number in shape] for shape in shapes]
    except (TypeError, ValueError):
        return None


def _is_box(shape: list[float]) -> bool:
    return len(shape) == 4 and all(map(math.isfinite, shape)) and shape[2] > 0 and shape[3] > 0  # noqa: PLR2004


def _is_polygon(shape: list[float]) -> bool:
    return len(shape) >= 6 and len(shape) % 2 == 0 and all(map(math.isfinite, shape))  # noqa: PLR2004


def _bad_cells(name: str, values: pd.Series[Any], bad: pd.Series[bool], expected: str, problems: list[str]) -> None:
    """Add one line about the cells where ``bad`` is true; rows are counted from 1, without the header."""
    if not bad.any():
        return
    rows = [position for position, is_bad in enumerate(bad.to_numpy(), start=1) if is_bad]
    shown = ", ".join(f"row {row}: {str(values.iloc[row - 1])[:40]!r}" for row in rows[:_SHOWN])
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    problems.append(f"{name} has to be {expected} ({shown}{more})")
