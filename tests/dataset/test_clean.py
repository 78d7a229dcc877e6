from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
import pytest

from callus.dataset import build_manifest, read_manifest, write_manifest
from callus.dataset.clean import clean, label_conflicts, set_aside
from callus.dataset.columns import COLUMNS, conform
from callus.dataset.simulated import simulate
from callus.errors import DatasetError
from callus.radiograph import read

if TYPE_CHECKING:
    from collections.abc import Callable


def manifest(*rows: dict[str, object]) -> pd.DataFrame:
    """Rows with a path, bytes and a size of their own, unless they say otherwise."""
    made = []
    for number, row in enumerate(rows):
        plain = {"path": f"/{number}.png", "sha256": f"bytes {number}", "width": 100, "height": 80, "label": 1}
        made.append(dict.fromkeys(COLUMNS, "") | plain | row)
    return conform(pd.DataFrame(made))


def kept(*rows: dict[str, object]) -> list[str]:
    """The names that cleaning keeps, of files that show one radiograph."""
    given, _ = clean(manifest(*({"radiograph": "same", **row} for row in rows)))
    return [Path(path).name for path in given["path"]]


def test_the_largest_file_is_kept() -> None:
    assert kept({"path": "/a.png"}, {"path": "/b.png", "width": 200}, {"path": "/c.png", "width": 150}) == ["b.png"]
    assert kept({"path": "/a.png"}, {"path": "/b-rotated1.png", "height": 81}) == ["b-rotated1.png"]


def test_of_equal_size_the_one_whose_name_tells_of_no_turning_is_kept() -> None:
    assert kept({"path": "/7-rotated1.png"}, {"path": "/7-rotated1-rotated2.png"}, {"path": "/8.png"}) == ["8.png"]


def test_then_the_one_with_fewer_notes_then_the_first_path() -> None:
    same = {"sha256": "same"}
    assert kept({"path": "/a.png", "note": "x; y", **same}, {"path": "/b.png", "note": "x", **same}) == ["b.png"]
    assert kept({"path": "/b.png", **same}, {"path": "/a.png", **same}) == ["a.png"]


def test_a_file_without_a_label_is_kept_only_where_none_has_one() -> None:
    assert kept({"path": "/a.png", "label": None, "width": 999}, {"path": "/b.png"}) == ["b.png"]
    assert kept({"path": "/a.png", "label": None, "width": 999}, {"path": "/b.png", "label": None}) == ["a.png"]


@pytest.mark.parametrize(("border", "value"), [(cv2.BORDER_CONSTANT, 0), (cv2.BORDER_REPLICATE, 0)])
def test_the_least_turned_file_is_kept(tmp_path: Path, border: int, value: int) -> None:
    """Names tell nothing: the pictures are looked at."""
    frame = simulate(tmp_path / "set", 6, seed=3)
    rows = []
    for number, path in enumerate(frame["path"]):
        pixels = np.asarray(read(path).pixels)
        height, width = pixels.shape
        for name, angle in (("a", 25), ("b", 0), ("c", 8)):
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
            out = tmp_path / f"{number}{name}.jpg"
            cv2.imwrite(str(out), cv2.warpAffine(pixels, matrix, (width, height), borderMode=border, borderValue=value))
            row = {"path": str(out), "width": width, "height": height, "radiograph": f"r{number}"}
            rows.append({**row, "label": number % 2})
    given, left = clean(manifest(*rows))
    assert [Path(path).name for path in given["path"]] == [f"{number}b.jpg" for number in range(6)]
    assert left.lines() == ["12 files beside a better one of 6 radiographs: " + _shown(left.copies["path"])]


@pytest.mark.parametrize("border", [cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE])
@pytest.mark.parametrize("angle", [12, 30, 45])
def test_a_canvas_that_grew_makes_no_file_larger(tmp_path: Path, border: int, angle: int) -> None:
    frame = simulate(tmp_path / "set", 4, seed=5)
    rows = []
    for number, path in enumerate(frame["path"]):
        pixels = np.asarray(read(path).pixels)
        height, width = pixels.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
        cosine, sine = abs(matrix[0, :2])
        size = int(height * sine + width * cosine), int(height * cosine + width * sine)
        matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
        grown = cv2.warpAffine(pixels, matrix, size, borderMode=border)
        half = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        for name, picture in (("a", grown), ("b", pixels), ("c", half)):
            out = tmp_path / f"{number}{name}.png"
            cv2.imwrite(str(out), picture)
            shape = {"width": picture.shape[1], "height": picture.shape[0]}
            rows.append({"path": str(out), **shape, "radiograph": f"r{number}", "label": number % 2})
    given, _ = clean(manifest(*rows))
    assert [Path(path).name for path in given["path"]] == [f"{number}b.png" for number in range(4)]


def test_a_turned_cut_out_of_a_picture_is_not_its_original(tmp_path: Path) -> None:
    """It lies turned in the larger one's frame, too, but there is more bone beside it."""
    for number, path in enumerate(simulate(tmp_path / "set", 4, seed=5)["path"]):
        pixels = np.asarray(read(path).pixels)
        height, width = pixels.shape
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 20, 1)
        turned = cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        cut = turned[height // 5 : -height // 5, width // 5 : -width // 5]
        rows = []
        for name, picture in ((f"{number}-whole", pixels), (f"{number}-cut", cut)):
            cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
            rows.append({"path": str(tmp_path / f"{name}.png"), "width": picture.shape[1], "height": picture.shape[0]})
        assert kept(*rows) == [f"{number}-whole.png"]


def test_a_larger_picture_is_kept_though_it_is_turned_a_little(tmp_path: Path) -> None:
    """Reducing loses more than a few cut corners do."""
    path = simulate(tmp_path / "set", 1, seed=5)["path"].iloc[0]
    pixels = np.asarray(read(path).pixels)
    height, width = pixels.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 6, 1)
    pictures = {
        "turned": cv2.warpAffine(pixels, matrix, (width, height)),
        "reduced": cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
    }
    rows = []
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        shape = {"width": picture.shape[1], "height": picture.shape[0]}
        rows.append({"path": str(tmp_path / f"{name}.png"), **shape})
    assert kept(*rows) == ["turned.png"]


def _shown(paths: pd.Series[str]) -> str:
    names = [f"{Path(path).parent.name}/{Path(path).name}" for path in paths]
    return f"{', '.join(names[:3])} and {len(names) - 3} more"


def test_a_copy_that_is_gone_is_not_the_best(draw: Callable[..., Path]) -> None:
    there = draw("b.png", size=(100, 80))
    assert kept({"path": str(there.with_name("a.png"))}, {"path": str(there)}) == ["b.png"]


def test_views_of_a_study_and_files_of_no_radiograph_all_stay() -> None:
    frame = manifest(
        {"radiograph": "front", "study": "s", "group": "p"}, {"radiograph": "side", "study": "s", "group": "p"}, {}, {}
    )
    given, left = clean(frame)
    pd.testing.assert_frame_equal(given, frame)
    assert left.lines() == []


def test_equal_bytes_are_one_radiograph_where_none_is_named() -> None:
    given, _ = clean(manifest({"sha256": "x"}, {"sha256": "x"}, {"sha256": ""}, {"sha256": ""}))
    assert given["path"].tolist() == ["/0.png", "/2.png", "/3.png"]


def test_conflicts_and_unreadable_files_go_and_are_counted() -> None:
    frame = manifest(
        {"radiograph": "both", "label": 0},
        {"radiograph": "both", "label": 1},
        {"radiograph": "both", "label": None},
        {"radiograph": "good", "split": "train"},
        {"radiograph": "good", "split": "val", "width": 50},
        {"note": "unreadable: it is text"},
        {"radiograph": "unknown", "label": None},
    )
    before = frame.copy(deep=True)
    assert label_conflicts(frame).tolist() == [True] * 3 + [False] * 4
    given, left = clean(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert given["path"].tolist() == ["/3.png", "/6.png"]
    assert given["split"].tolist() == ["train", ""]
    assert list(given.index) == [0, 1]
    assert (len(left.unreadable), len(left.conflicts), len(left.copies)) == (1, 3, 1)
    assert left.lines() == [
        "1 file that cannot be read: /5.png",
        "3 files of 1 radiograph with both labels: /0.png, /1.png, /2.png",
        "1 file beside a better one of 1 radiograph: /4.png",
    ]
    assert set_aside(frame) == [*left.lines()[:2], "1 file without a label: /6.png"]
    again, nothing = clean(given)
    pd.testing.assert_frame_equal(again, given)
    assert nothing.lines() == []


def test_nothing_left_is_an_error() -> None:
    frame = manifest(
        {"radiograph": "a", "label": 0}, {"radiograph": "a", "label": 1}, {"note": "unreadable: it is text"}
    )
    with pytest.raises(
        DatasetError, match="nothing is left of 3 files: 1 cannot be read, 2 are of radiographs with both"
    ):
        clean(frame)


def test_a_clean_manifest_is_a_manifest(draw: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("fractured/7.png", "fractured/7-rotated1.png", "normal/1.png"):
        draw(f"set/{name}")
    given, _ = clean(build_manifest(tmp_path / "set"))
    write_manifest(given, tmp_path / "clean.parquet")
    assert [Path(path).name for path in read_manifest(tmp_path / "clean.parquet")["path"]] == ["7.png", "1.png"]


def test_bonedata_comes_down_to_its_originals(bonedata: Path) -> None:
    frame = build_manifest(bonedata / "Data" / "val")
    given, left = clean(frame)
    assert (len(frame), len(given), len(left.copies)) == (600, 13, 587)
    assert not given["path"].str.contains("rotated").any()
