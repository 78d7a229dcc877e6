"""Where descriptions of radiographs are kept, by the file's SHA-256: a stopped search goes on, a second is quick.

One SQLite file in the cache's folder. Where that cannot be used (no permission, disk full, damaged) the descriptions
are kept in memory for this once, and ``remark`` says so.
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
        self._saved = time.monotonic()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(str(self._file))
        except (OSError, sqlite3.Error) as error:
            self.remark = f"{self._file}: descriptions are not kept for the next time: {error}"
            self._database = _open(":memory:")
        self._known = {sha for (sha,) in self._database.execute("SELECT sha256 FROM descriptions")}

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
            self._insert(sha256, _pack(description))
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
                row = self._database.execute("SELECT packed FROM descriptions WHERE sha256 = ?", (sha256,)).fetchone()
            except sqlite3.Error as error:
                raise CallusError(
                    f"is damaged: {error}", where=self._file, hint="delete it; it is made anew"
                ) from error
            if row is None:
                raise KeyError(sha256)
            description = _unpack(row[0])
            self._remember(sha256, description)
            return description

    def close(self) -> None:
        """Save, and let go of the file."""
        with self._lock:
            self._save()
            self._database.close()

    def _remember(self, sha256: str, description: Description) -> None:
        self._at_hand[sha256] = description
        if len(self._at_hand) > _AT_HAND:
            self._at_hand.popitem(last=False)

    def _save(self) -> None:
        try:
            self._database.commit()
        except sqlite3.Error as error:
            self._leave(error)
        self._saved = time.monotonic()

    def _insert(self, sha256: str, packed: bytes) -> None:
        row = sha256, packed
        try:
            self._database.execute(_INSERT, row)
        except sqlite3.Error as error:
            self._leave(error)
            self._database.execute(_INSERT, row)

    def _leave(self, error: sqlite3.Error) -> None:
        """Go on in memory, with what can still be read."""
        self.remark = self.remark or f"{self._file}: descriptions are not kept for the next time: {error}"
        memory = _open(":memory:")
        memory.executemany(_INSERT, self._database.execute("SELECT sha256, packed FROM descriptions"))
        self._database.close()
        self._database = memory


def _open(name: str) -> sqlite3.Connection:
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
    except sqlite3.Error:
        database.close()
        raise
    return database


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
    height, width, rows, columns, places = _HEADER.unpack_from(packed)
    here = _HEADER.size
    thumbnail = np.frombuffer(packed, np.uint8, rows * columns, here).reshape(rows, columns)
    here += rows * columns
    points = np.frombuffer(packed, "<f4", places * 2, here).reshape(places, 2)
    here += places * 8
    descriptors = np.frombuffer(packed, np.uint8, places * LENGTH, here).reshape(places, LENGTH)
    return Description(thumbnail, points, descriptors, (height, width))
