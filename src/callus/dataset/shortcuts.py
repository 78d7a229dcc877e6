"""Can the label be told from the file alone? A probe of what a file tells without its bone.

Size, coding, border, brightness and number of a file often say which hospital, machine or hand a class came from, and
a network learns that instead of the fracture. A classifier that sees only these is cross-validated by group: what it
reaches is no skill in radiology. The idea is that of Zech et al., PLoS Med 2018, doi 10.1371/journal.pmed.1002683.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.stats import t as student
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from callus.dataset.file_features import FEATURES
from callus.dataset.manifest import group_keys, usable
from callus.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_REPEATS: Final = 5  # of a permutation
_BLOCK: Final = 2_000_000  # numbers at once while resampling
_COMMON: Final = 0.025  # a chance result that is more frequent than this is no finding
# Two folds learn from each other: what one group taught about another, the other taught about the one. Where there is
# nothing to learn, a cross-validated AUROC is a sum over pairs of groups that holds each pair twice, and its variance
# is twice that of resampled groups with fixed scores. Where there is something to learn this is on the safe side.
# Measured with labels exchanged between groups: 0.5 lay in 93 % of 150 intervals on FracAtlas (in 79 % of 68 without
# this), in 98 % of 104 on BoneData (in 89 % of 44 without); docs/results.md has later ones.
_EACH_PAIR_TWICE: Final = math.sqrt(2)
METHOD: Final = (
    "gradient-boosted trees (40 of 8 leaves) on features of the file alone, cross-validated by group in {folds} folds; "
    "AUROC over pairs of files of the same fold; 95 % interval from {draws} resamplings of groups, widened by the "
    "square root of 2 for folds that learn from each other and by Student's t for few groups"
)


@dataclass(frozen=True)
class Carrier:
    """What one family of features tells of the label.

    Attributes:
        name: the family, of ``FEATURES``' values.
        auroc: cross-validated, of a classifier that sees this family alone; 0.5 where the family does not vary.
        low: of its 95 % interval.
        high: of the same.
        drop: by how much the AUROC of all features falls where this family is permuted among held-out files. It is
            near 0 where another family tells the same.
    """

    name: str
    auroc: float
    low: float
    high: float
    drop: float

    @property
    def carries(self) -> float:
        """How much the family carries, by whichever way it shows more."""
        return max(self.auroc - 0.5, self.drop)


@dataclass(frozen=True)
class Shortcuts:
    """How well the label can be told from the file alone.

    Attributes:
        auroc: cross-validated by group, over pairs of a fractured and another file of the same held-out fold.
        low: of its 95 % interval.
        high: of the same.
        files: with a label and readable, with features.
        groups: that they come from.
        features: the families, by what they carry, the most first.
        method: the classifier and the interval.
    """

    auroc: float
    low: float
    high: float
    files: int
    groups: int
    features: tuple[Carrier, ...]
    method: str

    @property
    def found(self) -> bool:
        """Whether 0.5 lies below the interval."""
        return self.low > 0.5  # noqa: PLR2004

    def as_dict(self) -> dict[str, Any]:
        """Give auroc, low, high, method, files, groups, features [{name, auroc, low, high, drop}], ready for JSON."""
        names = ("auroc", "low", "high", "method", "files", "groups")
        told = {name: getattr(self, name) for name in names} | {"features": [asdict(part) for part in self.features]}
        for part in (told, *told["features"]):
            part.update({name: round(value, 4) for name, value in part.items() if isinstance(value, float)})
        return told

    def sentence(self) -> str:
        """Say it in one sentence, with the family that carries most.

        The second is named as well where its own interval lies above 0.5 and it carries at least half as much.
        """
        figures = f"AUROC {self.auroc:.2f} ({self.low:.2f} to {self.high:.2f})"
        if not self.found:
            return f"the label cannot be told from the file alone: {figures}"
        most = self.features[0].carries if self.features else 0.0
        second = [part for part in self.features[1:2] if part.carries >= most / 2 and part.low > 0.5]  # noqa: PLR2004
        named = [part.name for part in (*self.features[:1], *second)]
        return f"the label can be told from the file alone: {figures}" + (
            f", most by {' and '.join(named)}" if named else ""
        )


def probe(
    frame: pd.DataFrame, features: pd.DataFrame, *, folds: int = 5, draws: int = 1000, seed: int = 0
) -> Shortcuts | None:
    """Cross-validate a classifier that never sees bone.

    Args:
        frame: a manifest; rows with a label that could be read are used.
        features: the same index, the columns of ``FEATURES``, NaN where one does not apply; rows without any number
            are left out.
        folds: how many; fewer, down to 2, where a class comes from fewer groups.
        draws: resamplings of groups for the intervals.
        seed: of the folds, the permutations and the resampling. The order of the rows changes nothing.

    Returns:
        What was found. None where one class comes from fewer than two groups, so that none can be held out, or where
        no fold has both classes. Groups so few that chance alone would separate them often give 0 to 1.

    Raises:
        DatasetError: a column of ``FEATURES`` is missing, or the indices differ.
    """
    values, labels, groups = _material(frame, features)
    held = [len(np.unique(groups[labels == label])) for label in (0, 1)]
    folds = min(folds, *held)
    if folds < 2:  # noqa: PLR2004
        return None
    # One thread: the trees are small, and beside other work several threads wait for each other up to 50 times as long.
    with threadpool_limits(limits=1):
        return _probe(values, labels, groups, folds, draws, seed)


def _probe(
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    folds: int,
    draws: int,
    seed: int,
) -> Shortcuts | None:
    """Do what ``probe`` says, with features (n, features), labels (n,) and groups (n,) numbered from 0."""
    random = np.random.default_rng(seed)
    varies = (values != values[0]).any(axis=0)
    families = np.array(list(FEATURES.values()))[varies]
    values = values[:, varies]
    if not varies.any():
        values = np.zeros((len(labels), 1))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold = np.zeros(len(labels), np.int64)
    for number, (_, test) in enumerate(splitter.split(values, labels, groups)):
        fold[test] = number
    judge = _Judge(labels, groups, fold, _resampled(labels, groups, draws, random))
    scores, models = _cross_validate(values, labels, fold)
    auroc, low, high = judge.interval(scores)
    if math.isnan(auroc):
        return None
    carriers = []
    for family in dict.fromkeys(FEATURES.values()):
        alone, drop = (0.5, 0.5, 0.5), 0.0
        columns = np.flatnonzero(families == family)
        if len(columns):
            alone = judge.interval(_cross_validate(values[:, columns], labels, fold)[0])
            drop = auroc - judge.permuted(values, columns, models, random)
        carriers.append(Carrier(family, *alone, drop))
    carriers.sort(key=lambda part: -part.carries)
    method = METHOD.format(folds=folds, draws=f"{draws:,}")
    return Shortcuts(auroc, low, high, len(labels), judge.groups, tuple(carriers), method)


def _material(
    frame: pd.DataFrame, features: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Give features (n, features) with -1 for NaN, labels (n,) and groups (n,) numbered from 0, in order of the paths.

    No feature is negative; trees cut -1 off like any other value.
    """
    if missing := [name for name in FEATURES if name not in features]:
        raise DatasetError(f"features are missing: {', '.join(missing)}", hint="give those of file_features")
    if not features.index.equals(frame.index):
        raise DatasetError(f"{len(features)} rows of features do not go with the manifest's {len(frame)} rows")
    rows = usable(frame)
    rows = rows[features.loc[rows.index, list(FEATURES)].notna().any(axis=1)].sort_values("path", kind="stable")
    values = features.loc[rows.index, list(FEATURES)].to_numpy(np.float64)
    labels = rows["label"].to_numpy(np.int64)
    groups = np.unique(group_keys(rows).to_numpy(object), return_inverse=True)[1].astype(np.int64)
    return np.where(np.isfinite(values), values, -1.0), labels, groups


def _cross_validate(
    values: NDArray[np.float64], labels: NDArray[np.int64], fold: NDArray[np.int64]
) -> tuple[NDArray[np.float64], list[HistGradientBoostingClassifier | None]]:
    """Give each file's score (n,) by the model that did not see its fold, and the models by fold.

    A fold whose training files are of one class has no model, and scores 0.
    """
    scores = np.zeros(len(labels))
    models: list[HistGradientBoostingClassifier | None] = []
    for number in range(int(fold.max()) + 1):
        train = fold != number
        model = None
        if 0 < labels[train].sum() < train.sum():
            model = HistGradientBoostingClassifier(
                max_iter=40,
                max_leaf_nodes=8,
                min_samples_leaf=int(np.clip(train.sum() // 20, 2, 20)),
                max_bins=63,
                early_stopping=False,
                random_state=0,
            ).fit(values[train], labels[train])
            scores[~train] = model.decision_function(values[~train])
        models.append(model)
    return scores, models


def _resampled(
    labels: NDArray[np.int64], groups: NDArray[np.int64], draws: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Draw groups with replacement, among those of the same classes: how often each was drawn, (groups, draws).

    The first column, all ones, is the data themselves.
    """
    count = int(groups.max()) + 1
    classes = 2 * (np.bincount(groups, labels, count) > 0) + (np.bincount(groups, 1 - labels, count) > 0)
    times = np.ones((count, draws + 1), np.float32)
    for kind in np.unique(classes):
        members = np.flatnonzero(classes == kind)
        times[members, 1:] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), draws).T
    return times


class _Judge:
    """Scores' AUROC over pairs of the same fold, and its interval.

    Scores of different folds come from different models, and a fold with many fractured files was judged by a model
    that had seen few: scores pooled over folds would put the AUROC below 0.5 where nothing is to be told.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        groups: NDArray[np.int64],
        fold: NDArray[np.int64],
        times: NDArray[np.float32],
    ) -> None:
        self._labels, self._of, self._times = labels, groups, times
        self._folds = [np.flatnonzero(fold == number) for number in range(int(fold.max()) + 1)]
        held = [len(np.unique(groups[labels == label])) for label in (0, 1)]
        self.groups = len(times)
        self._too_few = 1 / math.comb(sum(held), held[0]) > _COMMON
        least = min(held)
        few = math.sqrt(least / (least - 1)) * float(student.ppf(0.975, least - 1)) / 1.96
        self._widen = _EACH_PAIR_TWICE * few

    def interval(self, scores: NDArray[np.float64]) -> tuple[float, float, float]:
        """Give the AUROC of scores (n,) and its 95 % interval within [0, 1]; NaN where no fold has both classes."""
        concordant, pairs = np.zeros(self._times.shape[1]), np.zeros(self._times.shape[1])
        for part in self._folds:
            step = max(1, _BLOCK // len(part))
            for first in range(0, self._times.shape[1], step):
                columns = slice(first, first + step)
                more = self._pairs(scores, part, self._times[:, columns])
                concordant[columns] += more[0]
                pairs[columns] += more[1]
        if pairs[0] == 0:
            return math.nan, math.nan, math.nan
        auroc = float(concordant[0] / pairs[0])
        if self._too_few:
            return auroc, 0.0, 1.0
        drawn = pairs[1:] > 0
        low, high = np.quantile(concordant[1:][drawn] / pairs[1:][drawn], [0.025, 0.975]) if drawn.any() else (0, 1)
        return (
            auroc,
            min(auroc, max(0.0, auroc - self._widen * (auroc - float(low)))),
            max(auroc, min(1.0, auroc + self._widen * (float(high) - auroc))),
        )

    def permuted(
        self,
        values: NDArray[np.float64],
        columns: NDArray[np.int64],
        models: list[HistGradientBoostingClassifier | None],
        random: np.random.Generator,
    ) -> float:
        """Give the AUROC where ``columns`` are permuted together among the files of each held-out fold."""
        once = np.ones((len(self._times), 1), np.float32)
        concordant = pairs = 0.0
        for part, model in zip(self._folds, models, strict=True):
            for _ in range(_REPEATS):
                scores = np.zeros(len(values))
                if model is not None:
                    shuffled = values[part].copy()
                    shuffled[:, columns] = shuffled[random.permutation(len(part))][:, columns]
                    scores[part] = model.decision_function(shuffled)
                more = self._pairs(scores, part, once)
                concordant += float(more[0][0])
                pairs += float(more[1][0])
        return concordant / pairs

    def _pairs(
        self, scores: NDArray[np.float64], part: NDArray[np.int64], times: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Count for each column of ``times`` (groups, draws) the pairs in right order, ties half, and all pairs."""
        order = part[np.argsort(scores[part], kind="stable")]
        starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
        weights = times[self._of[order]]  # (files, draws)
        fractured = self._labels[order, None] == 1
        positive = np.add.reduceat(np.where(fractured, weights, 0), starts, axis=0).astype(np.float64)
        negative = np.add.reduceat(np.where(fractured, 0, weights), starts, axis=0).astype(np.float64)
        below = np.cumsum(negative, axis=0) - negative / 2
        return (positive * below).sum(axis=0), positive.sum(axis=0) * negative.sum(axis=0)
