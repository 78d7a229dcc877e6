"""Zip archives from elsewhere, unpacked with care: no path outside, no links, nothing larger than it says."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from callus.errors import FetchError
from callus.progress import track

_MOST_FILES: Final = 1_000_000
_LEAST_ROOM: Final = 1 << 30
# Radiographs hardly shrink in a zip, text by ten: a hundred is an attack.
_MOST_RATIO: Final = 100
_CHUNK: Final = 1 << 20
_ENCRYPTED: Final = 0x1


class BrokenArchiveError(FetchError):
    """The archive itself is damaged: fetching it again may help."""


def unpack(archive: Path, folder: Path) -> int:
    """Unpack a zip archive into ``folder``, which exists.

    Returns:
        How many files came out of it.

    Raises:
        FetchError: it is no zip, is broken, or has members that are unsafe or too large.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check(members, archive, folder)
            for member in track(members, f"unpacking {archive.name}"):
                _extract(opened, member, folder / _safe(member, archive))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise BrokenArchiveError(f"is not a zip archive that can be unpacked: {error}", where=archive) from error
    return len(members)


def _check(members: list[zipfile.ZipInfo], archive: Path, folder: Path) -> None:
    if len(members) > _MOST_FILES:
        raise FetchError(f"holds {len(members):,} files, more than {_MOST_FILES:,}", where=archive)
    size = sum(member.file_size for member in members)
    bound = max(_LEAST_ROOM, _MOST_RATIO * archive.stat().st_size)
    if size > bound:
        raise FetchError(f"would unpack to {size:,} bytes, more than {bound:,}: a zip bomb", where=archive)
    room = shutil.disk_usage(folder).free
    if size > room:
        raise FetchError(
            f"unpacks to {size:,} bytes, the disk has {room:,} left", where=archive, hint="give --out on a larger disk"
        )
    for member in members:
        _safe(member, archive)


def _safe(member: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """Give the member's path; raise where it leads outside, is a link, or is encrypted."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    drive = ":" in (path.parts[0] if path.parts else "")
    if path.is_absolute() or ".." in path.parts or not path.parts or drive:
        raise FetchError(f"holds {member.filename!r}, which leads outside its folder", where=archive)
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise FetchError(f"holds {member.filename!r}, which is no regular file", where=archive)
    if member.flag_bits & _ENCRYPTED:
        raise FetchError(f"holds {member.filename!r}, which is encrypted", where=archive)
    return path


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with opened.open(member) as source, path.open("wb") as target:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise FetchError(f"{member.filename!r} is larger than the archive says", where=opened.filename)
            target.write(chunk)
