"""Boxes and polygons as COCO, YOLO and Pascal VOC write them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from callus.dataset.files import read_text
from callus.errors import DatasetError
from callus.labels import FRACTURED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from callus.dataset.files import Listing
    from callus.dataset.sources.names import ClassNames

_SNIFFED: Final = 1 << 16
_MOST_XML: Final = 10 << 20


@dataclass
class Drawn:
    """What a label file draws on one picture: only what means a fracture.

    Attributes:
        file: the picture, as the label file names it.
        boxes: [x, y, width, height] on a picture of size ``drawn_on``.
        polygons: [x0, y0, x1, y1, ...], the same.
        drawn_on: (width, height); (1, 1) for fractions; None where the label file does not tell.
        classes: the names of all classes that are drawn on it.
        notes: lines that could not be read.
    """

    file: str
    boxes: list[list[float]] = field(default_factory=list)
    polygons: list[list[float]] = field(default_factory=list)
    drawn_on: tuple[float, float] | None = None
    classes: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def find_coco(listing: Listing) -> list[str]:
    """Give the JSON files that are COCO's, by what they begin and end with."""
    found = []
    for name in listing.with_ending(".json"):
        try:
            with (listing.root / name).open("rb") as file:
                text = file.read(_SNIFFED)
                file.seek(max(0, file.seek(0, 2) - _SNIFFED))
                text += file.read(_SNIFFED)
        except OSError:
            continue
        if sum(part in text for part in (b'"images"', b'"annotations"', b'"categories"')) >= 2:  # noqa: PLR2004
            found.append(name)
    return found


def read_coco(path: Path, names: ClassNames) -> list[Drawn]:
    """Read a COCO file: one ``Drawn`` for every picture that it lists.

    Raises:
        DatasetError: it is no COCO file, an annotation points to nothing, or no category means a fracture.
    """
    try:
        content = json.loads(read_text(path))
        images = {image["id"]: _coco_picture(image) for image in content["images"]}
        categories = {category["id"]: str(category["name"]) for category in content["categories"]}
        annotations = content["annotations"]
        problems = _add_annotations(images, categories, annotations, names)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"is not a COCO file: {type(error).__name__} {error}", where=path) from error
    if problems:
        raise DatasetError("; ".join(problems[:3]) + (" ..." if len(problems) > 3 else ""), where=path)  # noqa: PLR2004
    used = set().union(*(picture.classes for picture in images.values())) if images else set()
    check_classes(used, names, path)
    return list(images.values())


def _coco_picture(image: dict[str, Any]) -> Drawn:
    size = (float(image.get("width") or 0), float(image.get("height") or 0))
    return Drawn(file=str(image["file_name"]), drawn_on=size if min(size) > 0 else None)


def _add_annotations(
    images: dict[Any, Drawn], categories: dict[Any, str], annotations: list[dict[str, Any]], names: ClassNames
) -> list[str]:
    problems = []
    for annotation in annotations:
        picture, category = images.get(annotation["image_id"]), categories.get(annotation["category_id"])
        if picture is None or category is None:
            kind, value = ("image", "image_id") if picture is None else ("category", "category_id")
            problems.append(
                f"annotation {annotation.get('id')} has the {kind} {annotation[value]!r}, which is not listed"
            )
            continue
        picture.classes.add(category)
        if names.box_label(category) != FRACTURED:
            continue
        segmentation = annotation.get("segmentation")
        polygons = segmentation if isinstance(segmentation, list) else []  # run lengths are not polygons
        polygons = [[float(value) for value in polygon] for polygon in polygons if _is_polygon(polygon)]
        box = [float(value) for value in annotation.get("bbox") or []] or (around(polygons) if polygons else [])
        if is_box(box):
            picture.boxes.append(box)
            picture.polygons += polygons
        else:
            picture.notes.append(f"annotation {annotation.get('id')} has no box of a size: {box}")
    return problems


def read_yolo_lines(path: Path, is_fracture: Callable[[int], bool]) -> Drawn:
    """Read a YOLO label file: "class x y width height", or "class x0 y0 x1 y1 ...", centres and sizes as fractions.

    A line that cannot be read becomes a note.
    """
    drawn = Drawn(file=path.name, drawn_on=(1.0, 1.0))
    for number, line in enumerate(read_text(path, _MOST_XML).splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        try:
            kind = int(float(cells[0]))
            values = [float(cell) for cell in cells[1:]]
        except (ValueError, OverflowError):
            drawn.notes.append(f"{path.name} line {number} is not numbers")
            continue
        polygon = values if _is_polygon(values) else []
        box = around([polygon]) if polygon else _from_centre(values)
        if not is_box(box) or max(map(abs, values)) > 2:  # noqa: PLR2004 - fractions, with room for what sticks out
            drawn.notes.append(f"{path.name} line {number} is no box in fractions of the picture")
            continue
        drawn.classes.add(str(kind))
        if is_fracture(kind):
            drawn.boxes.append(box)
            drawn.polygons += [polygon] if polygon else []
    return drawn


def read_voc(path: Path, names: ClassNames) -> Drawn | None:
    """Read a Pascal VOC file; None where the XML is not one.

    Raises:
        DatasetError: it is no XML, or declares entities (which may blow up).
    """
    text = read_text(path, _MOST_XML)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DatasetError("declares a document type, which a label file does not need", where=path)
    try:
        root = ET.fromstring(text)  # nosec B314  # noqa: S314 - no document type, so no entities; bounded in size
    except ET.ParseError as error:
        raise DatasetError(f"is not XML: {error}", where=path) from error
    if root.tag != "annotation":
        return None
    size = (_number(root, "size/width"), _number(root, "size/height"))
    drawn = Drawn(file=root.findtext("filename") or path.stem, drawn_on=size if min(size) > 0 else None)
    for thing in root.iter("object"):
        name = (thing.findtext("name") or "").strip()
        drawn.classes.add(name)
        if names.box_label(name) != FRACTURED:
            continue
        left, top, right, bottom = (_number(thing, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax"))
        box = [left, top, right - left, bottom - top]
        if is_box(box):
            drawn.boxes.append(box)
        else:
            drawn.notes.append(f"{path.name} has no box of a size: {box}")
    return drawn


def read_yolo_names(text: str) -> dict[int, str]:
    """Read the class names of a data.yaml (a list in brackets, of lines, or numbered), or of a file with one a line."""
    found = re.search(r"^names\s*:[ \t]*(.*)$", text, re.MULTILINE)
    if not found:
        if re.search(r"^\w+\s*:", text, re.MULTILINE):
            return {}  # a YAML file of something else
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    inline = text[found.start(1) :]
    if inline[:1] in ("[", "{"):
        body = inline[1 : re.search(r"[\]}]", inline).start()] if re.search(r"[\]}]", inline) else ""  # type: ignore[union-attr]
        entries = [entry for entry in re.split(r",", body.replace("\n", " ")) if entry.strip()]
    else:
        block = re.match(r"(?:[^\n]*\n)((?:[ \t]*-[^\n]*(?:\n|$)|[ \t]+[^\n]*(?:\n|$)|[ \t]*\n)*)", inline)
        entries = [entry for entry in (block[1] if block else "").splitlines() if entry.strip()]
    names = {}
    for position, entry in enumerate(entries):
        bare = entry.split(" #")[0].strip().removeprefix("- ").strip()
        numbered = re.match(r"^['\"]?(\d+)['\"]?\s*:\s*(.+)$", bare)
        number, name = (int(numbered[1]), numbered[2]) if numbered else (position, bare)
        names[number] = name.strip().strip("'\"")
    return names


def check_classes(used: set[str], names: ClassNames, path: Path) -> None:
    """Raise where boxes are drawn but none of their classes is known to mean a fracture or its absence."""
    if used and all(names.box_label(name) is None for name in used):
        raise DatasetError(
            f"none of the classes drawn means a fracture: {', '.join(sorted(used)[:8])}",
            where=path,
            hint="say which do: --positive NAME",
        )


def around(polygons: list[list[float]]) -> list[float]:
    """Give the box [x, y, width, height] around polygons."""
    x = [value for polygon in polygons for value in polygon[0::2]]
    y = [value for polygon in polygons for value in polygon[1::2]]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def is_box(box: list[float]) -> bool:
    """Tell whether ``box`` is x, y, width, height, finite and of a size."""
    return len(box) == 4 and all(map(math.isfinite, box)) and box[2] > 0 and box[3] > 0  # noqa: PLR2004


def _is_polygon(values: Any) -> bool:
    return isinstance(values, list) and len(values) >= 6 and len(values) % 2 == 0  # noqa: PLR2004


def _from_centre(values: list[float]) -> list[float]:
    if len(values) != 4:  # noqa: PLR2004
        return []
    x, y, width, height = values
    return [x - width / 2, y - height / 2, width, height]


def _number(element: ET.Element, name: str) -> float:
    try:
        return float(element.findtext(name) or 0)
    except ValueError:
        return math.nan
