"""What an audit tells: each kind of leak, labels that disagree, odd or changed files; in JSON and page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from callus import radiograph
from callus.cli.app import app
from callus.dataset import build_manifest, read_manifest, write_manifest
from callus.dataset.audit import Audit, audit
from callus.dataset.changes import rotate
from callus.dataset.first_look import BEFORE, MEANWHILE
from callus.dataset.shelf import Shelf
from callus.dataset.simulated import simulate
from callus.dataset.split import check_groups, split
from callus.errors import DatasetError

ROOT = Path(__file__).parents[2]
FONT = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Eight different radiographs."""
    frame = simulate(tmp_path_factory.mktemp("simulated") / "set", 24, seed=9, size=(300, 260))
    return [radiograph.read(path).pixels for path in frame.drop_duplicates("patient")["path"].head(8)]


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def look(frame: pd.DataFrame, place: Path) -> Audit:
    with Shelf(place / "shelf.sqlite") as shelf:
        return audit(frame, shelf, 1)


def told(result: Audit) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(result.as_dict()))
    return content


@pytest.fixture
def listed(pictures: list[np.ndarray], tmp_path: Path) -> pd.DataFrame:
    """Six radiographs, nothing but their names and labels known; two in each of train, val and test."""
    for number, picture in enumerate(pictures[:6]):
        save(tmp_path / "set" / ("fractured" if number % 2 else "normal") / f"{number}.png", picture)
    frame = build_manifest(tmp_path / "set").sort_values("path", key=lambda paths: paths.str[-5:], ignore_index=True)
    return frame.assign(group="", radiograph="", split=["train", "train", "val", "val", "test", "test"])


@pytest.mark.parametrize("kind", ["study", "patient", "group"])
def test_what_crosses_splits_is_a_leak(listed: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    """Of a group as well, which training refuses."""
    listed.loc[[1, 2], kind] = "one"
    result = look(listed, tmp_path)
    assert told(result)["leaks"] == [{kind: "one", "paths": {"train": ["fractured/1.png"], "val": ["normal/2.png"]}}]
    with pytest.raises(DatasetError, match="groups cross the splits: 1 group, 2 files"):
        check_groups(result.frame)


def test_a_group_is_told_only_where_nothing_else_tells_that_it_crosses(listed: pd.DataFrame, tmp_path: Path) -> None:
    listed.loc[[0, 1, 2], "group"] = "block"
    listed.loc[[1, 2], "patient"] = "p"
    assert [set(leak) for leak in told(look(listed, tmp_path))["leaks"]] == [{"patient", "paths"}]
    listed.loc[4, "group"] = "block"  # the patient is not in "test"
    assert [set(leak) for leak in told(look(listed, tmp_path))["leaks"]] == [{"patient", "paths"}, {"group", "paths"}]


def test_a_manifest_of_ones_own_is_grouped_and_hashed(listed: pd.DataFrame, tmp_path: Path) -> None:
    """Patients, no groups, no hashes, and a copy that nobody listed as one."""
    frame = listed.assign(patient=["p1", "p1", "p2", "p2", "p3", "p3"], sha256="", split="")
    shutil.copy(frame.loc[0, "path"], frame.loc[2, "path"])
    save(Path(frame.loc[5, "path"]), rotate(radiograph.read(frame.loc[1, "path"]).pixels, np.random.default_rng(1)))
    frame["label"] = [0, 0, 0, 0, 0, 0]
    write_manifest(frame, tmp_path / "own.csv")
    result = look(read_manifest(tmp_path / "own.csv"), tmp_path)
    assert result.frame["sha256"].str.len().eq(64).all()
    assert result.copies() == {"byte_equal": 1, "near": 0, "rotated": 1}
    assert result.frame["group"].tolist() == ["patient:p1"] * 6


def test_patients_of_a_manifest_without_groups_are_not_torn(listed: pd.DataFrame, tmp_path: Path) -> None:
    frame = look(listed.assign(patient=["p1", "p1", "p2", "p2", "p3", "p3"], split=""), tmp_path).frame
    assert frame["group"].tolist() == ["patient:p1"] * 2 + ["patient:p2"] * 2 + ["patient:p3"] * 2
    parts = split(frame, test=0.3, val=0.3)
    assert len(parts.drop_duplicates(["patient", "split"])) == 3


def test_files_that_changed_since_the_manifest_was_made_are_not_judged(listed: pd.DataFrame, tmp_path: Path) -> None:
    shutil.copy(listed.loc[0, "path"], listed.loc[2, "path"])
    Path(listed.loc[3, "path"]).unlink()
    result = look(listed, tmp_path)
    content = told(result)
    assert {row["path"]: row["reason"] for row in content["unreadable"]} == {
        "normal/2.png": BEFORE,
        "fractured/3.png": content["unreadable"][1]["reason"],
    }
    assert any("changed or vanished, and not judged: 2 files: " in remark for remark in content["remarks"])
    assert (content["radiographs"], content["leaks"], content["duplicates"]["byte_equal"]) == (4, [], 0)
    assert result.frame.loc[[2, 3], "radiograph"].tolist() == ["", ""]
    assert result.frame.loc[2, "group"] != result.frame.loc[0, "group"]


def test_a_file_that_is_touched_meanwhile_is_judged_and_one_that_changes_is_not(
    listed: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callus.dataset import audit as module

    search = module.find_duplicates

    def meanwhile(*words: Any, **options: Any) -> Any:
        found = search(*words, **options)
        Path(listed.loc[0, "path"]).touch()
        shutil.copy(listed.loc[0, "path"], listed.loc[4, "path"])
        return found

    monkeypatch.setattr(module, "find_duplicates", meanwhile)
    assert told(look(listed, tmp_path))["unreadable"] == [{"path": "normal/4.png", "reason": MEANWHILE}]


@pytest.fixture
def odd(pictures: list[np.ndarray], tmp_path: Path) -> Path:
    """A table beside class folders, which it contradicts once; a tinted file, one with text, one without detail."""
    folder = tmp_path / "odd"
    for number, picture in enumerate(pictures[:4]):
        save(folder / "fractured" / f"{number}.png", picture)
    tinted = np.stack([pictures[4], pictures[4] // 2, pictures[4] // 3], axis=-1)
    save(folder / "normal" / "tinted.png", tinted)
    large = Image.fromarray(np.maximum(pictures[5] // 2, 20)).resize((800, 1000))
    ImageDraw.Draw(large).text((50, 40), "DOE JANE 1961-04-02", fill=255, font=ImageFont.truetype(FONT, 24))
    large.save(folder / "normal" / "named.png")
    save(folder / "normal" / "flat.png", np.tile(np.linspace(40, 200, 200).astype(np.uint8), (180, 1)))
    lines = [f"fractured/{number}.png,{int(number != 2)}" for number in range(4)]
    lines += [f"normal/{name}.png,0" for name in ("tinted", "named", "flat")]
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    return folder


def test_odd_files_and_labels_stand_in_json_and_page(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    answer = CliRunner().invoke(app, ["data", "audit", str(odd), "--out", str(tmp_path / "out"), "--threads", "1"])
    assert answer.exit_code == 0, answer.output
    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    page = (tmp_path / "out" / "audit.html").read_text()
    note = "labels disagree: the folder says fractured, labels.csv not fractured (taken)"
    assert content["disagreements"] == [{"path": "fractured/2.png", "note": note}]
    assert note in section(page, "Both labels")
    suspicious = {row["path"]: row["why"] for row in content["suspicious"]}
    assert any("has colour" in why for why in suspicious["normal/tinted.png"])
    assert 'alt="normal/tinted.png"' in section(page, "Suspicious files")
    assert {row["path"] for row in content["burnt_in_text"]} == {"normal/named.png"}
    assert all(row["width"] > row["height"] > 0 and row["y"] < 150 for row in content["burnt_in_text"])
    assert "normal/named.png" in section(page, "Suspicious files").partition("Text burnt into pictures")[2]
    assert content["not_compared"] == ["normal/flat.png"]
    assert "1 file with too little detail to be compared." in answer.output
    assert "1 file with too little detail to be compared." in page


def test_the_keys_are_those_that_the_docs_tell(odd: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8").partition("## audit.json")[2]
    rows = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    assert set(look(build_manifest(odd), tmp_path).as_dict()) == {
        key for row in rows for key in re.findall("`(.*?)`", row)
    }


def test_a_leak_is_shown_side_by_side(
    pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "cache"))
    for number, picture in enumerate(pictures[:3]):
        save(tmp_path / "set" / "train" / "fractured" / f"{number}.png", picture)
    save(tmp_path / "set" / "val" / "fractured" / "again.png", rotate(pictures[1], np.random.default_rng(3)))
    answer = CliRunner().invoke(app, ["data", "audit", str(tmp_path / "set"), "--out", str(tmp_path / "out")])
    assert answer.exit_code == 0, answer.output
    leaks = section((tmp_path / "out" / "audit.html").read_text(), "Leaks")
    assert re.findall('alt="(.*?)"', leaks) == ["train/fractured/1.png", "val/fractured/again.png"]
    assert "<b>train</b>" in leaks
    assert "<b>val</b>" in leaks


def section(page: str, title: str) -> str:
    """The part of a page under this heading."""
    return page.partition(f"<h2>{title}</h2>")[2].partition("<h2>")[0]
