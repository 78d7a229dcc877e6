"""Two evaluations side by side: real ones of two tiny networks, and what may be wrong with them."""

from __future__ import annotations

import copy
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_bundle
from PIL import Image
from sklearn import metrics

from callus.bundle import write_bundle
from callus.dataset.manifest import COLUMNS
from callus.errors import CallusError, DatasetError
from callus.metrics.comparison import compare_figures
from callus.report import evaluate
from callus.report.comparison import compare
from callus.report.comparison_page import row, summary
from callus.report.pairing import Pairs, match, pair, read_evaluation

# Name, label, brightness of the spot, radiograph, group.
PICTURES = [
    ("a.png", 1, 0.95, "r1", "g1"),
    ("b.png", 1, 0.62, "r1", "g1"),
    ("c.png", 1, 0.56, "r2", "g2"),
    ("d.png", 1, 0.30, "r3", "g3"),
    ("e.png", 1, 0.80, "r4", "g4"),
    ("f.png", 1, 0.58, "r5", "g5"),
    ("g.png", 0, 0.55, "r6", "g6"),
    ("h.png", 0, 0.10, "r7", "g7"),
    ("i.png", 0, 0.20, "r7", "g7"),
    ("j.png", 0, 0.40, "r8", "g8"),
    ("k.png", 0, 0.90, "r9", "g9"),
    ("l.png", 0, 0.15, "r10", "g9"),
]
LABEL = np.array([one[1] for one in PICTURES])


def write_model(folder: Path, gain: float, low: float, high: float) -> Path:
    engine = {
        "file": "model.onnx",
        "calibration": {"method": "platt", "slope": 1.0, "intercept": 0.0},
        "operating_points": {"high_sensitivity": low, "high_specificity": high},
        "map_threshold": 0.5,
        "parity": {},
    }
    info = tiny_bundle.tiny_info(name=folder.name, engines={"onnx-float32": engine})
    graph = tiny_bundle.tiny_graph(gain=gain).SerializeToString()
    return Path(write_bundle(folder, info, {"model.onnx": graph, "MODEL_CARD.md": b"# tiny\n"}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations a and b: b is less steep, of other thresholds; c ranks the other way round."""
    folder = tmp_path_factory.mktemp("evaluations")
    rows = []
    for name, label, peak, radiograph, group in PICTURES:
        pixels = np.full((160, 140), 20, np.uint8)
        pixels[40:80, 40:80] = round(255 * peak)
        Image.fromarray(pixels).save(folder / name)
        rows.append(
            dict.fromkeys(COLUMNS, "")
            | {"path": str(folder / name), "sha256": f"sha-{name}", "width": 140, "height": 160, "label": label}
            | {"radiograph": radiograph, "group": group, "split": "test", "hardware": None}
            | {"boxes": [], "polygons": []}
        )
    types = {"width": "Int32", "height": "Int32", "label": "Int8", "hardware": "boolean"}
    frame = pd.DataFrame(rows).astype(types)
    for name, *how in (("a", 20.0, 0.3, 0.7), ("b", 4.0, 0.45, 0.6), ("c", -20.0, 0.3, 0.7)):
        evaluate(write_model(folder / "models" / f"tiny-{name}", *how), frame, "test", folder / name, pictures=0)
    return folder


@pytest.fixture(scope="module")
def a_c(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What a comparison of a and c wrote, and where."""
    out = tmp_path_factory.mktemp("a-c") / "out"
    return compare(made / "a", made / "c", out), out


@pytest.fixture(scope="module")
def a_b(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a comparison of a and b found."""
    return compare(made / "a", made / "b", tmp_path_factory.mktemp("a-b") / "out", how="max", prevalence=0.1)


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """Copies of the evaluations, to be changed."""
    for name in "abc":
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def answers(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "predictions.parquet")


def change(folder: Path, **columns: Any) -> None:
    """Replace columns of an evaluation's predictions."""
    answers(folder).assign(**columns).to_parquet(folder / "predictions.parquet", index=False)


def paired(place: Path, other: str = "b") -> Pairs:
    return pair(read_evaluation(place / "a"), read_evaluation(place / other))


def probability(folder: Path) -> np.ndarray:
    return answers(folder)["probability"].to_numpy(dtype=float)


class Page(HTMLParser):
    """What a page asks others for, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.fetched += [v for k in ("src", "href") if (v := values.get(k)) and not v.startswith(("data:", "#"))]
        if tag == "script":
            self.fetched.append("script")

    def handle_data(self, data: str) -> None:
        self.words += data


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


def table(*rows: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["path", "sha256"])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        # Moved files are known by their bytes, others with the same name are others.
        ([("x/1", "s1"), ("x/2", "s2")], [("x/1", "s2"), ("y/1", "s1")], [(0, 1), (1, 0)]),
        # Copies: the one of the same path first, then in their order, none twice.
        ([("1", "s"), ("2", "s")], [("2", "s"), ("3", "s"), ("4", "s")], [(0, 1), (1, 0)]),
        # By path only where a SHA-256 is missing.
        ([("1", ""), ("2", "s2"), ("3", "s3")], [("1", "s1"), ("2", ""), ("3", "other")], [(0, 0), (1, 1)]),
        ([("1", "")], [("2", "")], []),
    ],
)
def test_files_are_matched_by_bytes_then_by_path(a: Any, b: Any, expected: Any) -> None:
    assert [tuple(pair) for pair in match(table(*a), table(*b)).tolist()] == expected


def test_files_in_one_of_them_only_are_told(place: Path) -> None:
    answers(place / "a").iloc[1:].to_parquet(place / "a" / "predictions.parquet", index=False)
    answers(place / "b").iloc[:-3].to_parquet(place / "b" / "predictions.parquet", index=False)
    numbers = compare(place / "a", place / "b", place / "out")
    assert (numbers["data"]["files"], numbers["data"]["only_a"], numbers["data"]["only_b"]) == (8, 3, 1)
    assert len(numbers["warnings"]) == 1
    said = numbers["warnings"][0]
    assert said.startswith("3 files only in A (")
    assert "j.png" in said
    assert "and 1 file only in B (" in said
    assert said.endswith("a.png): the comparison is on the 8 files in both")
    assert said in Page((place / "out" / "comparison.html").read_text()).words


def test_rows_in_another_order_and_moved_files_change_nothing(place: Path) -> None:
    expected = paired(place, "c")
    moved = answers(place / "c").sample(frac=1, random_state=1)
    moved["path"] = [f"/elsewhere/{11 - at:02}.png" for at in range(len(moved))]
    moved.to_parquet(place / "c" / "predictions.parquet", index=False)
    found = paired(place, "c")
    assert found.counts == expected.counts
    assert found.warnings == expected.warnings == []
    for name in ("path", "label", "a", "b", "levels", "radiograph", "group"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_nothing_in_common_is_refused(place: Path) -> None:
    change(place / "b", sha256=[f"other{at}" for at in range(12)])
    with pytest.raises(DatasetError, match=r"no file is in both .*a \(12 files\) and .*b \(12 files\)"):
        compare(place / "a", place / "b", place / "out")
    change(place / "b", sha256=answers(place / "a")["sha256"], label=pd.array([None] * 12, dtype="Int8"))
    with pytest.raises(DatasetError, match="none of the 12 files in both A and B has a label"):
        compare(place / "a", place / "b", place / "out")
    assert not (place / "out").exists()


def test_other_labels_are_refused(place: Path) -> None:
    label = answers(place / "b")["label"]
    label[[2, 6]] = [0, 1]
    change(place / "b", label=label)
    said = r"labels of 2 files differ .*c\.png \(fractured in A\), .*g\.png \(not fractured in A\)"
    with pytest.raises(DatasetError, match=said):
        compare(place / "a", place / "b", place / "out")


def test_files_without_answer_or_label_are_left_out_and_counted(place: Path) -> None:
    answered = answers(place / "a")["probability"]
    answered[0] = pd.NA
    level = answers(place / "a")["level"]
    level[0] = ""
    label = answers(place / "b")["label"]
    label[[1, 2]] = pd.NA
    change(place / "a", probability=answered, level=level)
    change(place / "b", label=label)
    pairs = paired(place)
    data = pairs.counts
    assert (data["unanswered_a"], data["unanswered_b"], data["unlabelled"], data["judged"]) == (1, 0, 2, 9)
    assert pairs.warnings == ["left out: 1 file without an answer in A, 2 files without a label"]
    assert pairs.b.tolist() == probability(place / "b")[3:].tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, -0.1])
def test_a_probability_that_is_none_is_refused(place: Path, value: float) -> None:
    values = probability(place / "b")
    values[[3, 5]] = value
    change(place / "b", probability=values)
    said = r"b/predictions\.parquet: .*d\.png has .*, expected a probability in \[0, 1\], or none \(1 more"
    if np.isnan(value):  # pandas writes NaN as a missing value; the column itself can hold it
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = pq.read_table(place / "b" / "predictions.parquet")
        at = file.schema.get_field_index("probability")
        pq.write_table(file.set_column(at, "probability", pa.array(values)), place / "b" / "predictions.parquet")
    with pytest.raises(CallusError, match=said):
        compare(place / "a", place / "b", place / "out")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [2] + [0] * 11}, r"a\.png has 2, expected a label of 0 or 1"),
        ({"level": ["sure"] * 12}, r"a\.png has sure, expected a level: fracture, doubt, none \(11 more"),
        ({"probability": ["much"] * 12}, "cannot be read: "),
    ],
)
def test_columns_that_are_wrong_are_refused(place: Path, columns: dict[str, Any], said: str) -> None:
    change(place / "b", **columns)
    with pytest.raises(DatasetError, match=said):
        compare(place / "a", place / "b", place / "out")


def test_a_folder_that_holds_no_evaluation_is_refused(place: Path) -> None:
    def refused(said: str) -> None:
        with pytest.raises(DatasetError, match=said):
            compare(place / "a", place / "b", place / "out")

    answers(place / "b").drop(columns=["group", "level"]).to_parquet(place / "b" / "predictions.parquet")
    refused("has no column group, level")
    (place / "b" / "predictions.parquet").write_bytes(b"PAR1 but not for long")
    refused(r"predictions\.parquet: cannot be read")
    (place / "b" / "predictions.parquet").unlink()
    refused(r"predictions\.parquet: is missing")
    (place / "b" / "metrics.json").write_text('{"model": {"name": "x"}}')
    refused(r"metrics\.json: names no model with its operating points")
    (place / "b" / "metrics.json").write_text("{")
    refused(r"metrics\.json: cannot be read")
    (place / "b" / "metrics.json").unlink()
    refused(r"metrics\.json: is missing: there is no evaluation; name a folder that callus evaluate wrote")


def test_groups_that_differ_are_joined(place: Path) -> None:
    shown = answers(place / "b")["radiograph"].replace({"r5": "r4"})
    change(place / "b", group=["x", "x", "x", "d", "e", "f", "g", "h", "h", "h", "k", "l"], radiograph=shown)
    change(place / "a", group=["1", "1", "2", "2", "4", "5", "6", "7", "7", "8", "9", "10"])
    pairs = paired(place)
    # a, b, c by b and c, d by a; e, f by b's radiograph; h, i, j by b.
    assert pairs.group.tolist() == [0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 5]
    assert pairs.radiograph.tolist() == [0, 0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 8]
    assert (pairs.counts["groups"], pairs.counts["radiographs"]) == (6, 9)
    assert pairs.warnings == [
        "A and B group the files in different ways (9 and 8 groups): what either joins is taken as one group, 6 in all"
    ]
    there = answers(place / "a")
    change(place / "b", group="renamed " + there["group"], radiograph="renamed " + there["radiograph"])
    assert paired(place).warnings == []


def test_other_splits_and_the_evaluations_own_warnings_are_told(place: Path) -> None:
    change(place / "b", split=["train"] * 2 + ["test"] * 10)
    for name, own in (("a", ["leaks", "old"]), ("b", ["leaks"])):
        numbers = json.loads((place / name / "metrics.json").read_text())
        (place / name / "metrics.json").write_text(json.dumps(numbers | {"warnings": own}))
    warnings = paired(place).warnings
    assert warnings[0].startswith("2 files in another split in A than in B (")
    assert "a.png: test in A, train in B)" in warnings[0]
    assert warnings[1:] == ["both evaluations warn: leaks", "the evaluation of A warns: old"]


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
