"""Two models side by side: against DeLong's own formula, resampling by hand, and what has to hold of any test."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from callus.errors import CallusError
from callus.metrics import scores
from callus.metrics.comparison import Difference, compare_figures
from callus.metrics.delong import placements
from callus.metrics.resampling import Resampling


def models(
    groups: int = 80, seed: int = 0, better: float = 0.0, largest: int = 6
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, two models' probabilities that agree in part, and groups."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), random.integers(1, largest + 1, groups))
    label = random.integers(0, 2, groups)[group]
    label = np.where(group % 3 == 0, random.integers(0, 2, group.size), label)
    shared = random.normal(0, 1, groups)[group]
    logits = [
        (1.5 + gain) * (label - 0.5) + shared + random.normal(0, 0.5, groups)[group] + random.normal(0, 0.5, group.size)
        for gain in (better, 0.0)
    ]
    return label, *(special.expit(one) for one in logits), group


def test_values_and_differences_are_those_of_the_plain_figures() -> None:
    label, a, b, group = models()
    found = compare_figures(label, a, b, group, 0.4, 0.6, prevalence=0.1, draws=300)
    first = scores.score_table(label, a, 0.4, prevalence=0.1)
    second = scores.score_table(label, b, 0.6, prevalence=0.1)
    assert len(found) == 15
    for name, one in found.items():
        assert (one.a, one.b) == pytest.approx((first[name], second[name])), name
        assert one.difference == pytest.approx(first[name] - second[name])
        assert one.low < one.difference < one.high
        assert 1 / 301 <= one.p <= 1 or name == "auroc"
        assert "clustered DeLong" in one.method if name == "auroc" else "paired BCa" in one.method


def test_the_aurocs_difference_is_delongs_where_every_group_has_one_file() -> None:
    label, a, b, _ = models(better=0.6)
    found = compare_figures(label, a, b, np.arange(label.size), 0.5, 0.5, draws=100)["auroc"]
    gap = placements(label, a) - placements(label, b)
    error = math.sqrt(sum(np.var(gap[label == kind], ddof=1) / (label == kind).sum() for kind in (0, 1)))
    assert found.difference == pytest.approx(gap[label == 1].mean())
    # By the interval's width and by the p value the same degrees of freedom.
    freedom = float(found.method.split("t with ")[1].split(" ")[0])
    assert found.high - found.difference == pytest.approx(stats.t.ppf(0.975, freedom) * error, rel=1e-3)
    assert found.p == pytest.approx(2 * stats.t.sf(found.difference / error, freedom), rel=0.02)
    assert found.method.startswith("DeLong of the difference")


def test_draws_of_the_difference_are_paired() -> None:
    """The standard error of the difference is that of resampling both models together, by hand."""
    label, a, b, group = models(better=0.6)
    found = compare_figures(label, a, b, group, 0.5, 0.5)["accuracy"]
    gap = ((a >= 0.5) == label).astype(float) - ((b >= 0.5) == label)
    resampling = Resampling(group, label, 2000, 11)
    sums = resampling.sums(np.stack([gap, np.ones(gap.size)], axis=1))
    drawn = np.concatenate([times.astype(float) @ sums for times in resampling.blocks(1)])
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.2 * (high - low))
    unpaired = [np.quantile(_shares(label, one, resampling), [0.025, 0.975]) for one in (a, b)]
    assert found.high - found.low < math.hypot(*(ends[1] - ends[0] for ends in unpaired))


def _shares(label: np.ndarray, probability: np.ndarray, resampling: Resampling) -> np.ndarray:
    right = (probability >= 0.5) == label
    sums = resampling.sums(np.stack([right, np.ones(right.size)], axis=1))
    drawn = np.concatenate([times.astype(float) @ sums for times in resampling.blocks(1)])
    return drawn[:, 0] / drawn[:, 1]


def test_exchanging_the_models_turns_the_difference() -> None:
    label, a, b, group = models(better=0.4)
    there = compare_figures(label, a, b, group, 0.4, 0.6, draws=400)
    back = compare_figures(label, b, a, group, 0.6, 0.4, draws=400)
    for name, one in there.items():
        other = back[name]
        assert (one.a, one.b, one.difference) == (other.b, other.a, pytest.approx(-other.difference))
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
        assert one.p == pytest.approx(other.p, abs=1e-9)


def test_the_p_value_and_the_interval_say_the_same() -> None:
    seen = set()
    for seed in range(12):
        label, a, b, group = models(50, seed, better=0.5)
        for one in compare_figures(label, a, b, group, 0.5, 0.5, draws=400).values():
            if None not in (one.low, one.high) and abs(one.p - 0.05) > 0.01:
                assert (one.low <= 0 <= one.high) == (one.p > 0.05)
                seen.add(one.p > 0.05)
    assert seen == {True, False}


def test_p_values_of_models_that_do_not_differ_are_as_rare_as_they_say() -> None:
    small = []
    for seed in range(150):
        label, a, b, group = models(50, seed)
        found = compare_figures(label, a, b, group, 0.5, 0.5, draws=200)
        small.append([found[name].p < 0.1 for name in ("auroc", "auprc", "brier", "accuracy", "sensitivity")])
    # The standard error of a share of 0.1 in 150 is 0.024.
    assert (np.mean(small, axis=0) < 0.16).all()
    assert np.mean(small) > 0.03


def test_a_much_better_model_is_found_better() -> None:
    label, a, b, group = models(better=3.0)
    found = compare_figures(label, a, b, group, 0.5, 0.5)
    for name in ("auroc", "auprc", "accuracy", "balanced_accuracy", "kappa", "f1"):
        assert found[name].low > 0
        assert found[name].p < 0.005
    assert found["brier"].high < 0


def test_a_model_with_itself() -> None:
    label, a, _, group = models()
    for one in compare_figures(label, a, a, group, 0.5, 0.5, draws=100).values():
        assert (one.difference, one.p, one.low, one.high) == (0, 1, None, None)
        assert one.reason == "no draw of groups shows a difference between the two"


def test_few_groups_that_differ_are_told_by_the_jackknife() -> None:
    label, a, _, group = models()
    b = np.where(group == 1, 1 - a, a)
    found = compare_figures(label, a, b, group, 0.5, 0.5)["accuracy"]
    assert found.method.startswith("jackknife of groups, t with 1.")
    assert found.low < 0 < found.high
    assert found.p > 0.05
    assert -1 <= found.low <= found.high <= 1


def test_what_is_not_defined_says_why() -> None:
    group = np.repeat(np.arange(20), 3)
    label = group % 2
    perfect, other = 0.1 + 0.8 * label, models(20, largest=3)[1][:1].repeat(60)
    found = compare_figures(label, perfect, other, group, 0.5, 0.99, prevalence=0.1, draws=100)
    assert found["lr_positive"].a is None
    assert "infinite" in found["lr_positive"].reason
    assert found["ppv"].reason == "a model calls nothing fractured"
    one_class = compare_figures(np.zeros(60), perfect, other, group, 0.5, 0.5, draws=100)
    assert one_class["auroc"].reason == one_class["sensitivity"].reason == "no fractured case"
    assert one_class["accuracy"].difference is not None
    one_group = compare_figures(group == 0, perfect, other, group, 0.5, 0.5, draws=100)
    for name in ("auroc", "auprc", "sensitivity"):
        assert one_group[name].difference is not None
        assert one_group[name].low is None
        assert "of one group" in one_group[name].reason


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([0.0, 0.2, 0.5, 1.0]),
            st.sampled_from([0.0, 0.2, 0.5, 1.0]),
            st.integers(0, 5),
        ),
        max_size=25,
    )
)
def test_whatever_comes_nothing_crashes_and_nothing_is_silent(cases: list[tuple[int, float, float, int]]) -> None:
    columns = [[case[place] for case in cases] for place in range(4)]
    found = compare_figures(*columns, 0.5, 0.4, prevalence=0.3, draws=100)  # type: ignore[arg-type, call-arg]
    for one in found.values():
        parts = (one.a, one.b, one.difference, one.low, one.high, one.p)
        assert None not in parts or one.reason
        ends = [end for end in (one.low, one.difference, one.high) if end is not None]
        assert ends == sorted(ends)
        assert one.p is None or 0 <= one.p <= 1
    json.dumps({name: one.as_dict() for name, one in found.items()}, allow_nan=False)


def test_a_difference_in_json() -> None:
    told = Difference(0.8, 0.7, 0.1, 0.05, 0.15, 0.01, "DeLong").as_dict()
    assert told == {"a": 0.8, "b": 0.7, "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "method": "DeLong"}
    assert Difference(None, None, None, None, None, None, "", "no case").as_dict()["reason"] == "no case"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1, 0], [0.5, 0.5], [0.5], [0, 1], 0.5, 0.5), {}, "1 probabilities do not go with 2 labels"),
        (([1, 0], [0.5, 0.5], [0.5, 0.5], [0], 0.5, 0.5), {}, "do not go with"),
        (([1, 0], [0.5, 0.5], [0.5, 0.5], [0, 1], 0.5, 0.5), {"prevalence": 0}, "the prevalence is 0"),
        (([1, 0], [0.5, 0.5], [0.5, 0.5], [0, 1], 0.5, 0.5), {"level": 1}, "the level is 1"),
    ],
)
def test_wrong_input(arguments: tuple[object, ...], options: dict[str, float], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        compare_figures(*arguments, **options)  # type: ignore[arg-type]
