"""What is too much: how large a file and a picture may be, and how a file's bytes are taken without trusting it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from callus.errors import PassingError, RadiographError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PIXELS: Final = 100_000_000
"""Width times height, as the header states it: checked before anything is decoded."""
MAX_WIDE_PIXELS: Final = 25_000_000
"""The same for DICOM's grey values of more than 16 bits, each of which is computed in 64."""
MAX_FILE_BYTES: Final = 512 * 1024 * 1024
"""A file's length, and what a deflated DICOM data set may inflate to."""
MAX_SIDE: Final = 65_535
"""JPEG's and DICOM's own limit on rows and columns."""
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EIO, errno.EINTR})


def load(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> bytes:
    """Take a file's bytes; a folder, a pipe, a device or too large a file is refused before any of it is read.

    Raises:
        RadiographError: there is no such file, it may not be read, it is no plain file, it is empty or too large.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    else:
        try:
            data = _load_file(os.fspath(source))
        except (OSError, ValueError) as error:
            raise _cannot_open(error) from error
    if not data:
        raise RadiographError("is empty (0 bytes); expected a radiograph", hint="copy the file again")
    if len(data) > MAX_FILE_BYTES:
        raise _file_too_large(len(data))
    return data


def check_size(width: int, height: int) -> None:
    """Refuse a picture whose header states no pixels or too many.

    Raises:
        RadiographError: a side is 0 or beyond 65,535, or there are more than 100 million pixels.
    """
    if width < 1 or height < 1:
        raise RadiographError(f"has no pixels: {width} x {height}; expected at least 1 x 1")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise RadiographError(
            f"is too large: {width:,} x {height:,} pixels; at most {MAX_PIXELS // 1_000_000} million"
            f" and {MAX_SIDE:,} a side are read",
            hint="reduce it, or check that the file is not hostile",
        )


def check_frame(count: int, frame: int | None) -> int:
    """Choose the frame to read, counted from 0.

    Raises:
        RadiographError: there are several and none is named, or the one named is not there.
    """
    if frame is None:
        if count == 1:
            return 0
        raise RadiographError(
            f"holds {count} frames; expected one radiograph", hint=f"name one: frame=0 to frame={count - 1}"
        )
    if not 0 <= frame < count:
        raise RadiographError(f"has no frame {frame}; it holds {count}, counted from 0")
    return frame


def one_line(words: object, longest: int = 200) -> str:
    """Make a decoder's message fit into one line of ours: no line breaks, no control characters, not endless."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(words)).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _load_file(path: str) -> bytes:
    # O_NONBLOCK: opening a pipe that nobody writes to must not hang; a plain file does not care.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(status.st_mode):
            raise RadiographError("is a pipe or a device; expected a plain file", hint="copy its content to a file")
        if status.st_size > MAX_FILE_BYTES:
            raise _file_too_large(status.st_size)
        # One byte more than allowed: the file may have grown since.
        return file.read(MAX_FILE_BYTES + 1)


def _cannot_open(error: OSError | ValueError) -> RadiographError:
    known: Iterable[tuple[type[Exception], str, str]] = (
        (FileNotFoundError, "there is no such file", "check the path"),
        (IsADirectoryError, "is a folder; expected a file", "give the files in it"),
        (NotADirectoryError, "there is no such file: a part of the path is a file", "check the path"),
        (PermissionError, "may not be read: permission denied", "give this user the right to read it"),
    )
    for kind, what, hint in known:
        if isinstance(error, kind):
            return RadiographError(what, hint=hint)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    passes = isinstance(error, OSError) and error.errno in _PASSING
    kind_of = PassingError if passes else RadiographError
    return kind_of(f"cannot be opened: {one_line(reason)}", hint="check the path and the disk")


def _file_too_large(size: int) -> RadiographError:
    return RadiographError(
        f"is too large: {size:,} bytes; at most {MAX_FILE_BYTES:,} are read", hint="a radiograph is rarely over 50 MB"
    )
