from __future__ import annotations

import numpy as np
import pandas as pd

from callus.report.pictures import choose_pictures, title_of


def test_pictures_are_the_worst_of_each_kind_and_the_same_every_time() -> None:
    rng = np.random.default_rng(1)
    label, probability = rng.integers(0, 2, 300), rng.random(300)
    predictions = pd.DataFrame(
        {
            "path": [f"{i:03}.png" for i in range(300)],
            "label": pd.array(label, "Int8"),
            "probability": probability,
            "group": [f"g{i}" for i in range(300)],
        }
    )
    chosen = choose_pictures(predictions, 48)
    assert chosen == choose_pictures(predictions.sample(frac=1, random_state=3), 48)
    assert [len(chosen.misses), len(chosen.false_alarms), len(chosen.right)] == [18, 18, 12]
    at = predictions.set_index("path")
    misses = at[(at["label"] == 1) & (at["probability"] < 0.5)].sort_values("probability")
    alarms = at[(at["label"] == 0) & (at["probability"] >= 0.5)].sort_values("probability", ascending=False)
    assert chosen.misses == misses.index[:18].tolist()
    assert chosen.false_alarms == alarms.index[:18].tolist()
    assert at.loc[chosen.right, "probability"].is_monotonic_decreasing
    assert ((at.loc[chosen.right, "probability"] >= 0.5) == at.loc[chosen.right, "label"]).all()
    assert len(choose_pictures(predictions.head(5), 48)) == 5
    assert len(choose_pictures(predictions, 0)) == 0
    # Few misses leave their room to false alarms, and no right call its room to both.
    mostly = predictions[(label == 0) | (probability < 0.02) | (probability > 0.5)]
    few = choose_pictures(mostly, 48)
    assert len(few.misses) == int(((mostly["label"] == 1) & (mostly["probability"] < 0.5)).sum()) < 18
    assert len(few.misses) + len(few.false_alarms) == 36
    wrong = predictions[(label == 1) == (probability < 0.5)]
    assert len(choose_pictures(wrong, 48).right) == 0
    assert len(choose_pictures(wrong, 48)) == 48


def test_copies_of_one_radiograph_do_not_fill_the_page() -> None:
    predictions = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(8)],
            "label": pd.array([1] * 8, "Int8"),
            "probability": [0.01, 0.02, 0.03, 0.04, 0.1, 0.11, 0.2, 0.9],
            "group": ["a", "a", "a", "a", "b", "b", "c", "d"],
        }
    )
    assert choose_pictures(predictions, 4).misses == ["0.png", "4.png", "6.png"]
    assert choose_pictures(predictions, 6).misses == ["0.png", "1.png", "4.png", "5.png", "6.png"]


def test_titles() -> None:
    assert title_of(1, 0.931) == "actual: fractured / predicted: fractured (0.93)"
    assert title_of(0, 0.5) == "actual: not fractured / predicted: fractured (0.50)"
    assert title_of(None, 0.2) == "actual: unknown / predicted: not fractured (0.20)"
