"""How often a nominal 95 % interval holds the truth, on simulated files in groups; one JSON line a setting.

A group has 1 to 50 files that share an effect on their scores. Some groups are of one class, some mixed. The truth is
that of a huge sample, in which each file weighs the same, as in the estimates. Limits (of the issue): AUROC's interval
covers in at least 92 % with 30 groups and in 93 to 97 % with 200. For contrast: the percentile interval of resampled
groups, files taken as independent, and what callus would do without its two provisions for few groups, the degrees of
freedom of DeLong's interval and Wilson's in place of BCa.

    python bench/coverage.py
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from callus.metrics.delong import areas, placements
from callus.metrics.intervals import auroc_interval
from callus.metrics.proportions import wilson
from callus.metrics.ranking import Ranking
from callus.metrics.resampling import Interval, Resampling, ratio_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Files = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]

PERCENTILE_DRAWS = 500
LIMITS = {30: (0.92, 1.0), 200: (0.93, 0.97)}


@dataclass(frozen=True)
class Setting:
    """What the files are like.

    Attributes:
        apart: by how much the mean score of fractured files is higher.
        shared: standard deviation of what the files of a group share.
        own: of what each has of its own.
        mixed: share of groups in which each file is fractured or not by itself.
        long_tail: whether the logarithm of the size is uniform, rather than the size.
        informative: how much further apart the files of a larger group are, by standard deviations of the size.
        sensitivity: that of the threshold.
    """

    apart: float = 1.8
    shared: float = 1.0
    own: float = 0.5
    mixed: float = 0.3
    long_tail: bool = False
    informative: float = 0.0
    sensitivity: float = 0.8

    def files(self, groups: int, random: np.random.Generator) -> Files:
        """Draw labels, scores and groups of files, (n,) each."""
        most = 50
        if self.long_tail:
            size = np.ceil(np.exp(random.uniform(0, np.log(most), groups))).astype(np.int64)
        else:
            size = random.integers(1, most + 1, groups)
        group = np.repeat(np.arange(groups), size)
        kind = random.integers(0, 2, groups)
        alone = random.random(groups) < self.mixed
        label = np.where(alone[group], random.integers(0, 2, group.size), kind[group])
        sizes = (size - size.mean()) / max(size.std(), 1e-9)
        shared = random.normal(0, self.shared, groups) + np.where(alone, 0, self.informative * sizes * (2 * kind - 1))
        return label, self.apart * label + shared[group] + random.normal(0, self.own, group.size), group


SETTINGS = {
    "plain": Setting(),
    "one class a group": Setting(mixed=0.0),
    "mixed groups": Setting(mixed=1.0),
    "high AUROC": Setting(apart=3.0, sensitivity=0.95),
    "few large groups": Setting(long_tail=True),
    "informative sizes": Setting(informative=0.4),
    "weakly alike": Setting(shared=0.5, own=1.0, sensitivity=0.95),
    "high AUROC, few large groups": Setting(apart=3.0, mixed=0.0, long_tail=True, sensitivity=0.95),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--groups", type=int, nargs="+", default=[30, 200])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    choice = parser.parse_args()
    for name in choice.settings:
        for groups in choice.groups:
            print(json.dumps(measure(name, groups, choice.repetitions)), flush=True)


def measure(name: str, groups: int, repetitions: int) -> dict[str, object]:
    """Count how often each interval holds the truth."""
    setting = SETTINGS[name]
    label, score, _ = setting.files(60_000, np.random.default_rng(12345))
    threshold = float(np.quantile(score[label == 1], 1 - setting.sensitivity))
    truth = {"auroc": float(placements(label, score)[label == 1].mean()), "sensitivity": setting.sensitivity}
    random = np.random.default_rng(groups)
    held: dict[str, list[bool]] = {}
    fallbacks = []
    for repetition in range(repetitions):
        label, score, group = setting.files(groups, random)
        if min(np.unique(group[label == kind]).size for kind in (0, 1)) < 2:
            continue  # no interval
        resampling = Resampling(group, label, seed=repetition)
        found = aurocs(label, score, resampling) | sensitivities(label, score >= threshold, resampling)
        fallbacks.append("Wilson" in found["sensitivity"].method)
        for figure, interval in found.items():
            low = -math.inf if interval.low is None else interval.low
            high = math.inf if interval.high is None else interval.high
            held.setdefault(figure, []).append(low <= truth[figure.split(",")[0]] <= high)
    covered = {figure: round(float(np.mean(one)), 3) for figure, one in held.items()}
    low, high = LIMITS.get(groups, (0.0, 1.0))
    return {
        "bench": "coverage",
        "setting": name,
        "groups": groups,
        "repetitions": len(fallbacks),
        "truth": {figure: round(value, 4) for figure, value in truth.items()},
        "coverage": covered,
        "sensitivity_by_wilson": round(float(np.mean(fallbacks)), 3),
        "within_limits": low <= covered["auroc"] <= high,
    }


def aurocs(label: NDArray[np.int64], score: NDArray[np.float64], resampling: Resampling) -> dict[str, Interval]:
    """The interval of callus, and others."""
    index = resampling.index
    found = {
        "auroc": auroc_interval(label, score, index),
        "auroc, percentile bootstrap": percentile(label, score, resampling),
        "auroc, files independent": auroc_interval(label, score, np.arange(label.size)),
    }
    made = areas(label, [score], index)
    if made is not None and 0 < made.auroc[0] < 1:
        value, variance, _ = made.contrast([1.0])
        freedom = min(made.fractured, made.others) - 1
        reach = special.stdtrit(freedom, 0.975) * math.sqrt(variance) / (value * (1 - value))
        ends = special.expit(special.logit(value) + np.array([-reach, reach]))
        found["auroc, freedom by the rarer class"] = Interval(value, float(ends[0]), float(ends[1]), "")
    return found


def sensitivities(label: NDArray[np.int64], called: NDArray[np.bool_], resampling: Resampling) -> dict[str, Interval]:
    """The same of the sensitivity."""
    right = called & (label == 1)
    found = {"sensitivity": ratio_interval(right, label, (), resampling=resampling)}
    value = found["sensitivity"].value or 0.0
    found["sensitivity, files independent"] = Interval(value, *wilson(value, int(label.sum())), "")
    sums = resampling.sums(np.stack([right, label], axis=1))
    spread = resampling.spread(sums, lambda one: one[:, 0] / one[:, 1], sums[:, 1] > 0)
    if spread is not None:
        found["sensitivity, BCa whatever the groups"] = Interval(value, *spread.ends(0.95), "")
    return found


def percentile(label: NDArray[np.int64], score: NDArray[np.float64], resampling: Resampling) -> Interval:
    """The usual interval of resampled groups: quantiles of the draws as they are, groups not stratified."""
    plain = Resampling(resampling.index, draws=PERCENTILE_DRAWS, seed=resampling.seed)
    ranking = Ranking(label, score, plain.index)
    drawn = np.concatenate([ranking.auroc(times) for times in plain.blocks(label.size)])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(None, float(low), float(high), "")


if __name__ == "__main__":
    main()
