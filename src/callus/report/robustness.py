"""How a model's figures move when the radiographs are disturbed, and when those with metal are left out.

The same files are answered undisturbed and disturbed, so that the differences are paired; operating points stay as the
bundle fixed them. Crops may cut a fracture away while its label stays: their figures fall for that reason too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from callus.errors import CallusError
from callus.identify import Finding, Identifier
from callus.labels import FRACTURED
from callus.metrics.comparison import Difference, compare_calls, compare_rankings
from callus.metrics.intervals import auroc_interval, threshold_intervals
from callus.metrics.resampling import DRAWS, Interval, Resampling, ratio_interval
from callus.progress import progress
from callus.radiograph import Radiograph, read
from callus.report.disturbances import DISTURBANCES, Disturbance
from callus.workers import spread_over_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from callus.metrics.operating_points import OperatingPoints

MOST: Final = 400
"""Files that are disturbed, where nobody says how many: each of more than 30 steps answers them all."""
FIGURES: Final = (
    "auroc",
    "high_sensitivity.sensitivity",
    "high_sensitivity.specificity",
    "high_specificity.sensitivity",
    "high_specificity.specificity",
)
"""What is followed; the operating point, then what is measured there."""
SHARES: Final = ("sensitivity", "specificity")


@dataclass(frozen=True)
class Step:
    """The figures on some files, disturbed in one way or not at all.

    Attributes:
        kind: of the disturbance; "undisturbed" for none.
        strength: see :class:`callus.report.disturbances.Disturbance`.
        text: both, in words.
        files: those that have an answer, undisturbed and disturbed.
        groups: that they are of.
        failed: files without an answer once disturbed; they count in no figure.
        figures: by :data:`FIGURES`, each with its interval by group.
        differences: the same, disturbed (a) and undisturbed (b) on the same files, with a paired interval of a less b;
            empty where nothing is disturbed.
        level_changed: share of the files whose level is another one; None for the same.
    """

    kind: str
    strength: float | None
    text: str
    files: int
    groups: int
    failed: int
    figures: dict[str, Interval]
    differences: dict[str, Difference] = field(default_factory=dict)
    level_changed: Interval | None = None

    def moved(self, figure: str) -> bool:
        """Whether the interval of a figure's difference leaves 0 out."""
        difference = self.differences.get(figure)
        if difference is None or difference.low is None or difference.high is None:
            return False
        return difference.low > 0 or difference.high < 0

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``metrics.json``."""
        return {
            "kind": self.kind,
            "strength": self.strength,
            "text": self.text,
            "files": self.files,
            "groups": self.groups,
            "failed": self.failed,
            "figures": {name: figure.as_dict() for name, figure in self.figures.items()},
            "differences": {name: difference.as_dict() for name, difference in self.differences.items()},
            "level_changed": None if self.level_changed is None else self.level_changed.as_dict(),
        }


@dataclass(frozen=True)
class Robustness:
    """How the figures move.

    Attributes:
        most: at most how many files were asked for.
        of_files: judged files that they were chosen from.
        of_groups: that those are of.
        seed: of the choice.
        undisturbed: the chosen files as they are.
        steps: the same files disturbed, in the order of :data:`callus.report.disturbances.DISTURBANCES`.
        hardware: all judged files, then those that are left without the ones with metal; empty where the manifest tells
            of no metal.
        notes: what is to be known beside the figures, a sentence each.
    """

    most: int
    of_files: int
    of_groups: int
    seed: int
    undisturbed: Step
    steps: tuple[Step, ...]
    hardware: tuple[Step, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``metrics.json``."""
        return {
            "most": self.most,
            "of_files": self.of_files,
            "of_groups": self.of_groups,
            "seed": self.seed,
            "undisturbed": self.undisturbed.as_dict(),
            "steps": [step.as_dict() for step in self.steps],
            "hardware": [step.as_dict() for step in self.hardware],
            "notes": list(self.notes),
        }


class _Files(NamedTuple):
    """n judged files."""

    label: NDArray[np.int64]
    probability: NDArray[np.float64]
    group: NDArray[np.object_]

    def some(self, which: NDArray[np.bool_]) -> _Files:
        return _Files(self.label[which], self.probability[which], self.group[which])


def measure(
    identifier: Identifier,
    rows: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    kinds: Sequence[str] = (),
    most: int = MOST,
    seed: int = 0,
    draws: int = DRAWS,
) -> Robustness:
    """Disturb radiographs in every way, answer them, and hold the figures against the undisturbed ones.

    Args:
        identifier: the model.
        rows: the manifest's rows that were evaluated; their column ``hardware`` is looked at.
        predictions: of the undisturbed files (``predictions.parquet``); those with a label and a probability count.
        kinds: names of disturbances; none named: all of them.
        most: at most how many files are disturbed, see :func:`choose`.
        seed: of the choice, and of the intervals' draws.
        draws: of the bootstrap.

    Returns:
        The figures. What the files do not define has a value of None and a reason.

    Raises:
        CallusError: an unknown kind, or no judged file.
        BundleError: the network fails.
    """
    disturbances = chosen_disturbances(kinds)
    judged = predictions[predictions["label"].notna() & predictions["probability"].notna()]
    if judged.empty:
        raise CallusError("robustness needs files with a label and an answer; there are none", hint="label some")
    points = identifier.info.operating_points
    some = choose(judged, most, seed)
    plain, answers = _files(some), _answers(identifier, list(some["path"]), disturbances)
    told = _Figures(points, draws, seed)
    steps = tuple(
        told.disturbed(disturbance, plain, answered)
        for disturbance, answered in zip(disturbances, answers, strict=True)
    )
    hardware, notes = _hardware(told, rows, judged)
    notes = [f"{len(some):,} of {len(judged):,} files were disturbed, chosen by whole groups", *notes]
    return Robustness(
        most,
        len(judged),
        int(judged["group"].nunique()),
        seed,
        told.plain("undisturbed", "undisturbed", plain),
        steps,
        hardware,
        tuple(notes),
    )


def chosen_disturbances(kinds: Sequence[str]) -> tuple[Disturbance, ...]:
    """Give the disturbances of some kinds, in their own order; all of them where none is named.

    Raises:
        CallusError: there is no such kind; those that exist are named.
    """
    known = list(dict.fromkeys(one.kind for one in DISTURBANCES))
    if unknown := [kind for kind in kinds if kind not in known]:
        raise CallusError(f"there is no disturbance {unknown[0]!r}; expected some of {', '.join(known)}")
    return tuple(one for one in DISTURBANCES if not kinds or one.kind in kinds)


def choose(judged: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """Choose files by whole groups, so that fractured and other groups keep their shares.

    Groups with a fractured file and groups without one are shuffled apart, and taken until the next one would be too
    much; one of each is always taken, so that a class is not lost where a single group has more than ``most`` files.

    Args:
        judged: predictions with label and group.
        most: at most how many files.
        seed: of the shuffling. The order of the rows changes nothing.

    Returns:
        The chosen rows, in their order; all of them where there are no more than ``most``.

    Raises:
        CallusError: ``most`` is below 1.
    """
    if most < 1:
        raise CallusError(f"at most {most} files are to be disturbed; expected 1 or more")
    if len(judged) <= most:
        return judged
    groups = judged.assign(fractured=judged["label"] == FRACTURED).groupby("group")["fractured"].agg(["size", "max"])
    rng = np.random.default_rng(seed)
    taken: set[str] = set()
    for _, stratum in groups.sort_index().groupby("max"):
        room = most * stratum["size"].sum() / len(judged)
        shuffled = stratum.iloc[rng.permutation(len(stratum))]
        count = max(1, int((shuffled["size"].cumsum() <= room).sum()))
        taken.update(shuffled.index[:count])
    return judged[judged["group"].isin(taken)]


def _files(predictions: pd.DataFrame) -> _Files:
    return _Files(
        predictions["label"].to_numpy(dtype=np.int64),
        predictions["probability"].to_numpy(dtype=np.float64),
        predictions["group"].to_numpy(dtype=object),
    )


class _Figures:
    """Counts the figures of files, always at the same operating points."""

    def __init__(self, points: OperatingPoints, draws: int, seed: int) -> None:
        self._points, self._draws, self._seed = points, draws, seed
        self._thresholds = {
            "high_sensitivity": points.high_sensitivity,
            "high_specificity": points.high_specificity,
        }

    def plain(self, kind: str, text: str, files: _Files) -> Step:
        """The figures of files as they are."""
        figures = self._figures(files, self._drawn(files))
        return Step(kind, None, text, files.label.size, len(set(files.group)), 0, figures)

    def disturbed(self, disturbance: Disturbance, plain: _Files, probability: NDArray[np.float64]) -> Step:
        """The figures of files of which ``probability`` (n,) was answered, NaN where nothing was."""
        answered = ~np.isnan(probability)
        before = plain.some(answered)
        after = before._replace(probability=probability[answered])
        drawn = self._drawn(after)
        levels = [[self._points.level(one) for one in files.probability] for files in (before, after)]
        changed = np.array(levels[0], dtype=str) != np.array(levels[1], dtype=str)
        return Step(
            disturbance.kind,
            disturbance.strength,
            disturbance.text,
            after.label.size,
            len(set(after.group)),
            int((~answered).sum()),
            self._figures(after, drawn),
            self._differences(before, after, drawn),
            ratio_interval(changed, np.ones(changed.size), (), resampling=drawn.across),
        )

    def _drawn(self, files: _Files) -> Resampling:
        return Resampling(files.group, files.label, self._draws, self._seed)

    def _figures(self, files: _Files, drawn: Resampling) -> dict[str, Interval]:
        figures = {"auroc": auroc_interval(files.label, files.probability, files.group)}
        for point, threshold in self._thresholds.items():
            found = threshold_intervals(files.label, files.probability, threshold, drawn)
            figures |= {f"{point}.{name}": found[name] for name in SHARES}
        return figures

    def _differences(self, before: _Files, after: _Files, drawn: Resampling) -> dict[str, Difference]:
        pair = after.label, after.probability, before.probability
        differences = {"auroc": compare_rankings(*pair, drawn)["auroc"]}
        for point, threshold in self._thresholds.items():
            found = compare_calls(*pair, threshold, threshold, drawn)
            differences |= {f"{point}.{name}": found[name] for name in SHARES}
        return differences


def _hardware(told: _Figures, rows: pd.DataFrame, judged: pd.DataFrame) -> tuple[tuple[Step, ...], list[str]]:
    """All judged files, and those that are left without the ones with metal; or a sentence that says why not."""
    metal = judged["path"].map(rows.set_index("path")["hardware"].astype("boolean"))
    with_metal = metal.fillna(value=False).to_numpy(dtype=bool)
    unknown = int(metal.isna().sum())
    if unknown == len(judged):
        return (), ["the manifest does not tell which radiographs show metal: none could be left out"]
    if not with_metal.any():
        return (), [f"no radiograph is known to show metal ({unknown:,} of {len(judged):,} are unknown)"]
    if with_metal.all():
        return (), ["every radiograph shows metal: nothing is left without them"]
    files = _files(judged)
    steps = (
        told.plain("with_hardware", "all files", files),
        told.plain("without_hardware", "files with metal left out", files.some(~with_metal)),
    )
    return steps, [
        f"{int(with_metal.sum()):,} of {len(judged):,} files show metal; of {unknown:,} it is unknown, and they stay in"
    ]


def _answers(identifier: Identifier, paths: Sequence[str], disturbances: Sequence[Disturbance]) -> NDArray[np.float64]:
    """Probabilities of n files, disturbed in k ways: float64 (k, n), NaN where there is no answer.

    Each file is read once; the disturbed pictures are made in a thread, a few ahead of the network.
    """
    probability = np.full((len(disturbances), len(paths)), np.nan)
    waiting: deque[tuple[int, int]] = deque()
    with progress(f"disturbing {len(paths):,} radiographs", probability.size) as advance:

        def pictures() -> Iterator[Radiograph]:
            for way, place, picture in spread_over_threads(_disturbed, _items(paths, disturbances), 1):
                if picture is None:
                    advance()
                else:
                    waiting.append((way, place))
                    yield picture

        for _, _, answer in identifier.identify_many(pictures()):
            at = waiting.popleft()  # answers come in the pictures' order
            if isinstance(answer, Finding):
                probability[at] = answer.probability
            advance()
    return probability


def _items(
    paths: Sequence[str], disturbances: Sequence[Disturbance]
) -> Iterator[tuple[int, int, Disturbance, Radiograph | None]]:
    for place, path in enumerate(paths):
        seen: Radiograph | None = None
        try:
            seen = read(path)
        except CallusError:  # gone since it was answered
            seen = None
        for way, disturbance in enumerate(disturbances):
            yield way, place, disturbance, seen


def _disturbed(item: tuple[int, int, Disturbance, Radiograph | None]) -> tuple[int, int, Radiograph | None]:
    way, place, disturbance, seen = item
    if seen is None:
        return way, place, None
    try:
        return way, place, disturbance(seen)
    except Exception:  # noqa: BLE001 - OpenCV refuses sides above 32,767 pixels: that costs one answer, which is counted
        return way, place, None
