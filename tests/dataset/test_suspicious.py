from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

from callus.dataset.marks import Mark
from callus.dataset.simulated import draw_patient, take
from callus.dataset.suspicious import Suspicion, suspect
from callus.radiograph import Radiograph, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Grey = Any  # NDArray[np.uint8] (h, w)
FONT = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


def look(pixels: NDArray[Any], *, grey: bool = True) -> Suspicion:
    return suspect(Radiograph(np.ascontiguousarray(pixels), None, "PNG", "", grey=grey))


def radiograph(number: int = 3, size: tuple[int, int] = (640, 512)) -> Grey:
    return take(draw_patient(0, number), 0, size).pixels


def covers(mark: Mark, box: tuple[float, float, float, float]) -> float:
    """Intersection over union."""
    x, y, width, height = box
    across = min(mark.x + mark.width, x + width) - max(mark.x, x)
    down = min(mark.y + mark.height, y + height) - max(mark.y, y)
    both = max(0.0, across) * max(0.0, down)
    return both / (mark.width * mark.height + width * height - both)


def written(
    pixels: Grey, text: str, at: tuple[int, int], size: int, tone: int = 255
) -> tuple[Grey, tuple[float, float, float, float]]:
    """A text burnt in, and the box of its ink."""
    picture = Image.fromarray(pixels)
    pen, font = ImageDraw.Draw(picture), ImageFont.truetype(FONT, size)
    left, top, right, bottom = pen.textbbox(at, text, font=font)
    pen.text(at, text, fill=tone, font=font)
    return np.asarray(picture), (left, top, right - left, bottom - top)


def ct_slice(kind: str) -> Grey:
    """A phantom: skin, fat, muscle, bone; with the scanner's table below."""
    picture = np.zeros((512, 512), np.uint8)
    size = {"head": (150, 190), "body": (220, 150)}[kind]
    inner = {"head": ((0, 90), (6, 250), (22, 110)), "body": ((0, 60), (14, 135))}[kind]
    for less, tone in inner:
        cv2.ellipse(picture, (256, 250), (size[0] - less, size[1] - less), 4, 0, 360, tone, -1, cv2.LINE_AA)
    if kind == "body":
        cv2.circle(picture, (256, 330), 25, 240, -1, cv2.LINE_AA)
        for angle in np.linspace(0, 2 * np.pi, 15, endpoint=False):
            rib = (round(256 + 195 * np.cos(angle)), round(250 + 125 * np.sin(angle)))
            cv2.circle(picture, rib, 6, 235, -1, cv2.LINE_AA)
    cv2.ellipse(picture, (256, 340), (230, 130), 0, 20, 160, 120, 2)
    noise = np.random.default_rng(1).normal(0, 8, picture.shape) * (picture > 3)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def mr_slice() -> Grey:
    """A head: bright scalp, dark skull, brain; the magnitude's Rician noise in the air."""
    rng = np.random.default_rng(2)
    picture = np.zeros((256, 256), np.float32)
    for less, tone in ((0, 200), (6, 20), (11, 110)):
        cv2.ellipse(picture, (128, 126), (84 - less, 102 - less), -6, 0, 360, tone, -1)
    real, imaginary = rng.normal(0, 4, (2, 256, 256))
    return np.clip(np.hypot(picture + real, imaginary), 0, 255).astype(np.uint8)


def photograph(name: str) -> Grey:
    if name == "grace_hopper.jpg":
        return np.asarray(Image.open(cbook.get_sample_data(name, asfileobj=False)).convert("L"))
    return np.asarray(Image.fromarray(load_sample_image(name)).convert("L"))


def line_drawing(*, inverse: bool) -> Grey:
    rng = np.random.default_rng(3)
    picture = np.full((700, 500), 255, np.uint8)
    for _ in range(9):
        points = (rng.uniform(0.05, 0.95, (5, 2)) * (500, 700)).astype(np.int32)
        cv2.polylines(picture, [points], bool(rng.integers(2)), 0, int(rng.integers(2, 5)), cv2.LINE_AA)
        cv2.circle(picture, tuple(points[0].tolist()), int(rng.integers(20, 120)), 0, 3, cv2.LINE_AA)
    return 255 - picture if inverse else picture


def screenshot(*, viewer: bool) -> Grey:
    picture = Image.new("L", (1280, 720), 230)
    pen, font = ImageDraw.Draw(picture), ImageFont.truetype(FONT, 15)
    for box, tone in (((0, 0, 1280, 36), 90), ((0, 37, 1280, 64), 200), ((0, 65, 240, 720), 215)):
        pen.rectangle(box, fill=tone)
    pen.rectangle((900, 300, 1250, 520), fill=170, outline=100)
    pen.rectangle((1000, 470, 1080, 500), fill=60)
    lines = ("Open study", "Hospital name", "Window width", "Measure angle", "Patient list", "Save report")
    for number in range(16):
        pen.text((14, 80 + 34 * number), lines[number % 6], fill=20, font=font)
        pen.text((270, 80 + 34 * number), " ".join(lines[number % 3 :]), fill=20, font=font)
    if viewer:
        pen.rectangle((241, 65, 1000, 720), fill=0)
        picture.paste(Image.fromarray(radiograph()).resize((500, 640)), (300, 72))
    return np.asarray(picture)


PICTURES: dict[str, tuple[str, Callable[[], Grey]]] = {
    "ct head": ("a CT or MR slice", lambda: ct_slice("head")),
    "ct body": ("a CT or MR slice", lambda: ct_slice("body")),
    "mr head": ("a CT or MR slice", mr_slice),
    "portrait": ("a photograph", lambda: photograph("grace_hopper.jpg")),
    "landscape": ("a photograph", lambda: photograph("china.jpg")),
    "ink on paper": ("a drawing", lambda: line_drawing(inverse=False)),
    "chalk on slate": ("a drawing", lambda: line_drawing(inverse=True)),
    "desktop": ("a screenshot", lambda: screenshot(viewer=False)),
    "viewer": ("a screenshot", lambda: screenshot(viewer=True)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_other_pictures_are_named(name: str) -> None:
    what, make = PICTURES[name]
    (line,) = look(make()).why
    assert line.startswith(f"looks like {what}: ")


def test_simulated_radiographs_are_not_suspicious() -> None:
    """Their side's letter is no text either."""
    for number in range(20):
        seen = look(radiograph(number, (320, 256) if number % 2 else (640, 512)))
        assert seen == Suspicion((), ())


def test_a_round_field_is_not_a_slice() -> None:
    """An image intensifier's picture is round and lies in black, as a body in a scanner does."""
    pixels, field = radiograph(4)[:500, :500], np.zeros((500, 500), np.uint8)
    side = min(pixels.shape)
    cv2.circle(field, (side // 2, side // 2), side // 2 - 12, 1, -1)
    assert look((pixels[:side, :side] // 2 + 100) * field[:side, :side]).why == ()


def arrow(pixels: Grey, kind: str, angle: float, tone: int) -> tuple[Grey, tuple[int, int, int, int]]:
    """An arrow a seventh of the picture long, and its box."""
    drawn, ink = pixels.copy(), np.zeros_like(pixels)
    length = max(pixels.shape) / 7
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    tip = np.array([pixels.shape[1] * 0.2, pixels.shape[0] * 0.3]) + along * length / 2
    tail, barbs = tip - along * length, tip - along * length * 0.4
    block = (-0.07, tail), (-0.07, barbs), (-0.2, barbs), (0, tip), (0.2, barbs), (0.07, barbs), (0.07, tail)
    corners = [np.round(point + across * out * length).astype(np.int32) for out, point in block]
    for canvas, value in ((drawn, tone), (ink, 255)):
        if kind == "line":
            ends = [tuple(np.round(end).astype(int).tolist()) for end in (tail, tip)]
            cv2.arrowedLine(canvas, *ends, value, 4, cv2.LINE_AA, tipLength=0.3)
        elif kind == "hollow":
            cv2.polylines(canvas, [np.array(corners)], True, value, 3, cv2.LINE_AA)
        else:
            cv2.fillPoly(canvas, [np.array(corners[2:5] if kind == "head" else corners)], value, cv2.LINE_AA)
    return drawn, tuple(cv2.boundingRect(ink))


@pytest.mark.parametrize(("kind", "tone"), [*product(("line", "block", "hollow", "head"), (255, 0))])
@pytest.mark.parametrize("angle", [0.4, 2.2, 3.14, 5.5])
def test_arrows_are_found_where_they_stand(kind: str, tone: int, angle: float) -> None:
    tissue = cv2.GaussianBlur(radiograph(6, (1000, 800)), (0, 0), 2)
    pixels, box = arrow(tissue // 2 + (10 if tone else 120), kind, angle, tone)
    seen = look(pixels)
    (mark,) = [mark for mark in seen.marks if mark.kind == "arrow"]
    assert covers(mark, box) > 0.7
    assert seen.why == (f"an arrow stands in it at ({mark.x}, {mark.y})",)


@pytest.mark.parametrize("angle", [0, 30])
def test_a_watermark_that_is_repeated(angle: int) -> None:
    pixels = radiograph(8, (900, 700))
    height, width = pixels.shape
    tiles = Image.new("L", (1500, 1500))
    pen, font = ImageDraw.Draw(tiles), ImageFont.truetype(FONT, 36)
    for row, x in product(range(14), range(-130, 1500, 260)):
        pen.text((x + 130 * (row % 2), 110 * row), "example", fill=255, font=font)
    share = np.asarray(tiles.rotate(angle))[300 : 300 + height, 300 : 300 + width] * (0.35 / 255)
    seen = look((pixels * (1 - share) + 255 * share).astype(np.uint8))
    assert seen.why == ("a watermark: one pattern is repeated all across it",)
    assert Mark("watermark", 0, 0, width, height) in seen.marks


@pytest.mark.parametrize("text", ["DOE JANE 1961-04-02", "Rahman M.", "ID 00481516"])
@pytest.mark.parametrize(("height", "size"), [(640, 20), (1000, 24), (2400, 60)])
def test_a_text_is_told_by_its_place_alone(text: str, height: int, size: int) -> None:
    pixels = cv2.resize(np.maximum(radiograph(5) // 2, 20), (height * 4 // 5, height))
    pixels, box = written(pixels, text, (height // 20, height // 25), size)
    seen = look(pixels)
    assert seen.why == ()
    marks = [mark for mark in seen.marks if mark.kind == "text"]
    assert max(covers(mark, box) for mark in marks) > 0.5
    turned = look(np.rot90(pixels))
    assert any(mark.height > 2 * mark.width for mark in turned.marks)


@pytest.mark.parametrize("text", ["L", "R", "RT", "LT", "LAT"])
def test_the_side_is_not_a_text(text: str) -> None:
    pixels, _ = written(np.maximum(radiograph(5) // 2, 20), text, (60, 40), 40)
    assert look(pixels) == Suspicion((), ())


def test_what_is_not_sharp_is_bone() -> None:
    pixels = np.maximum(radiograph(5) // 2, 20)
    pixels, _ = written(pixels, "DOE JANE", (40, 60), 60)
    assert len(look(pixels).marks) == 1
    assert look(cv2.GaussianBlur(pixels, (0, 0), 2.0)).marks == ()


def test_dark_text_on_a_light_plate() -> None:
    pixels = radiograph(5) // 2
    pixels[20:70, 20:320] = 230
    pixels, box = written(pixels, "DOE JANE 1961", (30, 30), 26, tone=0)
    (mark,) = look(pixels).marks
    assert covers(mark, box) > 0.5


def test_sixteen_bits_are_seen_as_eight() -> None:
    pixels, box = written(np.maximum(radiograph(5) // 2, 20), "DOE JANE 1961", (40, 40), 24)
    for factor in (257, 16):  # 16: of 12 bits, not spread to 16
        marks = look(pixels.astype(np.uint16) * factor).marks
        assert max(covers(mark, box) for mark in marks) > 0.5


def test_a_long_picture() -> None:
    pixels = radiograph()[:, :200]
    long = np.resize(pixels, (1020, 200))
    assert look(long).why[0] == "extreme aspect: 5.1 to 1 (200 x 1020 pixels)"
    assert look(np.ascontiguousarray(long.T)).why[0] == "extreme aspect: 5.1 to 1 (1020 x 200 pixels)"
    assert look(radiograph()).why == ()


def test_colour() -> None:
    (line,) = look(radiograph(), grey=False).why
    assert line.startswith("has colour: ")
    colour, kind = look(photograph("flower.jpg"), grey=False).why
    assert colour == line
    assert kind.startswith("looks like a photograph: colour, ")


@pytest.mark.parametrize("tone", [0, 7, 255])
def test_a_blank_picture(tone: int) -> None:
    pixels = np.full((300, 200), tone, np.uint8)
    pixels[:3, :3] = 255 - tone
    assert [line.split(":")[0] for line in look(pixels).why] == ["blank"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (63, 64), (64, 64), (65, 700), (70, 9000), (3000, 900)])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_any_shape_is_looked_at(shape: tuple[int, int], depth: type[np.uint8 | np.uint16]) -> None:
    pixels = np.random.default_rng(5).integers(0, np.iinfo(depth).max, shape, depth, endpoint=True)
    for seen in (look(pixels), look(np.sort(pixels)), look(np.where(pixels > pixels.mean(), pixels, depth(0)))):
        for mark in seen.marks:
            assert 0 <= mark.x < mark.x + mark.width <= shape[1]
            assert 0 <= mark.y < mark.y + mark.height <= shape[0]


def not_radiographs(paths: list[Path]) -> list[str]:
    return [path.name for path in paths if any("looks like" in line for line in suspect(read(path)).why)]


def test_real_radiographs_pass(fracatlas: Path, bonedata: Path) -> None:
    legs = sorted((fracatlas / "images").glob("*/*.jpg"))
    arms = sorted(bonedata.glob("Data/*/*/*.jpg"))
    assert not_radiographs(legs[::60]) == []
    assert not_radiographs(arms[::150]) == []


def test_real_computed_radiographs_pass(dicom_folder: Path) -> None:
    for name in ("RG2_RLE.dcm", "RG3_UNC.dcm"):
        assert suspect(read(dicom_folder / name)) == Suspicion((), ())


def test_real_burnt_in_text(bonedata: Path) -> None:
    """The side and the study's code, in print."""
    paths = sorted(path for path in bonedata.glob("Data/*/*/*.jpg") if "rotated" not in path.name)[::6]
    seen = [suspect(read(path)) for path in paths]
    assert all(one.why == () for one in seen)
    assert 3 <= sum(bool(one.marks) for one in seen) <= 12
