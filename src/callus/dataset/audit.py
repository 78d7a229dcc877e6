"""What a data set really holds: how many radiographs its files show, what leaks, what contradicts itself.

The manifest's ``radiograph`` is given anew, from pixels alone: files that were found to show the same one share it.
What names, studies, patients and number blocks say stays in ``group``, joined with it: so a copy that could not be
verified still cannot cross a split.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import pandas as pd

import callus
from callus import radiograph
from callus.dataset.clean import label_conflicts
from callus.dataset.columns import UNREADABLE
from callus.dataset.duplicates import describe_all_ways, find_duplicates
from callus.dataset.file_features import FEATURES, file_features
from callus.dataset.groups import components
from callus.dataset.manifest import digest, disagreeing, readable
from callus.dataset.shortcuts import probe
from callus.dataset.suspicious import Suspicion, suspect
from callus.errors import RadiographError
from callus.labels import FRACTURED, LABEL_NAMES, RESEARCH_ONLY
from callus.memory import keep_freed_memory
from callus.progress import progress
from callus.workers import WORTH_PROCESSES, spread_over_processes, spread_over_threads

if TYPE_CHECKING:
    from callus.dataset.duplicates import Duplicates
    from callus.dataset.keypoints import Description
    from callus.dataset.shelf import Shelf
    from callus.dataset.shortcuts import Shortcuts

SCHEMA: Final = 1
"""Of ``audit.json``."""
_CROSSING: Final = ("radiograph", "study", "patient")
_NAMES: Final = tuple(name for name, family in FEATURES.items() if family == "file-name number")


@dataclass(frozen=True)
class Leak:
    """Something that stands in more than one split.

    Attributes:
        kind: "radiograph", "study" or "patient".
        name: which.
        paths: the files, by split.
    """

    kind: str
    name: str
    paths: dict[str, list[str]]


@dataclass(frozen=True)
class Audit:
    """What was found in a data set.

    Attributes:
        root: the folder that holds all of its files; paths are told relative to it.
        frame: the manifest with ``radiograph`` and ``group`` given anew.
        duplicates: which files show the same radiograph, and how that was found.
        leaks: what crosses splits; a study or patient only where that is not told by a radiograph already.
        conflicts: (radiograph, paths) of those with both labels.
        shortcuts: how well the label can be told from the files alone; None where there are too few groups of a class.
        nameless: the same without the number in the files' names, which no network sees.
        suspicions: what is odd about a file, by its path; only files of which something is.
        remarks: what is to be known about the whole, a line each.
    """

    root: str
    frame: pd.DataFrame
    duplicates: Duplicates
    leaks: tuple[Leak, ...]
    conflicts: tuple[tuple[str, list[str]], ...]
    shortcuts: Shortcuts | None
    nameless: Shortcuts | None
    suspicions: dict[str, Suspicion]
    remarks: tuple[str, ...]

    def relative(self, path: str) -> str:
        """A path as it is told."""
        return os.path.relpath(path, self.root).replace(os.sep, "/")

    def sizes(self) -> dict[str, dict[str, int]]:
        """How large each split is ("" for files in none); ``fractured`` counts radiographs."""
        rows = self.frame[readable(self.frame)]
        table = {}
        for split, part in rows.groupby("split"):
            table[str(split)] = {
                "files": len(part),
                "radiographs": part["radiograph"].nunique(),
                "groups": part["group"].nunique(),
                "fractured": part.loc[part["label"] == FRACTURED, "radiograph"].nunique(),
            }
        return table

    def unreadable(self) -> list[dict[str, str]]:
        """The files that cannot be read, with the reason."""
        rows = self.frame[~readable(self.frame)]
        return [
            {"path": self.relative(path), "reason": note.removeprefix(UNREADABLE)}
            for path, note in zip(rows["path"], rows["note"], strict=True)
        ]

    def disagreements(self) -> list[dict[str, str]]:
        """The files of which folder, label file and drawing say different things."""
        rows = self.frame[disagreeing(self.frame)]
        return [
            {"path": self.relative(path), "note": note} for path, note in zip(rows["path"], rows["note"], strict=True)
        ]

    def suspicious(self) -> list[dict[str, Any]]:
        """The files that may be no plain radiographs, with the reasons."""
        return [
            {"path": self.relative(path), "why": list(suspicion.why)}
            for path, suspicion in self.suspicions.items()
            if suspicion.why
        ]

    def burnt_in(self) -> list[dict[str, Any]]:
        """Where text stands in pictures that may name somebody; not what it says."""
        return [
            {"path": self.relative(path), "x": mark.x, "y": mark.y, "width": mark.width, "height": mark.height}
            for path, suspicion in self.suspicions.items()
            for mark in suspicion.marks
            if mark.kind == "text"
        ]

    def copies(self) -> dict[str, int]:
        """How many files show a radiograph that another shows too: counted without the first of each."""
        kinds = [link.kind for link in self.duplicates.links]
        return {kind: kinds.count(kind) for kind in ("byte_equal", "near", "rotated")}

    def as_dict(self) -> dict[str, Any]:
        """``audit.json``, as docs/audit.md describes it."""
        frame = self.frame[readable(self.frame)]
        return {
            "schema": SCHEMA,
            "callus": callus.__version__,
            "research_only": RESEARCH_ONLY,
            "manifest": digest(self.frame),
            "files": len(self.frame),
            "unreadable": self.unreadable(),
            "radiographs": frame["radiograph"].nunique(),
            "groups": frame["group"].nunique(),
            "splits": self.sizes(),
            "leaks": [{leak.kind: leak.name, "paths": leak.paths} for leak in self.leaks],
            "label_conflicts": [{"radiograph": name, "paths": paths} for name, paths in self.conflicts],
            "disagreements": self.disagreements(),
            "duplicates": self.copies(),
            "shortcuts": None if self.shortcuts is None else self.shortcuts.as_dict(),
            "shortcuts_without_names": None if self.nameless is None else self.nameless.as_dict(),
            "suspicious": self.suspicious(),
            "burnt_in_text": self.burnt_in(),
            "remarks": list(self.remarks),
        }


def audit(frame: pd.DataFrame, shelf: Shelf, workers: int | None = None) -> Audit:
    """Look for what the files share.

    Args:
        frame: a manifest; it is not changed.
        shelf: where descriptions are kept.
        workers: threads; None: one a core.
    """
    keep_freed_memory()
    is_readable = readable(frame)
    features, suspicions = measure(frame, shelf, workers)
    found = find_duplicates(frame["path"].tolist(), frame["sha256"].where(is_readable, "").tolist(), shelf, workers)
    root = os.path.commonpath([os.path.dirname(path) for path in frame["path"]])  # noqa: PTH120
    given = frame.copy()
    given["radiograph"] = _named(frame["path"], found, root).where(is_readable, "").astype("str")
    given["group"] = _grouped(given)
    remarks = [*frame.attrs.get("remarks", [])]
    if found.described < is_readable.sum() - _equal_bytes(found):
        remarks.append("some files changed or vanished while they were read; they were not compared: audit again")
    if shelf.remark:
        remarks.append(shelf.remark)
    remarks += _early_ends(given)
    shortcuts, nameless = _probes(given, features, workers)
    result = Audit(
        root,
        given,
        found,
        leaks=(),
        conflicts=(),
        shortcuts=shortcuts,
        nameless=nameless,
        suspicions=suspicions,
        remarks=tuple(remarks),
    )
    return replace(result, leaks=_leaks(result), conflicts=_conflicts(result))


def measure(frame: pd.DataFrame, shelf: Shelf, workers: int | None = None) -> tuple[pd.DataFrame, dict[str, Suspicion]]:
    """Read each file once: describe it, measure what it tells without its bone, and look for what is odd about it.

    Args:
        frame: a manifest.
        shelf: gets the descriptions.
        workers: threads, or processes where there is much to do; None: one a core.

    Returns:
        A frame with the columns ``FEATURES`` and the index of ``frame``, NaN where a file cannot be read; and, by path,
        what is odd, of the files of which something is.
    """
    rows = frame[readable(frame)]
    known = rows["sha256"].map(shelf.__contains__)
    files = list(zip(rows["path"], ~known, strict=True))
    count = workers or os.cpu_count() or 1
    spread = spread_over_processes if count > 1 and len(files) >= WORTH_PROCESSES else spread_over_threads
    measured: list[dict[str, float]] = []
    odd: dict[str, Suspicion] = {}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # files are spread over the cores already
    try:
        with progress("looking at files", len(files)) as advance:
            for (path, _), (features, suspicion, ways) in zip(files, spread(_look, files, count), strict=True):
                measured.append(features)
                for key, description in ways.items():
                    shelf.put(key, description)
                if suspicion is not None and (suspicion.why or suspicion.marks):
                    odd[path] = suspicion
                advance()
    finally:
        cv2.setNumThreads(threads)
    table = pd.DataFrame(measured, index=rows.index, columns=list(FEATURES), dtype="float64")
    return table.reindex(frame.index), odd


def _look(file: tuple[str, bool]) -> tuple[dict[str, float], Suspicion | None, dict[str, Description]]:
    """Features, suspicion and descriptions of a file (path, whether to describe it); nothing where it is unreadable."""
    path, new = file
    try:
        seen = radiograph.read(path)
    except RadiographError:
        return {}, None, {}
    return file_features(path, seen), suspect(seen), describe_all_ways(seen) if new else {}


def _probes(
    frame: pd.DataFrame, features: pd.DataFrame, workers: int | None
) -> tuple[Shortcuts | None, Shortcuts | None]:
    """With all features, and without the numbers in names; side by side where that is worth a process."""
    asked = [(frame, features), (frame, features.assign(**dict.fromkeys(_NAMES, np.nan)))]
    count = workers or os.cpu_count() or 1
    if count > 1 and len(frame) >= WORTH_PROCESSES:
        shortcuts, nameless = spread_over_processes(_probe, asked, count, together=1)
    else:
        shortcuts, nameless = map(_probe, asked)
    return shortcuts, nameless


def _probe(asked: tuple[pd.DataFrame, pd.DataFrame]) -> Shortcuts | None:
    return probe(*asked)


def _early_ends(frame: pd.DataFrame) -> list[str]:
    """Say which class has the files that end early: too few to move an AUROC, a sure sign where one class has all."""
    early = frame["note"].str.contains("truncated:", regex=False)
    if not early.any():
        return []
    shares = [
        f"{int((early & (frame['label'] == label)).sum()):,} of {int((frame['label'] == label).sum()):,} {name}"
        for label, name in LABEL_NAMES.items()
    ]
    return [f"files that end early: {', '.join(shares)}"]


def _equal_bytes(found: Duplicates) -> int:
    return sum(link.kind == "byte_equal" for link in found.links)


def _named(paths: pd.Series[str], found: Duplicates, root: str) -> pd.Series[str]:
    """A radiograph is named by the shortest path that shows it, below the root: most times the one that was copied."""
    relative = pd.Series(
        [os.path.relpath(path, root).replace(os.sep, "/") for path in paths], index=paths.index, dtype="str"
    )
    order = pd.DataFrame({"component": found.component, "length": relative.str.len(), "name": relative})
    first = order.sort_values(["component", "length", "name"]).drop_duplicates("component").set_index("component")
    return pd.Series(first["name"].reindex(found.component).to_numpy(), index=paths.index, dtype="str")


def _grouped(frame: pd.DataFrame) -> pd.Series[str]:
    """The groups so far, joined where they share a radiograph; named by the first of them in the alphabet."""
    component = pd.Series(
        components({"group": frame["group"], "radiograph": frame["radiograph"]}, len(frame)), index=frame.index
    )
    first = frame["group"].where(frame["group"] != "").groupby(component).transform("min")
    named = first.where(first.notna(), "radiograph:" + frame["radiograph"])
    return named.where(first.notna() | (frame["radiograph"] != ""), "").astype("str")


def _leaks(result: Audit) -> tuple[Leak, ...]:
    frame = result.frame[readable(result.frame) & (result.frame["split"] != "")]
    leaks: list[Leak] = []
    told: set[str] = set()
    for kind in _CROSSING:
        rows = frame[frame[kind] != ""]
        crossing = rows.groupby(kind)["split"].transform("nunique") > 1
        for name, part in rows[crossing].groupby(kind):
            if kind != "radiograph" and set(part["path"]) <= told:
                continue
            paths = {str(split): sorted(map(result.relative, files["path"])) for split, files in part.groupby("split")}
            leaks.append(Leak(kind, str(name), paths))
            told |= set(part["path"])
    return tuple(leaks)


def _conflicts(result: Audit) -> tuple[tuple[str, list[str]], ...]:
    frame = result.frame[readable(result.frame)]
    rows = frame[np.asarray(label_conflicts(frame), bool)]
    return tuple((str(name), sorted(map(result.relative, part["path"]))) for name, part in rows.groupby("radiograph"))
