"""COCO boxes and polygons for any folder: JSON files with images, annotations and categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callus.dataset.sources.drawn import find_coco, read_coco
from callus.dataset.sources.labelled import label_from_drawn
from callus.errors import DatasetError

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Found, Options


def recognises(listing: Listing) -> bool:
    """Tell whether there is a COCO file."""
    return bool(find_coco(listing))


def rows(listing: Listing, options: Options) -> Found:
    """Give one row a picture: fractured where a fracture is drawn, not where it is listed with none.

    Raises:
        DatasetError: there is no COCO file, one does not fit, or none of its pictures is there.
    """
    files = find_coco(listing)
    if not files:
        raise DatasetError("has no COCO file: a JSON with images, annotations and categories", where=listing.root)
    drawn = [(name, picture) for name in files for picture in read_coco(listing.root / name, options.names)]
    return label_from_drawn(listing, drawn, options)
