"""Whether a radiograph was turned on its canvas, told by the straight edges that cut its filled corners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE: Final = 256
"""Longer side of the picture that is looked at, pixels."""
ALIKE: Final = 8
"""Grey levels of 255 by which a filled corner may vary: JPEG rings at the edge."""
STRAIGHT: Final = 1.5
"""Pixels that an edge may stray from its line, and what a line of the nearest whole degree strays at its ends."""
SUPPORT: Final = 0.7
"""Share of a corner's edge that has to lie on one line. With 0.6 three times as many FracAtlas pictures were named."""
SMALLEST: Final = 5.0
"""Pixels between a corner and the edge that cuts it; a square turned by 8 degrees has 30."""
CORNERS: Final = 2
"""Corners that have to be cut by edges of one angle. One alone has about a tenth of FracAtlas."""
_DEGREES: Final = np.arange(8, 83, dtype=np.float32)
_STEEP: Final = _DEGREES <= 45  # noqa: PLR2004 - where rows meet the edge more often than columns
_ANGLES: Final = np.deg2rad(np.minimum(_DEGREES, 90 - _DEGREES))
"""Between an edge's normal and the rows, or the columns where it is nearer to these; radians."""


def turned(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> float | None:
    """Tell by how much a radiograph was turned on its canvas.

    Turning leaves corners that the radiograph does not reach. Where they are filled with one grey value, a straight
    edge cuts each of them, and all these edges stand at one angle or a right angle to it. Two such corners are asked
    for.

    Found, of every 12th file of FracAtlas (283) turned by 15 to 75 degrees either way: filled black 97 % as they come,
    96 % re-encoded as JPEG of quality 70 to 95, and 95 % of those on a canvas that holds all of the turned radiograph;
    filled white and re-encoded 99 % and 100 %; turned by 8 to 15 degrees, black and re-encoded 96 %. The angle is right
    to 2 degrees in all of them. Of BoneData's rotated copies, many of which are turned by less, 86 %.

    Said of 4 of FracAtlas' 3,385 files as they are (two white borders of the film, aslant) and of 4 of BoneData's 131
    originals, which by eye are turned or have a slanted field. It takes 0.4 ms, where corners are cut 1.5 ms.

    What it cannot tell: corners filled with streaks of the nearest pixels (4 % are found) or with mirrored ones,
    quarter turns, turns by less than 8 degrees, a field that is as dark as the filling, and a field that a collimator
    cut aslant from a turned one.

    Args:
        pixels: (h, w), 0 is black and the dtype's maximum white.

    Returns:
        Degrees, 8 to 45, up to a quarter turn and without direction; None where it does not look turned.
    """
    grey = _reduced(pixels)
    if min(grey.shape) < 4 * SMALLEST:  # the corners would be all there is
        return None
    found = [
        corner
        for number, flipped in enumerate((grey, grey[:, ::-1], grey[::-1, ::-1], grey[::-1]))
        if (corner := _cut(flipped, mirrored=number % 2 == 1)) is not None
    ]
    if len(found) < CORNERS:
        return None
    # Edges that are a degree apart are the same: the lines were tried at whole degrees.
    near = np.array([np.convolve(lies, np.ones(3), "same") > 0 for lies, _ in found])
    count, support = near.sum(axis=0), np.sum([share for _, share in found], axis=0)
    best = int(np.lexsort((support, count))[-1])
    if count[best] < CORNERS:
        return None
    return float(min(_DEGREES[best], 90 - _DEGREES[best]))


def _cut(grey: NDArray[np.uint8], *, mirrored: bool) -> tuple[NDArray[np.bool_], NDArray[np.float32]] | None:
    """At which angles a straight edge cuts the upper left corner, and how much of the edge lies on the line.

    Args:
        grey: (h, w), flipped so that the corner is the upper left one.
        mirrored: whether flipping turned angles round.

    Returns:
        bool and float32, one for each of the degrees from 8 to 82 by which the picture may be turned; None where
        nothing is filled.
    """
    corner = int(grey[:3, :3].mean())
    low, high = max(0, corner - ALIKE), min(255, corner + ALIKE)
    first = grey[: int(SMALLEST), : int(SMALLEST)]
    if first.min() < low or first.max() > high:
        return None
    filled = cv2.inRange(grey, low, high) > 0
    share = np.concatenate([_support(_run(filled, 1), _ANGLES[_STEEP]), _support(_run(filled, 0), _ANGLES[~_STEEP])])
    if mirrored:
        share = share[::-1]
    return share >= SUPPORT, share


def _run(filled: NDArray[np.bool_], axis: int) -> NDArray[np.float32]:
    """How many pixels are filled from the start of each row (axis 1) or column (axis 0)."""
    first = filled.argmin(axis=axis)
    whole = (first == 0) & filled.take(0, axis=axis)
    return np.asarray(np.where(whole, filled.shape[axis], first), np.float32)


def _support(run: NDArray[np.float32], angles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the edge that lies on a line, for lines whose normals stand at some angles to the rows.

    The line is the one nearest to the corner: where the radiograph is as dark as the filling, or reaches less far than
    its canvas, what is filled goes on behind the line, but never ends before it.

    Args:
        run: filled pixels from the left, (n,), by row.
        angles: (k,), radians, in (0, pi / 4].

    Returns:
        float32 (k,), in [0, 1]; 0 where the line is nearer to the corner than SMALLEST.
    """
    rows = len(run)
    run = run[: int((run > 0).argmin() or rows) + 1]  # the rows below the edge's end tell nothing
    row = np.arange(len(run), dtype=np.float32)
    sine = np.sin(angles)[:, np.newaxis]
    away = run * np.cos(angles)[:, np.newaxis] + row * sine  # of where each row's filling ends, along the normal
    line = np.partition(away, 2, axis=1)[:, 2:3]  # two rows may be spoilt
    length = np.minimum(line / sine, rows)
    on_line = np.count_nonzero((np.abs(away - line) <= STRAIGHT) & (row < length), axis=1)
    share = on_line / np.maximum(length[:, 0], 1)
    return np.where((line[:, 0] >= SMALLEST) & (length[:, 0] >= 2 * SMALLEST), share, 0).astype(np.float32)


def _reduced(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The picture at SIDE with 8 bits; every few pixels of a large one are enough."""
    step = max(1, max(pixels.shape) // (2 * SIDE))
    some: NDArray[Any] = np.ascontiguousarray(pixels[::step, ::step])
    if some.dtype != np.uint8:
        some = (some >> 8).astype(np.uint8)
    if max(some.shape) >= 2 * SIDE and min(some.shape) > 1:
        # Half the size, which OpenCV does much faster than any other share; the rest may be interpolated.
        even = some[: some.shape[0] // 2 * 2, : some.shape[1] // 2 * 2]
        some = np.asarray(
            cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA), np.uint8
        )
    scale = SIDE / max(some.shape)
    if scale >= 1:
        return some
    size = (max(1, round(some.shape[1] * scale)), max(1, round(some.shape[0] * scale)))
    return np.asarray(cv2.resize(some, size, interpolation=cv2.INTER_LINEAR), np.uint8)
