"""Findings as JSON and CSV: one entry a file, those that failed among them."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import callus
from callus.atomic import whole_file
from callus.errors import CallusError
from callus.labels import RESEARCH_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from callus.identify import Finding

COLUMNS: Final = (
    "path",
    "probability",
    "level",
    "boxes",
    "cautions",
    "map",
    "model",
    "engine",
    "views",
    "distance",
    "height",
    "width",
    "error",
    "callus",
    "research_only",
)
"""The CSV's columns, in order. ``boxes``, ``cautions`` and ``views`` are JSON lists; what does not apply is empty."""


def as_row(path: str, answer: Finding | CallusError, picture: str | None = None) -> dict[str, Any]:
    """One file's entry, as it stands in the JSON's ``findings``.

    Args:
        path: the file, as the user named it.
        answer: the finding, or what went wrong.
        picture: the file with the heat map laid over, where one was written.

    Returns:
        path, probability, level, boxes, cautions, map, model, engine, views, distance, height, width, error. All but
        path and error are None (boxes, cautions and views: empty) for a file that failed; error is None for one that
        did not.
    """
    path = path.encode("utf-8", "backslashreplace").decode()  # a name that is not UTF-8 must not stop the table
    if isinstance(answer, CallusError):
        reason = f"{answer.what}; {answer.hint}" if answer.hint else answer.what
        nothing: dict[str, Any] = dict.fromkeys(key for key in COLUMNS if key not in ("callus", "research_only"))
        return nothing | {"path": path, "boxes": [], "cautions": [], "views": [], "error": reason}
    return {
        "path": path,
        "probability": answer.probability,
        "level": answer.level,
        "boxes": [box.as_dict() for box in answer.boxes],
        "cautions": list(answer.cautions),
        "map": picture,
        "model": answer.model,
        "engine": answer.engine,
        "views": list(answer.views),
        "distance": answer.distance,
        "height": answer.shape[0],
        "width": answer.shape[1],
        "error": None,
    }


@contextmanager
def json_writer(file: Path, model: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write entries to a JSON file as they come; it appears, whole, when the block ends well.

    Args:
        file: where.
        model: the model's name.

    Yields:
        A function that takes one entry of :func:`as_row`.
    """
    with whole_file(file, "w") as out:
        head = {"callus": callus.__version__, "model": model, "research_only": RESEARCH_ONLY}
        out.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "findings": [')
        separator = "\n"

        def write(row: dict[str, Any]) -> None:
            nonlocal separator
            out.write(separator + json.dumps(row, ensure_ascii=False, allow_nan=False))
            separator = ",\n"

        yield write
        out.write("\n]}\n")


@contextmanager
def csv_writer(file: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write entries to a CSV file as they come, with :data:`COLUMNS`; it appears, whole, when the block ends well."""
    with whole_file(file, "w") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        every = {"callus": callus.__version__, "research_only": RESEARCH_ONLY}

        def write(row: dict[str, Any]) -> None:
            lists = {key: json.dumps(row[key], ensure_ascii=False) for key in ("boxes", "cautions", "views")}
            writer.writerow({key: _cell(value) for key, value in (row | lists | every).items()})

        yield write


def write_json(file: Path, rows: Iterable[dict[str, Any]], model: str) -> None:
    """Write entries of :func:`as_row` as ``{"callus", "model", "research_only", "findings": […]}``.

    Raises:
        CallusError: the file cannot be written.
    """
    with json_writer(file, model) as write:
        for row in rows:
            write(row)


def write_csv(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write entries of :func:`as_row` as a table with :data:`COLUMNS`.

    Raises:
        CallusError: the file cannot be written.
    """
    with csv_writer(file) as write:
        for row in rows:
            write(row)


def _cell(value: Any) -> Any:
    """A spreadsheet runs a cell that begins like a formula; a leading apostrophe makes it text."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
