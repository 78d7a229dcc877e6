"""Crops of varied views: where they are cut, what they are labelled, and that mask and picture agree."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tiny_bundle

from callus import dataset
from callus.identify import Identifier
from callus.training import recipe as recipes
from callus.training.augment import AIMED, draw_window
from callus.training.examples import PLAIN, Examples

SIDE = 96
BOX = [150.0, 60.0, 24.0, 40.0]


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two pictures, 240 high and 320 wide: a fractured one that is bright in its box alone, and a dark sound one."""
    folder = tmp_path_factory.mktemp("marked")
    x, y, width, height = map(int, BOX)
    for name in ("fractured", "normal"):
        (folder / name).mkdir()
        pixels = np.full((240, 320), 20, np.uint8)
        if name == "fractured":
            pixels[y : y + height, x : x + width] = 250
        cv2.imwrite(str(folder / name / "a.png"), pixels)
    frame = dataset.usable(dataset.load(folder)).sort_values("label", ascending=False, ignore_index=True)
    return frame.assign(boxes=[[BOX], None], polygons=None)


def crops(rows: pd.DataFrame) -> Examples:
    changes: dict[str, object] = {"input.height": 192, "input.width": 256, "tuning.crop": SIDE}
    changes |= {"augmentation.contrast": 0.0, "augmentation.brightness": 0.0, "augmentation.noise": 0.0}
    return Examples(rows, recipes.override(recipes.load("callus"), changes), SIDE)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("fit", ["letterbox", "squash"])
def test_a_network_learns_from_the_very_numbers_that_it_is_asked_with(
    kind: type, fit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set" / "fractured").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (301, 200), kind)
    cv2.imwrite(str(tmp_path / "set" / "fractured" / "a.png"), pixels)
    rows = dataset.usable(dataset.load(tmp_path / "set"))
    changes: dict[str, object] = {"input.height": 64, "input.width": 64, "input.fit": fit}
    learnt = Examples(rows, recipes.override(recipes.load("callus"), changes)).pictures([0], [PLAIN]).numpy()

    spec = tiny_bundle.tiny_info()["input"] | {"fit": fit}
    identifier = Identifier(tiny_bundle.write_tiny_bundle(tmp_path / "bundle", input=spec), threads=1)
    asked, run = [], identifier.engine.run
    monkeypatch.setattr(identifier.engine, "run", lambda batch: asked.append(batch.copy()) or run(batch))
    identifier.identify(rows["path"].iloc[0])
    assert np.array_equal(asked[0], learnt)
    assert len(np.unique(learnt)) > 50


def test_a_crop_is_labelled_by_what_it_shows(marked: pd.DataFrame) -> None:
    examples = crops(marked)
    labels = []
    for view in range(60):
        picture = examples.picture(0, view)
        assert picture.shape == (SIDE, SIDE)
        label, mask, located = examples.targets([0], [view])
        bright = picture > 0.5
        if mask[0, 0].any():
            # Every bright pixel lies in a cell of the mask (but for a rim that interpolation smears).
            cells = np.kron(mask[0, 0].numpy(), np.ones((16, 16))) > 0
            assert (bright & ~cells).sum() <= 0.05 * bright.sum() + 2
        assert bool(label[0]) == bool(mask.any())
        assert bright.any() == bool(label[0]) or bright.sum() + mask.sum() <= 3
        assert located[0] == 1
        labels.append(float(label[0]))
    assert AIMED - 0.15 <= np.mean(labels) < 1, "most crops show the fracture, some of them do not"
    assert not examples.targets([1] * 20, list(range(20)))[0].any()


def test_the_plain_view_of_crops_is_the_whole_picture(marked: pd.DataFrame) -> None:
    examples = crops(marked)
    assert examples.picture(0, PLAIN).shape == (192, 256)
    assert examples.mask(0, PLAIN).shape == (12, 16)


def test_a_mask_says_how_much_of_a_cell_fractures_cover(marked: pd.DataFrame) -> None:
    touched = crops(marked)
    assert set(np.unique(touched.mask(0, PLAIN))) == {0, 1}
    examples = Examples(marked, recipes.override(touched.recipe, {"optimisation.location_target": "covered"}), SIDE)
    mask = examples.mask(0, PLAIN)
    assert ((mask > 0) == (touched.mask(0, PLAIN) > 0)).all()
    (box,) = examples.fractures(0)
    assert 0 < mask.max() <= 1
    assert mask.sum() * 16 * 16 == pytest.approx(box[2] * box[3], rel=0.25)  # outlines are drawn to whole pixels
    rows, columns = np.nonzero(mask)
    x, y, width, height = box / 16
    assert x - 1 <= columns.min() <= columns.max() <= x + width
    assert y - 1 <= rows.min() <= rows.max() <= y + height
    assert len(examples.fractures(1)) == 0


def test_windows_lie_inside_and_cover_the_whole_picture() -> None:
    generator = np.random.default_rng(0)
    corners = np.array([(0, 20), (255, 20), (255, 170), (0, 170)], dtype=np.float64)
    seen = np.zeros((192, 256), bool)
    for _ in range(400):
        left, top = draw_window(corners, [], SIDE, 192, 256, generator)
        assert 0 <= left <= 256 - SIDE
        assert 0 <= top <= 192 - SIDE
        seen[top : top + SIDE, left : left + SIDE] = True
    assert seen.all()


def test_a_window_about_a_fracture_at_the_edge_still_shows_it() -> None:
    generator = np.random.default_rng(1)
    corners = np.array([(0, 0), (255, 0), (255, 191), (0, 191)], dtype=np.float64)
    fracture = np.array([(248, 180), (255, 180), (255, 191), (248, 191)], dtype=np.float64)
    shown = 0
    for _ in range(200):
        left, top = draw_window(corners, [fracture], SIDE, 192, 256, generator)
        shown += left + SIDE > 251 and top + SIDE > 185
    assert shown >= 0.9 * AIMED * 200
