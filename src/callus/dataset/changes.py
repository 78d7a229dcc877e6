"""The ways in which copies of a radiograph are made: what the search for duplicates is tested and measured on.

Each takes a picture, uint8 (height, width), and a generator that draws how strong the change is, and gives a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

_LEAST, _MOST = 160, 1600  # sides that a resized copy keeps to, pixels


def recode(picture: Picture, generator: np.random.Generator) -> Picture:
    """As JPEG of quality 30 to 95."""
    stored = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(30, 95))])[1]
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE), np.uint8)


def resize(picture: Picture, generator: np.random.Generator) -> Picture:
    """To 0.35 to 1.8 of its size."""
    scale = float(np.exp(generator.uniform(np.log(0.35), np.log(1.8))))
    scale = min(max(scale, _LEAST / min(picture.shape)), _MOST / max(picture.shape))
    return _sized(picture, picture.shape[1] * scale, picture.shape[0] * scale)


def squash(picture: Picture, generator: np.random.Generator) -> Picture:
    """To a square of a network's size, or by 0.7 to 1.4 across."""
    height, width = picture.shape
    if generator.random() < 0.5:  # noqa: PLR2004
        side = float(generator.choice([224, 256, 299, 384]))
        return _sized(picture, side, side)
    return _sized(picture, width * np.exp(generator.uniform(np.log(0.7), np.log(1.4))), height)


def crop(picture: Picture, generator: np.random.Generator) -> Picture:
    """By up to a tenth on each side."""
    height, width = picture.shape
    top, bottom, left, right = generator.uniform(0, 0.1, 4)
    return picture[
        int(height * top) : height - int(height * bottom), int(width * left) : width - int(width * right)
    ].copy()


def brighten(picture: Picture, generator: np.random.Generator) -> Picture:
    """By up to 50 grey values, or darken."""
    return _grey(picture + np.float32(generator.uniform(-50, 50)))


def contrast(picture: Picture, generator: np.random.Generator) -> Picture:
    """About the mean, by 0.5 to 1.8."""
    middle = np.float32(picture.mean())
    return _grey((picture - middle) * np.float32(np.exp(generator.uniform(np.log(0.5), np.log(1.8)))) + middle)


def gamma(picture: Picture, generator: np.random.Generator) -> Picture:
    """By 0.5 to 2."""
    power = float(np.exp(generator.uniform(np.log(0.5), np.log(2))))
    return _grey((255 * (picture / 255) ** power).astype(np.float32))


def invert(picture: Picture, _: np.random.Generator) -> Picture:
    """Black for white."""
    return np.asarray(255 - picture, np.uint8)


def mirror(picture: Picture, generator: np.random.Generator) -> Picture:
    """Left for right, sometimes top for bottom."""
    return np.ascontiguousarray(picture[:, ::-1] if generator.random() < 0.7 else picture[::-1])  # noqa: PLR2004


def rotate(picture: Picture, generator: np.random.Generator) -> Picture:
    """By any angle, with black or replicated corners; the frame is kept, or grows so that nothing is cut off."""
    height, width = picture.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), generator.uniform(0, 360), 1)
    size = width, height
    if generator.random() < 0.4:  # noqa: PLR2004
        cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
        size = int(height * sine + width * cosine), int(height * cosine + width * sine)
        matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    border = cv2.BORDER_CONSTANT if generator.random() < 0.6 else cv2.BORDER_REPLICATE  # noqa: PLR2004
    return np.asarray(cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border), np.uint8)


CHANGES: Final[dict[str, Callable[[Picture, np.random.Generator], Picture]]] = {
    change.__name__: change
    for change in (recode, resize, squash, crop, brighten, contrast, gamma, invert, mirror, rotate)
}
"""All of them, by name."""


def _sized(picture: Picture, width: float, height: float) -> Picture:
    size = max(1, round(width)), max(1, round(height))
    smaller = size[0] <= picture.shape[1] and size[1] <= picture.shape[0]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8)


def _grey(values: NDArray[np.float32]) -> Picture:
    return np.clip(values, 0, 255).astype(np.uint8)
