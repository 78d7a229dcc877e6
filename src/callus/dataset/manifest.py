"""The manifest: one table, one row a file; what it shows, whose it is, and which part of the data it belongs to.

In memory it is a pandas frame with the columns ``COLUMNS``; on disk Parquet, or CSV where the file's name ends so
(boxes and polygons are JSON there). Paths below the manifest's own folder are stored relative to it, so that a folder
that is moved with its manifest keeps working.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from callus.atomic import whole_file
from callus.dataset.columns import COLUMNS, DISAGREES, UNREADABLE, conform
from callus.dataset.files import check_nameable
from callus.errors import DatasetError
from callus.labels import FRACTURED, LABEL_NAMES, NOT_FRACTURED

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "COLUMNS",
    "UNREADABLE",
    "check_trainable",
    "conform",
    "digest",
    "disagreeing",
    "few",
    "group_keys",
    "read_manifest",
    "readable",
    "usable",
    "write_manifest",
]

VERSION: Final = 1
_MARK: Final = b"callus manifest"
_AUDITED: Final = b"callus audited"
_NESTED: Final = pa.list_(pa.list_(pa.float64()))
_TYPES: Final[dict[str, pa.DataType]] = {
    "label": pa.int8(),
    "width": pa.int32(),
    "height": pa.int32(),
    "hardware": pa.bool_(),
    "boxes": _NESTED,
    "polygons": _NESTED,
}
SCHEMA: Final = pa.schema(
    [(name, _TYPES.get(name, pa.string())) for name in COLUMNS],
    metadata={_MARK: f"version {VERSION}".encode()},
)
_ENDINGS: Final = (".parquet", ".csv")


def read_manifest(path: Path) -> pd.DataFrame:
    """Read and check a manifest.

    Args:
        path: a ``.parquet`` or ``.csv`` file that ``write_manifest`` wrote, or one of the same columns.

    Returns:
        The frame with the dtypes of ``callus.dataset.columns``; ``path`` is absolute. ``attrs["audited"]`` tells
        whether copies were sought in it by their pixels; of CSV, which cannot keep that, it is None.

    Raises:
        DatasetError: the file is missing or is no manifest (every problem is named at once), or its folder's name is
            not UTF-8.
    """
    path = Path(path)
    folder = os.path.abspath(path.parent)  # noqa: PTH100 - the name is wanted, not where a link leads
    check_nameable(Path(folder))
    frame = _read_table(path)
    audited = frame.attrs.get("audited")
    problems = _column_problems(frame)
    if not problems:
        frame = conform(frame, problems)
        if frame.empty:
            problems.append("it has no rows")
    if problems:
        raise DatasetError("is not a manifest: " + "; ".join(problems), where=path, hint=_table_hint(problems))
    frame["path"] = [os.path.normpath(os.path.join(folder, name)) for name in frame["path"]]  # noqa: PTH118
    frame["path"] = frame["path"].astype("str")
    doubled = frame.loc[frame["path"].duplicated(), "path"]
    if len(doubled):
        raise DatasetError(
            f"{len(doubled)} paths stand there more than once: {few(doubled)}",
            where=path,
            hint="keep one row a file",
        )
    frame.attrs["audited"] = audited
    return frame


def write_manifest(frame: pd.DataFrame, path: Path) -> None:
    """Write ``frame`` whole, as Parquet or (name ending in .csv) CSV.

    Args:
        frame: the columns ``COLUMNS``; other columns are refused.
        path: where; paths below its folder are stored relative to it.

    Raises:
        DatasetError: the frame is no manifest, or the ending is neither .parquet nor .csv.
        CallusError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise DatasetError(
            f"a manifest's name ends in .parquet or .csv, not in {path.suffix!r}", where=path, hint="name it so"
        )
    problems = _column_problems(frame)
    if not problems:
        frame = conform(frame, problems)
    if problems:
        raise DatasetError("this is not a manifest: " + "; ".join(problems), where=path)
    frame["path"] = _stored_paths(frame["path"], path.parent)
    if path.suffix.lower() == ".csv":
        for name in ("boxes", "polygons"):
            frame[name] = [json.dumps(cell) if cell else "" for cell in frame[name]]
        with whole_file(path, "w") as file:
            frame.to_csv(file, index=False, lineterminator="\n")
        return
    marks = {_AUDITED: b"yes"} if frame.attrs.get("audited") else {}
    table = pa.Table.from_arrays(
        [pa.array(frame[field.name], type=field.type, from_pandas=True) for field in SCHEMA],
        schema=SCHEMA.with_metadata({**SCHEMA.metadata, **marks}),
    )
    with whole_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def readable(frame: pd.DataFrame) -> pd.Series[bool]:
    """Tell for each row whether its file could be read."""
    return ~frame["note"].str.startswith(UNREADABLE)


def disagreeing(frame: pd.DataFrame) -> pd.Series[bool]:
    """Tell for each row whether folder, label file and drawing say different things of its file."""
    return frame["note"].str.contains(rf"(?:^|; ){DISAGREES}", regex=True)


def usable(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the rows that have a label and could be read, in their order, with their index."""
    return frame[frame["label"].notna() & readable(frame)]


def group_keys(frame: pd.DataFrame) -> pd.Series[str]:
    """Give what must not cross a split, for every row: ``group``, or where empty radiograph, SHA-256 or path."""
    keys = frame["group"]
    for name in ("radiograph", "sha256", "path"):
        keys = keys.where(keys != "", frame[name])
    return keys


def digest(frame: pd.DataFrame) -> str:
    """Give the SHA-256 of the content, as hex: every column but ``path``, rows in their order.

    The pictures stand in it by their own SHA-256, so that a data set that is moved keeps its digest.
    """
    hasher = hashlib.sha256()
    for name in COLUMNS:
        if name == "path":
            continue
        values = frame[name]
        if name in ("boxes", "polygons"):
            cells = [json.dumps([[float(number) for number in shape] for shape in cell]) for cell in values]
        else:
            cells = ["" if pd.isna(value) else str(value) for value in values]
        hasher.update(f"{name}\x1d".encode() + "\x1e".join(cells).encode("utf-8", "surrogatepass") + b"\x1c")
    return hasher.hexdigest()


def check_trainable(frame: pd.DataFrame, *, least_groups: int = 2) -> None:
    """Raise where nothing can be learnt from ``frame``, saying why.

    Args:
        frame: a manifest.
        least_groups: how many groups each class needs at least (2: one to learn from and one to judge by).

    Raises:
        DatasetError: no readable file has a label, only one class is there, or a class has too few groups.
    """
    rows = usable(frame)
    if rows.empty:
        unread = int((~readable(frame)).sum())
        raise DatasetError(
            f"none of the {len(frame)} files has a label and can be read ({unread} cannot be read)",
            hint="give class folders (fractured, not fractured) or a label file",
        )
    groups = group_keys(rows)
    for label in (FRACTURED, NOT_FRACTURED):
        of_class = rows["label"] == label
        if not of_class.any():
            raise DatasetError(
                f"there is only one class: all {len(rows)} files are {LABEL_NAMES[1 - label]}, none is "
                f"{LABEL_NAMES[label]}",
                hint="both are needed to tell them apart",
            )
        count = groups[of_class].nunique()
        if count < least_groups:
            raise DatasetError(
                f"the {int(of_class.sum())} files that are {LABEL_NAMES[label]} come from {count} "
                f"group{'' if count == 1 else 's'} (a patient, or copies of one radiograph), "
                f"at least {least_groups} are needed",
                hint="add radiographs of other patients",
            )


def few(names: Sequence[str] | pd.Series[str], most: int = 5) -> str:
    """List the first few of ``names`` and say how many more there are."""
    shown = [str(name) for name in list(names)[:most]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def _read_table(path: Path) -> pd.DataFrame:
    """Read the file as it is, without a check of its content."""
    if not path.is_file():
        raise DatasetError(
            "there is no such manifest" if not path.exists() else "is not a file",
            where=path,
            hint="make one with: callus data manifest FOLDER --out manifest.parquet",
        )
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(
                io.StringIO(path.read_bytes().decode("utf-8-sig")), dtype="str", keep_default_na=False, na_values=[]
            )
        table = pq.read_table(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DatasetError(
            f"cannot be read as a manifest: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=path,
            hint="a manifest is a .parquet or .csv file",
        ) from error
    version = (table.schema.metadata or {}).get(_MARK, b"version 1").decode("ascii", "replace")
    if version != f"version {VERSION}":
        raise DatasetError(f"is a manifest of {version}, this callus reads version {VERSION}", where=path)
    frame: pd.DataFrame = table.to_pandas()
    frame.attrs["audited"] = _AUDITED in (table.schema.metadata or {})
    return frame


def _column_problems(frame: pd.DataFrame) -> list[str]:
    names = [str(name) for name in frame.columns]
    problems = []
    if missing := [name for name in COLUMNS if name not in names]:
        problems.append(f"columns are missing: {', '.join(missing)}")
    if unknown := [name for name in names if name not in COLUMNS]:
        problems.append(f"columns are unknown: {few(unknown)}")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"columns stand there twice: {', '.join(doubled)}")
    return problems


def _table_hint(problems: list[str]) -> str:
    if any(problem.startswith("columns") for problem in problems):
        return "a table of your own is read by: callus data manifest FOLDER --labels FILE --out manifest.parquet"
    return "correct these rows"


def _stored_paths(paths: pd.Series[Any], folder: Path) -> list[str]:
    """Give the paths as they are stored: relative to ``folder`` where they lie below it, else absolute."""
    root = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118 - fast, and links stay links
    stored = []
    for path in paths:
        whole = os.path.normpath(os.path.abspath(path))  # noqa: PTH100
        stored.append(whole[len(root) :].replace(os.sep, "/") if whole.startswith(root) else whole)
    return stored
