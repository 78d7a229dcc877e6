"""A service's data in one file, taken while it runs; and put back."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast

import callus
from callus.atomic import whole_folder
from callus.errors import CallusError
from callus.service.copying import elsewhere, name_in, place_for_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_DATABASE: Final = "callus.sqlite"
_BEGINNING, _END = "contents.json", "end.json"
_VERSION: Final = 2
_WITHOUT_END: Final = 1  # the version before, whose list may name studies that were deleted while it was written
_PIECE: Final = 1 << 20
_PART: Final = ".part"
_OLDER: Final = "take an older backup"
_ITS_OWN_MEANS: Final = (
    "a database on a server is backed up by its own means (pg_dump), then the folder's objects and models"
)


class BackupError(CallusError):
    """There is nothing to back up, or what was backed up cannot be restored."""


@dataclass(frozen=True)
class Backup:
    """What is in a backup.

    Attributes:
        count: files.
        doubtful: names of files that may not be what they were: written, those that were damaged on the disk already;
            restored, those that a backup of an earlier version lists and does not hold.
    """

    count: int
    doubtful: tuple[str, ...] = ()


def back_up(data: Path, file: Path, advance: Callable[[], object] | None = None) -> Backup:
    """Write a service's data to one file, whole or not at all, readable by nobody else. The service may run.

    The database is as it was at one moment; files are those that it names. What is deleted meanwhile is left out. The
    last thing in it is a list of what it holds, by which a damaged or a cut one is known.

    Args:
        data: the service's folder.
        file: the TAR file to write.
        advance: called after each file.

    Raises:
        BackupError: the folder holds no service with a database of its own, or the service has left that for another.
        CallusError: the file cannot be written, or another backup is being written.
    """
    if kind := elsewhere(data):  # what may lie in the folder as well is what was before
        raise BackupError(f"its service has its database elsewhere ({kind})", where=data, hint=_ITS_OWN_MEANS)
    if not (data / _DATABASE).is_file():
        raise BackupError(f"holds no {_DATABASE}", where=data, hint=_ITS_OWN_MEANS)
    temporary = file.with_name(file.name + _PART)
    try:
        with place_for_copy(data) as folder:
            copy = folder / _DATABASE
            _copy_database(data / _DATABASE, copy)
            _check_pair(copy, data)
            hashes = _named(copy)
            temporary.unlink(missing_ok=True)
            temporary.touch(0o600)
            with temporary.open("wb") as opened:
                with tarfile.open(fileobj=opened, mode="w") as archive:
                    made = _write(archive, data, copy, hashes, advance)
                opened.flush()
                os.fsync(opened.fileno())
            temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CallusError(f"cannot be written: {error.strerror or error}", where=file) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return made


def restore(file: Path, data: Path, advance: Callable[[], object] | None = None) -> Backup:
    """Put a backup back, whole or not at all; every file is checked, and that none is missing.

    Args:
        file: from :func:`back_up`.
        data: the folder to make; it may not hold anything.
        advance: called after each file.

    Raises:
        BackupError: it is no backup, it is damaged or cut, or the folder is not empty.
        CallusError: the folder cannot be written.
    """
    if data.exists() and any(data.iterdir()):
        raise BackupError("is not empty", where=data, hint="restore into a new folder")
    try:
        with tarfile.open(file, "r:") as archive, whole_folder(data) as folder:
            made = _read(archive, folder, file, advance)
            folder.chmod(0o700)
    except (OSError, tarfile.TarError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise BackupError("is no backup, or is damaged", where=file) from error
    data.chmod(0o700)
    return made


def count_of(file: Path) -> int | None:
    """How many files a backup holds, by its own word; None where it has none."""
    try:
        with tarfile.open(file, "r:") as archive:
            begun = _beginning(archive, file)
            return int(begun["count"]) if begun["version"] == _VERSION else len(begun["files"])
    except (OSError, tarfile.TarError, KeyError, ValueError, TypeError, BackupError):
        return None


def _copy_database(source: Path, target: Path) -> None:
    target.touch(0o600)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")


def _check_pair(database: Path, data: Path) -> None:
    """Refuse a database that was put into another service's folder: its radiographs are not there.

    Raises:
        BackupError: it was.
    """
    with closing(sqlite3.connect(database)) as opened:
        has_name = opened.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pair'").fetchone() == (1,)
        named = opened.execute("SELECT name FROM pair").fetchall() if has_name else []
    if named and name_in(data) not in (None, named[0][0]):
        raise BackupError(f"holds the {_DATABASE} of another folder", where=data, hint="put its own back")


def _named(database: Path) -> list[str]:
    """The hashes that the database names."""
    with closing(sqlite3.connect(database)) as opened:
        found = {sha256 for (sha256,) in opened.execute("SELECT sha256 FROM images")}
        for heat, results in opened.execute("SELECT map, results FROM answers"):
            found |= {heat, *json.loads(results).values()}
    return sorted(found - {""})


def _write(
    archive: tarfile.TarFile, data: Path, database: Path, hashes: list[str], advance: Callable[[], object] | None
) -> Backup:
    models = [str(file.relative_to(data)) for file in sorted((data / "models").rglob("*")) if file.is_file()]
    objects = {f"objects/{sha256[:2]}/{sha256}": sha256 for sha256 in hashes}
    names = (_DATABASE, *models, *(name for name in objects if (data / name).is_file()))
    _add(archive, _BEGINNING, {"version": _VERSION, "callus": callus.__version__, "count": len(names)})
    files: dict[str, dict[str, str | int]] = {}
    for name in names:
        try:
            with (database if name == _DATABASE else data / name).open("rb") as opened:
                info = archive.gettarinfo(arcname=name, fileobj=opened)
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                read = _Hashing(opened)
                archive.addfile(info, cast("IO[bytes]", read))
            files[name] = {"bytes": info.size, "sha256": read.digest.hexdigest()}
        except FileNotFoundError:  # a study was deleted meanwhile
            pass
        if advance is not None:
            advance()
    _add(archive, _END, {"files": files})
    damaged = (name for name, sha256 in objects.items() if name in files and files[name]["sha256"] != sha256)
    return Backup(len(files), tuple(damaged))


def _read(archive: tarfile.TarFile, folder: Path, file: Path, advance: Callable[[], object] | None) -> Backup:
    begun = _beginning(archive, file)
    has_end = begun["version"] == _VERSION
    found: dict[str, dict[str, str | int]] = {}
    listed: dict[str, dict[str, str | int]] | None = None
    for member in archive:
        if member.name == _BEGINNING and not found:
            continue
        source = archive.extractfile(member) if member.isreg() and listed is None else None
        if source is None or member.name in found:
            raise BackupError(f"holds what no backup holds: {member.name[:60]!r}", where=file)
        if has_end and member.name == _END:
            listed = json.loads(source.read())["files"]
            continue
        if not _is_inside(member.name):
            raise BackupError(f"holds what no backup holds: {member.name[:60]!r}", where=file)
        place = folder / member.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as opened:
            found[member.name] = {"bytes": member.size, "sha256": _copy(source, opened)}
        if advance is not None:
            advance()
    if _DATABASE not in found or not _ends(archive):
        raise BackupError("is cut, or damaged", where=file, hint=_OLDER)
    if has_end:
        _check_all(found, listed, file)
        return Backup(len(found))
    return Backup(len(found), _check_some(found, begun["files"], file))


def _check_all(found: Mapping[str, object], listed: Mapping[str, object] | None, file: Path) -> None:
    """Hold what is in a backup against its list.

    Raises:
        BackupError: they are not the same.
    """
    if listed is None:
        raise BackupError("is cut: its end is missing", where=file, hint=_OLDER)
    if wrong := sorted(name for name in found.keys() | listed.keys() if found.get(name) != listed.get(name)):
        raise BackupError(f"{wrong[0][:100]} in it is damaged or missing", where=file, hint=_OLDER)


def _check_some(found: Mapping[str, Mapping[str, str | int]], listed: Mapping[str, str], file: Path) -> tuple[str, ...]:
    """Hold what is in a backup of the version before against its list; what is listed and not there.

    Raises:
        BackupError: it holds something else than is listed.
    """
    for name, told in found.items():
        if listed.get(name) != told["sha256"]:
            raise BackupError(f"{name[:100]} in it is damaged", where=file, hint=_OLDER)
    return tuple(sorted(listed.keys() - found.keys()))


def _ends(archive: tarfile.TarFile) -> bool:
    """Whether a TAR ends as one does, by two empty blocks (POSIX), where tarfile took its end to be.

    It takes a damaged header for the end as well.
    """
    last = archive.getmembers()[-1]
    stream = cast("IO[bytes]", archive.fileobj)
    stream.seek(last.offset_data + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
    rest = stream.read(_PIECE)
    return len(rest) >= 2 * tarfile.BLOCKSIZE and not any(rest)


def _beginning(archive: tarfile.TarFile, file: Path) -> dict[str, Any]:
    first = archive.next()
    source = archive.extractfile(first) if first is not None and first.name == _BEGINNING else None
    told: Any = json.loads(source.read()) if source is not None else {}
    if not isinstance(told, dict) or told.get("version") not in (_VERSION, _WITHOUT_END):
        raise BackupError("is no backup that this version of callus reads", where=file)
    return told


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in ("objects", "models", _DATABASE) and not {"", ".", ".."} & set(parts) and "\\" not in name


def _add(archive: tarfile.TarFile, name: str, told: object) -> None:
    text = json.dumps(told).encode()
    info = tarfile.TarInfo(name)
    info.size = len(text)
    archive.addfile(info, io.BytesIO(text))


class _Hashing:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        self.digest.update(data)
        return data


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    read = _Hashing(source)
    while piece := read.read(_PIECE):
        target.write(piece)
    return read.digest.hexdigest()
