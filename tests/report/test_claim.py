from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import tiny_bundle

from callus.report.claim import SOURCE, ClaimItem, checklist

AUTHORS_ALONE = {1, 2, 3, 4, 5, 6, 8, 10, 11, 13, 15, 16, 17, 18, 21, 34, 36, 40, 41, 43, 44}
"""What no file of callus can tell."""
PAGE = {
    "Summary",
    "Figures at each threshold",
    "By radiograph and study",
    "Calibration",
    "Decision curve",
    "Where it looked",
    "Subgroups",
    "External test",
    "Robustness",
    "Worst misses",
    "Worst false alarms",
}
"""The sections of the report that answer an item."""


def metrics() -> dict[str, Any]:
    share = {"value": 0.8, "low": 0.7, "high": 0.9, "method": "Wilson"}
    figure = {"auroc": 0.8, "accuracy": 0.75, "sensitivity": 0.9, "specificity": 0.6, "confusion": {"tn": 6, "fp": 4}}
    return {
        "model": {"bundle_sha256": "ab" * 32},
        "data": {
            "split": "test",
            "manifest_sha256": "cd" * 32,
            "files": 12,
            "judged": 10,
            "unlabelled": 1,
            "failed": 1,
            "sources": ["FracAtlas"],
            "reference_standard": "two radiologists",
        },
        "figures": dict.fromkeys(("at_0.5", "high_sensitivity", "high_specificity"), figure),
        "intervals": {"at_0.5": {"auroc": share}},
        "leaks": {"groups_across_splits": 0},
        "robustness": {"steps": []},
        "external": {"elsewhere": {}},
    }


def bundle() -> dict[str, Any]:
    info = tiny_bundle.tiny_info(callus="1.0")
    info["engines"] = {"onnx-float32": {"parity": {"against": "torch 2.13.0"}}}
    info["training"] = {
        "trunk": "resnet152v2",
        "weights": "ImageNet, resnet.h5",
        "recipe": 'seed = 0\n\n[optimisation]\nkeep = "best"\n',
        "manifest_sha256": "cd" * 32,
        "splits": {"train": 80, "val": 10, "test": 10},
    }
    return info


def answered(items: list[ClaimItem]) -> set[int]:
    return {item.number for item in items if item.answered}


def test_44_items_in_order_and_none_answered_from_nothing() -> None:
    items = checklist({}, {})
    assert [item.number for item in items] == list(range(1, 45))
    assert answered(items) == set()
    assert all(item.where.startswith("not answered: ") and len(item.where) > 20 for item in items)
    assert len({(item.section, item.title) for item in items}) == 44
    sections = [item.section for item in items]
    assert [sections.count(name) for name in dict.fromkeys(sections)] == [1, 1, 2, 2, 7, 5, 2, 1, 3, 3, 7, 2, 3, 2, 3]
    assert "10.1148/ryai.240300" in SOURCE


def test_everything_that_can_be_answered_is() -> None:
    items = checklist(metrics(), bundle(), has_pictures=True)
    assert answered(items) == set(range(1, 45)) - AUTHORS_ALONE
    assert all(not item.where.startswith("not answered") for item in items if item.answered)
    assert "two radiologists" in items[13].where
    assert "train 80, val 10, test 10" in items[18].where
    assert "none crosses" in items[19].where
    assert "torch 2.13.0" in items[22].where
    assert items[0].as_dict() == {
        "number": 1,
        "section": "Title / abstract",
        "title": items[0].title,
        "where": items[0].where,
        "answered": False,
    }


@pytest.mark.parametrize(
    ("path", "lost"),
    [
        ("metrics.data.sources", {7}),
        ("metrics.data.unlabelled", {12, 35}),
        ("metrics.data.failed", {12, 35}),
        ("metrics.data.files", {35}),
        ("metrics.data.reference_standard", {14}),
        ("metrics.data.manifest_sha256", {32}),
        ("metrics.data.split", {32}),
        ("metrics.figures", {28, 32, 37, 38, 39}),
        ("metrics.intervals", {29, 37, 38}),
        ("metrics.leaks", {20}),
        ("metrics.model", {42}),
        ("metrics.robustness", {30}),
        ("metrics.external", {33}),
        ("bundle.input", {9, 22}),
        ("bundle.outputs", {22, 31}),
        ("bundle.callus", {23}),
        ("bundle.engines", {23, 27}),
        ("bundle.training.trunk", {22}),
        ("bundle.training.weights", {24}),
        ("bundle.training.recipe", {19, 22, 25, 26, 42}),
        ("bundle.training.splits", {19}),
        ("bundle.training", {19, 22, 24, 25, 26, 32, 42}),
    ],
)
@pytest.mark.parametrize("missing", ["gone", "null"])
def test_an_item_is_answered_only_where_its_numbers_are_there(path: str, lost: set[int], missing: str) -> None:
    given: dict[str, Any] = {"metrics": metrics(), "bundle": bundle()}
    *way, last = path.split(".")
    place = given
    for key in way:
        place = place[key]
    if missing == "gone":
        del place[last]
    else:
        place[last] = None
    items = checklist(given["metrics"], given["bundle"], has_pictures=True)
    assert set(range(1, 45)) - AUTHORS_ALONE - answered(items) == lost


def test_figures_without_a_number_are_no_answer() -> None:
    given = metrics()
    undefined = dict.fromkeys(("auroc", "accuracy", "sensitivity", "specificity")) | {"confusion": {}}
    given["figures"] = dict.fromkeys(given["figures"], undefined)
    given["intervals"] = {"at_0.5": {"auroc": {"value": None, "low": None, "high": None, "method": ""}}}
    assert not answered(checklist(given, bundle(), has_pictures=True)) & {28, 29, 32, 37, 38, 39}


def test_one_class_has_figures_but_no_diagnostic_performance() -> None:
    given = copy.deepcopy(metrics())
    given["figures"]["high_specificity"]["specificity"] = None
    assert 38 not in answered(checklist(given, bundle()))
    assert 37 in answered(checklist(given, bundle()))


@pytest.mark.parametrize("split", ["train", "all"])
def test_the_training_split_is_no_internal_test(split: str) -> None:
    given = metrics()
    given["data"]["split"] = split
    assert 32 not in answered(checklist(given, bundle()))


def test_data_of_elsewhere_are_no_internal_test() -> None:
    given = metrics()
    given["data"]["manifest_sha256"] = "ef" * 32
    assert 32 not in answered(checklist(given, bundle()))


def test_what_the_report_holds_may_be_said() -> None:
    given = metrics()
    assert {30, 33} & answered(checklist(given, {}, has_robustness=False, has_external=False)) == set()
    del given["robustness"], given["external"]
    assert {30, 33} <= answered(checklist(given, {}, has_robustness=True, has_external=True))
    assert 39 not in answered(checklist(given, {}))
    assert 39 in answered(checklist(given, {}, has_pictures=True))


def test_crossing_groups_and_ensembles_are_told_as_they_are() -> None:
    given, info = metrics(), bundle()
    given["leaks"]["groups_across_splits"] = 3
    assert "3 cross the splits" in checklist(given, info)[19].where
    info["engines"]["other"] = {}
    assert 27 not in answered(checklist(given, info))


def test_a_map_is_held_against_boxes_only_where_it_was() -> None:
    given = metrics()
    assert "not held against boxes" in checklist(given, bundle())[30].where
    given["localisation"] = {"hit_rate": 0.5}
    assert "metrics.json, localisation" in checklist(given, bundle())[30].where


def test_a_real_bundle_of_before_is_read(tmp_path: Any) -> None:
    from callus.bundle import Bundle

    info = Bundle.load(tiny_bundle.write_tiny_bundle(tmp_path / "tiny")).info
    assert answered(checklist({"intervals": None}, info)) == {9, 27, 31}


def test_answers_name_sections_of_the_report_and_all_of_them() -> None:
    given = metrics() | {key: {"some": 1} for key in ("calibration", "decision_curve", "aggregated", "localisation")}
    given["subgroups"] = {"source": [{}]}
    del given["data"]["sources"]
    items = checklist(given, bundle(), has_pictures=True)
    named = [name for item in items if item.answered for name in re.findall(r'"([^"]+)"', item.where)]
    assert set(named) == PAGE
    assert items[6].where == 'report.html, "Subgroups" by source; metrics.json, subgroups'
    bare = [item.where for item in checklist(metrics(), bundle()) if item.answered]
    for name in PAGE - {"Summary", "Figures at each threshold", "External test", "Robustness"}:
        assert not any(name in where for where in bare)


@pytest.mark.parametrize(
    ("number", "section", "word"),
    [
        (1, "Title / abstract", "study of AI"),
        (2, "Abstract", "sums up"),
        (4, "Introduction", "hypotheses"),
        (6, "Methods: study design", "goal"),
        (9, "Methods: data", "preprocessing"),
        (11, "Methods: data", "de-identified"),
        (12, "Methods: data", "missing"),
        (13, "Methods: data", "protocol"),
        (16, "Methods: reference standard", "annotations"),
        (18, "Methods: reference standard", "variability"),
        (20, "Methods: data partitions", "disjoint"),
        (21, "Methods: testing data", "sample size"),
        (24, "Methods: model", "parameters"),
        (27, "Methods: training", "ensembling"),
        (30, "Methods: evaluation", "robustness"),
        (33, "Methods: evaluation", "external"),
        (34, "Methods: evaluation", "trial"),
        (36, "Results: data", "demographic"),
        (39, "Results: model performance", "failures"),
        (41, "Discussion", "practice"),
        (44, "Other information", "funding"),
    ],
)
def test_items_stand_where_the_checklist_of_2024_has_them(number: int, section: str, word: str) -> None:
    item = checklist({}, {})[number - 1]
    assert item.section == section
    assert word in item.title
