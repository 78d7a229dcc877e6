"""The ways in which test radiographs are disturbed, to see how much a model's figures hang on them.

Each takes a :class:`callus.radiograph.Radiograph` and gives a new one of the same dtype. Strengths come in fixed steps,
and nothing is drawn but noise, seeded by the file's SHA-256: every model meets the same pictures.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np

from callus.dataset.marks import FINE, SHARP, find_spots, find_texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from callus.dataset.marks import Spots
    from callus.radiograph import Radiograph

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_EIGHT_TO_SIXTEEN: Final = 257
"""65,535 / 255: white stays white."""

SMALLEST_LETTER, LARGEST_LETTER = 0.012, 0.12
"""Longer side of a letter or logo, as a share of the picture's; FracAtlas' side letters have about 0.03."""
EVEN: Final = 40
"""Grey levels, of 255, between the 5th and the 95th percentile of what surrounds letters: air and soft tissue have
less, bone has more, so that a plate with its screws, which looks like a line of text, is left alone."""
INK: Final = 80
"""Grey levels, of 255, that letters are brighter than what surrounds them."""


class Rectangle(NamedTuple):
    """Pixels of a picture: rows from top to bottom, columns from left to right, the last ones not counted."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Disturbance:
    """One way to disturb a radiograph, at one strength.

    Attributes:
        kind: which way, as it stands in ``metrics.json``.
        strength: how much, in the unit that ``text`` names; None where there is no more or less.
        text: both, in words.
        change: takes the radiograph, and the strength where there is one.
    """

    kind: str
    strength: float | None
    text: str
    change: Callable[..., Radiograph]

    def __call__(self, seen: Radiograph) -> Radiograph:
        """Give the disturbed radiograph, of the same dtype; the shape may change, and ``seen`` stays as it is."""
        return self.change(seen) if self.strength is None else self.change(seen, self.strength)


def rotated(seen: Radiograph, degrees: float) -> Radiograph:
    """Turn it against the clock; the frame grows so that nothing is cut off, and the corners are black.

    Quarter turns move pixels and change none; other angles are interpolated linearly.
    """
    quarters, rest = divmod(degrees, 90)
    if rest == 0:
        spacing = seen.spacing_mm[::-1] if seen.spacing_mm and int(quarters) % 2 else seen.spacing_mm
        return _changed(seen, np.rot90(seen.pixels, int(quarters)), spacing_mm=spacing)
    height, width = seen.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    grown = int(np.ceil(height * sine + width * cosine)), int(np.ceil(height * cosine + width * sine))
    matrix[0, 2] += (grown[0] - width) / 2
    matrix[1, 2] += (grown[1] - height) / 2
    even = seen.spacing_mm is not None and seen.spacing_mm[0] == seen.spacing_mm[1]
    turned = cv2.warpAffine(seen.pixels, matrix, grown, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return _changed(seen, turned, spacing_mm=seen.spacing_mm if even else None)


def mirrored(seen: Radiograph) -> Radiograph:
    """Left for right."""
    return _changed(seen, seen.pixels[:, ::-1])


def blurred(seen: Radiograph, share: float) -> Radiograph:
    """By a Gaussian whose standard deviation is a share of the longer side, so that it does not depend on the size."""
    return _changed(seen, cv2.GaussianBlur(seen.pixels, (0, 0), share * max(seen.shape)))


def recompressed(seen: Radiograph, quality: float) -> Radiograph:
    """As a JPEG of 8 bits, of libjpeg's quality 1 to 100, and back."""
    wide = seen.pixels.dtype == np.uint16
    eight = np.rint(seen.pixels / _EIGHT_TO_SIXTEEN).astype(np.uint8) if wide else seen.pixels
    _, stored = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    read_back = np.asarray(cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE), np.uint8)
    return _changed(seen, read_back * np.uint16(_EIGHT_TO_SIXTEEN) if wide else read_back)


def brightened(seen: Radiograph, share: float) -> Radiograph:
    """By a share of the grey range, which is added to every pixel and clipped."""
    return _changed(seen, _stored(seen.pixels, seen.unit() + np.float32(share)))


def darkened(seen: Radiograph, share: float) -> Radiograph:
    """By a share of the grey range, which is taken from every pixel and clipped."""
    return brightened(seen, -share)


def gamma(seen: Radiograph, power: float) -> Radiograph:
    """Each grey value, in [0, 1], to a power: below 1 the middle tones get brighter, black and white stay."""
    return _changed(seen, _stored(seen.pixels, seen.unit() ** np.float32(power)))


def noised(seen: Radiograph, share: float) -> Radiograph:
    """By Gaussian noise, independent from pixel to pixel, whose standard deviation is a share of the grey range.

    It is seeded by the file's SHA-256: all strengths are the same noise, louder.
    """
    rng = np.random.default_rng(list(hashlib.sha256(seen.sha256.encode()).digest()))
    noise = rng.standard_normal(seen.shape, dtype=np.float32)
    return _changed(seen, _stored(seen.pixels, seen.unit() + np.float32(share) * noise))


def cropped(seen: Radiograph, share: float) -> Radiograph:
    """By a share of the height at top and bottom and of the width at left and right; what lies there is lost."""
    height, width = seen.shape
    rows, columns = int(share * height), int(share * width)
    return _changed(seen, seen.pixels[rows : height - rows, columns : width - columns])


def inverted(seen: Radiograph) -> Radiograph:
    """Black for white."""
    return _changed(seen, np.iinfo(seen.pixels.dtype).max - seen.pixels)


def reduced(seen: Radiograph, scale: float) -> Radiograph:
    """To a share of its height and width, by averaging areas; at least one pixel is left."""
    height, width = (max(1, round(scale * side)) for side in seen.shape)
    smaller = cv2.resize(seen.pixels, (width, height), interpolation=cv2.INTER_AREA)
    spacing = seen.spacing_mm
    if spacing is not None:
        spacing = spacing[0] * seen.height / height, spacing[1] * seen.width / width
    return _changed(seen, smaller, spacing_mm=spacing)


def painted_over(seen: Radiograph) -> Radiograph:
    """Letters, markers and logos painted over with what surrounds them (see :func:`lettering`).

    The filling grows inwards from the rim (Telea 2004, "An image inpainting technique based on the fast marching
    method"). Where nothing is found, the radiograph itself is given.
    """
    found = lettering(seen)
    if not found:
        return seen
    pixels, mask = seen.pixels.copy(), np.zeros(seen.shape, np.uint8)
    for one in found:
        mask[_part(one)] = 1
    for one in found:
        # With its rim only: a large picture is not gone through for one letter.
        part = _part(_grown(one, 8, seen.shape))
        pixels[part] = cv2.inpaint(np.ascontiguousarray(pixels[part]), mask[part], 3, cv2.INPAINT_TELEA)
        mask[_part(one)] = 0
    return _changed(seen, pixels)


def lettering(seen: Radiograph) -> list[Rectangle]:
    """Find lines of text, single letters of a side (L, R) and logos that stand on an even ground.

    Of 677 pictures of FracAtlas that no threshold was set by, it marks 32: 18 have letters, which are all found (seven
    clinics' logos beside them are not); in 14 it is something else, mostly buttons, rings and screws beside the bone;
    in one of them a piece of bone. How many pictures have letters that it does not find, nobody has counted. Letters
    on bone, dark ones that stand alone, and those larger than an eighth of the picture are not looked for.

    Args:
        seen: any radiograph.

    Returns:
        In pixels of the radiograph, with a margin; none in a blank one.
    """
    scale = FINE / max(seen.shape)
    size = tuple(max(1, round(side * scale)) for side in seen.shape[::-1])
    fine = cv2.resize(seen.pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else seen.pixels
    grey = _eight_bits(fine)
    if min(grey.shape) < 3:  # noqa: PLR2004
        return []
    spots = list(find_spots(grey, reach=25, contrast=60))
    ink = np.any([some.labels > 0 for some in spots], axis=0).astype(np.uint8)
    clear = np.asarray(cv2.dilate(ink, np.ones((5, 5)))) == 0
    candidates = [*(_rectangle(*box) for box in find_texts(grey, spots)), *_letters(spots[0], grey.shape)]
    found = [one for one in candidates if _stands_out(grey, clear, one)]
    # What stands beside lettering is lettering, whatever is behind it: a label's name below the side.
    while more := [one for one in candidates if one not in found and any(_near(one, other) for other in found)]:
        found += more
    return [_at_full_size(one, min(1.0, scale), seen.shape) for one in found]


def _letters(spots: Spots, shape: tuple[int, ...]) -> list[Rectangle]:
    """Bright pieces of a letter's size, shape and sharpness that keep clear of the picture's border."""
    x, y, width, height = spots.box.T
    side, margin = max(shape), max(shape) // 200
    long, short, filled = np.maximum(width, height), np.minimum(width, height), spots.area / (width * height)
    fit = (long >= SMALLEST_LETTER * side) & (long <= LARGEST_LETTER * side) & (4 * short >= long)
    fit &= (filled > 0.15) & (filled < 0.85) & (spots.sharpness > SHARP) & (spots.contrast > INK)  # noqa: PLR2004
    fit &= (x > margin) & (y > margin) & (x + width < shape[1] - margin) & (y + height < shape[0] - margin)
    fit[0] = False  # the ground
    return [_rectangle(*box) for box in spots.box[fit].tolist()]


def _stands_out(grey: NDArray[np.uint8], clear: NDArray[np.bool_], inner: Rectangle) -> bool:
    """Whether a rectangle's ink is of one bright tone, on an even ground.

    Args:
        grey: uint8 (h, w).
        clear: bool (h, w), what is no ink.
        inner: around the ink.
    """
    outer = _grown(inner, max(4, round(0.3 * min(inner.bottom - inner.top, inner.right - inner.left))), grey.shape)
    ground = grey[_part(outer)][clear[_part(outer)]]
    ink = grey[_part(inner)][~clear[_part(inner)]]
    if ground.size < 20 or not ink.size:  # noqa: PLR2004
        return False
    low, high = np.percentile(ground, (5, 95))
    return bool(high - low < EVEN and np.percentile(ink, 75) - high > INK)


def _near(one: Rectangle, other: Rectangle) -> bool:
    """Whether the gap between two is less than the smaller one's longer side: a letter beside its line, or its logo."""
    gap = max(one.top - other.bottom, other.top - one.bottom, one.left - other.right, other.left - one.right)
    sides = (max(each.bottom - each.top, each.right - each.left) for each in (one, other))
    return gap < min(sides)


def _rectangle(x: float, y: float, width: float, height: float) -> Rectangle:
    return Rectangle(int(y), int(np.ceil(y + height)), int(x), int(np.ceil(x + width)))


def _grown(inner: Rectangle, margin: int, shape: tuple[int, ...]) -> Rectangle:
    return Rectangle(
        max(0, inner.top - margin),
        min(shape[0], inner.bottom + margin),
        max(0, inner.left - margin),
        min(shape[1], inner.right + margin),
    )


def _part(of: Rectangle) -> tuple[slice, slice]:
    return slice(of.top, of.bottom), slice(of.left, of.right)


def _at_full_size(fine: Rectangle, scale: float, shape: tuple[int, int]) -> Rectangle:
    """In the radiograph's pixels, with a margin for the ink's blurred rim and for the label that it stands on."""
    rim = min(8, max(3, round(0.4 * min(fine.bottom - fine.top, fine.right - fine.left))))
    top, bottom, left, right = _grown(fine, rim, (1 << 30, 1 << 30))
    return Rectangle(
        int(top / scale),
        min(shape[0], int(np.ceil(bottom / scale))),
        int(left / scale),
        min(shape[1], int(np.ceil(right / scale))),
    )


def _eight_bits(pixels: Any) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    # 10 or 12 bits are often kept in 16 as they are.
    white = 2 ** max(10, int(pixels.max()).bit_length()) - 1
    return np.asarray(pixels * np.float32(255 / white), np.uint8)


def _changed(seen: Radiograph, pixels: Any, **others: Any) -> Radiograph:
    return replace(seen, pixels=np.ascontiguousarray(pixels), **others)


def _stored(like: Pixels, unit: NDArray[np.float32]) -> Pixels:
    """Grey values in [0, 1], clipped, as the dtype of ``like``."""
    values = np.rint(np.clip(unit, 0, 1) * np.float32(np.iinfo(like.dtype).max))
    return np.asarray(values, np.uint8) if like.dtype == np.uint8 else np.asarray(values, np.uint16)


def _at(
    kind: str, change: Callable[[Radiograph, float], Radiograph], text: str, *strengths: float
) -> tuple[Disturbance, ...]:
    return tuple(Disturbance(kind, strength, text.format(strength, 100 * strength), change) for strength in strengths)


DISTURBANCES: Final = (
    *_at("rotated", rotated, "rotated by {0:g}°", 5, 15, 45, 90, 180),
    Disturbance("mirrored", None, "mirrored", mirrored),
    *_at("blurred", blurred, "blurred by {1:g} % of the side", 0.002, 0.004, 0.008),
    *_at("recompressed", recompressed, "JPEG of quality {0:g}", 50, 20, 10),
    *_at("darkened", darkened, "darkened by {1:g} %", 0.1, 0.2, 0.3),
    *_at("brightened", brightened, "brightened by {1:g} %", 0.1, 0.2, 0.3),
    *_at("gamma", gamma, "gamma {0:g}", 0.5, 0.7, 1.5, 2.0),
    *_at("noised", noised, "noise of {1:g} % of the range", 0.02, 0.05, 0.1),
    *_at("cropped", cropped, "cropped by {1:g} % each side", 0.05, 0.1, 0.2),
    Disturbance("inverted", None, "inverted", inverted),
    *_at("reduced", reduced, "reduced to {1:g} %", 0.5, 0.25, 0.125),
    Disturbance("painted_over", None, "letters painted over", painted_over),
)
"""All of them, from the mildest of each kind to the strongest."""
