from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from callus.cli import main
from callus.dataset import UNSEEN_COPIES, build_manifest, read_manifest, write_manifest
from callus.dataset.split import check_groups

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

UNSEEN = f"note: {UNSEEN_COPIES}"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; give exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["callus", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def radiographs(tmp_path: Path) -> Path:
    """Eight pictures a class, and a text file that is called .png."""
    noise = np.random.default_rng(0)
    for folder in ("fractured", "not fractured"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(noise.integers(0, 256, (20, 30), np.uint8)).save(
                tmp_path / "set" / folder / f"{number}.png"
            )
    (tmp_path / "set" / "fractured" / "bad.png").write_text("this is text")
    return tmp_path / "set"


def test_manifest(run: Run, radiographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.parquet"
    code, printed, errors = run("data", "manifest", radiographs, "--out", out)
    assert (code, errors) == (0, "")
    lines = dict(line.rsplit(maxsplit=1) for line in printed.splitlines()[:9])
    assert lines == {
        "source": "folder",
        "files": "17",
        "unreadable": "1",
        "radiographs": "16",
        "groups": "17",
        "fractured": "9",
        "not fractured": "8",
        "without label": "0",
        "boxes": "0",
    }
    assert "note: bad.png: unreadable: " in printed
    assert len(read_manifest(out)) == 17


def test_manifest_with_names_of_ones_own(run: Run, radiographs: Path, tmp_path: Path) -> None:
    (radiographs / "fractured").rename(radiographs / "cracked")
    code, _, errors = run("data", "manifest", radiographs, "--out", tmp_path / "m.csv")
    assert code == 2
    assert "name no class: 'cracked' (9)" in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "m.csv").exists()
    code, _, _ = run("data", "manifest", radiographs, "--out", tmp_path / "m.csv", "--positive", "cracked")
    assert code == 0
    assert read_manifest(tmp_path / "m.csv")["label"].sum() == 9


def test_a_wrong_ending_is_refused_before_the_work(run: Run, tmp_path: Path) -> None:
    code, _, errors = run("data", "manifest", tmp_path / "nowhere", "--out", tmp_path / "m.xlsx")
    assert code == 2
    assert "ends in .parquet or .csv" in errors


@pytest.mark.parametrize("place", ["file/deeper", "taken"])
def test_an_audits_place_is_tried_before_the_work(
    run: Run, radiographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "taken" / "audit.html").mkdir(parents=True)
    monkeypatch.setattr("callus.dataset.load", lambda *_: pytest.fail("the work was begun"))
    code, printed, errors = run("data", "audit", radiographs, "--out", tmp_path / place)
    assert (code, printed) == (1, "")
    assert f"{tmp_path / place}: cannot be written: " in errors
    assert errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "set", "taken"]


def test_an_audit_that_cannot_finish_leaves_the_former_one_whole(
    run: Run, radiographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert run("data", "audit", radiographs, "--out", out)[0] == 0
    (out / "split.parquet").write_text("of one's own")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (radiographs / "fractured" / "1.png").unlink()
    monkeypatch.setattr("callus.report.audit_page.audit_page", lambda *_: "\ud800")  # cannot be written as UTF-8
    with pytest.raises(UnicodeEncodeError):
        run("data", "audit", radiographs, "--out", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_audit_takes_any_folder(
    run: Run, radiographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    (radiographs / "fractured").rename(radiographs / "cracked")
    out = tmp_path / "out"
    code, printed, errors = run("data", "audit", radiographs, "--out", out)
    assert (code, errors) == (0, "")
    assert "9 pictures lie in folders that name no class: they have no label: 'cracked' (9)" in printed.splitlines()
    assert read_manifest(out / "manifest.parquet")["label"].isna().sum() == 9
    names = ("--positive", "cracked", "--negative", "not fractured")
    assert run("data", "audit", radiographs, "--out", out, *names)[0] == 0
    assert read_manifest(out / "manifest.parquet")["label"].sum() == 9
    code, _, errors = run("data", "audit", out / "manifest.parquet", "--out", out, *names)
    assert code == 2
    assert "names of classes belong to a folder" in errors


def test_names_are_printed_on_one_line_each(
    run: Run, radiographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    (radiographs / "fractured" / "bad.png").rename(radiographs / "fractured" / "line\nbreak \x1b[31m.png")
    for words in (("manifest",), ("split", "--val", "0"), ("clean",)):
        code, printed, _ = run("data", words[0], radiographs, "--out", tmp_path / f"{words[0]}.csv", *words[1:])
        assert code == 0
        assert "line\\nbreak \\x1b[31m.png" in printed
        assert "\x1b" not in printed
    code, _, errors = run("data", "manifest", tmp_path / "no\nsuch", "--out", tmp_path / "m.csv")
    assert code == 2
    assert errors.count("\n") == 1


def test_threads_are_for_reading_too(
    run: Run, radiographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callus.dataset import build

    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    counts: list[int] = []

    class Counting(build.ThreadPoolExecutor):
        def __init__(self, count: int) -> None:
            counts.append(count)
            super().__init__(count)

    monkeypatch.setattr(build, "ThreadPoolExecutor", Counting)
    assert run("data", "audit", radiographs, "--out", tmp_path / "out", "--threads", 3)[0] == 0
    assert counts == [3]


def test_a_place_that_cannot_be_written(run: Run, radiographs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, _, errors = run("data", "manifest", radiographs, "--out", tmp_path / "file" / "m.csv")
    assert code == 1
    assert "cannot be written" in errors


def test_split(run: Run, radiographs: Path, tmp_path: Path) -> None:
    code, printed, _ = run("data", "split", radiographs, "--out", tmp_path / "s.csv", "--test", "0.25", "--val", "0.25")
    assert code == 0
    assert "1 files are in no part:\n  1 file that cannot be read: fractured/bad.png\n" in printed
    frame = read_manifest(tmp_path / "s.csv")
    check_groups(frame)
    assert frame["split"].value_counts().to_dict() == {"train": 8, "test": 4, "val": 4, "": 1}
    assert UNSEEN in printed.splitlines()
    code, printed, _ = run("data", "split", tmp_path / "s.csv", "--out", tmp_path / "f.parquet", "--folds", "4")
    assert code == 0
    assert printed.splitlines()[1].split() == ["fold0", "4", "4", "2", "(50%)"]
    assert UNSEEN not in printed.splitlines()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--folds", "3", "--test", "0.2"), "--folds makes folds"),
        (("--folds", "9"), "too few"),
        (("--val", "1"), "leave"),
    ],
)
def test_split_wrong_use(run: Run, radiographs: Path, tmp_path: Path, options: tuple[str, ...], expected: str) -> None:
    code, _, errors = run("data", "split", radiographs, "--out", tmp_path / "s.csv", *options)
    assert code == 2
    assert expected in errors
    assert not (tmp_path / "s.csv").exists()


def test_split_says_what_it_puts_aside(run: Run, radiographs: Path, tmp_path: Path) -> None:
    frame = build_manifest(radiographs)
    frame["radiograph"] = frame["radiograph"].mask(frame["path"].str.endswith(("0.png", "1.png")), "same")
    frame.loc[frame["path"].str.endswith("not fractured/7.png"), "label"] = pd.NA
    write_manifest(frame, tmp_path / "m.parquet")
    code, printed, errors = run("data", "split", tmp_path / "m.parquet", "--out", tmp_path / "s.parquet")
    assert (code, errors) == (0, "")
    assert printed.splitlines()[-6:-1] == [
        "6 files are in no part:",
        "  1 file that cannot be read: fractured/bad.png",
        "  4 files of 1 radiograph with both labels: fractured/0.png, fractured/1.png, not fractured/0.png and 1 more",
        "  1 file without a label: not fractured/7.png",
        UNSEEN,
    ]
    assert (read_manifest(tmp_path / "s.parquet")["split"] == "").sum() == 6


def test_clean(run: Run, radiographs: Path, tmp_path: Path) -> None:
    shutil.copy(radiographs / "fractured" / "0.png", radiographs / "fractured" / "0-rotated1.png")
    shutil.copy(radiographs / "fractured" / "1.png", radiographs / "not fractured" / "1.png")
    before = {path: path.read_bytes() for path in radiographs.rglob("*.png")}
    code, printed, errors = run("data", "clean", radiographs, "--out", tmp_path / "clean.csv")
    assert (code, errors) == (0, "")
    assert printed.splitlines() == [
        "files           18",
        "kept            14",
        "left out: 1 file that cannot be read: fractured/bad.png",
        "left out: 2 files of 1 radiograph with both labels: fractured/1.png, not fractured/1.png",
        "left out: 1 file beside a better one of 1 radiograph: fractured/0-rotated1.png",
        UNSEEN,
        f"wrote {tmp_path / 'clean.csv'}",
    ]
    assert len(read_manifest(tmp_path / "clean.csv")) == 14
    assert {path: path.read_bytes() for path in radiographs.rglob("*.png")} == before
    written = (tmp_path / "clean.csv").read_bytes()
    code, _, errors = run("data", "clean", tmp_path / "clean.csv", "--out", tmp_path / "clean.csv")
    assert code == 2
    assert "is the manifest itself" in errors
    assert (tmp_path / "clean.csv").read_bytes() == written


def test_fetch_says_the_licence_and_asks(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    code, printed, errors = run("data", "fetch", "fracatlas", "--out", tmp_path)
    assert code == 1
    assert printed == ""
    assert "CC BY 4.0" in errors
    assert "--accept-licence" in errors
    code, _, errors = run("data", "fetch", "mura", "--out", tmp_path)
    assert code == 1
    assert "ask for it at https://" in errors
    assert list(tmp_path.iterdir()) == []


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['callus', 'data', 'manifest', '--help']; from callus.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'pandas', 'cv2', 'torch', 'pooch', 'pyarrow'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "callus data manifest radiographs/ --out manifest.parquet\n" in answer.stdout
    assert answer.stdout.endswith("[]\n")
