"""Shares with intervals by group: Wilson's against published numbers, the bootstrap against resampling by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from callus.errors import CallusError
from callus.metrics.bca import spread_of
from callus.metrics.proportions import all_alike, mean_of_two, poisson, ratio_of_two, wilson
from callus.metrics.resampling import Interval, Resampling, alike_size, ratio_interval


def clustered(seed: int = 0, groups: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong by file, and groups whose files are alike."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), random.integers(1, 12, groups))
    return (random.random(group.size) < random.beta(2, 1, groups)[group]).astype(int), group


@pytest.mark.parametrize(
    ("right", "size", "low", "high"),
    # Newcombe, Stat Med 1998, 17:857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_numbers(right: int, size: int, low: float, high: float) -> None:
    assert wilson(right / size, size) == pytest.approx((low, high), abs=5e-5)
    found = ratio_interval(np.arange(size) < right, np.ones(size), np.arange(size))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.method == "Wilson"


@pytest.mark.parametrize(("right", "size"), [(0, 5), (3, 7), (40, 41), (12, 12)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_closed_forms_equal_scipys(right: int, size: int, level: float) -> None:
    test = stats.binomtest(right, size)
    expected = test.proportion_ci(level, "wilson")
    assert wilson(right / size, size, level) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert all_alike(size, level) == pytest.approx(stats.binomtest(size, size).proportion_ci(level, "exact").low)
    outside = (1 - level) / 2
    low, high = poisson(right / size, size, level)
    # The rates at which so many events or more, or so many or fewer, are just rare enough.
    assert stats.poisson.cdf(right, high * size) == pytest.approx(outside)
    if right:
        assert stats.poisson.sf(right - 1, low * size) == pytest.approx(outside)
    else:
        assert low == 0


def test_intervals_of_a_mean_and_a_ratio_of_two() -> None:
    # Where both have normal intervals, the mean's is normal too.
    reach = math.hypot(0.1, 0.2) / 2
    assert mean_of_two((0.5, 0.4, 0.6), (0.7, 0.5, 0.9)) == pytest.approx((0.6 - reach, 0.6 + reach))
    # The ratio's ends are where the difference of the two, one times the end, just reaches 0 (Fieller's idea).
    a, b = (0.2, 0.1, 0.35), (0.8, 0.7, 0.88)
    low, high = ratio_of_two(a, b)
    assert a[0] - low * b[0] == pytest.approx(math.hypot(a[0] - a[1], low * (b[2] - b[0])))
    assert high * b[0] - a[0] == pytest.approx(math.hypot(a[2] - a[0], high * (b[0] - b[1])))
    assert ratio_of_two((0.0, 0.0, 0.2), (0.9, 0.8, 0.95))[0] == 0
    assert ratio_of_two((0.5, 0.4, 0.6), (0.1, 0.0, 0.3))[1] == math.inf


def test_draws_stay_within_strata_and_are_the_same_for_a_seed() -> None:
    group = np.repeat([f"g{number}" for number in range(30)], 2)
    stratum = np.repeat([0] * 10 + [1] * 20, 2)
    drawn = np.concatenate(list(Resampling(group, stratum, 500, 3).blocks(60)))
    assert drawn.shape == (500, 30)
    names = np.unique(group)
    first = np.isin(names, group[stratum == 0])
    assert (drawn[:, first].sum(axis=1) == 10).all()
    assert (drawn[:, ~first].sum(axis=1) == 20).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(30), abs=0.2)
    again = np.concatenate(list(Resampling(group[::-1], stratum[::-1], 500, 3).blocks(7)))
    assert np.array_equal(drawn, again)
    assert not np.array_equal(drawn, np.concatenate(list(Resampling(group, stratum, 500, 4).blocks(60))))


def test_the_stratum_of_a_group_is_the_set_of_its_rows_and_one_alone_joins_others() -> None:
    #        one class: a b c      the other: d e       both: f
    group = ["a", "a", "b", "c", "d", "d", "e", "f", "f"]
    label = [0, 0, 0, 0, 1, 1, 1, 0, 1]
    stratum = Resampling(group, label).stratum
    assert stratum[0] == stratum[1] == stratum[2]
    assert stratum[3] == stratum[4] == stratum[5]  # f joins the smaller of the two
    assert stratum[0] != stratum[3]
    assert len(set(Resampling(["a", "b", "c"], [0, 1, 1]).stratum)) == 1


def test_leaving_out_each_group() -> None:
    resampling = Resampling(np.repeat(np.arange(7), 2))
    assert np.array_equal(np.concatenate(list(resampling.blocks_without(10**6))), 1 - np.eye(7))
    assert np.array_equal(np.concatenate(list(resampling.blocks_without(1))), 1 - np.eye(7))


def test_bca_is_scipys_but_for_the_widening() -> None:
    """On scipy's own draws, with one row a group."""
    values = np.random.default_rng(0).exponential(1, 50)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(1), method="BCa")
    without = (values.sum() - values) / 49
    one, every = np.zeros(50, np.int64), np.ones(50, np.bool_)
    spread = spread_of(expected.bootstrap_distribution, without, float(values.mean()), one, every)
    assert spread is not None
    plain = replace(spread, widen=1.0, freedom=math.inf)
    ends = expected.confidence_interval
    assert plain.ends(0.95) == pytest.approx((ends.low, ends.high), abs=1e-3)
    deviations = values - values.mean()
    assert spread.acceleration == pytest.approx((deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5), rel=1e-9)
    assert spread.error == pytest.approx(values.std(ddof=1) / math.sqrt(50), rel=1e-9)
    assert spread.widen == pytest.approx(math.sqrt(50 / 49))
    assert spread.freedom == pytest.approx((deviations**2).sum() ** 2 / (deviations**4).sum())
    assert spread.ends(0.95)[0] < plain.ends(0.95)[0] < plain.ends(0.95)[1] < spread.ends(0.95)[1]


def test_draws_are_those_of_groups_concatenated() -> None:
    right, group = clustered()
    resampling = Resampling(group, draws=200)
    sums = resampling.sums(np.stack([right, np.ones(right.size)], axis=1))
    spread = resampling.spread(sums, lambda one: one[:, 0] / one[:, 1], np.ones(60, np.bool_))
    by_hand = []
    for times in np.concatenate(list(resampling.blocks(1))):
        rows = np.concatenate([np.tile(np.flatnonzero(resampling.index == g), n) for g, n in enumerate(times)])
        by_hand.append(right[rows.astype(int)].mean())
    assert spread is not None
    assert spread.drawn == pytest.approx(np.sort(by_hand))


def test_a_p_value_is_where_the_interval_ends() -> None:
    random = np.random.default_rng(1)
    values = random.exponential(1, 40) - 0.75
    resampling = Resampling(np.arange(40), draws=4000)
    sums = resampling.sums(np.stack([values, np.ones(40)], axis=1))
    spread = resampling.spread(sums, lambda one: one[:, 0] / one[:, 1], np.ones(40, np.bool_))
    assert spread is not None
    for null in (0.0, 0.1, 0.45):
        p = spread.p_value(null)
        assert 0.001 < p < 0.999
        inside, outside = spread.ends(1 - p + 0.02 * p), spread.ends(1 - p - 0.02 * p)
        assert inside[0] - 0.004 <= null <= inside[1] + 0.004
        assert not outside[0] + 0.004 < null < outside[1] - 0.004
    # Beyond all draws it goes on to fall, to what so many draws can tell.
    beyond = float(spread.drawn[0])
    assert spread.p_value(beyond - 0.01) >= spread.p_value(beyond - 0.1) > 1 / 4001
    assert spread.p_value(-100) == 1 / 4001


def test_files_of_a_group_widen_the_interval() -> None:
    right, group = clustered()
    ones = np.ones(right.size)
    by_group, by_file = (ratio_interval(right, ones, one) for one in (group, np.arange(right.size)))
    assert by_group.value == by_file.value == pytest.approx(right.mean())
    assert by_group.high - by_group.low > 1.3 * (by_file.high - by_file.low)
    assert "cluster bootstrap" in by_group.method
    assert ratio_interval(right, ones, group) == by_group
    order = np.random.default_rng(0).permutation(right.size)
    assert ratio_interval(right[order], ones, group[order]) == by_group
    assert ratio_interval(right, ones, (), resampling=Resampling(group)) == by_group


def test_where_no_group_differs_the_interval_is_not_of_width_zero() -> None:
    group = np.repeat(np.arange(20), 7)
    found = ratio_interval(np.ones(140), np.ones(140), group)
    assert (found.low, found.high) == pytest.approx(wilson(1, 20))
    assert found.method.startswith("Wilson with 20.0 cases")
    # Of unequal groups the worth is less than their number.
    uneven = ratio_interval(np.zeros(60), np.ones(60), np.r_[np.zeros(41), np.arange(1, 20)])
    assert (uneven.low, uneven.high) == pytest.approx(wilson(0, 60**2 / (41**2 + 19)))
    assert alike_size(np.r_[41, np.ones(19)]) == pytest.approx(60**2 / (41**2 + 19))
    # One group of many that differs tells little more.
    single = ratio_interval(np.arange(140) != 0, np.ones(140), group)
    assert single.method.startswith("Wilson with 20.0 cases")
    assert single.low < 139 / 140 < single.high


def test_events_that_may_be_several_in_a_case() -> None:
    group = np.arange(30)
    none = ratio_interval(np.zeros(30), np.ones(30), group, events=True)
    assert (none.low, none.high) == pytest.approx((0, -math.log(0.025) / 30))
    assert "Poisson" in none.method
    false_boxes = np.random.default_rng(0).poisson(1.5, 30)
    found = ratio_interval(false_boxes, np.ones(30), group, events=True)
    assert found.value == pytest.approx(false_boxes.mean())
    assert 1 < found.low < found.value < found.high < 3


def test_rows_of_nothing_do_not_count() -> None:
    """A share of some rows only: where these are one a group, it is Wilson's of so many."""
    label = np.tile([1, 0, 0], 12)
    found = ratio_interval(label * (np.arange(36) % 2), label, np.repeat(np.arange(12), 3))
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 12))


@pytest.mark.parametrize(
    ("numerator", "denominator", "group", "value", "reason"),
    [
        ([], [], [], None, "no case"),
        ([0, 0], [0, 0], [1, 2], None, "no case"),
        ([1, 0, 1], [1, 1, 1], [7, 7, 7], 2 / 3, "of one group"),
        ([1, 0, 0], [1, 1, 0], [7, 7, 8], 1 / 2, "of one group"),
    ],
)
def test_what_has_no_interval_says_why(
    numerator: list[int], denominator: list[int], group: list[int], value: float | None, reason: str
) -> None:
    found = ratio_interval(numerator, denominator, group)
    assert found.value == (None if value is None else pytest.approx(value))
    assert found.low is None
    assert found.high is None
    assert reason in found.reason


def test_draws_without_a_value_are_left_out_and_counted() -> None:
    spread = spread_of(
        np.array([np.nan] * 100 + list(np.linspace(0, 1, 200))),
        np.linspace(0.4, 0.6, 10),
        0.5,
        np.zeros(10, np.int64),
        np.ones(10, np.bool_),
    )
    assert spread is not None
    assert spread.left_out == 100
    assert "100 draws without a value left out" in Resampling(np.arange(10)).method(spread)
    half = np.array([np.nan] * 201 + [0.5] * 200)
    assert spread_of(half, np.zeros(10), 0.5, np.zeros(10, np.int64), np.ones(10, np.bool_)) is None


def test_a_few_groups_that_hold_cases_are_drawn_rarely() -> None:
    # Two of 12 groups hold the cases: more than a tenth of the draws have neither.
    group = np.repeat(np.arange(12), 4)
    held = np.isin(group, (0, 1)).astype(int)
    right = held * (np.arange(48) % 3 > 0)
    found = ratio_interval(right, held, group)
    assert found.value == pytest.approx(right.sum() / 8)
    assert 0 < found.low < found.value < found.high <= 1


def test_an_interval_in_json() -> None:
    assert Interval(0.5, 0.4, 0.6, "Wilson").as_dict() == {"value": 0.5, "low": 0.4, "high": 0.6, "method": "Wilson"}
    assert json.loads(json.dumps(Interval(None, None, None, "", "no case").as_dict()))["reason"] == "no case"
    right, group = clustered()
    told = ratio_interval(right, np.ones(right.size), group).as_dict()
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1], [1, 1], [0, 1]), {}, "1 numerators do not go with 2 denominators"),
        (([1, 1], [1, 1], [0]), {}, "1 groups do not go with 2 rows"),
        (([-1, 1], [1, 1], [0, 1]), {}, "1 of 2 numerators are negative"),
        (([1, 1], [1, math.nan], [0, 1]), {}, "1 of 2 denominators are negative or no numbers"),
        (([1, 1], [1, 1], [0, None]), {}, "1 of 2 rows have no group"),
        (([1, 1], [1, 1], [0, 1]), {"level": 95}, "the level is 95"),
        (([1, 1], [1, 1], [0, 1]), {"draws": 10}, "10 draws are too few"),
        (([1, 1], [1, 1], [0, 1]), {"stratum": [1]}, "1 strata do not go with 2 groups"),
    ],
)
def test_wrong_input(arguments: tuple[list[float], ...], options: dict[str, object], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        ratio_interval(*arguments, **options)  # type: ignore[arg-type]
