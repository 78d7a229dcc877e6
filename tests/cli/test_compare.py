from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle
from typer.testing import CliRunner

from callus.cli import app, main
from callus.dataset.simulated import simulate
from callus.report import evaluate


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations a and b of one data set by two models."""
    folder = tmp_path_factory.mktemp("compare")
    frame = simulate(folder / "data", 12, seed=2, size=(96, 96)).assign(split="test")
    for name in "ab":
        model = tiny_bundle.write_tiny_bundle(folder / "models" / name, name=f"tiny-{name}")
        evaluate(model, frame.iloc[:-1] if name == "b" else frame, "test", folder / name, pictures=0)
    return folder


def command(place: Path, *more: str) -> list[str]:
    return ["compare", str(place / "a"), str(place / "b"), *more]


def test_prints_what_came_out_and_where_the_page_lies(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, command(place, "--out", str(out), "--aggregate", "max", "--prevalence", "0.2"))
    assert result.exit_code == 0, result.output
    numbers = json.loads((out / "comparison.json").read_text())
    lines = result.stdout.splitlines()
    assert lines[0] == f"A is tiny-a, evaluated in {place / 'a'}. B is tiny-b, evaluated in {place / 'b'}."
    auroc = numbers["figures"]["at_0.5"]["auroc"]
    row = next(line for line in lines if line.startswith("AUROC"))
    assert row.split()[1:4] == [f"{auroc['a']:.3f}", f"{auroc['b']:.3f}", f"{auroc['difference']:+.3f}"]
    assert sum(line.startswith(("sensitivity", "specificity")) for line in lines) == 6
    assert "The p values are not adjusted for how many they are." in lines
    assert any("not a medical device" in line for line in lines)
    assert lines[-1] == f"page: {out / 'comparison.html'}"
    assert "warning: 1 file only in A (" in result.stderr
    assert numbers["radiographs"]["aggregate"] == "max"
    assert numbers["prevalence"] == 0.2
    assert "ppv_at_prevalence" in numbers["figures"]["at_0.5"]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--prevalence", "2"), 2, "the prevalence is 2.0; expected more than 0 and less than 1"),
        (("--out", "models"), 1, "models: holds 'a', which no comparison wrote"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.argv", ["callus", *command(place, "--out", str(tmp_path / "out"), *more)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == code
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_an_evaluation_is_2_and_no_torch_is_imported(place: Path, tmp_path: Path) -> None:
    words = ["callus", "compare", str(place / "a"), str(tmp_path), "--out", str(tmp_path / "out")]
    code = (
        "import sys\nfrom callus.cli import main\n"
        f"sys.argv = {words!r}\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        f"callus: {tmp_path / 'metrics.json'}: is missing: there is no evaluation; "
        "name a folder that callus evaluate wrote\n"
    )
