from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callus.errors import CallusError
from callus.labels import LABEL_NAMES, LEVELS
from callus.metrics.operating_points import OperatingPoints, choose, figures_at


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


def test_points_are_measured_as_they_are() -> None:
    # Fractured: two "fracture", one "doubt", one "none". Others: one "fracture", one "doubt", four "none".
    label = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    probability = [0.9, 0.8, 0.5, 0.1, 0.85, 0.2, 0.19, 0.1, 0.0, 0.05]
    found = figures_at(label, probability, range(10), OperatingPoints(0.2, 0.8))
    low, high = found.high_sensitivity, found.high_specificity
    assert (low.threshold, high.threshold) == (0.2, 0.8)
    assert [low.sensitivity.value, low.specificity.value, low.ppv.value, low.npv.value] == [3 / 4, 4 / 6, 3 / 5, 4 / 5]
    assert [high.sensitivity.value, high.specificity.value, high.ppv.value, high.npv.value] == [
        2 / 4,
        5 / 6,
        2 / 3,
        5 / 7,
    ]
    assert [found.levels["fractured"][level].value for level in LEVELS] == [2 / 4, 1 / 4, 1 / 4]
    assert [found.levels["not fractured"][level].value for level in LEVELS] == [1 / 6, 1 / 6, 4 / 6]
    # One file a group: Wilson's interval of 3 in 4 is one less that of 1 in 4, 0.0456 to 0.6994 (Newcombe 1998).
    assert low.sensitivity.method == "Wilson"
    assert (low.sensitivity.low, low.sensitivity.high) == pytest.approx((1 - 0.6994, 1 - 0.0456), abs=5e-5)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["levels"]["fractured"]["doubt"]["value"] == 0.25


def test_intervals_are_those_of_groups() -> None:
    generator = np.random.default_rng(6)
    label = np.repeat(generator.integers(0, 2, 60), 10)
    probability = np.repeat(generator.random(60), 10)
    points = OperatingPoints(0.3, 0.7)
    by_group = figures_at(label, probability, np.repeat(np.arange(60), 10), points, draws=400).as_dict()
    by_file = figures_at(label, probability, np.arange(600), points, draws=400).as_dict()
    for point in ("high_sensitivity", "high_specificity"):
        for name in ("sensitivity", "specificity", "ppv", "npv"):
            groups, files = by_group[point][name], by_file[point][name]
            assert groups["value"] == files["value"]
            assert groups["low"] <= groups["value"] <= groups["high"]
            assert groups["high"] - groups["low"] > 2 * (files["high"] - files["low"])


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), max_size=30),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_levels_and_points_agree(cases: list[tuple[bool, int, int]], one: int, other: int) -> None:
    label = [int(fractured) for fractured, _, _ in cases]
    points = OperatingPoints(min(one, other) / 4, max(one, other) / 4)
    found = figures_at(label, [value / 4 for _, value, _ in cases], [group for _, _, group in cases], points, draws=100)
    json.dumps(found.as_dict(), allow_nan=False)
    for value, name in LABEL_NAMES.items():
        shares = [found.levels[name][level] for level in LEVELS]
        if value not in label:
            assert {(share.value, share.reason) for share in shares} == {(None, "no case to measure it on")}
            continue
        assert sum(share.value or 0.0 for share in shares) == pytest.approx(1.0)
    if 1 in label:
        found_at = found.levels["fractured"]
        assert found.high_specificity.sensitivity.value == found_at["fracture"].value
        both = (found_at["fracture"].value or 0.0) + (found_at["doubt"].value or 0.0)
        assert found.high_sensitivity.sensitivity.value == pytest.approx(both)


def test_measuring_takes_what_choosing_takes() -> None:
    with pytest.raises(CallusError, match="2 probabilities do not go with 1 labels"):
        figures_at([1], [0.5, 0.5], [1, 2], OperatingPoints())
    with pytest.raises(CallusError, match="no group"):
        figures_at([1, 0], [0.5, 0.5], [1, None], OperatingPoints())
