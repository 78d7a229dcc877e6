"""A table of one's own: a CSV with a column of files and a column of labels, and what else it tells."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from callus.dataset.files import parents
from callus.dataset.sources.csv_table import read_csv
from callus.dataset.sources.drawn import is_box
from callus.dataset.sources.labelled import missing_pictures, missing_remark
from callus.dataset.sources.names import UNDERSTOOD, is_nobody, key, region_name, split_name
from callus.dataset.sources.rows import Found, combine_labels, join_copies, row_from_path
from callus.errors import DatasetError
from callus.labels import FRACTURED, LABEL_NAMES, REGIONS

if TYPE_CHECKING:
    from pathlib import Path

    from callus.dataset.files import Listing
    from callus.dataset.sources.names import ClassNames
    from callus.dataset.sources.rows import Options, Row

FILE_COLUMNS: Final = ("path", "file", "image", "filename", "filepath", "imagepath", "imageid", "imagename", "name")
LABEL_COLUMNS: Final = ("label", "fractured", "fracture", "class", "target", "diagnosis", "y", "fracturevisible")
_OTHERS: Final[dict[str, tuple[str, ...]]] = {
    "radiograph": ("radiograph", "radiographid"),
    "study": ("study", "studyid", "studyuid", "accession", "exam", "examid"),
    "patient": ("patient", "patientid", "subject", "subjectid", "pid"),
    "region": ("region", "bodypart", "anatomy", "bone"),
    "view": ("view", "projection", "viewposition"),
    "split": ("split", "fold", "subset", "partition"),
    "boxes": ("boxes", "box", "bbox", "bboxes"),
}
_WHOSE: Final = ("radiograph", "study", "patient")
_MOST_PROBLEMS: Final = 5


@dataclass
class _Told:
    """What tables tell so far.

    Attributes:
        rows: by the picture's name.
        tables: the table that each of them stands in.
        problems: what is wrong in the tables, a line each.
        missing: files that are listed and not there.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def recognises(listing: Listing) -> bool:
    """Tell whether one CSV at the top has a column of files and one of labels, or one for each split."""
    return bool(_own_tables(listing))


def rows(listing: Listing, options: Options) -> Found:
    """Give one row a picture: what the tables tell, and no label for pictures that they do not list.

    Of several tables, one a split, each gives its pictures the split that it is named for, where no column tells one.

    Raises:
        DatasetError: no table, columns that are not understood, cells that are not (row and value are named), a picture
            in two tables, or none of the listed pictures is there.
    """
    own = [] if options.labels else _own_tables(listing)
    paths = [options.labels] if options.labels else [listing.root / name for name in own]
    if not paths:
        raise DatasetError(
            f"has {len(_at_top(listing))} tables with a column of files and one of labels",
            where=listing.root,
            hint="say which one: --labels FILE.csv",
        )
    told = _Told()
    for path in paths:
        _read(path, listing, options.names, told, split=_split_of(path.name) if len(paths) > 1 else "")
    if told.problems:
        more = f" and {len(told.problems) - _MOST_PROBLEMS} more" if len(told.problems) > _MOST_PROBLEMS else ""
        raise DatasetError(
            "; ".join(told.problems[:_MOST_PROBLEMS]) + more,
            where=listing.root if len(paths) > 1 else paths[0],
            hint="correct these rows",
        )
    names = ", ".join(path.name for path in paths)
    who = f"{names} lists" if len(paths) == 1 else f"{names} list"
    if not told.rows:
        raise missing_pictures(listing, told.missing, who)
    unlisted = [name for name in listing.pictures if name not in told.rows]
    found = Found([*told.rows.values(), *map(row_from_path, unlisted)], tables=own)
    join_copies(found.rows)
    found.remarks += missing_remark(told.missing, who)
    if unlisted:
        found.remarks.append(f"{len(unlisted):,} pictures are not in {names}: they have no label")
    return found


def usable_tables(listing: Listing) -> list[str]:
    """Give the CSVs that have a column of files and one of labels, the least deep first."""
    found = []
    for name in listing.with_ending(".csv", ".tsv"):
        try:
            with (listing.root / name).open("rb") as file:
                header = file.readline(1 << 16).decode("utf-8-sig", "replace")
        except OSError:
            continue
        keys = {key(cell) for cell in header.replace(";", ",").replace("\t", ",").split(",")}
        if keys & set(FILE_COLUMNS) and keys & set(LABEL_COLUMNS):
            found.append(name)
    return found


def _at_top(listing: Listing) -> list[str]:
    return [name for name in usable_tables(listing) if "/" not in name]


def _own_tables(listing: Listing) -> list[str]:
    """Give the tables that are read unasked: the only one at the top, or all there if each is named for its split."""
    names = _at_top(listing)
    splits = {_split_of(name) for name in names} - {""}
    return names if len(names) == 1 or len(names) == len(splits) else []


def _split_of(table: str) -> str:
    """Give the split that a table is named for: "train_labels.csv"; empty where its name tells none, or several."""
    splits = {split_name(word) for word in re.split(r"[\W_]+", table)} - {""}
    return splits.pop() if len(splits) == 1 else ""


def _split_folder(listing: Listing, split: str) -> str:
    """Give the folder at the top that is named for a split, where its table may name files from; empty without one."""
    tops = sorted({name.split("/")[0] for name in listing.pictures if "/" in name})
    return next((folder for folder in tops if split_name(folder) == split), "")


def _read(path: Path, listing: Listing, names: ClassNames, told: _Told, *, split: str) -> None:
    """Add what a table tells; ``split`` is that of its pictures where neither empty nor told by a column."""
    lines = read_csv(path)
    columns = _columns(path, list(lines[0]))
    near = _split_folder(listing, split) if split else _relative(path.parent, listing.root)
    for number, line in enumerate(lines, start=1):
        where = f"{path.name} row {number}" if split else f"row {number}"
        file = line[columns["file"]]
        name = listing.find(file, near)
        if name is None:
            told.missing.append(file or f"{where}: empty")
            continue
        if name in told.rows:
            other = "there a second time" if told.tables[name] == path.name else f"in {told.tables[name]} too"
            told.problems.append(f"{where}: {file!r} stands {other}")
            continue
        told.tables[name] = path.name
        row = told.rows[name] = row_from_path(name)
        row.split = split or row.split
        told.problems += [f"{where}: {text}" for text in _fill(row, line, columns, names)]
        _compare(row, names, path.name)


def _columns(path: Path, header: list[str]) -> dict[str, str]:
    """Give the header's name for each thing that the table tells; "file" and "label" have to be there."""
    by_key = {key(name): name for name in header}
    wanted = {"file": FILE_COLUMNS, "label": LABEL_COLUMNS, **_OTHERS}
    columns = {what: next((by_key[name] for name in names if name in by_key), "") for what, names in wanted.items()}
    lacking = [f"of {what}s (one of {', '.join(wanted[what])})" for what in ("file", "label") if not columns[what]]
    if lacking:
        raise DatasetError(f"has no column {' and none '.join(lacking)}; it has {', '.join(header)}", where=path)
    return {what: name for what, name in columns.items() if name}


def _fill(row: Row, line: dict[str, str], columns: dict[str, str], names: ClassNames) -> list[str]:
    """Fill a row from a line of the table; give what is wrong with it."""
    problems = []
    cell = line[columns["label"]]
    row.label = names.label(cell.removesuffix(".0"), weak=True) if cell else None
    if cell and row.label is None:
        problems.append(f"the label {cell!r} is not understood ({UNDERSTOOD})")
    cells = {what: line[name] for what, name in columns.items() if what not in ("file", "label") and line[name]}
    cells = {what: cell for what, cell in cells.items() if what not in _WHOSE or not is_nobody(cell)}
    if "radiograph" in cells:
        row.family = cells["radiograph"]
    row.study = cells.get("study", row.study)
    row.patient = cells.get("patient", row.patient)
    row.view = cells.get("view", row.view)
    if "split" in cells:
        row.split = split_name(cells["split"]) or cells["split"]
    if "region" in cells:
        row.region = "mixed" if key(cells["region"]) == "mixed" else region_name(cells["region"])
        if not row.region:
            problems.append(f"the region {cells['region']!r} is none of {', '.join(REGIONS)}")
    if "boxes" in cells:
        boxes = _boxes(cells["boxes"])
        if boxes is None:
            problems.append(f"the boxes {cells['boxes'][:40]!r} are not [[x, y, width, height], ...] in pixels")
        row.boxes = boxes or []
    return problems


def _compare(row: Row, names: ClassNames, table: str) -> None:
    """Hold the table's label against what it draws, which wins, and against the folder, over which the table wins."""
    listed = row.label
    if row.boxes:
        combine_labels(row, listed, FRACTURED, said_by=table)
    folder = _clear_label(row.name, names)
    if folder is not None and row.label is not None and folder != row.label:
        other = table if row.label == listed else "its boxes"
        row.disagree(f"the folder says {LABEL_NAMES[folder]}, {other} {LABEL_NAMES[row.label]} (taken)")


def _clear_label(name: str, names: ClassNames) -> int | None:
    """Give the label of the deepest folder that surely names a class, None where there is none.

    A folder "1" may be a patient's, and what is abnormal need not be a fracture.
    """
    for folder in parents(name):
        label = names.label(folder)
        if label is not None:
            return None if label == FRACTURED and key(folder).startswith("abnormal") else label
    return None


def _boxes(cell: str) -> list[list[float]] | None:
    """Read boxes as JSON, one or a list of them; None where they are not."""
    try:
        content: Any = json.loads(cell)
        if content and not isinstance(content[0], list):
            content = [content]
        boxes = [[float(number) for number in box] for box in content]
    except (ValueError, TypeError, KeyError):
        return None
    return boxes if all(map(is_box, boxes)) else None


def _relative(folder: Path, root: Path) -> str:
    """Give ``folder`` relative to ``root``, empty where it is not below it."""
    try:
        inner = folder.absolute().relative_to(root).as_posix()
    except ValueError:
        return ""
    return "" if inner == "." else inner
