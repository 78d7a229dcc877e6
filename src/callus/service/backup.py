"""A service's data in one file, taken while it runs; and put back."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import callus
from callus.atomic import whole_folder
from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DATABASE: Final = "callus.sqlite"
_CONTENTS: Final = "contents.json"
_VERSION: Final = 1
_PIECE: Final = 1 << 20
_PART: Final = ".part"


class BackupError(CallusError):
    """There is nothing to back up, or what was backed up cannot be restored."""


def back_up(data: Path, file: Path, advance: Callable[[], object] | None = None) -> int:
    """Write a service's data to one file, whole or not at all, readable by nobody else. The service may run.

    The database is as it was at one moment; files are those that it names. What is deleted meanwhile is left out.

    Args:
        data: the service's folder.
        file: the TAR file to write.
        advance: called after each file.

    Returns:
        How many files are in it.

    Raises:
        BackupError: the folder holds no service with a database of its own.
        CallusError: the file cannot be written.
    """
    if not (data / _DATABASE).is_file():
        raise BackupError(
            f"holds no {_DATABASE}",
            where=data,
            hint="a database on a server is backed up by its own means (pg_dump), then the folder's objects and models",
        )
    temporary = file.with_name(file.name + _PART)
    try:
        with tempfile.TemporaryDirectory(dir=data) as folder:
            copy = Path(folder) / _DATABASE
            _copy_database(data / _DATABASE, copy)
            hashes = _named(copy)
            temporary.unlink(missing_ok=True)
            temporary.touch(0o600)
            with temporary.open("wb") as opened, tarfile.open(fileobj=opened, mode="w") as archive:
                count = _write(archive, data, copy, hashes, advance)
            temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CallusError(f"cannot be written: {error.strerror or error}", where=file) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return count


def restore(file: Path, data: Path, advance: Callable[[], object] | None = None) -> int:
    """Put a backup back, whole or not at all; every file is checked.

    Args:
        file: from :func:`back_up`.
        data: the folder to make; it may not hold anything.
        advance: called after each file.

    Returns:
        How many files were in it.

    Raises:
        BackupError: it is no backup, it is damaged, or the folder is not empty.
        CallusError: the folder cannot be written.
    """
    if data.exists() and any(data.iterdir()):
        raise BackupError("is not empty", where=data, hint="restore into a new folder")
    try:
        with tarfile.open(file, "r:") as archive, whole_folder(data) as folder:
            count = _read(archive, folder, file, advance)
            folder.chmod(0o700)
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise BackupError("is no backup, or is damaged", where=file) from error
    data.chmod(0o700)
    return count


def count_of(file: Path) -> int | None:
    """How many files a backup holds, by its own word; None where it has none."""
    try:
        with tarfile.open(file, "r:") as archive:
            return len(_contents(archive))
    except (OSError, tarfile.TarError, KeyError, ValueError):
        return None


def _copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")


def _named(database: Path) -> Iterator[str]:
    """The hashes that the database names."""
    with closing(sqlite3.connect(database)) as opened:
        found = {sha256 for (sha256,) in opened.execute("SELECT sha256 FROM images")}
        for heat, results in opened.execute("SELECT map, results FROM answers"):
            found |= {heat, *json.loads(results).values()}
    return iter(sorted(found - {""}))


def _write(
    archive: tarfile.TarFile, data: Path, database: Path, hashes: Iterator[str], advance: Callable[[], object] | None
) -> int:
    files = {_DATABASE: database}
    models = data / "models"
    files |= {str(file.relative_to(data)): file for file in sorted(models.rglob("*")) if file.is_file()}
    checked = {name: _hash(file) for name, file in files.items()}
    objects = {f"objects/{sha256[:2]}/{sha256}": sha256 for sha256 in hashes}
    there = {name: sha256 for name, sha256 in objects.items() if (data / name).is_file()}
    _add(archive, _CONTENTS, json.dumps({"version": _VERSION, "callus": callus.__version__, "files": checked | there}))
    count = 0
    for name in (*files, *there):
        try:
            with (files.get(name) or data / name).open("rb") as opened:
                info = archive.gettarinfo(arcname=name, fileobj=opened)
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                archive.addfile(info, opened)
                count += 1
        except FileNotFoundError:  # a study was deleted meanwhile
            pass
        if advance is not None:
            advance()
    return count


def _read(archive: tarfile.TarFile, folder: Path, file: Path, advance: Callable[[], object] | None) -> int:
    wanted = _contents(archive)
    count = 0
    for member in archive:
        if member.name == _CONTENTS:
            continue
        source = archive.extractfile(member) if member.isreg() and member.name in wanted else None
        if source is None or not _is_inside(member.name):
            raise BackupError(f"holds what no backup holds: {member.name[:60]!r}", where=file)
        place = folder / member.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as opened:
            digest = _copy(source, opened)
        if digest != wanted[member.name]:
            raise BackupError(f"{member.name} in it is damaged", where=file, hint="take an older backup")
        count += 1
        if advance is not None:
            advance()
    if not (folder / _DATABASE).is_file():
        raise BackupError("is no backup", where=file)
    return count


def _contents(archive: tarfile.TarFile) -> dict[str, str]:
    first = archive.next()
    source = archive.extractfile(first) if first is not None and first.name == _CONTENTS else None
    told: Any = json.loads(source.read()) if source is not None else {}
    if not isinstance(told, dict) or told.get("version") != _VERSION:
        raise BackupError("is no backup of this version of callus")
    files: dict[str, str] = told["files"]
    return files


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in ("objects", "models", _DATABASE) and not {"", ".", ".."} & set(parts) and "\\" not in name


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(text.encode())
    archive.addfile(info, io.BytesIO(text.encode()))


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := source.read(_PIECE):
        digest.update(piece)
        target.write(piece)
    return digest.hexdigest()
