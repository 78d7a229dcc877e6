"""Whether one of two copies is the other before it was turned onto a larger canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from callus.dataset.corners import CELL, filled_cells
from callus.dataset.keypoints import MIRRORED
from callus.dataset.registration import ROTATED, between_radiographs, lay_over, turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.dataset.keypoints import Description

_ENLARGED: Final = 1.05
"""Times that one file shows things larger than another, up to which it has no more detail."""
_WITHIN: Final = 0.98
"""Share of the smaller file that lies in the larger one's frame."""
_EMPTY: Final = 0.95
"""Share of the larger one's cells beside the smaller one that are filled."""


def is_original(smaller: Description, larger: Description, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bool:
    """Tell whether a picture is another (``pixels``) before it was turned onto a larger canvas.

    They lie turned over each other, in one scale; the smaller one lies in the larger one's frame, where all beside it
    is filled.
    """
    overlay = lay_over(smaller, larger)
    if overlay is None:
        return False
    matrix = between_radiographs(smaller, larger, overlay)
    degrees = turn(matrix[:, :2], mirrored=bool(overlay.variant & MIRRORED))
    if abs(degrees - 90 * round(degrees / 90)) <= ROTATED or abs(np.linalg.det(matrix[:, :2])) > _ENLARGED**2:
        return False
    height, width = smaller.size
    corners = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)]) @ matrix.T
    frame = np.array([(0, 0), (larger.size[1], 0), (larger.size[1], larger.size[0]), (0, larger.size[0])])
    common, _ = cv2.intersectConvexConvex(corners.astype(np.float32), frame.astype(np.float32))
    if common < _WITHIN * cv2.contourArea(corners.astype(np.float32)):
        return False
    filled = filled_cells(pixels)
    beside: Any = np.ones(filled.shape, np.uint8)
    # A cell's centre at (i + 0.5) * CELL, and one cell more, as the border between them is no filled one.
    cv2.fillPoly(beside, [np.round(corners / CELL - 0.5).astype(np.int32)], (0,))
    beside = cv2.erode(beside, np.ones((3, 3), np.uint8), borderValue=1)
    return bool(beside.any()) and bool(filled[beside > 0].mean() >= _EMPTY)
