"""A manifest without what spoils figures: one file a radiograph, no label conflicts, nothing unreadable.

Only the table gets shorter; no picture is touched or moved.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from callus.dataset.corners import filled_share
from callus.dataset.keypoints import describe
from callus.dataset.manifest import few, readable
from callus.dataset.originals import is_original
from callus.dataset.sources.names import original_stem
from callus.errors import CallusError, DatasetError
from callus.progress import track
from callus.radiograph import read

_WORST = 1.0
"""Filled share of a file that cannot be read any more: another copy is better."""
_LEAST_CANVAS = 0.3
"""Share of a turned copy's pixels that the original has at least: a limb of 1 to 4, turned by 45 degrees."""
_TRIED = 5
"""Smaller files of a radiograph, those with the least filled corners, that are laid over its largest."""


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
    (:func:`callus.dataset.corners.filled_share`, decoded only where it can decide); then the one with the fewest notes;
    then the first path. Filled corners do not make a file larger: one that was turned onto a larger canvas, and shows
    as much as a smaller one, counts as being of that one's size. Views of one study are different radiographs and all
    stay.

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
    first = worth.sort_values(["unlabelled", "smallness", "copy"], kind="stable").groupby(keys).head(1)
    best = first.set_axis(keys.loc[first.index]).reindex(keys).set_axis(worth.index)  # of each file's radiograph
    contest = (
        (worth["unlabelled"] == best["unlabelled"])
        & (worth["smallness"] <= _LEAST_CANVAS * best["smallness"])
        & (worth["copy"] <= best["copy"])
    )
    pictures = rows["sha256"].where(rows["sha256"] != "", rows["path"])[contest]
    differ = pictures.groupby(keys).transform("nunique") > 1  # files of equal bytes need no look
    shares = _filled_shares(rows.loc[differ.index[differ], "path"], threads)
    worth.loc[shares.index, "filled"] = shares
    by_size = ["unlabelled", "smallness", "copy", "filled", "notes", "path"]
    order = worth.sort_values(by_size, kind="stable")
    several = [copies for _, copies in order[order.index.isin(shares.index)].groupby(keys) if len(copies) > 1]
    asked = [
        (copies["path"].iloc[0], copies[copies["smallness"] > copies["smallness"].iloc[0]].nsmallest(_TRIED, "filled"))
        for copies in several
    ]
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for copies, original in zip(several, pool.map(_original_of, asked), strict=True):
            if original is not None:
                worth.loc[original, ["smallness", "filled"]] = copies["smallness"].iloc[0], -1.0
    return worth.sort_values(by_size, kind="stable")


def _original_of(asked: tuple[str, pd.DataFrame]) -> Any:
    """Give which of some smaller files (by ``path``) the largest is a turned copy of, on a larger canvas; or None."""
    path, smaller = asked
    if smaller.empty:
        return None
    try:
        largest = read(path).pixels
    except CallusError:
        return None
    described = describe(largest)
    for index, other in smaller["path"].items():
        try:
            pixels = read(other).pixels
        except CallusError:
            continue
        if is_original(describe(pixels), described, largest):
            return index
    return None


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
