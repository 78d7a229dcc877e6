from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from callus.errors import CallusError
from callus.metrics.decision_curve import THRESHOLDS, decision_curve
from callus.metrics.resampling import Resampling, ratio_interval

LABEL = [1, 1, 0, 0, 0]
PROBABILITY = [0.9, 0.4, 0.6, 0.2, 0.1]


def simulated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    group = np.repeat(np.arange(80), 4)
    logit = generator.normal(-0.5, 1.5, 80)[group] + generator.normal(0, 0.5, group.size)
    return (generator.random(group.size) < special.expit(logit)).astype(int), special.expit(logit), group


def test_a_hand_made_case() -> None:
    curve = decision_curve(LABEL, PROBABILITY, range(5), thresholds=[0.25, 0.5])
    # At 0.25 both fractures and one other are called: 2/5 - 1/5 * 1/3. At 0.5 one each: 1/5 - 1/5.
    assert [one.value for one in curve.model] == pytest.approx([2 / 5 - 1 / 15, 0.0])
    # Of all, 2/5 are fractured and 3/5 are not.
    assert [one.value for one in curve.treat_all] == pytest.approx([2 / 5 - 3 / 5 / 3, 2 / 5 - 3 / 5])
    assert curve.as_dict()["treat_none"] == 0.0


def test_a_hand_made_case_at_another_prevalence() -> None:
    curve = decision_curve(LABEL, PROBABILITY, range(5), thresholds=[0.25, 0.5], prevalence=0.1)
    # Sensitivity 1 and 1/2, false alarms 1/3 of the others both times.
    assert [one.value for one in curve.model] == pytest.approx([0.1 - 0.9 / 3 / 3, 0.05 - 0.9 / 3])
    assert [one.value for one in curve.treat_all] == pytest.approx([0.1 - 0.9 / 3, 0.1 - 0.9])
    assert curve.prevalence == 0.1
    assert all(one.low is None and "same value" in one.reason for one in curve.treat_all)


def test_bands_hold_the_value_and_come_from_groups() -> None:
    label, probability, group = simulated()
    curve = decision_curve(label, probability, group, draws=400)
    assert curve.thresholds == THRESHOLDS
    assert (THRESHOLDS[0], THRESHOLDS[-1], len(THRESHOLDS)) == (0.01, 0.99, 99)
    for one in (*curve.model, *curve.treat_all):
        if one.low is not None:
            assert one.low <= (one.value or 0.0) <= (one.high or 0.0)
    # Treating all has the net benefit 1 - (1 - prevalence) / (1 - t): its band is that of the prevalence, moved along.
    resampling = Resampling(group, draws=400)
    prevalence = ratio_interval(label, np.ones(label.size), group, resampling=resampling)
    for threshold, one in zip(curve.thresholds, curve.treat_all, strict=True):
        for found, share in ((one.low, prevalence.low), (one.high, prevalence.high)):
            assert found == pytest.approx(1 - (1 - (share or 0)) / (1 - threshold))
    files = decision_curve(label, probability, np.arange(label.size), draws=400)
    assert files.treat_all[20].low > curve.treat_all[20].low  # type: ignore[operator]


def test_at_the_cases_own_prevalence_the_values_are_the_same() -> None:
    label, probability, group = simulated()
    own = decision_curve(label, probability, group, draws=100)
    named = decision_curve(label, probability, group, draws=100, prevalence=float(label.mean()))
    for first, second in zip((*own.model, *own.treat_all), (*named.model, *named.treat_all), strict=True):
        assert first.value == pytest.approx(second.value, abs=1e-12)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=1, max_size=30))
def test_no_model_beats_a_perfect_one_and_low_thresholds_treat_all(cases: list[tuple[bool, int]]) -> None:
    label = np.array([fractured for fractured, _ in cases], dtype=int)
    probability = np.array([value for _, value in cases]) / 10
    curve = decision_curve(label, probability, range(len(cases)), draws=100)
    for threshold, model, everyone in zip(curve.thresholds, curve.model, curve.treat_all, strict=True):
        assert model.value is not None
        assert model.value <= label.mean() + 1e-12
        if threshold <= probability.min():
            assert model.value == pytest.approx(everyone.value)
        if threshold > probability.max():
            assert model.value == 0
    perfect = decision_curve(label, label, range(len(cases)), draws=100)
    assert [one.value for one in perfect.model] == pytest.approx([label.mean()] * 99)


def test_what_is_not_defined_is_none() -> None:
    empty = decision_curve([], [], [])
    assert {one.reason for one in (*empty.model, *empty.treat_all)} == {"no case to measure it on"}
    one_class = decision_curve([1, 1], [0.2, 0.9], [1, 2], prevalence=0.2)
    assert {one.reason for one in one_class.model} == {"a class is missing"}
    assert decision_curve([1, 1], [0.2, 0.9], [1, 2]).model[49].value == 0.5
    json.dumps([empty.as_dict(), one_class.as_dict()], allow_nan=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds": [0.5, 0.2]}, "have to rise"),
        ({"thresholds": [0.5, 1.0]}, "have to rise"),
        ({"thresholds": []}, "have to rise"),
        ({"prevalence": 10}, "the prevalence is 10"),
        ({"level": 0}, "the level is 0"),
    ],
)
def test_wrong_input(options: dict, message: str) -> None:
    with pytest.raises(CallusError, match=message):
        decision_curve(LABEL, PROBABILITY, range(5), **options)
    with pytest.raises(CallusError, match="not in"):
        decision_curve(LABEL, [2.0] * 5, range(5))
