from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from sklearn.linear_model import LogisticRegression

from callus.errors import CallusError
from callus.metrics.reliability import equal_count_bins, recalibration, reliability
from callus.metrics.resampling import Interval
from callus.metrics.scores import brier


def holds(figure: Interval, truth: float) -> bool:
    assert figure.low is not None
    assert figure.high is not None
    return figure.low <= truth <= figure.high


def simulated(slope: float, intercept: float, groups: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and groups of three; the log odds are ``slope`` times those said, and ``intercept``."""
    generator = np.random.default_rng(3)
    group = np.repeat(np.arange(groups), 3)
    logit = generator.normal(-0.3, 1.2, groups)[group] + generator.normal(0, 0.8, group.size)
    label = (generator.random(group.size) < special.expit(slope * logit + intercept)).astype(int)
    return label, special.expit(logit), group


@pytest.mark.parametrize("slope", [0.5, 1.0, 1.8])
def test_a_known_slope_is_recovered(slope: float) -> None:
    _, found = recalibration(*simulated(slope, 0.2))
    assert holds(found, slope)
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low < 0.3 * slope
    assert slope == 1.0 or not holds(found, 1.0)


@pytest.mark.parametrize("intercept", [-0.7, 0.0, 0.7])
def test_a_known_intercept_is_recovered(intercept: float) -> None:
    found, slope = recalibration(*simulated(1.0, intercept))
    assert holds(found, intercept)
    assert holds(slope, 1.0)
    assert intercept == 0.0 or not holds(found, 0.0)


def test_the_slope_is_that_of_scikit_learns_regression() -> None:
    label, probability, group = simulated(0.6, 0.3, 100)
    logit = special.logit(probability)[:, None]
    other = LogisticRegression(C=np.inf, tol=1e-10).fit(logit, label)
    intercept, slope = recalibration(label, probability, group)
    assert slope.value == pytest.approx(other.coef_[0, 0], abs=1e-5)
    # The intercept's own equation: as many fractures are expected as there are.
    assert special.expit(logit + intercept.value).sum() == pytest.approx(label.sum())


def test_the_error_is_that_of_leaving_each_group_out() -> None:
    label, probability, group = simulated(0.6, 0.3, 240)
    figures = recalibration(label, probability, group)
    refitted = [
        recalibration(label[group != one], probability[group != one], group[group != one]) for one in range(240)
    ]
    for place, figure in enumerate(figures):
        without = np.array([one[place].value for one in refitted])
        error = np.sqrt(239 / 240 * ((without - without.mean()) ** 2).sum())
        assert figure.high is not None
        assert figure.value is not None
        half = figure.high - figure.value
        assert half == pytest.approx(special.stdtrit(239, 0.975) * error, rel=0.01)  # one Newton step, not all


def test_intervals_by_group_cover_where_files_as_independent_do_not() -> None:
    generator = np.random.default_rng(4)
    hits, files = np.zeros(2), np.zeros(2)
    repeats, groups = 300, 30
    for _ in range(repeats):
        group = np.repeat(np.arange(groups), generator.integers(1, 20, groups))
        logit = generator.normal(0, 1.5, groups)[group]  # copies: one probability and one label a group
        label = (generator.random(groups) < special.expit(logit[np.unique(group, return_index=True)[1]]))[group].astype(
            int
        )
        # The share of fractures is right; so are intercept 0 and slope 1.
        for counts, names in ((hits, group), (files, np.arange(group.size))):
            for place, (figure, truth) in enumerate(
                zip(recalibration(label, special.expit(logit), names), (0.0, 1.0), strict=True)
            ):
                # Where no finite slope fits best, nothing is claimed, and nothing is missed.
                counts[place] += figure.low is None or holds(figure, truth)
    assert (hits / repeats >= 0.92).all()
    assert (files / repeats < 0.65).all()


def test_ece_and_the_curve_by_hand() -> None:
    # Two bins of four. Low: said 0.1, 0.1, 0.2, 0.2 (mean 0.15), 1 of 4 fractured: gap 0.10.
    # High: said 0.6, 0.7, 0.8, 0.9 (mean 0.75), 2 of 4 fractured: gap 0.25. ECE = (4 * 0.10 + 4 * 0.25) / 8 = 0.175.
    probability = [0.1, 0.1, 0.2, 0.2, 0.6, 0.7, 0.8, 0.9]
    label = [0, 0, 0, 1, 1, 0, 1, 0]
    found = reliability(label, probability, range(8), bins=2)
    assert found.ece.value == pytest.approx(0.175)
    assert found.ece.low is None
    assert "noise" in found.ece.reason
    low, high = found.curve
    assert (low.low, low.high, low.count, low.probability) == pytest.approx((0.1, 0.2, 4, 0.15))
    assert (high.fractured.value, high.fractured.method) == (0.5, "Wilson")
    # Wilson's interval of 1 in 4 (Newcombe, Stat Med 1998, 17:857, method 3): 0.0456 to 0.6994.
    assert (low.fractured.low, low.fractured.high) == pytest.approx((0.0456, 0.6994), abs=5e-5)
    assert found.brier.value == pytest.approx(brier(label, probability))


def test_bins_of_groups_are_wider_than_of_files() -> None:
    label, probability, _ = simulated(1.0, 0.0, 100)
    copies = np.repeat(np.arange(300), 10)
    by_file = reliability(label[copies], probability[copies], np.arange(3000), bins=4)
    by_group = reliability(label[copies], probability[copies], copies, bins=4)
    for files, groups in zip(by_file.curve, by_group.curve, strict=True):
        assert files.fractured.value == groups.fractured.value
        assert None not in (files.fractured.low, groups.fractured.low)
        width = [(one.fractured.high or 0) - (one.fractured.low or 0) for one in (files, groups)]
        assert width[1] > 2 * width[0]


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 12))
def test_bins_hold_equal_counts_and_never_part_equal_ones(values: list[int], bins: int) -> None:
    probability = np.array(values) / 6
    place = equal_count_bins(probability, bins)
    for value in set(values):
        assert len(set(place[probability == value / 6])) == 1
    assert (np.diff(place[np.argsort(probability)]) >= 0).all()
    assert ((place >= 0) & (place < bins)).all()
    distinct = equal_count_bins(np.arange(len(values)) / 100, bins)
    counts = np.bincount(distinct, minlength=bins)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("label", "probability", "intercept", "slope"),
    [
        ([], [], "no case", "no case"),
        ([1, 1], [0.2, 0.3], "a class is missing", "a class is missing"),
        ([0, 1, 1], [0.2, 0.2, 0.2], "", "all probabilities are equal"),
        ([0, 0, 1, 1], [0.2, 0.3, 0.3, 0.4], "", "part the classes wholly"),
        ([1, 1, 0, 0], [0.2, 0.3, 0.4, 0.5], "", "part the classes wholly"),
    ],
)
def test_what_is_not_defined_is_none(label: list[int], probability: list[float], intercept: str, slope: str) -> None:
    found = reliability(label, probability, range(len(label)))
    assert intercept in found.intercept.reason
    assert slope in found.slope.reason
    assert (found.intercept.value is None) == bool(intercept)
    assert found.slope.value is None
    assert (found.brier.value is None) == (not label)
    json.dumps(found.as_dict(), allow_nan=False)


def test_one_group_has_figures_and_no_interval() -> None:
    label, probability, _ = simulated(1.0, 0.0, 20)
    found = reliability(label, probability, ["one"] * 60)
    for figure in (found.intercept, found.slope, found.brier, found.curve[0].fractured):
        assert figure.value is not None
        assert figure.low is None
        assert "one group" in figure.reason


def test_a_group_without_which_nothing_is_left_is_told() -> None:
    # All but the last group have one and the same probability: without it there is no slope.
    label, probability, group = [0, 1, 0, 1, 1, 1], [0.4, 0.4, 0.4, 0.4, 0.9, 0.2], [0, 0, 1, 1, 2, 2]
    _, slope = recalibration(label, probability, group)
    assert slope.value is not None
    assert slope.low is None
    assert "one group alone" in slope.reason


def test_probabilities_of_zero_and_one_are_taken_near_them() -> None:
    label, probability = [0, 0, 1, 1, 0, 1], [0.0, 0.4, 1.0, 0.6, 1.0, 0.0]
    found, slope = recalibration(label, probability, range(6))
    assert None not in (found.value, found.low, slope.value, slope.low)


@pytest.mark.parametrize(
    ("label", "probability", "group", "options", "message"),
    [
        ([1], [0.5, 0.5], [1, 2], {}, "2 probabilities do not go with 1 labels"),
        ([1, 2], [0.5, 0.5], [1, 2], {}, "neither 0 nor 1"),
        ([1, 0], [0.5, 1.5], [1, 2], {}, "not in"),
        ([1, 0], [0.5, 0.5], [1], {}, "1 groups do not go with 2"),
        ([1, 0], [0.5, 0.5], [1, None], {}, "no group"),
        ([1, 0], [0.5, 0.5], [1, 2], {"bins": 0}, "0 bins"),
        ([1, 0], [0.5, 0.5], [1, 2], {"level": 95}, "the level is 95"),
    ],
)
def test_wrong_input(label: list[int], probability: list[float], group: list[int], options: dict, message: str) -> None:
    with pytest.raises(CallusError, match=message):
        reliability(label, probability, group, **options)
