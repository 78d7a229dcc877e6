"""``audit.html``: what an audit found, in one file, with the pictures side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import pandas as pd

from callus.dataset.clean import counted
from callus.errors import RadiographError
from callus.labels import LABEL_NAMES
from callus.radiograph import read
from callus.report.pages import environment, without_controls
from callus.report.pictures import jpeg_uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from callus.dataset.audit import Audit

_SIDE: Final = 240
"""Longer side of a picture, pixels."""
_MOST: Final = 24
"""Sets of pictures in each section."""
_FILES: Final = 6
"""Pictures of each set; the rest is counted."""
_TYPICAL: Final = 40
"""Rows of a table before it is cut."""


@dataclass(frozen=True)
class Film:
    """A picture with what stands below it.

    Attributes:
        picture: a data URI; empty where the file cannot be read any more.
        path: below the data set's folder.
        label: in words; empty where unknown.
        split: its name; empty where in none.
    """

    picture: str
    path: str
    label: str
    split: str


@dataclass(frozen=True)
class Strip:
    """Files that show one radiograph.

    Attributes:
        title: what they have in common.
        films: some of them, each label and split among them.
        more: how many are not shown.
    """

    title: str
    films: tuple[Film, ...]
    more: int


def audit_page(result: Audit, name: str) -> str:
    """Make the page.

    Args:
        result: the audit.
        name: what was audited.
    """
    numbers = result.as_dict()
    by_path = {result.relative(path): number for number, path in enumerate(result.frame["path"])}
    leaks = [
        _strip(result, by_path, f"{leak.kind} {leak.name}", [path for paths in leak.paths.values() for path in paths])
        for leak in result.leaks[:_MOST]
    ]
    conflicts = [_strip(result, by_path, f"radiograph {name}", paths) for name, paths in result.conflicts[:_MOST]]
    return without_controls(
        environment()
        .get_template("audit.html")
        .render(
            title=f"Audit of {name}",
            numbers=numbers,
            summary=summary(numbers),
            leaks=leaks,
            conflicts=conflicts,
            shortcuts=_sentences(result),
            copies=[_strip(result, by_path, title, paths) for title, paths in _copied(result)],
            suspicious=[
                _strip(result, by_path, "; ".join(row["why"]), [row["path"]]) for row in numbers["suspicious"][:_MOST]
            ],
            with_text=_with_text(numbers),
            most=_TYPICAL,
        )
    )


def summary(numbers: dict[str, Any]) -> list[str]:
    """What was found, in sentences; the worst last."""
    read_files = numbers["files"] - len(numbers["unreadable"])
    told = [f"{counted(read_files, 'file')} that can be read show {counted(numbers['radiographs'], 'radiograph')}."]
    for split, sizes in numbers["splits"].items():
        if split and sizes["files"] != sizes["radiographs"]:
            told.append(
                f'"{split}" has {counted(sizes["files"], "file")}, but {counted(sizes["radiographs"], "radiograph")}.'
            )
    if numbers["leaks"]:
        told.append(f"{counted(len(numbers['leaks']), 'leak')}: figures measured on these splits are too good.")
    if numbers["label_conflicts"]:
        told.append(f"{counted(len(numbers['label_conflicts']), 'radiograph')} with both labels.")
    if numbers["suspicious"]:
        told.append(f"{counted(len(numbers['suspicious']), 'suspicious file')}.")
    if numbers["not_compared"]:
        told.append(f"{counted(len(numbers['not_compared']), 'file')} with too little detail to be compared.")
    if numbers["unreadable"]:
        told.append(f"{counted(len(numbers['unreadable']), 'file')} that cannot be read.")
    return told


def _sentences(result: Audit) -> list[str]:
    if result.shortcuts is None or result.nameless is None:
        return ["There are too few groups of each class to try."]
    told = result.shortcuts.sentence()
    without = result.nameless.sentence()
    return [
        f"{told[:1].upper()}{told[1:]}.",
        f"Without the numbers in the files' names, which no network sees: {without}.",
    ]


def _with_text(numbers: dict[str, Any]) -> list[dict[str, str]]:
    """Where text stands, a row a file."""
    places: dict[str, list[str]] = {}
    for row in numbers["burnt_in_text"]:
        places.setdefault(row["path"], []).append("{width} x {height} at ({x}, {y})".format(**row))
    return [{"path": path, "places": "; ".join(found)} for path, found in places.items()]


def _copied(result: Audit) -> list[tuple[str, list[str]]]:
    """Radiographs with several files, those with the most first."""
    frame = result.frame[result.frame["radiograph"] != ""]
    counts = frame["radiograph"].value_counts(sort=True)
    several = counts[counts > 1].head(_MOST)
    return [
        (f"radiograph {name}", sorted(map(result.relative, frame.loc[frame["radiograph"] == name, "path"])))
        for name in several.index
    ]


def _strip(result: Audit, by_path: dict[str, int], title: str, paths: list[str]) -> Strip:
    rows = result.frame.iloc[[by_path[path] for path in paths]].assign(told=paths)
    # One of each split and label first, so that what is wrong is seen.
    rows = rows.assign(turn=rows.groupby(["split", "label"], dropna=False).cumcount()).sort_values(
        ["turn", "split", "label", "told"]
    )
    shown = rows.head(_FILES)
    return Strip(title, tuple(_films(shown)), len(rows) - len(shown))


def _films(rows: pd.DataFrame) -> Iterable[Film]:
    for _, row in rows.iterrows():
        label = LABEL_NAMES[row["label"]] if pd.notna(row["label"]) else ""
        yield Film(_picture(row["path"]), row["told"], label, row["split"])


def _picture(path: str) -> str:
    try:
        seen = read(path)
    except RadiographError:
        return ""
    scale = min(1.0, _SIDE / max(seen.shape))
    size = max(1, round(seen.width * scale)), max(1, round(seen.height * scale))
    small = np.asarray(cv2.resize(seen.unit(), size, interpolation=cv2.INTER_AREA))
    return jpeg_uri((small * 255).astype(np.uint8))
