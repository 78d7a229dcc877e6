"""From a map to boxes on the radiograph: each hill of the map makes one box about its top."""

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
SHOULDER = 0.6
"""A box reaches as far as the map stays above this share of its top.

One threshold for all would draw hardly a box on a faint fracture and one over half the limb on a plain one; it also
joins two fractures that lie side by side. Chosen on a validation split (docs/decisions.md).
"""
_ABOUT = np.ones((3, 3), np.uint8)
_NEIGHBOURS = 8
"""Cells that touch at a corner belong together."""
_FILL = cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY
"""By the difference from the first cell, and only marked."""
_NEW, _OLD = 2, 3
"""Marks of cells that are being filled, and that were; OpenCV marks the frame about them with 1."""


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
    shoulder: float = SHOULDER,
) -> tuple[Box, ...]:
    """Make a box about each of the map's hills whose top is at or above a threshold.

    A hill is what lies together at or above ``shoulder`` times its top, and the threshold; where a higher top is a part
    of that, the lower one is a bump on the higher one's slope and no hill. A box reaches from the outer edge of its
    first cell to that of its last (cells cover areas, pixels too), mapped to the radiograph and cut at its borders.

    Args:
        heat: float32 (h, w) in [0, 1].
        map_to_original: float64 (2, 3); (x, y, 1) of a cell's centre to (x, y) of the radiograph's, pixel centres at
            whole numbers. No rotation: the boxes stand upright.
        threshold: cells with at least this value count; cells of value 0 never do.
        shape: height and width of the radiograph, in pixels.
        smallest_side: boxes with a shorter side than this, in the radiograph's pixels, are left out.
        shoulder: in (0, 1], the share of its top down to which a hill reaches.

    Returns:
        Boxes in the radiograph's pixels, by score from the highest; equal ones from top to bottom, left to right.

    Raises:
        CallusError: the affine turns or shears.
    """
    (scale_x, turn_x, offset_x), (turn_y, scale_y, offset_y) = map_to_original.tolist()
    if turn_x or turn_y:
        raise CallusError("the map's affine turns or shears; boxes stand upright and need one that does not")
    boxes = []
    for top, (column, row, columns, rows) in _hills(heat, threshold, shoulder):
        left, right = _extent(column, columns, scale_x, offset_x, shape[1])
        upper, lower = _extent(row, rows, scale_y, offset_y, shape[0])
        if min(right - left, lower - upper) >= min(smallest_side, *shape):
            boxes.append(Box(left, upper, right - left, lower - upper, top))
    return tuple(sorted(boxes, key=lambda box: (-box.score, box.y, box.x)))


def _hills(
    heat: NDArray[np.float32], threshold: float, shoulder: float
) -> list[tuple[float, tuple[int, int, int, int]]]:
    """Each hill's top, and its first column and row, columns and rows, in cells.

    Higher tops come first, and no cell is filled twice, so that time grows with the map's cells whatever they hold.
    Where a fill comes upon cells of one before, a higher top is a part of what lies together here: what was filled
    before lies at or above its own, higher level, so that this fill would have gone on through all of it.
    """
    # A top is a cell, or some of one value that touch, with no higher one about it.
    tops = (heat == cv2.dilate(heat, _ABOUT)) & (heat >= np.float32(threshold)) & (heat > 0)
    rows, columns = np.nonzero(tops)
    if not len(rows):
        return []
    # OpenCV fills by differences, which round; those of places in the order of values do not. Equal values have the
    # first one's place.
    warm = heat >= max(np.float32(shoulder) * heat[tops].min(), np.float32(threshold))
    values = np.sort(heat[warm])
    ranks = np.full(heat.shape, -1, np.float32)
    ranks[warm] = np.searchsorted(values, heat[warm])
    levels = np.maximum(np.float32(shoulder) * values, np.float32(threshold))
    lowest = np.searchsorted(values, levels).tolist()  # the first place at or above the level of a top at each
    marks = np.zeros((heat.shape[0] + 2, heat.shape[1] + 2), np.uint8)  # OpenCV wants a cell more on each side
    found: list[tuple[float, tuple[int, int, int, int]]] = []
    for index in np.argsort(-heat[rows, columns], kind="stable").tolist():
        row, column = int(rows[index]), int(columns[index])
        if marks[row + 1, column + 1]:
            continue
        rank = int(ranks[row, column])
        _, _, _, rect = cv2.floodFill(
            ranks, marks, (column, row), 0, rank - lowest[rank], len(values), _NEIGHBOURS | _FILL | _NEW << 8
        )
        left, upper, width, height = rect
        about = marks[upper : upper + height + 2, left : left + width + 2]
        new = (about == _NEW).astype(np.uint8)
        if not found or not (cv2.dilate(new, _ABOUT).astype(bool) & (about == _OLD)).any():
            found.append((float(heat[row, column]), (left, upper, width, height)))
        about[new.astype(bool)] = _OLD
    return found


def map_to_input(stride: float, first_centre: float | None = None) -> NDArray[np.float64]:
    """Where a map's cells lie in the network's input.

    Args:
        stride: input pixels from one cell to the next.
        first_centre: the pixel that the first cell is centred at, in each direction; None where cell j covers the
            pixels from j * stride to (j + 1) * stride.

    Returns:
        float64 (2, 3): (x, y, 1) of a cell's centre to (x, y) of the input's pixels, whose centres are whole numbers.
    """
    offset = (stride - 1) / 2 if first_centre is None else first_centre
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
    return min(max(first, 0.0), float(size)), min(max(last, 0.0), float(size))
