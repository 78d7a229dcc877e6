"""Text and arrows that were drawn into a picture: where they stand, not what they say.

Lengths are pixels of a picture reduced to FINE unless said otherwise. Thresholds lie between what radiographs
(FracAtlas, BoneData) measured and what pictures made for the purpose did, nearer to the latter; how often they are
right stands in :func:`callus.dataset.suspicious.suspect`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

MarkKind = Literal["text", "arrow", "watermark"]
Box = tuple[float, float, float, float]  # x, y, width, height

FINE: Final = 768
"""Longest side of the picture in which marks are sought, pixels."""
LETTERS: Final = 4
"""Fewer are a side's letter (L, R, RT, LAT)."""
SHARP: Final = 0.45
"""Slope at the rim of ink to its contrast: what is drawn stays within two pixels, bones and metal do not."""
MOST_SPOTS: Final = 300
"""Pieces that may be letters; a page of text has more, and is no radiograph."""


@dataclass(frozen=True)
class Mark:
    """Where something was written or drawn into a radiograph.

    Attributes:
        kind: "text" (a line of four or more letters, at any quarter turn), "arrow" or "watermark".
        x: left edge, pixels of the original.
        y: top edge, pixels of the original.
        width: pixels of the original, 1 or more.
        height: pixels of the original, 1 or more.
    """

    kind: MarkKind
    x: int
    y: int
    width: int
    height: int


class Spots(NamedTuple):
    """Connected pieces of what is brighter, or darker, than its surroundings; n pieces, the first is the rest.

    Attributes:
        labels: int32 (h, w), each pixel's piece.
        box: float32 (n, 4): x, y, width, height.
        area: (n,), pixels.
        contrast: float32 (n,), largest difference to the surroundings, grey levels.
        sharpness: float32 (n,), slope at the rim over two pixels to the contrast.
        dark: darker than the surroundings.
    """

    labels: NDArray[np.int32]
    box: NDArray[np.float32]
    area: NDArray[Any]
    contrast: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    dark: bool


def slope_of(grey: NDArray[Any]) -> NDArray[np.float32]:
    """Grey values over two pixels, in the steepest direction: float32 (h, w)."""
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 4), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 4)
    return np.asarray(cv2.magnitude(across, down))


def find_spots(grey: NDArray[np.uint8], *, reach: int, contrast: int, extreme: bool = False) -> Iterator[Spots]:
    """The bright pieces, then the dark ones.

    Args:
        grey: (h, w).
        reach: strokes thinner than this are found, pixels.
        contrast: least difference to the surroundings, grey levels.
        extreme: only what is nearly white or nearly black, so that ink on bone does not join with it.
    """
    slope = slope_of(grey)
    for dark, operation in ((False, cv2.MORPH_TOPHAT), (True, cv2.MORPH_BLACKHAT)):
        raised = cv2.morphologyEx(grey, operation, np.ones((reach, reach), np.uint8))
        ink = raised > contrast
        if extreme:
            ink &= (grey <= 30) if dark else (grey >= 225)  # noqa: PLR2004
        count, found, table, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
        labels = found.astype(np.int32, copy=False)
        inner = cv2.erode(ink.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
        rim = ink & (inner == 0)
        at = labels[rim]
        steep = np.bincount(at, slope[rim], count) / np.maximum(np.bincount(at, minlength=count), 1)
        top = np.zeros(count, np.float32)
        np.maximum.at(top, labels[ink], raised[ink].astype(np.float32))
        sharpness = (steep / np.maximum(top, 1)).astype(np.float32)
        yield Spots(labels, table[:, :4].astype(np.float32), table[:, 4], top, sharpness, dark)


def _inside(spots: Spots) -> NDArray[np.bool_]:
    """Which pieces keep clear of the border, where a collimator's edge frays; never the first."""
    x, y, width, height = spots.box.T
    rows, columns = spots.labels.shape
    margin = max(rows, columns) // 200
    inside = (x > margin) & (y > margin) & (x + width < columns - margin) & (y + height < rows - margin)
    inside[0] = False
    return np.asarray(inside)


def find_texts(grey: NDArray[np.uint8], all_spots: Iterable[Spots]) -> list[Box]:
    """Lines of LETTERS or more, horizontal or vertical."""
    found: list[Box] = []
    for spots in all_spots:
        width, height = spots.box[:, 2], spots.box[:, 3]
        long, short = np.maximum(width, height), np.minimum(width, height)
        letters = _inside(spots) & (long >= 4) & (long <= FINE / 3) & (short <= FINE / 12)  # noqa: PLR2004
        letters &= (spots.area >= np.maximum(6, 0.12 * width * height)) & (spots.sharpness > 0.85 * SHARP)
        letters &= spots.contrast > 70  # noqa: PLR2004
        chosen = np.flatnonzero(letters)
        chosen = chosen[np.argsort(-spots.area[chosen], kind="stable")[:MOST_SPOTS]]
        for turned in (False, True):
            boxes = spots.box[chosen][:, [1, 0, 3, 2]] if turned else spots.box[chosen]
            picture = grey.T if turned else grey
            for line in _chains(boxes, spots.contrast[chosen]):
                if len(line) == 1 and boxes[line[0], 2] < 3 * boxes[line[0], 3]:
                    continue  # one letter
                if np.median(spots.sharpness[chosen][line]) > SHARP:
                    box = _line(boxes[line], float(spots.contrast[chosen][line].mean()), picture, dark=spots.dark)
                    found += [] if box is None else [(box[1], box[0], box[3], box[2]) if turned else box]
    kept: list[Box] = []
    for box in sorted(found, key=lambda one: -one[2] * one[3]):  # the letters' counters make a line of their own
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        if not any(0 <= x - other[0] <= other[2] and 0 <= y - other[1] <= other[3] for other in kept):
            kept.append(box)
    return kept


def _chains(boxes: NDArray[np.float32], contrast: NDArray[np.float32]) -> Iterator[NDArray[np.intp]]:
    """Pieces that stand side by side at one height, alike in size and contrast: indices, a chain each."""
    x, _, width, height = boxes.T
    middle = boxes[:, 1] + height / 2
    tall = np.maximum(height[:, None], height)
    gap = np.maximum(x[:, None], x) - np.minimum((x + width)[:, None], x + width)
    beside = (np.abs(middle[:, None] - middle) < 0.35 * tall) & (gap < 0.9 * tall) & (gap > -0.25 * tall)
    beside &= np.minimum(height[:, None], height) > 0.5 * tall
    beside &= np.abs(contrast[:, None] - contrast) < 0.3 * np.maximum(contrast[:, None], contrast)
    high_enough = height >= 4  # noqa: PLR2004
    beside &= high_enough & high_enough[:, None]
    np.fill_diagonal(beside, high_enough)
    left = high_enough.copy()
    while left.any():
        chain = np.zeros(len(boxes), bool)
        chain[np.argmax(left)] = True
        while (grown := beside[chain].any(axis=0)).sum() > chain.sum():
            chain = grown
        left &= ~chain
        yield np.flatnonzero(chain)


def _line(boxes: NDArray[np.float32], contrast: float, grey: NDArray[np.uint8], *, dark: bool) -> Box | None:
    """The box of a chain that is a line of text; small letters may have run together into a few pieces."""
    x, y, width, height = boxes.T
    tall = float(np.percentile(height, 75))
    letters = int(np.maximum(1, np.round(width / (0.8 * tall))).sum())
    box = (float(x.min()), float(y.min()), float((x + width).max() - x.min()), float((y + height).max() - y.min()))
    if letters < LETTERS or box[2] < 2 * tall or height.std() > 0.36 * tall or contrast < 90:  # noqa: PLR2004
        return None
    foot, top = y + height, y
    on_foot = np.mean(np.abs(foot - np.median(foot)) < 0.2 * tall + 1)
    on_top = np.mean(np.abs(top - np.median(top)) < 0.25 * tall + 1)
    if max(on_foot, on_top) < 0.6:  # noqa: PLR2004
        return None
    large = tall > FINE / 19
    if large and (height.std() > 0.2 * tall or contrast < 130):  # noqa: PLR2004
        return None
    if len(boxes) < 3 and (  # noqa: PLR2004
        letters <= LETTERS or large or contrast < 110 or _strokes(grey, box, contrast, dark=dark) < 0.8 * letters  # noqa: PLR2004
    ):
        return None
    return box


def _strokes(grey: NDArray[np.uint8], box: Box, contrast: float, *, dark: bool) -> int:
    """How many strokes the busiest row of a line crosses."""
    x, y, width, height = (int(value) for value in box)
    part = grey[y : y + height, x : x + width].astype(np.float32) * (-1 if dark else 1)
    ink = part > part.max() - 0.5 * contrast
    return int((ink[:, 1:] & ~ink[:, :-1]).sum(axis=1).max())


def find_arrows(fine: NDArray[np.uint8], middle: NDArray[np.uint8], spots: Iterable[Spots]) -> list[Box]:
    """Arrows and arrow heads of one tone, 5 to 30 % of the longer side long: boxes at FINE."""
    found: list[Box] = []
    for grey, pieces, extreme in (
        (middle, find_spots(middle, reach=61, contrast=40, extreme=True), True),
        (fine, spots, False),
    ):
        scale = max(fine.shape) / max(grey.shape)
        for some in pieces:
            for index in _arrow_like(grey, some, extreme=extreme):
                x, y, width, height = (float(value) * scale for value in some.box[index])
                if not any(abs(x - box[0]) + abs(y - box[1]) < 0.02 * max(fine.shape) for box in found):
                    found.append((x, y, width, height))
    return found


def _arrow_like(grey: NDArray[np.uint8], spots: Spots, *, extreme: bool) -> Iterator[int]:
    length, side = spots.box[:, 2:].max(axis=1), max(grey.shape)
    fit = _inside(spots) & (length >= 0.05 * side) & (length <= 0.3 * side) & (spots.area >= 30)  # noqa: PLR2004
    fit &= (spots.sharpness > 0.4) & (extreme | (spots.contrast > 90))  # noqa: PLR2004
    for index in np.flatnonzero(fit)[:40]:
        x, y, width, height = spots.box[index].astype(int)
        piece = spots.labels[y : y + height, x : x + width] == index
        tenth, half = np.percentile(grey[y : y + height, x : x + width][piece], (10, 50) if spots.dark else (90, 50))
        if abs(tenth - half) > 16 or _has_neighbour(spots, index):  # noqa: PLR2004
            continue
        outline = max(cv2.findContours(piece.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
        head = extreme and spots.sharpness[index] > SHARP and _is_head(outline, int(spots.area[index]))
        if head or _is_arrow(outline[:, 0].astype(np.float32)):
            yield int(index)


def _has_neighbour(spots: Spots, index: int) -> bool:
    """Whether something as large and as sharp stands beside it: then it is a letter (A and 7 are arrow-like)."""
    x, y, width, height = spots.box.T
    size, own = np.maximum(width, height), float(max(width[index], height[index]))
    apart_x = np.maximum(x, x[index]) - np.minimum(x + width, x[index] + width[index])
    apart_y = np.maximum(y, y[index]) - np.minimum(y + height, y[index] + height[index])
    near = (np.maximum(apart_x, apart_y) < 0.8 * own) & (size > 0.5 * own) & (size < 2 * own)
    near &= spots.sharpness > 0.85 * SHARP
    near[[0, index]] = False
    return bool(near.any())


def _is_head(outline: NDArray[np.int32], area: int) -> bool:
    """A filled isosceles triangle."""
    around, corners = cv2.minEnclosingTriangle(outline.astype(np.float32))
    if corners is None or around <= 0:
        return False
    corners = corners.reshape(3, 2)
    short, mean, long = np.sort(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1))
    return bool(area > 0.8 * around > 0.16 * long**2 and min(mean - short, long - mean) < 0.12 * long)


def _is_arrow(outline: NDArray[np.float32]) -> bool:
    """A shaft of even width, then a head that begins wide and narrows to its tip, alike on both sides of the axis.

    The width is the outline's, so that filled, hollow and line arrows are one case.

    Args:
        outline: float32 (n, 2), x and y.
    """
    cells = 40
    filled = np.zeros(outline.max(axis=0).astype(int)[::-1] + 1, np.uint8)
    cv2.fillPoly(filled, [outline.astype(np.int32)], 1)
    inside = np.argwhere(filled)[:, ::-1].astype(np.float32)
    _, axes = np.linalg.eigh(np.cov(inside.T))
    along, across = (outline - inside.mean(axis=0)) @ axes[:, 1], (outline - inside.mean(axis=0)) @ axes[:, 0]
    length = float(np.ptp(along))
    if length < 12:  # noqa: PLR2004
        return False
    cell = np.minimum(((along - along.min()) / length * cells).astype(int), cells - 1)
    upper, lower = np.full(cells, -np.inf), np.full(cells, np.inf)
    np.maximum.at(upper, cell, across)
    np.minimum.at(lower, cell, across)
    known = np.flatnonzero(np.isfinite(upper))
    upper, lower = (np.interp(np.arange(cells), known, side[known]) for side in (upper, lower))
    return any(_arrow_profile(upper[::way], lower[::way], length) for way in (1, -1))


def _arrow_profile(upper: NDArray[np.float64], lower: NDArray[np.float64], length: float) -> bool:
    """Whether the two sides, from the tail to the tip, are an arrow's."""
    width, axis = upper - lower + 1, (upper + lower) / 2
    barbs, cells = int(width.argmax()), len(width)
    if not 0.4 * cells <= barbs <= 0.88 * cells:
        return False
    width, axis, slim = width / width[barbs], axis / width[barbs], length / width[barbs]
    shaft, head = width[1 : barbs - cells // 8], width[barbs:]
    thick, tip = np.median(shaft), head[-1]
    uneven = np.abs(shaft - thick).mean()
    bent = np.abs(head - np.linspace(1, tip, len(head))).mean()
    lopsided = np.abs(axis - np.median(axis)).mean()
    return bool(thick < 0.62 and tip < 0.55 and max(uneven, lopsided) < 0.09 and bent < 0.1 and 1.2 < slim < 6.5)  # noqa: PLR2004
