from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import callus
from callus.errors import CallusError, RadiographError
from callus.identify import Finding
from callus.labels import RESEARCH_ONLY
from callus.metrics.boxes import Box
from callus.results.tables import COLUMNS, as_row, csv_writer, json_writer, write_csv, write_json

if TYPE_CHECKING:
    from pathlib import Path

FINDING = Finding(
    path="a.png",
    probability=0.75,
    level="fracture",
    boxes=(Box(1.0, 2.0, 3.0, 4.0, 0.5),),
    map=np.zeros((2, 2), np.float32),
    map_to_original=np.eye(2, 3),
    cautions=("too small: 1 x 1",),
    model="tiny",
    engine="onnx-float32",
    logit=1.1,
    features=np.zeros(3, np.float32),
    shape=(100, 200),
    distance=0.5,
    views=("mirror",),
)
ERROR = RadiographError("is not an image", where="b.png", hint="export it again")
ROWS = [as_row("a.png", FINDING, "out/a.png"), as_row("b.png", ERROR)]


def test_json_has_the_documented_form(tmp_path: Path) -> None:
    write_json(tmp_path / "f.json", ROWS, "tiny")
    assert json.loads((tmp_path / "f.json").read_text()) == {
        "callus": callus.__version__,
        "model": "tiny",
        "research_only": RESEARCH_ONLY,
        "findings": [
            {
                "path": "a.png",
                "probability": 0.75,
                "level": "fracture",
                "boxes": [{"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "score": 0.5}],
                "cautions": ["too small: 1 x 1"],
                "map": "out/a.png",
                "model": "tiny",
                "engine": "onnx-float32",
                "views": ["mirror"],
                "distance": 0.5,
                "height": 100,
                "width": 200,
                "error": None,
            },
            {
                "path": "b.png",
                "probability": None,
                "level": None,
                "boxes": [],
                "cautions": [],
                "map": None,
                "model": None,
                "engine": None,
                "views": [],
                "distance": None,
                "height": None,
                "width": None,
                "error": "is not an image; export it again",
            },
        ],
    }


def test_csv_has_the_documented_columns(tmp_path: Path) -> None:
    write_csv(tmp_path / "f.csv", ROWS)
    with (tmp_path / "f.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    assert json.loads(rows[0]["boxes"]) == ROWS[0]["boxes"]
    assert json.loads(rows[0]["cautions"]) == ["too small: 1 x 1"]
    assert json.loads(rows[0]["views"]) == ["mirror"]
    assert (rows[0]["probability"], rows[0]["level"], rows[0]["error"]) == ("0.75", "fracture", "")
    assert (rows[1]["probability"], rows[1]["boxes"]) == ("", "[]")
    assert rows[1]["error"] == "is not an image; export it again"
    assert {row["research_only"] for row in rows} == {RESEARCH_ONLY}


def test_nothing_found_is_still_a_table(tmp_path: Path) -> None:
    write_json(tmp_path / "f.json", [], "tiny")
    write_csv(tmp_path / "f.csv", [])
    assert json.loads((tmp_path / "f.json").read_text())["findings"] == []
    assert (tmp_path / "f.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_a_formula_in_a_file_name_stays_text(tmp_path: Path) -> None:
    write_csv(tmp_path / "f.csv", [as_row("=HYPERLINK(1).png", FINDING)])
    assert "\n'=HYPERLINK" in (tmp_path / "f.csv").read_text()


def test_a_name_that_is_not_utf8_stops_nothing(tmp_path: Path) -> None:
    rows = [as_row("bad\udcff.png", FINDING)]
    write_json(tmp_path / "f.json", rows, "tiny")
    write_csv(tmp_path / "f.csv", rows)
    assert json.loads((tmp_path / "f.json").read_text())["findings"][0]["path"] == "bad\\udcff.png"


@pytest.mark.parametrize("writer", [lambda file: json_writer(file, "tiny"), csv_writer])
def test_it_appears_whole_or_not_at_all(tmp_path: Path, writer: object) -> None:
    def broken() -> None:
        with writer(tmp_path / "f") as write:  # type: ignore[operator]
            write(ROWS[0])
            assert not (tmp_path / "f").exists()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CallusError, match="cannot be written"):
        write_json(tmp_path / "file" / "f.json", [], "tiny")
