"""How grey values of training pictures are varied: what is drawn for a view, and what is done with it.

Drawing and doing are apart, so that a view is the same on a processor and on a GPU, which does it in ``on_device.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.training.recipe import Augmentation

TONES: Final = 1024
"""Steps of a bent grey scale."""
LEAST_BLUR: Final = 0.1
"""Pixels: a Gaussian of no width cannot be made."""


@dataclass(frozen=True, eq=False)
class Sides:
    """A frame of one shade: how many pixels of each side it covers."""

    top: int
    bottom: int
    left: int
    right: int
    shade: np.float32


@dataclass(frozen=True, eq=False)
class Mark:
    """A side marker or an arrow.

    Attributes:
        ink: uint8 (height, width), how much of a pixel it covers, 255 all of it.
        shade: of the ink, in [0, 1].
        plate: top, bottom, left and right of a rectangle behind it, as of a slice, or None.
        plate_shade: of the rectangle.
    """

    ink: NDArray[np.uint8]
    shade: np.float32
    plate: tuple[int, int, int, int] | None
    plate_shade: np.float32


@dataclass(frozen=True, eq=False)
class Grey:
    """What is done to a view's grey values, in this order; None and nothing leave them as they are.

    Attributes:
        gamma: the power that they are raised to.
        slope: what they are stretched by about 0.5, behind which ``offset`` is added.
        offset: where 0.5 comes to lie.
        grain: float32 (height, width), added; behind it they are cut off at 0 and 1.
        tone: float32 (TONES,), the rising curve that they are looked up in.
        sharpness: pixels that they are blurred by where negative, or how much of such a blur is taken away.
        sides: cut off.
        marks: drawn in.
        inverted: black and white change places.
    """

    gamma: np.float32 | None
    slope: np.float32 | None
    offset: np.float32
    grain: NDArray[np.float32] | None
    tone: NDArray[np.float32] | None
    sharpness: float | None
    sides: Sides | None
    marks: tuple[Mark, ...]
    inverted: bool


def draw_grey(choice: Augmentation, height: int, width: int, generator: np.random.Generator) -> Grey:
    """Draw what is done to a view of (height, width)."""
    # Drawn whether used or not, so that one strength does not change what another draws.
    gamma, contrast, brightness, noise, inversion = generator.uniform(-1, 1, size=5)
    grain = None
    if choice.noise:
        grain = generator.standard_normal((height, width), dtype=np.float32) * np.float32(choice.noise * abs(noise))
    # Drawn behind the others and only where they are used: recipes without them go on drawing what they drew.
    tone = draw_tone(choice.tone, generator) if choice.tone else None
    sharpness = sides = None
    marks: tuple[Mark, ...] = ()
    if choice.sharpness and generator.random() < 0.5:  # noqa: PLR2004 - every second time
        sharpness = float(generator.uniform(-choice.sharpness, choice.sharpness))
    if choice.border and generator.random() < choice.border:
        sides = draw_sides(height, width, generator)
    if choice.marks and generator.random() < choice.marks:
        marks = draw_marks(height, width, generator)
    moved = bool(choice.contrast or choice.brightness)
    return Grey(
        gamma=np.float32((1 + choice.gamma) ** gamma) if choice.gamma else None,
        slope=np.float32(1 + choice.contrast * contrast) if moved else None,
        offset=np.float32(0.5 + choice.brightness * brightness),
        grain=grain,
        tone=tone,
        sharpness=sharpness,
        sides=sides,
        marks=marks,
        inverted=bool((inversion + 1) / 2 < choice.inversion),
    )


def vary_grey(unit: NDArray[np.float32], drawn: Grey) -> NDArray[np.float32]:
    """Vary grey values.

    Args:
        unit: float32 (height, width) in [0, 1].
        drawn: for this size.

    Returns:
        float32 (height, width) in [0, 1].
    """
    if drawn.gamma is not None:
        unit = unit**drawn.gamma
    if drawn.slope is not None:
        unit = (unit - np.float32(0.5)) * drawn.slope + drawn.offset
    if drawn.grain is not None:
        unit = unit + drawn.grain
    unit = np.clip(unit, 0, 1)
    if drawn.tone is not None:
        unit = np.asarray(drawn.tone[(unit * np.float32(TONES - 1)).astype(np.int32)], dtype=np.float32)
    if drawn.sharpness is not None:
        unit = _vary_sharpness(unit, drawn.sharpness)
    if drawn.sides is not None:
        _cut(unit, drawn.sides)
    for mark in drawn.marks:
        if mark.plate is not None:
            top, bottom, left, right = mark.plate
            unit[top:bottom, left:right] = mark.plate_shade
        unit += (mark.shade - unit) * (mark.ink.astype(np.float32) * np.float32(1 / 255))
    return np.float32(1) - unit if drawn.inverted else unit


def draw_tone(strength: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw a rising curve for the grey scale: where films and detectors differ, order stays and contrast moves.

    Args:
        strength: of its four parts each grows or shrinks by a factor up to e to this.
        generator: what to draw from.

    Returns:
        float32 (TONES,), from 0 to 1.
    """
    parts = np.exp(generator.uniform(-strength, strength, size=4))
    curve = np.concatenate([[0.0], np.cumsum(parts) / parts.sum()])
    steps = np.linspace(0, 1, TONES)
    return np.asarray(np.interp(steps, np.linspace(0, 1, len(curve)), curve), dtype=np.float32)


def draw_sides(height: int, width: int, generator: np.random.Generator) -> Sides:
    """Draw up to an eighth of each of the four sides, and a dark shade."""
    top, bottom, left, right = generator.uniform(0, 1 / 8, size=4) * (height, height, width, width)
    return Sides(int(top), int(bottom), int(left), int(right), np.float32(generator.uniform(0, 0.1)))


def draw_marks(height: int, width: int, generator: np.random.Generator) -> tuple[Mark, ...]:
    """Draw a side marker or an arrow or two, anywhere: what is burnt in says nothing of the bone."""
    marks = []
    for _ in range(int(generator.integers(1, 3))):
        x, y = (generator.random(2) * (width, height)).astype(int).tolist()
        shade, thick = np.float32(generator.uniform(0.6, 1.0)), int(generator.integers(1, 4))
        ink = np.zeros((height, width), np.uint8)  # OpenCV writes letters into 8 bits only
        plate, plate_shade = None, np.float32(0)
        if generator.random() < 1 / 3:
            angle, length = generator.uniform(0, 2 * math.pi), generator.uniform(15, 60)
            end = (round(x + length * math.cos(angle)), round(y + length * math.sin(angle)))
            cv2.arrowedLine(ink, (x, y), end, (255,), thick, cv2.LINE_AA, tipLength=0.35)
        else:
            text = "".join(generator.choice(list("LR0123456789ABM"), size=int(generator.integers(1, 5))))
            scale = float(generator.uniform(0.4, 1.5))
            (across, up), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
            if generator.random() < 1 / 3:  # a plate behind the letters
                plate = max(y - up - 4, 0), y + 5, max(x - 4, 0), x + across + 5
                plate_shade = np.float32(generator.uniform(0, 0.5))
            cv2.putText(ink, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255,), thick, cv2.LINE_AA)
        marks.append(Mark(ink, shade, plate, plate_shade))
    return tuple(marks)


def _vary_sharpness(unit: NDArray[np.float32], amount: float) -> NDArray[np.float32]:
    """Blur by ``-amount`` pixels, or sharpen by as much of what such a blur takes away."""
    blurred = cv2.GaussianBlur(unit, (0, 0), max(abs(amount), LEAST_BLUR))
    if amount < 0:
        return np.asarray(blurred, dtype=np.float32)
    return np.asarray(np.clip(unit + (unit - blurred) * np.float32(amount), 0, 1), dtype=np.float32)


def _cut(unit: NDArray[np.float32], sides: Sides) -> None:
    height, width = unit.shape
    unit[: sides.top] = sides.shade
    unit[height - sides.bottom :] = sides.shade
    unit[:, : sides.left] = sides.shade
    unit[:, width - sides.right :] = sides.shade
