"""MURA (Rajpurkar et al. 2017, arXiv 1712.06957): train/XR_WRIST/patient00001/study1_positive/image1.png.

Its label is a study's, and means abnormal: a fracture, but also hardware, degeneration or a lesion.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from callus.dataset.files import parents
from callus.dataset.sources.csv_table import read_csv
from callus.dataset.sources.labelled import note_unlisted
from callus.dataset.sources.names import study_label
from callus.dataset.sources.rows import Found, join_copies, row_from_path
from callus.errors import DatasetError
from callus.labels import FRACTURED, LABEL_NAMES

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Options

_PATH: Final = re.compile(r"(?:^|/)XR_[A-Z]+/patient\d+/study\d+(?:_(?:positive|negative))?/[^/]+$", re.IGNORECASE)
_CSVS: Final = ("train_labeled_studies.csv", "valid_labeled_studies.csv")
ABNORMAL: Final = "MURA calls the study abnormal, which need not be a fracture"


def recognises(listing: Listing) -> bool:
    """Tell whether a file lies in XR_REGION/patientN/studyN."""
    return any(_PATH.search(name) for name in listing.names)


def rows(listing: Listing, options: Options) -> Found:  # noqa: ARG001 - a source's signature
    """Give one row a picture; the label from the study's folder, or where that has none from the CSV of studies.

    Pictures elsewhere than in a study's folder are noted.

    Raises:
        DatasetError: no picture lies where MURA's lie, or a CSV of studies does not fit.
    """
    if not any(_PATH.search(name) for name in listing.pictures):
        raise DatasetError("this is not MURA: no picture in XR_REGION/patientN/studyN", where=listing.root)
    found = Found([])
    listed = _listed_studies(listing, found)
    for name in listing.pictures:
        row = row_from_path(name)
        from_folder = next((label for folder in parents(name) if (label := study_label(folder)) is not None), None)
        from_csv = listed.get("/".join(name.split("/")[-5:-1]))
        row.label = from_csv if from_folder is None else from_folder
        if None not in (from_folder, from_csv) and from_folder != from_csv:
            row.disagree(
                f"the folder says {LABEL_NAMES[int(from_folder or 0)]} (taken), the CSV of studies "
                f"{LABEL_NAMES[int(from_csv or 0)]}"
            )
        if row.label == FRACTURED:
            row.notes.append(ABNORMAL)
        found.rows.append(row)
    join_copies(found.rows)
    elsewhere = [row for row in found.rows if not _PATH.search(row.name)]
    found.remarks += note_unlisted(elsewhere, "XR_REGION/patientN/studyN, where MURA's lie")
    found.remarks.append("MURA's labels mean abnormal, not fractured: fractures are only some of its positives")
    return found


def _listed_studies(listing: Listing, found: Found) -> dict[str, int]:
    """Give the label of each study that the CSVs list, by the last four folders of its path.

    The files have no header: "MURA-v1.1/train/XR_SHOULDER/patient00001/study1_positive/,1".
    """
    studies = {}
    for csv_name in _CSVS:
        for name in listing.named(csv_name)[:1]:
            path = listing.root / name
            found.tables.append(name)
            for line in read_csv(path, header=("study", "label")):
                if line["label"] not in ("0", "1"):
                    raise DatasetError(
                        f"the study {line['study']!r} has the label {line['label']!r}, expected 0 or 1", where=path
                    )
                studies["/".join(line["study"].strip("/").split("/")[-4:])] = int(line["label"])
    return studies
