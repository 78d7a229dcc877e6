"""Which database a service's folder goes with, and where a backup's copy of its own lies while it is written."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

ELSEWHERE: Final = "database-elsewhere"
"""The file in a service's folder that tells what kind of database it has instead of its own."""
NAMED: Final = "objects/pair"
"""The file that keeps the name of the database's; beside a dump of that the folder's objects are copied, so it too."""
_FOLDER: Final = "backup"
_BEFORE: Final = "tmp????????"  # where it lay until 2026-11-29
_DATABASE: Final = "callus.sqlite"
_FORGOTTEN: Final = 86_400.0  # seconds after which such a one is nobody's any more


def is_own(data: Path, url: URL) -> bool:
    """Whether a database is the one that lies in a service's folder."""
    return url.get_backend_name() == "sqlite" and Path(url.database or "").resolve() == (data / _DATABASE).resolve()


def note_database(data: Path, url: URL) -> None:
    """Leave word in a service's folder where its database is, for a backup, which is told of nothing but the folder.

    Args:
        data: the folder.
        url: the database that the service has opened.

    Raises:
        OSError: it cannot be written.
    """
    if is_own(data, url):
        (data / ELSEWHERE).unlink(missing_ok=True)
    else:
        (data / ELSEWHERE).write_text(f"{url.get_backend_name()}\n", encoding="ascii")  # no address, no password


def elsewhere(data: Path) -> str:
    """The kind of database that a service uses in place of the one in its folder, such as "postgresql"; "" for none."""
    try:
        return (data / ELSEWHERE).read_text(encoding="ascii", errors="replace").strip()[:40]
    except FileNotFoundError:
        return ""


def name_in(data: Path) -> str | None:
    """The name that a service's folder keeps, as its database does; None where it has none yet."""
    try:
        return (data / NAMED).read_text(encoding="ascii", errors="replace").strip()[:32]
    except FileNotFoundError:
        return None


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
