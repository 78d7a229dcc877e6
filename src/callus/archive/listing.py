"""Which files are meant by paths: those that are named, and those that folders hold."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callus.errors import CallusError, RadiographError
from callus.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NO_PICTURES: Final = (
    ".txt", ".json", ".csv", ".tsv", ".md", ".html", ".htm", ".xml", ".yaml", ".yml", ".toml", ".log",
    ".py", ".ipynb", ".sh", ".js", ".css", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".parquet", ".db",
    ".sqlite", ".zip", ".gz", ".tar", ".bz2", ".xz", ".7z", ".rar", ".onnx", ".bin", ".callus", ".h5",
    ".pt", ".pth", ".npy", ".npz", ".pkl", ".safetensors", ".mp4", ".avi", ".mov", ".nii", ".md5", ".sha256",
    ".part",
)  # fmt: skip
"""Endings that are passed over in folders. A file without an ending is tried: DICOM often has none."""
NO_PICTURE_NAMES: Final = ("dicomdir", "thumbs.db", "license", "readme", "makefile")
_OURS: Final = re.compile(r"\.callus-(sr|sc|pr)\.dcm$")
"""What ``--dicom`` wrote before into a folder that is walked: a picture of a finding is no radiograph."""
_SHOWN_EVERY: Final = 1000

Failed = list[tuple[str, CallusError]]
"""Paths that cannot be used, with the reason."""


@dataclass(frozen=True)
class Input:
    """A file to identify.

    Attributes:
        path: as it is opened and shown.
        name: where its picture goes below ``--out``, with the file's own ending.
    """

    path: Path
    name: Path


def gather(paths: list[Path], *results: Path | None) -> tuple[list[Input], Failed]:
    """List the files that paths mean, each once, and the paths that cannot be used with the reason.

    Args:
        paths: files and folders.
        results: folders of results, which are not walked.
    """
    failed: Failed = []
    return list(_found(paths, results, failed)), _once(failed)


def list_files(paths: list[Path], *results: Path | None) -> tuple[list[str], Failed]:
    """List the same files as :func:`gather`, in a quarter of the memory: 100,000 keep some 15 MB."""
    failed: Failed = []
    files = []
    with progress("listing files", None) as advance:
        for item in _found(paths, results, failed):
            files.append(str(item.path))
            if len(files) % _SHOWN_EVERY == 0:
                advance(_SHOWN_EVERY)
    return files, _once(failed)


def _found(paths: list[Path], results: Iterable[Path | None], failed: Failed) -> Iterator[Input]:
    """Each file once; ``failed`` is added to."""
    skipped = {folder.resolve() for folder in results if folder is not None}
    seen: set[str] = set()
    for path in paths:
        try:
            if path.is_dir():
                before, empty = len(failed), True
                files = _walk(path, skipped, failed)
                for file in files:
                    empty = False
                    yield from _unseen(file, seen)
                if empty and len(failed) == before and len(paths) > 1:
                    failed.append((str(path), RadiographError("holds no radiographs", where=path)))
            else:  # one that is missing says so when it is read
                yield from _unseen(Input(path, Path(path.name)), seen)
        except OSError as error:
            failed.append((str(path), _unreadable(path, error)))


def _unseen(file: Input, seen: set[str]) -> Iterator[Input]:
    key = os.path.abspath(file.path)  # noqa: PTH100 - pathlib keeps ".."
    if key not in seen:
        seen.add(key)
        yield file


def _once(failed: Failed) -> Failed:
    return list({os.path.normpath(name): (name, error) for name, error in failed}.values())  # paths may overlap


def _walk(folder: Path, skipped: set[Path], failed: Failed) -> Iterator[Input]:
    def refuse(error: OSError) -> None:
        failed.append((str(error.filename), _unreadable(Path(error.filename), error)))

    for place, folders, files in os.walk(folder, onerror=refuse):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (not skipped or (here / name).resolve() not in skipped)
        )
        for name in sorted(files):
            if not name.startswith(".") and not _is_no_picture(name) and not _OURS.search(name):
                yield Input(here / name, (here / name).relative_to(folder))


def _is_no_picture(name: str) -> bool:
    small = name.lower()
    return small in NO_PICTURE_NAMES or small.endswith(NO_PICTURES)


def _unreadable(path: Path, error: OSError) -> RadiographError:
    return RadiographError(f"cannot be read: {error.strerror or error}", where=path, hint="check its permissions")
