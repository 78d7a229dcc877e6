"""What came and what was made of it, on the disk: a file a content, named by its SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LENGTH: Final = 64
_FORGOTTEN: Final = 3600.0  # seconds after which an unfinished or unnamed file is nobody's any more


class FullError(CallusError):
    """The disk has no room for another file."""


class ObjectStore:
    """Files by their content, below one folder. Threads and processes may share it.

    A file appears whole, by rename, and is on the disk (fsync, its folder too) when ``put`` returns.
    """

    def __init__(self, folder: Path, keep_free: int) -> None:
        """Open it.

        Args:
            folder: it is made where it is missing.
            keep_free: bytes of the disk that are never written to.

        Raises:
            CallusError: the folder cannot be made.
        """
        self.folder = folder
        self._incoming = folder / "incoming"
        self._keep_free = keep_free
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            if not (folder / "ff").exists():  # the last: all at once, so that no file has to wait for its folder
                for number in range(256):
                    (folder / f"{number:02x}").mkdir(exist_ok=True)
                sync(folder)
        except OSError as error:
            raise CallusError(f"cannot be made: {error.strerror or error}", where=folder) from error

    def put(self, data: bytes) -> str:
        """Keep some bytes.

        Returns:
            Their SHA-256, hex.

        Raises:
            FullError: there is no room; nothing is left of them.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        place = self.path(sha256)
        with keeping(self.folder), suppress(FileNotFoundError):
            os.utime(place)  # younger than what is swept
            sync(place.parent)  # who put it may not have come that far, or the disk was full just then
            return sha256
        if not self.has_room(len(data)):
            raise FullError("the disk is full", where=self.folder, hint="make room")
        with keeping(self.folder):
            handle, name = tempfile.mkstemp(dir=self._incoming)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if not place.parent.exists():
                    place.parent.mkdir(exist_ok=True)
                    sync(self.folder)
                Path(name).replace(place)
                sync(place.parent)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes of a SHA-256.

        Raises:
            CallusError: they are not there, or are not what they were.
        """
        try:
            data = self.path(sha256).read_bytes()
        except OSError as error:
            raise CallusError("is not kept any more", where=sha256[:12]) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CallusError("is damaged on the disk", where=sha256[:12], hint="restore it from a backup")
        return data

    def keep(self, sha256: str, data: bytes) -> None:
        """Have bytes there that were put before, in the transaction that names them: deleting may have come between.

        Raises:
            FullError: there is no room.
        """
        if not self.path(sha256).exists():
            self.put(data)

    def path(self, sha256: str) -> Path:
        """Where the bytes of a SHA-256 are, whether they are there or not.

        Raises:
            CallusError: it is no SHA-256.
        """
        if len(sha256) != _LENGTH or not set(sha256) <= set("0123456789abcdef"):
            raise CallusError("is no SHA-256")
        return self.folder / sha256[:2] / sha256

    def delete(self, sha256: str) -> None:
        """Forget the bytes of a SHA-256; that they are not there is no error."""
        self.path(sha256).unlink(missing_ok=True)

    def has_room(self, count: int = 0) -> bool:
        """Whether so many bytes fit beside what has to stay free."""
        return shutil.disk_usage(self.folder).free - count >= self._keep_free

    def sweep(self, is_known: Callable[[str], bool], goes_on: Callable[[], bool] = lambda: True) -> int:
        """Delete what a crash left: unfinished files, and whole ones that no row of the database names.

        Args:
            is_known: whether a SHA-256 is named. It is asked only of files that have been there for an hour.
            goes_on: whether nobody waits for this to end; there may be a million files.

        Returns:
            How many were deleted.
        """
        before, count = time.time() - _FORGOTTEN, 0
        for file in self.folder.glob("*/*"):
            if not goes_on():
                break
            with suppress(OSError):  # another process may delete it first
                if file.stat().st_mtime > before:
                    continue
                if file.parent == self._incoming or not is_known(file.name):
                    file.unlink()
                    count += 1
        return count


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Have it told as :class:`FullError` where the disk does not take what is written in the block.

    Raises:
        FullError: it does not.
    """
    try:
        yield
    except OSError as error:
        raise FullError(f"cannot be kept: {error.strerror or error}", where=folder) from error


def sync(folder: Path) -> None:
    """Have a folder's entries on the disk.

    Raises:
        OSError: it cannot be had.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
