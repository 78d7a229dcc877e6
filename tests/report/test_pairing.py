from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from compared import answers, change, paired, probability
from html_page import Page

from callus.errors import CallusError, DatasetError
from callus.report.comparison import compare
from callus.report.pairing import match


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


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda metrics: metrics["model"].pop(name)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(without("name"), id="no name"),
        pytest.param(without("engine"), id="no engine"),
        pytest.param(without("bundle_sha256"), id="no hash"),
        pytest.param(lambda one: one["model"]["operating_points"].update(high_sensitivity=float("nan")), id="NaN"),
        pytest.param(lambda one: one["model"]["operating_points"].update(high_specificity=7), id="above 1"),
        pytest.param(lambda one: one.update(warnings=None), id="warnings"),
        pytest.param(lambda one: one.update(data=[]), id="data"),
        pytest.param(lambda one: one.update(schema_version=9), id="a later schema"),
    ],
)
def test_metrics_that_are_not_ours_are_refused_in_a_sentence(
    place: Path, tmp_path: Path, spoil: Callable[[dict[str, Any]], object]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "predictions.parquet").write_bytes((place / "a" / "predictions.parquet").read_bytes())
    metrics = json.loads((place / "a" / "metrics.json").read_text())
    spoil(metrics)
    (other / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(DatasetError, match=r"metrics\.json"):
        compare(place / "a", other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
