"""Class folders: root/fractured, root/not fractured, with or without split folders, however deep."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from callus.dataset.files import parents
from callus.dataset.manifest import few
from callus.dataset.sources.names import UNDERSTOOD, is_structure, key, patient_name, study_name
from callus.dataset.sources.rows import Found, join_copies, row_from_path
from callus.errors import DatasetError
from callus.labels import FRACTURED

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.names import ClassNames
    from callus.dataset.sources.rows import Options

_MOST_SHOWN = 8


def recognises(listing: Listing) -> bool:
    """Tell whether there are pictures at all: this is what is tried last."""
    return bool(listing.pictures)


def rows(listing: Listing, options: Options) -> Found:
    """Give one row a picture, its label from the deepest folder that is named like a class.

    Pictures outside any class folder have no label; where their folder could be a class that is not understood that is
    an error, or if everything is to be taken a remark.

    Raises:
        DatasetError: folders whose names are no class that is known.
    """
    labels = folder_labels(listing.pictures, options.names)
    unknown = _unknown_folders(labels)
    shown = few([f"{name!r} ({count:,})" for name, count in unknown.most_common()], _MOST_SHOWN)
    if unknown and not options.take_all:
        raise DatasetError(
            f"pictures lie in folders that name no class: {shown}",
            where=listing.root,
            hint=f"understood are {UNDERSTOOD}; or say to callus data manifest --positive NAME and --negative NAME, "
            "give it a table with --labels, or take them without labels by --source unlabelled",
        )
    found = Found([])
    for name, label in labels.items():
        row = row_from_path(name)
        row.label = label
        if label == FRACTURED and any(key(folder).startswith("abnormal") for folder in parents(name)):
            row.notes.append("labelled abnormal, which need not be a fracture")
        found.rows.append(row)
    join_copies(found.rows)
    if unknown:
        found.remarks.append(
            f"{unknown.total():,} pictures lie in folders that name no class: they have no label: {shown}"
        )
    elif not any(label is not None for label in labels.values()):
        found.remarks.append("no folder names a class: no file has a label")
    return found


def folder_labels(pictures: tuple[str, ...], names: ClassNames) -> dict[str, int | None]:
    """Give for each picture the label of its deepest class folder, None where it lies in none.

    Folders called 1, 0, yes or no count only where no clearer name is there.
    """
    for weak in (False, True):
        labels = {
            name: next(
                (label for folder in parents(name) if (label := names.label(folder, weak=weak)) is not None), None
            )
            for name in pictures
        }
        if any(label is not None for label in labels.values()):
            break
    return labels


def _unknown_folders(labels: dict[str, int | None]) -> Counter[str]:
    """Count the pictures in folders that could be classes but are not understood."""
    unknown: Counter[str] = Counter()
    for name, label in labels.items():
        if label is None:
            folder = next((f for f in parents(name) if not (is_structure(f) or patient_name(f) or study_name(f))), None)
            if folder is not None:
                unknown[folder] += 1
    return unknown
