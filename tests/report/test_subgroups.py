from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from callus.dataset.columns import COLUMNS, conform
from callus.errors import CallusError
from callus.metrics.intervals import auroc_interval, threshold_intervals
from callus.metrics.operating_points import OperatingPoints
from callus.metrics.resampling import Resampling
from callus.report.robustness import FIGURES, SHARES
from callus.report.subgroups import MOST_VALUES, Subgroup, subgroups

POINTS = OperatingPoints(0.3, 0.7)
THRESHOLDS = {"high_sensitivity": 0.3, "high_specificity": 0.7}
DRAWS = 200


def judged(*files: dict[str, Any]) -> pd.DataFrame:
    """Rows as the manifest has them; what a file does not tell is not known, and its group is its own."""
    rows = [
        {"path": f"{number}.png", "group": f"g{number}", "probability": 0.5} | file for number, file in enumerate(files)
    ]
    frame = pd.DataFrame(rows)
    manifest = conform(frame.reindex(columns=list(COLUMNS)))
    return manifest.assign(probability=pd.array(frame["probability"], dtype="Float64"))


def told(frame: pd.DataFrame) -> dict[str, list[Subgroup]]:
    return subgroups(frame, POINTS, draws=DRAWS)


def names(members: list[Subgroup]) -> list[str]:
    return [one.name for one in members]


@pytest.fixture(scope="module")
def clinic() -> pd.DataFrame:
    """600 files in 200 groups, where a file tells everything or nothing."""
    rng = np.random.default_rng(7)
    files = []
    for number in range(600):
        label = int(rng.integers(0, 2))
        known = rng.random() < 0.7
        file = {
            "label": label,
            "group": f"g{number // 3}",
            "probability": float(np.clip(rng.normal(0.35 + 0.3 * label, 0.25), 0, 1)),
        }
        if known:
            count = int(rng.integers(1, 5)) * label
            file |= {
                "region": str(rng.choice(["wrist", "hip", "hip"])),
                "view": str(rng.choice(["frontal", "frontal+lateral"])),
                "hardware": bool(rng.integers(0, 2)),
                "source": "house",
                "width": int(rng.integers(300, 3000)),
                "height": 400,
                "boxes": [[5, 5, *rng.uniform(10, 120, 2)] for _ in range(count)],
            }
        files.append(file)
    return judged(*files)


def test_every_value_is_a_subgroup_with_its_counts() -> None:
    frame = judged(
        {"label": 1, "region": "wrist", "group": "a"},
        {"label": 0, "region": "wrist", "group": "a"},
        {"label": 0, "region": "hip", "group": "b"},
        {"label": 1, "region": "ankle", "group": "c"},
        {"label": 1, "region": "", "group": "d"},
        {"label": 1, "region": "", "group": "d"},
        {"label": 1, "region": "", "group": "e"},
    )
    (category,) = told(frame).items()
    assert category[0] == "region"
    assert [(one.name, one.files, one.groups, one.fractured) for one in category[1]] == [
        ("wrist", 2, 1, 1),
        ("ankle", 1, 1, 1),  # as many as hip: by name
        ("hip", 1, 1, 0),
        ("not known", 3, 2, 3),  # last, though it has the most
    ]
    assert category[1][-1].text == "region not known"


def test_the_figures_are_those_of_the_files_alone(clinic: pd.DataFrame) -> None:
    whole = told(clinic)
    assert list(whole) == ["region", "view", "hardware", "source", "size", "fractures", "fracture_size"]
    assert all(tuple(one.figures) == FIGURES for members in whole.values() for one in members)
    metal = clinic["hardware"]
    side = clinic[["width", "height"]].max(axis=1)
    parts = {
        ("region", "hip"): clinic["region"] == "hip",
        ("region", "not known"): clinic["region"] == "",
        ("view", "frontal+lateral"): clinic["view"] == "frontal+lateral",
        ("hardware", "metal"): metal.fillna(value=False),
        ("hardware", "no metal"): ~metal.fillna(value=True),
        ("hardware", "not known"): metal.isna(),
        ("source", "house"): clinic["source"] == "house",
        ("size", "513 to 1,024"): side.between(513, 1024).fillna(value=False),
        ("size", "above 2,048"): (side > 2048).fillna(value=False),
    }
    for (category, name), which in parts.items():
        (found,) = [one for one in whole[category] if one.name == name]
        some = clinic[which.astype(bool)]
        label, probability = some["label"].to_numpy(dtype=int), some["probability"].to_numpy(dtype=float)
        drawn = Resampling(some["group"], label, DRAWS)
        assert drawn.groups < len(some)  # some groups have several files, so that draws decide
        assert (found.files, found.groups, found.fractured) == (len(some), drawn.groups, label.sum())
        assert found.figures["auroc"] == auroc_interval(label, probability, some["group"])
        for point, threshold in THRESHOLDS.items():
            expected = threshold_intervals(label, probability, threshold, drawn)
            assert {name: found.figures[f"{point}.{name}"] for name in SHARES} == {
                name: expected[name] for name in SHARES
            }


def test_fractures_are_ranked_against_all_files_that_are_not_fractured(clinic: pd.DataFrame) -> None:
    whole = told(clinic)
    fractured = clinic["label"] == 1
    count = clinic["boxes"].map(len)
    largest = clinic["boxes"].map(lambda boxes: max((box[2] * box[3] for box in boxes), default=np.nan)) ** 0.5
    share = largest / (clinic["width"].astype(float) * clinic["height"].astype(float)) ** 0.5
    parts = [
        ("fractures", "1", "1 fracture", count == 1),
        ("fractures", "3 or more", "3 fractures or more", count >= 3),
        ("fractures", "not marked", "fractures not marked", fractured & (count == 0)),
        ("fracture_size", "small", "small: below 7 %", share < 0.07),
        ("fracture_size", "large", "large: 7 %", share >= 0.07),
        ("fracture_size", "not known", "fracture's size not known", fractured & share.isna()),
    ]
    for category, name, text, which in parts:
        (found,) = [one for one in whole[category] if one.name == name]
        assert (found.files, found.fractured) == (which.sum(), which.sum())
        assert found.groups == clinic.loc[which, "group"].nunique()
        ranked = clinic[which | ~fractured]
        label, probability = ranked["label"].to_numpy(dtype=int), ranked["probability"].to_numpy(dtype=float)
        assert found.figures["auroc"] == auroc_interval(label, probability, ranked["group"])
        own = clinic[which]
        drawn = Resampling(own["group"], own["label"], DRAWS)
        for point, threshold in THRESHOLDS.items():
            expected = threshold_intervals(
                own["label"].to_numpy(dtype=int), own["probability"].to_numpy(dtype=float), threshold, drawn
            )
            assert found.figures[f"{point}.sensitivity"] == expected["sensitivity"]
            specificity = found.figures[f"{point}.specificity"]
            assert (specificity.value, specificity.low, specificity.high) == (None, None, None)
            assert "not fractured" in specificity.reason
        assert found.text.startswith(text)
    assert sum(one.files for one in whole["fractures"]) == fractured.sum()
    assert sum(one.files for one in whole["fracture_size"]) == fractured.sum()


def test_fractures_are_boxes_or_polygons_where_there_are_none() -> None:
    box, other = [10, 10, 20, 20], [50, 50, 4, 4]
    triangle = [0, 0, 30, 0, 30, 40]
    frame = judged(
        {"label": 1, "boxes": [box], "polygons": [triangle, triangle]},
        {"label": 1, "boxes": [box, other]},
        {"label": 1, "polygons": [triangle] * 4},
        {"label": 1},
        {"label": 0, "boxes": [box]},  # a contradiction, but its label says that it has no fracture
        {"label": 0},
    )
    found = told(frame)
    assert [(one.name, one.files) for one in found["fractures"]] == [
        ("1", 1),
        ("2", 1),
        ("3 or more", 1),
        ("not marked", 1),
    ]
    assert "fracture_size" not in found  # no picture's size is known


@pytest.mark.parametrize(
    ("marks", "name"),
    [
        ({"boxes": [[0, 0, 12, 4]]}, "small"),  # 6.9 pixels of 100
        ({"boxes": [[0, 0, 12, 4.2]]}, "large"),  # 7.1
        ({"boxes": [[0, 0, 12, 4], [0, 0, 3, 3], [20, 20, 5, 12]]}, "large"),  # the largest tells
        ({"polygons": [[0, 0, 12, 0, 0, 4]]}, "small"),  # its box
        ({"polygons": [[10, 0, 22, 5, 10, 5, 22, 0]]}, "large"),
        ({}, "not known"),
        ({"boxes": [[0, 0, 50, 50]], "width": None}, "not known"),
    ],
)
def test_the_largest_fracture_is_held_against_the_picture(marks: dict[str, Any], name: str) -> None:
    known = {"label": 1, "width": 50, "height": 200, "boxes": [[0, 0, 40, 40]], "group": "known"}
    frame = judged(known, {"label": 1, "width": 50, "height": 200, "source": "asked"} | marks)
    by_name = {one.name: one.files for one in told(frame)["fracture_size"]}
    assert by_name == ({"large": 2} if name == "large" else {"large": 1, name: 1})


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [
        (512, 40, "up to 512"),
        (40, 513, "513 to 1,024"),
        (1024, 1024, "513 to 1,024"),
        (1025, 1, "1,025 to 2,048"),
        (2048, 1, "1,025 to 2,048"),
        (1, 2049, "above 2,048"),
        (None, 700, "not known"),
    ],
)
def test_sizes_are_classes_of_the_longer_side(width: int | None, height: int, name: str) -> None:
    frame = judged(
        {"label": 1, "width": width, "height": height},
        {"label": 0, "width": 9, "height": 9},
        {"label": 0, "group": "x"},
    )
    (found,) = [one for one in told(frame)["size"] if one.fractured]
    assert found.name == name
    assert (name == "not known") == (found.text == "size of the picture not known")


def test_a_missing_class_gives_none_and_a_reason() -> None:
    frame = judged(
        *[{"label": 1, "region": "hip", "probability": 0.8, "group": f"g{number % 4}"} for number in range(8)],
        *[{"label": 0, "region": "knee", "probability": 0.1} for _ in range(8)],
    )
    hip, knee = sorted(told(frame)["region"], key=lambda one: one.name)
    assert (hip.figures["auroc"].value, hip.figures["auroc"].reason) == (None, "no case that is not fractured")
    assert (knee.figures["auroc"].value, knee.figures["auroc"].reason) == (None, "no fractured case")
    for point in THRESHOLDS:
        assert hip.figures[f"{point}.sensitivity"].value == 1
        assert hip.figures[f"{point}.specificity"].value is None
        assert hip.figures[f"{point}.specificity"].reason == "no case that is not fractured"
        assert knee.figures[f"{point}.specificity"].value == 1
        assert knee.figures[f"{point}.sensitivity"].reason == "no fractured case"


def test_without_a_fractured_file_nothing_is_divided_by_fractures() -> None:
    found = told(judged({"label": 0, "region": "hip", "width": 9, "height": 9}, {"label": 0, "boxes": [[0, 0, 3, 3]]}))
    assert list(found) == ["region", "size"]


def test_without_a_file_that_is_not_fractured_fractures_have_a_sensitivity_alone() -> None:
    (one,) = told(judged(*[{"label": 1, "probability": 0.9, "boxes": [[0, 0, 3, 3]]}] * 3))["fractures"]
    assert one.figures["auroc"].reason == "no case that is not fractured"
    assert one.figures["high_specificity.sensitivity"].value == 1


def test_a_category_of_which_nothing_is_known_is_left_out() -> None:
    assert told(judged({"label": 1}, {"label": 0})) == {}
    assert names(told(judged({"label": 1, "source": "a"}, {"label": 0, "source": "a"}))["source"]) == ["a"]


def test_no_file_gives_no_subgroup(clinic: pd.DataFrame) -> None:
    assert told(clinic.iloc[:0]) == {}


def files_of(groups: int, fractured: int) -> list[dict[str, Any]]:
    """Two files a group, the first groups fractured."""
    return [
        {"label": int(number < fractured), "group": f"g{number}", "region": "hip", "probability": 0.2 + 0.1 * copy}
        for number in range(groups)
        for copy in range(2)
    ]


@pytest.mark.parametrize(
    ("groups", "fractured", "why"),
    [
        (30, 10, ""),
        (40, 20, ""),
        (30, 9, "9 groups with a fracture; intervals of so few say little"),
        (29, 12, "29 groups in all; intervals of so few say little"),
        (30, 29, "1 group with a file that is not fractured; intervals of so few say little"),
        (12, 7, "12 groups in all, 7 groups with a fracture, 5 groups with a file that is not fractured; "),
        (30, 0, "0 groups with a fracture; intervals of so few say little"),
    ],
)
def test_small_subgroups_say_why_and_keep_their_figures(groups: int, fractured: int, why: str) -> None:
    (hip,) = told(judged(*files_of(groups, fractured)))["region"]
    assert hip.why_small.startswith(why)
    assert hip.small == bool(why) == bool(hip.why_small)
    assert hip.figures["high_sensitivity.specificity"].value is not None
    assert (hip.figures["auroc"].value is not None) == (fractured > 0)


def test_fractures_are_small_by_their_own_groups_and_those_that_they_are_ranked_against() -> None:
    marked = [file | {"boxes": [[0, 0, 3, 3]]} if file["label"] else file for file in files_of(48, 40)]
    (one,) = told(judged(*marked))["fractures"]
    assert one.groups == 40
    assert one.why_small == "8 groups with a file that is not fractured; intervals of so few say little"
    marked = [file | {"boxes": [[0, 0, 3, 3]]} if file["label"] else file for file in files_of(60, 25)]
    (one,) = told(judged(*marked))["fractures"]
    assert one.why_small == "25 groups in all; intervals of so few say little"


def test_many_values_are_joined() -> None:
    files = [
        {"label": number % 2, "source": f"clinic {number:02}", "group": f"{number} {copy}"}
        for number in range(MOST_VALUES + 3)
        for copy in range(30 - number)
    ]
    found = told(judged(*files, {"label": 1}))["source"]
    assert names(found) == [*(f"clinic {number:02}" for number in range(MOST_VALUES)), "others (3 values)", "not known"]
    assert [one.files for one in found[-3:]] == [11, 10 + 9 + 8, 1]
    found = told(judged(*[file for file in files if file["source"] <= f"clinic {MOST_VALUES:02}"]))["source"]
    assert names(found)[MOST_VALUES:] == ["others (1 value)"]


def test_the_order_of_the_rows_changes_nothing(clinic: pd.DataFrame) -> None:
    shuffled = clinic.sample(frac=1, random_state=2)
    first, second = told(clinic), told(shuffled)
    for category, members in first.items():
        for one, other in zip(members, second[category], strict=True):
            assert (one.name, one.files, one.why_small) == (other.name, other.files, other.why_small)
            ends, again = (
                [[figure.value, figure.low, figure.high] for figure in given.figures.values()] for given in (one, other)
            )
            np.testing.assert_allclose(np.array(again, dtype=float), np.array(ends, dtype=float), rtol=1e-9)


def test_subgroups_are_json(clinic: pd.DataFrame) -> None:
    made = {category: [one.as_dict() for one in members] for category, members in told(clinic).items()}
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    first = made["region"][0]
    assert {key: first[key] for key in ("name", "text", "small", "why_small")} == {
        "name": "hip",
        "text": "hip",
        "small": False,
        "why_small": "",
    }
    assert tuple(first["figures"]) == FIGURES


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", None, "a label is neither 0 nor 1"),
        ("probability", None, "a probability is not in"),
        ("probability", 1.5, "a probability is not in"),
        ("group", None, "rows have no group"),
    ],
)
def test_rows_that_are_not_judged_are_refused(clinic: pd.DataFrame, column: str, value: Any, message: str) -> None:
    frame = clinic.copy()
    frame.loc[frame.index[3], column] = value
    with pytest.raises(CallusError, match=message):
        told(frame)


def test_too_few_draws_are_refused(clinic: pd.DataFrame) -> None:
    with pytest.raises(CallusError, match="99 draws"):
        subgroups(clinic, POINTS, draws=99)
