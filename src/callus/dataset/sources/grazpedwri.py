"""GRAZPEDWRI-DX (Nagy et al., Scientific Data 2022, doi 10.1038/s41597-022-01328-z): wrists of children.

dataset.csv has a line a picture; the boxes are YOLO's, class 3 is the fracture. The pictures may lie in
images_part1... as published, or in images; the boxes in folder_structure/yolov5/labels, or in labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callus.dataset.files import stem
from callus.dataset.sources.csv_table import read_csv
from callus.dataset.sources.drawn import read_yolo_lines
from callus.dataset.sources.labelled import note_unlisted
from callus.dataset.sources.rows import Found, Row, combine_labels, join_copies, row_from_path
from callus.errors import DatasetError
from callus.labels import FRACTURED, NOT_FRACTURED

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Options

CLASSES: Final = (
    "boneanomaly",
    "bonelesion",
    "foreignbody",
    "fracture",
    "metal",
    "periostealreaction",
    "pronatorsign",
    "softtissue",
    "text",
)
_FRACTURE: Final = CLASSES.index("fracture")
_COLUMNS: Final = ("filestem", "patient_id", "fracture_visible")
_PROJECTIONS: Final = {1: "frontal", 2: "lateral", 3: "oblique"}


def recognises(listing: Listing) -> bool:
    """Tell whether there is a dataset.csv with GRAZPEDWRI-DX's columns."""
    return _csv_name(listing) is not None


def rows(listing: Listing, options: Options) -> Found:  # noqa: ARG001 - a source's signature
    """Give one row a picture; those that dataset.csv does not list are noted and have no label.

    Raises:
        DatasetError: there is no such dataset.csv, it does not fit, or none of its pictures is there.
    """
    csv_name = _csv_name(listing)
    if csv_name is None:
        raise DatasetError(
            f"this is not GRAZPEDWRI-DX: no dataset.csv with the columns {', '.join(_COLUMNS)}", where=listing.root
        )
    table = {line["filestem"]: line for line in read_csv(listing.root / csv_name, _COLUMNS)}
    labels = {stem(name): name for name in listing.with_ending(".txt")}
    missing = len(table.keys() - {stem(name) for name in listing.pictures})
    if missing == len(table):
        raise DatasetError(f"none of the {missing:,} pictures that dataset.csv lists is there", where=listing.root)
    found = Found([], tables=[csv_name])
    unlisted = []
    for name in listing.pictures:
        row = row_from_path(name)
        if stem(name) in table:
            _fill(row, table[stem(name)], listing, labels.get(stem(name)))
        else:
            unlisted.append(row)
        found.rows.append(row)
    join_copies(found.rows)
    found.remarks += note_unlisted(unlisted, "dataset.csv")
    if missing:
        found.remarks.append(f"{missing:,} pictures of dataset.csv are not here: this is a part of GRAZPEDWRI-DX")
    return found


def _csv_name(listing: Listing) -> str | None:
    for name in listing.named("dataset.csv"):
        try:
            with (listing.root / name).open("rb") as file:
                header = file.readline(4096).decode("utf-8-sig", "replace")
        except OSError:
            continue
        if all(column in header for column in _COLUMNS):
            return name
    return None


def _fill(row: Row, line: dict[str, str], listing: Listing, labels: str | None) -> None:
    row.region = "wrist"
    row.patient = line["patient_id"]
    study = line.get("study_number", "")
    row.study = f"{row.patient}/{study}" if study else ""
    row.view = _PROJECTIONS.get(int(_flag(line, "projection")), "")
    row.hardware = _flag(line, "metal") == 1
    row.notes = [
        text
        for column, text in (("diagnosis_uncertain", "diagnosis uncertain"), ("cast", "cast"))
        if _flag(line, column) == 1
    ]
    listed = FRACTURED if _flag(line, "fracture_visible") == 1 else NOT_FRACTURED
    row.label = listed
    if labels is not None:
        drawn = read_yolo_lines(listing.root / labels, lambda number: number == _FRACTURE)
        row.boxes, row.polygons, row.drawn_on = drawn.boxes, drawn.polygons, drawn.drawn_on
        row.notes += drawn.notes
        if drawn.boxes:
            combine_labels(row, listed, FRACTURED, said_by="dataset.csv")


def _flag(line: dict[str, str], column: str) -> float:
    """Read a cell that is a number or empty; 0 where it is neither."""
    try:
        return float(line.get(column) or 0)
    except ValueError:
        return 0.0
