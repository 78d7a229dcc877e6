from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from callus.radiograph import Radiograph
from callus.report.disturbances import DISTURBANCES, Disturbance, lettering, painted_over


def radiograph(pixels: NDArray[np.uint8] | NDArray[np.uint16], sha256: str = "ab" * 32) -> Radiograph:
    return Radiograph(pixels, "a.png", "PNG", sha256, spacing_mm=(0.1, 0.2))


def limb(height: int = 300, width: int = 240) -> NDArray[np.uint8]:
    """A bright bone in a grey limb before dark air, unlike its mirror image, with the grain of a detector."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    pixels = np.where(np.abs(x - 0.4 * width - 0.1 * y) < 0.2 * width, 90, 25) + rng.normal(0, 2, (height, width))
    pixels[np.abs(x - 0.4 * width - 0.1 * y) < 0.06 * width] += 80
    return np.clip(pixels, 0, 255).astype(np.uint8)


def wide(pixels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return pixels.astype(np.uint16) * np.uint16(257)


def one(kind: str, strength: float | None = None) -> Disturbance:
    (found,) = [each for each in DISTURBANCES if each.kind == kind and each.strength == strength]
    return found


@pytest.mark.parametrize("each", DISTURBANCES, ids=lambda each: each.text)
def test_each_is_deterministic_and_alike_in_8_and_16_bits(each: Disturbance) -> None:
    pixels = limb()
    kept = pixels.copy()
    seen = radiograph(pixels)
    eight, again, sixteen = each(seen), each(seen), each(radiograph(wide(pixels)))
    np.testing.assert_array_equal(pixels, kept)
    np.testing.assert_array_equal(eight.pixels, again.pixels)
    assert eight.pixels.dtype == np.uint8
    assert sixteen.pixels.dtype == np.uint16
    assert eight.pixels.flags.c_contiguous
    assert sixteen.pixels.flags.c_contiguous
    assert (eight.path, eight.sha256, eight.format) == (seen.path, seen.sha256, seen.format)
    np.testing.assert_allclose(eight.unit(), sixteen.unit(), atol=1.01 / 255)
    if each.kind != "painted_over":  # there is nothing to paint over
        assert eight.shape != seen.shape or (eight.pixels != pixels).any()


@pytest.mark.parametrize("each", DISTURBANCES, ids=lambda each: each.text)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_smallest_pictures_stay_pictures(each: Disturbance, shape: tuple[int, int], dtype: type) -> None:
    given = each(radiograph(np.full(shape, 7, dtype)))
    assert min(given.shape) >= 1
    assert given.pixels.dtype == dtype


def test_names_are_told_apart() -> None:
    assert len({each.text for each in DISTURBANCES}) == len(DISTURBANCES)
    assert len({(each.kind, each.strength) for each in DISTURBANCES}) == len(DISTURBANCES)


def test_quarter_turns_move_pixels_and_change_none() -> None:
    pixels = limb()
    turned = one("rotated", 90)(radiograph(pixels))
    np.testing.assert_array_equal(turned.pixels, pixels.T[::-1])  # the top right corner goes to the top left
    assert turned.spacing_mm == (0.2, 0.1)
    half = one("rotated", 180)(radiograph(pixels))
    np.testing.assert_array_equal(half.pixels, pixels[::-1, ::-1])
    assert half.spacing_mm == (0.1, 0.2)


@pytest.mark.parametrize("degrees", [5, 15, 45])
def test_other_turns_lose_nothing_and_have_black_corners(degrees: float) -> None:
    pixels = np.zeros((200, 120), np.uint8)
    pixels[:] = 100
    pixels[4:12, -12:-4] = 250  # near the top right corner
    turned = one("rotated", degrees)(radiograph(pixels))
    angle = np.deg2rad(degrees)
    assert turned.height == pytest.approx(200 * np.cos(angle) + 120 * np.sin(angle), abs=1)
    assert turned.width == pytest.approx(200 * np.sin(angle) + 120 * np.cos(angle), abs=1)
    assert turned.pixels.sum(dtype=float) == pytest.approx(pixels.sum(dtype=float), rel=0.01)
    assert turned.pixels[0, 0] == turned.pixels[-1, -1] == turned.pixels[0, -1] == turned.pixels[-1, 0] == 0
    y, x = (axis.mean() for axis in np.nonzero(turned.pixels > 200))
    across, up = 52 - 0.5, 92 - 0.5  # of the spot's middle, from the picture's
    assert x - (turned.width - 1) / 2 == pytest.approx(across * np.cos(angle) - up * np.sin(angle), abs=1)
    assert (turned.height - 1) / 2 - y == pytest.approx(across * np.sin(angle) + up * np.cos(angle), abs=1)
    assert turned.spacing_mm is None  # unequal ones have no meaning once turned


def test_mirror_crop_inversion_and_reduction_are_what_they_say() -> None:
    pixels = limb()
    seen = radiograph(pixels)
    np.testing.assert_array_equal(one("mirrored")(seen).pixels, pixels[:, ::-1])
    np.testing.assert_array_equal(one("cropped", 0.1)(seen).pixels, pixels[30:270, 24:216])
    np.testing.assert_array_equal(one("inverted")(seen).pixels, 255 - pixels)
    np.testing.assert_array_equal(one("inverted")(radiograph(wide(pixels))).pixels, 65535 - wide(pixels))
    half = one("reduced", 0.5)(seen)
    np.testing.assert_allclose(half.pixels, pixels.reshape(150, 2, 120, 2).mean((1, 3)), atol=0.5)
    assert half.spacing_mm == (0.2, 0.4)
    assert one("reduced", 0.125)(seen).shape == (38, 30)


def test_grey_values_move_by_what_they_say() -> None:
    seen = radiograph(np.array([[0, 51, 128, 255]], np.uint8))
    assert one("brightened", 0.2)(seen).pixels.tolist() == [[51, 102, 179, 255]]
    assert one("darkened", 0.2)(seen).pixels.tolist() == [[0, 0, 77, 204]]
    assert one("gamma", 2.0)(seen).pixels.tolist() == [[0, 10, 64, 255]]
    assert one("gamma", 0.5)(seen).pixels.tolist() == [[0, 114, 181, 255]]


def test_noise_has_its_size_and_belongs_to_the_file() -> None:
    flat = np.full((200, 200), 128, np.uint8)
    for share in (0.02, 0.05, 0.1):
        noise = one("noised", share)(radiograph(flat)).unit() - 128 / 255
        assert noise.std() == pytest.approx(share, rel=0.02)
        assert abs(noise.mean()) < share / 50
    other = one("noised", 0.1)(radiograph(flat, sha256="cd" * 32))
    assert (other.pixels != one("noised", 0.1)(radiograph(flat)).pixels).mean() > 0.9


def test_strengths_grow() -> None:
    pixels = limb()
    for kind in ("blurred", "recompressed", "noised"):
        changes = [
            np.abs(each(radiograph(pixels)).pixels.astype(int) - pixels).mean()
            for each in DISTURBANCES
            if each.kind == kind
        ]
        assert len(changes) == 3
        assert changes == sorted(changes)
        assert changes[0] > 0


def test_the_blur_goes_with_the_size() -> None:
    edge = np.zeros((1000, 400), np.uint8)
    edge[:, 200:] = 200
    blurred = one("blurred", 0.004)(radiograph(edge)).pixels[500].astype(float) / 200
    slope = np.diff(blurred)
    spread = np.sqrt((slope * (np.arange(399) - 199) ** 2).sum())
    assert spread == pytest.approx(0.004 * 1000, rel=0.05)


def lettered(words: str, at: tuple[int, int], size: float, shape: tuple[int, int] = (900, 720)) -> NDArray[np.uint8]:
    pixels = limb(*shape)
    cv2.putText(pixels, words, at, cv2.FONT_HERSHEY_SIMPLEX, size, 250, round(2 * size) + 1, cv2.LINE_AA)
    return pixels


@pytest.mark.parametrize("words", ["L", "R", "LEFT WRIST"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [1, 2])
def test_letters_and_lines_are_painted_over_and_nothing_else(words: str, dtype: type, scale: int) -> None:
    plain, drawn = limb(900, 720), lettered(words, (480, 120), 1.2)
    ink = drawn != plain
    if scale > 1:
        plain, drawn = (cv2.resize(each, None, fx=scale, fy=scale) for each in (plain, drawn))
        ink = drawn != plain
    given = drawn if dtype == np.uint8 else wide(drawn)
    painted = painted_over(radiograph(given))
    assert painted.pixels.dtype == dtype
    unit = painted.pixels.astype(float) / np.iinfo(dtype).max * 255
    assert unit[ink].max() < 60  # air is 25, ink was 250
    changed = painted.pixels != given
    rows, columns = np.nonzero(ink)
    margin = 20 * scale
    changed[rows.min() - margin : rows.max() + margin, columns.min() - margin : columns.max() + margin] = False
    assert not changed.any()


def test_a_name_on_its_label_below_the_side_is_painted_over() -> None:
    pixels = lettered("R", (410, 370), 1.2)  # on soft tissue
    cv2.rectangle(pixels, (393, 383), (453, 409), 0, -1)  # a black label, uneven with what is around it
    cv2.putText(pixels, "KNEE", (396, 404), cv2.FONT_HERSHEY_SIMPLEX, 0.75, 250, 2, cv2.LINE_AA)
    painted = painted_over(radiograph(pixels)).pixels
    assert painted[340:412, 392:463].max() < 110
    assert painted[384:408, 394:453].min() > 60


def test_letters_on_an_edge_are_left_alone() -> None:
    assert lettering(radiograph(lettered("L", (455, 400), 1.2))) == []


def test_bones_and_plates_are_left_alone() -> None:
    pixels = limb(900, 720)
    assert lettering(radiograph(pixels)) == []
    assert painted_over(radiograph(pixels)).pixels is pixels
    for row in range(300, 500, 40):  # screws in bone
        cv2.line(pixels, (310, row), (370, row + 4), 250, 5, cv2.LINE_AA)
    cv2.line(pixels, (345, 290), (358, 500), 255, 12, cv2.LINE_AA)
    assert lettering(radiograph(pixels)) == []


def test_blank_pictures_have_no_letters() -> None:
    for value in (0, 255):
        assert lettering(radiograph(np.full((300, 200), value, np.uint8))) == []
    assert lettering(radiograph(np.zeros((300, 200), np.uint16))) == []


def test_twelve_bits_in_sixteen_are_looked_at_as_they_are() -> None:
    pixels = lettered("LEFT WRIST", (480, 120), 1.2).astype(np.uint16) * np.uint16(16)
    assert lettering(radiograph(pixels))
