from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from callus.dataset.corners import filled_share
from callus.dataset.simulated import simulate
from callus.radiograph import read

FILLS = {"black": (cv2.BORDER_CONSTANT, 0), "white": (cv2.BORDER_CONSTANT, 255), "nearest": (cv2.BORDER_REPLICATE, 0)}


def turned(pixels: NDArray[np.uint8], angle: float, fill: str) -> NDArray[np.uint8]:
    height, width = pixels.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    border, value = FILLS[fill]
    return np.asarray(cv2.warpAffine(pixels, matrix, (width, height), borderMode=border, borderValue=value), np.uint8)


def as_jpeg(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", pixels)[1], cv2.IMREAD_GRAYSCALE), np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[NDArray[np.uint8]]:
    """Simulated radiographs, some with a black background."""
    frame = simulate(tmp_path_factory.mktemp("corners") / "set", 10, seed=3)
    return [np.asarray(read(path).pixels, np.uint8) for path in frame["path"]]


@pytest.mark.parametrize("fill", FILLS)
def test_a_turned_picture_has_more_filled_than_the_unturned(pictures: list[NDArray[np.uint8]], fill: str) -> None:
    for pixels in pictures:
        plain = filled_share(pixels)
        for angle in (5, 15, 30, 45):
            assert filled_share(turned(pixels, angle, fill)) > plain
            assert filled_share(as_jpeg(turned(pixels, angle, fill))) > plain


def test_what_is_filled_is_measured() -> None:
    """Noise has no background of its own: what is measured is what was filled."""
    noise = np.random.default_rng(0).integers(60, 200, (320, 400), np.uint8)
    assert filled_share(noise) == 0
    shares = [filled_share(turned(noise, angle, "black")) for angle in (5, 15, 30)]
    assert shares == sorted(shares)
    outside = (turned(np.full_like(noise, 255), 30, "black") == 0).mean()
    assert shares[-1] == pytest.approx(outside, abs=0.05)
    for copy in (np.rot90(noise), noise[::-1], noise.astype(np.uint16) * 257):
        assert filled_share(np.ascontiguousarray(copy)) == 0


def test_pictures_without_anything_to_measure() -> None:
    assert filled_share(np.zeros((64, 64), np.uint8)) == 1
    assert filled_share(np.zeros((20, 400), np.uint8)) == 0
