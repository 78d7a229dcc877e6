from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import tiny_bundle
from PIL import Image

from callus.errors import CallusError
from callus.identify import Identifier
from callus.metrics.comparison import compare_figures
from callus.metrics.intervals import figure_intervals
from callus.radiograph import read
from callus.report.disturbances import DISTURBANCES, inverted
from callus.report.robustness import FIGURES, Robustness, Step, choose, measure
from callus.report.robustness_figure import robustness_figure


@pytest.fixture(scope="module")
def identifier(tmp_path_factory: pytest.TempPathFactory) -> Identifier:
    """A network that calls what has a bright spot fractured."""
    return Identifier(tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("model") / "tiny"))


def rows(folder: Path, peaks: dict[str, tuple[int, float, str]]) -> pd.DataFrame:
    """Pictures by name: label, brightness of the spot, group."""
    made = []
    for name, (label, peak, group) in peaks.items():
        pixels = np.full((160, 140), 20, np.uint8)
        pixels[40:80, 30:70] = round(255 * peak)
        Image.fromarray(pixels).save(folder / name)
        made.append({"path": str(folder / name), "label": label, "group": group, "hardware": None})
    return pd.DataFrame(made).astype({"label": "Int8", "hardware": "boolean"})


def predictions(identifier: Identifier, frame: pd.DataFrame) -> pd.DataFrame:
    found = [identifier.identify(path) for path in frame["path"]]
    probability = pd.array([one.probability for one in found], dtype="Float64")
    return frame[["path", "label", "group"]].assign(probability=probability, level=[one.level for one in found])


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """24 files in 12 groups; the tiny network is right on most of them."""
    rng = np.random.default_rng(3)
    peaks = {}
    for number in range(24):
        label = number // 2 % 2
        peaks[f"{number:02}.png"] = (label, float(np.clip(0.4 + 0.25 * label + rng.normal(0, 0.15), 0.1, 0.95)), "")
    peaks = {name: (*values[:2], f"g{int(name[:2]) // 2}") for name, values in peaks.items()}
    return rows(tmp_path, peaks)


def step(measured: Robustness, kind: str, strength: float | None = None) -> Step:
    (found,) = [one for one in measured.steps if (one.kind, one.strength) == (kind, strength)]
    return found


def test_every_step_has_its_figures_and_a_harmless_one_moves_nothing(
    identifier: Identifier, frame: pd.DataFrame
) -> None:
    answered = predictions(identifier, frame)
    measured = measure(identifier, frame, answered, draws=200)
    assert [(one.kind, one.strength) for one in measured.steps] == [(one.kind, one.strength) for one in DISTURBANCES]
    assert all(tuple(one.figures) == FIGURES and set(one.differences) == set(FIGURES) for one in measured.steps)
    assert all((one.files, one.groups, one.failed) == (24, 12, 0) for one in measured.steps)
    assert (measured.of_files, measured.of_groups, measured.undisturbed.files) == (24, 12, 24)
    assert measured.undisturbed.differences == {}
    assert measured.undisturbed.level_changed is None

    plain = measured.undisturbed.figures
    assert plain["auroc"].value is not None
    assert 0.7 < plain["auroc"].value < 1
    # The network looks for the brightest cell, and a mirrored or half-turned one is as bright.
    for harmless in (step(measured, "mirrored"), step(measured, "rotated", 180), step(measured, "painted_over")):
        assert {name: one.value for name, one in harmless.figures.items()} == pytest.approx(
            {name: one.value for name, one in plain.items()}, abs=1e-12
        )
        assert harmless.level_changed is not None
        assert harmless.level_changed.value == 0
        assert not harmless.moved("auroc")
    dark = step(measured, "darkened", 0.3)
    assert dark.level_changed is not None
    assert dark.level_changed.value is not None
    assert dark.level_changed.value > 0.3
    assert dark.moved("high_sensitivity.sensitivity")
    # All spots get darker alike, so their order stays.
    assert dark.figures["auroc"].value == pytest.approx(plain["auroc"].value, abs=0.05)
    # Inverted, the ground is brighter than every spot, and alike everywhere.
    assert step(measured, "inverted").figures["auroc"].value == 0.5


def test_the_figures_are_those_of_the_files_disturbed_by_hand(identifier: Identifier, frame: pd.DataFrame) -> None:
    answered = predictions(identifier, frame)
    measured = measure(identifier, frame, answered, kinds=["inverted"], draws=200, seed=5)
    found = [identifier.identify(inverted(read(path))) for path in frame["path"]]
    label, before = frame["label"].to_numpy(dtype=int), answered["probability"].to_numpy(dtype=float)
    after = np.array([one.probability for one in found])
    (inversion,) = measured.steps
    for point, threshold in (("high_sensitivity", 0.3), ("high_specificity", 0.7)):  # the tiny bundle's
        options = {"draws": 200, "seed": 5}
        figures = figure_intervals(label, after, frame["group"], threshold, **options)
        differences = compare_figures(label, after, before, frame["group"], threshold, threshold, **options)
        for name in ("sensitivity", "specificity"):
            assert inversion.figures[f"{point}.{name}"] == figures[name]
            assert inversion.differences[f"{point}.{name}"] == differences[name]
        assert inversion.figures["auroc"] == figures["auroc"]
        assert inversion.differences["auroc"] == differences["auroc"]
    changed = np.mean([one.level != level for one, level in zip(found, answered["level"], strict=True)])
    assert inversion.level_changed is not None
    assert inversion.level_changed.value == changed > 0


def test_the_result_is_json_and_the_same_every_time(identifier: Identifier, frame: pd.DataFrame) -> None:
    answered = predictions(identifier, frame)
    options: dict[str, Any] = {"kinds": ["noised", "cropped"], "most": 12, "draws": 200}
    first = measure(identifier, frame, answered, **options).as_dict()
    shuffled = answered.sample(frac=1, random_state=1)
    again = measure(identifier, frame.sample(frac=1, random_state=2), shuffled, **options).as_dict()
    assert json.loads(json.dumps(first, allow_nan=False)) == first == again
    assert [one["kind"] for one in first["steps"]] == ["noised"] * 3 + ["cropped"] * 3
    assert first["undisturbed"]["files"] == first["steps"][0]["files"] == 12
    assert (first["most"], first["of_files"]) == (12, 24)
    assert first["notes"][0] == "12 of 24 files were disturbed, chosen by whole groups"


def test_files_that_have_gone_count_in_no_figure(identifier: Identifier, frame: pd.DataFrame) -> None:
    answered = predictions(identifier, frame)
    whole = measure(identifier, frame, answered, kinds=["inverted"], draws=200)
    for path in frame["path"][:2]:
        Path(path).unlink()
    (inversion,) = measure(identifier, frame, answered, kinds=["inverted"], draws=200).steps
    assert (inversion.files, inversion.failed, inversion.groups) == (22, 2, 11)
    left = measure(identifier, frame[2:], answered[2:], kinds=["inverted"], draws=200)
    assert inversion.figures == left.steps[0].figures
    assert inversion.differences == left.steps[0].differences
    assert inversion.differences != whole.steps[0].differences
    for path in frame["path"][2:]:
        Path(path).unlink()
    measured = measure(identifier, frame, answered, kinds=["inverted"], draws=200)
    (inversion,) = measured.steps
    assert (inversion.files, inversion.failed) == (0, 24)
    assert all(one.value is None and one.reason for one in inversion.figures.values())
    assert all(one.difference is None and one.reason for one in inversion.differences.values())
    json.dumps(measured.as_dict(), allow_nan=False)
    assert "not defined" in robustness_figure(measured)


def test_a_disturbance_that_fails_costs_its_answer_only(
    identifier: Identifier, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = predictions(identifier, frame)
    failing = str(frame["path"][5])

    def refuse(seen: Any) -> Any:
        if seen.path == failing:
            raise ValueError("too wide")
        return inverted(seen)

    changed = [
        one if one.kind != "inverted" else type(one)("inverted", None, "inverted", refuse) for one in DISTURBANCES
    ]
    monkeypatch.setattr("callus.report.robustness.DISTURBANCES", tuple(changed))
    measured = measure(identifier, frame, answered, kinds=["mirrored", "inverted"], draws=200)
    mirror, inversion = measured.steps
    assert (mirror.files, mirror.failed) == (24, 0)
    assert (inversion.files, inversion.failed) == (23, 1)
    assert mirror.level_changed is not None
    assert mirror.level_changed.value == 0  # each answer went to its own file


def test_a_missing_class_is_told_and_crashes_nothing(identifier: Identifier, frame: pd.DataFrame) -> None:
    fractured = frame[frame["label"] == 1].reset_index(drop=True)
    measured = measure(identifier, fractured, predictions(identifier, fractured), kinds=["darkened"], draws=200)
    (first, *_) = measured.steps
    assert first.figures["auroc"].value is None
    assert "not fractured" in first.figures["auroc"].reason
    assert first.figures["high_specificity.specificity"].value is None
    assert first.figures["high_specificity.sensitivity"].value is not None
    assert not first.moved("auroc")
    assert robustness_figure(measured).count("not defined") == 3
    unlabelled = predictions(identifier, fractured).assign(label=pd.array([None] * len(fractured), dtype="Int8"))
    with pytest.raises(CallusError, match="files with a label and an answer"):
        measure(identifier, fractured, unlabelled)


def test_unknown_kinds_and_sizes_are_refused(identifier: Identifier, frame: pd.DataFrame) -> None:
    answered = predictions(identifier, frame)
    with pytest.raises(CallusError, match="no disturbance 'rotate'; expected some of rotated, mirrored"):
        measure(identifier, frame, answered, kinds=["rotate"])
    with pytest.raises(CallusError, match="at most 0 files"):
        measure(identifier, frame, answered, most=0)


def test_metal_is_left_out_where_the_manifest_tells_of_it(identifier: Identifier, frame: pd.DataFrame) -> None:
    answered = predictions(identifier, frame)
    options: dict[str, Any] = {"kinds": ["mirrored"], "most": 8, "draws": 200}
    for hardware, said in ((None, "does not tell"), (False, "no radiograph is known"), (True, "every radiograph")):
        marked = frame.assign(hardware=pd.array([hardware] * len(frame), dtype="boolean"))
        measured = measure(identifier, marked, answered, **options)
        assert measured.hardware == ()
        assert said in measured.notes[1]
    hardware = pd.array([True] * 4 + [None] * 3 + [False] * 17, dtype="boolean")
    measured = measure(identifier, frame.assign(hardware=hardware), answered, **options)
    everything, without = measured.hardware
    assert (everything.files, without.files, without.groups) == (24, 20, 10)
    label, probability = answered["label"][4:].to_numpy(dtype=int), answered["probability"][4:].to_numpy(dtype=float)
    expected = figure_intervals(label, probability, answered["group"][4:], 0.7, draws=200)
    assert without.figures["high_specificity.specificity"] == expected["specificity"]
    assert without.figures["auroc"] == expected["auroc"]
    assert measured.notes[1] == "4 of 24 files show metal; of 3 it is unknown, and they stay in"


def judged(groups: list[tuple[str, int, int]]) -> pd.DataFrame:
    """Groups of (name, label, files)."""
    return pd.DataFrame(
        [{"path": f"{name}-{k}", "label": label, "group": name} for name, label, size in groups for k in range(size)]
    ).astype({"label": "Int8"})


def test_choice_is_of_whole_groups_and_keeps_the_share_of_fractures() -> None:
    rng = np.random.default_rng(0)
    table = judged([(f"g{k:03}", int(k % 4 == 0), int(rng.integers(1, 6))) for k in range(300)])
    chosen = choose(table, 200, 0)
    assert 190 <= len(chosen) <= 200
    whole = table[table["group"].isin(chosen["group"])]
    pd.testing.assert_frame_equal(chosen, whole)
    assert chosen["label"].mean() == pytest.approx(table["label"].mean(), abs=0.02)
    assert set(choose(table.sample(frac=1, random_state=1), 200, 0)["path"]) == set(chosen["path"])
    assert set(choose(table, 200, 1)["path"]) != set(chosen["path"])
    assert choose(table, len(table), 0) is table


def test_choice_never_loses_a_class() -> None:
    chosen = choose(judged([("a", 1, 50), ("b", 0, 3), ("c", 0, 3), ("d", 0, 3)]), 10, 0)
    assert set(chosen["label"]) == {0, 1}
    assert (chosen["label"] == 1).sum() == 50  # the only group with fractures, whole


def test_the_plot_can_be_read(identifier: Identifier, frame: pd.DataFrame) -> None:
    measured = measure(identifier, frame, predictions(identifier, frame), draws=200)
    text = robustness_figure(measured)
    assert text == robustness_figure(measured)
    root = ET.fromstring(text)  # noqa: S314 - our own
    assert float(root.get("width", "0").removesuffix("pt")) < 330  # in a page of 390 pixels nothing gets tiny
    words = "".join(root.itertext())
    for one in measured.steps:
        assert one.text in words
    assert "AUROC" in words
    assert "not defined" not in words
    assert "#010203" not in text  # the page's own colour
    assert "http" not in "".join(value for element in root.iter() for key, value in element.items() if "href" in key)


def test_dots_are_filled_where_auroc_differs(identifier: Identifier, frame: pd.DataFrame) -> None:
    measured = measure(identifier, frame, predictions(identifier, frame), kinds=["mirrored", "inverted"], draws=200)
    assert [one.moved("auroc") for one in measured.steps] == [False, True]
    dots = re.findall(r"<use [^>]*stroke: #d9722e[^>]*>", robustness_figure(measured))
    assert ["fill: #d9722e" in dot for dot in dots] == [False, True]
