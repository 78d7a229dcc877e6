"""YOLO boxes for any folder: one text file a picture, in labels/ beside images/ or beside the picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from callus.dataset.files import read_text
from callus.dataset.sources.drawn import Drawn, check_classes, read_yolo_lines, read_yolo_names
from callus.dataset.sources.labelled import label_from_drawn
from callus.errors import DatasetError
from callus.labels import FRACTURED

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Found, Options

_NAMES_FILES: Final = ("classes.txt", "obj.names", "_darknet.labels", "data.yaml", "data.yml", "meta.yaml")
_LINE: Final = re.compile(r"^\s*\d+(?:\.0*)?(?:\s+-?[\d.]+(?:e[-+]?\d+)?){4,}\s*$", re.IGNORECASE)


def recognises(listing: Listing) -> bool:
    """Tell whether text files with lines of numbers stand beside pictures, and something names their classes."""
    labels = _label_files(listing)
    if not labels or not _names_file(listing):
        return False
    for name in labels[:20]:
        lines = read_text(listing.root / name).splitlines()
        if lines:
            return bool(_LINE.match(lines[0]))
    return True


def rows(listing: Listing, options: Options) -> Found:
    """Give one row a picture: fractured where a fracture is drawn, not where its file draws none.

    A picture without a file has no label.

    Raises:
        DatasetError: nothing names the classes, no class means a fracture, or none of the pictures is there.
    """
    names_file = _names_file(listing)
    if names_file is None:
        raise DatasetError(
            "nothing names the classes of the YOLO files",
            where=listing.root,
            hint="put a data.yaml (names: [...]) or a classes.txt (one name a line) there",
        )
    classes = read_yolo_names(read_text(listing.root / names_file))
    drawn: list[tuple[str, Drawn]] = []
    for name in _label_files(listing):
        picture = read_yolo_lines(
            listing.root / name,
            lambda number: options.names.box_label(classes.get(number, str(number))) == FRACTURED,
        )
        picture.classes = {classes.get(int(number), number) for number in picture.classes}
        folder, _, file = name.rpartition("/")
        images = re.sub(r"(^|/)labels(?=/|$)(?!.*(?:^|/)labels(?:/|$))", r"\1images", folder)
        picture.file = f"{images}/{file[:-4]}" if images else file[:-4]
        drawn.append((name, picture))
    if not drawn:
        raise DatasetError("has no YOLO file: a .txt of the name of a picture", where=listing.root)
    check_classes(set().union(*(picture.classes for _, picture in drawn)), options.names, listing.root / names_file)
    return label_from_drawn(listing, drawn, options)


def _label_files(listing: Listing) -> list[str]:
    """Give the text files whose stem is a picture's."""
    stems = {name.rpartition("/")[2].rpartition(".")[0] for name in listing.pictures}
    return [name for name in listing.with_ending(".txt") if name.rpartition("/")[2][:-4] in stems]


def _names_file(listing: Listing) -> str | None:
    """Give the file that names the classes: one of the usual names, else any YAML that has ``names:``."""
    for usual in _NAMES_FILES:
        for name in listing.named(usual):
            if read_yolo_names(read_text(listing.root / name)):
                return name
    for name in listing.with_ending(".yaml", ".yml"):
        text = read_text(listing.root / name)
        if re.search(r"^names\s*:", text, re.MULTILINE) and read_yolo_names(text):
            return name
    return None
