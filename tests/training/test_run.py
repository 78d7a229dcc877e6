"""Whole trainings on simulated radiographs: what they leave behind, how they go on, and on how many processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from callus.atomic import whole_file
from callus.dataset import read_manifest, usable, write_manifest
from callus.dataset.split import split
from callus.errors import DatasetError, TrainingError
from callus.identify import Identifier
from callus.metrics.scores import auroc
from callus.training import Options, train
from callus.training import recipe as recipes
from callus.training.examples import PLAIN, Examples
from callus.training.recipe import Recipe
from callus.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, simulated: Path, small: Recipe) -> Path:
    folder = tmp_path_factory.mktemp("run")
    lines: list[str] = []
    options = Options(accelerator="cpu", cache=folder / "cache")
    run = train(simulated, small, folder / "run", options=options, say=lines.append)
    assert any("trunk features: 2 views" in line for line in lines)
    return run


def command(data: Path, recipe: Path, out: Path, *more: str) -> list[str]:
    words = ["train", "--data", data, "--recipe", recipe, "--out", out, "--cache", out.parent / "cache", *more]
    return [sys.executable, "-m", "callus", *map(str, words), "--accelerator", "cpu"]


def epochs_of(run: Path) -> list[dict[str, str]]:
    with (run / "epochs.csv").open() as file:
        return list(csv.DictReader(file))


def recipe_file(folder: Path, recipe: Recipe) -> Path:
    with whole_file(folder / "recipe.toml", "w") as file:
        file.write(recipe.to_toml())
    return folder / "recipe.toml"


def test_the_run_folder_holds_what_the_design_says(finished: Path, small: Recipe) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {"recipe.toml", "manifest.parquet", "epochs.csv", "curves.png", "events", "last", "best"}
    assert names >= {"environment.json", "bundle"}
    assert recipes.load(finished / "recipe.toml") == small
    rows = epochs_of(finished)
    assert [row["phase"] for row in rows] == ["frozen", "frozen", "tuning"]
    assert json.loads((finished / "environment.json").read_text())["versions"]["torch"] == torch.__version__
    assert not [path for path in finished.rglob("*") if path.name.endswith(".part")]


def test_the_split_keeps_groups_together(finished: Path) -> None:
    frame = usable(read_manifest(finished / "manifest.parquet"))
    assert set(frame["split"]) == {"train", "val", "test"}
    assert frame.groupby("group")["split"].nunique().max() == 1


def test_the_bundle_answers_as_torch_did_and_says_what_it_saw(finished: Path) -> None:
    identifier = Identifier(finished)
    info = json.loads((finished / "bundle" / "bundle.json").read_text())
    engine = info["engines"]["onnx-float32"]
    assert engine["parity"]["max_difference"]["probability"] <= 1e-4
    assert engine["parity"]["max_difference"]["map"] <= 1e-3
    frame = usable(read_manifest(finished / "manifest.parquet"))
    assert info["training"]["files"] == (frame["split"] == "train").sum()
    finding = identifier.identify(frame["path"].iloc[0])
    assert 0 <= finding.probability <= 1
    assert finding.map.shape == (4, 4)


def test_a_trunk_from_the_cache_learns_what_a_trunk_run_afresh_learns(
    tmp_path: Path, simulated: Path, small: Recipe
) -> None:
    """One view for all epochs: the cache then changes nothing but the rounding to float16."""
    still = {f"augmentation.{name}": 0.0 for name in ("rotation", "shift", "shear", "zoom", "contrast")}
    still |= {f"augmentation.{name}": 0.0 for name in ("brightness", "gamma", "noise")}
    recipe = recipes.override(small, {**still, "augmentation.flip": False, "tuning.epochs": 0, "head.dropout": 0.0})
    accuracies = []
    for views in (1, 0):
        out = tmp_path / f"views{views}"
        options = Options(accelerator="cpu", cache=tmp_path)
        train(simulated, recipes.override(recipe, {"frozen.cache_views": views}), out, options=options)
        rows = epochs_of(out)
        accuracies.append([float(row["training_loss"]) for row in rows])
    np.testing.assert_allclose(accuracies[0], accuracies[1], rtol=5e-3)


def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, simulated: Path, small: Recipe, finished: Path
) -> None:
    out = tmp_path / "run"
    call = command(simulated, recipe_file(tmp_path, small), out)
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "last" / "state.safetensors").exists():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "bundle").exists()
    subprocess.run([*call, "--resume"], check=True, capture_output=True, timeout=300)
    killed, whole = (load_file(run / "best" / "network.safetensors") for run in (out, finished))
    assert killed.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(killed[name], value), name
    epochs = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in epochs_of(run)]
        for run in (out, finished)
    ]
    assert epochs[0] == epochs[1]


def test_two_processes_learn_what_one_learns(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    recipe = recipes.override(small, {"head.dropout": 0.0})
    losses = []
    for devices in (1, 2):
        out = tmp_path / f"on{devices}" / "run"
        # In double precision: in single, rounding alone (another processor, two threads) moves these losses by 3e-4.
        call = command(simulated, recipe_file(tmp_path, recipe), out, "--devices", str(devices), "--precision=64-true")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(call, capture_output=True, text=True, timeout=300, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        rows = epochs_of(out)
        losses.append([[float(row[key]) for row in rows] for key in ("training_loss", "validation_loss")])
        assert (out / "bundle" / "model.onnx").exists()
    (training, validation), (training_on_two, validation_on_two) = losses
    np.testing.assert_allclose(training_on_two, training, rtol=1e-5)
    np.testing.assert_allclose(validation_on_two, validation, rtol=5e-4)  # after Adam has divided by tiny gradients


def test_what_is_refused_is_said_once_however_many_processes_there_were_to_be(
    tmp_path: Path, simulated: Path, small: Recipe
) -> None:
    frame = read_manifest(simulated)
    write_manifest(frame[frame["label"] == 1], tmp_path / "one.parquet")
    call = command(tmp_path / "one.parquet", recipe_file(tmp_path, small), tmp_path / "run", "--devices", "2")
    done = subprocess.run(call, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "there is only one class" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_best_epoch_of_the_frozen_phase_keeps_its_trunk(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    """A second phase that spoils the trunk must leave no trace when an epoch of the first one is kept."""
    changes = {"tuning.rate": 1e-9, "tuning.trunk_rate": 1.0, "tuning.epochs": 2, "optimisation.ema": 0.0}
    options = Options(accelerator="cpu", cache=tmp_path)
    # Torch draws other weights on other processors, and on a dozen pictures a spoilt trunk can be the better one.
    for seed in range(8):
        out = tmp_path / f"spoilt{seed}"
        with suppress(TrainingError):  # the spoilt trunk was kept, and is too wild to be exported
            train(simulated, recipes.override(small, {**changes, "seed": seed}), out, options=options)
        rows = epochs_of(out)
        best = max(rows, key=lambda row: float(row["validation_auroc"]))
        if best["phase"] == "frozen":
            break
    else:
        pytest.fail("the second phase spoilt nothing; this test shows nothing")
    info = json.loads((out / "bundle" / "bundle.json").read_text())
    assert info["figures"][0]["auroc"] == pytest.approx(float(best["validation_auroc"]), abs=1e-9)


def test_crops_are_learnt_from_where_fractures_are_outlined(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    frame = read_manifest(simulated)
    options = Options(accelerator="cpu", cache=tmp_path)
    recipe = recipes.override(small, {"tuning.crop": 64, "input.height": 96, "input.width": 96, "frozen.epochs": 0})
    kept = recipes.load(train(frame, recipe, tmp_path / "outlined", options=options) / "recipe.toml")
    assert kept.tuning.crop == 64
    bare = frame.assign(boxes=None, polygons=None)
    kept = recipes.load(train(bare, recipe, tmp_path / "bare", options=options) / "recipe.toml")
    assert kept.tuning.crop == 0


def test_crops_then_whole_pictures_validated_now_and_then(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    changes = {"tuning.crop": 64, "input.height": 96, "input.width": 96, "frozen.epochs": 0, "tuning.epochs": 3}
    changes |= {"whole.epochs": 2, "whole.stages": 1, "optimisation.validate_every": 2, "optimisation.keep": "last"}
    changes |= {"export.mirror": True, "head.location_stride": 8}
    run = train(simulated, recipes.override(small, changes), tmp_path / "run", options=Options(accelerator="cpu"))
    rows = epochs_of(run)
    assert [row["phase"] for row in rows] == ["tuning"] * 3 + ["whole"] * 2
    assert [bool(row["validation_loss"]) for row in rows] == [False, True, True, False, True]
    info = json.loads((run / "bundle" / "bundle.json").read_text())
    assert info["views"] == ["mirror"]
    # The last epoch's weights are kept, and what is said of them is measured with the mirrored view.
    own = Identifier(run, views=())
    frame = usable(read_manifest(run / "manifest.parquet"))
    judged = frame[frame["split"] == "val"]
    findings = [own.identify(path) for path in judged["path"]]
    plain = auroc(judged["label"], [finding.logit for finding in findings])
    assert plain == pytest.approx(float(rows[-1]["validation_auroc"]), abs=1e-9)
    # What the epochs say of the map is what the bundle's own maps are worth.
    examples = Examples(judged, recipes.load(run / "recipe.toml"))
    masks = [examples.mask(index, PLAIN) for index in range(len(examples))]
    there = [mask.flat[one.map.argmax()] > 0 for mask, one in zip(masks, findings, strict=True) if mask.any()]
    assert 0 < len(there) < len(masks)
    assert float(rows[-1]["validation_pointing"]) == pytest.approx(np.mean(there), abs=1e-9)
    positive = recipes.load(run / "recipe.toml").optimisation.location_positive
    lost = [
        -(positive * mask * np.log(one.map) + (1 - mask) * np.log1p(-one.map)).mean(dtype=np.float64)
        for mask, one in zip(masks, findings, strict=True)
    ]
    assert float(rows[-1]["validation_location_loss"]) == pytest.approx(np.mean(lost), rel=1e-3)
    both = Identifier(run)
    assert both.views == ("mirror",)
    seen = auroc(judged["label"], [both.identify(path).logit for path in judged["path"]])
    assert info["figures"][0]["auroc"] == pytest.approx(seen, abs=1e-9)


def test_the_recipe_says_how_probabilities_are_calibrated(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    changes = {"frozen.epochs": 1, "tuning.epochs": 0, "calibration.method": "isotonic"}
    run = train(simulated, recipes.override(small, changes), tmp_path / "run", options=Options(cache=tmp_path))
    engine = json.loads((run / "bundle" / "bundle.json").read_text())["engines"]["onnx-float32"]
    assert engine["calibration"]["method"] == "isotonic"
    assert Identifier(run).bundle.engine_info("onnx-float32").calibration.knots


def test_a_limit_that_lowers_the_views_is_written_into_the_recipe(
    tmp_path: Path, simulated: Path, small: Recipe
) -> None:
    quick = recipes.override(small, {"frozen.epochs": 1, "frozen.cache_views": 3, "tuning.epochs": 0})
    probe = train(simulated, quick, tmp_path / "wide", options=Options(accelerator="cpu", cache=tmp_path / "cache"))
    assert recipes.load(probe / "recipe.toml").frozen.cache_views == 3
    frame = usable(read_manifest(probe / "manifest.parquet"))
    counts = frame["split"].value_counts()
    record = (8 * 8 * 32 + 4 * 4 * 96 + 2 * 2 * 1280) * 2  # bytes of MobileNetV2's maps at 64 x 64
    limit = int(record * (2.5 * counts["train"] + counts["val"]))
    options = Options(accelerator="cpu", cache=tmp_path / "cache", cache_limit=limit)
    narrow = train(simulated, quick, tmp_path / "narrow", options=options)
    assert recipes.load(narrow / "recipe.toml").frozen.cache_views == 2


def test_a_run_killed_before_it_had_a_manifest_begins_anew(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    out = tmp_path / "run"
    RunFolder(out).begin({})
    quick = recipes.override(small, {"frozen.epochs": 1, "frozen.cache_views": 1, "tuning.epochs": 0})
    options = Options(accelerator="cpu", cache=tmp_path / "cache")
    with pytest.raises(TrainingError, match="--resume"):
        train(simulated, quick, out, options=options)
    train(simulated, quick, out, resume=True, options=options)
    assert (out / "bundle").exists()


def test_a_folder_that_is_not_empty_is_left_alone(finished: Path, simulated: Path, small: Recipe) -> None:
    before = sorted(path.name for path in finished.iterdir())
    with pytest.raises(TrainingError, match="--resume"):
        train(simulated, small, finished)
    assert sorted(path.name for path in finished.iterdir()) == before


def test_one_class_only_is_refused(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    frame = read_manifest(simulated)
    with pytest.raises(DatasetError, match="only one class"):
        train(frame[frame["label"] == 1].reset_index(drop=True), small, tmp_path / "run")


def test_leaks_that_are_allowed_are_written_down(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    frame = split(read_manifest(simulated), test=0.25, val=0.25)
    moved = [frame.index[frame["split"] == part][0] for part in ("train", "val", "test")]
    frame.loc[moved, ["study", "patient"]] = ""  # nothing else holds them to other files
    frame.loc[moved, "group"] = "torn"
    quick = recipes.override(small, {"frozen.epochs": 1, "frozen.cache_views": 1, "tuning.epochs": 0})
    options = Options(accelerator="cpu", cache=tmp_path / "cache")
    with pytest.raises(DatasetError, match="torn in test and train and val"):
        train(frame, quick, tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()
    lines: list[str] = []
    run = train(frame, quick, tmp_path / "run", allow_leaks=True, options=options, say=lines.append)
    sentence = "groups cross the splits: 1 group, 3 files; the figures are too good"
    assert f"warning: {sentence}" in lines
    leaks = json.loads((run / "leaks.json").read_text())
    assert leaks["sentence"] == sentence
    assert leaks["crossing"] == [{"group": "torn", "splits": ["test", "train", "val"], "files": 3}]
    assert json.loads((run / "environment.json").read_text())["settings"]["allow_leaks"] is True
    info = json.loads((run / "bundle" / "bundle.json").read_text())
    assert info["training"]["leaks"] == {"groups": 1, "files": 3, "sentence": sentence}
    assert sentence in info["figures"][0]["note"]
    assert f"**Warning: {sentence}.**" in (run / "bundle" / "MODEL_CARD.md").read_text()


def test_without_leaks_nothing_is_said_of_them(finished: Path) -> None:
    assert not (finished / "leaks.json").exists()
    assert json.loads((finished / "bundle" / "bundle.json").read_text())["training"]["leaks"] is None
    assert "groups cross" not in (finished / "bundle" / "MODEL_CARD.md").read_text()


def test_bad_files_are_listed_and_too_many_stop_it(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    frame = read_manifest(simulated)
    write_manifest(frame, tmp_path / "manifest.parquet")
    bad = frame.copy()
    bad.loc[0, "path"] = str(tmp_path / "gone.png")
    write_manifest(bad, tmp_path / "one.parquet")
    lines: list[str] = []
    quick = recipes.override(small, {"frozen.epochs": 1, "frozen.cache_views": 1, "tuning.epochs": 0})
    options = Options(accelerator="cpu", cache=tmp_path / "cache")
    train(tmp_path / "one.parquet", quick, tmp_path / "run", options=options, say=lines.append)
    assert [line for line in lines if line.startswith("left out: ") and "gone.png" in line]
    for row in range(3):
        bad.loc[row, "path"] = str(tmp_path / f"gone{row}.png")
    write_manifest(bad, tmp_path / "three.parquet")
    with pytest.raises(TrainingError, match=r"3 of 40 files cannot be used, more than 5 %"):
        train(tmp_path / "three.parquet", quick, tmp_path / "run2")
