"""Files and folders that appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callus.errors import CallusError
from callus.interrupts import ctrl_c_waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO


def make_folder(folder: Path) -> None:
    """Make a folder for results, or say at once why it cannot be used.

    Raises:
        CallusError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CallusError(
            f"cannot be made: {error.strerror or error}", where=folder, hint="give a folder that is writable"
        ) from error


@contextmanager
def whole_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that takes its place when the block ends well.

    Args:
        path: where the file is to appear; its folder is made if missing.
        mode: "wb" or "w" (UTF-8).

    Raises:
        CallusError: the file cannot be written (no permission, disk full, a folder stands there).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a result is as readable as any file that the user makes.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` that takes its place (and replaces it) when the block ends well.

    Raises:
        CallusError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def whole_set(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Give a hidden place beside each result's own; when the block ends well, all of them take their places at once.

    So a folder holds the new one of two results beside the old one of the other only where a renaming fails, or the
    process is killed in between. Ctrl-C waits for the renaming.

    Args:
        folder: of the results, made if missing; what else lies there stays.
        names: of the results. The block has to write every one.

    Yields:
        By name where to write it.

    Raises:
        CallusError: the folder cannot be made, or a result cannot take its place.
    """
    make_folder(folder)
    token = secrets.token_hex(4)
    places = {name: folder / f".{token}.{name}" for name in names}
    try:
        yield places
        with ctrl_c_waits():
            for name, place in places.items():
                place.replace(folder / name)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        for place in places.values():
            place.unlink(missing_ok=True)


def check_place(folder: Path, names: Sequence[str]) -> None:
    """Say before long work that its results cannot be written; nothing is left behind.

    Args:
        folder: where they are to be; may be missing.
        names: of the results.

    Raises:
        CallusError: nothing can be made there, or a folder stands where a result is to be.
    """
    place = folder
    try:
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryDirectory(prefix=".callus.", dir=place):
            pass
        if taken := next((name for name in names if (folder / name).is_dir()), None):
            raise IsADirectoryError(errno.EISDIR, f"{taken!r} is a folder")
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _umask() -> int:
    """Read the process's umask (POSIX has no way to read it but to set it)."""
    current = os.umask(0)
    os.umask(current)
    return current


def _cannot_write(path: Path, error: OSError) -> CallusError:
    return CallusError(
        f"cannot be written: {error.strerror or error}",
        where=path,
        hint="give a place that is writable and has room",
    )
