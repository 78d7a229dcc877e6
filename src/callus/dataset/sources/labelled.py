"""From what is drawn on pictures to rows: what COCO, YOLO and Pascal VOC have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callus.dataset.manifest import few
from callus.dataset.sources.folder import folder_labels
from callus.dataset.sources.rows import Found, combine_labels, join_copies, row_from_path
from callus.errors import DatasetError
from callus.labels import FRACTURED, NOT_FRACTURED

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.drawn import Drawn
    from callus.dataset.sources.rows import Options, Row


def label_from_drawn(listing: Listing, drawn: list[tuple[str, Drawn]], options: Options) -> Found:
    """Give one row a picture, labelled by what is drawn on it and by its class folder where it lies in one.

    Args:
        listing: the folder.
        drawn: for each picture that a label file lists, the label file's name and what it draws.
        options: what the classes are called.

    Raises:
        DatasetError: none of the listed pictures is there, or a name means several.
    """
    folders = folder_labels(listing.pictures, options.names)
    by_name = {name: row_from_path(name) for name in listing.pictures}
    listed: set[str] = set()
    missing: list[str] = []
    for label_file, picture in drawn:
        name = listing.find(picture.file, label_file.rpartition("/")[0])
        if name is None:
            missing.append(picture.file)
            continue
        row = by_name[name]
        listed.add(name)
        row.boxes = row.boxes + picture.boxes
        row.polygons = row.polygons + picture.polygons
        row.drawn_on = picture.drawn_on
        row.notes += picture.notes
    if not listed:
        raise missing_pictures(listing, missing, "the label files list")
    for name, row in by_name.items():
        said = FRACTURED if row.boxes else NOT_FRACTURED
        combine_labels(row, folders[name], said if name in listed else None)
    found = Found(list(by_name.values()))
    join_copies(found.rows)
    found.remarks += missing_remark(missing, "the label files list")
    without = sum(row.label is None for row in found.rows)
    if without:
        found.remarks.append(f"{without:,} pictures are in no label file: they have no label")
    return found


def missing_remark(missing: list[str], who: str) -> list[str]:
    """Give the remark about pictures that a label file lists and that are not there."""
    if not missing:
        return []
    more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""  # noqa: PLR2004 - a handful shows the kind
    return [f"{len(missing):,} pictures that {who} are missing: {', '.join(missing[:5])}{more}"]


def note_unlisted(rows: list[Row], table: str) -> list[str]:
    """Note at rows of pictures that a public set's table does not list that they are not; give the remark about it."""
    for row in rows:
        row.notes.append(f"not in {table}")
    return [f"{len(rows):,} pictures are not in {table}: {few([row.name for row in rows])}"] if rows else []


def missing_pictures(listing: Listing, missing: list[str], who: str) -> DatasetError:
    """Give the error for label files of which no picture is there."""
    shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")  # noqa: PLR2004
    return DatasetError(
        f"none of the {len(missing):,} pictures that {who} is there: {shown}",
        where=listing.root,
        hint="is this the folder that they belong to?",
    )
