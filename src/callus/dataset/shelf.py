"""Where descriptions of radiographs are kept, by the file's SHA-256: a stopped search goes on, a second is quick.

One SQLite file in the cache's folder, which several audits may use at once. Where it cannot be used or written (no
permission, disk full, damaged) what is new is kept in memory for this once, and ``remark`` says so.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np

from callus.cache import cache_folder
from callus.dataset.keypoints import LENGTH, VERSION, Description
from callus.errors import CallusError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

# Height, width, thumbnail's height and width, places.
_HEADER: Final = struct.Struct("<IIIII")
_INSERT: Final = "INSERT OR REPLACE INTO descriptions VALUES (?, ?)"
_AT_HAND: Final = 2048  # descriptions, about 40 kB each
_EVERY_S: Final = 2.0  # what was described is on disk at the latest then
_PAGE: Final = 32_768  # bytes; with the default of 4,096 a description takes twelve, and looking up ten times as long
_LAYOUT: Final = 2  # of the table
_VERSION: Final = 1000 * _LAYOUT + VERSION


class Shelf:
    """Descriptions by SHA-256. Safe to use from several threads.

    Args:
        file: the database; None: ``descriptions.sqlite`` in the cache's folder.

    Attributes:
        remark: why the descriptions are not kept on disk; empty where they are.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_folder() / "descriptions.sqlite"
        self.remark = ""
        self._lock = threading.Lock()
        self._at_hand: OrderedDict[str, Description] = OrderedDict()
        self._waiting: dict[str, bytes] = {}  # not on disk yet, or for this once only
        self._saved = time.monotonic()
        self._known: set[str] = set()
        self._database: sqlite3.Connection | None = None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._database, self._known = _open(str(self._file))
        except (OSError, sqlite3.Error) as error:
            self._stop_keeping(error)
        self._keeps = self._database is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._known

    def __len__(self) -> int:
        return len(self._known)

    def put(self, sha256: str, description: Description) -> None:
        """Keep a description."""
        with self._lock:
            self._waiting[sha256] = _pack(description)
            self._known.add(sha256)
            self._remember(sha256, description)
            if time.monotonic() - self._saved > _EVERY_S:
                self._save()

    def get(self, sha256: str) -> Description:
        """Give a description.

        Raises:
            KeyError: it is not here.
            CallusError: the file is damaged.
        """
        with self._lock:
            if sha256 in self._at_hand:
                self._at_hand.move_to_end(sha256)
                return self._at_hand[sha256]
            try:
                description = _unpack(self._packed(sha256))
            except (sqlite3.Error, struct.error, ValueError, TypeError) as error:
                raise CallusError(
                    f"is damaged: {error}", where=self._file, hint="delete it; it is made anew"
                ) from error
            self._remember(sha256, description)
            return description

    def save(self) -> None:
        """Write what is not on disk yet."""
        with self._lock:
            self._save()

    def close(self) -> None:
        """Save, and let go of the file."""
        with self._lock:
            self._save()
            if self._database is not None:
                self._database.close()

    def _packed(self, sha256: str) -> bytes:
        if sha256 in self._waiting:
            return self._waiting[sha256]
        row = None
        if self._database is not None:
            row = self._database.execute("SELECT packed FROM descriptions WHERE sha256 = ?", (sha256,)).fetchone()
        if row is None:
            raise KeyError(sha256)
        packed: bytes = row[0]
        return packed

    def _remember(self, sha256: str, description: Description) -> None:
        self._at_hand[sha256] = description
        if len(self._at_hand) > _AT_HAND:
            self._at_hand.popitem(last=False)

    def _save(self) -> None:
        """Write in one short transaction: another audit may want to write to the same file."""
        if self._database is not None and self._keeps and self._waiting:
            try:
                with self._database:
                    self._database.executemany(_INSERT, self._waiting.items())
                self._waiting.clear()
            except sqlite3.Error as error:  # full, locked: what is there can still be read, what is new is kept here
                self._stop_keeping(error)
        self._saved = time.monotonic()

    def _stop_keeping(self, error: Exception) -> None:
        self._keeps = False
        self.remark = f"{self._file}: descriptions are not kept for the next time: {error}"


def _open(name: str) -> tuple[sqlite3.Connection, set[str]]:
    """Open the database, made where it is missing; give it and whose descriptions it holds.

    Raises:
        sqlite3.Error: it cannot be used.
    """
    database = sqlite3.connect(name, check_same_thread=False, timeout=30)
    try:
        database.execute(f"PRAGMA page_size = {_PAGE:d}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            database.execute("DROP TABLE IF EXISTS descriptions")
            database.execute(f"PRAGMA user_version = {_VERSION:d}")
        database.execute("CREATE TABLE IF NOT EXISTS descriptions (sha256 TEXT PRIMARY KEY, packed BLOB NOT NULL)")
        database.commit()
        known = {sha for (sha,) in database.execute("SELECT sha256 FROM descriptions")}
    except sqlite3.Error:
        database.close()
        raise
    return database, known


def _pack(description: Description) -> bytes:
    numbers = (*description.size, *description.thumbnail.shape, len(description.points))
    return b"".join(
        (
            _HEADER.pack(*numbers),
            description.thumbnail.tobytes(),
            description.points.astype("<f4").tobytes(),
            description.descriptors.tobytes(),
        )
    )


def _unpack(packed: bytes) -> Description:
    """Give a description back.

    Raises:
        ValueError, struct.error, TypeError: this is none.
    """
    height, width, rows, columns, places = _HEADER.unpack_from(packed)
    here = _HEADER.size
    if (expected := here + rows * columns + places * (8 + LENGTH)) != len(packed):
        raise ValueError(f"a description has {len(packed):,} bytes, expected {expected:,}")
    thumbnail = np.frombuffer(packed, np.uint8, rows * columns, here).reshape(rows, columns)
    here += rows * columns
    points = np.frombuffer(packed, "<f4", places * 2, here).reshape(places, 2)
    here += places * 8
    descriptors = np.frombuffer(packed, np.uint8, places * LENGTH, here).reshape(places, LENGTH)
    return Description(thumbnail, points, descriptors, (height, width))
