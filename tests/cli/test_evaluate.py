from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle
from typer.testing import CliRunner

from callus.cli import app
from callus.dataset.manifest import read_manifest, write_manifest
from callus.dataset.simulated import simulate


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle and a split manifest."""
    folder = tmp_path_factory.mktemp("evaluate")
    tiny_bundle.write_tiny_bundle(folder / "model")
    frame = simulate(folder / "data", 10, seed=2, size=(96, 96))
    write_manifest(frame.assign(split=["test"] * 8 + ["val"] * 2), folder / "manifest.parquet")
    return folder


def command(place: Path, *more: str) -> list[str]:
    return ["evaluate", "--model", str(place / "model"), "--data", str(place / "manifest.parquet"), *more]


def test_prints_the_figures_and_where_the_page_lies(place: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, command(place, "--split", "test", "--out", str(tmp_path / "report")))
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tiny, split test: 8 labelled files")
    counts = metrics["figures"]["high_sensitivity"]["confusion"]
    row = next(line for line in lines if line.startswith("high sensitivity"))
    assert row.split()[-4:] == [str(counts[key]) for key in ("tp", "fn", "fp", "tn")]
    assert any("not a medical device" in line for line in lines)
    assert lines[-1] == f"page: {tmp_path / 'report' / 'report.html'}"


def test_files_that_cannot_be_read_are_told(place: Path, tmp_path: Path) -> None:
    frame = read_manifest(place / "manifest.parquet")
    (tmp_path / "broken.png").write_text("no picture")
    frame.loc[0, "path"] = str(tmp_path / "broken.png")
    write_manifest(frame, tmp_path / "m.parquet")
    arguments = ["--model", str(place / "model"), "--data", str(tmp_path / "m.parquet"), "--out", str(tmp_path / "r")]
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exit_code == 0, result.output
    assert "broken.png" in result.stderr
    assert result.stdout.startswith("tiny, split test: 7 labelled files")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--split", "exam"), "no row has the split 'exam'; expected one of test, val, all"),
        (("--split", "test", "--model", "nowhere"), "nowhere"),
    ],
)
def test_wrong_use_is_one_line_and_2(place: Path, tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    out = tmp_path / "report"
    run = [sys.executable, "-c", "from callus.cli import main; main()", *command(place, "--out", str(out), *more)]
    result = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_leaks_are_refused_unless_they_are_allowed(place: Path, tmp_path: Path) -> None:
    frame = read_manifest(place / "manifest.parquet")
    frame.loc[[0, 9], "group"] = "both"
    write_manifest(frame, tmp_path / "m.parquet")
    words = ["--model", str(place / "model"), "--data", str(tmp_path / "m.parquet"), "--out", str(tmp_path / "r")]
    run = [sys.executable, "-c", "from callus.cli import main; main()", "evaluate", *words]
    result = subprocess.run(run, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "both in test and val" in result.stderr
    assert "callus data split MANIFEST" in result.stderr
    assert not (tmp_path / "r").exists()
    allowed = CliRunner().invoke(app, ["evaluate", *words, "--allow-leaks"])
    assert allowed.exit_code == 0, allowed.output
    assert "warning: groups cross the splits: 1 group, 1 file; the figures are too good" in allowed.stderr


def test_no_torch_is_imported(place: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from callus.cli import app\n"
        f"app({command(place, '--out', str(tmp_path / 'report'))!r}, standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "report" / "report.html").exists()
