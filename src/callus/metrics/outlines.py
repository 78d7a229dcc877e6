"""Boxes and polygons on a radiograph: what lies in them, and how far they overlap.

All places are in the radiograph's pixels with edges at whole numbers (the first column of pixels reaches from 0 to 1),
as in COCO's files and :class:`callus.metrics.boxes.Box`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FINE: Final = 8
"""Points a map cell is sampled at, in each direction: a fracture line is far thinner than a cell."""


def box_around(polygon: Sequence[float]) -> list[float]:
    """Give [x, y, width, height] of the box around a polygon [x0, y0, x1, y1, ...]."""
    x, y = polygon[0::2], polygon[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def corners_of(box: Sequence[float]) -> list[float]:
    """Give a box [x, y, width, height] as a polygon [x0, y0, x1, y1, ...]."""
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each box with each: [x, y, width, height] (a, 4) and (b, 4) to (a, b) in [0, 1]."""
    a, b = first[:, None], second[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    union = a[..., 2:].prod(axis=2) + b[..., 2:].prod(axis=2) - shared
    return np.asarray(shared / np.where(union > 0, union, 1.0))


def centres_inside(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each first box's centre lies in each second box, its border with it: (a, 4) and (b, 4) to (a, b)."""
    centre = (first[:, :2] + first[:, 2:] / 2)[:, None]
    return np.asarray(((centre >= second[:, :2]) & (centre <= second[:, :2] + second[:, 2:])).all(axis=2))


def inside(x: NDArray[Any], y: NDArray[Any], polygon: Sequence[float]) -> NDArray[np.bool_]:
    """Whether points of a grid lie in a polygon, by counting its sides on their right (even is outside).

    A point on a left or top border lies in, one on a right or bottom border does not, so that polygons side by side
    share none.

    Args:
        x: (w,) of the columns.
        y: (h,) of the rows.
        polygon: [x0, y0, x1, y1, ...], closed by itself.

    Returns:
        bool (h, w).
    """
    found = np.zeros((len(y), len(x)), np.bool_)
    corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        rows = np.flatnonzero((y0 <= y) != (y1 <= y))
        crossing = x0 + (y[rows] - y0) * ((x1 - x0) / (y1 - y0)) if rows.size else np.empty(0)
        found[rows] ^= x < crossing[:, None]
    return found


def coverage(
    polygons: Sequence[Sequence[float]], shape: tuple[int, int], map_to_original: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the share of each map cell that the union of polygons covers, sampled at ``FINE`` times ``FINE`` points.

    Args:
        polygons: each [x0, y0, x1, y1, ...].
        shape: height and width of the map, in cells.
        map_to_original: float64 (2, 3), (x, y, 1) of a cell's centre to (x, y) of the radiograph, whose pixels have
            their centres at whole numbers.

    Returns:
        float64 (h, w) in [0, 1].
    """
    height, width = shape
    back = np.linalg.inv(np.vstack([map_to_original, [0.0, 0.0, 1.0]]))
    x, y = ((np.arange(size * FINE) + 0.5) / FINE - 0.5 for size in (width, height))
    covered = np.zeros((height * FINE, width * FINE), np.bool_)
    for polygon in polygons:
        corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2) - 0.5  # edges at whole numbers to centres
        covered |= inside(x, y, (corners @ back[:2, :2].T + back[:2, 2]).ravel().tolist())
    return np.asarray(covered.reshape(height, FINE, width, FINE).mean(axis=(1, 3)))
