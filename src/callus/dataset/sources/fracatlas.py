"""FracAtlas (Abedeen et al., Scientific Data 2023, doi 10.1038/s41597-023-02432-4): folders, dataset.csv, COCO masks.

The label is the folder's. Where dataset.csv says otherwise the row's note says so: the one image of that kind,
IMG0003298, lies under Fractured, and a polygon marks its fracture, while dataset.csv says 0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from callus.dataset.files import stem
from callus.dataset.sources.csv_table import read_csv
from callus.dataset.sources.drawn import find_coco, read_coco
from callus.dataset.sources.folder import folder_labels
from callus.dataset.sources.labelled import note_unlisted
from callus.dataset.sources.names import ClassNames
from callus.dataset.sources.rows import Found, Row, join_copies, row_from_path
from callus.errors import DatasetError
from callus.labels import LABEL_NAMES, NOT_FRACTURED

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Options

BLOCK: Final = 25
"""Neighbouring numbers are often one patient; this many of them are kept together."""
_REGIONS: Final = ("hand", "leg", "hip", "shoulder")
_VIEWS: Final = ("frontal", "lateral", "oblique")
_COLUMNS: Final = ("image_id", "fractured", "hardware", "mixed", *_REGIONS, *_VIEWS)
_NUMBER: Final = re.compile(r"^IMG(\d+)", re.IGNORECASE)  # what follows may tell of a copy: IMG0000017_rot


def recognises(listing: Listing) -> bool:
    """Tell whether there is a dataset.csv with FracAtlas' columns."""
    return _csv_name(listing) is not None


def rows(listing: Listing, options: Options) -> Found:  # noqa: ARG001 - a source's signature
    """Give one row a picture; those that dataset.csv does not list are noted.

    Raises:
        DatasetError: dataset.csv or the COCO file does not fit, or none of its pictures is there.
    """
    csv_name = _csv_name(listing)
    if csv_name is None:
        raise DatasetError(
            f"this is not FracAtlas: no dataset.csv with the columns {', '.join(_COLUMNS)}", where=listing.root
        )
    table = {stem(line["image_id"]): line for line in read_csv(listing.root / csv_name)}
    folders = folder_labels(listing.pictures, ClassNames())
    found = Found([_row(name, table.get(stem(name)), folders[name]) for name in listing.pictures], tables=[csv_name])
    missing = len(table.keys() - {stem(name) for name in listing.pictures})
    if missing == len(table):
        raise DatasetError("none of the pictures that dataset.csv lists is there", where=listing.root)
    if missing:
        found.remarks.append(f"{missing:,} pictures of dataset.csv are not here: this is a part of FracAtlas")
    found.remarks += note_unlisted([row for row in found.rows if stem(row.name) not in table], "dataset.csv")
    join_copies(found.rows)
    _add_drawn(listing, found)
    return found


def _csv_name(listing: Listing) -> str | None:
    for name in listing.named("dataset.csv"):
        try:
            with (listing.root / name).open("rb") as file:
                header = file.readline(4096).decode("utf-8-sig", "replace").strip().split(",")
        except OSError:
            continue
        if set(_COLUMNS) <= {column.strip() for column in header}:
            return name
    return None


def _row(name: str, line: dict[str, str] | None, folder: int | None) -> Row:
    row = row_from_path(name)
    number = _NUMBER.match(stem(name))
    if number:
        row.block = f"numbers {int(number[1]) // BLOCK * BLOCK}-{int(number[1]) // BLOCK * BLOCK + BLOCK - 1}"
    row.label = folder
    if line is None:
        return row
    listed = int(line["fractured"] == "1") if line["fractured"] in ("0", "1") else None
    if folder is None:
        row.label = listed
    elif listed is not None and listed != folder:
        row.disagree(f"the folder says {LABEL_NAMES[folder]} (taken), dataset.csv {LABEL_NAMES[listed]}")
    regions = [region for region in _REGIONS if line[region] == "1"]
    row.region = regions[0] if len(regions) == 1 and line["mixed"] != "1" else "mixed"
    row.view = "+".join(view for view in _VIEWS if line[view] == "1")
    row.hardware = {"0": False, "1": True}.get(line["hardware"])
    return row


def _add_drawn(listing: Listing, found: Found) -> None:
    """Give the rows the polygons and boxes of the COCO files, and say where they contradict the label."""
    by_stem: dict[str, list[Row]] = {}
    for row in found.rows:
        by_stem.setdefault(stem(row.name), []).append(row)
    for coco_name in find_coco(listing):
        for drawn in read_coco(listing.root / coco_name, ClassNames()):
            for row in by_stem.get(stem(drawn.file), []) if drawn.boxes else []:
                row.boxes, row.polygons, row.drawn_on = drawn.boxes, drawn.polygons, drawn.drawn_on
                if row.label == NOT_FRACTURED:
                    row.disagree("a fracture is drawn, but folder and dataset.csv say not fractured")
