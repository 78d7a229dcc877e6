"""What a bundle knows of its training data: a Gaussian of pooled features, and how far from it pictures may lie.

Lee et al. (NeurIPS 2018) tell pictures of another kind by Mahalanobis' distance of features; here there is one Gaussian
for all of them, because a radiograph is not to be called strange for being of the other class.

Chosen on pooled features of MobileNetV2 (ImageNet, 448 x 448; 700 FracAtlas pictures fitted, 349 for the threshold,
349 of its test split, BoneData's 131, and some 420 pictures of 20 other kinds). 8 to 256 components gave the same:
1.4 to 1.7 % of the test split, 5 to 7 % of BoneData, all of the other kinds but a viewer's screenshot; 30 pictures
with 7 components nearly so. A full covariance with Ledoit-Wolf shrinkage is no better (2.0 %, 7 %, the same) at ten
times the size, and finds hardly anything with 30 pictures. Without the scaling 3 % and 8 to 10 %; features of unit
length lose frames of one grey.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import stats

from callus.bundle.likeness import MOST_COMPONENTS, SMALLEST, Likeness
from callus.training.measured import pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from callus.bundle import Engine
    from callus.training.batches import Pictures
    from callus.training.measured import Measured

FILE: Final = "likeness.bin"
MOST_PICTURES: Final = 1000
"""300 gave what 700 did; each costs a pass of the network at export."""
FEWEST_PICTURES: Final = 20
FEWEST_HELD_OUT: Final = 8
WITHIN: Final = 0.99
"""Share of radiographs of the training data's source that are to count as like them."""
COMPONENTS: Final = 64
EXPLAINED: Final = 4
"""Pictures for each component, at least: the variance along the last ones would be chance."""
ALIVE: Final = 0.05
"""Share of the features that have to vary from picture to picture; of those that do not, nothing is learnt."""
_VARIES: Final = 1e-4
"""Deviation from which a feature varies, as a share of the features' own size: rounding is far below it."""
_FOLDS: Final = 5
_NARROWEST: Final = 0.1
"""Share of the median deviation of those that vary that a feature's own counts as at least: some hardly ever speak."""


@dataclass(frozen=True, eq=False)
class Known:
    """What a bundle says of its training data's features.

    Attributes:
        likeness: the Gaussian.
        entry: ``likeness`` in ``bundle.json``.
    """

    likeness: Likeness
    entry: dict[str, Any]


def known(
    engines: Sequence[Engine], seen: Pictures | None, ways: Sequence[Measured], group: NDArray[Any], channels: int
) -> Known | str:
    """Fit the Gaussian, and measure for each engine how far radiographs like the training data may lie from it.

    Args:
        engines: those that ship, in float32 first. One Gaussian is fitted on what all of them say: what int8 rounds is
            then part of what is usual, where it would else look like distance and widen int8's threshold.
        seen: the training pictures; at most MOST_PICTURES of them are taken, evenly spread. None where they are not
            at hand: then the validation pictures are fitted, each judged by a Gaussian of the other groups'.
        ways: the same engines, measured on validation.
        group: (n,), of the validation pictures.
        channels: how many of the features are taken, the first: those that training does not turn to fractures.

    Returns:
        What was fitted; in words why not where there are too few pictures, or the features hardly vary: a trunk whose
        maps were spoilt by training (units that are never or always on) tells pictures of another kind from nothing.
    """
    judged = [way.features[:, :channels] for way in ways]
    held_out = len(judged[0])
    told = judged if seen is None else [pooled(one, seen, MOST_PICTURES)[:, :channels] for one in engines]
    fitted, count = np.concatenate(told), len(told[0])
    if count < FEWEST_PICTURES or held_out < FEWEST_HELD_OUT:
        return (
            f"{count} pictures to learn from and {held_out} others cannot tell what is like them: "
            f"{FEWEST_PICTURES} and {FEWEST_HELD_OUT} are needed"
        )
    alive = varying(fitted)
    if alive.mean() < ALIVE:
        return (
            f"only {alive.sum()} of {len(alive)} features vary from picture to picture: training spoilt the trunk's "
            'maps; a lower trunk_rate or batch_norm = "learnt" helps'
        )
    likeness = fit(fitted)
    if seen is None:
        fitted_groups = np.tile(group, len(ways))
        distances = [_by_other_groups(fitted, fitted_groups, features, group) for features in judged]
    else:
        distances = [likeness.distance(features) for features in judged]
    entry = {
        "file": FILE,
        "channels": channels,
        "components": len(likeness.axes),
        "pictures": count,
        "split": "val" if seen is None else "train",
        "held_out": held_out,
        "within": WITHIN,
        "thresholds": {way.engine: farthest(away) for way, away in zip(ways, distances, strict=True)},
    }
    return Known(likeness, entry)


def varying(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of the features (n, C) differ between pictures by more than rounding: (C,)."""
    size = float(np.abs(features).mean(dtype=np.float64))
    return np.asarray(features.std(axis=0, dtype=np.float64) > _VARIES * size)


def fit(features: NDArray[np.float32]) -> Likeness:
    """Fit a Gaussian that can be inverted however few pictures there are.

    The features are scaled to one deviation each, and then described by their principal components and one variance
    beside these (Tipping and Bishop 1999, whose maximum likelihood this is).

    Args:
        features: float32 (n, C), n at least 2.
    """
    count, channels = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    off = features - mean
    deviation = off.std(axis=0, ddof=1)
    alive = varying(features)
    typical = float(np.median(deviation[alive])) if alive.any() else 0.0
    scale = np.maximum(deviation, max(_NARROWEST * typical, SMALLEST))
    _, singular, axes = np.linalg.svd(off / scale, full_matrices=False)
    variance = np.maximum(singular**2 / (count - 1), SMALLEST)
    kept = min(COMPONENTS, MOST_COMPONENTS, count // EXPLAINED, channels - 1)
    residual = max(float(variance[kept:].sum()) / (channels - kept), SMALLEST)
    return Likeness(
        mean.astype(np.float32),
        scale.astype(np.float32),
        axes[:kept].astype(np.float32),
        np.sqrt(variance[:kept]).astype(np.float32),
        math.sqrt(residual),
    )


def farthest(distances: NDArray[np.float64]) -> float:
    """Give the distance that a radiograph of the same source exceeds with probability 1 - WITHIN.

    From 99 pictures on it is one of theirs: the k-th smallest of m, k = WITHIN * (m + 1) rounded up, which holds
    whatever the distribution (split conformal prediction; Bates et al. 2023). Fewer do not reach so far: theirs is the
    limit for one more draw from a log-normal distribution (with Student's t), and at least their largest.

    Args:
        distances: (m,), 0 or more, of pictures that were not fitted, m at least 2. Those of one patient count as
            independent, which they are not quite.
    """
    count = len(distances)
    rank = math.ceil(WITHIN * (count + 1))
    if rank <= count:
        return max(float(np.sort(distances)[rank - 1]), SMALLEST)
    logarithm = np.log(np.maximum(distances, SMALLEST))
    spread = float(logarithm.std(ddof=1)) * math.sqrt(1 + 1 / count)
    limit = math.exp(float(logarithm.mean()) + float(stats.t.ppf(WITHIN, count - 1)) * spread)
    return max(limit, float(distances.max()), SMALLEST)


def _by_other_groups(
    fitted: NDArray[np.float32], fitted_groups: NDArray[Any], features: NDArray[np.float32], group: NDArray[Any]
) -> NDArray[np.float64]:
    """How far each picture's features are from a Gaussian that no picture of its group was fitted into."""
    names, number = np.unique(group, return_inverse=True)
    fitted_number = np.searchsorted(names, fitted_groups)
    distances = np.zeros(len(features))
    for fold in range(_FOLDS):
        own = number % _FOLDS == fold
        if own.any():
            distances[own] = fit(fitted[fitted_number % _FOLDS != fold]).distance(features[own])
    return distances
