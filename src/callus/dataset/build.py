"""From a folder to a manifest: a source says what the files show, then each file is decoded once."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from callus import radiograph
from callus.dataset.columns import COLUMNS, UNREADABLE, conform
from callus.dataset.files import file_sha256, is_folder, list_files
from callus.dataset.groups import name_groups, name_radiographs
from callus.dataset.manifest import read_manifest, readable
from callus.dataset.sources import Options, find_rows
from callus.dataset.sources.names import ClassNames, is_nobody, key, region_name, view_name
from callus.errors import DatasetError, RadiographError
from callus.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from callus.dataset.sources import Row
    from callus.radiograph import Identity, Radiograph

UNSEEN_COPIES: Final = (
    "copies are known here by names and equal bytes alone: callus data audit FOLDER --out DIR finds the others too"
)
"""What is to be told where a folder is used without an audit."""
_AHEAD: Final = 32


@dataclass(frozen=True)
class _Looked:
    """What decoding a file told."""

    sha256: str
    width: int | None = None
    height: int | None = None
    notes: tuple[str, ...] = ()
    identity: Identity | None = None


def load(
    path: Path,
    source: str = "auto",
    labels: Path | None = None,
    workers: int | None = None,
    *,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    take_all: bool = False,
) -> pd.DataFrame:
    """Give the manifest at ``path``: a folder is made into one (as :func:`build_manifest` does), a file is read.

    Raises:
        DatasetError: nothing is there, or it is not what it has to be.
    """
    path = Path(path)
    if is_folder(path):
        return build_manifest(path, source, labels, workers, positive=positive, negative=negative, take_all=take_all)
    if labels is not None or positive or negative:
        what = "a label file belongs" if labels is not None else "names of classes belong"
        raise DatasetError(f"{what} to a folder, this is none", where=path)
    return read_manifest(path)


def build_manifest(
    folder: Path,
    source: str = "auto",
    labels: Path | None = None,
    workers: int | None = None,
    *,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    strict: bool = False,
    take_all: bool = False,
) -> pd.DataFrame:
    """Make the manifest of a folder.

    Args:
        folder: where the radiographs lie.
        source: a name of ``callus.dataset.sources.SOURCES``, or "auto".
        labels: a table of one's own, which tells the labels.
        workers: threads that decode; None: one a core.
        positive: names of classes that mean fractured, instead of the common ones.
        negative: names of classes that mean not fractured.
        strict: take files that end early or have other faults as unreadable.
        take_all: take pictures whose label is not understood without one, and remark it; else that is an error.

    Returns:
        A manifest with absolute paths. ``attrs["remarks"]`` has what is to be known about the whole, a line each, and
        ``attrs["audited"]`` is False.

    Raises:
        DatasetError: the folder cannot be read, has no pictures, or its label files do not fit.
    """
    listing = list_files(folder)
    names = ClassNames(tuple(positive), tuple(negative))
    options = Options(Path(labels) if labels is not None else None, names, take_all)
    if not listing.pictures:
        seen = f"{len(listing.names):,} other files" if listing.names else "nothing else"
        raise DatasetError(
            f"no radiographs are there: looked for PNG, JPEG, TIFF, WebP and DICOM files, there is {seen}"
            + (f" ({'; '.join(listing.remarks[:3])})" if listing.remarks else ""),
            where=folder,
            hint="give the folder that holds the radiographs",
        )
    name, found = find_rows(listing, source, options)
    paths = [os.path.join(listing.root, row.name) for row in found.rows]  # noqa: PTH118 - fast, links stay links
    looked = list(_look_at_all(paths, workers, strict=strict))
    frame = _assemble(paths, found.rows, looked, name)
    frame.attrs["remarks"] = [*found.remarks, *listing.remarks]
    frame.attrs["audited"] = False
    return frame


def _look_at_all(paths: list[str], workers: int | None, *, strict: bool) -> Iterator[_Looked]:
    """Decode all files in threads, in their order; only a few are ahead, so that Ctrl-C is quick."""
    count = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool, progress("reading radiographs", len(paths)) as advance:
        waiting = []
        try:
            for path in paths:
                waiting.append(pool.submit(_look_at, path, strict=strict))
                if len(waiting) >= _AHEAD:
                    yield waiting.pop(0).result()
                    advance()
            for future in waiting:
                yield future.result()
                advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _look_at(path: str, *, strict: bool) -> _Looked:
    try:
        seen: Radiograph = radiograph.read(path, strict=strict)
    except RadiographError as error:
        return _Looked(file_sha256(path), notes=(UNREADABLE + error.what,))
    return _Looked(seen.sha256, seen.width, seen.height, seen.notes, seen.identity)


def _assemble(paths: list[str], rows: list[Row], looked: list[_Looked], source: str) -> pd.DataFrame:
    for row, seen in zip(rows, looked, strict=True):
        _place_drawn(row, seen)
        if seen.identity is not None:
            _identify(row, seen.identity)
    frame = pd.DataFrame(dict.fromkeys(COLUMNS, ""), index=pd.RangeIndex(len(rows)), dtype="object")
    frame["path"] = paths
    for column in ("sha256", "width", "height"):
        frame[column] = pd.Series([getattr(seen, column) for seen in looked], dtype="object")
    for column in ("label", "study", "patient", "split", "region", "view", "hardware", "boxes", "polygons"):
        frame[column] = pd.Series([getattr(row, column) for row in rows], dtype="object")
    frame["source"] = source
    frame["note"] = ["; ".join([*seen.notes, *row.notes]) for row, seen in zip(rows, looked, strict=True)]
    frame = conform(frame)
    families = pd.Series([row.family for row in rows], dtype="str")
    blocks = pd.Series([row.block for row in rows], dtype="str")
    frame["radiograph"] = name_radiographs(families, frame["sha256"], readable(frame))
    frame["group"] = name_groups(frame, blocks)
    return frame


def _place_drawn(row: Row, seen: _Looked) -> None:
    """Bring boxes and polygons to the file's own pixels, where they were drawn on a picture of another size."""
    if row.drawn_on is None or not (row.boxes or row.polygons) or seen.width is None or seen.height is None:
        return
    across, down = seen.width / row.drawn_on[0], seen.height / row.drawn_on[1]
    if across == down == 1:
        return
    if row.drawn_on != (1, 1):
        drawn = f"{row.drawn_on[0]:.0f} x {row.drawn_on[1]:.0f}"
        if abs(across / down - 1) > 0.01:  # noqa: PLR2004 - one per cent: rounding of a reduced size
            row.notes.append(f"its boxes are left out: drawn on {drawn}, the file is {seen.width} x {seen.height}")
            row.boxes, row.polygons = [], []
            return
        row.notes.append(f"its boxes are scaled, they were drawn on {drawn}")
    row.boxes = [[x * across, y * down, width * across, height * down] for x, y, width, height in row.boxes]
    row.polygons = [
        [value * (down if place % 2 else across) for place, value in enumerate(polygon)] for polygon in row.polygons
    ]


def _identify(row: Row, identity: Identity) -> None:
    """Fill from a DICOM file what the source does not tell; the patient's number only as a hash of it."""
    zeros = not key(identity.patient_id).strip("0")  # of an anonymiser; in a table 0 may be the first patient
    if not (row.patient or zeros or is_nobody(identity.patient_id)):
        row.patient = "dicom-" + hashlib.sha256(identity.patient_id.strip().encode()).hexdigest()[:16]
    row.study = row.study or identity.study_uid
    row.region = row.region or region_name(identity.body_part)
    row.view = row.view or view_name(identity.view_position)
