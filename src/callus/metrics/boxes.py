"""From a map to boxes on the radiograph: what lies together at or above a threshold makes one box."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SMALLEST_SIDE = 2.0
"""In pixels of the radiograph: what is left of a region that lies almost wholly in the letterbox is no finding."""
_NEIGHBOURS = 8
"""Cells that touch at a corner belong together."""


@dataclass(frozen=True)
class Box:
    """A box in the radiograph's own pixels.

    Attributes:
        x: left edge; the first column of pixels begins at 0.
        y: top edge.
        width: above 0; a box over all columns has the radiograph's width.
        height: above 0.
        score: the map's largest value in it, in [0, 1].
    """

    x: float
    y: float
    width: float
    height: float
    score: float

    def as_dict(self) -> dict[str, float]:
        """As it stands in the JSON of results."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Box:
        """Read what :meth:`as_dict` wrote."""
        return cls(*(float(values[key]) for key in ("x", "y", "width", "height", "score")))


def boxes_from_map(
    heat: NDArray[np.float32],
    map_to_original: NDArray[np.float64],
    threshold: float,
    shape: tuple[int, int],
    *,
    smallest_side: float = SMALLEST_SIDE,
) -> tuple[Box, ...]:
    """Make boxes of the map's regions at or above a threshold.

    A box reaches from the outer edge of its first cell to that of its last (cells cover areas, pixels too), mapped to
    the radiograph and cut at its borders.

    Args:
        heat: float32 (h, w) in [0, 1].
        map_to_original: float64 (2, 3); (x, y, 1) of a cell's centre to (x, y) of the radiograph's, pixel centres at
            whole numbers. No rotation: the boxes stand upright.
        threshold: cells with at least this value count; cells of value 0 never do.
        shape: height and width of the radiograph, in pixels.
        smallest_side: boxes with a shorter side than this, in the radiograph's pixels, are left out.

    Returns:
        Boxes in the radiograph's pixels, by score from the highest; equal ones from top to bottom, left to right.

    Raises:
        CallusError: the affine turns or shears.
    """
    if map_to_original[0, 1] != 0 or map_to_original[1, 0] != 0:
        raise CallusError("the map's affine turns or shears; boxes stand upright and need one that does not")
    warm = ((heat >= threshold) & (heat > 0)).astype(np.uint8)
    _, labels, regions, _ = cv2.connectedComponentsWithStats(warm, connectivity=_NEIGHBOURS)
    boxes = []
    for label, (column, row, columns, rows, _) in enumerate(regions.tolist()[1:], start=1):
        left, right = _extent(column, columns, map_to_original[0, 0], map_to_original[0, 2], shape[1])
        top, bottom = _extent(row, rows, map_to_original[1, 1], map_to_original[1, 2], shape[0])
        if min(right - left, bottom - top) >= min(smallest_side, *shape):
            score = float(heat[labels == label].max())
            boxes.append(Box(left, top, right - left, bottom - top, score))
    return tuple(sorted(boxes, key=lambda box: (-box.score, box.y, box.x)))


def map_to_input(stride: float) -> NDArray[np.float64]:
    """Where a map's cells lie in the network's input: cell j covers the pixels from j * stride to (j + 1) * stride.

    Returns:
        float64 (2, 3): (x, y, 1) of a cell's centre to (x, y) of the input's pixels, whose centres are whole numbers.
    """
    offset = (stride - 1) / 2
    return np.array([[stride, 0.0, offset], [0.0, stride, offset]], dtype=np.float64)


def after(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chain two affines: ``first``, then ``second``; float64 (2, 3) each."""
    square = np.vstack([first, [0.0, 0.0, 1.0]])
    return np.asarray(second @ square)


def _extent(start: int, count: int, scale: float, offset: float, size: int) -> tuple[float, float]:
    """From the first cell's outer edge to the last one's, in pixel edges, cut to [0, size]."""
    # A cell's edges lie half a cell beside its centre; a pixel's edges half a pixel beside its own, hence the 0.5.
    first = scale * (start - 0.5) + offset + 0.5
    last = scale * (start + count - 0.5) + offset + 0.5
    return float(np.clip(first, 0, size)), float(np.clip(last, 0, size))
