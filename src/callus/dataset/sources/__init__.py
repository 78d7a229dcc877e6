"""Sources: one file a public data set or a way to label; each gives rows before anything is decoded.

A source is a module with ``recognises(listing) -> bool`` and ``rows(listing, options) -> Found``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callus.dataset.sources import coco, folder, fracatlas, grazpedwri, mura, table, unlabelled, voc, yolo
from callus.dataset.sources.rows import Found, Options, Row
from callus.errors import DatasetError

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Source

__all__ = ["SOURCES", "Found", "Options", "Row", "choose"]

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
