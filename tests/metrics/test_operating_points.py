from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callus.errors import CallusError
from callus.metrics.operating_points import OperatingPoints, choose


def test_thresholds_stand_midway_between_the_scores_they_part() -> None:
    # Twenty fractures and twenty others that overlap: 19 of 20 have to be found, 19 of 20 to be left.
    fractured = [0.3, 0.4, *np.linspace(0.61, 0.95, 18)]
    others = [*np.linspace(0.05, 0.25, 17), 0.5, 0.7001, 0.75]
    points = choose([1] * 20 + [0] * 20, fractured + others, sensitivity=0.95, specificity=0.95)
    assert points.high_sensitivity == pytest.approx((0.3 + 0.4) / 2)
    above = min(score for score in fractured + others if score > 0.7001)
    assert points.high_specificity == pytest.approx((0.7001 + above) / 2)
    assert not points.reason


def test_where_they_cross_both_become_the_midpoint_and_keep_both_promises() -> None:
    points = choose([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    # Highest threshold with sensitivity 1 and lowest with specificity 1 both part 0.2 from 0.8.
    assert points.high_sensitivity == points.high_specificity == pytest.approx(0.5)
    crossed = choose([0] * 10 + [1] * 10, [*np.linspace(0, 0.4, 10), *np.linspace(0.6, 1, 10)], sensitivity=0.5)
    assert crossed.high_sensitivity == crossed.high_specificity
    assert crossed.high_sensitivity > 0.4
    assert {crossed.level(probability) for probability in np.linspace(0, 1, 50)} == {"none", "fracture"}


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 1e-300, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])), min_size=1),
    st.sampled_from([0.5, 0.8, 0.95, 1.0]),
    st.sampled_from([0.5, 0.8, 0.95, 1.0]),
)
def test_both_promises_hold_and_nothing_better_would(
    cases: list[tuple[bool, float]], sensitivity: float, specificity: float
) -> None:
    label = np.array([fractured for fractured, _ in cases], dtype=int)
    probability = np.array([score for _, score in cases])
    points = choose(label, probability, sensitivity=sensitivity, specificity=specificity)
    assert 0 <= points.high_sensitivity <= points.high_specificity <= 1
    if 0 < label.sum() < label.size:
        assert np.mean(probability[label == 1] >= points.high_sensitivity) >= sensitivity
        assert np.mean(probability[label == 0] < points.high_specificity) >= specificity
    if points.high_sensitivity < points.high_specificity and 0 < label.sum() < label.size:
        better = probability[probability > points.high_sensitivity]
        higher = np.nextafter(better.min(), 1) if better.size else 1.0
        assert np.mean(probability[label == 1] >= higher) < sensitivity


@pytest.mark.parametrize(
    ("label", "probability", "reason"),
    [
        ([1, 1], [0.7, 0.9], "not fractured to choose the specificity"),
        ([0, 0], [0.1, 0.2], "no fractured case"),
        ([], [], "no case to choose"),
    ],
)
def test_one_class_says_so(label: list[int], probability: list[float], reason: str) -> None:
    points = choose(label, probability)
    assert reason in points.reason
    assert 0 <= points.high_sensitivity <= points.high_specificity <= 1


def test_levels() -> None:
    points = OperatingPoints(0.2, 0.8)
    assert [points.level(value) for value in (0.0, 0.1999, 0.2, 0.7999, 0.8, 1.0)] == [
        "none",
        "none",
        "doubt",
        "doubt",
        "fracture",
        "fracture",
    ]


def test_a_round_trip_through_the_bundles_form() -> None:
    for points in (OperatingPoints(0.2, 0.8), OperatingPoints(0.5, 0.5, "because")):
        assert OperatingPoints.from_dict(points.as_dict()) == points


@pytest.mark.parametrize("values", [(0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_points_that_cross_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(CallusError, match="expected 0 <= high sensitivity"):
        OperatingPoints(*values)


@pytest.mark.parametrize(
    ("label", "probability", "options", "message"),
    [
        ([1], [0.5, 0.5], {}, "2 probabilities do not go with 1 labels"),
        ([3], [0.5], {}, "neither 0 nor 1"),
        ([1], [1.5], {}, "not in"),
        ([1], [float("nan")], {}, "not in"),
        ([1, 0], [0.5, 0.5], {"sensitivity": 95}, "wanted sensitivity is 95"),
    ],
)
def test_wrong_input(label: list[int], probability: list[float], options: dict[str, float], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        choose(label, probability, **options)
