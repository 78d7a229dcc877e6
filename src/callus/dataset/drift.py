"""How far parts of two pictures drift apart against one affine map: those of second exposures do, a copy's do not.

A limb that turned a little between two exposures gives nearly the same picture, whose parts each lie over each other,
moved by a pixel or two against the whole. Each part's shift is measured where it can be, across its strongest edges;
what an affine map of all shifts leaves is noise in a copy, and a smooth field in a second exposure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from scipy.spatial import cKDTree

from callus.dataset.keypoints import INVERTED
from callus.dataset.registration import laid, shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.dataset.keypoints import Description
    from callus.dataset.registration import Overlay

# Lengths are in thumbnail pixels.
_PART: Final = 24
_REACH: Final = 4  # how far a part is sought
_SHAPED: Final = 2.5  # grey values: their spread in a part whose shift can be told
_FOUND: Final = 0.85  # correlation from which a part is found again
_LEAST_PARTS: Final = 12
_NEIGHBOURS: Final = 5
_OUTLYING: Final = 0.3  # shift from which a part counts less when the affine map is fitted
_CURVE: Final = 4.0  # grey values over which the curve between the two grey scales is smoothed


def drift(a: Description, b: Description, overlay: Overlay, enough: float = 0.0) -> float:
    """Measure what shifts neighbouring parts have in common, root mean square, beyond an affine map; 0 where too few.

    Copies of FracAtlas radiographs changed in every way, alone and in chains, have 0.05 (median) and 0.3 at most;
    second exposures that nothing else told from copies 0.35 and more (at the detail of a closer look).

    Args:
        a: one picture.
        b: the other, described with the same detail.
        overlay: of the two.
        enough: a drift of a copy: where one is found, a smaller one is not sought.
    """
    first, covered = laid(a.thumbnail, b.thumbnail, overlay.matrix, inverted=bool(overlay.variant & INVERTED))
    second, over = b.thumbnail.astype(np.float32), covered > 0
    if not over.any():
        return 0.0
    # A bent or cut off grey scale moves soft edges: one picture is given the other's, both ways, as either may be cut.
    found = _common(*_shifts(shapes(first), shapes(_toned(second, first, over)), over))
    if found > enough:
        found = min(found, _common(*_shifts(shapes(_toned(first, second, over)), shapes(second), over)))
    return found


def _toned(x: NDArray[np.float32], like: NDArray[np.float32], over: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Give a picture the grey scale of another that it lies over: the mean of the other's for each of its values."""
    values = np.clip(x[over], 0, 255).astype(np.intp)
    reach = np.arange(-3 * _CURVE, 3 * _CURVE + 1)
    kernel = np.exp(-0.5 * (reach / _CURVE) ** 2)
    count = np.convolve(np.bincount(values, minlength=256), kernel, "same")
    curve = np.convolve(np.bincount(values, like[over], minlength=256), kernel, "same") / np.maximum(count, 1e-6)
    return np.asarray(np.interp(np.clip(x, 0, 255), np.arange(256), curve), dtype=np.float32)


def _shifts(
    x: NDArray[np.float32], y: NDArray[np.float32], over: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Seek each part of ``y`` in ``x``.

    Returns:
        Of the parts that were found their middles (n, 2), the direction (n, 2) across their strongest edges, along
        which alone a shift can be told, and the shift (n,) along it.
    """
    side = _PART + 2 * _REACH
    rows, columns = (np.arange(side // 2, size - side // 2 + 1, _PART // 2) for size in y.shape)
    here = np.ix_(rows, columns)  # the parts' middles, at which means over a part stand
    gx, gy = np.gradient(y, axis=1), np.gradient(y, axis=0)
    shaped = np.minimum(_spread(x), _spread(y))[here] >= _SHAPED
    xx, yy, xy = (_mean(product, _PART)[here] for product in (gx * gx, gy * gy, gx * gy))
    angle = np.arctan2(2 * xy, xx - yy) / 2  # of the structure tensor's greater axis
    found, tops = [], []
    for i, j in np.argwhere(shaped & (_mean(over.astype(np.float32), side)[here] > 1 - 1e-4)):
        top, left = int(rows[i]) - side // 2, int(columns[j]) - side // 2
        part = y[top + _REACH : top + _REACH + _PART, left + _REACH : left + _REACH + _PART]
        likeness = cv2.matchTemplate(x[top : top + side, left : left + side], part, cv2.TM_CCOEFF_NORMED)
        row, column = divmod(int(likeness.argmax()), likeness.shape[1])
        if likeness[row, column] >= _FOUND and 0 < row < 2 * _REACH and 0 < column < 2 * _REACH:
            found.append((i, j, row, column))
            tops.append((likeness[row, column - 1 : column + 2], likeness[row - 1 : row + 2, column]))
    i, j, row, column = np.array(found, dtype=np.intp).reshape(-1, 4).T
    beside = np.array(tops, dtype=np.float64).reshape(-1, 2, 3)
    bend = beside[:, :, 0] - 2 * beside[:, :, 1] + beside[:, :, 2]  # of a parabola through the top and its neighbours
    peak = np.clip((beside[:, :, 0] - beside[:, :, 2]) / (2 * np.minimum(bend, -1e-9)), -0.5, 0.5)
    directions = np.stack([np.cos(angle[i, j]), np.sin(angle[i, j])], axis=1)
    shifts = (directions * (np.stack([column, row], axis=1) + peak - _REACH)).sum(axis=1)
    return np.stack([columns[j], rows[i]], axis=1).astype(np.float64), directions, shifts


def _mean(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Means of squares of an even side about each pixel, half of the side before it."""
    return np.asarray(cv2.boxFilter(values, -1, (side, side)), dtype=np.float32)


def _spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The standard deviation in the part about each pixel."""
    mean = _mean(values, _PART)
    return np.asarray(np.sqrt(np.maximum(_mean(values * values, _PART) - mean * mean, 0)), dtype=np.float32)


def _common(middles: NDArray[np.float64], directions: NDArray[np.float64], shifts: NDArray[np.float64]) -> float:
    """What is left of the shifts behind an affine map, as far as neighbours have it in common."""
    if len(shifts) < _LEAST_PARTS:
        return 0.0
    where = np.c_[(middles - middles.mean(axis=0)) / 50, np.ones(len(middles))]
    terms = np.c_[where * directions[:, :1], where * directions[:, 1:]]
    weight, left = np.ones(len(shifts)), shifts
    for _ in range(5):
        fitted = np.linalg.lstsq(terms * weight[:, np.newaxis], shifts * weight, rcond=None)[0]
        left = shifts - terms @ fitted
        weight = 1 / np.sqrt(1 + (left / _OUTLYING) ** 2)
    moved = left[:, np.newaxis] * directions
    nearest = np.asarray(cKDTree(middles).query(middles, k=_NEIGHBOURS + 1)[1])[:, 1:]
    common = (moved * np.median(moved[nearest], axis=1)).sum(axis=1).mean()
    return float(np.sqrt(max(0.0, common)))
