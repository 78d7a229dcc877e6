"""``callus export``: the run's own weights once more, and one line where that cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from callus.bundle import Bundle, Engine
from callus.cli import main
from callus.dataset.manifest import read_manifest, write_manifest
from callus.dataset.simulated import simulate
from callus.identify import Identifier
from callus.training import Options, train
from callus.training import recipe as recipes

QUICK = {
    "input.height": 64,
    "input.width": 64,
    "head.width": 8,
    "head.dense": [8],
    "tuning.epochs": 1,
    "splitting.validation": 0.3,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    simulate(folder / "data", 40, seed=5)
    recipe = recipes.override(recipes.load("demo"), QUICK)
    return train(folder / "data" / "manifest.parquet", recipe, folder / "mine", options=Options(accelerator="cpu"))


@pytest.fixture(scope="module")
def larger(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same splits with a larger input."""
    recipe = recipes.override(recipes.load("demo"), {**QUICK, "input.height": 96, "input.width": 96, "seed": 1})
    folder = tmp_path_factory.mktemp("larger")
    return train(run / "manifest.parquet", recipe, folder / "larger", options=Options(accelerator="cpu"))


def call(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["callus", "export", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def logits(model: Path) -> list[float]:
    batch = np.random.default_rng(0).uniform(-1, 1, (4, 3, 64, 64)).astype(np.float32)
    return [float(value) for value in Engine(Bundle.load(model), name="onnx-float32").run(batch).logit]


def parts(model: Path) -> dict[str, object]:
    """What a bundle says but for when it was made."""
    return {key: value for key, value in Bundle.load(model).info.items() if key != "created"}


def test_the_bundle_is_the_one_that_training_ended_with(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in run.iterdir())
    assert call(monkeypatch, run, "--out", tmp_path / "again") == 0
    told = capsys.readouterr()
    assert told.err == ""
    first, second, last = told.out.splitlines()
    assert first.startswith("validation AUROC ")
    assert (second, last) == ("no openvino-int8: it was not wanted", f"bundle: {tmp_path / 'again'}")
    assert logits(tmp_path / "again") == logits(run)
    old, new = parts(run), parts(tmp_path / "again")
    assert new["name"] == "mine"
    for key in ("engines", "training", "input", "outputs", "figures"):
        assert new[key] == old[key]
    assert sorted(path.name for path in run.iterdir()) == before


def test_one_file_and_a_wish_for_int8(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.callus"
    for word, reason in (("--no-int8", "it was not wanted"), ("--int8", "other validation pictures cannot tell")):
        assert call(monkeypatch, run, word, "--out", out) == 0  # the second time over the first
        assert out.is_file()
        assert reason in str(Bundle.load(out).info["engines_left_out"]["openvino-int8"])
        assert reason in capsys.readouterr().out
    assert logits(out) == logits(run)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.callus"]


def test_several_runs_give_their_average(
    tmp_path: Path, run: Path, larger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both.callus"
    assert call(monkeypatch, run, larger, "--name", "both", "--out", out) == 0
    assert capsys.readouterr().err == ""
    both = Bundle.load(out)
    assert (both.name, both.spec.height, both.spec.width, both.map_stride) == ("both", 96, 96, 16)
    told = both.info["training"]["members"]
    assert ["height = 96" in one["recipe"] for one in told] == [True, False]  # the largest is the first
    assert "the average of 2: small trunk" in both.card
    batch = np.random.default_rng(0).uniform(-1, 1, (4, 3, 96, 96)).astype(np.float32)
    smaller = torch.nn.functional.interpolate(torch.from_numpy(batch), size=(64, 64), mode="bilinear").numpy()
    own = [
        Engine(Bundle.load(model), name="onnx-float32").run(pictures)
        for model, pictures in ((larger, batch), (run, smaller))
    ]
    answer = Engine(both, name="onnx-float32").run(batch)
    np.testing.assert_allclose(answer.logit, (own[0].logit + own[1].logit) / 2, atol=1e-4)
    assert answer.map.shape == own[0].map.shape
    np.testing.assert_array_equal(answer.features, own[0].features)
    assert both.info["engines"]["onnx-float32"]["parity"]["max_difference"]["map"] < 1e-3
    finding = Identifier(out, threads=1).identify(read_manifest(run / "manifest.parquet")["path"].iloc[0])
    assert finding.map.shape == (6, 6)


@pytest.mark.parametrize("other", ["splits", "range"])
def test_runs_that_do_not_fit_together_are_not_averaged(
    other: str,
    tmp_path: Path,
    run: Path,
    larger: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(run, changed)
    if other == "splits":
        frame = read_manifest(changed / "manifest.parquet")
        swapped = {"train": "val", "val": "train"}
        write_manifest(
            frame.assign(split=frame["split"].map(lambda s: swapped.get(s, s))), changed / "manifest.parquet"
        )
        told = "another manifest, or other splits"
    else:
        recipe = recipes.load(changed / "recipe.toml")
        (changed / "recipe.toml").write_text(recipes.override(recipe, {"input.low": 0.0}).to_toml())
        told = "an input of another aspect, fit or range"
    assert call(monkeypatch, larger, changed, "--out", tmp_path / "both.callus") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert str(changed) in line
    assert not (tmp_path / "both.callus").exists()


def moved(run: Path, folder: Path, *splits: str) -> Path:
    """The run's pictures of some splits at another place, as a manifest."""
    frame = read_manifest(run / "manifest.parquet")
    frame = frame[frame["split"].isin(splits)].reset_index(drop=True)
    folder.mkdir()
    frame["path"] = [str(shutil.copy(path, folder)) for path in frame["path"]]
    write_manifest(frame, folder / "manifest.parquet")
    return folder / "manifest.parquet"


@pytest.mark.parametrize("kind", ["other", "with notes", "run", "changed"])
def test_only_a_bundle_is_replaced_and_nothing_beside_it(
    kind: str, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if kind == "other":  # other programs have a bundle.json too
        out.mkdir()
        (out / "bundle.json").write_text('{"name": "my app"}')
        (out / "thesis.txt").write_text("the only copy")
    elif kind == "run":
        shutil.copytree(run / "bundle", out / "bundle")
        (out / "notes.txt").write_text("the only copy")
    else:
        shutil.copytree(run / "bundle", out)
        name = "notes.txt" if kind == "with notes" else "MODEL_CARD.md"
        (out / name).write_text("the only copy")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert call(monkeypatch, run, "--out", out) == 1
    told = capsys.readouterr().err
    assert "name a new --out, or one that ends with .callus" in told
    expected = "holds more than a bundle" if kind == "run" else "is there and no bundle: "
    assert f"{out}: {expected}" in told
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_name_and_what_only_people_know_stand_in_the_card(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "card.md").write_text("## Limits\n\nNo children, as far as is known.\n", encoding="utf-8")
    out = tmp_path / "wrist.callus"
    assert call(monkeypatch, run, "--out", out, "--name", "wrist", "--card", tmp_path / "card.md") == 0
    bundle = Bundle.load(out)
    assert bundle.name == "wrist"
    assert bundle.card.startswith("# wrist\n")
    assert bundle.card.endswith("\n## Limits\n\nNo children, as far as is known.\n")
    capsys.readouterr()
    assert call(monkeypatch, run, "--out", tmp_path / "none", "--card", tmp_path / "none.md") == 1
    assert "give a Markdown file" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_validation_pictures_that_have_moved_are_given(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = moved(run, tmp_path / "moved", "val", "train")  # of both, the split val is taken
    assert call(monkeypatch, run, "--data", data, "--out", tmp_path / "bundle") == 0
    assert parts(tmp_path / "bundle")["engines"] == parts(run)["engines"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_that_the_run_knows_are_refused(
    tmp_path: Path, run: Path, split: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = moved(run, tmp_path / "known", split)
    assert call(monkeypatch, run, "--data", data, "--out", tmp_path / "bundle") == 1
    assert "are in the run's training or test split" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def no_best(run: Path) -> None:
    shutil.rmtree(run / "best")


def not_ended(run: Path) -> None:
    shutil.rmtree(run / "last")


def no_recipe(run: Path) -> None:
    (run / "recipe.toml").unlink()


def pictures_gone(run: Path) -> None:
    frame = read_manifest(run / "manifest.parquet")
    frame["path"] = [str(run / "gone" / Path(path).name) for path in frame["path"]]
    write_manifest(frame, run / "manifest.parquet")


def one_class(run: Path) -> None:
    frame = read_manifest(run / "manifest.parquet")
    write_manifest(frame[(frame["split"] != "val") | (frame["label"] == 0)], run / "manifest.parquet")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_best, "this training has not ended; go on with callus train --resume"),
        (not_ended, "this training has not ended"),
        (no_recipe, "is no run folder"),
        (pictures_gone, "validation pictures are not there: "),
        (one_class, "of 1 class(es); both are needed"),
    ],
)
def test_a_run_that_cannot_be_exported_is_one_line(
    tmp_path: Path,
    run: Path,
    spoil: object,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    spoil(copy)  # type: ignore[operator]
    assert call(monkeypatch, copy, "--out", tmp_path / "bundle") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", ["folder", "folder.callus", "file"])
def test_what_is_no_bundle_is_not_replaced(
    tmp_path: Path, run: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    kept = out if name == "file" else out / "precious.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("precious")
    assert call(monkeypatch, run, "--out", out) == 1
    assert "name a" in capsys.readouterr().err
    assert kept.read_text() == "precious"


def test_a_bundle_that_stands_there_is_replaced(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    info = json.loads((copy / "bundle" / "bundle.json").read_text())
    (copy / "bundle" / "bundle.json").write_text(json.dumps({**info, "name": "old"}))
    assert call(monkeypatch, copy, "--out", copy / "bundle") == 0
    assert Bundle.load(copy).name == "copy"


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    code = f"""
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch())
sys.argv = ["callus", "export", {str(tmp_path)!r}, "--out", {str(tmp_path / "out")!r}]
import callus.cli
callus.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "callus: this verb needs torch, which is not installed: pip install 'callus[train]'"
    ]
