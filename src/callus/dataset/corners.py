"""How much of a picture is filled corners: what turning a picture leaves where the turned picture does not reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

CELL: Final = 8
"""Side of the squares that are judged, pixels: the block of JPEG, and small beside a corner of 5 degrees."""
# Both chosen on 25 pictures (simulated, BoneData, FracAtlas), turned by 5 to 45 degrees, filled black, white or
# replicated, as they are and as JPEG of quality 90: in 99.5 % of the 600 cases turning raised the share.
_STILL: Final = 0.5
"""Mean squared gradient, (grey levels of 255 a pixel)^2, up to which nothing changes."""
_STREAKED: Final = 0.05
"""Along a streak the squared gradient is at most this share of that across it: JPEG smears both a little."""


def filled_share(pixels: npt.NDArray[Any]) -> float:
    """Measure the share of a picture that is filled corners, constant or replicated.

    A picture that was turned on its canvas has corners which its own pixels do not reach. They are filled with one grey
    value, or with the nearest pixels, which gives streaks. Both change in no more than one direction, what a detector
    saw changes in all: in each cell of 8 x 8 pixels the structure tensor tells (its smaller eigenvalue is near 0).
    Counted are the cells that hang together with one of the four corners.

    The background of many radiographs is one black, too, so the number says little of one picture. It compares copies
    of one radiograph that have one size: the more a copy was turned (to 45 degrees), the more of it is filled. Quarter
    turns and mirroring fill nothing and cannot be told.

    Args:
        pixels: (h, w), grey, of any unsigned kind; 0 is black.

    Returns:
        From 0 to 1; 0 for pictures of fewer than 3 x 3 cells.
    """
    filled = filled_cells(pixels).astype(np.uint8)
    if min(filled.shape) < 3:  # noqa: PLR2004 - the corners would be all there is
        return 0.0
    _, pieces = cv2.connectedComponents(filled, connectivity=8)
    corners = set(pieces[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()) - {0}  # 0 is what is not filled
    return float(np.isin(pieces, list(corners)).mean())


def filled_cells(pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell of each whole cell of CELL x CELL pixels whether it may be filled: bool (h // CELL, w // CELL).

    Args:
        pixels: as for :func:`filled_share`.
    """
    rows, columns = pixels.shape[0] // CELL, pixels.shape[1] // CELL
    grey = pixels.astype(np.float32)
    grey *= 255 / max(float(grey.max()), 1.0)
    across, down = (cv2.Scharr(grey, cv2.CV_32F, *order, scale=1 / 32) for order in ((1, 0), (0, 1)))
    xx, yy, xy = (_cell_means(product, rows, columns) for product in (across * across, down * down, across * down))
    middle, radius = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)  # the eigenvalues are middle ± radius
    filled: npt.NDArray[np.bool_] = middle - radius <= _STILL + _STREAKED * (middle + radius)
    return filled


def _cell_means(values: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """The mean of each whole cell: (rows, columns)."""
    cut = values[: rows * CELL, : columns * CELL]
    means: npt.NDArray[np.float32] = cut.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3))
    return means
