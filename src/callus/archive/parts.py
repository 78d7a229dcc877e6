"""A folder of Parquet part files: what one run or several have answered of an archive, each file once."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import callus
from callus.atomic import make_folder, whole_file
from callus.errors import CallusError
from callus.interrupts import ctrl_c_waits
from callus.labels import RESEARCH_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callus.bundle import Bundle

ROWS: Final = 1000
"""Rows of a part."""
SECONDS: Final = 60.0
"""After which a part is written although it has fewer rows: what a run that is killed has to do again."""
_NAME: Final = "part-{:05}.parquet"
_PARTS: Final = "part-*.parquet"
_UNFINISHED: Final = ".part-*.parquet.*.part"
_KEY: Final = b"callus"

SCHEMA: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("probability", pa.float64()),
        pa.field("level", pa.string()),
        pa.field(
            "boxes",
            pa.list_(pa.struct([(name, pa.float64()) for name in ("x", "y", "width", "height", "score")])),
            nullable=False,
        ),
        pa.field("cautions", pa.list_(pa.string()), nullable=False),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("error", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("bundle", pa.string(), nullable=False),
        pa.field("engine", pa.string()),
        pa.field("views", pa.list_(pa.string()), nullable=False),
        pa.field("distance", pa.float64()),
        pa.field("callus", pa.string(), nullable=False),
        pa.field("research_only", pa.string(), nullable=False),
    ]
)
"""The columns of a part: those of :data:`callus.results.tables.COLUMNS` but the picture, with ``sha256`` of the file's
bytes and ``bundle``, the digest of the model's bundle."""


class ArchiveError(CallusError):
    """A folder of parts does not fit what is asked of it."""


class Parts:
    """A folder of parts, and the rows that will be the next one. Make it with :func:`open_parts`.

    Attributes:
        answered: keys (:func:`file_key`) of the files that parts of earlier runs hold.
        before: how many rows parts of earlier runs hold.
        levels: how many files have which level, in all parts and in the rows that wait.
        failures: how many files failed, likewise.
    """

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.answered: set[str] = set()
        self.before = 0
        self.levels: Counter[str] = Counter()
        self.failures = 0
        self._folder = folder
        self._every = {"model": bundle.name, "bundle": bundle.digest}
        self._every |= {"callus": callus.__version__, "research_only": RESEARCH_ONLY}
        # Paths may be relative; with the folder that they start from, a run from elsewhere knows them again.
        about = json.dumps(self._every | {"folder": path_text(str(Path.cwd()))})
        self._schema = SCHEMA.with_metadata({_KEY: about})
        self._rows: list[dict[str, Any]] = []
        self._began = 0.0
        self._next = 0

    def add(self, row: dict[str, Any], sha256: str | None) -> None:
        """Take one file's answer, and write a part where that is due.

        Args:
            row: of :func:`callus.results.tables.as_row`.
            sha256: of the file's bytes; None where it could not be read.

        Raises:
            CallusError: the part cannot be written.
        """
        if not self._rows:
            self._began = time.monotonic()
        self._rows.append(row | self._every | {"sha256": sha256})
        self._count(row["level"], row["error"])
        if len(self._rows) >= ROWS or time.monotonic() - self._began >= SECONDS:
            self.write()

    def write(self) -> None:
        """Write the rows that wait as a part; none where none wait.

        Raises:
            CallusError: the part cannot be written; its files then are not answered.
        """
        with ctrl_c_waits():  # between a part's renaming and the next row's adding nothing may stop us
            rows, self._rows = self._rows, []
            if not rows:
                return
            table = pa.Table.from_pylist(rows, schema=self._schema)
            _write(table, self._folder / _NAME.format(self._next))
            self._next += 1

    def read(self, *, retry_failed: bool) -> None:
        """Take in what earlier runs have answered.

        Args:
            retry_failed: take the rows of files that failed out of their parts, so that these are answered again.

        Raises:
            ArchiveError: a part cannot be read, is none of ours, is a copy of another, or comes from another model.
        """
        files = sorted(self._folder.glob(_PARTS))
        numbers = [_number(file) for file in files]
        spoilt: list[Path] = []
        for file in files:
            table, about = _opened(file)
            if about["bundle"] != self._every["bundle"]:
                raise ArchiveError(
                    f"was answered by another model: {about['model']}, bundle {about['bundle'][:12]}, and not by"
                    f" {self._every['model']}, bundle {self._every['bundle'][:12]}",
                    where=file,
                    hint="give that model, or another folder",
                )
            kept = _without_failed(table) if retry_failed else table
            keys = {file_key(path, about["folder"]) for path in kept["path"].to_pylist()}
            if keys and keys <= self.answered:
                raise ArchiveError(
                    "answers only files that parts before it answer too: it looks like a copy of one",
                    where=file,
                    hint="move it away; who reads the folder would count its rows twice",
                )
            if len(kept) < len(table):
                spoilt.append(file)
            for level, error in zip(*(kept[name].to_pylist() for name in ("level", "error")), strict=True):
                self._count(level, error)
            self.answered |= keys
            self.before += len(kept)
        self._next = max(numbers, default=-1) + 1
        for file in spoilt:  # now that all of them are known to be right
            _write(_without_failed(_opened(file)[0]), file)

    def _count(self, level: str | None, error: str | None) -> None:
        if error is None:
            self.levels[str(level)] += 1
        else:
            self.failures += 1


@contextmanager
def open_parts(folder: Path, bundle: Bundle, *, resume: bool, retry_failed: bool = False) -> Iterator[Parts]:
    """Open a folder for the parts of one run; rows that wait are written when the block ends, also by Ctrl-C.

    Args:
        folder: is made where it is missing.
        bundle: the model's.
        resume: go on with what is there; else there must be no parts.
        retry_failed: with ``resume``, answer files again that failed.

    Raises:
        ArchiveError: the folder holds parts though ``resume`` is not wanted, or those of another model, or another
            run is writing to it.
        CallusError: the folder cannot be made, or a part not be written.
    """
    make_folder(folder)
    with _locked(folder):
        if not resume and any(folder.glob(_PARTS)):
            raise ArchiveError(
                "holds results already", where=folder, hint="go on with them by --resume, or give another folder"
            )
        for unfinished in folder.glob(_UNFINISHED):  # of a run that was killed while it wrote
            unfinished.unlink(missing_ok=True)
        parts = Parts(folder, bundle)
        parts.read(retry_failed=retry_failed)
        try:
            yield parts
        finally:
            parts.write()


def file_key(path: str, folder: str | None = None) -> str:
    """What a file is known by again: its absolute path, as text.

    Args:
        path: as it was named.
        folder: where a relative path starts; None for the working folder.
    """
    return path_text(os.path.normpath(os.path.join(folder or os.getcwd(), path)))  # noqa: PTH109, PTH118 - on 100,000 files


def _number(file: Path) -> int:
    """A part's number, by its name."""
    number = file.stem.partition("-")[2]
    if not number.isascii() or not number.isdecimal() or file.name != _NAME.format(int(number)):
        raise ArchiveError(
            f"is not named as a part is, {_NAME.format(0)}: it may be a copy of one",
            where=file,
            hint="move it away; who reads the folder would count its rows too",
        )
    return int(number)


def _without_failed(table: pa.Table) -> pa.Table:
    return table.filter(pc.is_null(table["error"]))


def _write(table: pa.Table, file: Path) -> None:
    with whole_file(file) as opened:
        pq.write_table(table, opened, compression="zstd")


def _opened(file: Path) -> tuple[pa.Table, dict[str, str]]:
    try:
        table = pq.read_table(file)
        about = json.loads((table.schema.metadata or {})[_KEY])
        about = {key: str(about[key]) for key in ("model", "bundle", "folder")}
        return table.select(SCHEMA.names), about
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's own are ValueErrors and KeyErrors
        raise ArchiveError(
            "is no part of an archive's results, or is damaged",
            where=file,
            hint="move it away; what it answered will be answered again",
        ) from error


def path_text(path: str) -> str:
    """A path as the tables write it: a byte that is not UTF-8 as its code after a backslash."""
    return path.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the system lets go of it whatever way the process ends."""
    try:
        import fcntl  # noqa: PLC0415 - Unix only
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network's file system may not lock folders
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ArchiveError(
                    "another run is writing its results here", where=folder, hint="wait for it, or give another folder"
                ) from error
        yield
    finally:
        os.close(handle)
