from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from callus.errors import CallusError
from callus.metrics import scores


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


@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        ([1, 1], {"auroc", "auprc", "specificity", "balanced_accuracy", "npv"}),
        ([0, 0], {"auroc", "auprc", "sensitivity", "balanced_accuracy", "ppv", "f1"}),
        (
            [],
            {
                *("auroc", "auprc", "brier", "accuracy", "balanced_accuracy"),
                *("sensitivity", "specificity", "ppv", "npv", "f1"),
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
