"""What in a radiograph speaks against trusting an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from callus.identify.turned import turned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.preprocess import InputSpec
    from callus.radiograph import Radiograph

SMALLEST_SIDE: Final = 128
"""Pixels of the shorter side below which a fracture line is hardly left; FracAtlas' and BoneData's smallest has 224."""
MOST_ENLARGED: Final = 2
"""Times that a radiograph is enlarged to the network's input without a word: what is finer than its pixels is made up.

The model that comes with callus learnt from pictures that were enlarged up to 1.6 times."""
MOST_WHITE: Final = 0.02
"""Share of the exposed field at full white; in 400 radiographs drawn from FracAtlas and BoneData at most 0.001."""
MOST_BLACK: Final = 0.6
"""Share of the exposed field at black; in the same 400 at most 0.18 of the whole picture was black."""
LARGEST_ASPECT: Final = 4.0
"""Longer side to shorter; in the same 400 at most 2.7."""
VERY_FAR: Final = 100
"""Times the usual distance from which the number tells nothing more."""
FLAT: Final = 0.02
"""Share of the grey range between the 1st and the 99th percentile below which there is nothing to see."""


def cautions(radiograph: Radiograph, spec: InputSpec) -> tuple[str, ...]:
    """What in a radiograph speaks against trusting an answer, a line each.

    Args:
        radiograph: as read; its notes (a truncated file) are carried over.
        spec: what the network takes.
    """
    found = list(radiograph.notes)
    height, width = radiograph.height, radiograph.width
    if min(height, width) < SMALLEST_SIDE:
        found.append(f"too small: {width} x {height} pixels, a shorter side of at least {SMALLEST_SIDE} is expected")
    elif MOST_ENLARGED * height < spec.height and MOST_ENLARGED * width < spec.width:
        found.append(f"too small: {width} x {height} pixels are enlarged to the network's {spec.width} x {spec.height}")
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        found.append(f"long: {width} x {height} pixels, a shape that radiographs of bones seldom have")
    if not radiograph.grey:
        found.append("not grey: the picture has colours, a radiograph has none")
    found += _grey_value_cautions(radiograph.pixels)
    if degrees := turned(radiograph.pixels):
        found.append(f"rotated: its corners are filled as if it had been turned by about {degrees:.0f} degrees")
    return tuple(found)


def unlike(distance: float | None) -> tuple[str, ...]:
    """Say that a radiograph is unlike the training data, where it is; at most one line.

    Args:
        distance: as :class:`callus.identify.finding.Finding` has it.
    """
    if distance is None or distance <= 1:
        return ()
    digits = 1 if round(distance, 1) > 1 else 2  # "1.0 times" would contradict itself
    told = f"{max(distance, 1.01):.{digits}f} times" if distance < VERY_FAR else f"more than {VERY_FAR} times"
    return (f"unlike the training data: {told} the distance within which 99 % of radiographs like them lie",)


def _grey_value_cautions(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> list[str]:
    white = np.iinfo(pixels.dtype).max
    # A grid of about 1,000 x 1,000 pixels tells shares well enough, and costs the same for the largest picture.
    pixels = pixels[:: max(1, pixels.shape[0] // 1000), :: max(1, pixels.shape[1] // 1000)]
    low, high = _percentiles(pixels, (1, 99))
    if high - low < FLAT * white:
        return ["flat: the grey values hardly differ, there is nothing to see"]
    exposed = _exposed(pixels, white)
    found = []
    for value, name, most in ((white, "white", MOST_WHITE), (0, "black", MOST_BLACK)):
        share = np.count_nonzero(exposed == value) / max(1, exposed.size)
        if share > most:
            found.append(f"clipped: {share:.0%} of the exposed field is full {name}, detail may be lost")
    return found


def _percentiles(pixels: NDArray[np.uint8] | NDArray[np.uint16], asked: tuple[int, ...]) -> list[int]:
    """The smallest grey values that at least so many per cent of the pixels reach at most.

    By counting, which takes a tenth of the time that NumPy's partition does.
    """
    levels = int(np.iinfo(pixels.dtype).max) + 1
    counts = cv2.calcHist([np.ascontiguousarray(pixels)], [0], None, [levels], [0, levels])
    below = np.cumsum(counts, dtype=np.float64)
    return [int(np.searchsorted(below, share / 100 * below[-1])) for share in asked]


def _exposed(pixels: NDArray[np.uint8] | NDArray[np.uint16], white: int) -> NDArray[Any]:
    """The picture without the black or white frame that collimation leaves."""
    inside = (pixels > 0) & (pixels < white)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return pixels
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
