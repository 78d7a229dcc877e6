from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from callus.errors import CallusError
from callus.metrics.curves import Curve, precision_recall_curve, roc_curve
from callus.metrics.intervals import auroc_interval
from callus.metrics.proportions import wilson
from callus.metrics.resampling import Resampling

Make = Callable[..., Curve]
CURVES: list[Make] = [roc_curve, precision_recall_curve]


def simulated(groups: int = 60, seed: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with many ties, and groups of one to five files."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), random.integers(1, 6, groups))
    label = (random.random(groups) < 0.4).astype(int)[group]
    logit = 1.5 * label - 1 + random.normal(0, 0.8, groups)[group] + random.normal(0, 0.6, group.size)
    return label, np.round(1 / (1 + np.exp(-logit)), 2), group


def sensitivities(label: np.ndarray, probability: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """By scikit-learn; of two points at a rate ``np.interp`` goes on from the upper one."""
    false, true, _ = metrics.roc_curve(label, probability, drop_intermediate=False)
    return np.interp(rates + 1e-10, false, true)  # 0.29 of 100 are 29, whatever 0.29 is in binary


def precisions(label: np.ndarray, probability: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """By scikit-learn; its recalls fall, so the highest threshold that reaches one comes last."""
    precision, recall, _ = metrics.precision_recall_curve(label, probability)
    return np.array([precision[np.flatnonzero(recall >= wanted - 1e-10)[-1]] for wanted in recalls])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=60))
def test_the_curves_are_those_of_scikit_learn(cases: list[tuple[bool, int]]) -> None:
    label = np.array([fractured for fractured, _ in cases], dtype=int)
    label[:2] = 0, 1
    probability = np.array([value for _, value in cases]) / 12
    resampling = Resampling(np.arange(label.size), label, draws=100)
    roc, recall = (curve(label, probability, resampling) for curve in CURVES)
    assert roc.x == tuple(percent / 100 for percent in range(101))
    assert roc.y == pytest.approx(sensitivities(label, probability, np.array(roc.x)), abs=1e-7)
    assert recall.x == tuple(percent / 100 for percent in range(1, 101))
    assert recall.y == pytest.approx(precisions(label, probability, np.array(recall.x)), abs=1e-12)


def test_the_areas_are_auroc_and_average_precision() -> None:
    label, probability, group = simulated(groups=300)
    resampling = Resampling(group, label, draws=100)
    roc, recall = (curve(label, probability, resampling) for curve in CURVES)
    assert metrics.auc(roc.x, roc.y) == pytest.approx(metrics.roc_auc_score(label, probability), abs=0.005)
    assert np.mean(recall.y) == pytest.approx(metrics.average_precision_score(label, probability), abs=0.005)


def test_a_hand_made_case() -> None:
    # By falling probability: fractured, a tie of both, not fractured, fractured, not fractured twice.
    label, probability = [1, 1, 0, 0, 1, 0, 0], [0.9, 0.8, 0.8, 0.5, 0.4, 0.2, 0.2]
    resampling = Resampling(range(7), label, draws=100)
    roc, recall = (curve(label, probability, resampling) for curve in CURVES)
    at = dict(zip(roc.x, roc.y, strict=True))
    # The first is found for nothing; from there to (1/4, 2/3) along the tie, level to 1/2, and there up to 1.
    expected = {0.0: 1 / 3, 0.1: 1 / 3 + 0.1 * 4 / 3, 0.25: 2 / 3, 0.49: 2 / 3, 0.5: 1, 1.0: 1}
    assert {x: at[x] for x in expected} == pytest.approx(expected)
    at = dict(zip(recall.x, recall.y, strict=True))
    expected = {0.01: 1, 0.33: 1, 0.34: 2 / 3, 0.66: 2 / 3, 0.67: 3 / 5, 1.0: 3 / 5}
    assert {x: at[x] for x in expected} == pytest.approx(expected)


@pytest.mark.parametrize("curve", CURVES)
def test_bands_hold_the_value_and_the_method_is_told(curve: Make) -> None:
    label, probability, group = simulated()
    found = curve(label, probability, Resampling(group, label, draws=300))
    assert "300 draws of 60 groups" in found.method
    assert found.reason == ""
    for low, value, high in zip(found.low, found.y, found.high, strict=True):
        assert 0 <= low <= value <= high <= 1
    narrower = curve(label, probability, Resampling(group, label, draws=300), 0.5)
    assert narrower.y == found.y
    assert np.mean(np.subtract(narrower.high, narrower.low)) < 0.7 * np.mean(np.subtract(found.high, found.low))


def test_the_band_of_independent_cases_at_an_easy_place_is_near_wilsons() -> None:
    """With very many cases that are not fractured, their share of the variance vanishes."""
    random = np.random.default_rng(4)
    label = np.repeat([1, 0], [150, 3000])
    probability = 1 / (1 + np.exp(-(random.normal(size=label.size) + 1.5 * label)))
    found = roc_curve(label, probability, Resampling(range(label.size), label, draws=500))
    place = 20
    low, high = wilson(found.y[place], 150)
    assert found.low[place] == pytest.approx(low, abs=0.02)
    assert found.high[place] == pytest.approx(high, abs=0.02)
    assert (found.low[-1], found.high[-1]) == (1, 1)
    assert found.low[-2] < 1


@pytest.mark.parametrize("curve", CURVES)
def test_copies_in_a_group_tell_nothing_new(curve: Make) -> None:
    label, probability, group = simulated()
    once = curve(label, probability, Resampling(group, label, draws=300))
    copied = [np.repeat(values, 5) for values in (label, probability, group)]
    clustered = curve(*copied[:2], Resampling(copied[2], copied[0], draws=300))
    apart = curve(*copied[:2], Resampling(np.arange(copied[0].size), copied[0], draws=300))
    assert clustered.low == pytest.approx(once.low)
    assert clustered.high == pytest.approx(once.high)
    wide, narrow = (np.mean(np.subtract(one.high, one.low)) for one in (clustered, apart))
    assert wide > 1.8 * narrow


@pytest.mark.parametrize("curve", CURVES)
def test_the_order_of_the_rows_and_the_size_of_blocks_change_nothing(
    curve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, probability, group = simulated()
    found = curve(label, probability, Resampling(group, label, draws=200))
    order = np.random.default_rng(1).permutation(label.size)
    assert curve(label[order], probability[order], Resampling(group[order], label[order], draws=200)) == found
    monkeypatch.setattr("callus.metrics.resampling._BLOCK", 1000)
    assert curve(label, probability, Resampling(group, label, draws=200)) == found


@pytest.mark.parametrize("curve", CURVES)
def test_what_is_not_defined_has_its_reason(curve: Make) -> None:
    nothing = curve([], [], Resampling([], draws=100))
    assert nothing == Curve((), (), (), (), "", "no fractured case")
    one_class = curve([1, 1], [0.2, 0.9], Resampling([1, 2], draws=100))
    assert one_class == Curve((), (), (), (), "", "no case that is not fractured")
    one_group = curve([1, 1, 0, 0], [0.9, 0.3, 0.4, 0.1], Resampling([1, 1, 2, 3], draws=100))
    assert set(one_group.low) == {None} == set(one_group.high)
    assert "every fractured case is of one group" in one_group.reason
    assert one_group.y[-1] == (1 if curve is roc_curve else 0.5 + 1 / 6)
    for one in (nothing, one_class, one_group):
        told = json.loads(json.dumps(one.as_dict(), allow_nan=False))
        assert told["reason"] == one.reason
        assert len(told["x"]) == len(told["y"]) == len(told["low"]) == len(told["high"])


def test_draws_without_a_class_are_counted() -> None:
    label = [1, 1, *[0] * 8]
    probability = [0.9, 0.4, *np.linspace(0.1, 0.8, 8)]
    found = precision_recall_curve(label, probability, Resampling(range(10), label, draws=400))
    # Two of ten groups are missing from (8 / 10) ** 10 of the draws, about 43 of 400.
    assert "draws without a class left out" in found.method
    left_out = int(found.method.split("; ")[2].split()[0])
    assert 20 < left_out < 70
    assert "reason" not in found.as_dict()


def test_where_the_classes_do_not_overlap_the_band_has_a_width() -> None:
    label = np.repeat([1, 0], 20)
    resampling = Resampling(np.arange(40) // 2, label, draws=200)
    for curve in (one(label, label * 0.5 + 0.2, resampling) for one in CURVES):
        assert set(curve.y) == {1.0}
        assert set(curve.high) == {1.0}
        assert all(0.5 < low < 1 for low in curve.low[:-1])
    # Ten groups of two: worth ten cases.
    assert roc_curve(label, label * 0.5 + 0.2, resampling).low[0] == pytest.approx(wilson(1.0, 10)[0])
    assert auroc_interval(label, label * 0.5 + 0.2, resampling.index).low < 1


@pytest.mark.parametrize("curve", CURVES)
def test_wrong_input(curve: Make) -> None:
    resampling = Resampling([1, 2], draws=100)
    for label, probability, level, message in (
        ([1, 2], [0.2, 0.3], 0.95, "neither 0 nor 1"),
        ([1, 0], [0.2, np.nan], 0.95, "not in"),
        ([1, 0, 1], [0.2, 0.3, 0.4], 0.95, "2 groups do not go with 3 rows"),
        ([1, 0], [0.2, 0.3], 95, "the level is 95"),
    ):
        with pytest.raises(CallusError, match=message):
            curve(label, probability, resampling, level)
