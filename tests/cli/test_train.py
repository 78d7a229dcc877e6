"""Wrong use of ``callus train``: one line, exit code 2, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callus.cli import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "{tmp}/nothing"], "there is no such folder or manifest"),
        (["--data", "{tmp}/empty", "--weights", "none"], "empty"),
        (["--data", "{tmp}/empty", "--fold", "1/2"], "--fold is '1/2'"),
        (["--data", "{tmp}/empty", "--set", "frozen.epoch=3"], "no frozen.epoch"),
        (["--data", "{tmp}/empty", "--set", "frozen.epochs"], "expected section.key=value"),
        (["--data", "{tmp}/empty", "--cache-limit", "much"], "--cache-limit is 'much'"),
        (["--data", "{tmp}/empty", "--recipe", "nobody"], "one of: callus, demo, radiograph, seed"),
        (["--data", "{tmp}/empty", "--weights", "{tmp}/none.h5"], "there is no such weights file"),
        (["--data", "{tmp}/empty", "--trunk", "vgg"], "trunk.name is 'vgg'"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "run"
    given = [word.replace("{tmp}", str(tmp_path)) for word in words]
    monkeypatch.setattr(sys, "argv", ["callus", "train", *given, "--out", str(out)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("callus: ")
    assert said in lines[0]
    assert not out.exists()


def test_a_split_that_groups_cross_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that brings a split which tears copies of one radiograph apart, as public data sets do."""
    noise = np.random.default_rng(0)
    for label in ("fractured", "not fractured"):
        for name in ("train/7", "train/7-rotated1", "train/8", "val/7-rotated2", "val/9"):
            part, stem = name.split("/")
            path = tmp_path / "data" / part / label / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (40, 40), np.uint8)).save(path)
    words = ["--data", str(tmp_path / "data"), "--weights", "none", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["callus", "train", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        f"callus: {tmp_path / 'data'}: groups cross the splits: 2 groups, 6 files "
        "(block:fractured/7 in train and val, block:not fractured/7 in train and val); split anew with: "
        "callus data split MANIFEST --out FILE, or go on with --allow-leaks: every result then says so\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["train", "demo"])
def test_without_torch_it_says_what_to_install(tmp_path: Path, verb: str) -> None:
    (tmp_path / "data").mkdir()
    words = ["callus", verb, "--out", str(tmp_path / "out")]
    words += ["--data", str(tmp_path / "data")] if verb == "train" else []
    code = f"""
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch())
sys.argv = {words!r}
import callus.cli
callus.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "callus: this verb needs torch, which is not installed: pip install 'callus[train]'"
    ]
    assert not (tmp_path / "out").exists()
