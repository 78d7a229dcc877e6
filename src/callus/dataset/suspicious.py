"""Files of a data set that deserve a look: what is no radiograph, and what was drawn or written into one.

Classical image processing, tuned to be silent on radiographs rather than to find everything; :func:`suspect` tells
how often it is right. Every length in pixels below is of a reduced picture: FINE for what is written, MIDDLE for what
kind of picture it is, COARSE for textures. A threshold that names no other source lies between what radiographs
(FracAtlas, BoneData) measured and what pictures made for the purpose did, nearer to the latter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np

from callus.dataset.grey_levels import histogram, percentiles
from callus.dataset.marks import FINE, Mark, find_arrows, find_spots, find_texts, slope_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.dataset.marks import Box, MarkKind
    from callus.radiograph import Radiograph

MIDDLE, COARSE = 512, 256  # longest side, pixels

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
RING: Final = 8
"""Half of how far about a peak the pattern must have ceased to recur, pixels at COARSE."""


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
    spots = list(find_spots(fine, reach=25, contrast=60))
    texts = find_texts(fine, spots)
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
    arrows = [_mark("arrow", box, seen, fine) for box in find_arrows(fine, middle, spots)]
    why += [f"an arrow stands in it at ({arrow.x}, {arrow.y})" for arrow in arrows]
    return Suspicion(tuple(why), (*marks, *arrows))


def _grey(pixels: NDArray[Any]) -> NDArray[np.uint8] | None:
    """The picture at FINE with 8 bits; None where it is blank."""
    reduced = _reduced(pixels, FINE)
    # 10 or 12 bits are often kept in 16 as they are.
    white = 255 if reduced.dtype == np.uint8 else 2 ** max(10, int(reduced.max()).bit_length()) - 1
    low, high = percentiles(reduced[::2, ::2], (0.5, 99.5))
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
    body: Any = (smooth > air + max(10, 0.12 * (percentiles(smooth, (99,))[0] - air))).astype(np.uint8)
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
    reduced = _reduced(grey, COARSE)
    low, high = percentiles(reduced, (1, 99))
    small = reduced.astype(np.float32) / np.float32(max(high - low, 8))
    slope = slope_of(small) / 2
    levels = histogram(grey) / grey.size
    near = np.convolve(levels, np.ones(9), "same")
    square = np.ones((3, 3), np.uint8)
    spread = cv2.subtract(cv2.dilate(grey, square), cv2.erode(grey, square))
    in_flat = histogram(grey, np.asarray(spread) <= 2) / grey.size  # noqa: PLR2004
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


def _repetition(grey: NDArray[np.uint8]) -> float:
    """How strongly a fine bright pattern recurs at two places that lie in different directions, in [0, 1].

    0 where it recurs at no place by more than REPETITION, which decides then. Long bones and two legs recur in one
    direction only, and without a sharp peak.
    """
    small = _reduced(grey, COARSE)
    height, width = small.shape
    if min(height, width) < SMALLEST:
        return 0.0
    raised = np.minimum(cv2.morphologyEx(small, cv2.MORPH_TOPHAT, np.ones((9, 9), np.uint8)), 40).astype(np.float32)
    raised -= np.asarray(cv2.blur(raised, (21, 21)), np.float32)
    raised /= np.sqrt(np.maximum(cv2.blur(raised * raised, (21, 21)), 0)) + 3  # as strong on bone as beside it
    rows, columns = cv2.getOptimalDFTSize(height * 3 // 2), cv2.getOptimalDFTSize(width * 3 // 2)
    spectrum = cv2.dft(np.pad(raised, ((0, rows - height), (0, columns - width))), nonzeroRows=height)
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
    y, x, away = _offsets(peak.shape[0], aside)
    peak[away < 0.1 * max(height, width)] = -1
    if peak.max() <= REPETITION:
        return 0.0
    top_y, top_x = np.unravel_index(int(peak.argmax()), peak.shape)
    to_y, to_x = int(top_y), int(top_x) - aside
    elsewhere = np.abs(to_y * x - to_x * y) > 0.3 * np.hypot(to_y, to_x) * away
    return max(0.0, float(peak[elsewhere].max(initial=0)))


@lru_cache(maxsize=8)
def _offsets(down: int, aside: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Rows (down, 1), columns (2 aside) and their distance from the offset (0, aside); pictures of a set share them."""
    y, x = np.arange(down, dtype=np.float32)[:, None], np.arange(-aside, aside, dtype=np.float32)
    return y, x, np.hypot(y, x)
