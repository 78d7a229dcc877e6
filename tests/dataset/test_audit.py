"""An audit of a folder whose faults are known, and its page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ctrl_c import HEED_CTRL_C
from PIL import Image
from typer.testing import CliRunner

from callus import radiograph
from callus.cli.app import app
from callus.dataset.audit import audit
from callus.dataset.changes import rotate
from callus.dataset.columns import conform
from callus.dataset.first_look import MEANWHILE
from callus.dataset.manifest import read_manifest
from callus.dataset.shelf import Shelf
from callus.dataset.simulated import simulate
from callus.dataset.split import check_groups, split
from callus.errors import DatasetError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders in splits: a leak by a rotated copy, a conflict, a byte-equal copy, a broken and an empty file."""
    frame = simulate(tmp_path_factory.mktemp("simulated") / "set", 40, seed=9, size=(300, 260))
    first = frame.drop_duplicates("patient")
    pictures = [radiograph.read(path).pixels for path in first["path"].head(14)]
    root = tmp_path_factory.mktemp("audited") / "bones"
    generator = np.random.default_rng(0)

    def save(name: str, picture: np.ndarray) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)

    for number, picture in enumerate(pictures[:8]):
        save(f"train/{'fractured' if number % 2 else 'not fractured'}/{number}.png", picture)
    for number, picture in enumerate(pictures[8:14]):
        save(f"val/{'fractured' if number % 2 else 'not fractured'}/v{number}.png", picture)
    save("val/fractured/leak.jpg", rotate(pictures[1], generator))
    save("train/fractured/conflict.png", rotate(pictures[2], generator))
    shutil.copy(root / "train/fractured/3.png", root / "train/fractured/3 again.png")
    (root / "train/fractured/broken.png").write_bytes((root / "train/fractured/3.png").read_bytes()[:40])
    (root / "train/fractured/empty.png").write_bytes(b"")
    return root


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def audited(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "audit"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALLUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        answer = run("data", "audit", folder, "--out", out)
    assert answer.exit_code == 0, answer.output
    assert "1 leak: figures measured on these splits are too good." in answer.output
    return out


def test_what_is_wrong_is_told(audited: Path) -> None:
    told = json.loads((audited / "audit.json").read_text())
    assert told["files"] == 19
    assert sorted(row["path"] for row in told["unreadable"]) == [
        "train/fractured/broken.png",
        "train/fractured/empty.png",
    ]
    assert all(row["reason"] for row in told["unreadable"])
    assert told["radiographs"] == 14
    assert told["splits"]["train"] == {"files": 10, "radiographs": 8, "groups": 8, "fractured": 5}
    assert told["splits"]["val"]["files"] == 7
    (leak,) = told["leaks"]
    assert leak["paths"] == {"train": ["train/fractured/1.png"], "val": ["val/fractured/leak.jpg"]}
    assert leak["radiograph"] in ("train/fractured/1.png", "val/fractured/leak.jpg")
    (conflict,) = told["label_conflicts"]
    assert conflict["paths"] == ["train/fractured/conflict.png", "train/not fractured/2.png"]
    assert told["duplicates"] == {"byte_equal": 1, "near": 0, "rotated": 2}


def test_the_manifest_joins_what_shows_the_same(audited: Path, folder: Path) -> None:
    frame = read_manifest(audited / "manifest.parquet").set_index("path")
    same = [str(folder / "train/fractured/1.png"), str(folder / "val/fractured/leak.jpg")]
    assert frame.loc[same, "radiograph"].nunique() == frame.loc[same, "group"].nunique() == 1
    assert frame.loc[str(folder / "train/fractured/empty.png"), "radiograph"] == ""
    with pytest.raises(DatasetError, match="split"):
        check_groups(frame.reset_index())
    check_groups(split(frame.reset_index(), test=0.3, val=0.0))


def test_an_audit_of_its_own_manifest_says_the_same(
    audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    assert run("data", "audit", audited / "manifest.parquet", "--out", tmp_path / "again").exit_code == 0
    first, second = (json.loads((place / "audit.json").read_text()) for place in (audited, tmp_path / "again"))
    assert {**first, "remarks": []} == {**second, "remarks": []}


def test_the_page_is_one_file_with_the_pictures_side_by_side(audited: Path) -> None:
    class Sources(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.sources: list[str] = []
            self.alternatives: list[str] = []

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            values = dict(attributes)
            if tag == "img":
                self.sources.append(values.get("src") or "")
                self.alternatives.append(values.get("alt") or "")
            assert tag not in ("script", "iframe")

    text = (audited / "audit.html").read_text()
    page = Sources()
    page.feed(text)
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert {"train/fractured/1.png", "val/fractured/leak.jpg", "train/fractured/conflict.png"} <= set(page.alternatives)
    assert "research and education, not a medical device" in text
    assert "http" not in text.replace("http-equiv", "")


@pytest.fixture
def two_views(tmp_path: Path) -> pd.DataFrame:
    """Three patients of two views in one study each, a view in train and one in test."""
    frame = conform(simulate(tmp_path / "views", 30, seed=9, size=(300, 260)))
    several = frame[frame.groupby("patient")["path"].transform("size") >= 2]
    rows = several.groupby("patient").head(2).head(6).reset_index(drop=True)
    split = pd.Series(["train", "test"] * 3, dtype="str")
    return rows.assign(split=split, study="study of " + rows["patient"], group=rows["patient"])


def found(frame: pd.DataFrame, tmp_path: Path) -> dict[str, Any]:
    with Shelf(tmp_path / "shelf") as shelf:
        return audit(frame, shelf).as_dict()


def test_a_patient_in_two_splits_is_told_as_one(two_views: pd.DataFrame, tmp_path: Path) -> None:
    """The study, which has the same files, adds nothing."""
    leaks = found(two_views, tmp_path)["leaks"]
    assert sorted(leak["patient"] for leak in leaks) == sorted(set(two_views["patient"]))
    assert all(set(leak) == {"patient", "paths"} and set(leak["paths"]) == {"train", "test"} for leak in leaks)


def test_a_patient_whose_files_leak_with_those_of_others_is_told_too(two_views: pd.DataFrame, tmp_path: Path) -> None:
    """Each of the first patient's views is copied into the other split, under a patient of its own."""
    copies = two_views.head(2).copy()
    for row, path in copies["path"].items():
        copy = tmp_path / f"copy-{row}.png"
        Image.open(path).save(copy)
        copies.loc[row, "path"] = str(copy)
    copies = copies.assign(patient=["x", "y"], study=["x", "y"], group=["x", "y"], split=["test", "train"], sha256="")
    leaks = found(pd.concat([two_views, copies.assign(radiograph="")], ignore_index=True), tmp_path)["leaks"]
    assert len([leak for leak in leaks if "radiograph" in leak]) == 2
    assert two_views["patient"].iloc[0] in [leak.get("patient") for leak in leaks]


def test_paths_are_relative_to_the_folder_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    frame = simulate(tmp_path / "simulated", 6, seed=3, size=(300, 260))
    for path, label in zip(frame["path"], frame["label"], strict=True):
        folder = tmp_path / "bones" / "images" / ("fractured" if label else "normal")
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.open(path)
        picture.save(folder / Path(path).name)
        picture.rotate(90, expand=True).save(folder / f"quarter-{Path(path).name}")
    answer = run("data", "audit", tmp_path / "bones", "--out", tmp_path / "out")
    assert answer.exit_code == 0, answer.output
    told = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert told["root"] == str(tmp_path / "bones")
    assert (told["files"], told["duplicates"]) == (12, {"byte_equal": 0, "near": 0, "rotated": 6})
    manifest = read_manifest(tmp_path / "out" / "manifest.parquet")
    assert all((Path(told["root"]) / name).is_file() for name in manifest["radiograph"])


def test_nothing_to_audit_is_told(tmp_path: Path) -> None:
    answer = run("data", "audit", tmp_path, "--out", tmp_path / "out")
    assert isinstance(answer.exception, DatasetError)
    assert not (tmp_path / "out").exists()


def test_a_hostile_folder_that_changes_meanwhile_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth is broken, links loop, names are odd, and files vanish or become others between reading and comparing."""
    from callus.dataset import audit as module

    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    frame = simulate(tmp_path / "set", 60, seed=9, size=(220, 200))
    root = tmp_path / "bones"
    (root / "fractured").mkdir(parents=True)
    (root / "normal").mkdir()
    for number, path in enumerate(frame.drop_duplicates("patient")["path"].head(28)):
        shutil.copy(path, root / ("fractured" if number % 2 else "normal") / f"{number}.png")
    shutil.copy(root / "normal" / "0.png", root / "normal" / "line\nbreak.png")
    shutil.copy(root / "normal" / "0.png", root / "normal" / "LINE\nBREAK.png")
    for number, content in enumerate((b"", b"no picture", (root / "normal" / "2.png").read_bytes()[:40])):
        (root / "normal" / f"broken {number}.png").write_bytes(content)
    (root / "normal" / os.fsdecode(b"\xff\xfe.png")).write_bytes((root / "normal" / "2.png").read_bytes())
    (root / "normal" / "up").symlink_to(root, target_is_directory=True)
    (root / "normal" / "nowhere.png").symlink_to(root / "none.png")
    search = module.find_duplicates

    def meanwhile(*words: Any, **options: Any) -> Any:
        (root / "fractured" / "1.png").unlink()
        shutil.copy(root / "fractured" / "5.png", root / "fractured" / "3.png")
        return search(*words, **options)

    monkeypatch.setattr(module, "find_duplicates", meanwhile)
    answer = run("data", "audit", root, "--out", tmp_path / "out")
    assert answer.exit_code == 0, answer.output
    assert "Traceback" not in answer.output
    told = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert told["files"] == 28 + 2 + 3 + 1  # the one whose name is no UTF-8 is a remark: a manifest cannot name it
    broken = {f"normal/broken {number}.png" for number in range(3)}
    reasons = {row["path"]: row["reason"] for row in told["unreadable"]}
    assert set(reasons) == broken | {"normal/nowhere.png", "fractured/1.png", "fractured/3.png"}
    assert all(reasons.values())
    assert reasons["fractured/1.png"] == reasons["fractured/3.png"] == MEANWHILE
    assert "changed or vanished, and not judged: 2 files: fractured/1.png, fractured/3.png" in told["remarks"]
    assert any("not UTF-8" in remark for remark in told["remarks"])
    assert any("listed already" in remark for remark in told["remarks"])
    assert (told["radiographs"], told["duplicates"]["byte_equal"], told["label_conflicts"]) == (26, 2, [])
    manifest = read_manifest(tmp_path / "out" / "manifest.parquet")
    together = manifest[manifest["radiograph"] != ""].groupby("radiograph")["path"].apply(set)
    (copies,) = [paths for paths in together if len(paths) > 1]
    assert {Path(path).name for path in copies} == {"0.png", "line\nbreak.png", "LINE\nBREAK.png"}


@pytest.mark.parametrize(("files", "side", "threads"), [(120, 700, 1), (1100, 144, 2)], ids=["threads", "processes"])
def test_ctrl_c_leaves_nothing_half_written_and_the_same_command_goes_on(
    tmp_path: Path, files: int, side: int, threads: int
) -> None:
    generator = np.random.default_rng(4)
    (tmp_path / "in").mkdir()
    for number in range(files):
        coarse = generator.integers(0, 256, (side // 18, side // 18), np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(tmp_path / "in" / f"{number}.png")
    code = HEED_CTRL_C + "from callus.cli import main; main()"
    words = [sys.executable, "-c", code, "data", "audit", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    env = {**os.environ, "CALLUS_CACHE": str(tmp_path / "cache")}
    run = subprocess.Popen(
        [*words, "--threads", str(threads)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )
    shelf = tmp_path / "cache" / "descriptions.sqlite"
    deadline = time.monotonic() + 120
    while not _kept(shelf) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: its workers get it too
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, ""), err
    assert err.splitlines()[-1].startswith("callus: stopped")
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    assert 0 < _kept(shelf) < files
    answer = subprocess.run(words, capture_output=True, text=True, env=env, check=False, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert f"{files:,} files that can be read show {files:,} radiographs." in answer.stdout


def _kept(shelf: Path) -> int:
    """How many descriptions are on disk; they get there every two seconds."""
    if not shelf.exists():
        return 0
    with closing(sqlite3.connect(shelf, timeout=30)) as database:
        try:
            return int(database.execute("SELECT count(*) FROM descriptions").fetchone()[0])
        except sqlite3.OperationalError:  # its table is not made yet
            return 0
