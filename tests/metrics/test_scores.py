from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from callus.errors import CallusError
from callus.metrics import scores

BEYOND_CHANCE = ("kappa", "lr_positive", "lr_negative")


def test_figures_equal_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 300)
    probability = np.clip(generator.normal(0.4 + 0.2 * label, 0.2), 0, 1).round(2)  # rounded: ties
    called = probability >= 0.45
    table = scores.score_table(label, probability, 0.45)
    assert table["auroc"] == pytest.approx(metrics.roc_auc_score(label, probability))
    assert table["auprc"] == pytest.approx(metrics.average_precision_score(label, probability))
    assert table["brier"] == pytest.approx(metrics.brier_score_loss(label, probability))
    assert table["accuracy"] == pytest.approx(metrics.accuracy_score(label, called))
    assert table["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(label, called))
    assert table["sensitivity"] == pytest.approx(metrics.recall_score(label, called))
    assert table["specificity"] == pytest.approx(metrics.recall_score(1 - label, ~called))
    assert table["ppv"] == pytest.approx(metrics.precision_score(label, called))
    assert table["npv"] == pytest.approx(metrics.precision_score(1 - label, ~called))
    assert table["f1"] == pytest.approx(metrics.f1_score(label, called))
    assert table["kappa"] == pytest.approx(metrics.cohen_kappa_score(label, called))
    ratios = metrics.class_likelihood_ratios(label, called)
    assert (table["lr_positive"], table["lr_negative"]) == pytest.approx(ratios)
    assert [table["confusion"][key] for key in ("tn", "fp", "fn", "tp")] == metrics.confusion_matrix(
        label, called
    ).ravel().tolist()
    assert (table["n"], table["positives"]) == (300, int(label.sum()))


def test_a_hand_made_case() -> None:
    table = scores.score_table([1, 1, 1, 0, 0], [0.9, 0.5, 0.2, 0.5, 0.1])
    assert table["confusion"] == {"tn": 1, "fp": 1, "fn": 1, "tp": 2}
    assert table["sensitivity"] == pytest.approx(2 / 3)
    assert table["specificity"] == pytest.approx(1 / 2)
    assert table["auroc"] == pytest.approx((2 + 1.5 + 1) / 6)
    assert table["kappa"] == pytest.approx((3 / 5 - 13 / 25) / (1 - 13 / 25))
    assert table["lr_positive"] == pytest.approx((2 / 3) / (1 / 2))
    assert table["lr_negative"] == pytest.approx((1 / 3) / (1 / 2))


@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        ([1, 1], {"auroc", "auprc", "specificity", "balanced_accuracy", "npv", *BEYOND_CHANCE}),
        ([0, 0], {"auroc", "auprc", "sensitivity", "balanced_accuracy", "ppv", "f1", *BEYOND_CHANCE}),
        ([0, 1], {"lr_positive"}),  # infinite
        (
            [],
            {
                *("auroc", "auprc", "brier", "accuracy", "balanced_accuracy"),
                *("sensitivity", "specificity", "ppv", "npv", "f1", *BEYOND_CHANCE),
            },
        ),
    ],
)
def test_what_is_not_defined_is_none(label: list[int], undefined: set[str]) -> None:
    probability = [0.9 if value else 0.1 for value in label]
    table = scores.score_table(label, probability)
    assert {key for key, value in table.items() if value is None} == undefined
    assert json.loads(json.dumps(table, allow_nan=False)) == table


@pytest.mark.parametrize(
    ("label", "probability", "message"),
    [([1], [0.1, 0.2], "2 probabilities"), ([2], [0.1], "neither 0 nor 1"), ([1], [float("nan")], "not numbers")],
)
def test_wrong_input(label: list[int], probability: list[float], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        scores.score_table(label, probability)


def test_each_figure_alone_is_that_of_the_table() -> None:
    label, probability = [1, 1, 1, 0, 0, 0], [0.9, 0.5, 0.2, 0.5, 0.1, 0.3]
    table = scores.score_table(label, probability, prevalence=0.2)
    for name in BEYOND_CHANCE:
        assert getattr(scores, name)(label, probability) == table[name]
    assert scores.ppv_at_prevalence(label, probability, 0.2) == table["ppv_at_prevalence"]
    assert scores.npv_at_prevalence(label, probability, 0.2) == table["npv_at_prevalence"]
    assert table["prevalence"] == 0.2


def test_predictive_values_at_a_prevalence() -> None:
    """At the cases' own they are the plain ones; at 1 % by hand: of 10,000, 90 found and 990 others called."""
    counts = scores.Confusion(tn=90, fp=10, fn=5, tp=45)
    assert counts.ppv_at(50 / 150) == pytest.approx(counts.ppv)
    assert counts.npv_at(50 / 150) == pytest.approx(counts.npv)
    assert counts.ppv_at(0.01) == pytest.approx(90 / (90 + 990))
    assert counts.npv_at(0.01) == pytest.approx(8910 / (8910 + 10))
    assert scores.Confusion(tn=1, fp=0, fn=1, tp=0).ppv_at(0.1) is None  # nothing is called
    assert scores.Confusion(tn=0, fp=1, fn=0, tp=1).npv_at(0.1) is None  # everything is
    assert scores.Confusion(tn=1, fp=0, fn=0, tp=0).ppv_at(0.1) is None  # no fractured case
    for wrong in (0, 1, 10, float("nan")):
        with pytest.raises(CallusError, match="the prevalence is"):
            counts.npv_at(wrong)


def test_files_of_a_radiograph_are_put_together() -> None:
    unit = ["b", "a", "b", "a", "a"]
    found = scores.aggregate([1, 0, 1, 0, 0], [0.9, 0.1, 0.5, 0.2, 0.6], unit)
    assert found.unit.tolist() == ["b", "a"]
    assert found.label.tolist() == [1, 0]
    assert found.probability == pytest.approx([0.7, 0.3])
    assert found.first.tolist() == [0, 1]
    assert found.files.tolist() == [2, 3]
    assert scores.aggregate([1, 0, 1, 0, 0], [0.9, 0.1, 0.5, 0.2, 0.6], unit, "max").probability.tolist() == [0.9, 0.6]


def test_labels_of_one_radiograph_agree_and_those_of_a_study_need_not() -> None:
    label, probability, unit = [1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], ["a", "a", "b", "b"]
    with pytest.raises(CallusError, match="1 radiographs have files with different labels, such as 'a'"):
        scores.aggregate(label, probability, unit)
    for level in ("study", "patient"):
        assert scores.aggregate(label, probability, unit, level=level).label.tolist() == [1, 0]


def test_files_without_a_unit_stand_for_themselves() -> None:
    found = scores.aggregate([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], ["", "a", None, ""], level="study")
    assert found.label.tolist() == [0, 1, 0, 1]
    assert found.probability.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert scores.aggregate([], [], []).label.size == 0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1], [0.5], ["a"], "median"), {}, "put together by 'median'; expected mean or max"),
        (([1], [0.5], ["a"]), {"level": "file"}, "the level is 'file'"),
        (([1], [0.5], ["a", "b"]), {}, "2 units do not go with 1 labels"),
    ],
)
def test_wrong_units(arguments: tuple[object, ...], options: dict[str, str], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        scores.aggregate(*arguments, **options)  # type: ignore[arg-type]
