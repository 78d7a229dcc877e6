"""Files of a data set that deserve a look: what is no radiograph, and what was drawn or written into one.

Classical image processing, tuned to be silent on radiographs rather than to find everything; :func:`suspect` tells
how often it is right. Every length in pixels below is of a reduced picture: FINE for what is written, MIDDLE for what
kind of picture it is, COARSE for textures. A threshold that names no other source lies between what radiographs
(FracAtlas, BoneData) measured and what pictures made for the purpose did, nearer to the latter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from callus.radiograph import Radiograph

MarkKind = Literal["text", "arrow", "watermark"]
Box = tuple[float, float, float, float]  # x, y, width, height

FINE, MIDDLE, COARSE = 768, 512, 256  # longest side, pixels

LARGEST_ASPECT: Final = 3.0
"""Longer side to shorter. FracAtlas' and BoneData's longest has 2.7; only long legs and spines are longer."""
BLANK: Final = 0.02
"""Share of the grey range between the 0.5th and the 99.5th percentile below which there is nothing to see."""
SMALLEST: Final = 64
"""Shorter side below which nothing but aspect and contrast is judged."""
BLACK_AIR: Final = 30
"""Brightest border about a CT or MR slice; measured ones have 0 to 5."""
ROUND: Final = 0.93
"""Overlap of a slice's convex hull with the ellipse of the same moments; made slices have 0.95 or more."""
DRAWN_FLAT: Final = 0.8
"""Share of pixels that equal all eight neighbours in charts and plain drawings; radiographs have 0.75 at most."""
DRAWN_SLOPE: Final = 0.038
"""Mean slope of line drawings on one flat tone; radiographs with that much of one tone have less."""
PANELS: Final = 5
"""Flat tones of a screenshot; drawings have 1 to 3."""
TEXTURE: Final = 0.024
"""Mean distance to the blurred picture, of the grey range: photographs 0.017 to 0.05, 99 % of radiographs less."""
TEXTURE_IN_COLOUR: Final = 0.017
"""The same where the file has colour, and a radiograph is less likely anyway."""
REPETITION: Final = 0.145
"""Second peak of the autocorrelation: tiled watermarks have 0.08 to 0.34, 99 % of radiographs below 0.1."""
LETTERS: Final = 4
"""Fewer are a side's letter (L, R, RT, LAT)."""
SHARP: Final = 0.45
"""Slope at the rim of ink to its contrast: what is drawn stays within two pixels, bones and metal do not."""
MOST_SPOTS: Final = 300
"""Pieces that may be letters; a page of text has more, and is no radiograph."""
RING: Final = 8
"""Half of how far about a peak the pattern must have ceased to recur, pixels at COARSE."""


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


@dataclass(frozen=True)
class Suspicion:
    """What a look at one file gave.

    Attributes:
        why: what makes it suspicious, a line each; empty for most. Text alone is not suspicious.
        marks: where text, arrows and watermarks stand. A text may name a patient: it is not read.
    """

    why: tuple[str, ...]
    marks: tuple[Mark, ...]


class _Measures(NamedTuple):
    slope: float  # mean, of the grey range a pixel
    texture: float  # mean distance to the picture blurred, of the grey range
    edges: float  # 99th percentile of the slope
    detail: float  # 99th percentile of the Laplacian, of the grey range
    tone: int  # the most common grey value, to 4 either side
    toned: float  # share of pixels at that tone
    flat: float  # share of pixels within 2 of their neighbours
    same: float  # share of pixels that equal their neighbours
    tones: int  # grey values that make up 0.4 % of the picture or more in flat places


class _Spots(NamedTuple):
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


def suspect(seen: Radiograph) -> Suspicion:
    """Look for what makes a file unfit for a data set of radiographs.

    Found, of pictures that were made for it: CT or MR slices 45 of 46 (a real head that the border cuts is missed),
    line drawings and charts 36 of 36, screenshots 38 of 40, grey photographs 17 of 22; line or filled arrows 85 of
    99 in white and 31 of 35 in black, hollow ones 17 of 31, arrow heads 64 of 86; tiled watermarks 40 of 50; lines of
    text 88 of 100.
    Said of real radiographs: "looks like" of 1 (metal outside the limb) and an arrow of 4 (bracelets) in FracAtlas'
    3,385; nothing in BoneData's 131 or 256 of their rotated copies. Text is told in 4.3 % of FracAtlas: by eye, of the
    78 in every second file, 62 are print (mostly "KNEE" and the like), the others mostly screws and plates.

    What it cannot tell: a slice that fills its picture; a smooth or dark grey photograph; a radiograph whose local
    contrast was equalised from a photograph (12 % of such are called one); a body in a scanner from the round field of
    an image intensifier (6 % of those are called a slice); a circle drawn about a finding from a bracelet; a single
    large, faint watermark; marks in a grey near the tissue's; an arrow that runs into the bone as bright as itself;
    text in other directions than the four; a photograph in colour from a radiograph with colour in it, but by its
    texture, as the colour itself is not kept.

    Args:
        seen: any radiograph that could be read, (height, width) of 1 pixel or more, 8 or 16 bits.

    Returns:
        Lines begin with "extreme aspect", "blank", "has colour", "looks like a ...", "a watermark" or "an arrow".
    """
    height, width = seen.shape
    why: list[str] = []
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        aspect = max(height, width) / min(height, width)
        why.append(f"extreme aspect: {aspect:.1f} to 1 ({width} x {height} pixels)")
    fine = _grey(seen.pixels)
    if fine is None:
        return Suspicion((*why, "blank: the grey values hardly differ, there is nothing to see"), ())
    if not seen.grey:
        why.append("has colour: a radiograph has none; a photograph, a tint, or something drawn on it in colour")
    if min(fine.shape) < SMALLEST:
        return Suspicion(tuple(why), ())
    middle = _reduced(fine, MIDDLE)
    spots = list(_spots(fine, reach=25, contrast=60))
    texts = _texts(fine, spots)
    marks = [_mark("text", box, seen, fine) for box in texts]
    measured = _measured(middle)
    kind = _slice(middle) or _drawn(middle, measured, len(texts))
    if not kind and _repetition(middle) > REPETITION:
        why.append("a watermark: one pattern is repeated all across it")
        marks.append(Mark("watermark", 0, 0, width, height))
    elif not kind:
        kind = _photograph(measured, grey=seen.grey)
    if kind:
        return Suspicion((*why, kind), tuple(marks))
    arrows = [_mark("arrow", box, seen, fine) for box in _arrows(fine, middle, spots)]
    why += [f"an arrow stands in it at ({arrow.x}, {arrow.y})" for arrow in arrows]
    return Suspicion(tuple(why), (*marks, *arrows))


def _grey(pixels: NDArray[Any]) -> NDArray[np.uint8] | None:
    """The picture at FINE with 8 bits; None where it is blank."""
    reduced = _reduced(pixels, FINE)
    # 10 or 12 bits are often kept in 16 as they are.
    white = 255 if reduced.dtype == np.uint8 else 2 ** max(10, int(reduced.max()).bit_length()) - 1
    low, high = np.percentile(reduced[::2, ::2], (0.5, 99.5))
    if high - low < BLANK * white:
        return None
    return np.asarray((reduced * np.float32(255 / white)).astype(np.uint8)) if white > 255 else reduced  # noqa: PLR2004


def _reduced(picture: NDArray[Any], side: int) -> NDArray[Any]:
    scale = side / max(picture.shape)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _mark(kind: MarkKind, box: Box, seen: Radiograph, reduced: NDArray[np.uint8]) -> Mark:
    scale = max(seen.shape) / max(reduced.shape)
    x, y, width, height = (round(value * scale) for value in box)
    x, y = min(x, seen.width - 1), min(y, seen.height - 1)
    return Mark(kind, x, y, max(1, min(width, seen.width - x)), max(1, min(height, seen.height - y)))


def _slice(grey: NDArray[np.uint8]) -> str:
    """A rounded body that lies free in black air, as the scanner's ring sees it; limbs are cut by the border."""
    height, width = grey.shape
    smooth = cv2.GaussianBlur(grey, (5, 5), 0)
    rim = max(2, min(height, width) // 50)
    border = np.concatenate([part.ravel() for part in (smooth[:rim], smooth[-rim:], smooth[:, :rim], smooth[:, -rim:])])
    air = float(np.median(border))
    if air > BLACK_AIR:
        return ""
    body = (smooth > air + max(10, 0.12 * (np.percentile(smooth, 99) - air))).astype(np.uint8)
    body = cv2.morphologyEx(body, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))  # a table's line is thinner
    outlines, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [outline for outline in outlines if cv2.contourArea(outline) > 0.02 * grey.size]
    if not outlines:
        return ""
    x, y, w, h = cv2.boundingRect(np.concatenate(outlines))
    largest = max(outlines, key=cv2.contourArea)
    if min(x, y) <= 2 or x + w >= width - 2 or y + h >= height - 2 or cv2.contourArea(largest) < 0.04 * grey.size:  # noqa: PLR2004
        return ""
    overlap, aspect = _ellipse(largest, grey.shape)
    # The round field of an image intensifier is a better circle than a body.
    if overlap < ROUND or aspect > 2 or (overlap > 0.985 and aspect < 1.02):  # noqa: PLR2004
        return ""
    return "looks like a CT or MR slice: a rounded body lies free in black air"


def _ellipse(outline: NDArray[Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """How well the convex hull is the ellipse of its moments (intersection over union), and that one's aspect."""
    hull = cv2.convexHull(outline)
    moments = cv2.moments(hull)
    area = max(moments["m00"], 1.0)
    spread = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]) / area
    squares, axes = np.linalg.eigh(spread)
    short, long = (4 * np.sqrt(np.maximum(squares, 1e-6))).tolist()
    turn = float(np.degrees(np.arctan2(axes[1, 1], axes[0, 1])))
    filled, ellipse = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    cv2.fillPoly(filled, [hull], 1)
    cv2.ellipse(ellipse, ((moments["m10"] / area, moments["m01"] / area), (long, short), turn), 1, -1)
    both, either = np.count_nonzero(filled & ellipse), np.count_nonzero(filled | ellipse)
    return float(both) / max(1, int(either)), float(long / short)


def _drawn(grey: NDArray[np.uint8], seen: _Measures, texts: int) -> str:
    """Whether a computer or a pen drew the picture: flat tones, straight edges, lines of text."""
    if seen.flat > 0.66 and texts > 2 and seen.tones >= PANELS:  # noqa: PLR2004
        edges = _straight_edges(grey)
        if edges > PANELS:
            return f"looks like a screenshot: flat panels, {edges} straight edges, {texts} lines of text"
    paper = not 10 < seen.tone < 245  # noqa: PLR2004
    if seen.same > DRAWN_FLAT or (seen.toned > 0.6 and seen.slope > DRAWN_SLOPE and paper):  # noqa: PLR2004
        tone = {0: "black", 2: "white"}.get(seen.tone // 86, "grey")
        return f"looks like a drawing: {seen.toned:.0%} of it is one flat {tone}"
    return ""


def _photograph(seen: _Measures, *, grey: bool) -> str:
    """Whether detail is everywhere; a radiograph is smooth tissue before an even background."""
    if seen.toned > 0.36:  # noqa: PLR2004
        return ""
    if not grey and seen.texture > TEXTURE_IN_COLOUR:
        return "looks like a photograph: colour, and fine detail in most places"
    if seen.texture > TEXTURE and seen.edges > 0.25 and seen.detail > 0.6:  # noqa: PLR2004
        return "looks like a photograph: fine detail in most places, no even background"
    return ""


def _measured(grey: NDArray[np.uint8]) -> _Measures:
    small = _reduced(grey, COARSE).astype(np.float32)
    low, high = np.percentile(small, (1, 99))
    small /= max(high - low, 8)
    slope = _slope(small) / 2
    levels = np.bincount(grey.ravel(), minlength=256) / grey.size
    near = np.convolve(levels, np.ones(9), "same")
    square = np.ones((3, 3), np.uint8)
    spread = cv2.subtract(cv2.dilate(grey, square), cv2.erode(grey, square))
    in_flat = np.bincount(grey[spread <= 2], minlength=256) / grey.size  # noqa: PLR2004
    return _Measures(
        slope=float(slope.mean()),
        texture=float(np.abs(small - cv2.GaussianBlur(small, (0, 0), 1.2)).mean()),
        edges=float(np.percentile(slope, 99)),
        detail=float(np.percentile(np.abs(cv2.Laplacian(small, cv2.CV_32F)), 99)),
        tone=int(near.argmax()),
        toned=float(near.max()),
        flat=float(in_flat.sum()),
        same=float(np.count_nonzero(spread == 0) / grey.size),
        tones=int(np.count_nonzero(in_flat > 0.004)),  # noqa: PLR2004
    )


def _slope(grey: NDArray[Any]) -> NDArray[np.float32]:
    """Grey values over two pixels, in the steepest direction: float32 (h, w)."""
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 4), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 4)
    return np.asarray(cv2.magnitude(across, down))


def _straight_edges(grey: NDArray[np.uint8]) -> int:
    """Rows and columns along which two even tones meet for an eighth of the side or more."""
    count = 0
    for picture in (grey, np.ascontiguousarray(grey.T)):
        step = np.asarray(cv2.absdiff(picture[2:], picture[:-2])) > 5  # noqa: PLR2004
        even = np.pad(np.asarray(cv2.absdiff(picture[:, 1:], picture[:, :-1])) <= 2, ((0, 0), (0, 1)))  # noqa: PLR2004
        met = (step & even[2:] & even[:-2]).astype(np.uint8)
        line = np.ones((1, max(8, picture.shape[1] // 8)), np.uint8)
        rows = np.max(np.asarray(cv2.erode(met, line, borderValue=0), np.uint8), axis=1) > 0
        count += int(np.count_nonzero(rows[1:] & ~rows[:-1])) + int(rows[0])
    return count


def _spots(grey: NDArray[np.uint8], *, reach: int, contrast: int, extreme: bool = False) -> Iterator[_Spots]:
    """The bright pieces, then the dark ones.

    Args:
        grey: (h, w).
        reach: strokes thinner than this are found, pixels.
        contrast: least difference to the surroundings, grey levels.
        extreme: only what is nearly white or nearly black, so that ink on bone does not join with it.
    """
    slope = _slope(grey)
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
        yield _Spots(labels, table[:, :4].astype(np.float32), table[:, 4], top, sharpness, dark)


def _inside(spots: _Spots) -> NDArray[np.bool_]:
    """Which pieces keep clear of the border, where a collimator's edge frays; never the first."""
    x, y, width, height = spots.box.T
    rows, columns = spots.labels.shape
    margin = max(rows, columns) // 200
    inside = (x > margin) & (y > margin) & (x + width < columns - margin) & (y + height < rows - margin)
    inside[0] = False
    return np.asarray(inside)


def _texts(grey: NDArray[np.uint8], all_spots: Iterable[_Spots]) -> list[Box]:
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


def _arrows(fine: NDArray[np.uint8], middle: NDArray[np.uint8], spots: Iterable[_Spots]) -> list[Box]:
    """Arrows and arrow heads of one tone, 5 to 30 % of the longer side long: boxes at FINE."""
    found: list[Box] = []
    for grey, pieces, extreme in (
        (middle, _spots(middle, reach=61, contrast=40, extreme=True), True),
        (fine, spots, False),
    ):
        scale = max(fine.shape) / max(grey.shape)
        for some in pieces:
            for index in _arrow_like(grey, some, extreme=extreme):
                x, y, width, height = (float(value) * scale for value in some.box[index])
                if not any(abs(x - box[0]) + abs(y - box[1]) < 0.02 * max(fine.shape) for box in found):
                    found.append((x, y, width, height))
    return found


def _arrow_like(grey: NDArray[np.uint8], spots: _Spots, *, extreme: bool) -> Iterator[int]:
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


def _has_neighbour(spots: _Spots, index: int) -> bool:
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


def _repetition(grey: NDArray[np.uint8]) -> float:
    """How strongly a fine bright pattern recurs at two places that lie in different directions, in [0, 1].

    Long bones and two legs recur in one direction only, and without a sharp peak.
    """
    small = _reduced(grey, COARSE)
    height, width = small.shape
    if min(height, width) < SMALLEST:
        return 0.0
    raised = np.minimum(cv2.morphologyEx(small, cv2.MORPH_TOPHAT, np.ones((9, 9), np.uint8)), 40).astype(np.float32)
    raised -= np.asarray(cv2.blur(raised, (21, 21)), np.float32)
    raised /= np.sqrt(np.maximum(cv2.blur(raised * raised, (21, 21)), 0)) + 3  # as strong on bone as beside it
    rows, columns = cv2.getOptimalDFTSize(height * 3 // 2), cv2.getOptimalDFTSize(width * 3 // 2)
    spectrum = cv2.dft(np.pad(raised, ((0, rows - height), (0, columns - width))), flags=cv2.DFT_COMPLEX_OUTPUT)
    power = cv2.mulSpectrums(spectrum, spectrum, 0, conjB=True)
    recurs = np.asarray(cv2.idft(power, flags=cv2.DFT_REAL_OUTPUT), np.float32)
    if recurs[0, 0] <= 0:
        return 0.0
    # The lower half is enough: recurs(-y, -x) = recurs(y, x). RING more on each side to see each peak's surroundings.
    down, aside = min(int(0.6 * height), rows // 2 - RING), min(int(0.6 * width), columns // 2 - RING)
    recurs = np.roll(recurs / recurs[0, 0], (RING, aside + RING), axis=(0, 1))
    recurs = recurs[: down + 2 * RING, : 2 * (aside + RING)]
    peak = recurs[RING:-RING, RING:-RING].copy()
    around = np.full_like(peak, -1)
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
        dy, dx = RING + round((RING - 1) * np.sin(angle)), RING + round((RING - 1) * np.cos(angle))
        np.maximum(around, recurs[dy : dy + peak.shape[0], dx : dx + peak.shape[1]], out=around)
    peak -= around
    y, x = np.arange(peak.shape[0])[:, None], np.arange(peak.shape[1]) - aside
    peak[np.hypot(y, x) < 0.1 * max(height, width)] = -1
    top_y, top_x = np.unravel_index(int(peak.argmax()), peak.shape)
    to_y, to_x = int(top_y), int(top_x) - aside
    elsewhere = np.abs(to_y * x - to_x * y) > 0.3 * np.hypot(to_y, to_x) * np.hypot(y, x)
    return max(0.0, float(peak[elsewhere].max(initial=0)))


__all__ = ["Mark", "MarkKind", "Suspicion", "suspect"]
