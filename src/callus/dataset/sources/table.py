"""A table of one's own: a CSV with a column of files and a column of labels, and what else it tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from callus.dataset.files import parents
from callus.dataset.sources.csv_table import read_csv
from callus.dataset.sources.drawn import is_box
from callus.dataset.sources.labelled import missing_pictures, missing_remark
from callus.dataset.sources.names import UNDERSTOOD, key, region_name, split_name
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
_MOST_PROBLEMS: Final = 5


def recognises(listing: Listing) -> bool:
    """Tell whether exactly one CSV at the top has a column of files and one of labels."""
    return len(_candidates(listing)) == 1


def rows(listing: Listing, options: Options) -> Found:
    """Give one row a picture: what the table tells, and no label for pictures that it does not list.

    Raises:
        DatasetError: no table, columns that are not understood, cells that are not (row and value are named), or none
            of the listed pictures is there.
    """
    path = options.labels or _only_table(listing)
    lines = read_csv(path)
    columns = _columns(path, list(lines[0]))
    near = _relative(path.parent, listing.root)
    by_name: dict[str, Row] = {}
    problems: list[str] = []
    missing: list[str] = []
    for number, line in enumerate(lines, start=1):
        file = line[columns["file"]]
        name = listing.find(file, near)
        if name is None:
            missing.append(file or f"row {number}: empty")
            continue
        if name in by_name:
            problems.append(f"row {number}: {file!r} stands there a second time")
            continue
        by_name[name] = row_from_path(name)
        problems += [f"row {number}: {text}" for text in _fill(by_name[name], line, columns, options.names)]
        _compare(by_name[name], options.names, path.name)
    if problems:
        more = f" and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise DatasetError("; ".join(problems[:_MOST_PROBLEMS]) + more, where=path, hint="correct these rows")
    if not by_name:
        raise missing_pictures(listing, missing, f"{path.name} lists")
    unlisted = [name for name in listing.pictures if name not in by_name]
    found = Found([*by_name.values(), *map(row_from_path, unlisted)])
    join_copies(found.rows)
    found.remarks += missing_remark(missing, f"{path.name} lists")
    if unlisted:
        found.remarks.append(f"{len(unlisted):,} pictures are not in {path.name}: they have no label")
    return found


def _candidates(listing: Listing) -> list[Path]:
    found = []
    for name in listing.with_ending(".csv", ".tsv"):
        if "/" in name:
            break
        try:
            with (listing.root / name).open("rb") as file:
                header = file.readline(1 << 16).decode("utf-8-sig", "replace")
        except OSError:
            continue
        keys = {key(cell) for cell in header.replace(";", ",").replace("\t", ",").split(",")}
        if keys & set(FILE_COLUMNS) and keys & set(LABEL_COLUMNS):
            found.append(listing.root / name)
    return found


def _only_table(listing: Listing) -> Path:
    found = _candidates(listing)
    if len(found) != 1:
        raise DatasetError(
            f"has {len(found)} tables with a column of files and one of labels",
            where=listing.root,
            hint="say which one: --labels FILE.csv",
        )
    return found[0]


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
