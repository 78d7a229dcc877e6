"""What a bundle's files lie in, a folder or a zip, opened with distrust: both may come from anybody."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from contextlib import contextmanager
from io import FileIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Protocol

from callus.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

MOST_FILES = 256
MOST_BYTES = 1 << 30
"""ResNet152V2 takes 300 MB with int8; to hash this much takes a second or two."""
_MOST_ENTRIES = 2 * MOST_FILES  # with the folders that they lie in
MOST_RATIO = 200
"""Weights hardly shrink and text shrinks tenfold; a bomb is made of ratios of a thousand."""
RATIO_FROM = 1 << 20
"""Below one MiB a ratio harms nobody."""
LARGEST_DIRECTORY = 1 << 20
"""Bytes of a zip's directory, 4 KiB a file. Python makes objects of all of it before they can be counted."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How entries may be packed. Other decoders raise errors of their own; LZMA's takes as much memory as an entry asks."""


class Container(Protocol):
    """Named files, read only.

    Attributes:
        where: the folder or the zip file.
        sizes: bytes of each file, by its name with forward slashes.
    """

    where: Path
    sizes: dict[str, int]

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file by its name."""


def container(where: Path) -> Container:
    """Open a folder or a zip.

    Raises:
        BundleError: neither, unreadable, too large, or with a path that leaves it.
    """
    try:
        return Folder(where) if where.is_dir() else Archive(where)
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror or error}", where=where) from error


def unsafe(name: str) -> str:
    """Say why a name may not stand in a bundle; empty where it may."""
    if not name or name != name.strip() or not name.isprintable():
        return "is no plain file name"
    if "\\" in name or ":" in name or name.startswith("/"):
        return "is not a path relative to the bundle with forward slashes"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "leaves the bundle"
    return ""


def not_a_name(name: str, where: Path) -> BundleError:
    """Make the error for a name that :func:`unsafe` refuses."""
    return BundleError(f"the file name {name[:100]!r} {unsafe(name)}", where=where, hint="do not trust this bundle")


class Folder:
    """Files in a folder, without links."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.sizes: dict[str, int] = {}
        for path in _walk(where):
            kind = path.lstat()
            name = PurePosixPath(path.relative_to(where)).as_posix()
            if not stat.S_ISREG(kind.st_mode):
                raise BundleError(
                    f"{name} is a link or no plain file; a bundle holds plain files only",
                    where=where,
                    hint="copy the bundle with its links resolved, or do not trust it",
                )
            if unsafe(name):
                raise not_a_name(name, where)
            self.sizes[name] = kind.st_size
            _check_bounds(self.sizes, where)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file by its name; a link that has come since is not followed."""
        with os.fdopen(os.open(self.where / name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            yield file


class _Source(FileIO):
    """A zip's bytes; while ``most`` is set, no more are given at once.

    ``zipfile`` reads the directory in one go, however long its end says that it is.
    """

    most: int | None = LARGEST_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to so many bytes; all that are left where none or a negative number is given."""
        if self.most is not None:
            left = os.fstat(self.fileno()).st_size - self.tell()
            if (left if size is None or size < 0 else min(size, left)) > self.most:
                raise zipfile.BadZipFile(f"its directory has more than {self.most:,} bytes")
        return super().read(size)


class Archive:
    """Files in a zip, bounded by what its directory declares (the reader stops there and checks the CRC)."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.sizes: dict[str, int] = {}
        if not stat.S_ISREG(where.stat().st_mode):  # to open a pipe would wait for whoever writes to it
            raise BundleError("is neither a file nor a folder", where=where, hint="expected a bundle")
        with self._zip() as archive:
            entries = archive.infolist()
        if len(entries) > MOST_FILES:
            raise BundleError(f"holds {len(entries)} files; at most {MOST_FILES} are read", where=where)
        for entry in entries:
            if not entry.filename or not entry.is_dir():  # Python 3.11 looks at the last letter of a name that has none
                self._take(entry)
        _check_bounds(self.sizes, where)

    def _take(self, entry: zipfile.ZipInfo) -> None:
        name = entry.filename
        if unsafe(name):
            raise not_a_name(name, self.where)
        if name in self.sizes:
            raise BundleError(f"{name} stands in it twice; expected once", where=self.where)
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise BundleError(f"{name} is a link or no plain file; a bundle holds plain files only", where=self.where)
        if entry.flag_bits & 1:
            raise BundleError(f"{name} is encrypted; expected plain files", where=self.where)
        if entry.file_size > RATIO_FROM and entry.file_size > MOST_RATIO * max(1, entry.compress_size):
            raise BundleError(
                f"{name} unpacks to {entry.file_size:,} bytes from {entry.compress_size:,}; "
                f"at most {MOST_RATIO} times is read",
                where=self.where,
                hint="this is no ordinary bundle; do not trust it",
            )
        self.sizes[name] = entry.file_size

    @contextmanager
    def _zip(self) -> Iterator[zipfile.ZipFile]:
        try:
            with _Source(self.where) as file, zipfile.ZipFile(file) as archive:
                file.most = None
                for entry in archive.infolist():
                    if entry.compress_type not in _METHODS:
                        raise BundleError(
                            f"{entry.filename[:100]!r} is packed by method {entry.compress_type}; expected stored or"
                            " deflated",
                            where=self.where,
                            hint="callus packs no such bundle; do not trust it",
                        )
                yield archive
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, zlib.error) as error:
            raise BundleError(
                f"is not a readable bundle: {_one_line(error)}",
                where=self.where,
                hint="expected a bundle's folder, a .callus file or a run folder",
            ) from error

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file by its name."""
        with self._zip() as archive, archive.open(name) as file:
            yield file


def read_whole(files: Container, name: str) -> bytes:
    """All of a file, and no more than it was said to have: it may have grown since.

    Raises:
        BundleError: it has.
    """
    most = files.sizes[name]
    with files.open(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BundleError(f"{name} is longer than {most:,} bytes", where=files.where)
    return data


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is no folder; links are given, not followed.

    Raises:
        BundleError: there is too much; folders count too, which a hostile one nests deeper than Python calls itself.
    """
    waiting, met = [folder], 0
    while waiting:
        with os.scandir(waiting.pop()) as found:
            entries = sorted(islice(found, _MOST_ENTRIES + 1), key=lambda entry: entry.name)
        for entry in entries:
            met += 1
            if met > _MOST_ENTRIES:
                what = f"holds more than {_MOST_ENTRIES} files and folders"
                raise BundleError(what, where=folder, hint="give the bundle's own folder")
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            else:
                yield Path(entry.path)


def _check_bounds(sizes: dict[str, int], where: Path) -> None:
    if len(sizes) > MOST_FILES:
        raise BundleError(f"holds more than {MOST_FILES} files", where=where, hint="give the bundle's own folder")
    if sum(sizes.values()) > MOST_BYTES:
        raise BundleError(f"holds more than {MOST_BYTES >> 30} GiB", where=where, hint="this is no ordinary bundle")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
