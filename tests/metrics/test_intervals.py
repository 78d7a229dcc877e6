"""Every figure's interval: the value is the plain figure's, it covers what it should, and bad input has a reason."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics

from callus.errors import CallusError
from callus.metrics import counts, delong, scores
from callus.metrics.intervals import auroc_interval, figure_intervals, ranking_intervals, threshold_intervals
from callus.metrics.proportions import wilson
from callus.metrics.ranking import Ranking
from callus.metrics.resampling import Interval, Resampling

NAMES = {
    *("auroc", "auprc", "brier", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1"),
    *("kappa", "lr_positive", "lr_negative"),
}
AT_PREVALENCE = {"ppv_at_prevalence", "npv_at_prevalence"}


def clustered(
    groups: int = 60, seed: int = 0, *, largest: int = 50, apart: float = 1.8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and groups of 1 to ``largest`` files that share an effect; every third group is mixed."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), random.integers(1, largest + 1, groups))
    label = random.integers(0, 2, groups)[group]
    label = np.where(group % 3 == 0, random.integers(0, 2, group.size), label)
    logit = apart * (label - 0.5) + random.normal(0, 1, groups)[group] + random.normal(0, 0.5, group.size)
    return label, special.expit(logit), group


def ordered(interval: Interval) -> bool:
    """Whether low <= value <= high, as far as they are there, and something says why where they are not."""
    ends = [end for end in (interval.low, interval.value, interval.high) if end is not None]
    complete = len(ends) == 3
    return ends == sorted(ends) and all(map(math.isfinite, ends)) and (complete or bool(interval.reason))


@pytest.mark.parametrize("groups", [True, False])
def test_values_are_those_of_the_plain_figures(groups: bool) -> None:
    label, probability, group = clustered(largest=6)
    probability = probability.round(2)
    found = figure_intervals(
        label, probability, group if groups else np.arange(label.size), 0.4, prevalence=0.1, draws=200
    )
    table = scores.score_table(label, probability, 0.4, prevalence=0.1)
    assert set(found) == NAMES | AT_PREVALENCE
    for name, interval in found.items():
        assert interval.value == pytest.approx(table[name], abs=1e-12), name
        assert interval.low < interval.value < interval.high, name
        assert interval.method
    assert json.loads(json.dumps({name: one.as_dict() for name, one in found.items()}, allow_nan=False))


def test_where_every_group_has_one_file_the_plain_methods_are_named() -> None:
    label, probability, _ = clustered(largest=4)
    found = figure_intervals(label, probability, np.arange(label.size), 0.5, draws=200)
    positives = int(label.sum())
    assert (found["sensitivity"].low, found["sensitivity"].high) == wilson(found["sensitivity"].value, positives)
    for name in ("accuracy", "sensitivity", "specificity", "ppv", "npv"):
        assert found[name].method == "Wilson"
    assert found["auroc"].method.startswith("DeLong, logit scale")
    assert "bootstrap" in found["kappa"].method
    grouped = figure_intervals(label, probability, clustered(largest=4)[2], 0.5, draws=200)
    assert grouped["auroc"].method.startswith("clustered DeLong (Obuchowski)")
    assert "bootstrap" in grouped["sensitivity"].method


def test_the_aurocs_ends_are_delongs_on_the_logit_scale() -> None:
    label, probability, group = clustered(largest=4)
    found = auroc_interval(label, probability, group)
    areas = delong.areas(label, [probability], group)
    assert areas is not None
    value, variance, freedom = areas.contrast([1])
    assert freedom >= 4
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(variance) / (value * (1 - value))
    expected = special.expit(special.logit(value) + np.array([-reach, reach]))
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    # A logit does as well as its probability.
    assert auroc_interval(label, special.logit(probability), group) == found
    narrow = auroc_interval(label, probability, group, level=0.5)
    assert found.low < narrow.low < narrow.high < found.high


@pytest.mark.parametrize(("groups", "least", "most"), [(30, 0.92, 1.0), (200, 0.92, 0.985)])
def test_the_aurocs_interval_covers_the_truth(groups: int, least: float, most: float) -> None:
    """400 times; the standard error of a coverage of 0.95 is then 0.011. bench/coverage.py does it at length."""
    truth = float(special.ndtr(1.8 / math.sqrt(2 * (1 + 0.25))))  # of files of two groups
    held, single = [], []
    for seed in range(400):
        label, probability, group = clustered(groups, seed)
        for files, one in ((held, group), (single, np.arange(label.size))):
            interval = auroc_interval(label, probability, one)
            files.append(interval.low <= truth <= interval.high)
    assert least <= np.mean(held) <= most
    assert np.mean(single) < 0.5


def test_a_sensitivitys_interval_covers_the_truth() -> None:
    truth = float(special.ndtr(0.9 / math.sqrt(1.25)))
    held = []
    for seed in range(200):
        label, probability, group = clustered(40, seed, largest=15)
        resampling = Resampling(group, label, 500, seed)
        interval = threshold_intervals(label, probability, 0.5, resampling)["sensitivity"]
        held.append(interval.low <= truth <= interval.high)
    assert np.mean(held) >= 0.92


def test_auroc_and_auprc_of_draws_equal_scikit_learns() -> None:
    label, probability, group = clustered(20, largest=5)
    probability = probability.round(1)  # ties
    resampling = Resampling(group, label, 100)
    ranking = Ranking(label, probability, resampling.index)
    times = np.concatenate(list(resampling.blocks(1)))
    weights = times[:, resampling.index]
    auroc, auprc = ranking.auroc(times), ranking.auprc(times)
    for draw in range(100):
        weight = weights[draw]
        assert auroc[draw] == pytest.approx(metrics.roc_auc_score(label, probability, sample_weight=weight))
        assert auprc[draw] == pytest.approx(metrics.average_precision_score(label, probability, sample_weight=weight))
    only_others = np.zeros((1, resampling.groups), np.uint8)
    assert np.isnan(ranking.auroc(only_others)).all()
    assert np.isnan(ranking.auprc(only_others)).all()


def test_figures_of_counts_equal_those_of_one_confusion() -> None:
    random = np.random.default_rng(0)
    drawn = random.integers(0, 4, (200, 4)).astype(float)
    for name, figure in counts.FIGURES.items():
        for row, value in zip(drawn, figure(drawn), strict=True):
            expected = getattr(scores.Confusion(*map(int, row)), name)
            assert (value if np.isfinite(value) else None) == (None if expected is None else pytest.approx(expected))


def test_parts_with_shared_draws_are_the_whole() -> None:
    label, probability, group = clustered(largest=6)
    resampling = Resampling(group, label, 300, 7)
    parts = ranking_intervals(label, probability, resampling) | threshold_intervals(
        label, probability, 0.3, resampling, prevalence=0.2
    )
    assert parts == figure_intervals(label, probability, group, 0.3, prevalence=0.2, draws=300, seed=7)
    assert parts == figure_intervals(label, probability, (), 0.3, prevalence=0.2, resampling=resampling)
    assert parts["auprc"] != figure_intervals(label, probability, group, 0.3, draws=300, seed=8)["auprc"]
    order = np.random.default_rng(0).permutation(label.size)
    moved = figure_intervals(label[order], probability[order], group[order], 0.3, prevalence=0.2, draws=300, seed=7)
    for name, interval in parts.items():  # sums in another order round otherwise
        assert (moved[name].low, moved[name].high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_classes_that_do_not_overlap_get_no_interval_of_width_zero() -> None:
    group = np.repeat(np.arange(30), 4)
    label = group % 2
    found = figure_intervals(label, 0.1 + 0.8 * label, group, 0.5, prevalence=0.1)
    assert found["auroc"].value == 1
    assert found["auroc"].low == pytest.approx(0.025 ** (1 / 15))  # 15 disjoint pairs of groups
    assert "exact for 15 disjoint pairs" in found["auroc"].method
    for name in ("auprc", "accuracy", "balanced_accuracy", "sensitivity", "f1", "kappa", "npv_at_prevalence"):
        assert found[name].value == pytest.approx(1)
        assert 0 < found[name].low < 0.98
        assert found[name].high == 1
        assert found[name].method
    assert found["lr_positive"].value is None
    assert found["lr_positive"].reason == "infinite: no false alarm"
    assert found["lr_positive"].low > 1
    assert found["lr_negative"].value == found["lr_negative"].low == 0
    assert 0 < found["lr_negative"].high < 1
    turned = auroc_interval(1 - label, 0.1 + 0.8 * label, group)
    assert (turned.value, turned.low, turned.high) == (0, 0, pytest.approx(1 - found["auroc"].low))
    json.dumps({name: one.as_dict() for name, one in found.items()}, allow_nan=False)


def test_the_auprcs_end_without_overlap_is_that_of_two_normal_distributions() -> None:
    group = np.arange(40)
    found = ranking_intervals(group % 2, group % 2, Resampling(group, group % 2))
    random = np.random.default_rng(0)
    apart = math.sqrt(2) * special.ndtri(found["auroc"].low)
    label = random.integers(0, 2, 200_000)
    expected = metrics.average_precision_score(label, apart * label + random.normal(0, 1, label.size))
    assert found["auprc"].low == pytest.approx(expected, abs=0.005)


def test_all_probabilities_equal() -> None:
    group = np.repeat(np.arange(24), 3)
    label = group % 2
    found = figure_intervals(label, np.full(72, 0.7), group, 0.5, prevalence=0.1)
    assert found["auroc"].value == 0.5
    assert found["auroc"].low < 0.35
    assert found["auroc"].high > 0.65
    assert found["kappa"].value == 0
    assert "hardly any group differs" in found["kappa"].reason
    assert found["npv"].reason == found["lr_negative"].reason == "everything is called fractured"
    assert found["npv_at_prevalence"].value is None
    assert found["ppv_at_prevalence"].value == pytest.approx(0.1)
    assert all(ordered(one) for one in found.values())


@pytest.mark.parametrize(
    ("label", "group", "undefined", "reason"),
    [
        ([0] * 6, range(6), {"auroc", "auprc", "sensitivity", "balanced_accuracy", "lr_positive"}, "no fractured case"),
        ([1] * 6, range(6), {"auroc", "specificity", "lr_negative"}, "no case that is not fractured"),
        ([], [], {"auroc", "auprc"}, "no fractured case"),
        ([], [], {"accuracy"}, "no case"),
    ],
)
def test_a_missing_class_has_a_reason(label: list[int], group: object, undefined: set[str], reason: str) -> None:
    probability = np.linspace(0.2, 0.8, len(label))
    found = figure_intervals(label, probability, list(group), 0.5, prevalence=0.1)  # type: ignore[call-overload]
    for name in undefined:
        assert found[name].value is None
        assert found[name].reason == reason
    assert all(ordered(one) for one in found.values())


def test_a_class_of_one_group_has_a_value_and_no_interval() -> None:
    label = np.array([0, 0, 0, 0, 1, 1])
    probability = np.array([0.1, 0.6, 0.3, 0.2, 0.7, 0.4])
    found = figure_intervals(label, probability, ["a", "b", "c", "d", "e", "e"], 0.5)
    for name in ("auroc", "auprc", "sensitivity", "balanced_accuracy", "lr_positive"):
        assert found[name].value is not None
        assert found[name].low is None
        assert "of one group" in found[name].reason
    assert found["specificity"].low is not None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]), st.integers(0, 5)), max_size=25),
    st.sampled_from([0.0, 0.5, 0.9, 2.0]),
)
def test_whatever_comes_nothing_crashes_and_nothing_is_silent(
    cases: list[tuple[int, float, int]], threshold: float
) -> None:
    label, probability, group = ([case[place] for case in cases] for place in range(3))
    found = figure_intervals(label, probability, group, threshold, prevalence=0.3, draws=100)
    assert set(found) == NAMES | AT_PREVALENCE
    for name, interval in found.items():
        assert ordered(interval), (name, interval)
    json.dumps({name: one.as_dict() for name, one in found.items()}, allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1, 0], [0.5], [0, 1], 0.5), {}, "1 probabilities do not go with 2 labels"),
        (([1, 0], [0.5, 0.5], [0], 0.5), {}, "do not go with"),
        (([1, 2], [0.5, 0.5], [0, 1], 0.5), {}, "neither 0 nor 1"),
        (([1, 0], [0.5, math.nan], [0, 1], 0.5), {}, "not numbers"),
        (([1, 0], [0.5, 0.5], ["a", None], 0.5), {}, "1 of 2 rows have no group"),
        (([1, 0], [0.5, 0.5], [0, 1], 0.5), {"prevalence": 5}, "the prevalence is 5"),
        (([1, 0], [0.5, 0.5], [0, 1], 0.5), {"level": 95}, "the level is 95"),
    ],
)
def test_wrong_input(arguments: tuple[object, ...], options: dict[str, float], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        figure_intervals(*arguments, **options)  # type: ignore[arg-type]


def test_wrong_groups_of_an_auroc() -> None:
    with pytest.raises(CallusError, match="1 groups do not go with 2 rows"):
        auroc_interval([0, 1], [0.1, 0.2], [0])


def test_the_ppv_of_alike_groups_covers_the_truth() -> None:
    """Files of a group share label and call; how many groups are fractured is chance, as the PPV is."""
    generator = np.random.default_rng(8)
    held, repetitions = 0, 120
    for _ in range(repetitions):
        sizes = generator.integers(1, 10, 80)
        fractured = generator.random(80) < 0.2
        called = np.where(fractured, generator.random(80) < 0.95, generator.random(80) < 0.5)
        label, probability = np.repeat(fractured, sizes).astype(int), np.repeat(called, sizes).astype(float)
        found = figure_intervals(label, probability, np.repeat(np.arange(80), sizes), 0.5, draws=500)["ppv"]
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.19 / (0.19 + 0.4) <= found.high
    assert held / repetitions >= 0.92
