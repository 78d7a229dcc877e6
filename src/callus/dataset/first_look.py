"""Each file is read once for an audit: described for the search, measured without its bone, looked at for what is odd.

A manifest may be older than its files, and files may change while the audit runs. What is read is held against the
manifest's SHA-256, and after the search size and time against those of the reading: a file that differs is named, and
nothing is said of what it shows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import pandas as pd

from callus import radiograph
from callus.dataset.columns import UNREADABLE
from callus.dataset.duplicates import describe_all_ways
from callus.dataset.file_features import FEATURES, file_features
from callus.dataset.files import file_sha256
from callus.dataset.keypoints import LEAST_PLACES
from callus.dataset.manifest import readable
from callus.dataset.suspicious import Suspicion, suspect
from callus.errors import RadiographError
from callus.progress import progress
from callus.workers import WORTH_PROCESSES, spread_over_processes, spread_over_threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from callus.dataset.keypoints import Description
    from callus.dataset.shelf import Shelf

BEFORE: Final = "the file has changed since the manifest was made"
MEANWHILE: Final = "the file has changed or vanished while it was audited"


class _Stamp(NamedTuple):
    """What tells cheaply that a file may be another: its last writing (ns), bytes and inode."""

    written: int
    size: int
    inode: int


class _Asked(NamedTuple):
    """A file to look at.

    Attributes:
        path: of it.
        sha256: that the manifest has; empty where it has none.
        new: whether it is to be described.
    """

    path: str
    sha256: str
    new: bool


@dataclass(frozen=True)
class _Seen:
    """What a look at one file gave.

    Attributes:
        lost: why there is nothing; empty where there is.
        sha256: of the bytes that were read.
        stamp: of the file before it was read.
        features: of :data:`callus.dataset.file_features.FEATURES`.
        suspicion: what is odd about it.
        ways: its descriptions, by what they are kept under.
    """

    lost: str = ""
    sha256: str = ""
    stamp: _Stamp | None = None
    features: dict[str, float] = field(default_factory=dict)
    suspicion: Suspicion | None = None
    ways: dict[str, Description] = field(default_factory=dict)


@dataclass(frozen=True)
class FirstLook:
    """What reading all files gave.

    Attributes:
        features: the columns ``FEATURES`` and the index of the manifest, NaN where a file is not judged.
        suspicions: what is odd, by path; only of files of which something is.
        sha256: of the bytes that were read, by path.
        plain: files with too little detail for a search by pixels.
        lost: why a file that the manifest calls readable is not judged, by path.
    """

    features: pd.DataFrame
    suspicions: dict[str, Suspicion]
    sha256: dict[str, str]
    plain: tuple[str, ...]
    lost: dict[str, str]
    _stamps: dict[str, _Stamp | None]

    def lost_since(self) -> dict[str, str]:
        """Why files that were read are others by now, by path; reads only those whose size or time has changed."""
        return {
            path: MEANWHILE
            for path, stamp in self._stamps.items()
            if _stamp(path) != stamp and file_sha256(path) != self.sha256[path]
        }


def look_at_all(frame: pd.DataFrame, shelf: Shelf, workers: int | None = None) -> FirstLook:
    """Read each file that the manifest calls readable.

    Args:
        frame: a manifest; a row without ``sha256`` is taken as it is.
        shelf: gets the descriptions.
        workers: threads, or processes where there is much to do; None: one a core.
    """
    rows = frame[readable(frame)]
    asked = [_Asked(path, sha, sha not in shelf) for path, sha in zip(rows["path"], rows["sha256"], strict=True)]
    count = workers or os.cpu_count() or 1
    spread = spread_over_processes if count > 1 and len(asked) >= WORTH_PROCESSES else spread_over_threads
    features: list[dict[str, float]] = []
    suspicions: dict[str, Suspicion] = {}
    sha256: dict[str, str] = {}
    stamps: dict[str, _Stamp | None] = {}
    plain: list[str] = []
    lost: dict[str, str] = {}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # files are spread over the cores already
    try:
        with progress("looking at files", len(asked)) as advance:
            for file, seen in zip(asked, spread(_look, asked, count), strict=True):
                features.append(seen.features)
                for key, description in seen.ways.items():
                    shelf.put(key, description)
                advance()
                if seen.lost:
                    lost[file.path] = seen.lost
                    continue
                sha256[file.path], stamps[file.path] = seen.sha256, seen.stamp
                if len(shelf.get(seen.sha256).points) < LEAST_PLACES:
                    plain.append(file.path)
                if seen.suspicion is not None and (seen.suspicion.why or seen.suspicion.marks):
                    suspicions[file.path] = seen.suspicion
    finally:
        cv2.setNumThreads(threads)
    shelf.save()
    table = pd.DataFrame(features, index=rows.index, columns=list(FEATURES), dtype="float64")
    return FirstLook(table.reindex(frame.index), suspicions, sha256, tuple(plain), lost, stamps)


def mark_lost(frame: pd.DataFrame, lost: Mapping[str, str]) -> pd.DataFrame:
    """Give a copy of the manifest in which the files of these paths are unreadable, with the reason."""
    notes = [
        UNREADABLE + lost[path] if path in lost else note
        for path, note in zip(frame["path"], frame["note"], strict=True)
    ]
    return frame.assign(note=pd.Series(notes, index=frame.index, dtype="str"))


def _look(file: _Asked) -> _Seen:
    stamp = _stamp(file.path)
    try:
        seen = radiograph.read(file.path)
    except RadiographError as error:
        return _Seen(lost=error.what)
    if file.sha256 and seen.sha256 != file.sha256:
        return _Seen(lost=BEFORE)
    ways = describe_all_ways(seen) if file.new else {}
    return _Seen("", seen.sha256, stamp, file_features(file.path, seen), suspect(seen), ways)


def _stamp(path: str) -> _Stamp | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino)
