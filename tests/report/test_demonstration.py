from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tiny_bundle
from PIL import Image

from callus.dataset.simulated import simulate
from callus.labels import RESEARCH_ONLY
from callus.report import evaluate
from callus.report.demonstration import Step, examples, identify_examples, split_table, write_page

if TYPE_CHECKING:
    import pandas as pd


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Simulated radiographs; every third patient is tested on."""
    made = simulate(tmp_path_factory.mktemp("demo") / "data", 24, seed=5, size=(128, 112))
    number = {patient: index for index, patient in enumerate(dict.fromkeys(made["patient"]))}
    return made.assign(split=[("train", "test", "test", "val")[number[patient] % 4] for patient in made["patient"]])


def test_examples_are_of_both_kinds_in_turn(frame: pd.DataFrame) -> None:
    shown = examples(frame, 6)
    assert [one.fractured for one in shown] == [True, False] * 3
    assert all(one.picture.startswith("data:image/jpeg;base64,") for one in shown)
    assert shown[0].caption.endswith(": fractured")
    assert shown[1].caption.endswith(": not fractured")


def test_the_table_of_splits_counts_each_patient_once(frame: pd.DataFrame) -> None:
    rows = split_table(frame)
    assert sum(row["files"] for row in rows) == 24
    assert sum(row["patients"] for row in rows) == frame["patient"].nunique()
    assert sum(row["fractured"] for row in rows) == int(frame["label"].sum())


def test_the_page_shows_the_way_and_links_only_to_what_is_there(frame: pd.DataFrame, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny_bundle.write_tiny_bundle(run / "bundle")
    Image.new("L", (40, 20), 255).save(run / "curves.png")
    metrics = evaluate(run, frame, "test", tmp_path / "report")
    identified = identify_examples(run, frame[frame["split"] == "test"], tmp_path / "identified", 4)
    assert len(identified) == len(list((tmp_path / "identified").iterdir())) == 4
    steps = [Step(f"step {n}", n * 1.5, f"callus do {n} <a&b>") for n in range(5)]
    page = write_page(tmp_path, frame, metrics, identified, steps).read_text()
    assert RESEARCH_ONLY in page
    assert "callus do 3 &lt;a&amp;b&gt;" in page
    assert "15 seconds" in page
    links = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert "report/report.html" in links
    for link in links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in page
        elif link != "data:,":
            assert (tmp_path / link).exists(), link
    assert "http" not in page.replace("http://www.w3.org/", "")
    assert page.count("<img ") == 10 + 1 + 2 * 4
