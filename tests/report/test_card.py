from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_bundle
from PIL import Image

from callus.bundle import Bundle
from callus.dataset.manifest import COLUMNS
from callus.metrics.comparison import Difference
from callus.metrics.localisation import Located, localisation
from callus.metrics.reliability import reliability
from callus.metrics.resampling import Interval
from callus.report import evaluate
from callus.report.card import model_card
from callus.report.pages import ends_text, figure_text
from callus.report.robustness import Robustness, Step

SECTIONS = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
]
NAMES = {"accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "f1": "F1"}


def manifest(folder: Path) -> pd.DataFrame:
    """Twenty radiographs in ten groups; a bright spot is called fractured, and a few spots lie."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(20):
        label = number % 2
        pixels = np.full((160, 140), 20, np.uint8)
        pixels[40:80, 40:80] = round(255 * np.clip(0.5 + 0.03 * (2 * label - 1) + rng.normal(0, 0.05), 0.1, 1))
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        made.append(
            dict.fromkeys(COLUMNS, "")
            | {"path": str(path), "sha256": str(number), "width": 140, "height": 160, "label": label}
            | {"radiograph": f"r{number}", "group": f"g{number // 2}", "split": "test", "hardware": None}
            | {"boxes": [], "polygons": []}
        )
    types = {"width": "Int32", "height": "Int32", "label": "Int8", "hardware": "boolean"}
    return pd.DataFrame(made).astype(types)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """``metrics.json`` as it was written, and ``bundle.json``."""
    folder = tmp_path_factory.mktemp("evaluation")
    bundle = Path(tiny_bundle.write_tiny_bundle(folder / "tiny"))
    evaluate(bundle, manifest(folder), "test", folder / "report", pictures=0)
    return json.loads((folder / "report" / "metrics.json").read_text()), dict(Bundle.load(bundle).info)


def section(card: str, name: str, level: int = 2) -> str:
    """The text under a heading, up to the next one of that level."""
    mark = "#" * level
    found = re.search(rf"^{mark} {re.escape(name)}\n(.*?)(?=^#{{1,{level}}} |\Z)", card, re.MULTILINE | re.DOTALL)
    assert found, name
    return found.group(1)


def rows(text: str) -> dict[str, list[str]]:
    """The rows of its tables by their first cell."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    return {line[0].strip(): [one.strip() for one in line[1:]] for line in lines}


def shown(around: dict[str, Any]) -> str:
    """A figure with its interval, rounded by the page's own functions."""
    value = figure_text(around["value"])
    if around["value"] is None:
        return f"{value} ({around['reason']})"
    return f"{value} ({ends_text(around) or 'no interval: ' + around['reason']})"


def test_the_figures_are_those_of_metrics_json(real: tuple[dict[str, Any], dict[str, Any]]) -> None:
    metrics, bundle = real
    told = rows(section(model_card(metrics, bundle), "All files", 3))
    points = ["at_0.5", "high_sensitivity", "high_specificity"]
    assert told["figure"] == ["at 0.5", "high sensitivity", "high specificity"]
    assert 0.5 < metrics["figures"]["at_0.5"]["auroc"] < 1
    assert told["AUROC"] == [shown(metrics["intervals"]["at_0.5"]["auroc"])]
    for key, name in NAMES.items():
        assert told[name] == [shown(metrics["intervals"][point][key]) for point in points]
        for point, text in zip(points, told[name], strict=True):
            assert text.startswith(figure_text(metrics["figures"][point][key]))
    assert told["threshold"] == ["0.500", "0.300", "0.700"]
    confusion = [metrics["figures"][point]["confusion"] for point in points]
    assert told["missed"] == [str(one["fn"]) for one in confusion]
    assert told["false alarms"] == [str(one["fp"]) for one in confusion]
    assert len({tuple(one.values()) for one in confusion}) == 3  # so that thresholds cannot be mixed up


def test_what_was_evaluated_is_that_of_both_files(real: tuple[dict[str, Any], dict[str, Any]]) -> None:
    metrics, bundle = real
    card = model_card(metrics, bundle)
    data = rows(section(card, "Evaluation data"))
    assert (data["radiographs"], data["fractured"], data["split"]) == (["20"], ["10"], ["test"])
    assert data["groups (patients, copies of a picture)"] == ["10"]
    assert data["manifest, SHA-256"] == [metrics["data"]["manifest_sha256"]]
    details = rows(section(card, "Model details"))
    assert details["bundle, SHA-256"] == [metrics["model"]["bundle_sha256"]]
    assert (details["threshold of high sensitivity"], details["input"]) == (["0.300"], ["64 x 64 pixels, letterbox"])
    assert details["network"] == rows(section(card, "Training data"))["groups"] == ["not known"]


def test_the_sections_in_order_and_the_sentence_first(real: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for metrics, bundle in (real, ({}, {})):
        card = model_card(metrics, bundle)
        assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
        assert card.splitlines()[2].startswith("**For research and education, not a medical device.**")
        assert "None" not in re.sub("None in this evaluation", "", card)


@pytest.mark.parametrize("gone", [True, False])
def test_any_key_may_be_missing_or_null(real: tuple[dict[str, Any], dict[str, Any]], gone: bool) -> None:
    full = ({**real[0], **extras()}, real[1])
    for place in (0, 1):
        for path in paths(full[place]):
            given = copy.deepcopy(full)
            holder: Any = given[place]
            for key in path[:-1]:
                holder = holder[key]
            if gone:
                del holder[path[-1]]
            else:
                holder[path[-1]] = None
            assert model_card(*given).count("\n## ") == len(SECTIONS), path


def paths(values: Any, depth: int = 4) -> list[tuple[Any, ...]]:
    """The ways to all keys of nested objects, to some depth."""
    if not isinstance(values, dict) or not depth:
        return []
    found = [(key,) for key in values]
    return found + [(key, *rest) for key in values for rest in paths(values[key], depth - 1)]


def test_figures_without_intervals_say_so() -> None:
    told = rows(section(model_card({"figures": {"at_0.5": {"auroc": 0.81, "accuracy": 0.7}}}, {}), "All files", 3))
    assert told["AUROC"] == ["0.810 (interval not known)"]
    assert told["accuracy"] == ["0.700 (interval not known)"]
    assert told["AUPRC"] == ["not known"]


def test_what_is_not_defined_has_its_reason() -> None:
    none = {"value": None, "low": None, "high": None, "method": "", "reason": "no fractured case"}
    given = {"figures": {"at_0.5": {"sensitivity": None}}, "intervals": {"at_0.5": {"sensitivity": none}}}
    told = rows(section(model_card(given, {}), "All files", 3))
    assert told["sensitivity"] == [f"{figure_text(None)} (no fractured case)"]


def test_warnings_and_leaks_stand_in_bold_before_everything_else() -> None:
    sentence = "groups cross the splits: 2 groups, 9 files; the figures are too good"
    leaks = {"groups_across_splits": 3, "files_across_splits": 80, "files_trained_on": 0, "groups_trained_on": None}
    outside = {"elsewhere": {"leaks": {"groups_trained_on": 4}, "warnings": ["no file is fractured"]}}
    card = model_card(
        {"warnings": ["half of it | was seen"], "leaks": leaks, "external": outside},
        {"training": {"leaks": {"groups": 2, "files": 9, "sentence": sentence}}},
    )
    bold = [line for line in card.split("## Model details")[0].splitlines() if line.startswith("**")]
    assert bold[1:] == [
        "**Leaks: groups across the splits 3, their files here 80. The figures are too good.**",
        r"**Warning: half of it \| was seen.**",
        f"**Warning: when the model was trained, {sentence}.**",
        "**Leaks in the external test elsewhere: groups trained on 4. The figures are too good.**",
        "**Warning, external test elsewhere: no file is fractured.**",
    ]
    told = model_card(
        {"warnings": [f"when the model was trained, {sentence}"], "leaks": {"groups_across_splits": 0}}, {}
    )
    assert told.count("Warning") == 1
    assert "Leaks" not in told
    assert "**Leaks: not known.**" in model_card({}, {})


def interval(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05, "Wilson")


def step(kind: str, text: str, auroc: float, difference: float | None) -> Step:
    moved = Difference(auroc, 0.9, difference, -0.3, -0.01, 0.01, "DeLong")
    return Step(kind, 1.0, text, 1234, 40, 0, {"auroc": interval(auroc)}, {"auroc": moved})


def extras() -> dict[str, Any]:
    """What an evaluation may hold beside its figures, from the classes that make it."""
    rng = np.random.default_rng(1)
    label, group = np.arange(80) % 2, np.arange(80) // 4
    probability = np.clip(0.3 + 0.3 * label + rng.normal(0, 0.2, 80), 0.01, 0.99)
    images = [
        Located(str(n), n % 2, (), [[10, 10, 20, 20]] if n % 2 else [], (), (15.0 + n % 7 * 3, 15.0)) for n in range(40)
    ]
    steps = (
        step("rotated", "rotated by 5°", 0.89, -0.01),
        step("rotated", "rotated by 90°", 0.7, -0.2),
        step("rotated", "rotated by 45°", 0.72, None),
        step("inverted", "inverted", 0.6, -0.3),
    )
    plain = Step("undisturbed", None, "undisturbed", 1234, 40, 0, {"auroc": interval(0.9)})
    wrist = {"name": "wrist", "text": "wrist | left", "files": 1200, "groups": 9, "fractured": 600, "small": True}
    return {
        "calibration": reliability(label, probability, group, draws=100).as_dict(),
        "localisation": localisation(images, 0.5, draws=100).as_dict(),
        "robustness": Robustness(400, 2000, 90, 0, plain, steps, (), ("40 of 2,000 files were disturbed",)).as_dict(),
        "subgroups": {
            "region": [
                wrist
                | {"why_small": "9 groups"}
                | {
                    "figures": {
                        "auroc": interval(0.8).as_dict(),
                        "high_sensitivity.specificity": interval(0.7).as_dict(),
                    }
                }
            ],
            "view": [],
        },
        "external": {
            "elsewhere": {
                "data": {"radiographs": 3456, "groups": 77, "fractured": 100},
                "figures": {"at_0.5": {"auroc": 0.66, "sensitivity": 0.55}},
                "intervals": {"at_0.5": {"auroc": interval(0.66).as_dict(), "sensitivity": interval(0.55).as_dict()}},
            }
        },
    }


def test_calibration_places_subgroups_and_external_tests() -> None:
    given = extras()
    card = model_card(given, {})
    calibration = rows(section(card, "Calibration", 3))
    assert calibration["slope (1 is right)"] == [shown(given["calibration"]["slope"])]
    assert calibration["intercept (0 is right)"] == [shown(given["calibration"]["intercept"])]
    places = rows(section(card, "Where it looked", 3))
    pointing = places["highest point of the map on a fracture (pointing game)"]
    assert pointing == [shown(given["localisation"]["pointing_game"])]
    assert 0 < given["localisation"]["pointing_game"]["value"] < 1
    assert places["fractures found at 0.25 false boxes an image"] == [shown(given["localisation"]["froc"]["0.25"])]
    subgroups = section(card, "Subgroups", 3)
    assert "By view" not in subgroups
    assert rows(subgroups) == {
        "": ["files", "groups", "fractured", "AUROC", "specificity at high sensitivity", ""],
        "---": ["---"] * 6,
        r"wrist \| left": ["1,200", "9", "600", "0.800 (0.750 to 0.850)", "0.700 (0.650 to 0.750)", "small: 9 groups"],
    }
    assert "Subgroups that were measured: region." in card
    outside = rows(section(card, "elsewhere", 4))
    assert (outside["radiographs"], outside["groups (patients, copies of a picture)"]) == (["3,456"], ["77"])
    assert (outside["AUROC"], outside["sensitivity"]) == (["0.660 (0.610 to 0.710)"], ["0.550 (0.500 to 0.600)"])


def test_robustness_is_a_line_for_the_worst_step_of_each_kind() -> None:
    lines = section(model_card(extras(), {}), "Robustness", 3).strip().splitlines()
    on = "on 1,234 files of 40 groups"
    assert lines == [
        f"- undisturbed: AUROC 0.900 (0.850 to 0.950) {on}.",
        f"- rotated by 90°: AUROC 0.700 (0.650 to 0.750) {on}, less undisturbed -0.200 (-0.300 to -0.010).",
        f"- inverted: AUROC 0.600 (0.550 to 0.650) {on}, less undisturbed -0.300 (-0.300 to -0.010).",
        "- 40 of 2,000 files were disturbed.",
    ]


def test_names_from_data_break_no_table_and_make_no_html() -> None:
    card = model_card({"model": {"name": "a|b\n## <script>`x`"}, "external": {"c|d": {"data": {"split": "e|f"}}}}, {})
    assert card.startswith("# Model card: a\\|b \\#\\# \\<script\\>\\`x\\`\n")
    assert "#### c\\|d" in card
    assert rows(section(card, "c\\|d", 4))["split"] == [r"e\|f"]
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS


def test_it_claims_no_clinical_use(real: tuple[dict[str, Any], dict[str, Any]]) -> None:
    card = model_card(*real)
    assert "Fitness for clinical use was not examined and is not claimed." in card
    assert not re.search(r"\b(safe|approved|cleared|validated|clinically)\b", card, re.IGNORECASE)
