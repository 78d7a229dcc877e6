"""Second exposures drift apart against an affine map, copies do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from callus import radiograph
from callus.dataset.changes import CHANGES
from callus.dataset.drift import drift
from callus.dataset.keypoints import Detail, describe
from callus.dataset.registration import lay_over
from callus.dataset.simulated import simulate

if TYPE_CHECKING:
    from pathlib import Path

DETAIL = Detail(side=512, most=600, thumbnail=400)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Radiographs of four patients."""
    frame = simulate(tmp_path_factory.mktemp("simulated") / "set", 12, seed=11, size=(520, 440))
    return [np.asarray(radiograph.read(path).pixels) for path in frame.drop_duplicates("patient")["path"].head(4)]


def between(a: np.ndarray, b: np.ndarray) -> float:
    first, second = describe(a, DETAIL), describe(np.ascontiguousarray(b), DETAIL)
    overlay = lay_over(first, second)
    assert overlay is not None
    return drift(first, second, overlay)


def bent(picture: np.ndarray, pixels: float) -> np.ndarray:
    """The limb bowed sideways by so many pixels in its middle and as many the other way at its ends."""
    height, width = picture.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(picture, x + np.float32(pixels) * np.cos(2 * np.pi * y / height), y, cv2.INTER_LINEAR)


def test_what_bends_drifts_and_what_is_changed_otherwise_does_not(originals: list[np.ndarray]) -> None:
    generator = np.random.default_rng(4)
    for picture in originals:
        for name in ("recode", "squash", "brighten", "gamma", "contrast", "invert", "mirror", "rotate"):
            assert between(picture, CHANGES[name](picture, generator)) < 0.32, name
        assert between(picture, bent(picture, 3)) > 0.5


def test_what_has_nothing_to_see_does_not_drift(originals: list[np.ndarray], tmp_path: Path) -> None:
    first = describe(originals[0], DETAIL)
    overlay = lay_over(first, first)
    assert overlay is not None
    flat = describe(np.full(originals[0].shape, 90, np.uint8), DETAIL)
    assert drift(first, flat, overlay) == 0.0
