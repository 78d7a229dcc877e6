"""What every source gives: rows that say what a file shows, before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from callus.dataset.columns import DISAGREES
from callus.dataset.files import parents
from callus.dataset.sources.names import (
    ClassNames,
    original_stem,
    patient_name,
    region_name,
    split_name,
    study_name,
)
from callus.labels import FRACTURED, LABEL_NAMES

if TYPE_CHECKING:
    from callus.dataset.files import Listing


@dataclass
class Row:
    """One file as its source tells of it.

    Attributes:
        name: relative to the listing's root, with forward slashes.
        label: 1 fractured, 0 not, None unknown.
        family: joins copies of one radiograph, by their names; empty where no name tells of copies.
        block: joins files in ``group`` only; empty where nothing is known.
        boxes: [x, y, width, height] in pixels of ``drawn_on``.
        polygons: [x0, y0, x1, y1, ...], the same.
        drawn_on: (width, height) of the picture that boxes and polygons were drawn on; (1, 1) for fractions; None
            where it is the file itself.
        notes: what is to be known about the file.
    """

    name: str
    label: int | None = None
    family: str = ""
    study: str = ""
    patient: str = ""
    block: str = ""
    split: str = ""
    region: str = ""
    view: str = ""
    hardware: bool | None = None
    boxes: list[list[float]] = field(default_factory=list)
    polygons: list[list[float]] = field(default_factory=list)
    drawn_on: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)

    def disagree(self, what: str) -> None:
        """Note that folder, label file and drawing say different things, which the audit lists."""
        self.notes.append(DISAGREES + what)


@dataclass(frozen=True)
class Options:
    """What a person said about the folder.

    Attributes:
        labels: a label file.
        names: what the classes are called.
        take_all: take pictures whose label is not understood without one, and say so; else that is an error.
    """

    labels: Path | None = None
    names: ClassNames = field(default_factory=ClassNames)
    take_all: bool = False


@dataclass
class Found:
    """What a source found.

    Attributes:
        rows: one a picture.
        remarks: what is to be known about the whole set, a line each.
        tables: the CSVs that were read, relative to the listing's root.
    """

    rows: list[Row]
    remarks: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


class Source(Protocol):
    """A module of this package: it knows its kind of folder, and reads what its label files say."""

    def recognises(self, listing: Listing) -> bool:
        """Tell whether the folder is of this kind, without decoding a picture."""

    def rows(self, listing: Listing, options: Options) -> Found:
        """Give the rows; raise DatasetError, which names every problem, where the label files do not fit."""


def row_from_path(name: str) -> Row:
    """Give what a file's path alone tells: split, region, patient, study, family and block."""
    folders = list(parents(name))
    row = Row(name)
    row.split = next((split for folder in folders if (split := split_name(folder))), "")
    row.region = next((region for folder in folders if (region := region_name(folder))), "")
    row.patient = next((patient for folder in folders if (patient := patient_name(folder))), "")
    study = next((study for folder in folders if (study := study_name(folder))), "")
    if study and row.patient:
        row.study = "/".join(part for part in (row.patient, row.region, study) if part)
    return row


def join_copies(rows: list[Row]) -> None:
    """Fill family and block of files whose names say that they are copies of one another.

    "7-rotated2.jpg" and "7.jpg" in one folder are one radiograph. In another class' folder "7" is another picture
    (BoneData numbers its classes apart: seen in the pictures). In another split's folder of the same class nobody
    can know, so they stay two radiographs, but one group: a split must not tear them apart.
    """
    stems = [(row, PurePosixPath(row.name)) for row in rows]
    copied = {
        (_without_split(path), original.casefold())
        for _, path in stems
        if (original := original_stem(path.stem)) != path.stem
    }
    for row, path in stems:
        original = original_stem(path.stem)
        place = _without_split(path)
        if (place, original.casefold()) in copied:
            row.family = str(path.parent / original) if str(path.parent) != "." else original
            row.block = row.block or f"{place}/{original.casefold()}".lstrip("/")


def combine_labels(row: Row, said: int | None, drawn: int | None, *, said_by: str = "the folder") -> None:
    """Set the label where a folder (or table) and drawn boxes may both tell.

    A drawn fracture wins; where none is drawn on what is called fractured, the folder is believed: boxes get forgotten.
    """
    row.label = drawn if said is None else said
    if None in (said, drawn) or said == drawn:
        return
    row.label = FRACTURED
    taken = "but a fracture is drawn (taken)" if drawn == FRACTURED else "(taken), but no fracture is drawn"
    row.disagree(f"{said_by} says {LABEL_NAMES[int(said or 0)]} {taken}")


def _without_split(path: PurePosixPath) -> str:
    return "/".join(part.casefold() for part in path.parts[:-1] if not split_name(part))
