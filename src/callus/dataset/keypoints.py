"""What is compared to tell whether two files show the same radiograph: a small picture, and places in it.

The places are SIFT's (Lowe 2004, doi 10.1023/B:VISI.0000029664.99615.94), with the descriptors' square roots (RootSIFT,
Arandjelovic and Zisserman 2012). SIFT stands any rotation and scale. A mirrored or inverted picture has the same places
too, with descriptors that are permutations of the original's: a mirror image turns the 4 x 4 cells over and reverses
the sense of the 8 directions; inverted grey values turn every gradient round, which turns the cells by half a turn
about the place's own direction and leaves the directions, counted from it, as they are. So all four variants of a
picture are compared at the price of one description.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from callus.dataset.grey_levels import percentiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN, MIRRORED, INVERTED, BOTH = range(4)
"""The variants: bit 0 is set where one picture is the other's mirror image, bit 1 where its grey is inverted."""
VARIANTS: Final = 4
LENGTH: Final = 128
"""Numbers in a descriptor: 4 x 4 cells of 8 directions."""
LEAST_PLACES: Final = 8
"""Pictures with fewer are not compared: an affine map goes through any three."""
VERSION: Final = 1
"""Of the description; another version is not compared with it."""

_CONTRAST: Final = 0.01  # SIFT's own 0.04 finds no more than a few places on a smooth limb
_EDGE: Final = 20.0  # and its 10 drops the places along cortices
_STRETCH: Final = (1.0, 99.0)  # percentiles that become black and white
_LEAST_SPREAD: Final = 8.0  # grey values; a flat picture's noise is not stretched to a picture
_QUANTUM: Final = 512.0  # of the descriptors' square roots, which hardly pass one half


def _permutations() -> NDArray[np.intp]:
    cells = np.arange(LENGTH).reshape(4, 4, 8)
    mirrored = cells[::-1][:, :, (-np.arange(8)) % 8].ravel()
    inverted = cells[::-1, ::-1].ravel()
    return np.stack([np.arange(LENGTH), mirrored, inverted, mirrored[inverted]])


PERMUTATIONS: Final = _permutations()
"""(4, 128): ``descriptors[:, PERMUTATIONS[variant]]`` are the descriptors of that variant of the picture."""


@dataclass(frozen=True, eq=False)
class Detail:
    """How closely pictures are looked at.

    Attributes:
        side: longest side of the picture in which places are sought, pixels; smaller pictures are not enlarged.
        most: places that are kept, the strongest.
        thumbnail: longest side of the picture that is kept, pixels.
    """

    side: int
    most: int
    thumbnail: int


COARSE: Final = Detail(side=256, most=160, thumbnail=160)
FINE: Final = Detail(side=640, most=600, thumbnail=400)
"""For the pairs that the coarse look leaves open."""


@dataclass(frozen=True, eq=False)
class Description:
    """A picture as it is compared.

    Attributes:
        thumbnail: uint8 (h, w), its grey values stretched to the whole range.
        points: float32 (n, 2), the places' (x, y) in the thumbnail's pixels.
        descriptors: uint8 (n, 128).
        size: the radiograph's height and width.
    """

    thumbnail: NDArray[np.uint8]
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    size: tuple[int, int]

    def unit(self) -> NDArray[np.float32]:
        """The descriptors as float32 (n, 128) of length 1."""
        values = self.descriptors.astype(np.float32)
        values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
        return values


_own = threading.local()


def describe(pixels: NDArray[np.uint8] | NDArray[np.uint16], detail: Detail = COARSE) -> Description:
    """Describe a radiograph.

    Args:
        pixels: (height, width), uint8 or uint16.
        detail: how closely.
    """
    height, width = pixels.shape
    scale = min(1.0, detail.side / max(height, width))
    small = _resized(pixels, height * scale, width * scale)
    low, high = percentiles(small, _STRETCH)
    top = np.iinfo(pixels.dtype).max / 255
    grey = np.clip((small.astype(np.float32) - low) * (255 / max(high - low, _LEAST_SPREAD * top)), 0, 255)
    picture = grey.astype(np.uint8)
    shrink = min(1.0, detail.thumbnail / max(picture.shape))
    thumbnail = _resized(picture, picture.shape[0] * shrink, picture.shape[1] * shrink)
    keys, descriptors = _sift(detail.most).detectAndCompute(picture, None)
    if descriptors is None:
        keys, descriptors = (), np.zeros((0, LENGTH), np.float32)
    keys, descriptors = keys[: detail.most], descriptors[: detail.most]  # ties may bring more
    points = np.array([key.pt for key in keys], np.float32).reshape(-1, 2)
    ratio = np.array(thumbnail.shape[::-1], np.float32) / np.array(picture.shape[::-1], np.float32)
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    return Description(
        thumbnail,
        ((points + 0.5) * ratio - 0.5).astype(np.float32),
        np.clip(roots * _QUANTUM, 0, 255).astype(np.uint8),
        (height, width),
    )


def _resized(pixels: NDArray[np.uint8] | NDArray[np.uint16], height: float, width: float) -> NDArray[np.uint8]:
    size = max(1, round(width)), max(1, round(height))
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels  # type: ignore[return-value]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _sift(most: int) -> cv2.SIFT:
    """One detector a thread: they are not made to be shared."""
    made: dict[int, cv2.SIFT] = _own.__dict__.setdefault("made", {})
    if most not in made:
        made[most] = cv2.SIFT.create(nfeatures=most, contrastThreshold=_CONTRAST, edgeThreshold=_EDGE)
    return made[most]
