"""What lies in a folder: which files are pictures, and what could not be looked at, by name."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURE_ENDINGS: Final = frozenset(
    ".png .jpg .jpeg .jpe .jfif .tif .tiff .webp .dcm .dicom .bmp .gif .jp2 .j2k .jpx .jxl .avif .heic .pgm "  # noqa: SIM905
    ".ppm".split()
)
"""Of these the ones that callus cannot read are rows that say so: a picture is never skipped in silence."""
OTHER_ENDINGS: Final = frozenset(
    ".csv .tsv .json .jsonl .txt .xml .yaml .yml .toml .ini .cfg .md .rst .html .htm .css .js .py .ipynb .pdf .doc "  # noqa: SIM905
    ".docx .xls .xlsx .ppt .pptx .zip .gz .tgz .tar .7z .rar .xz .bz2 .parquet .feather .npy .npz .pkl .pt .pth .h5 "
    ".hdf5 .onnx .safetensors .db .sqlite .log .bak .tmp .part .lock .sh .bat .exe .mat .names .data .cache .gsheet "
    ".lnk .url .license .licence .sum .md5 .sha1 .sha256 .callus".split()
)
"""Endings of files that are known to be no pictures; anything else is judged by its first bytes."""
_OTHER_NAMES: Final = frozenset({"thumbs.db", "desktop.ini", "dicomdir", "readme", "license", "licence", "makefile"})
_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM", b"GIF8", b"\x00\x00\x00\x0cjP")
_DICOM_PREAMBLE: Final = 128
_MOST_HASHED: Final = 1 << 30  # bytes
# The groups that a DICOM file without preamble begins with: file meta information, then identification.
_DICOM_STARTS: Final = (b"\x02\x00\x00\x00", b"\x02\x00\x01\x00", b"\x08\x00\x00\x00", b"\x08\x00\x05\x00")


@dataclass(frozen=True)
class Listing:
    """The files of a folder, without the hidden ones.

    Attributes:
        root: the folder, absolute; links in its name are kept.
        names: every regular file (and every broken link) below it, relative, with forward slashes, sorted.
        remarks: what was left out, one line each.
    """

    root: Path
    names: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    _by_name: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """The names that are pictures, by ending or by content."""
        return tuple(name for name in self.names if is_picture(self.root / name))

    @cached_property
    def picture_set(self) -> frozenset[str]:
        """The same, to look a name up."""
        return frozenset(self.pictures)

    def with_ending(self, *endings: str) -> list[str]:
        """Give the names that end in one of ``endings`` (".csv"), the least deep first."""
        found = [name for name in self.names if name.lower().endswith(endings)]
        return sorted(found, key=lambda name: (name.count("/"), name))

    def named(self, name: str) -> list[str]:
        """Give the files called ``name`` in whatever folder, the least deep first."""
        found = [path for path in self.names if path.rpartition("/")[2] == name]
        return sorted(found, key=lambda path: (path.count("/"), path))

    def find(self, name: str, near: str = "") -> str | None:
        """Find the picture that a label file means by ``name``.

        It may be absolute, relative to ``near`` (the label file's folder) or to the root, or only the end of a path,
        with or without the ending of the file.

        Raises:
            DatasetError: several pictures fit.
        """
        wanted = name.strip().replace("\\", "/")
        if wanted.startswith(f"{self.root.as_posix()}/"):
            wanted = wanted[len(self.root.as_posix()) + 1 :]
        wanted = os.path.normpath(wanted) if wanted else ""
        if wanted in ("", "."):
            return None
        beside = os.path.normpath(f"{near}/{wanted}") if near else wanted
        for candidate in (beside, wanted):
            if candidate in self.picture_set:
                return candidate
        return self._find_by_end(wanted, near, name)

    def _find_by_end(self, wanted: str, near: str, name: str) -> str | None:
        if not self._by_name:
            for picture in self.pictures:
                base = PurePosixPath(picture)
                for key in {base.name.casefold(), base.stem.casefold()}:
                    self._by_name.setdefault(key, []).append(picture)
        parts = PurePosixPath(wanted).parts
        found = self._by_name.get(parts[-1].casefold(), [])
        for keep in (len(parts) - 1, len(parts) - 2, 0):  # the longest end of the path that fits decides
            if len(found) <= 1 or keep < 0:
                break
            ends = [
                path for path in found if keep and PurePosixPath(path).parts[-keep - 1 : -1] == parts[-keep - 1 : -1]
            ]
            found = ends or found
        if len(found) > 1 and near:
            found = [path for path in found if path.startswith(f"{near}/")] or found
        if len(found) > 1:  # A.png and a.png
            found = [
                path for path in found if parts[-1] in (PurePosixPath(path).name, PurePosixPath(path).stem)
            ] or found
        if len(found) > 1:
            raise DatasetError(
                f"{name!r} may mean {len(found)} files: {', '.join(found[:3])}",
                where=self.root,
                hint="give more of the path",
            )
        return found[0] if found else None


def list_files(folder: Path) -> Listing:
    """List a folder with everything below it; links to folders are followed after all real folders, loops are not.

    Raises:
        DatasetError: the folder is missing, is no folder, cannot be read, or its name is not UTF-8.
    """
    root = Path(os.path.abspath(folder))  # noqa: PTH100 - the name is wanted, not where a link leads
    if not is_folder(root):
        raise DatasetError(
            "is not a folder" if root.exists() else "there is no such folder",
            where=folder,
            hint="give the folder that holds the radiographs",
        )
    check_nameable(root)
    remarks: list[str] = []
    names: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending, links = [""], deque[str]()
    # Links last, of the whole tree: what lies in "train" is not to be met as "test/all" first, another split.
    while pending or links:
        inner = pending.pop() if pending else links.popleft()
        try:
            here = (root / inner).stat()
            if (here.st_dev, here.st_ino) in seen:
                remarks.append(f"{inner}: leads to a folder that is listed already, not followed")
                continue
            seen.add((here.st_dev, here.st_ino))
            listed = _list_one(root, inner)
        except OSError as error:
            if not inner:
                raise DatasetError(
                    f"cannot be read: {error.strerror}", where=folder, hint="allow yourself to read it (chmod u+rx)"
                ) from error
            remarks.append(f"{inner}: folder cannot be read: {error.strerror}")
            continue
        names += listed.names
        remarks += listed.remarks
        pending += sorted(listed.folders, reverse=True)
        links += sorted(listed.links)
    return Listing(root=root, names=tuple(sorted(names)), remarks=tuple(sorted(remarks)))


def is_folder(path: Path) -> bool:
    """Tell whether ``path`` is a folder.

    Raises:
        DatasetError: nobody can say, because a folder around it may not be entered.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise DatasetError(
            f"cannot be looked at: {error.strerror}", where=path, hint="allow yourself to enter the folders around it"
        ) from error


def check_nameable(root: Path) -> None:
    """Refuse a folder that no manifest can name; files of such names are remarks.

    Raises:
        DatasetError: its name, or that of a folder around it, is not UTF-8.
    """
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise DatasetError(
            "the folder's name is not UTF-8: no manifest can name its files",
            where=repr(os.fsencode(root)),
            hint="rename it, or lead to it by a symbolic link",
        ) from error


@dataclass
class _Listed:
    """What lies in one folder: files, real folders, links to folders, and what is to be told."""

    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def _list_one(root: Path, inner: str) -> _Listed:
    """List one folder.

    Raises:
        OSError: it cannot be read. What is wrong with a single entry is a remark.
    """
    found = _Listed()
    with os.scandir(root / inner) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            name = f"{inner}/{entry.name}" if inner else entry.name
            try:
                name.encode()
            except UnicodeEncodeError:
                found.remarks.append(f"{os.fsencode(name)!r}: the name is not UTF-8, left out; rename it")
                continue
            try:
                _sort_in(root, name, entry, found)
            except OSError as error:
                # A link to itself, or into a folder that may not be entered: a picture is a row that says so.
                if is_named_as_picture(name):
                    found.names.append(name)
                else:
                    found.remarks.append(f"{name}: cannot be looked at: {error.strerror}")
    return found


def _sort_in(root: Path, name: str, entry: os.DirEntry[str], found: _Listed) -> None:
    if entry.is_dir():
        (found.links if entry.is_symlink() else found.folders).append(name)
    elif entry.is_file() or (entry.is_symlink() and not (root / name).exists()):
        found.names.append(name)
    elif is_named_as_picture(name):
        found.remarks.append(f"{name}: is not a regular file ({_kind(root / name)}), left out")


def is_named_as_picture(name: str) -> bool:
    """Tell whether a file's ending says that it is a picture."""
    return PurePosixPath(name).suffix.lower() in PICTURE_ENDINGS


def is_picture(path: Path) -> bool:
    """Tell whether a file is a picture: by its ending, and where that is not known by its first bytes.

    One that cannot be opened may be a DICOM file without ending: it counts, so that it is a row that says why.
    """
    ending = path.suffix.lower()
    if ending in PICTURE_ENDINGS:
        return True
    if ending in OTHER_ENDINGS or path.name.lower() in _OTHER_NAMES:
        return False
    try:
        with path.open("rb") as file:
            start = file.read(_DICOM_PREAMBLE + 4)
    except OSError:
        return True
    return (
        start.startswith((*_MAGIC, *_DICOM_STARTS))
        or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")
        or start[_DICOM_PREAMBLE:] == b"DICM"
    )


def file_sha256(path: str) -> str:
    """Give the SHA-256 of a file's bytes, hex; empty where they cannot be read or are more than 1 GiB."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if os.fstat(file.fileno()).st_size > _MOST_HASHED:
                return ""
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def read_text(path: Path, most: int = 1 << 30) -> str:
    """Read a label file as UTF-8 (with or without byte order mark), else as Latin-1.

    Raises:
        DatasetError: it cannot be read or is larger than ``most`` bytes.
    """
    try:
        size = path.stat().st_size
        if size > most:
            raise DatasetError(f"has {size:,} bytes, more than {most:,}", where=path, hint="is this the label file?")
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", where=path) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def parents(name: str) -> Iterator[str]:
    """Give the folders of a relative name, the deepest first."""
    yield from reversed(name.split("/")[:-1])


def stem(name: str) -> str:
    """Give a relative name without its folders and its ending."""
    return PurePosixPath(name).stem


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    for test, kind in ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a device")):
        if test(mode):
            return kind
    return "a device"
