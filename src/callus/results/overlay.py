"""The radiograph with the heat map laid over and the boxes; what the model says stands beside it, never on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from callus.labels import LEVEL_TEXT, RESEARCH_ONLY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.identify import Finding
    from callus.labels import Level
    from callus.metrics.boxes import Box
    from callus.radiograph import Radiograph

SHORTEST, LONGEST = 1024, 1600
"""The picture's longer side is brought between these, in pixels: large enough to read, small enough for a page."""
NARROWEST: Final = 0.62
"""Of the longer side: a narrow picture stands on a page at least this wide, so that the text fits."""

Colour = tuple[int, int, int]
PAGE: Final[Colour] = (16, 17, 20)
TEXT: Final[Colour] = (236, 236, 236)
QUIET: Final[Colour] = (160, 163, 168)
CAUTION: Final[Colour] = (240, 200, 90)
BOX: Final[Colour] = (86, 220, 255)
"""Inferno has no blue-green, bone has no colour: the box is told from both, by the colour-blind too."""
LEVEL_COLOUR: Final[dict[Level, tuple[Colour, Colour]]] = {
    "fracture": ((213, 94, 0), (255, 255, 255)),
    "doubt": ((240, 200, 90), (20, 20, 20)),
    "none": ((70, 76, 84), (236, 236, 236)),
}
"""Ground and text. After Okabe and Ito's palette, which the colour-blind can tell apart; the word says it as well."""

CLEAR_BELOW: Final = 0.15
"""Of the map: what is weaker leaves the radiograph as it is."""
MOST_OPAQUE: Final = 0.55
"""At the map's 1; nearly half of the bone's contrast stays even there."""
_MOST_CAUTIONS: Final = 3
"""That are told, from the first; a last line counts the rest."""


def overlay(radiograph: Radiograph, finding: Finding, *, full: bool = False) -> Image.Image:
    """Draw a finding on its radiograph.

    Args:
        radiograph: what was identified.
        finding: the answer to it.
        full: draw at the radiograph's own size, instead of with a longer side of 1,024 to 1,600 pixels.

    Returns:
        RGB. Header and footer stand outside of the picture, so that laterality markers stay visible.
    """
    height, width = radiograph.height, radiograph.width
    longer = max(height, width)
    scale = 1.0 if full else float(np.clip(longer, SHORTEST, LONGEST)) / longer
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    picture = Image.fromarray(_blend(_display(radiograph, shape), _smooth_heat(finding, shape)))
    line = max(2, round(max(shape) / 420))
    draw = ImageDraw.Draw(picture)
    for box in finding.boxes:
        _draw_box(draw, _placed(box, shape, (height, width)), line, dotted=finding.level == "doubt")
    return _Page(picture, finding).image()


def colours(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """The heat map's colours (inferno: even steps of lightness, safe for the colour-blind).

    Args:
        heat: float32, any shape, in [0, 1].

    Returns:
        float32, that shape and 3, in [0, 255].
    """
    table = _inferno()
    return np.asarray(table[np.rint(np.clip(heat, 0, 1) * (len(table) - 1)).astype(np.intp)])


def opacity(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of the colour covers the radiograph: float32, the heat's shape, in [0, MOST_OPAQUE]."""
    share = np.clip((heat - CLEAR_BELOW) / (1 - CLEAR_BELOW), 0, 1)
    return np.asarray(MOST_OPAQUE * share * (2 - share), dtype=np.float32)


@lru_cache(maxsize=1)
def _inferno() -> NDArray[np.float32]:
    from matplotlib import colormaps  # noqa: PLC0415 - its tables only; pyplot would start a window system

    # The darkest fifth is left out: over a radiograph it looks like shadow, not like heat.
    return np.asarray(colormaps["inferno"](np.linspace(0.2, 1, 256))[:, :3] * 255, dtype=np.float32)


def _display(radiograph: Radiograph, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Grey values for a screen: float32 (height, width) in [0, 255]."""
    pixels = radiograph.pixels
    shrinks = shape[0] < pixels.shape[0]
    size = (shape[1], shape[0])
    grey = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC).astype(np.float32)
    low, high = 0.0, float(np.iinfo(pixels.dtype).max)
    if pixels.dtype == np.uint16:  # often 10 or 12 bits in 16, which would be black on a screen
        low, high = (float(value) for value in np.percentile(grey, (0.1, 99.9)))
    return np.asarray(np.clip((grey - low) * (255 / max(high - low, 1.0)), 0, 255))


def _smooth_heat(finding: Finding, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The heat map at ``shape``, without the creases that linear interpolation leaves at the cells' centres."""
    # By a fifth of a cell: more would take from the peaks. Where a cell has about eight pixels, then enlarged, because
    # a large blur is slow.
    cell = min(shape[0], shape[1]) / min(finding.map.shape)
    reduced = (max(1, round(shape[0] * min(1, 8 / cell))), max(1, round(shape[1] * min(1, 8 / cell))))
    sigma = min(cell, 8) / 5
    heat = cv2.GaussianBlur(finding.heat(reduced), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.clip(cv2.resize(heat, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), 0, 1)


def _blend(grey: NDArray[np.float32], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    blended = np.repeat(np.rint(grey).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    warm = heat > CLEAR_BELOW  # a few hundredths of most pictures; the rest stays grey
    share = opacity(heat[warm])[:, np.newaxis]
    blended[warm] = np.rint(grey[warm][:, np.newaxis] * (1 - share) + colours(heat[warm]) * share)
    return blended


def _placed(box: Box, shape: tuple[int, int], original: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a box on the drawn picture, inside it."""
    y_scale, x_scale = shape[0] / original[0], shape[1] / original[1]
    left, top = box.x * x_scale, box.y * y_scale
    right, bottom = (box.x + box.width) * x_scale - 1, (box.y + box.height) * y_scale - 1
    return left, top, max(left, right), max(top, bottom)


def _draw_box(
    draw: ImageDraw.ImageDraw, edges: tuple[float, float, float, float], line: int, *, dotted: bool, halo: bool = True
) -> None:
    """Draw a frame, solid or dotted, with a dark halo that keeps it visible on white bone."""
    left, top, right, bottom = edges
    if halo:
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=line + 2)
    if not dotted:
        draw.rectangle(edges, outline=BOX, width=line)
        return
    for first, last, fixed, across in (
        (left, right, top, True),
        (left, right, bottom - line + 1, True),
        (top, bottom, left, False),
        (top, bottom, right - line + 1, False),
    ):
        for start in _dots(first, last, line):
            end = min(start + 2 * line, last + 1) - 1
            dot = (start, fixed, end, fixed + line - 1) if across else (fixed, start, fixed + line - 1, end)
            draw.rectangle(dot, fill=BOX)


def _dots(first: float, last: float, line: int) -> NDArray[np.float64]:
    """Where dots start so that there is one at each end of an edge and even gaps between."""
    length = last - first + 1
    count = max(2, round((length + 2 * line) / (4 * line)))
    return np.linspace(first, max(first, last + 1 - 2 * line), count)


@dataclass(frozen=True)
class _Fonts:
    """DejaVu, which matplotlib brings along and which has Latin, Greek and Cyrillic for file names."""

    size: int

    def plain(self, share: float = 1.0) -> ImageFont.FreeTypeFont:
        return _font("DejaVuSans.ttf", max(8, round(self.size * share)))

    def bold(self, share: float = 1.0) -> ImageFont.FreeTypeFont:
        return _font("DejaVuSans-Bold.ttf", max(8, round(self.size * share)))


@lru_cache(maxsize=32)
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl  # noqa: PLC0415 - only where a picture is drawn

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / file), size)


class _Page:
    """The picture between a header and a footer."""

    def __init__(self, picture: Image.Image, finding: Finding) -> None:
        self._picture = picture
        self._finding = finding
        longer = max(picture.size)
        self._width = max(picture.width, round(NARROWEST * longer))
        self._fonts = _Fonts(max(12, round(min(longer / 54, self._width / 36))))
        self._unit = self._fonts.size
        self._cautions = [f"caution: {caution}" for caution in finding.cautions[:_MOST_CAUTIONS]]
        more = len(finding.cautions) - _MOST_CAUTIONS
        if more > 0:
            self._cautions.append(f"and {more} more caution{'s' if more > 1 else ''}")

    def image(self) -> Image.Image:
        header = round(4.6 * self._unit)
        footer = round((5.2 + 1.5 * len(self._cautions)) * self._unit)
        page = Image.new("RGB", (self._width, header + self._picture.height + footer), PAGE)
        page.paste(self._picture, ((self._width - self._picture.width) // 2, header))
        draw = ImageDraw.Draw(page)
        self._header(draw)
        self._footer(page, draw, header + self._picture.height)
        return page

    def _header(self, draw: ImageDraw.ImageDraw) -> None:
        unit, finding = self._unit, self._finding
        ground, ink = LEVEL_COLOUR[finding.level]
        font = self._fonts.bold(1.15)
        text = LEVEL_TEXT[finding.level]
        right = unit + draw.textlength(text, font) + 1.2 * unit
        draw.rounded_rectangle((unit, 0.6 * unit, right, 2.4 * unit), radius=0.35 * unit, fill=ground)
        draw.text((1.6 * unit, 1.5 * unit), text, ink, font, anchor="lm")
        draw.text(
            (right + 0.8 * unit, 1.5 * unit),
            f"probability {finding.probability:.2f}",
            TEXT,
            self._fonts.plain(1.15),
            anchor="lm",
        )
        small = self._fonts.plain(0.85)
        model = f"model {finding.model}"
        room = self._width - 2 * unit
        name = Path(finding.path).name if finding.path else "radiograph"
        model = _shortened(draw, model, small, room * 0.45)
        model_width = draw.textlength(model, small)
        draw.text((self._width - unit, 3.5 * unit), model, QUIET, small, anchor="rm")
        name = _shortened(draw, name, small, room - model_width - unit)
        draw.text((unit, 3.5 * unit), name, QUIET, small, anchor="lm")

    def _footer(self, page: Image.Image, draw: ImageDraw.ImageDraw, top: int) -> None:
        unit = self._unit
        small = self._fonts.plain(0.85)
        self._colour_bar(page, draw, round(unit), round(top + unit))
        self._box_legend(draw, top + 1.4 * unit)
        y = top + 3.4 * unit
        for caution in self._cautions:
            draw.text(
                (unit, y),
                _shortened(draw, caution, small, self._width - 2 * unit),
                CAUTION,
                small,
                anchor="lm",
            )
            y += 1.5 * unit
        line = f"{RESEARCH_ONLY[0].upper()}{RESEARCH_ONLY[1:]}"
        draw.text((unit, y + 0.3 * unit), line, TEXT, small, anchor="lm")

    def _colour_bar(self, page: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
        """The colours as they look on middle grey, from 0 to 1."""
        unit = self._unit
        width, height = round(11 * unit), round(0.8 * unit)
        heat = np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1))
        page.paste(Image.fromarray(_blend(np.full(heat.shape, 110, np.float32), heat)), (left, top))
        tiny = self._fonts.plain(0.7)
        for value in (0.0, 0.5, 1.0):
            anchor = {0.0: "lt", 0.5: "mt", 1.0: "rt"}[value]
            draw.text((left + value * width, top + height + 0.15 * unit), f"{value:g}", QUIET, tiny, anchor=anchor)
        draw.text(
            (left + width + 0.7 * unit, top + height / 2), "heat map", QUIET, self._fonts.plain(0.85), anchor="lm"
        )

    def _box_legend(self, draw: ImageDraw.ImageDraw, y: float) -> None:
        unit = self._unit
        small = self._fonts.plain(0.85)
        x = float(self._width - unit)
        line = max(2, round(unit / 9))
        for text, dotted in (("doubt", True), ("fracture", False)):
            draw.text((x, y), text, QUIET, small, anchor="rm")
            x -= draw.textlength(text, small) + 0.5 * unit
            edges = (round(x - 1.9 * unit), round(y - 0.5 * unit), round(x), round(y + 0.5 * unit))
            _draw_box(draw, edges, line, dotted=dotted, halo=False)
            x -= 3 * unit


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The text, with its middle left out where it is too long for the room."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    if draw.textlength(text, font) <= room:
        return text
    keep = len(text)
    while keep > 1 and draw.textlength(_without_middle(text, keep), font) > room:
        keep -= max(1, keep // 20)
    return _without_middle(text, keep)


def _without_middle(text: str, keep: int) -> str:
    first = (keep + 1) // 2
    return f"{text[:first]}…{text[len(text) - keep + first :]}"
