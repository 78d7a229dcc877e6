"""Radiographs turned on their canvas. The rates on real ones stand in ``callus.identify.turned``; here a sample."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import callus
from callus.dataset.simulated import draw_patient, take
from callus.identify import cautions
from callus.identify.turned import turned
from callus.preprocess import InputSpec
from callus.radiograph import Radiograph

Grey = Any  # NDArray[np.uint8] (h, w)


@lru_cache
def bone(number: int, size: tuple[int, int] = (640, 512)) -> Grey:
    """A simulated radiograph with a background that is not black, as film has; not to be drawn on."""
    return np.maximum(take(draw_patient(0, number), 0, size).pixels, 40)


def turn(pixels: Grey, degrees: float, fill: int = 0, *, whole: bool = False, quality: int = 0) -> Grey:
    height, width = pixels.shape
    affine = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    size = np.array([width, height])
    if whole:
        size = np.ceil(np.abs(affine[:, :2]) @ size).astype(int)
        affine[:, 2] += (size - (width, height)) / 2
    out = cv2.warpAffine(pixels, affine, size.tolist(), flags=cv2.INTER_LINEAR, borderValue=fill)
    if quality:
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
    return out


@pytest.mark.parametrize("fill", [0, 255, 128])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("degrees", [-75, -40, -15, 10, 22, 45, 60])
def test_turned_pictures_are_told_by_how_much(degrees: float, fill: int, *, whole: bool) -> None:
    expected = min(abs(degrees), 90 - abs(degrees))
    for picture in (bone(3), bone(5, (320, 256))):
        assert turned(turn(picture, degrees, fill, whole=whole, quality=85)) == pytest.approx(expected, abs=2)


def test_sixteen_bits_and_large_pictures_are_told_alike() -> None:
    picture = turn(cv2.resize(bone(4), (2400, 3000)), 30)
    assert turned(picture) == turned(picture.astype(np.uint16) * 257) == pytest.approx(30, abs=1)


@pytest.mark.parametrize("quarters", range(4))
def test_upright_pictures_are_not(quarters: int) -> None:
    for number in range(12):
        picture = np.rot90(bone(number, (320, 256)), quarters)
        assert turned(np.ascontiguousarray(picture)) is None
        assert turned(np.pad(picture, 40)) is None  # collimated, or letterboxed


def test_one_corner_that_is_cut_is_not_enough() -> None:
    picture = bone(3).copy()
    bottom, right = picture.shape[0] - 1, picture.shape[1] - 1
    cv2.fillPoly(picture, [np.array([(0, 0), (200, 0), (0, 150)])], 0)
    assert turned(picture) is None
    cv2.fillPoly(picture, [np.array([(right, bottom), (right - 200, bottom), (right, bottom - 150)])], 0)
    assert turned(picture) == pytest.approx(90 - np.degrees(np.arctan2(200, 150)), abs=1)
    cv2.fillPoly(picture, [np.array([(right, bottom), (right - 200, bottom), (right, bottom - 300)])], 0)
    assert turned(picture) is None  # the two edges stand at different angles


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (5, 5), (8, 3), (400, 6)])
@pytest.mark.parametrize("fill", [0, 255, 9])
def test_tiny_and_even_pictures_are_not(shape: tuple[int, int], fill: int) -> None:
    assert turned(np.full(shape, fill, np.uint8)) is None
    assert turned(np.full((300, 200), fill, np.uint16)) is None


def test_the_caution_says_by_how_much() -> None:
    made = Radiograph(turn(bone(3), 30), None, "PNG", "")
    (caution,) = [line for line in cautions(made, InputSpec(224, 224)) if line.startswith("rotated")]
    assert caution == "rotated: its corners are filled as if it had been turned by about 30 degrees"


def test_real_radiographs(fracatlas: Path) -> None:
    files = sorted((fracatlas / "images" / "Fractured").glob("*.jpg"))[::25]
    pictures = [callus.read(file).pixels for file in files]
    assert len(pictures) > 15
    assert sum(turned(picture) is not None for picture in pictures) == 0
    found = [turned(turn(picture, 15 + 2 * number)) for number, picture in enumerate(pictures)]
    assert sum(degrees is not None for degrees in found) >= len(pictures) - 2
