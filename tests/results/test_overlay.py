from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import callus
from callus.identify import Finding
from callus.labels import LEVEL_TEXT, RESEARCH_ONLY
from callus.metrics.boxes import Box, after, map_to_input
from callus.preprocess import InputSpec, fit_affine
from callus.radiograph import Radiograph
from callus.results.overlay import BOX, LEVEL_COLOUR, MOST_OPAQUE, colours, opacity, overlay

if TYPE_CHECKING:
    from pathlib import Path


def made(height: int = 1200, width: int = 1100, dtype: type = np.uint8) -> Radiograph:
    grey = np.linspace(0, 200, width).astype(np.uint8)
    pixels = np.ascontiguousarray(np.tile(grey, (height, 1)))
    return Radiograph(pixels.astype(dtype) * (1 if dtype is np.uint8 else 16), "folder/made.png", "PNG", "")


def finding(radiograph: Radiograph, **changes: Any) -> Finding:
    spec = InputSpec(64, 64)
    values: dict[str, Any] = {
        "path": radiograph.path,
        "probability": 0.87,
        "level": "fracture",
        "boxes": (),
        "map": np.zeros((8, 8), np.float32),
        "map_to_original": after(fit_affine(radiograph.height, radiograph.width, spec), map_to_input(8)),
        "cautions": (),
        "model": "tiny",
        "engine": "onnx-float32",
        "logit": 1.9,
        "features": np.zeros(3, np.float32),
        "shape": radiograph.shape,
    }
    return Finding(**(values | changes))


def inside(radiograph: Radiograph, answer: Finding) -> np.ndarray:
    """The picture alone, cut from the page at full size."""
    page = np.asarray(overlay(radiograph, answer, full=True))
    header = next(
        top
        for top in range(len(page))
        if np.ptp(page[top : top + 20, :, 0], axis=0).max() <= 1 and page[top].any() and np.ptp(page[top, :, 0]) > 150
    )
    return page[header : header + radiograph.height, : radiograph.width]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written on pages from now on."""
    texts: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def noted(self: Any, place: Any, text: str, *args: Any, **named: Any) -> None:
        texts.append(text)
        draw(self, place, text, *args, **named)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    return texts


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        ((200, 150), (1024, 768)),
        ((1300, 1100), (1300, 1100)),
        ((4000, 3000), (1600, 1200)),
        ((1, 1), (1024, 1024)),
        ((30, 900), (34, 1024)),
    ],
)
def test_the_picture_keeps_its_aspect_and_the_text_its_own_place(
    shape: tuple[int, int], picture: tuple[int, int]
) -> None:
    radiograph = made(*shape)
    page = overlay(radiograph, finding(radiograph))
    assert page.mode == "RGB"
    assert page.width >= picture[1]
    assert picture[0] + 100 < page.height < picture[0] + 350


def test_without_heat_the_radiograph_is_untouched() -> None:
    radiograph = made()
    picture = inside(radiograph, finding(radiograph))
    assert np.array_equal(picture, np.repeat(radiograph.pixels[..., np.newaxis], 3, axis=2))


def test_bone_stays_visible_under_the_hottest_place() -> None:
    radiograph = made()
    hot = np.asarray(overlay(radiograph, finding(radiograph, map=np.ones((8, 8), np.float32)), full=True), np.float64)
    row = hot[600, :1100].mean(axis=1)
    assert np.ptp(row) == pytest.approx((1 - MOST_OPAQUE) * 200, abs=3)
    assert (np.diff(row) >= -1e-9).all()


def test_heat_lies_where_the_map_says() -> None:
    radiograph = Radiograph(np.full((1280, 1280), 90, np.uint8), None, "PNG", "")
    array = np.zeros((8, 8), np.float32)
    array[6, 1] = 1.0
    page = np.asarray(overlay(radiograph, finding(radiograph, map=array), full=True), np.int64)
    header = page.shape[0] - 1280 - round(5.2 * 24)
    coloured = np.ptp(page[header + 5 : header + 1275], axis=2) > 8
    rows, columns = np.nonzero(coloured)
    assert rows.mean() + 5 == pytest.approx(6.5 * 160, abs=12)
    assert columns.mean() == pytest.approx(1.5 * 160, abs=12)


def test_colour_and_opacity_rise_with_heat() -> None:
    heat = np.linspace(0, 1, 100, dtype=np.float32)
    lightness = colours(heat) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) >= 0).all()
    assert lightness[-1] - lightness[0] > 150
    shown = opacity(heat)
    assert (np.diff(shown) >= 0).all()
    assert shown[0] == 0
    assert shown[-1] == pytest.approx(MOST_OPAQUE)


@pytest.mark.parametrize(("level", "share"), [("fracture", (0.99, 1.0)), ("doubt", (0.35, 0.65))])
def test_boxes_are_solid_at_fracture_and_dotted_at_doubt(level: str, share: tuple[float, float]) -> None:
    radiograph = made(1200, 1200)
    answer = finding(radiograph, level=level, boxes=(Box(300.0, 400.0, 500.0, 200.0, 0.9),))
    page = np.asarray(overlay(radiograph, answer, full=True))
    drawn = (page == BOX).all(axis=2)
    rows = np.flatnonzero(drawn[:, 500:600].any(axis=1))  # above the footer's legend, which stands at the right
    header = rows[0] - 400
    assert 60 < header < 160
    assert np.flatnonzero(drawn[header + 500]).min() == 300
    edge = drawn[header + 400, 300:800]
    assert share[0] <= edge.mean() <= share[1]
    assert edge[0]
    assert edge[-1]
    assert drawn[header + 599, 300]
    assert not drawn[header + 400 : header + 600, :299].any()
    assert not drawn[header + 410 : header + 590, 310:790].any()


def test_a_box_at_the_pictures_border_is_drawn_inside() -> None:
    radiograph = made(1100, 1100)
    page = np.asarray(overlay(radiograph, finding(radiograph, boxes=(Box(0.0, 0.0, 1100.0, 1100.0, 1.0),)), full=True))
    drawn = (page == BOX).all(axis=2)
    assert drawn[300, 0]
    assert drawn[300, 1099]


@pytest.mark.parametrize("level", ["fracture", "doubt", "none"])
def test_the_level_has_its_colour(level: str) -> None:
    radiograph = made()
    page = np.asarray(overlay(radiograph, finding(radiograph, level=level)))
    chip = (page[:60] == LEVEL_COLOUR[level][0]).all(axis=2)  # type: ignore[index]
    assert chip.sum() > 1000


@pytest.mark.parametrize("level", ["fracture", "doubt", "none"])
def test_the_page_says_what_was_answered_what_it_shows_and_what_it_is_not(level: str, written: list[str]) -> None:
    radiograph = made()
    overlay(radiograph, finding(radiograph, level=level))
    said = {LEVEL_TEXT[level], "probability 0.87", "model tiny", "made.png"}  # type: ignore[index]
    assert said | {"heat map", "0", "0.5", "1", "doubt", "fracture"} <= set(written)
    assert RESEARCH_ONLY.lower() == written[-1].lower()


def test_cautions_make_the_footer_longer_and_are_bounded() -> None:
    radiograph = made()
    heights = [
        overlay(radiograph, finding(radiograph, cautions=("x: " + "y" * 500,) * count)).height
        for count in (0, 1, 3, 4, 9)
    ]
    assert heights[0] < heights[1] < heights[2] < heights[3] == heights[4]


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, []),
        (3, ["caution: 0", "caution: 1", "caution: 2"]),
        (4, ["caution: 0", "caution: 1", "caution: 2", "and 1 more caution"]),
        (6, ["caution: 0", "caution: 1", "caution: 2", "and 3 more cautions"]),
    ],
)
def test_the_first_cautions_are_told_and_the_rest_is_counted(count: int, told: list[str], written: list[str]) -> None:
    radiograph = made()
    overlay(radiograph, finding(radiograph, cautions=tuple(map(str, range(count)))))
    assert [text for text in written if "caution" in text] == told


def test_a_bright_marker_is_read_under_the_greatest_heat() -> None:
    """A laterality marker: white letters on black, in the picture itself, where the map is all hot."""
    letters = Image.new("L", (1100, 1200))
    ImageDraw.Draw(letters).text((80, 80), "L", 255, ImageFont.load_default(size=200))
    marker = np.asarray(letters)
    radiograph = Radiograph(marker, None, "PNG", "")
    page = np.asarray(overlay(radiograph, finding(radiograph, map=np.ones((8, 8), np.float32)), full=True), np.float64)
    header = page.shape[0] - 1200 - round(5.2 * 22)
    light = page[header : header + 1200, :1100] @ [0.2126, 0.7152, 0.0722]
    assert MOST_OPAQUE <= 0.55
    assert light[marker == 255].min() - light[marker == 0].max() >= 0.44 * 255


def test_twelve_bits_in_sixteen_are_not_black() -> None:
    radiograph = made(dtype=np.uint16)
    assert inside(radiograph, finding(radiograph)).max() >= 250


@pytest.mark.parametrize("path", [None, "шина\n.dcm", "x" * 300 + ".png", "bad\udcff.png"])
def test_any_file_name_can_be_written(path: str | None) -> None:
    radiograph = replace(made(), path=path)
    assert overlay(radiograph, finding(radiograph, path=path)).width > 500


def test_a_real_dicom(dicom_folder: Path) -> None:
    radiograph = callus.read(dicom_folder / "RG3_UNC.dcm")
    page = overlay(radiograph, finding(radiograph))
    assert max(page.size) < 2000
    assert np.asarray(page.convert("L")).std() > 40
