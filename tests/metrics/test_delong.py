"""DeLong's variance against a published example, the definition, and resampling; Obuchowski's against both."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from callus.errors import CallusError
from callus.metrics.delong import areas, placements

# World Federation of Neurological Surgeons' grade (1 to 5) of 113 patients with an aneurysmal subarachnoid haemorrhage,
# by outcome: Turck et al., Intensive Care Med 2010, 36:107. The R package pROC uses it as its example, and its tests
# give the AUROC's variance by DeLong.
GRADES = np.arange(1, 6)
GOOD, POOR = (37, 20, 3, 8, 4), (2, 12, 1, 8, 18)
PUBLISHED_AUROC, PUBLISHED_VARIANCE = 0.82367886178861788, 0.00146991470882363


def clustered(seed: int = 0, groups: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores (rounded: ties) and groups, of one class and mixed."""
    random = np.random.default_rng(seed)
    index = np.repeat(np.arange(groups), random.integers(1, 8, groups))
    kind = random.integers(0, 2, groups)[index]
    label = np.where(index % 3 == 0, random.integers(0, 2, index.size), kind)
    score = label + random.normal(0, 1, groups)[index] + random.normal(0, 0.5, index.size)
    return label, score.round(1), index


def by_definition(label: np.ndarray, first: np.ndarray, second: np.ndarray, index: np.ndarray) -> float:
    """Obuchowski's covariance of two AUROCs with every sum of the paper written out."""

    def psi(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    rows = [np.flatnonzero(label == kind) for kind in (1, 0)]
    placed, auroc = [], []
    for score in (first, second):
        v10 = {i: sum(psi(score[i], score[j]) for j in rows[1]) / len(rows[1]) for i in rows[0]}
        v01 = {j: sum(psi(score[i], score[j]) for i in rows[0]) / len(rows[0]) for j in rows[1]}
        auroc.append(sum(v10.values()) / len(rows[0]))
        placed.append((v10, v01))
    names = sorted(set(index))
    sums = np.zeros((2, 2, len(names)))  # model, class, group
    for model, (one, area) in enumerate(zip(placed, auroc, strict=True)):
        for kind in (0, 1):
            for row, value in one[kind].items():
                sums[model, kind, names.index(index[row])] += value - area
    held = [len({index[row] for row in one}) for one in rows]
    m, n = len(rows[0]), len(rows[1])
    s10 = held[0] / ((held[0] - 1) * m) * (sums[0, 0] * sums[1, 0]).sum()
    s01 = held[1] / ((held[1] - 1) * n) * (sums[0, 1] * sums[1, 1]).sum()
    s11 = len(names) / (len(names) - 1) * (sums[0, 0] * sums[1, 1]).sum()
    s11_turned = len(names) / (len(names) - 1) * (sums[1, 0] * sums[0, 1]).sum()
    return float(s10 / m + s01 / n + (s11 + s11_turned) / (m * n))


def test_a_published_example() -> None:
    score = np.r_[np.repeat(GRADES, GOOD), np.repeat(GRADES, POOR)]
    label = np.r_[np.zeros(sum(GOOD), int), np.ones(sum(POOR), int)]
    found = areas(label, [score], np.arange(label.size))
    assert found is not None
    assert found.auroc[0] == pytest.approx(PUBLISHED_AUROC, rel=1e-12)
    assert found.covariance[0, 0] == pytest.approx(PUBLISHED_VARIANCE, rel=1e-12)
    assert found.single


def test_where_every_group_has_one_row_it_is_delongs() -> None:
    """With the variance as DeLong, DeLong and Clarke-Pearson write it."""
    label, score, _ = clustered()
    placed = placements(label, score)
    expected = sum(np.var(placed[label == kind], ddof=1) / (label == kind).sum() for kind in (0, 1))
    found = areas(label, [score], np.random.default_rng(1).permutation(label.size))
    assert found is not None
    assert found.covariance[0, 0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_covariance_is_the_papers(seed: int) -> None:
    label, first, index = clustered(seed, 12)
    second = (first + np.random.default_rng(5).normal(0, 1, first.size)).round(1)
    found = areas(label, [first, second], index)
    assert found is not None
    expected = [[by_definition(label, a, b, index) for b in (first, second)] for a in (first, second)]
    assert found.covariance == pytest.approx(np.array(expected), rel=1e-10)
    difference = found.contrast([1, -1])
    assert difference.value == pytest.approx(found.auroc[0] - found.auroc[1])
    assert difference.variance == pytest.approx(expected[0][0] + expected[1][1] - 2 * expected[0][1], rel=1e-10)


def test_the_variance_is_that_of_resampled_groups() -> None:
    label, score, index = clustered(2, 150)
    random = np.random.default_rng(0)
    rows = [np.flatnonzero(index == group) for group in range(150)]
    drawn = []
    for _ in range(1500):
        chosen = np.concatenate([rows[group] for group in random.integers(0, 150, 150)])
        fractured, ranks = label[chosen] == 1, stats.rankdata(score[chosen])
        positives = fractured.sum()
        above = ranks[fractured].sum() - positives * (positives + 1) / 2
        drawn.append(above / (positives * (~fractured).sum()))
    found = areas(label, [score], index)
    assert found is not None
    assert np.std(drawn) == pytest.approx(np.sqrt(found.covariance[0, 0]), rel=0.06)
    # Files as independent would give far less.
    single = areas(label, [score], np.arange(label.size))
    assert single is not None
    assert single.covariance[0, 0] < 0.5 * found.covariance[0, 0]


def test_placements_average_to_the_auroc_in_both_classes() -> None:
    label, score, _ = clustered()
    expected = metrics.roc_auc_score(label, score)
    placed = placements(label, score)
    assert [placed[label == kind].mean() for kind in (0, 1)] == pytest.approx([expected, expected])


def test_degrees_of_freedom_count_the_groups_that_carry_the_variance() -> None:
    random = np.random.default_rng(3)
    label = np.repeat([0, 1], 40)
    score = label + random.normal(0, 1, 80)
    even = areas(label, [score], np.arange(80))
    # The same, with half of the fractured in one group.
    heavy = areas(label, [score], np.r_[np.arange(60), np.full(20, 60)])
    assert even is not None
    assert heavy is not None
    added = even.positive[0] + even.negative[0]
    assert even.contrast([1]).freedom == pytest.approx((added**2).sum() ** 2 / (added**4).sum() - 1)
    assert heavy.contrast([1]).freedom < even.contrast([1]).freedom
    # Never more than the groups of the rarer class, less one.
    rare = areas(np.r_[np.zeros(60, int), np.ones(20, int)], [score], np.r_[np.arange(60), np.repeat([60, 61], 10)])
    assert rare is not None
    assert rare.contrast([1]).freedom <= 1


def test_disjoint_pairs() -> None:
    label, score, index = clustered(0, 12)
    found = areas(label, [score], index)
    assert found is not None
    assert found.pairs == min(found.fractured, found.others, 6)
    mixed = areas([0, 1] * 5, [np.arange(10)], np.repeat(np.arange(5), 2))
    assert mixed is not None
    assert mixed.pairs == 2


def test_a_class_of_one_group_has_no_variance() -> None:
    assert areas([0, 0, 1, 1], [[0.1, 0.2, 0.3, 0.4]], np.array([0, 1, 2, 2])) is None
    assert areas([0, 0], [[0.1, 0.2]], np.array([0, 1])) is None


def test_wrong_input() -> None:
    with pytest.raises(CallusError, match="3 groups do not go with 2 labels"):
        areas([0, 1], [[0.1, 0.2]], np.array([0, 1, 2]))
