"""Sources: one file a public data set or a way to label; each gives rows before anything is decoded.

A source is a module with ``recognises(listing) -> bool`` and ``rows(listing, options) -> Found``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from callus.dataset.manifest import few
from callus.dataset.sources import coco, folder, fracatlas, grazpedwri, mura, table, unlabelled, voc, yolo
from callus.dataset.sources.rows import Found, Options, Row
from callus.errors import DatasetError

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Source

__all__ = ["SOURCES", "Found", "Options", "Row", "choose", "find_rows"]

SOURCES: Final[dict[str, Source]] = {
    "fracatlas": fracatlas,
    "grazpedwri": grazpedwri,
    "mura": mura,
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "table": table,
    "folder": folder,
    "unlabelled": unlabelled,
}
"""In the order in which "auto" tries them: what is surest first."""


def choose(listing: Listing, source: str, options: Options) -> str:
    """Give the name of the source to use.

    Args:
        listing: the folder.
        source: a name of ``SOURCES``, or "auto" for the first that recognises the folder.
        options: a label file means the source "table".

    Raises:
        DatasetError: there is no source of that name, or it takes no label file.
    """
    if source not in ("auto", *SOURCES):
        raise DatasetError(f"there is no source {source!r}", hint=f"give auto or one of {', '.join(SOURCES)}")
    if options.labels is not None:
        if source not in ("auto", "table"):
            raise DatasetError(f"the source {source!r} takes no label file", hint="leave out --source or --labels")
        return "table"
    if source != "auto":
        return source
    return next((name for name, module in SOURCES.items() if module.recognises(listing)), "folder")


def find_rows(listing: Listing, source: str, options: Options) -> tuple[str, Found]:
    """Give the name of the source that is used, and what it found.

    Where "auto" chose and everything is to be taken, labels that cannot be read leave the folders' names. What "auto"
    leaves unread is a remark.

    Args:
        listing: the folder.
        source: a name of ``SOURCES``, or "auto".
        options: what a person said about the folder.

    Raises:
        DatasetError: see :func:`choose`; or the label files do not fit.
    """
    name = source
    chosen_here = source == "auto" and options.labels is None
    try:
        name = choose(listing, source, options)
        found = SOURCES[name].rows(listing, options)
    except DatasetError as error:
        if not (chosen_here and options.take_all):
            raise
        place = "" if error.where in (None, str(listing.root)) else f"{Path(str(error.where)).name}: "
        found = folder.rows(listing, options)
        found.remarks.insert(0, f"its labels are not read, only folders' names: as {name}, {place}{error.what}")
        name = "folder"
    if chosen_here and (unread := [file for file in table.usable_tables(listing) if file not in found.tables]):
        found.remarks.append(
            f"label tables that are not read: {few(unread)}; data manifest and data audit take --labels"
        )
    return name, found
