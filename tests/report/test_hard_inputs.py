"""What a hostile tester gives to evaluate and compare, and what a statistician reads on their pages."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import tiny_bundle
from onnx import helper
from spots import SPOT, spotted

from callus.bundle import write_bundle
from callus.cli.evaluate import table
from callus.errors import CallusError, DatasetError
from callus.metrics.decision_curve import decision_curve
from callus.metrics.intervals import auroc_interval
from callus.metrics.operating_points import OperatingPoints
from callus.report import evaluate
from callus.report.measures import Measuring, measure
from callus.report.pages import ends_text, figure_text, part_summary, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

HALF = 0.458
"""A spot's brightness that the tiny network gives a probability of 0.3; 0.5 has 0.5, 0.54 has 0.7."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("model") / "tiny"))


def manifest(folder: Path, spots: Sequence[tuple[int | None, float]], **columns: Any) -> pd.DataFrame:
    """A file, a radiograph and a group for each label and brightness of the spot; all in the split "test"."""
    rows = []
    for number, (label, peak) in enumerate(spots):
        keys = {"sha256": f"{folder.name}{number}", "radiograph": f"r{number:03}", "group": f"g{number:03}"}
        rows.append((f"{number:03}.png", peak, {**keys, "label": label, "split": "test"}))
    return spotted(folder, rows).assign(**columns)


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """Twelve files of twelve groups; one fractured is missed, and one other called."""
    spots = [(1, 0.1), (0, 0.9), *[(1, 0.8), (0, 0.2)] * 5]
    return manifest(tmp_path / "pictures", spots)


def words(out: Path) -> str:
    """What can be read on the page without a mouse: no tooltips, no plots."""
    page = (out / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def section(text: str, begin: str, end: str) -> str:
    """From the last heading ``begin`` to the next ``end``; the contents have both before."""
    return text[text.rindex(begin) :].split(end, maxsplit=1)[0]


def predictions(label: Sequence[int], probability: Sequence[float]) -> pd.DataFrame:
    names = [f"{number:04}" for number in range(len(label))]
    told: dict[str, Any] = dict.fromkeys(("study", "source", "error", "level"), "")
    told |= {"path": names, "radiograph": names, "group": names, "label": label, "probability": probability}
    return pd.DataFrame(told).astype({"label": "Int8", "probability": "Float64"})


# --- intervals that tell nothing, or too much ---


def test_one_bad_miss_leaves_a_good_model_its_interval() -> None:
    """2,000 independent files, all ranked rightly but one: whoever reads "0.00 to 1.00" has learnt nothing."""
    random = np.random.default_rng(0)
    label = np.repeat([1, 0], 1000)
    score = np.concatenate([[0.0], random.uniform(0.7, 1, 999), random.uniform(0.01, 0.3, 1000)])
    found = auroc_interval(label, score, np.arange(2000))
    assert found.value == pytest.approx(0.999)
    assert found.low is not None
    assert found.low > 0.98  # Wilson of 999 in 1,000 disjoint pairs has 0.994


def test_no_false_alarm_among_110_is_no_proof_that_there_are_none() -> None:
    """With a false-alarm rate of 1 % a third of such tests show none; at a threshold of 0.9 each weighs as nine finds.

    On 200 such simulations at a true rate of 0.5 % the band held the truth in 44 %, at 0.3 % in 26 %.
    """
    label = np.repeat([1, 0], 110)
    probability = np.concatenate([np.full(66, 0.95), np.full(44, 0.05), np.full(110, 0.05)])
    found = decision_curve(label, probability, np.arange(220), thresholds=[0.9], prevalence=0.1).model[0]
    with_one_percent = 0.1 * 0.6 - 0.9 * 0.01 * 9
    assert found.low is None or found.low < with_one_percent


def test_one_quantity_has_one_interval(bundle: Path, tmp_path: Path) -> None:
    """The Brier score stands twice on the page, and in metrics.json."""
    random = np.random.default_rng(1)
    spots = [(int(kind), float(random.uniform(0.3, 0.6) + 0.06 * kind)) for kind in random.integers(0, 2, 40)]
    result = evaluate(bundle, manifest(tmp_path / "pictures", spots), "test", tmp_path / "out", pictures=0)
    assert result["calibration"]["brier"] == result["intervals"]["at_0.5"]["brier"]


def test_a_study_across_groups_does_not_depend_on_the_order_of_the_rows(bundle: Path, tmp_path: Path) -> None:
    """A manifest of one's own may have such studies; one file's group then stands for all of them."""
    random = np.random.default_rng(2)
    spots = [(int(number % 4 < 2), float(random.uniform(0.3, 0.6))) for number in range(24)]
    frame = manifest(tmp_path / "pictures", spots)
    frame["group"], frame["study"] = [f"g{n // 3}" for n in range(24)], [f"s{n // 2}" for n in range(24)]
    ends = []
    for name, rows in (("one", frame), ("other", frame[::-1])):
        told = evaluate(bundle, rows, "test", tmp_path / name, pictures=0)["aggregated"]["study"]
        assert told["units"] == 12
        found = [one for figures in told["intervals"].values() for one in figures.values()]
        ends.append([np.nan if end is None else end for one in found for end in (one["low"], one["high"])])
    np.testing.assert_allclose(*ends)


@pytest.mark.parametrize(("value", "low", "high"), [(0.994, 0.982, 0.9948), (0.126, 0.1251, 0.2), (0.876, 0.8755, 0.9)])
def test_a_figure_lies_in_its_interval_as_they_are_shown(value: float, low: float, high: float) -> None:
    shown = [float(end) for end in ends_text({"low": low, "high": high}).split(" to ")]
    assert shown[0] <= float(figure_text(value)) <= shown[1]


# --- data that are not what they seem ---


def test_the_summary_tells_radiographs_apart_from_their_copies(bundle: Path, tmp_path: Path) -> None:
    """Of 11 fractured radiographs one is found, in 30 copies: by file 75 %, by radiograph 9 %."""
    spots = [(1, 0.9)] * 30 + [(1, 0.1)] * 10 + [(0, 0.2)] * 10
    frame = manifest(tmp_path / "pictures", spots)
    frame.loc[:29, ["radiograph", "group"]] = "copies"
    result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    by_radiograph = result["aggregated"]["radiograph"]["figures"]["at_0.5"]
    assert by_radiograph["sensitivity"] == pytest.approx(1 / 11)
    assert f"{by_radiograph['auroc']:.3f}" in " ".join(summary(result) + result["warnings"])


def test_labels_that_contradict_each_other_are_warned_of(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[:1, ["radiograph", "group"]] = "same"  # one fractured, one not
    result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    assert any("label" in one for one in result["warnings"])


@pytest.mark.parametrize("column", ["sha256", "radiograph", "patient"])
def test_what_stands_in_two_splits_is_found_whatever_the_group_says(
    bundle: Path, frame: pd.DataFrame, tmp_path: Path, column: str
) -> None:
    """A manifest of one's own may have its groups wrong; the same bytes in train and test are a leak all the same."""
    frame.loc[0, "split"] = "train"
    frame.loc[[0, 2], column] = "the same"
    try:
        result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    except DatasetError:
        return
    assert result["warnings"]


@pytest.mark.parametrize("box", [[5000, 5000, 40, 40], [1e10, -1e10, 3e10, 40]])
def test_a_fracture_outside_of_its_picture_is_not_silently_a_miss(
    bundle: Path, frame: pd.DataFrame, tmp_path: Path, box: list[float]
) -> None:
    frame["boxes"] = [[box] if label == 1 else [] for label in frame["label"]]
    result = evaluate(bundle, frame, "test", tmp_path / "out")
    places = result["localisation"]
    assert result["warnings"] or places is None or places["unplaced"] == places["fractured"] == 6


def test_a_polygon_without_an_area_is_not_silently_a_miss(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    line = [45.0, 45.0, 60.0, 60.0, 75.0, 75.0]  # along the bright spot's diagonal
    frame["polygons"] = [[line] if label == 1 else [] for label in frame["label"]]
    result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    places = result["localisation"]
    assert result["warnings"] or places is None or places["pointing_game"]["value"] != 0


def test_a_row_that_stands_twice_is_refused(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(CallusError, match="more than once"):
        evaluate(bundle, pd.concat([frame, frame.head(3)]), "test", tmp_path / "out", pictures=0, disturbed=4)


# --- a network that gives no number ---


def network(folder: Path, change: Callable[[onnx.ModelProto], object], gain: float = 20.0) -> Path:
    graph = tiny_bundle.tiny_graph(gain=gain)
    change(graph)
    files: dict[str, Path | bytes] = {"model.onnx": graph.SerializeToString(), "MODEL_CARD.md": b"# broken\n"}
    return Path(write_bundle(folder, tiny_bundle.tiny_info(), files))


def by_root(graph: onnx.ModelProto) -> None:
    """The logit's square root: no number for what is dark, so for what is not fractured."""
    for node in graph.graph.node:
        if list(node.output) == ["logit"]:
            node.output[0] = "squared"
    graph.graph.node.append(helper.make_node("Sqrt", ["squared"], ["logit"]))


@pytest.mark.parametrize("gain", [float("nan"), float("inf")])
def test_a_network_without_numbers_is_not_blamed_on_the_files(frame: pd.DataFrame, tmp_path: Path, gain: float) -> None:
    broken = network(tmp_path / "broken", lambda _: None, gain)
    with pytest.raises(CallusError, match="no numbers") as error:
        evaluate(broken, frame, "test", tmp_path / "out", pictures=0)
    assert "can be read" not in str(error.value)


def test_a_network_that_answers_some_files_only_is_warned_of(frame: pd.DataFrame, tmp_path: Path) -> None:
    """It leaves out nearly all that are not fractured: the figures are those of a choice that the model made."""
    result = evaluate(network(tmp_path / "broken", by_root), frame, "test", tmp_path / "out", pictures=0)
    assert result["data"]["failed"] == 6
    assert result["warnings"]
    assert "could not be read" not in words(tmp_path / "out")


# --- sentences that have to be true ---


def test_equal_probabilities_rank_nothing_higher(bundle: Path, tmp_path: Path) -> None:
    frame = manifest(tmp_path / "pictures", [(1, 0.5), (0, 0.5)] * 5)
    result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    assert not [line for line in summary(result) if "higher probability in 50 %" in line and "tie" not in line]


def test_one_miss_is_not_rounded_away() -> None:
    rows = predictions([1] * 250 + [0] * 250, [0.9] * 249 + [0.1] * 251)
    told = measure(rows, Measuring(OperatingPoints(0.3, 0.7), 0.5, draws=100)) | {"localisation": None}
    text = " ".join(part_summary(told))
    assert "249 of 250" in text
    assert "sensitivity 100 %" not in text
    assert "in 100 % of all pairs" not in text


def test_an_operating_point_is_not_praised_for_what_it_does_not_do(bundle: Path, tmp_path: Path) -> None:
    frame = manifest(tmp_path / "pictures", [(1, 0.1), (0, 0.9)] * 5)
    result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    assert result["figures"]["high_sensitivity"]["sensitivity"] == 0
    assert result["figures"]["high_specificity"]["specificity"] == 0
    text = " ".join(summary(result))
    assert "misses few" not in text
    assert "seldom alarms" not in text


def test_a_map_that_was_held_against_one_fracture_is_not_told_of_all(
    bundle: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame["boxes"] = [[SPOT] if row == 2 else [] for row in range(len(frame))]
    result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    assert (result["localisation"]["fractured"], result["localisation"]["unplaced"]) == (1, 5)
    assert "100 % of the fractured ones" not in words(tmp_path / "out")


def test_thresholds_and_a_calibration_that_could_not_be_fitted_are_told(frame: pd.DataFrame, tmp_path: Path) -> None:
    engine = tiny_bundle.tiny_info()["engines"]["onnx-float32"]
    points = {"high_sensitivity": 0.5, "high_specificity": 0.5, "reason": "no fractured case to choose it on"}
    fitted = {"method": "identity", "slope": 1.0, "intercept": 0.0, "reason": "no fractured case to calibrate on"}
    engine |= {"operating_points": points, "calibration": fitted}
    model = tiny_bundle.write_tiny_bundle(tmp_path / "unfitted", engines={"onnx-float32": engine})
    evaluate(model, frame, "test", tmp_path / "out", pictures=0)
    for text in (words(tmp_path / "out"), (tmp_path / "out" / "model_card.md").read_text()):
        assert "no fractured case to choose it on" in text
        assert "no fractured case to calibrate on" in text


def test_a_threshold_near_0_is_not_shown_as_0(frame: pd.DataFrame, tmp_path: Path) -> None:
    engine = tiny_bundle.tiny_info()["engines"]["onnx-float32"]
    engine |= {"operating_points": {"high_sensitivity": 0.002, "high_specificity": 0.004}}
    model = tiny_bundle.write_tiny_bundle(tmp_path / "low", engines={"onnx-float32": engine})
    evaluate(model, frame, "test", tmp_path / "out", pictures=0)
    text = words(tmp_path / "out")
    assert "0.002" in text
    assert "0.004" in text


def test_the_prevalence_that_was_asked_for_is_named(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    evaluate(bundle, frame, "test", tmp_path / "out", pictures=0, prevalence=0.003)
    for text in (words(tmp_path / "out"), (tmp_path / "out" / "model_card.md").read_text()):
        assert re.search(r"prevalence.{0,30}(0\.003|0\.3 %)", text)


@pytest.mark.parametrize("pictures", [0, 1])
def test_misses_without_room_for_a_picture_are_not_denied(bundle: Path, tmp_path: Path, pictures: int) -> None:
    frame = manifest(tmp_path / "pictures", [(1, 0.1), (0, 0.9)] * 5)
    evaluate(bundle, frame, "test", tmp_path / "out", pictures=pictures)
    text = words(tmp_path / "out")
    assert "No fractured radiograph that can be shown was missed" not in text
    assert "None that can be shown was called fractured" not in text


def test_robustness_that_was_asked_for_in_vain_is_not_asked_for_again(bundle: Path, tmp_path: Path) -> None:
    frame = manifest(tmp_path / "pictures", [(None, 0.1), (None, 0.9)])
    evaluate(bundle, frame, "test", tmp_path / "out", pictures=0, disturbed=2)
    assert "callus evaluate --robustness" not in section(words(tmp_path / "out"), "Robustness Not", "Worst misses")


def test_claim_does_not_take_the_same_files_for_an_external_test(
    bundle: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0, external={"again": frame})
    assert "this is no external test" in result["external"]["again"]["warnings"][-1]
    assert "not answered" in section(words(tmp_path / "out"), "33 Methods: evaluation", "34 ")


def test_claim_does_not_tell_splits_apart_that_are_not_there(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    evaluate(bundle, frame.assign(split=""), "all", tmp_path / "out", pictures=0)
    assert "none crosses the splits" not in words(tmp_path / "out")


# --- an empty cell has its reason where it can be read ---


def test_a_figure_that_is_undefined_at_one_point_says_why(bundle: Path, tmp_path: Path) -> None:
    """At 0.5 some are called and some are not, at the high-sensitivity point all are: there is no NPV."""
    frame = manifest(tmp_path / "pictures", [(1, 0.9), (0, 0.48), (0, 0.9), (1, 0.48)] * 3)
    result = evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    assert result["intervals"]["high_sensitivity"]["npv"]["reason"] == "everything is called fractured"
    assert "everything is called fractured" in words(tmp_path / "out")


def test_a_subgroup_without_a_class_says_why(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["view"] = ["lateral" if label == 1 else "frontal" for label in frame["label"]]
    evaluate(bundle, frame, "test", tmp_path / "out", pictures=0)
    assert "no fractured case" in section(words(tmp_path / "out"), "The AUROC within", "External test")


def test_the_terminal_says_why_there_is_no_interval(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    result = evaluate(bundle, frame.assign(group="one"), "test", tmp_path / "out", pictures=0)
    assert result["intervals"]["at_0.5"]["auroc"]["low"] is None
    assert "one group" in "\n".join(table(result) + result["warnings"])


# --- text from elsewhere ---


def test_control_characters_do_not_reach_page_or_card(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    """A card is read in a terminal, where an escape sequence hides or rewrites lines; HTML has no place for NUL."""
    evaluate(bundle, frame.assign(view="a\x00b\x1b[2Kc\x07"), "test", tmp_path / "out", pictures=0)
    for name in ("report.html", "model_card.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert not re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)


def test_a_very_long_name_leaves_the_plot_a_plot(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    evaluate(bundle, frame.assign(source="word " * 4000), "test", tmp_path / "out", pictures=0)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    heights = [float(one) for one in re.findall(r'<svg[^>]*viewBox="0 0 [\d.]+ ([\d.]+)"', page)]
    assert max(heights) < 3000  # points; it was 12,381
