"""A manifest without what spoils figures: one file a radiograph, no label conflicts, nothing unreadable.

Only the table gets shorter; no picture is touched or moved.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from callus.dataset.corners import filled_share
from callus.dataset.manifest import few, readable
from callus.dataset.sources.names import original_stem
from callus.errors import CallusError, DatasetError
from callus.progress import track
from callus.radiograph import read

_WORST = 1.0
"""Filled share of a file that cannot be read any more: another copy is better."""


@dataclass(frozen=True)
class Left:
    """What :func:`clean` left out: rows of the manifest that it was given; no row is in two of them.

    Attributes:
        unreadable: files that cannot be read.
        conflicts: files of radiographs that have both labels.
        copies: files of radiographs of which a better file is kept.
    """

    unreadable: pd.DataFrame
    conflicts: pd.DataFrame
    copies: pd.DataFrame

    def lines(self) -> list[str]:
        """What to tell people, a line a reason: how many files, and the names of the first few."""
        told = _unreadable_lines(self.unreadable["path"]) + conflict_lines(self.conflicts)
        if len(self.copies):
            count, of = counted(len(self.copies), "file"), counted(radiograph_keys(self.copies).nunique(), "radiograph")
            told.append(f"{count} beside a better one of {of}: {_names(self.copies['path'])}")
        return told


def radiograph_keys(frame: pd.DataFrame) -> pd.Series[str]:
    """Give which picture each file shows: ``radiograph``, or where empty its SHA-256 or path."""
    keys = frame["radiograph"]
    for name in ("sha256", "path"):
        keys = keys.where(keys != "", frame[name])
    return keys


def label_conflicts(frame: pd.DataFrame) -> pd.Series[bool]:
    """Tell for each row whether its radiograph has both labels: fractured by one file, not fractured by another.

    All files of such a radiograph are told, those without a label too. Nobody can say which label is right, so
    splitting, training and cleaning leave them out.
    """
    labels: pd.Series[int] = frame["label"].groupby(radiograph_keys(frame)).transform("nunique")
    return labels > 1


def set_aside(frame: pd.DataFrame) -> list[str]:
    """Say which files no split takes and why, a line a reason, with how many and the first few names."""
    is_readable, conflicts = readable(frame), label_conflicts(frame)
    told = _unreadable_lines(frame.loc[~is_readable, "path"]) + conflict_lines(frame[is_readable & conflicts])
    unknown = frame.loc[is_readable & ~conflicts & frame["label"].isna(), "path"]
    if len(unknown):
        told.append(f"{counted(len(unknown), 'file')} without a label: {_names(unknown)}")
    return told


def clean(frame: pd.DataFrame, threads: int | None = None) -> tuple[pd.DataFrame, Left]:
    """Give a manifest of one file a radiograph, and what was left out of it.

    Files that cannot be read go first, then all files of a radiograph with both labels. Of the files of one radiograph
    the best is kept: one with a label before one without; then the one with the most pixels; then one whose name does
    not say that it is a copy ("-rotated1"); then the one with the smallest share of filled corners
    (:func:`callus.dataset.corners.filled_share`, decoded only where files are equal so far); then the one with the
    fewest notes; then the first path. Views of one study are different radiographs and all stay.

    Args:
        frame: a manifest; it is not changed.
        threads: that read pictures; None: one a core.

    Returns:
        The rows that are kept, as they are (``split`` too), numbered anew; and what was left out.

    Raises:
        DatasetError: nothing would be left.
    """
    is_readable, conflicts = readable(frame), label_conflicts(frame)
    rows = frame[is_readable & ~conflicts]
    if rows.empty:
        raise DatasetError(
            f"nothing is left of {counted(len(frame), 'file')}: {int((~is_readable).sum()):,} cannot be read, "
            f"{int((is_readable & conflicts).sum()):,} are of radiographs with both labels",
            hint="correct the labels, or give another manifest",
        )
    keys = radiograph_keys(rows)
    best = _best_first(rows, keys, threads)
    kept = rows.index.isin(best.index[~keys.loc[best.index].duplicated()])
    left = Left(unreadable=frame[~is_readable], conflicts=frame[is_readable & conflicts], copies=rows[~kept])
    given = rows[kept].reset_index(drop=True)
    given.attrs = dict(frame.attrs)
    return given, left


def conflict_lines(rows: pd.DataFrame) -> list[str]:
    """Say in one line that these files are of radiographs with both labels; nothing where there are none."""
    if rows.empty:
        return []
    radiographs = counted(radiograph_keys(rows).nunique(), "radiograph")
    return [f"{counted(len(rows), 'file')} of {radiographs} with both labels: {_names(rows['path'])}"]


def _unreadable_lines(paths: pd.Series[str]) -> list[str]:
    return [f"{counted(len(paths), 'file')} that cannot be read: {_names(paths)}"] if len(paths) else []


def counted(count: int, what: str) -> str:
    """Give "1 file", "2 files"."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _best_first(rows: pd.DataFrame, keys: pd.Series[str], threads: int | None) -> pd.DataFrame:
    """Give what the files are judged by; the best file of each radiograph stands before its others."""
    worth = pd.DataFrame(
        {
            "unlabelled": rows["label"].isna(),
            "smallness": -(rows["width"].astype("Int64") * rows["height"].astype("Int64")).fillna(0).astype("int64"),
            "copy": [original_stem(Path(path).stem) != Path(path).stem for path in rows["path"]],
            "filled": 0.0,
            "notes": [note.count(";") + 1 if note else 0 for note in rows["note"]],
            "path": rows["path"],
        }
    )
    level = worth.groupby(["unlabelled", "smallness", "copy"]).ngroup()  # numbered in their order: 0 is the best
    leading = level == level.groupby(keys).transform("min")
    pictures = rows["sha256"].where(rows["sha256"] != "", rows["path"])[leading]
    differ = pictures.groupby(keys).transform("nunique") > 1  # files of equal bytes need no look
    shares = _filled_shares(rows.loc[differ.index[differ], "path"], threads)
    worth.loc[shares.index, "filled"] = shares
    return worth.assign(level=level).sort_values(["level", "filled", "notes", "path"], kind="stable")


def _filled_shares(paths: pd.Series[str], threads: int | None) -> pd.Series[float]:
    def measure(path: str) -> float:
        try:
            return filled_share(read(path).pixels)
        except CallusError:
            return _WORST

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        shares = list(track(pool.map(measure, paths), "comparing copies", len(paths)))
    return pd.Series(shares, index=paths.index, dtype="float64")


def _names(paths: pd.Series[str]) -> str:
    """The first few files by their names, with the folder that tells copies of one name apart."""
    return few([str(Path(*Path(path).parts[-2:])) for path in paths], 3)
