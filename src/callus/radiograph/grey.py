"""Colour to grey, transparency to black, and pictures turned upright."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]

CHROMA_NOISE: Final = 24 / 255
"""How far a pixel's channels may differ, as a part of white, and still be grey: JPEG's chroma noise stays below."""
COLOURED_PART: Final = 0.001
"""The part of the pixels that has to differ for a picture to be in colour: a few marked pixels do not make it so."""
DETECTOR_BITS: Final = (8, 10, 12, 14)
"""Depths that detectors have and files do not, but in 16 bits."""
_SAMPLES: Final = 500_000
_BAND: Final = 1 << 20
_ORIENTATION: Final = 274
_SHORT: Final = 3


def from_rgb(rgb: Pixels) -> tuple[Pixels, bool]:
    """Colour to grey by luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, the formula inside JPEG).

    Args:
        rgb: (height, width, 3), uint8 or uint16. Equal channels come through unchanged.

    Returns:
        The grey pixels, (height, width) of the same dtype, and whether the picture was grey to begin with.
    """
    sample = _sample(rgb)
    spread = sample.max(axis=2).astype(np.int32) - sample.min(axis=2)
    pixels: Any = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return pixels, _few(spread > CHROMA_NOISE * np.iinfo(rgb.dtype).max)


def from_ycbcr(ycbcr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
    """JPEG's own channels to grey: the first is luma already.

    Args:
        ycbcr: (height, width, 3) uint8, full range.

    Returns:
        As :func:`from_rgb`.
    """
    chroma = _sample(ycbcr)[:, :, 1:].astype(np.int32) - 128
    # What the chroma adds to blue and to red (ITU-T T.871).
    spread = np.maximum(np.abs(chroma[:, :, 0]) * 1.772, np.abs(chroma[:, :, 1]) * 1.402)
    return np.ascontiguousarray(ycbcr[:, :, 0]), _few(spread > CHROMA_NOISE * 255)


def from_rgba(rgba: Pixels) -> tuple[Pixels, bool]:
    """Colour with transparency to grey, laid over black, a few rows at a time: beside the picture it takes no memory.

    Args:
        rgba: (height, width, 4), uint8 or uint16.

    Returns:
        As :func:`from_rgb`. What cannot be seen has no colour either.
    """
    _, is_grey = from_rgb(_seen(_sample(rgba)))
    laid: Any = np.empty(rgba.shape[:2], rgba.dtype)
    for rows in _bands(rgba):
        laid[rows] = cv2.cvtColor(_seen(rgba[rows]), cv2.COLOR_RGB2GRAY)
    return over_black(laid, rgba[..., 3]), is_grey


def over_black(grey: Pixels, alpha: Pixels) -> Pixels:
    """Lay a partly transparent picture over black; both are (height, width) of one dtype."""
    white = int(np.iinfo(grey.dtype).max)
    if int(alpha.min()) == white:
        return grey
    laid: Any = np.empty_like(grey)
    for rows in _bands(grey):
        wide: NDArray[np.int64] = np.multiply(grey[rows], alpha[rows], dtype=np.int64)
        laid[rows] = (wide + white // 2) // white
    return laid  # type: ignore[no-any-return]


def stretch(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Values without a known white to uint16: the least becomes black, the greatest white; not-a-number is black.

    A few rows at a time: beside the values and the result it takes no memory.

    Args:
        values: (height, width) of integers of 32 bits or floats.
    """
    stretched = np.zeros(values.shape, dtype=np.uint16)
    low, high = _ends(values)
    if not high > low:
        return stretched
    for rows in _bands(values):
        band = values[rows]
        # Halved first: the difference of two large floats may not fit.
        part = (np.where(np.isfinite(band), band, low).astype(np.float64) / 2 - low / 2) / (high / 2 - low / 2)
        stretched[rows] = np.rint(part * 65535)
    return stretched


def full_range(pixels: Pixels) -> tuple[Pixels, tuple[str, ...]]:
    """Values of a detector's bits that were stored in 16 as they are, to all of the 16.

    PNG and TIFF hold 8 or 16 bits, and much software writes a detector's 10, 12 or 14 into 16 without scaling them. A
    picture that holds no value above 14 bits' is taken for one of these, by the least depth that its values fit in;
    one whose values are all multiples of 256 or of 257 had 8 bits to begin with, and is as dark as it was.

    Args:
        pixels: (height, width), uint8 or uint16.

    Returns:
        The pixels, with white as uint16's maximum, and a note where they were changed.
    """
    greatest = int(pixels.max(initial=0))
    bits = next((bits for bits in DETECTOR_BITS if greatest < 1 << bits), None)
    if pixels.dtype != np.uint16 or bits is None or not greatest:
        return pixels, ()
    white = (1 << bits) - 1
    if greatest > 255 and any(not (pixels % step).any() for step in (256, 257)):  # noqa: PLR2004 - 8 bits
        return pixels, ()
    table = np.rint(np.arange(white + 1) * (65535 / white)).astype(np.uint16)
    return table[pixels], (f"dark: no value is above {greatest:,} of 65,535; taken for {bits} bits",)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn a picture as EXIF's orientation (1 to 8) says; anything else leaves it as it is."""
    turns: dict[int, Any] = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: pixels.T[:, ::-1],
        7: pixels[::-1, ::-1].T,
        8: pixels.T[::-1],
    }
    turned: Any = np.ascontiguousarray(turns.get(orientation, pixels))
    return turned  # type: ignore[no-any-return]


def exif_orientation(exif: bytes) -> int:
    """Find the orientation in an EXIF block; 1, upright, where it is missing or damaged.

    Args:
        exif: a TIFF header and its first directory, with or without "Exif" and two zero bytes before.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}4xI", exif)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for index in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * index)
            if tag == _ORIENTATION and kind == _SHORT:
                return int(value)
    except struct.error:
        pass
    return 1


def _seen(rgba: Pixels) -> Pixels:
    seen: Any = np.where(rgba[..., 3:] > 0, rgba[..., :3], 0).astype(rgba.dtype)
    return seen  # type: ignore[no-any-return]


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    """The least and the greatest of the finite values; infinity and -infinity where there is none."""
    low, high = math.inf, -math.inf
    for rows in _bands(values):
        finite = values[rows][np.isfinite(values[rows])]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high


def _bands(pixels: NDArray[Any]) -> Iterator[slice]:
    """Rows, as many at a time as make about a million pixels."""
    step = max(1, _BAND // pixels.shape[1])
    return (slice(row, row + step) for row in range(0, pixels.shape[0], step))


def _sample(pixels: Pixels) -> Pixels:
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / _SAMPLES) ** 0.5))
    return pixels[::step, ::step]


def _few(coloured: NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(coloured) <= COLOURED_PART * coloured.size)
