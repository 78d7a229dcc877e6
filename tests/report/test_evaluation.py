from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import tiny_bundle
from html_page import Page
from PIL import Image
from sklearn import metrics
from spots import spotted

from callus.bundle import Bundle, write_bundle
from callus.dataset.manifest import digest, write_manifest
from callus.errors import CallusError, DatasetError
from callus.report import evaluate
from callus.report.evaluation import FILES
from callus.report.measures import classification_report
from callus.report.pages import methods_of
from callus.training.run import pictures

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that calls what has a bright spot fractured."""
    return Path(tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("model") / "tiny"))


def manifest(folder: Path, rows: Iterable[tuple[str, int | None, float, str, str]]) -> pd.DataFrame:
    """Rows of (name, label, brightness of the spot, group, split)."""
    return spotted(
        folder,
        [
            (name, peak, {"sha256": name, "label": label, "radiograph": f"r-{name}", "group": group, "split": split})
            for name, label, peak, group, split in rows
        ],
    )


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """Four test files, one of each kind of call, and two others."""
    rows = [
        ("a.png", 1, 0.95, "g1", "test"),
        ("b.png", 1, 0.2, "g2", "test"),
        ("c.png", 0, 0.9, "g3", "test"),
        ("d.png", 0, 0.1, "g3", "test"),
        ("e.png", 1, 0.9, "g4", "train"),
        ("f.png", 0, 0.1, "g5", "val"),
    ]
    return manifest(tmp_path, rows)


def test_figures_predictions_and_page(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = evaluate(bundle, frame, "test", out)
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert json.loads((out / "metrics.json").read_text()) == result
    at_half = result["figures"]["at_0.5"]
    assert at_half["confusion"] == {"tn": 1, "fp": 1, "fn": 1, "tp": 1}
    assert (at_half["accuracy"], at_half["sensitivity"], at_half["specificity"]) == (0.5, 0.5, 0.5)
    assert at_half["auroc"] == 0.75
    assert result["figures"]["high_specificity"]["threshold"] == 0.7
    data = result["data"]
    assert (data["files"], data["judged"], data["radiographs"], data["groups"]) == (4, 4, 4, 3)
    assert data["manifest_sha256"] == digest(frame)
    assert result["research_only"] == "research and education, not a medical device"
    for name, figures in result["figures"].items():
        for figure in ("auroc", "brier", "sensitivity", "ppv", "kappa"):
            around = result["intervals"][name][figure]
            assert around["value"] == (None if figures[figure] is None else pytest.approx(figures[figure], abs=1e-12))
            assert around["low"] is None or around["low"] <= around["value"] <= around["high"]
            assert around["method"] or around["reason"]
    assert result["leaks"] == {
        "groups_across_splits": 0,
        "files_across_splits": 0,
        "files_trained_on": None,
        "groups_trained_on": None,
        "allowed": False,
        "in_training": None,
    }
    assert result["warnings"] == result["failures"] == []

    predictions = pd.read_parquet(out / "predictions.parquet")
    assert predictions["path"].tolist() == frame["path"].tolist()[:4]
    assert predictions["level"].tolist() == ["fracture", "none", "fracture", "none"]
    assert predictions["group"].tolist() == ["g1", "g2", "g3", "g3"]
    assert (predictions["error"] == "").all()
    expected = 1 / (1 + np.exp(-predictions["logit"].to_numpy(dtype=float)))  # the tiny bundle's calibration is plain
    np.testing.assert_allclose(predictions["probability"].to_numpy(dtype=float), expected)

    page = Page((out / "report.html").read_text())
    assert page.fetched == []
    assert page.pictures == 4
    assert "actual: fractured / predicted: not fractured (0.00)" in page.words
    assert "AUROC 0.750" in page.words
    assert "it finds 1 of 2 fractured ones: sensitivity 50 % (9 to 91 %); it calls 1 of 2 others" in page.words
    assert "not a medical device" in page.words
    assert len(set(page.ids)) == len(page.ids) > 100
    assert page.meant <= set(page.ids)
    html = (out / "report.html").read_text()
    places = [html.index(f'id="{name}"') for name in ("figures", "subgroups", "misses", "alarms", "claim")]
    assert places == sorted(places)
    assert places[2] < html.index("b.png") < places[3] < html.index("c.png") < places[4]


def test_all_splits_and_unknown_ones(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    result = evaluate(bundle, frame, "all", tmp_path / "all", pictures=0)
    assert result["data"]["files"] == 6
    assert any('"train"' in warning for warning in result["warnings"])
    with pytest.raises(DatasetError, match="'tset'; expected one of test, train, val, all"):
        evaluate(bundle, frame, "tset", tmp_path / "none")
    with pytest.raises(DatasetError, match="not split"):
        evaluate(bundle, frame.assign(split=""), "test", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_files_that_fail_stop_nothing(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    Path(frame["path"][1]).write_text("no picture")
    frame.loc[2, "note"] = "unreadable: it was broken before"
    result = evaluate(bundle, frame, "test", tmp_path / "report")
    assert result["data"]["failed"] == 2
    assert result["data"]["judged"] == 2
    assert [Path(one["path"]).name for one in result["failures"]] == ["b.png", "c.png"]
    assert result["failures"][1]["error"] == "unreadable: it was broken before"
    predictions = pd.read_parquet(tmp_path / "report" / "predictions.parquet")
    assert predictions["probability"].isna().tolist() == [False, True, True, False]
    assert "b.png" in (tmp_path / "report" / "report.html").read_text()


def test_nothing_readable_is_an_error_and_leaves_nothing(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    for path in frame["path"]:
        Path(path).unlink()
    with pytest.raises(DatasetError, match="none of the 4 files of split 'test' can be read"):
        evaluate(bundle, frame, "test", tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_one_class_or_no_label_gives_what_can_be_said(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    fractured = frame[frame["label"] == 1]
    result = evaluate(bundle, fractured, "test", tmp_path / "one")
    assert result["figures"]["at_0.5"]["auroc"] is None
    assert result["figures"]["at_0.5"]["specificity"] is None
    assert result["figures"]["at_0.5"]["sensitivity"] == 0.5
    assert result["warnings"] == ['no file is labelled "not fractured": specificity and AUROC are undefined']
    page = (tmp_path / "one" / "report.html").read_text()
    assert "specificity and AUROC are undefined" in Page(page).words

    unknown = frame.assign(label=pd.array([None] * len(frame), dtype="Int8"))
    result = evaluate(bundle, unknown, "test", tmp_path / "none")
    assert result["figures"]["at_0.5"]["accuracy"] is None
    assert result["data"]["unlabelled"] == 4
    assert "no figures" in result["warnings"][0]
    assert pd.read_parquet(tmp_path / "none" / "predictions.parquet")["probability"].notna().all()
    assert "actual: unknown / predicted: fractured" in Page((tmp_path / "none" / "report.html").read_text()).words


@pytest.mark.parametrize("split", ["test", "train", "all"])
def test_groups_across_splits_are_refused_or_told(
    bundle: Path, frame: pd.DataFrame, tmp_path: Path, split: str
) -> None:
    frame.loc[4, "group"] = "g3"
    said = rf"split '{split}': groups cross the splits: 1 group, \d files? \(g3 in test and train\); .*--allow-leaks"
    with pytest.raises(DatasetError, match=said):
        evaluate(bundle, frame, split, tmp_path / "report")
    assert not (tmp_path / "report").exists()
    result = evaluate(bundle, frame, split, tmp_path / "report", allow_leaks=True)
    files = {"test": "2 files", "train": "1 file", "all": "3 files"}[split]
    sentence = f"groups cross the splits: 1 group, {files}; the figures are too good (g3 in test and train)"
    assert result["warnings"][0] == sentence
    assert (result["leaks"]["groups_across_splits"], result["leaks"]["allowed"]) == (1, True)
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["leaks"] == result["leaks"]
    assert sentence in Page((tmp_path / "report" / "report.html").read_text()).words


def test_groups_that_cross_elsewhere_are_refused_or_told_apart(
    bundle: Path, frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame.loc[4, "group"] = frame.loc[5, "group"]  # train and val
    with pytest.raises(DatasetError, match="beside the files that are evaluated, groups cross the splits: 1 group"):
        evaluate(bundle, frame, "test", tmp_path / "report")
    result = evaluate(bundle, frame, "test", tmp_path / "report", allow_leaks=True)
    assert (result["leaks"]["groups_across_splits"], result["leaks"]["allowed"]) == (0, True)
    (warning,) = result["warnings"]
    assert warning.startswith("beside the files that were evaluated, groups cross the splits: 1 group, ")
    assert warning.endswith("; these figures are not touched")


@pytest.mark.parametrize("change", [{"label": pd.NA}, {"note": "unreadable: it is text"}, {"split": ""}])
def test_what_nobody_learns_from_leaks_nothing(
    bundle: Path, frame: pd.DataFrame, tmp_path: Path, change: dict[str, Any]
) -> None:
    frame.loc[4, "group"] = "g1"
    for column, value in change.items():
        frame.loc[4, column] = value
    assert evaluate(bundle, frame, "test", tmp_path / "report")["warnings"] == []


def test_leaks_of_the_training_are_passed_on(frame: pd.DataFrame, tmp_path: Path) -> None:
    training = dict(tiny_bundle.tiny_info()["training"])
    sentence = "groups cross the splits: 2 groups, 9 files; the figures are too good"
    training["leaks"] = {"groups": 2, "files": 9, "sentence": sentence}
    model = tiny_bundle.write_tiny_bundle(tmp_path / "leaky", training=training)
    result = evaluate(model, frame, "test", tmp_path / "report")
    assert result["leaks"]["in_training"] == training["leaks"]
    assert result["leaks"]["allowed"] is False
    assert result["warnings"] == [f"when the model was trained, {sentence}"]
    assert sentence in Page((tmp_path / "report" / "report.html").read_text()).words


def test_a_run_folder_tells_what_it_was_trained_on(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny_bundle.write_tiny_bundle(run / "bundle")
    trained = frame.assign(split=["train", "test", "test", "test", "train", "val"])
    write_manifest(trained, run / "manifest.parquet")
    Image.new("L", (40, 20), 200).save(run / "curves.png")
    with pytest.raises(DatasetError, match=r"run was trained on 1 group \(1 file\) of these: g1; .*--allow-leaks"):
        evaluate(run, frame, "test", tmp_path / "report")
    result = evaluate(run, frame, "test", tmp_path / "report", allow_leaks=True)
    assert result["leaks"]["files_trained_on"] == 1
    assert result["leaks"]["allowed"] is True
    assert result["warnings"] == ["1 of these 4 files were trained on: the figures are too good"]
    assert Page((tmp_path / "report" / "report.html").read_text()).pictures == 5
    clean = evaluate(run, frame, "val", tmp_path / "val")
    assert clean["leaks"]["files_trained_on"] == clean["leaks"]["groups_trained_on"] == 0
    asked = evaluate(run, trained, "train", tmp_path / "train")
    assert asked["warnings"][0] == "2 of these 2 files were trained on: the figures are too good"
    whole = evaluate(run, frame.assign(split=""), "all", tmp_path / "all")
    assert whole["leaks"]["files_trained_on"] == 2
    assert whole["leaks"]["allowed"] is False


def test_a_bundle_tells_what_it_was_trained_on(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Passed on alone, by the beginning of its pictures' SHA-256."""
    frame["sha256"] = [hashlib.sha256(name.encode()).hexdigest() for name in frame["path"]]
    listed = pictures(frame.assign(split=["train", "test", "test", "test", "train", "val"]))
    plain = Bundle.load(tiny_bundle.write_tiny_bundle(tmp_path / "plain"))
    files = {"model.onnx": plain.read("model.onnx"), "MODEL_CARD.md": b"# tiny\n", "pictures.csv": listed}
    model = write_bundle(tmp_path / "knowing", plain.info, files)
    with pytest.raises(DatasetError, match=r"knowing was trained on 1 group \(1 file\) of these: g1; .*--allow-leaks"):
        evaluate(model, frame, "test", tmp_path / "report")
    result = evaluate(model, frame, "test", tmp_path / "report", allow_leaks=True)
    assert (result["leaks"]["files_trained_on"], result["leaks"]["groups_trained_on"]) == (1, 1)
    others = frame.assign(sha256=[f"{number:064x}" for number in range(len(frame))])
    assert evaluate(model, others, "test", tmp_path / "others")["leaks"]["files_trained_on"] == 0
    broken = write_bundle(tmp_path / "broken", plain.info, {**files, "pictures.csv": b"\xff,\nx\n1,2,3\n" + listed})
    assert Bundle.load(broken).pictures == Bundle.load(model).pictures


def test_groups_that_other_files_were_trained_on(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Another split of the same data, where groups were made of fewer files and so have other names."""
    run = tmp_path / "run"
    tiny_bundle.write_tiny_bundle(run / "bundle")
    trained = frame.assign(split=["", "", "train", "", "", "val"], group=["", "", "other", "", "", ""])
    write_manifest(trained, run / "manifest.parquet")
    held_out = frame.assign(split=["test", "test", "", "test", "test", "test"])
    with pytest.raises(DatasetError, match=r"trained on 1 group \(1 file\) of these: g3"):
        evaluate(run, held_out, "test", tmp_path / "report")
    result = evaluate(run, held_out, "test", tmp_path / "report", allow_leaks=True)
    assert (result["leaks"]["files_trained_on"], result["leaks"]["groups_trained_on"]) == (0, 1)
    assert result["warnings"] == ["1 group of these files were trained on by other files: the figures are too good"]


def test_patients_of_other_data_may_be_called_alike(frame: pd.DataFrame, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny_bundle.write_tiny_bundle(run / "bundle")
    others = frame.assign(split="train", sha256=frame["sha256"] + "x", path="/elsewhere" + frame["path"])
    write_manifest(others, run / "manifest.parquet")
    result = evaluate(run, frame, "test", tmp_path / "report")
    assert result["leaks"]["groups_trained_on"] == 0
    assert result["warnings"] == []


def test_a_former_report_is_replaced_and_nothing_else(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    out = tmp_path / "report"
    evaluate(bundle, frame, "test", out, pictures=1)
    first = (out / "metrics.json").read_bytes()
    evaluate(bundle, frame, "test", out, pictures=1)
    assert (out / "metrics.json").read_bytes() == first
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(CallusError, match=r"thesis\.txt"):
        evaluate(bundle, frame, "test", out)
    assert (out / "thesis.txt").exists()
    single = tmp_path / "single"
    single.write_text("")
    with pytest.raises(CallusError, match="is a file"):
        evaluate(bundle, frame, "test", single)


def test_a_report_that_cannot_be_finished_leaves_the_former_one(
    bundle: Path, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    evaluate(bundle, frame, "test", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("callus.report.pages.report_page", full)
    with pytest.raises(CallusError, match="No space left"):
        evaluate(bundle, frame, "val", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_names_of_files_are_escaped_in_the_page(bundle: Path, tmp_path: Path) -> None:
    frame = manifest(tmp_path, [("<script>x.png", 1, 0.9, "g", "test"), ("b.png", 0, 0.1, "h", "test")])
    evaluate(bundle, frame, "test", tmp_path / "report")
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert page.fetched == []
    assert "<script>x.png" in page.words


def test_the_classification_report_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    probability = np.clip(0.3 * label + rng.random(200) * 0.7, 0, 1)
    ours = classification_report(label, probability)
    names = ["not fractured", "fractured"]
    theirs = metrics.classification_report(label, probability >= 0.5, target_names=names, output_dict=True)
    pairs = dict(zip(ours, [*names, "macro avg", "weighted avg"], strict=True))
    for name, other in pairs.items():
        expected = theirs[other]
        np.testing.assert_allclose(
            [ours[name][key] for key in ("precision", "recall", "f1", "support")],
            [expected[key] for key in ("precision", "recall", "f1-score", "support")],
        )
    assert classification_report([1, 1], [0.9, 0.8])["not fractured"]["precision"] is None


def test_files_of_one_radiograph_and_of_one_study_are_put_together(bundle: Path, tmp_path: Path) -> None:
    rows = [("a.png", 1, 0.9, "g1", "test"), ("b.png", 1, 0.3, "g1", "test"), ("c.png", 0, 0.2, "g2", "test")]
    frame = manifest(tmp_path, [*rows, ("d.png", 0, 0.7, "g3", "test")])
    frame["radiograph"] = ["r1", "r1", "r2", "r3"]
    frame["study"] = ["s1", "s1", "s2", "s2"]
    result = evaluate(bundle, frame, "test", tmp_path / "mean")["aggregated"]
    assert (result["how"], result["radiograph"]["units"], result["radiograph"]["files"]) == ("mean", 3, 4)
    assert result["radiograph"]["figures"]["at_0.5"]["confusion"] == {"tn": 1, "fp": 1, "fn": 0, "tp": 1}
    assert result["study"]["figures"]["at_0.5"]["confusion"] == {"tn": 1, "fp": 0, "fn": 0, "tp": 1}
    largest = evaluate(bundle, frame, "test", tmp_path / "max", how="max")["aggregated"]
    assert largest["study"]["figures"]["at_0.5"]["confusion"] == {"tn": 0, "fp": 1, "fn": 0, "tp": 1}
    assert "By study: 2, 1 fractured, from 4 files" in Page((tmp_path / "max" / "report.html").read_text()).words
    one_each = evaluate(bundle, frame.assign(radiograph="", study=""), "test", tmp_path / "each")["aggregated"]
    assert one_each["radiograph"] == {"reason": "every radiograph has one file: these are the figures by file"}
    assert one_each["study"] == {"reason": "the manifest names no study"}
    frame["label"] = pd.array([1, 0, 0, 0], "Int8")
    assert "different labels" in evaluate(bundle, frame, "test", tmp_path / "un")["aggregated"]["radiograph"]["reason"]


def test_a_prevalence_that_is_asked_for(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    result = evaluate(bundle, frame, "test", tmp_path / "report", prevalence=0.1)
    # Sensitivity and specificity are 0.5: a call tells nothing, so that PPV is the prevalence.
    assert result["figures"]["at_0.5"]["ppv_at_prevalence"] == pytest.approx(0.1)
    assert result["intervals"]["at_0.5"]["npv_at_prevalence"]["value"] == pytest.approx(0.9)
    assert result["decision_curve"]["prevalence"] == 0.1
    with pytest.raises(CallusError, match=r"the prevalence is 1\.5"):
        evaluate(bundle, frame, "test", tmp_path / "none", prevalence=1.5)


def test_where_it_looked_is_held_against_boxes(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    assert evaluate(bundle, frame, "test", tmp_path / "unplaced")["localisation"] is None
    frame["boxes"] = [[[40, 40, 40, 40]], [[100, 120, 30, 30]], [], [], [], []]
    result = evaluate(bundle, frame, "test", tmp_path / "report")
    places = result["localisation"]
    assert (places["images"], places["fractured"], places["fractures"]) == (4, 2, 2)
    # The bright spot is the first one's fracture; the second one's lies elsewhere.
    assert places["pointing_game"]["value"] == places["images_hit"]["value"] == 0.5
    assert places["boxes"] == 4  # also those of spots that are below the bundle's threshold
    assert places["froc"]["0.5"]["value"] == 0.5
    assert {one["name"] for one in result["subgroups"]["fractures"]} == {"1"}
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert "highest on a fracture in 50 % (9 to 91 %) of the 2 fractured ones whose place is known" in page.words


def test_external_tests(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    rows = [("x.png", 1, 0.9, "g1", "train"), ("y.png", 0, 0.1, "g1", "test"), ("z.png", 0, 0.9, "h", "")]
    other = manifest(tmp_path / "other", rows)
    result = evaluate(bundle, frame, "test", tmp_path / "report", external={"clinic": other})
    part = result["external"]["clinic"]
    assert part["data"]["judged"] == 3  # whatever their split, and crossing groups do not matter
    assert part["data"]["manifest_sha256"] == digest(other)
    assert part["figures"]["at_0.5"]["confusion"] == {"tn": 1, "fp": 1, "fn": 0, "tp": 1}
    assert part["warnings"] == []
    assert len(pd.read_parquet(tmp_path / "report" / "predictions-clinic.parquet")) == 3
    assert "clinic: 3 labelled files" in Page((tmp_path / "report" / "report.html").read_text()).words
    again = evaluate(bundle, frame, "test", tmp_path / "report", external={"self": frame})
    assert "6 files stand in the evaluated manifest too" in again["external"]["self"]["warnings"][-1]
    assert not (tmp_path / "report" / "predictions-clinic.parquet").exists()
    with pytest.raises(CallusError, match=r"called '\.\./x'; expected letters"):
        evaluate(bundle, frame, "test", tmp_path / "none", external={"../x": other})
    run = tmp_path / "run"
    tiny_bundle.write_tiny_bundle(run / "bundle")
    write_manifest(other.assign(split="train"), run / "manifest.parquet")
    with pytest.raises(DatasetError, match=r"external test 'clinic': .*was trained on 2 groups \(3 files\)"):
        evaluate(run, frame, "test", tmp_path / "none", external={"clinic": other})


def test_robustness_is_measured_where_it_is_asked_for(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    assert evaluate(bundle, frame, "test", tmp_path / "without")["robustness"] is None
    result = evaluate(bundle, frame, "test", tmp_path / "with", disturbed=4)
    assert result["robustness"]["undisturbed"]["files"] == 4
    page = Page((tmp_path / "with" / "report.html").read_text())
    assert all(step["text"] in page.words for step in result["robustness"]["steps"])
    assert "Not measured" not in page.words


def test_methods_name_the_points_where_they_differ() -> None:
    bootstrap = {"method": "bootstrap"}
    undefined = {"method": "", "reason": "no file is called fractured"}
    intervals = {
        "at_0.5": {"auroc": {"method": "DeLong"}, "sensitivity": bootstrap, "ppv": bootstrap},
        "high_sensitivity": {"auroc": {"method": "DeLong"}, "sensitivity": {"method": "Wilson"}, "ppv": bootstrap},
        "high_specificity": {"auroc": {"method": "DeLong"}, "sensitivity": bootstrap, "ppv": undefined},
    }
    names = {"auroc": "AUROC", "sensitivity": "sensitivity", "ppv": "PPV", "npv": "NPV"}
    assert methods_of(intervals, names) == [
        ("DeLong", ["AUROC"]),
        ("bootstrap", ["sensitivity (at 0.5, high specificity)", "PPV (at 0.5, high sensitivity)"]),
        ("Wilson", ["sensitivity (high sensitivity)"]),
        ("no file is called fractured", ["PPV (high specificity)"]),
    ]
