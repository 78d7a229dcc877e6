"""Two evaluations side by side: real ones of two tiny networks, and what may be wrong with them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from compared import LABEL, answers, change, probability
from html_page import Page
from sklearn import metrics

from callus.errors import CallusError, DatasetError
from callus.metrics.comparison import compare_figures
from callus.report.comparison import compare
from callus.report.comparison_page import row, summary


@pytest.fixture(scope="module")
def a_c(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What a comparison of a and c wrote, and where."""
    out = tmp_path_factory.mktemp("a-c") / "out"
    return compare(made / "a", made / "c", out), out


@pytest.fixture(scope="module")
def a_b(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a comparison of a and b found."""
    return compare(made / "a", made / "b", tmp_path_factory.mktemp("a-b") / "out", how="max", prevalence=0.1)


def test_figures_are_those_of_each_model_on_the_same_files(made: Path, a_c: tuple[dict[str, Any], Path]) -> None:
    numbers, out = a_c
    assert sorted(path.name for path in out.iterdir()) == ["comparison.html", "comparison.json"]
    assert json.loads((out / "comparison.json").read_text()) == numbers
    a, c = probability(made / "a"), probability(made / "c")
    area = metrics.roc_auc_score(LABEL, a)
    found = numbers["figures"]["at_0.5"]["auroc"]
    assert (found["a"], found["b"]) == (pytest.approx(area), pytest.approx(1 - area))  # c ranks the other way round
    assert found["difference"] == pytest.approx(2 * area - 1)
    assert found["low"] < found["difference"] < found["high"]
    assert "clustered DeLong" in found["method"]
    brier = numbers["figures"]["high_specificity"]["brier"]
    assert brier["b"] == pytest.approx(metrics.brier_score_loss(LABEL, c))
    assert numbers["data"] == {
        "files": 12,
        "only_a": 0,
        "only_b": 0,
        "unlabelled": 0,
        "unanswered_a": 0,
        "unanswered_b": 0,
        "judged": 12,
        "radiographs": 10,
        "groups": 9,
        "fractured": 6,
        "not_fractured": 6,
    }
    assert numbers["warnings"] == []
    assert numbers["research_only"] == "research and education, not a medical device"
    for name, key in (("a", "a"), ("c", "b")):
        evaluated = json.loads((made / name / "metrics.json").read_text())
        assert numbers[key]["model"] == evaluated["model"]
        assert numbers[key]["data"]["manifest_sha256"] == evaluated["data"]["manifest_sha256"]


def test_each_model_is_judged_at_its_own_thresholds(made: Path, a_b: dict[str, Any]) -> None:
    numbers = a_b
    thresholds = {"at_0.5": (0.5, 0.5), "high_sensitivity": (0.3, 0.45), "high_specificity": (0.7, 0.6)}
    right = {}
    for name, both in thresholds.items():
        told = numbers["figures"][name]
        assert (told["threshold_a"], told["threshold_b"]) == both
        for key, folder, at in zip("ab", (made / "a", made / "b"), both, strict=True):
            called = probability(folder) >= at
            right[name, key] = called == LABEL
            assert told["sensitivity"][key] == pytest.approx(metrics.recall_score(LABEL, called))
            assert told["specificity"][key] == pytest.approx(metrics.recall_score(LABEL, called, pos_label=0))
            assert told["kappa"][key] == pytest.approx(metrics.cohen_kappa_score(LABEL, called))
        agreement = numbers["agreement"][name]
        a, b = right[name, "a"], right[name, "b"]
        for value, of in ((1, agreement["fractured"]), (0, agreement["not fractured"])):
            of_class = value == LABEL
            assert of["both_right"] == (a & b & of_class).sum()
            assert of["only_a_right"] == (a & ~b & of_class).sum()
            assert of["only_b_right"] == (~a & b & of_class).sum()
            assert of["both_wrong"] == (~a & ~b & of_class).sum()
    assert (right["high_specificity", "a"] != right["high_specificity", "b"]).any()  # else the last lines say little
    point = numbers["figures"]["high_sensitivity"]
    share = 0.1 * point["sensitivity"]["b"]
    assert point["ppv_at_prevalence"]["b"] == pytest.approx(share / (share + 0.9 * (1 - point["specificity"]["b"])))
    assert numbers["prevalence"] == 0.1
    # The two rank alike, so no draw of groups tells their AUROC apart.
    assert numbers["figures"]["at_0.5"]["auroc"]["p"] == 1
    assert "no draw" in numbers["figures"]["at_0.5"]["auroc"]["reason"]


def test_levels_calibration_and_what_differs_most(made: Path, a_b: dict[str, Any]) -> None:
    numbers = a_b
    a, b = answers(made / "a"), answers(made / "b")
    crossed = pd.crosstab([a["label"], a["level"]], b["level"])
    for label, name in ((1, "fractured"), (0, "not fractured")):
        for level, others in numbers["levels"][name].items():
            for other, count in others.items():
                present = (label, level) in crossed.index and other in crossed.columns
                assert count == (crossed.loc[(label, level), other] if present else 0)
    assert sum(sum(row.values()) for of in numbers["levels"].values() for row in of.values()) == 12
    for name, folder in (("a", made / "a"), ("b", made / "b")):
        brier = metrics.brier_score_loss(LABEL, probability(folder))
        assert numbers["calibration"][name]["brier"]["value"] == pytest.approx(brier)
    # b is a fifth as steep as a, so its logits want five times a's slope.
    slopes = [numbers["calibration"][name]["slope"]["value"] for name in "ab"]
    assert slopes[1] == pytest.approx(5 * slopes[0], rel=1e-3)
    listed = numbers["most_different"]
    apart = [abs(one["probability_a"] - one["probability_b"]) for one in listed]
    assert apart == sorted(apart, reverse=True)
    expected = pd.Series(np.abs(probability(made / "a") - probability(made / "b"))).groupby(a["radiograph"]).max()
    assert apart == pytest.approx(sorted(expected, reverse=True))  # one line a radiograph
    first = a.set_index("path").loc[listed[0]["path"]]
    assert (listed[0]["label"], listed[0]["level_a"]) == (first["label"], first["level"])
    assert listed[0]["probability_a"] == first["probability"]


def test_files_of_one_radiograph_are_put_together(
    made: Path, a_b: dict[str, Any], a_c: tuple[dict[str, Any], Path]
) -> None:
    rows = answers(made / "a")
    first = rows.groupby("radiograph").first()
    for how, other, numbers in (("max", "b", a_b["radiographs"]), ("mean", "c", a_c[0]["radiographs"])):
        assert (numbers["aggregate"], numbers["n"], numbers["fractured"]) == (how, 10, 5)
        both = [pd.Series(probability(made / name)).groupby(rows["radiograph"]).agg(how) for name in ("a", other)]
        told = numbers["figures"]["at_0.5"]
        for key, together in zip("ab", both, strict=True):
            assert told["brier"][key] == pytest.approx(metrics.brier_score_loss(first["label"], together))
            assert told["auroc"][key] == pytest.approx(metrics.roc_auc_score(first["label"], together))
    # Two radiographs are of one group, and the interval says so.
    by_group = compare_figures(first["label"], *both, first["group"], 0.5, 0.5)["auroc"]
    by_radiograph = compare_figures(first["label"], *both, first.index, 0.5, 0.5)["auroc"]
    assert told["auroc"]["low"] == pytest.approx(by_group.low)
    assert told["auroc"]["low"] != pytest.approx(by_radiograph.low)


def test_the_page_says_it_in_words_and_fetches_nothing(made: Path, a_c: tuple[dict[str, Any], Path]) -> None:
    numbers, out = a_c
    page = Page((out / "comparison.html").read_text())
    assert page.fetched == []
    auroc = numbers["figures"]["at_0.5"]["auroc"]
    sentence = f"On 10 radiographs (12 files) in 9 groups, A's AUROC was {auroc['a']:.3f} and B's {auroc['b']:.3f}: "
    assert sentence + f"{auroc['difference']:.3f} more (95 % interval " in page.words
    assert f"A is tiny-a, evaluated in {made / 'a'}." in page.words
    assert "At a probability of 0.5, A found 5 of 6 fractured files and B 1; of 6 others A called 2" in page.words
    assert "p values of this page are not adjusted for how many they are" in page.words
    assert "not a medical device" in page.words
    assert "clustered DeLong" in page.words
    assert page.words.count("a.png") == 1
    assert (out / "comparison.html").read_text().count("<svg") == 2


def test_the_sentence_says_what_is_settled_and_what_is_not(a_c: tuple[dict[str, Any], Path]) -> None:
    numbers = copy.deepcopy(a_c[0])

    def sentence(difference: float, low: float | None, high: float | None, p: float | None) -> str:
        told = {"a": 0.8 + difference, "b": 0.8, "difference": difference, "low": low, "high": high, "p": p}
        numbers["figures"]["at_0.5"]["auroc"] = told | {"method": "", "reason": "one group"}
        return summary(numbers)[1].partition("0.800: ")[2]

    assert sentence(0.03, 0.01, 0.05, 0.004) == "0.030 more (95 % interval 0.010 to 0.050, p = 0.004)."
    assert sentence(-0.03, -0.05, -0.01, 0.0004) == "0.030 less (95 % interval 0.010 to 0.050, p < 0.001)."
    unsettled = "That does not settle which of the two ranks radiographs better."
    wide = f"0.030 more (95 % interval 0.010 less to 0.070 more, p = 0.140). {unsettled}"
    assert sentence(0.03, -0.01, 0.07, 0.14) == wide
    wide = f"0.030 less (95 % interval 0.010 more to 0.070 less, p = 0.140). {unsettled}"
    assert sentence(-0.03, -0.07, 0.01, 0.14) == wide
    assert sentence(0.03, None, None, None) == "0.030 more (one group)."
    numbers["figures"]["at_0.5"]["auroc"] |= {"a": None, "difference": None}
    assert summary(numbers)[1].endswith("AUROC cannot be compared: one group.")


@pytest.mark.parametrize(
    ("name", "low", "high", "better"),
    [
        ("auroc", 0.1, 0.2, "A"),
        ("auroc", -0.2, -0.1, "B"),
        ("brier", 0.1, 0.2, "B"),
        ("lr_negative", -0.2, -0.1, "A"),
        ("lr_positive", 0.1, None, "A"),
        ("auroc", -0.1, 0.2, ""),
        ("auroc", None, None, ""),
    ],
)
def test_the_better_one_is_named_where_the_interval_leaves_0_out(
    name: str, low: float | None, high: float | None, better: str
) -> None:
    told = {"a": 0.5, "b": 0.4, "difference": 0.1, "low": low, "high": high, "p": None, "method": ""}
    assert row(name, told).better == better


def test_one_class_gives_reasons(place: Path) -> None:
    for name in "ab":
        rows = answers(place / name)
        rows[rows["label"] == 1].to_parquet(place / name / "predictions.parquet", index=False)
    numbers = compare(place / "a", place / "b", place / "out")
    told = numbers["figures"]["at_0.5"]
    assert told["auroc"]["difference"] is None
    assert told["auroc"]["reason"]
    assert told["specificity"]["a"] is None
    assert told["sensitivity"]["a"] == pytest.approx(5 / 6)
    assert numbers["warnings"] == ['no file is labelled "not fractured": specificity and AUROC cannot be compared']
    assert "AUROC cannot be compared: " in Page((place / "out" / "comparison.html").read_text()).words


def test_radiographs_with_one_file_or_two_labels_have_no_figures_of_their_own(place: Path) -> None:
    for name in "ab":
        change(place / name, radiograph=[f"r{at}" for at in range(12)])
    told = compare(place / "a", place / "b", place / "out")["radiographs"]
    assert (told["figures"], told["reason"]) == (None, "every radiograph has one file")
    for name in "ab":
        change(place / name, radiograph=["r"] * 12)
    told = compare(place / "a", place / "b", place / "out")["radiographs"]
    assert told["figures"] is None
    assert told["reason"].startswith("files of one radiograph have different labels (1; ")
    assert told["reason"] in Page((place / "out" / "comparison.html").read_text()).words


def test_an_evaluation_against_itself_shows_nothing(made: Path, tmp_path: Path) -> None:
    numbers = compare(made / "a", made / "a", tmp_path / "out")
    assert numbers["warnings"] == ["A and B are the same bundle"]
    assert numbers["most_different"] == []
    for figures in numbers["figures"].values():
        assert {figures[name]["difference"] for name in ("auroc", "brier", "accuracy", "kappa")} == {0.0}
        assert all(one["p"] in (1, None) for one in figures.values() if isinstance(one, dict))
    assert "Where they differ most" not in Page((tmp_path / "out" / "comparison.html").read_text()).words


def test_at_most_20_radiographs_are_listed(place: Path) -> None:
    for name in "ab":
        rows = pd.concat([answers(place / name)] * 3, ignore_index=True)
        marks = np.repeat([1, 2, 3], 12).astype(str)
        rows = rows.assign(**{key: rows[key] + "-" + marks for key in ("path", "sha256", "radiograph", "group")})
        rows.to_parquet(place / name / "predictions.parquet", index=False)
    numbers = compare(place / "a", place / "b", place / "out")
    assert numbers["data"]["radiographs"] == 30
    assert len(numbers["most_different"]) == 20
    assert len({one["path"] for one in numbers["most_different"]}) == 20


def test_names_are_escaped_in_the_page(place: Path) -> None:
    names = ["<script>x" if at == 2 else name for at, name in enumerate(answers(place / "a")["path"])]
    for name in "ab":
        change(place / name, path=names)
    compare(place / "a", place / "b", place / "out")
    page = Page((place / "out" / "comparison.html").read_text())
    assert page.fetched == []
    assert "<script>x" in page.words


@pytest.mark.parametrize(
    ("options", "said"),
    [({"prevalence": 1.0}, "prevalence is 1.0; expected more than 0"), ({"how": "median"}, "expected mean or max")],
)
def test_options_out_of_range_are_refused(made: Path, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        compare(made / "a", made / "b", tmp_path / "out", **options)


def test_a_former_comparison_is_replaced_and_nothing_else(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = place / "out"
    compare(place / "a", place / "b", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    compare(place / "a", place / "b", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(CallusError, match=r"a: holds 'metrics\.json', which no comparison wrote"):
        compare(place / "a", place / "b", place / "a")
    assert (place / "a" / "metrics.json").exists()
    (place / "file").write_text("")
    with pytest.raises(CallusError, match="is a file"):
        compare(place / "a", place / "b", place / "file")

    def full(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("callus.report.comparison_page.comparison_page", full)
    with pytest.raises(CallusError, match="No space left"):
        compare(place / "a", place / "c", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not [path for path in place.iterdir() if path.name.endswith(".part")]
