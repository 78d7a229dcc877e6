"""What a data set really holds: how many radiographs its files show, what leaks, what contradicts itself.

The manifest's ``radiograph`` is given anew, from pixels alone: files that were found to show the same one share it.
What names, studies, patients and number blocks say stays in ``group``, joined with it: so a copy that could not be
verified still cannot cross a split.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

import callus
from callus.dataset.clean import counted, label_conflicts
from callus.dataset.columns import UNREADABLE
from callus.dataset.duplicates import find_duplicates
from callus.dataset.file_features import FEATURES
from callus.dataset.first_look import look_at_all, mark_lost
from callus.dataset.groups import join_groups
from callus.dataset.manifest import digest, disagreeing, few, readable
from callus.dataset.registration import ROTATED
from callus.dataset.shortcuts import probe
from callus.labels import FRACTURED, LABEL_NAMES, RESEARCH_ONLY
from callus.memory import keep_freed_memory
from callus.workers import WORTH_PROCESSES, spread_over_processes

if TYPE_CHECKING:
    from pathlib import Path

    from callus.dataset.duplicates import Duplicates
    from callus.dataset.shelf import Shelf
    from callus.dataset.shortcuts import Shortcuts
    from callus.dataset.suspicious import Suspicion

SCHEMA: Final = 1
"""Of ``audit.json``."""
_CROSSING: Final = ("radiograph", "patient", "study", "group")
_NAMES: Final = tuple(name for name, family in FEATURES.items() if family == "file-name number")


@dataclass(frozen=True)
class Leak:
    """Something that stands in more than one split.

    Attributes:
        kind: "radiograph", "study", "patient" or "group".
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
        root: the folder that was looked at, or of a manifest the one that holds all of its files; paths are told
            relative to it.
        frame: the manifest with ``radiograph`` and ``group`` given anew.
        duplicates: which files show the same radiograph, and how that was found.
        leaks: what crosses splits; a patient or study where no leak before it has all of its files, a group where
            none before it tells that it crosses.
        conflicts: (radiograph, paths) of those with both labels.
        shortcuts: how well the label can be told from the files alone; None where there are too few groups of a class.
        nameless: the same without the number in the files' names, which no network sees.
        suspicions: what is odd about a file, by its path; only files of which something is.
        plain: files with too little detail to be compared by their pixels.
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
    plain: tuple[str, ...]
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
        """How many files show a radiograph beside the file that it is named by, by what they are to that one.

        "byte_equal": their bytes are those of a file that was counted before; "rotated": turned by more than
        3 degrees, by a quarter turn too; "near": anything else.
        """
        judged = readable(self.frame).to_numpy()
        names = [self.relative(path) for path in self.frame["path"]]
        number = {name: i for i, name in enumerate(names)}
        named_by = np.array([number.get(shown, i) for i, shown in enumerate(self.frame["radiograph"])], dtype=np.int64)
        degrees = self.duplicates.turned_against(named_by)
        kinds = {"byte_equal": 0, "near": 0, "rotated": 0}
        seen: set[str] = set()
        numbers = np.arange(len(names))
        for i in sorted(numbers[judged].tolist(), key=lambda i: (i != named_by[i], i)):
            sha256 = self.frame["sha256"].iloc[i]
            if i != named_by[i]:
                kinds["byte_equal" if sha256 in seen else "rotated" if degrees[i] > ROTATED else "near"] += 1
            seen.add(sha256)
        return kinds

    def as_dict(self) -> dict[str, Any]:
        """``audit.json``, as docs/audit.md describes it."""
        frame = self.frame[readable(self.frame)]
        return {
            "schema": SCHEMA,
            "callus": callus.__version__,
            "research_only": RESEARCH_ONLY,
            "manifest": digest(self.frame),
            "root": self.root,
            "files": len(self.frame),
            "unreadable": self.unreadable(),
            "radiographs": frame["radiograph"].nunique(),
            "groups": frame["group"].nunique(),
            "splits": self.sizes(),
            "leaks": [{leak.kind: leak.name, "paths": leak.paths} for leak in self.leaks],
            "label_conflicts": [{"radiograph": name, "paths": paths} for name, paths in self.conflicts],
            "disagreements": self.disagreements(),
            "duplicates": self.copies(),
            "not_compared": [self.relative(path) for path in self.plain],
            "shortcuts": None if self.shortcuts is None else self.shortcuts.as_dict(),
            "shortcuts_without_names": None if self.nameless is None else self.nameless.as_dict(),
            "suspicious": self.suspicious(),
            "burnt_in_text": self.burnt_in(),
            "remarks": list(self.remarks),
        }


def audit(frame: pd.DataFrame, shelf: Shelf, workers: int | None = None, folder: Path | None = None) -> Audit:
    """Look for what the files share.

    Args:
        frame: a manifest; it is not changed. Files whose bytes are not those of its ``sha256`` are named as unreadable;
            where it is empty it is filled in.
        shelf: where descriptions are kept.
        workers: threads; None: one a core.
        folder: whose manifest it is, where it is one's; paths are told relative to it.

    Raises:
        CallusError: the shelf is damaged.
    """
    keep_freed_memory()
    seen = look_at_all(frame, shelf, workers)
    given = join_groups(mark_lost(frame, seen.lost))
    given["sha256"] = _filled(given, seen.sha256)
    asked = given["sha256"].where(readable(given), "")
    found = find_duplicates(given["path"].tolist(), asked.tolist(), shelf, workers)
    lost = seen.lost | seen.lost_since()
    given = mark_lost(given, lost)
    root = _root(given["path"], folder)
    given["radiograph"] = _named(given, found, root)
    given = join_groups(given)
    given.attrs["audited"] = True
    remarks = [*frame.attrs.get("remarks", []), *_lost_remark(lost, root)]
    if shelf.remark:
        remarks.append(shelf.remark)
    remarks += _early_ends(given)
    shortcuts, nameless = _probes(given, seen.features, workers)
    result = Audit(
        root,
        given,
        found,
        leaks=(),
        conflicts=(),
        shortcuts=shortcuts,
        nameless=nameless,
        suspicions={path: suspicion for path, suspicion in seen.suspicions.items() if path not in lost},
        plain=tuple(path for path in seen.plain if path not in lost),
        remarks=tuple(remarks),
    )
    return replace(result, leaks=_leaks(result), conflicts=_conflicts(result))


def _root(paths: pd.Series[str], folder: Path | None) -> str:
    """The folder that paths are told relative to: as it was given, where all of them lie in it."""
    common = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    given = common if folder is None else os.path.abspath(folder)  # noqa: PTH100 - the name is wanted
    return given if os.path.commonpath([given, common]) == given else common


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


def _lost_remark(lost: dict[str, str], root: str) -> list[str]:
    """Say which files were readable when the manifest was made, and are other ones now, or gone."""
    if not lost:
        return []
    names = few([os.path.relpath(path, root) for path in sorted(lost)])
    return [f"changed or vanished, and not judged: {counted(len(lost), 'file')}: {names}"]


def _named(frame: pd.DataFrame, found: Duplicates, root: str) -> pd.Series[str]:
    """A radiograph is named by the shortest path that shows it, below the root: most times the one that was copied."""
    told = pd.DataFrame({"component": found.component, "path": frame["path"]})[readable(frame)]
    told["name"] = [os.path.relpath(path, root).replace(os.sep, "/") for path in told["path"]]
    told["length"] = told["name"].str.len()
    first = told.sort_values(["component", "length", "name"]).drop_duplicates("component")
    names = dict(zip(first["component"], first["name"], strict=True))
    shown = [
        names[component] if judged else ""
        for component, judged in zip(found.component.tolist(), readable(frame), strict=True)
    ]
    return pd.Series(shown, index=frame.index, dtype="str")


def _filled(frame: pd.DataFrame, sha256: dict[str, str]) -> pd.Series[str]:
    """The column ``sha256``, and where a manifest of one's own has none that of the bytes that were read."""
    known = [sha or sha256.get(path, "") for path, sha in zip(frame["path"], frame["sha256"], strict=True)]
    return pd.Series(known, index=frame.index, dtype="str")


def _leaks(result: Audit) -> tuple[Leak, ...]:
    frame = result.frame[readable(result.frame) & (result.frame["split"] != "")]
    leaks: list[Leak] = []
    told: list[set[str]] = []
    for kind in _CROSSING:
        rows = frame[frame[kind] != ""]
        key = rows["source"] + "\x1d" + rows[kind] if kind in ("study", "patient") else rows[kind]
        crossing = rows.groupby(key)["split"].transform("nunique") > 1
        for _, part in rows[crossing].groupby(key[crossing]):
            if _is_told(kind, part, told):
                continue
            paths = {str(split): sorted(map(result.relative, files["path"])) for split, files in part.groupby("split")}
            leaks.append(Leak(kind, str(part[kind].iloc[0]), paths))
            told.append(set(part["path"]))
    return tuple(leaks)


def _is_told(kind: str, part: pd.DataFrame, told: list[set[str]]) -> bool:
    """Whether a leak adds nothing: one before has all of its files; of a group, others say already that it crosses."""
    paths = set(part["path"])
    if kind == "group":
        known = part[part["path"].isin(set().union(*told))]
        return bool(known["split"].nunique() == part["split"].nunique())
    return any(paths <= files for files in told)


def _conflicts(result: Audit) -> tuple[tuple[str, list[str]], ...]:
    frame = result.frame[readable(result.frame)]
    rows = frame[np.asarray(label_conflicts(frame), bool)]
    return tuple((str(name), sorted(map(result.relative, part["path"]))) for name, part in rows.groupby("radiograph"))
