"""How good a model is on parts of the files: by region, view, metal, source, size of the picture, and the fractures.

A figure on all files hides where it comes from: hands may be easy and hips not. What divides the files, and where, is
fixed here and never chosen from the files that are judged. Small subgroups are marked, and their figures stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from callus.labels import FRACTURED
from callus.metrics.intervals import auroc_interval
from callus.metrics.operating_points import checked_probabilities
from callus.metrics.resampling import DRAWS, Interval, Resampling, ratio_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from callus.metrics.operating_points import OperatingPoints

FEW_GROUPS: Final = 30
"""Below as many groups a subgroup is small: ``bench/coverage.py`` holds the intervals' coverage down to that number."""
FEW_OF_CLASS: Final = 10
"""The same for groups that have a file of one class: a share of so few moves in steps of a tenth or more."""
MOST_VALUES: Final = 20
"""Values of a region, view or source that are told apart, those with the most files; the rest is joined."""
SIDES: Final = (512, 1024, 2048)
"""Where sizes are divided, pixels of the longer side; a side of just as many is in the lower class."""
SMALL_FRACTURE: Final = 0.07
"""Where small and large fractures are divided: the square root of the box's area, as a share of the picture's.

Looked up in FracAtlas (Abedeen et al., Scientific Data 2023, doi 10.1038/s41597-023-02432-4): there the median of the
largest box is 0.069 over 610 fractured radiographs with 784 boxes, and the quartiles are 0.052 and 0.094."""
NOT_KNOWN: Final = "not known"
NOT_MARKED: Final = "not marked"
_OF_FRACTURED: Final = "not defined by what a fracture is like: a file that is not fractured has none"


@dataclass(frozen=True)
class Subgroup:
    """The figures on a part of the files.

    Attributes:
        name: the value that its files share, such as "wrist"; "not known" where the manifest tells none.
        text: the same for people.
        files: how many; of what divides by the fractures, the fractured ones only.
        groups: that they are of.
        fractured: files that are.
        small: whether there are too few groups to say much.
        why_small: which are too few, a sentence; empty where none are.
        figures: by :data:`callus.report.robustness.FIGURES`, each with its interval by group. What the files do not
            define has a value of None and a reason.
    """

    name: str
    text: str
    files: int
    groups: int
    fractured: int
    small: bool
    why_small: str
    figures: dict[str, Interval]

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``metrics.json``."""
        return {
            "name": self.name,
            "text": self.text,
            "files": self.files,
            "groups": self.groups,
            "fractured": self.fractured,
            "small": self.small,
            "why_small": self.why_small,
            "figures": {name: figure.as_dict() for name, figure in self.figures.items()},
        }


class _Division(NamedTuple):
    """Which subgroup each file is in.

    Attributes:
        names: (n,) of each file's subgroup.
        texts: of the subgroups by name, in the order in which they are told.
        unknown: the name of those of which nothing is known.
        by_fracture: whether it divides the fractured files only.
    """

    names: NDArray[np.object_]
    texts: dict[str, str]
    unknown: str = NOT_KNOWN
    by_fracture: bool = False


def subgroups(
    rows: pd.DataFrame, points: OperatingPoints, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, list[Subgroup]]:
    """Count the figures of every subgroup.

    A fractured file's fractures are its boxes, or its polygons where it has no boxes. What divides by them counts the
    fractured files only: the AUROC is theirs against all files that are not fractured, and there is no specificity.

    Args:
        rows: judged files: ``label``, 0 or 1; ``probability``, calibrated, in [0, 1]; ``group``, a name in every row;
            and of the manifest ``region, view, hardware, source, width, height, boxes, polygons``.
        points: the bundle's operating points; nothing is chosen here.
        draws: of the bootstrap, at least 100.
        seed: of the draws. The order of the rows changes nothing.

    Returns:
        By category, in this order: region, view, hardware, source, size, fractures, fracture_size. A category of which
        nothing is known is left out; one with a single value is kept, as it says what was tested. Regions, views and
        sources come by number of files, falling, then the joined rest, then what is not known.

    Raises:
        CallusError: a label is neither 0 nor 1, a probability is not in [0, 1], a group is missing, or there are too
            few draws.
    """
    files = _Files(rows, points, draws, seed)
    found = {category: files.members(divide(rows)) for category, divide in _CATEGORIES.items()}
    return {category: members for category, members in found.items() if members}


class _Files:
    """Counts n judged files, always at the same operating points."""

    def __init__(self, rows: pd.DataFrame, points: OperatingPoints, draws: int, seed: int) -> None:
        self._label, self._probability = checked_probabilities(_numbers(rows["label"]), _numbers(rows["probability"]))
        self._fractured = self._label == FRACTURED
        self._group = rows["group"].to_numpy(dtype=object)
        self._thresholds = {"high_sensitivity": points.high_sensitivity, "high_specificity": points.high_specificity}
        self._draws, self._seed = draws, seed

    def members(self, division: _Division) -> list[Subgroup]:
        """The subgroups of a division that have a file; none where nothing is known of any file."""
        divided = self._fractured | (not division.by_fracture)
        if not (division.names[divided] != division.unknown).any():
            return []
        own = {name: divided & (division.names == name) for name in division.texts}
        return [self._subgroup(name, division, which) for name, which in own.items() if which.any()]

    def _subgroup(self, name: str, division: _Division, own: NDArray[np.bool_]) -> Subgroup:
        """Count the files ``own``, bool (n,)."""
        ranked = own | ~self._fractured if division.by_fracture else own
        groups = self._groups(own)
        why = _why_small(groups, self._groups(own & self._fractured), self._groups(ranked & ~self._fractured))
        auroc = auroc_interval(self._label[ranked], self._probability[ranked], self._group[ranked])
        return Subgroup(
            name,
            division.texts[name],
            int(own.sum()),
            groups,
            int((own & self._fractured).sum()),
            bool(why),
            why,
            {"auroc": auroc} | self._shares(own, by_fracture=division.by_fracture),
        )

    def _groups(self, which: NDArray[np.bool_]) -> int:
        return len(set(self._group[which]))

    def _shares(self, own: NDArray[np.bool_], *, by_fracture: bool) -> dict[str, Interval]:
        """Sensitivity and specificity, as :func:`callus.metrics.intervals.threshold_intervals` has them.

        That one makes ten more figures at each threshold, which nobody asks for here.
        """
        fractured, probability = self._fractured[own], self._probability[own]
        drawn = Resampling(self._group[own], self._label[own], self._draws, self._seed)
        shares: dict[str, Interval] = {}
        for point, threshold in self._thresholds.items():
            called = probability >= threshold
            shares[f"{point}.sensitivity"] = _share(called, fractured, drawn, "no fractured case")
            none = _OF_FRACTURED if by_fracture else "no case that is not fractured"
            shares[f"{point}.specificity"] = _share(~called, ~fractured, drawn, none)
        return shares


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_], drawn: Resampling, undefined: str) -> Interval:
    found = ratio_interval(part & whole, whole, (), resampling=drawn)
    return replace(found, reason=undefined) if found.value is None else found


def _why_small(groups: int, fractured: int, others: int) -> str:
    """Say which groups are too few: of all, with a fractured file, with a file that is not; empty where none are."""
    wanting = [
        f"{_count(number, 'group')} {what}"
        for number, least, what in (
            (groups, FEW_GROUPS, "in all"),
            (fractured, FEW_OF_CLASS, "with a fracture"),
            (others, FEW_OF_CLASS, "with a file that is not fractured"),
        )
        if number < least
    ]
    return f"{', '.join(wanting)}; intervals of so few say little" if wanting else ""


def _by_value(rows: pd.DataFrame, column: str) -> _Division:
    """One subgroup a value; those beyond the :data:`MOST_VALUES` with the most files are joined."""
    values = rows[column].astype("object")
    names = values.where(values.notna() & (values != ""), NOT_KNOWN)
    sizes = names[names != NOT_KNOWN].value_counts()
    ordered = sorted(sizes.index, key=lambda value: (-sizes[value], value))
    kept, rest = ordered[:MOST_VALUES], ordered[MOST_VALUES:]
    others = f"others ({_count(len(rest), 'value')})"
    texts = {value: value.replace("+", " and ") if column == "view" else value for value in kept}
    return _Division(
        names.where(~names.isin(rest), others).to_numpy(dtype=object),
        texts | ({others: others} if rest else {}) | {NOT_KNOWN: f"{column} not known"},
    )


def _by_hardware(rows: pd.DataFrame) -> _Division:
    names = {True: "metal", False: "no metal"}
    texts = {"metal": "metal in the picture", "no metal": "no metal", NOT_KNOWN: "metal not known"}
    cells = rows["hardware"].astype("object")
    return _Division(_objects([names.get(cell, NOT_KNOWN) for cell in cells]), texts)


def _by_size(rows: pd.DataFrame) -> _Division:
    """By the longer side, which a picture has where both sides are known."""
    side = np.maximum(_numbers(rows["width"]), _numbers(rows["height"]))
    between = [f"{low + 1:,} to {high:,}" for low, high in pairwise(SIDES)]
    names = [f"up to {SIDES[0]:,}", *between, f"above {SIDES[-1]:,}"]
    place = np.searchsorted(SIDES, side)
    return _Division(
        np.where(np.isnan(side), NOT_KNOWN, _objects(names)[place]),
        {name: f"longer side {name} pixels" for name in names} | {NOT_KNOWN: "size of the picture not known"},
    )


def _by_fractures(rows: pd.DataFrame) -> _Division:
    texts = {
        "1": "1 fracture",
        "2": "2 fractures",
        "3 or more": "3 fractures or more",
        NOT_MARKED: "fractures not marked",
    }
    by_count = _objects([NOT_MARKED, "1", "2", "3 or more"])
    count = np.array([len(boxes) for boxes in _fracture_boxes(rows)], dtype=np.int64)
    return _Division(by_count[np.minimum(count, len(by_count) - 1)], texts, NOT_MARKED, by_fracture=True)


def _by_fracture_size(rows: pd.DataFrame) -> _Division:
    """By the largest fracture; not known where none is marked or the picture's size is missing."""
    share = f"{100 * SMALL_FRACTURE:g} % of the picture's side"
    texts = {
        "small": f"small: below {share}",
        "large": f"large: {share} or more",
        NOT_KNOWN: "fracture's size not known",
    }
    area = np.array(
        [max((width * height for *_, width, height in boxes), default=np.nan) for boxes in _fracture_boxes(rows)]
    )
    part = np.sqrt(area / (_numbers(rows["width"]) * _numbers(rows["height"])))
    names = np.where(np.isnan(part), NOT_KNOWN, np.where(part < SMALL_FRACTURE, "small", "large"))
    return _Division(names.astype(object), texts, by_fracture=True)


_CATEGORIES: Final[dict[str, Callable[[pd.DataFrame], _Division]]] = {
    "region": partial(_by_value, column="region"),
    "view": partial(_by_value, column="view"),
    "hardware": _by_hardware,
    "source": partial(_by_value, column="source"),
    "size": _by_size,
    "fractures": _by_fractures,
    "fracture_size": _by_fracture_size,
}


def _fracture_boxes(rows: pd.DataFrame) -> list[list[Sequence[float]]]:
    """The boxes x, y, width, height of each row's fractures; those around its polygons where it has none."""
    return [
        list(boxes) if len(boxes) else [_around(polygon) for polygon in polygons]
        for boxes, polygons in zip(rows["boxes"], rows["polygons"], strict=True)
    ]


def _around(polygon: Sequence[float]) -> Sequence[float]:
    across, down = polygon[0::2], polygon[1::2]
    return [min(across), min(down), max(across) - min(across), max(down) - min(down)]


def _numbers(column: pd.Series[Any]) -> NDArray[np.float64]:
    """A column as float64 (n,), NaN where a cell is empty or no number."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _objects(names: Sequence[str]) -> NDArray[np.object_]:
    return np.array(names, dtype=object)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
