"""Where a backup's copy of the database lies while it is written, and that none stays that was left there."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER: Final = "backup"
_BEFORE: Final = "tmp????????"  # where it lay until 2026-11-29
_DATABASE: Final = "callus.sqlite"
_FORGOTTEN: Final = 86_400.0  # seconds after which such a one is nobody's any more


@contextmanager
def place_for_copy(data: Path) -> Iterator[Path]:
    """A private folder within a service's, emptied before and after, also of what one left that was killed.

    Args:
        data: the service's folder.

    Raises:
        CallusError: another backup is being written.
        OSError: it cannot be made.
    """
    folder = data / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = _held(folder)
    if handle is None:
        raise CallusError("is being backed up already", where=data, hint="wait until that is done")
    try:
        _empty(folder)
        yield folder
    finally:
        _empty(folder)
        os.close(handle)


def clear_copies(data: Path) -> None:
    """Delete what a backup that was killed has left in a service's folder; one that is being written is let be.

    Raises:
        OSError: it cannot be deleted.
    """
    before = time.time() - _FORGOTTEN
    for left in data.glob(_BEFORE):
        is_copy = left.is_dir() and not left.is_symlink() and all(_DATABASE in one.name for one in left.iterdir())
        if is_copy and left.stat().st_mtime < before:
            shutil.rmtree(left)
    folder = data / _FOLDER
    if not folder.is_dir() or (handle := _held(folder)) is None:
        return
    try:
        _empty(folder)
    finally:
        os.close(handle)


def _held(folder: Path) -> int | None:
    """A folder's lock, which goes when the process ends, however it ends; None where another has it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _empty(folder: Path) -> None:
    for one in folder.iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()
