"""Pascal VOC boxes for any folder: one XML a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callus.dataset.sources.drawn import Drawn, check_classes, read_voc
from callus.dataset.sources.labelled import label_from_drawn
from callus.errors import DatasetError

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Found, Options


def recognises(listing: Listing) -> bool:
    """Tell whether the first XML files hold an annotation."""
    for name in listing.with_ending(".xml")[:5]:
        try:
            with (listing.root / name).open("rb") as file:
                if b"<annotation" in file.read(1024):
                    return True
        except OSError:
            continue
    return False


def rows(listing: Listing, options: Options) -> Found:
    """Give one row a picture: fractured where a fracture is drawn, not where its XML draws none.

    Raises:
        DatasetError: there is no annotation, no class means a fracture, or none of the pictures is there.
    """
    drawn: list[tuple[str, Drawn]] = []
    problems = []
    for name in listing.with_ending(".xml"):
        try:
            picture = read_voc(listing.root / name, options.names)
        except DatasetError as error:
            problems.append(f"{name}: {error.what}")
            continue
        if picture is not None:
            # Many tools write the name that a picture had when it was drawn on: the XML's own stem is surer.
            stem = name.rpartition("/")[2].rpartition(".")[0]
            if listing.find(stem, name.rpartition("/")[0]):
                picture.file = stem
            drawn.append((name, picture))
    if not drawn:
        raise DatasetError("has no Pascal VOC file: an XML with an annotation", where=listing.root)
    check_classes(set().union(*(picture.classes for _, picture in drawn)), options.names, listing.root)
    found = label_from_drawn(listing, drawn, options)
    found.remarks += problems
    return found
