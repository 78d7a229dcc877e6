"""Whether two pictures are one radiograph: they are laid over each other, and what is left over is looked at.

Two hands look alike, two exposures of one hand more so, and two pictures from one imaging plate share its scratches. A
copy differs from all of these in that one affine map brings *every* place onto its counterpart, with errors that are
noise; where a limb moved between two exposures the errors are a smooth field. So beside the number of places that fall
together, the decision weighs how small the errors are, how alike neighbouring errors are, and how well the fine detail
and the coarse grey values of the overlaid pictures agree. All of that can come from what was drawn about or over two
radiographs, a viewer's window or a watermark: so no part may show one thing here and another there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from scipy.spatial import cKDTree

from callus.dataset.keypoints import INVERTED, LEAST_PLACES, LENGTH, MIRRORED, PERMUTATIONS, VARIANTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.dataset.keypoints import Description

Floats = "NDArray[np.floating[Any]]"

_VARIED: Final = PERMUTATIONS.T  # (128, 4)
_RATIO: Final = 0.81  # Lowe's ratio 0.9 of distances, squared
_WITHIN: Final = 1.5  # thumbnail pixels: places that are taken to fall together
_CLOSE: Final = 0.5
_REACH: Final = 4.0  # matches up to here tell about a field of errors
_NEIGHBOURS: Final = 5
_STRETCH: Final = (0.2, 5.0, 2.5)  # of the map: least, most, and most between its directions
_BLOCK: Final = 12  # thumbnail pixels
_SHAPES: Final = (1.5, 8.0)  # thumbnail pixels: standard deviations of the two blurs whose difference shows shapes
_WINDOW: Final = 21  # thumbnail pixels, in which shapes are compared
_SHAPED: Final = 8.0  # grey values: their spread where there is a shape
_ALIKE: Final = 0.5  # correlation; a copy's are near 1, whatever was done to its grey values
_EDGE: Final = 12  # thumbnail pixels from the overlay's edge, where turning and turning back leaves streaks
_EVEN: Final = (2, 0.005)  # grey values between neighbours, and share of the picture, of what is even


ROTATED: Final = 3.0
"""Degrees from which a copy is said to be turned."""


@dataclass(frozen=True)
class Overlay:
    """How well one picture, moved by an affine map, lies over another. Lengths are in thumbnail pixels.

    Attributes:
        variant: how they are related, see ``callus.dataset.keypoints``.
        matrix: float64 (2, 3), (x, y, 1) of the first thumbnail to (x, y) of the second.
        close: places that fall together within half a pixel.
        reach: places that fall together within four pixels.
        error: median distance of these.
        field: root mean square of what neighbouring errors have in common.
        detail: correlation of the fine detail, locally normalised, from -1 to 1.
        agreeing: share of the textured blocks whose detail correlates by more than one half.
        block: median correlation of the textured blocks.
        tone: how much of the one's coarse grey values the other's tell (correlation ratio, 0 to 1), whatever the curve
            between them; the lesser of both ways.
        share: share of the smaller picture that the other covers.
    """

    variant: int
    matrix: NDArray[np.float64]
    close: int
    reach: int
    error: float
    field: float
    detail: float
    agreeing: float
    block: float
    tone: float
    share: float

    def evidence(self) -> NDArray[np.float64]:
        """What a decision weighs: (8,)."""
        return np.array(
            [
                np.log(max(self.close, 0.5)),
                self.close / max(self.reach, 1),
                min(self.error, 2.0),
                min(self.field, 1.5),
                self.detail,
                self.agreeing,
                self.block,
                self.tone,
            ]
        )


def lay_over(a: Description, b: Description) -> Overlay | None:
    """Find the affine map that brings most of ``a``'s places onto ``b``'s; None where there is none.

    Args:
        a: one picture.
        b: the other, described with the same detail.
    """
    if min(len(a.points), len(b.points)) < LEAST_PLACES:
        return None
    pairs = _matches(a.unit(), b.unit())
    variant = max(range(VARIANTS), key=lambda number: len(pairs[number][0]))
    in_a, in_b = pairs[variant]
    if len(in_a) < LEAST_PLACES:
        return None
    from_a, to_b = a.points[in_a], b.points[in_b]
    matrix = _affine(from_a, to_b, mirrored=bool(variant & MIRRORED))
    if matrix is None:
        return None
    errors = _moved(from_a, matrix) - to_b
    distance = np.linalg.norm(errors, axis=1)
    reach = distance < _REACH
    return Overlay(
        variant,
        matrix,
        int((distance < _CLOSE).sum()),
        int(reach.sum()),
        float(np.median(distance[reach])),
        _common(to_b[reach], errors[reach]),
        *_agreement(a.thumbnail, b.thumbnail, matrix, inverted=bool(variant & INVERTED)),
    )


def between_radiographs(a: Description, b: Description, overlay: Overlay) -> NDArray[np.float64]:
    """Give the overlay's map in the radiographs' own pixels: float64 (2, 3), edges at whole numbers."""
    to_thumbnail, from_thumbnail = (
        np.diag([seen.thumbnail.shape[1] / seen.size[1], seen.thumbnail.shape[0] / seen.size[0], 1.0])
        for seen in (a, b)
    )
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])  # from centres at whole numbers to edges
    edges = half @ np.vstack([overlay.matrix, (0, 0, 1)]) @ np.linalg.inv(half)
    moved: NDArray[np.float64] = (np.linalg.inv(from_thumbnail) @ edges @ to_thumbnail)[:2]
    return moved


def turn(linear: NDArray[np.float64], *, mirrored: bool) -> float:
    """By how many degrees a map turns, from -180 to 180; of a mirrored one, behind a mirroring left to right."""
    u, _, v = np.linalg.svd(linear @ np.diag([-1.0 if mirrored else 1.0, 1.0]))
    nearest = u @ v  # the rotation that is nearest to the map
    return math.degrees(math.atan2(nearest[1, 0], nearest[0, 0]))


def contradicted(a: Description, b: Description, overlay: Overlay) -> float:
    """The share of an overlay where both pictures show something, and not the same: from 0 to 1.

    What is near the overlay's edge does not count, nor what is near an even part of either that reaches its border:
    copies have black corners, and files that end early have bars.
    """
    first, covered = laid(a.thumbnail, b.thumbnail, overlay.matrix, inverted=bool(overlay.variant & INVERTED))
    over, size = covered > 0, (covered.shape[1], covered.shape[0])
    covered[cv2.warpAffine(_even(a.thumbnail), overlay.matrix, size, flags=cv2.INTER_NEAREST) > 0] = 0
    covered[_even(b.thumbnail) > 0] = 0
    edge = np.ones((2 * _EDGE + 1, 2 * _EDGE + 1), np.uint8)
    inner = cv2.erode(covered, edge, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    if inner.sum() < _BLOCK * _BLOCK:
        return 0.0
    second = b.thumbnail.astype(np.float32)
    x, y = shapes(np.where(over, first, second)), shapes(second)
    mean_x, mean_y = _windowed(x), _windowed(y)
    spread_x, spread_y = _windowed(x * x) - mean_x * mean_x, _windowed(y * y) - mean_y * mean_y
    shown = np.minimum(spread_x, spread_y) > _SHAPED * _SHAPED
    unlike = _windowed(x * y) - mean_x * mean_y < _ALIKE * np.sqrt(np.maximum(spread_x * spread_y, 0))
    return float((shown & unlike)[inner].mean())


def _matches(a: NDArray[np.float32], b: NDArray[np.float32]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """For each variant, the places of ``a`` and ``b`` that are each other's nearest, clearly nearer than the second."""
    every = a @ b.T[_VARIED].reshape(LENGTH, -1)
    found = []
    for likeness in every.reshape(len(a), VARIANTS, len(b)).transpose(1, 0, 2):
        rows = np.arange(len(likeness))
        nearest = likeness.argmax(axis=1)
        best = likeness[rows, nearest]
        mutual = likeness.argmax(axis=0)[nearest] == rows
        likeness[rows, nearest] = -1
        chosen = np.flatnonzero(mutual & (1 - best < _RATIO * (1 - likeness.max(axis=1))))
        found.append((chosen, nearest[chosen]))
    return found


def _affine(from_a: NDArray[np.float32], to_b: NDArray[np.float32], *, mirrored: bool) -> NDArray[np.float64] | None:
    """RANSAC, then least squares on what falls together; None where that is no map of a copy."""
    found: Any = cv2.estimateAffine2D(
        from_a, to_b, method=cv2.RANSAC, ransacReprojThreshold=_WITHIN, maxIters=1000, confidence=0.99
    )[0]
    if found is None:
        return None
    matrix = np.asarray(found, np.float64)
    homogeneous = np.hstack([from_a, np.ones((len(from_a), 1), np.float32)]).astype(np.float64)
    for within in (_WITHIN * 4 / 3, _WITHIN, _WITHIN):
        near = np.linalg.norm(homogeneous @ matrix.T - to_b, axis=1) < within
        if near.sum() < LEAST_PLACES - 2:
            return None
        matrix = np.linalg.lstsq(homogeneous[near], to_b[near].astype(np.float64), rcond=None)[0].T
    large, small = np.linalg.svd(matrix[:, :2], compute_uv=False)
    least, most, between = _STRETCH
    if small < least or large > most or large > between * small:
        return None
    return None if (np.linalg.det(matrix[:, :2]) < 0) != mirrored else matrix


def _moved(points: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def _common(points: NDArray[np.float32], errors: NDArray[np.float64]) -> float:
    """Root mean square of what an error has in common with the median of its neighbours'; 0 where it is noise."""
    once = np.unique((points / _WITHIN).round().astype(np.int64), axis=0, return_index=True)[1]
    if len(once) <= _NEIGHBOURS + 2:
        return 0.0
    limited = np.clip(errors[once], -2, 2)
    neighbours = np.asarray(cKDTree(points[once]).query(points[once], k=_NEIGHBOURS + 1)[1])[:, 1:]
    common = (limited * np.median(limited[neighbours], axis=1)).sum(axis=1).mean()
    return float(np.sqrt(max(0.0, common)))


def _agreement(
    a: NDArray[np.uint8], b: NDArray[np.uint8], matrix: NDArray[np.float64], *, inverted: bool
) -> tuple[float, float, float, float, float]:
    """The overlay's ``detail``, ``agreeing``, ``block``, ``tone`` and ``share``."""
    first, covered = laid(a, b, matrix, inverted=inverted)
    inside = cv2.erode(covered, np.ones((5, 5), np.uint8), borderValue=255) > 0
    share = inside.sum() / max(1.0, min(a.size * abs(np.linalg.det(matrix[:, :2])), b.size))
    if inside.sum() < _BLOCK * _BLOCK:
        return 0.0, 0.0, 0.0, 0.0, float(share)
    second = b.astype(np.float32)
    mask = inside.astype(np.float32)
    fine_a, fine_b = _fine(first), _fine(second)
    x, y = _levelled(fine_a) * mask, _levelled(fine_b) * mask
    detail = float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum() + 1e-6))
    textured = (_blocks(mask) > 0.9) & (np.maximum(_blocks(abs(fine_a) * mask), _blocks(abs(fine_b) * mask)) > 1.2)  # noqa: PLR2004
    agreeing = block = 0.0
    if textured.sum() >= LEAST_PLACES - 2:
        each = _blocks(x * y)[textured] / np.sqrt(_blocks(x * x)[textured] * _blocks(y * y)[textured] + 1e-3)
        agreeing, block = float((each > 0.5).mean()), float(np.median(each))  # noqa: PLR2004
    every = inside[::2, ::2]  # of what is blurred, every second pixel tells all
    coarse_a, coarse_b = _blurred(first, 2.0)[::2, ::2][every], _blurred(second, 2.0)[::2, ::2][every]
    return detail, agreeing, block, min(_told(coarse_a, coarse_b), _told(coarse_b, coarse_a)), float(share)


def laid(
    a: NDArray[np.uint8], b: NDArray[np.uint8], matrix: NDArray[np.float64], *, inverted: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """``a`` as it lies over ``b``, float32 (h, w), and uint8 255 where it does; all are thumbnails."""
    size = b.shape[1], b.shape[0]
    laid = cv2.warpAffine(255 - a if inverted else a, matrix, size).astype(np.float32)
    return laid, cv2.warpAffine(np.full(a.shape, 255, np.uint8), matrix, size, flags=cv2.INTER_NEAREST)  # type: ignore[return-value]


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 in the even parts that reach the picture's border, 0 elsewhere."""
    square = np.ones((3, 3), np.uint8)
    flat = np.asarray(cv2.subtract(cv2.dilate(picture, square), cv2.erode(picture, square)) <= _EVEN[0], np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    x, y, width, height, area = stats.T
    reach = (x == 0) | (y == 0) | (x + width == picture.shape[1]) | (y + height == picture.shape[0])
    reach &= area > _EVEN[1] * picture.size
    reach[0] = False  # what is not flat
    return np.asarray(reach.astype(np.uint8)[parts], np.uint8)


def shapes(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is coarser than noise and finer than a limb's shade."""
    return _blurred(picture, _SHAPES[0]) - _blurred(picture, _SHAPES[1])


def _windowed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the window about each pixel."""
    return cv2.boxFilter(values, -1, (_WINDOW, _WINDOW))  # type: ignore[return-value]


def _fine(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is finer than a few thumbnail pixels, without the finest noise."""
    return _blurred(picture, 0.75) - _blurred(picture, 3.0)


def _blurred(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return cv2.GaussianBlur(picture, (0, 0), sigma)  # type: ignore[return-value]


def _levelled(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same strength everywhere, so that a bright edge does not outvote a bone."""
    level: NDArray[np.float32] = fine / np.sqrt(_blurred(fine * fine, 4.0) + np.float32(4))
    return level


def _blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of blocks."""
    means: NDArray[np.float32] = cv2.boxFilter(values, -1, (_BLOCK, _BLOCK))[
        _BLOCK // 2 :: _BLOCK, _BLOCK // 2 :: _BLOCK
    ]  # type: ignore[assignment]
    return means


def _told(x: NDArray[np.float32], y: NDArray[np.float32], bins: int = 16) -> float:
    """The correlation ratio: the share of y's variance between the means of bins of equal count of x."""
    at = np.linspace(0, len(x) - 1, bins + 1)[1:-1]
    edges = np.interp(at, np.arange(len(x)), np.sort(x))  # quantiles; NumPy's own function is three times as slow
    place = np.searchsorted(edges, x)
    count = np.maximum(np.bincount(place, minlength=bins), 1)
    mean = np.bincount(place, y, bins) / count
    return float(1 - ((y - mean[place]) ** 2).mean() / max(float(y.var()), 1e-3))
