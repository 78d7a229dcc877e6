from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from callus.metrics.boxes import Box
from callus.metrics.curves import precision_recall_curve, roc_curve
from callus.metrics.decision_curve import decision_curve
from callus.metrics.localisation import Located, localisation
from callus.metrics.reliability import reliability
from callus.metrics.resampling import Resampling
from callus.report.figures import (
    COLOURS,
    INK,
    ForestRow,
    decision_figure,
    forest_figure,
    froc_figure,
    histogram_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
)

ROWS = [
    ForestRow("region", "wrist", 0.91, 0.85, 0.95, small=False, note="412 files in 120 groups"),
    ForestRow("region", "hip", None, None, None, small=True, note="no fractured case"),
    ForestRow("region", "hand", 0.8, 0.55, 0.93, small=True),
    ForestRow("source", "one", 0.88, None, None),
]


def written(value: Any) -> Any:
    """As it comes back from metrics.json."""
    return json.loads(json.dumps(value.as_dict(), allow_nan=False))


def cases(groups: int, label: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(6)
    group = np.arange(2 * groups) // 2
    labels = group % 3 == 0 if label is None else np.full(group.size, label)
    return labels.astype(int), 1 / (1 + np.exp(1 - 2 * labels - random.normal(size=group.size))), group


def curves(label: np.ndarray, probability: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """Each figure's dictionary."""
    resampling = Resampling(group, label, draws=100)
    return {
        "roc": written(roc_curve(label, probability, resampling)),
        "recall": written(precision_recall_curve(label, probability, resampling)),
        "reliability": written(reliability(label, probability, group, draws=100)),
        "decision": written(decision_curve(label, probability, group, draws=100)),
    }


def located(images: int, boxes: int) -> dict[str, Any]:
    """A third is fractured and found; every image has false boxes."""
    found = []
    for number in range(images):
        places = [Box(200.0, 10.0, 30.0, 30.0, 0.1 + 0.01 * (number + one)) for one in range(boxes)]
        if number % 3 == 0 and boxes:
            places.append(Box(100.0, 100.0, 40.0, 40.0, 0.5))
        reference = [[102, 101, 40, 38]] if number % 3 == 0 else []
        found.append(Located(str(number), int(number % 3 == 0), tuple(places), reference))
    return written(localisation(found, 0.5, draws=100))


def checked(svg: str) -> ET.Element:
    """The parsed element of a figure that any page can take."""
    assert svg.startswith('<svg role="img" aria-label="')
    assert INK not in svg
    assert "currentColor" in svg
    assert "nan" not in svg.lower()
    for numbers in re.findall(r' d="([^"]*)"', svg):
        assert not re.search(r"inf|none", numbers.lower())
    return ET.fromstring(svg)  # noqa: S314 - ours


def texts(svg: str) -> list[str]:
    return ["".join(one.itertext()) for one in checked(svg).iter("{http://www.w3.org/2000/svg}text")]


def drawn(svg: str, colour: str) -> list[str]:
    """The paths and marks in a colour."""
    return re.findall(rf"<(?:path|use)[^>]*(?:stroke|fill): {colour}[^>]*>", svg)


def test_the_curves_have_their_labels_bands_and_points() -> None:
    label, probability, group = cases(40)
    found = curves(label, probability, group)
    roc = roc_figure(found["roc"], {"at 0.5": (0.1, 0.8), "high sensitivity": (0.4, 0.95), "gone": (None, 0.9)})
    assert {"1 - specificity", "sensitivity", "at 0.5", "high sensitivity"} <= set(texts(roc))
    assert "gone" not in texts(roc)
    recall = precision_recall_figure(found["recall"], 1 / 3)
    assert {"sensitivity", "precision", "prevalence 0.33"} <= set(texts(recall))
    for name, svg in (("roc", roc), ("recall", recall)):
        assert len(drawn(svg, COLOURS[1])) == 2  # curve and band
        bare = found[name] | {"low": [None] * len(found[name]["x"]), "high": [None] * len(found[name]["x"])}
        without = roc_figure(bare, {}) if name == "roc" else precision_recall_figure(bare, None)
        checked(without)
        assert len(without) < len(svg)


def test_the_roc_curve_goes_where_its_numbers_say() -> None:
    curve = {"x": [0.0, 0.5, 1.0], "y": [0.2, 0.8, 1.0], "low": [None] * 3, "high": [None] * 3}
    svg = roc_figure(curve, {"here": (0.5, 0.8)})
    line = next(path for path in drawn(svg, COLOURS[1]) if "stroke-width: 2" in path)
    (x0, y0), (_, start), middle, (x1, y1) = (
        tuple(map(float, pair)) for pair in re.findall(r"[ML] ([\d.]+) ([\d.]+)", line)
    )
    assert (middle[0] - x0) / (x1 - x0) == pytest.approx(0.5)
    assert (y0 - start) / (y0 - y1) == pytest.approx(0.2)
    assert (y0 - middle[1]) / (y0 - y1) == pytest.approx(0.8)
    mark = re.search(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*currentColor; stroke-width: 1.4', svg)
    assert mark is not None
    assert (float(mark[1]), float(mark[2])) == pytest.approx(middle)


def test_reliability_has_a_point_and_an_interval_for_each_bin() -> None:
    found = curves(*cases(40))["reliability"]
    svg = reliability_figure(found)
    shown = texts(svg)
    assert {"share that is fractured", "probability of a fracture", "bars: cases, 8 each"} <= set(shown)
    slope = found["slope"]
    assert f"slope {slope['value']:.2f} ({slope['low']:.2f} to {slope['high']:.2f})" in shown
    assert len(found["curve"]) == 10
    assert len(drawn(svg, COLOURS[1])) >= 20
    one = found | {"curve": found["curve"][:1]}
    one["curve"][0]["fractured"] |= {"low": None, "high": None}
    assert len(drawn(reliability_figure(one), COLOURS[1])) < 5


def test_the_decision_curve_shows_what_lies_between_nothing_and_the_prevalence() -> None:
    svg = decision_figure(curves(*cases(40))["decision"])
    shown = texts(svg)
    assert {"model", "treat all", "treat none", "net benefit", "threshold probability"} <= set(shown)
    # A third is fractured. Treating all falls to -50 or so at the end; the axis does not follow.
    heights = [float(text.replace("\N{MINUS SIGN}", "-")) for text in shown if re.fullmatch(r"\W?0\.\d+", text)]
    assert min(heights) > -0.1
    bare = curves(*cases(40))["decision"]
    bare["model"] = [{"value": None, "low": None, "high": None, "reason": "nobody knows"} for _ in bare["thresholds"]]
    bare["treat_all"] = bare["model"]
    assert "nobody knows" in texts(decision_figure(bare))


def test_froc_marks_its_rates_and_reaches_the_last_box() -> None:
    svg = froc_figure(located(30, 1))
    assert {"0", "0.1", "0.25", "0.5", "1", "2", "false boxes an image", "fractures found"} <= set(texts(svg))
    assert "5" not in texts(svg)
    assert "5" in texts(froc_figure(located(30, 6)))
    assert len(re.findall(r"<use [^>]*currentColor; stroke: currentColor", svg)) >= 4


def test_the_forest_has_a_row_for_each_subgroup() -> None:
    svg = forest_figure(ROWS, overall=0.89, xlabel="AUROC")
    shown = texts(svg)
    assert {"AUROC", "line: all cases, hollow: small subgroup", "412 files in 120 groups"} <= set(shown)
    for text in ("wrist", "0.91 (0.85 to 0.95)", "hip", "not defined", "hand", "0.80 (0.55 to 0.93)", "0.88"):
        assert text in shown
    assert [text for text in shown if text in {"region", "source"}] == ["region", "source"]
    # Two sure rows and one interval in colour; the small one's are not. The line is that of all cases.
    assert len(drawn(svg, COLOURS[1])) >= 3
    assert len(drawn(svg, COLOURS[0])) == 1
    assert drawn(forest_figure(ROWS[1:3], overall=None, xlabel="AUROC"), COLOURS[1]) == []
    heights = [
        float(re.search(r'height="([\d.]+)pt"', forest_figure(rows, overall=None, xlabel="AUROC"))[1])
        for rows in (ROWS[:1], ROWS, ROWS * 4)
    ]
    assert heights == sorted(set(heights))


def test_names_from_data_are_shown_as_they_are() -> None:
    rows = [ForestRow("a & b", '<script>"$x$"', 0.5, 0.4, 0.6), ForestRow("a & b", "手首\x00\x1b_", 0.5, 0.4, 0.6)]
    svg = forest_figure(rows, overall=0.5, xlabel="AUROC")
    assert "<script" not in svg
    assert {"a & b", '<script>"$x$"', "手首 _"} <= set(texts(svg))


@pytest.mark.parametrize("label", [0, 1, None])
def test_what_is_not_defined_is_said(label: int | None) -> None:
    given = cases(6, label) if label is not None else tuple(np.zeros(0, int) for _ in range(3))
    found = curves(*given)
    missing = {0: "no fractured case", 1: "no case that is not fractured", None: "no fractured case"}[label]
    assert missing in texts(roc_figure(found["roc"], {"at 0.5": (None, None)}))
    assert missing in texts(precision_recall_figure(found["recall"], label))
    assert "slope not defined" in texts(reliability_figure(found["reliability"]))
    decision = texts(decision_figure(found["decision"]))
    if label is None:
        assert "no case to measure it on" in decision


def test_nothing_to_show_is_said() -> None:
    assert "no subgroup" in texts(forest_figure([], overall=None, xlabel="AUROC"))
    assert "no image is fractured" in texts(froc_figure(written(localisation([], 0.5, draws=100))))
    assert "no box was predicted" in texts(froc_figure(located(6, 0)))
    assert texts(histogram_figure(np.zeros(0, int), np.zeros(0), {}))


def test_a_single_case_of_each_class() -> None:
    found = curves(np.array([1, 0]), np.array([0.7, 0.4]), np.array(["a", "b"]))
    for svg in (
        roc_figure(found["roc"], {"at 0.5": (0.0, 1.0)}),
        precision_recall_figure(found["recall"], 0.5),
        reliability_figure(found["reliability"]),
        decision_figure(found["decision"]),
        froc_figure(located(1, 1)),
        forest_figure(ROWS[3:], overall=0.88, xlabel="AUROC"),
    ):
        checked(svg)


def test_the_same_numbers_give_the_same_bytes() -> None:
    found = curves(*cases(20))
    assert decision_figure(found["decision"]) == decision_figure(found["decision"])
    assert forest_figure(ROWS, overall=0.9, xlabel="AUROC") == forest_figure(ROWS, overall=0.9, xlabel="AUROC")
