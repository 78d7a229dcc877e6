"""How training pictures are varied: one affine map for the picture and its fractures, then the grey values.

Everything is drawn from a generator that the caller seeds with the picture and the view, so that a view is the same
whoever computes it: another process, a resumed run, a trunk cache that is filled the next day.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from callus.training.recipe import Augmentation

_BORDER = {"black": cv2.BORDER_CONSTANT, "nearest": cv2.BORDER_REPLICATE}

AIMED = 0.8
"""How often a crop of a fractured picture is cut about a fracture; the other crops show its sound parts as well."""


_TONES = 1024
"""Steps of a bent grey scale."""


def view_generator(seed: int, sha256: str, view: int) -> np.random.Generator:
    """The generator that a picture's view is drawn from.

    Args:
        seed: the recipe's.
        sha256: of the picture's file, hex.
        view: which view; any whole number from 0.
    """
    return np.random.default_rng([seed, view, int(sha256[:16], 16)])


def draw_affine(choice: Augmentation, height: int, width: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a map of the network's input onto itself.

    Returns:
        float64 (2, 3): (x, y, 1) of the plain input to (x, y) of the varied one; pixel centres at whole numbers.
    """
    angle = math.radians(generator.uniform(-choice.rotation, choice.rotation))
    shear = math.radians(generator.uniform(-choice.shear, choice.shear))
    zoom_x, zoom_y = generator.uniform(1 - choice.zoom, 1 + choice.zoom, size=2)
    if choice.keep_aspect:
        zoom_y = zoom_x
    # Drawn only where it is used: recipes without it go on drawing what they drew.
    if choice.enlarge and generator.random() < 0.5:  # noqa: PLR2004 - every second time
        enlarged = (1 + choice.enlarge) ** generator.random()
        zoom_x, zoom_y = zoom_x * enlarged, zoom_y * enlarged
    shift = generator.uniform(-choice.shift, choice.shift, size=2) * (width, height)
    mirror = -1.0 if choice.flip and generator.random() < 0.5 else 1.0  # noqa: PLR2004 - every second time
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    lean = np.array([[1.0, -math.sin(shear)], [0.0, math.cos(shear)]])
    linear = turn @ lean @ np.diag([zoom_x * mirror, zoom_y])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre + shift - linear @ centre
    return np.hstack([linear, offset[:, np.newaxis]])


def draw_window(
    picture: NDArray[np.float64],
    fractures: Sequence[NDArray[np.float64]],
    side: int,
    height: int,
    width: int,
    generator: np.random.Generator,
) -> tuple[int, int]:
    """Draw a square window of a varied view: most times about a fracture where there is one, else anywhere.

    Args:
        picture: float64 (4, 2), the corners (x, y) of the radiograph in the view, in order round it.
        fractures: their outlines (n, 2) in the view.
        side: of the window, at most ``height`` and ``width``.
        height: of the view.
        width: of the view.
        generator: what to draw from.

    Returns:
        Left and top of the window, which lies inside the view.
    """
    # Drawn whether used or not, as in vary_grey.
    aimed, which, u, v = generator.random(4)
    if fractures and aimed < AIMED:
        outline = fractures[int(which * len(fractures))]
        # The fracture comes to lie anywhere in the window but its outer tenth.
        middle = (outline.min(0) + outline.max(0)) / 2 + (np.array([u, v]) - 0.5) * 0.8 * side
    else:
        middle = picture[0] + u * (picture[1] - picture[0]) + v * (picture[3] - picture[0])
    corner = np.clip(np.round(middle - side / 2), 0, (width - side, height - side))
    return int(corner[0]), int(corner[1])


def warp(
    pixels: NDArray[np.uint8] | NDArray[np.uint16],
    affine: NDArray[np.float64],
    choice: Augmentation,
    height: int,
    width: int,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Move a picture by ``affine`` onto a canvas (height, width); the dtype stays."""
    # OpenCV keeps the dtype; its stubs do not say so.
    return cv2.warpAffine(  # type: ignore[return-value]
        pixels, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=_BORDER[choice.fill]
    )


def vary_grey(unit: NDArray[np.float32], choice: Augmentation, generator: np.random.Generator) -> NDArray[np.float32]:
    """Vary grey values.

    Args:
        unit: float32 (height, width) in [0, 1].
        choice: how much.
        generator: what to draw from.

    Returns:
        float32 (height, width) in [0, 1].
    """
    # Drawn whether used or not, so that one strength does not change what another draws.
    gamma, contrast, brightness, noise, inversion = generator.uniform(-1, 1, size=5)
    if choice.gamma:
        unit = unit ** np.float32((1 + choice.gamma) ** gamma)
    if choice.contrast or choice.brightness:
        unit = (unit - np.float32(0.5)) * np.float32(1 + choice.contrast * contrast)
        unit = unit + np.float32(0.5 + choice.brightness * brightness)
    if choice.noise:
        grain = generator.standard_normal(unit.shape, dtype=np.float32)
        unit = unit + grain * np.float32(choice.noise * abs(noise))
    unit = np.clip(unit, 0, 1)
    # Drawn behind the others and only where they are used: recipes without them go on drawing what they drew.
    if choice.tone:
        unit = bend_tone(unit, choice.tone, generator)
    if choice.sharpness and generator.random() < 0.5:  # noqa: PLR2004 - every second time
        unit = vary_sharpness(unit, choice.sharpness, generator)
    if choice.border and generator.random() < choice.border:
        cut_sides(unit, generator)
    if choice.marks and generator.random() < choice.marks:
        draw_marks(unit, generator)
    if (inversion + 1) / 2 < choice.inversion:
        unit = np.float32(1) - unit
    return unit


def bend_tone(unit: NDArray[np.float32], strength: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Bend the grey scale by a rising curve: where films and detectors differ, order stays and contrast moves.

    Args:
        unit: float32 (height, width) in [0, 1].
        strength: of its four parts each grows or shrinks by a factor up to e to this.
        generator: what to draw from.
    """
    parts = np.exp(generator.uniform(-strength, strength, size=4))
    curve = np.concatenate([[0.0], np.cumsum(parts) / parts.sum()])
    table = np.interp(np.linspace(0, 1, _TONES), np.linspace(0, 1, len(curve)), curve).astype(np.float32)
    return np.asarray(table[(unit * np.float32(_TONES - 1)).astype(np.int32)], dtype=np.float32)


def vary_sharpness(unit: NDArray[np.float32], strength: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Blur by up to ``strength`` pixels, or sharpen by as much of what such a blur takes away."""
    amount = float(generator.uniform(-strength, strength))
    blurred = cv2.GaussianBlur(unit, (0, 0), max(abs(amount), 0.1))
    if amount < 0:
        return np.asarray(blurred, dtype=np.float32)
    return np.asarray(np.clip(unit + (unit - blurred) * np.float32(amount), 0, 1), dtype=np.float32)


def cut_sides(unit: NDArray[np.float32], generator: np.random.Generator) -> None:
    """Blacken up to an eighth at each of the four sides, in place."""
    height, width = unit.shape
    top, bottom, left, right = generator.uniform(0, 1 / 8, size=4) * (height, height, width, width)
    shade = np.float32(generator.uniform(0, 0.1))
    unit[: int(top)] = shade
    unit[height - int(bottom) :] = shade
    unit[:, : int(left)] = shade
    unit[:, width - int(right) :] = shade


def draw_marks(unit: NDArray[np.float32], generator: np.random.Generator) -> None:
    """Draw a side marker or an arrow or two, in place, anywhere: what is burnt in says nothing of the bone."""
    height, width = unit.shape
    for _ in range(int(generator.integers(1, 3))):
        x, y = (generator.random(2) * (width, height)).astype(int).tolist()
        shade, thick = np.float32(generator.uniform(0.6, 1.0)), int(generator.integers(1, 4))
        ink = np.zeros(unit.shape, np.uint8)  # OpenCV writes letters into 8 bits only
        if generator.random() < 1 / 3:
            angle, length = generator.uniform(0, 2 * math.pi), generator.uniform(15, 60)
            end = (round(x + length * math.cos(angle)), round(y + length * math.sin(angle)))
            cv2.arrowedLine(ink, (x, y), end, (255,), thick, cv2.LINE_AA, tipLength=0.35)
        else:
            text = "".join(generator.choice(list("LR0123456789ABM"), size=int(generator.integers(1, 5))))
            scale = float(generator.uniform(0.4, 1.5))
            (across, up), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
            if generator.random() < 1 / 3:  # a plate behind the letters
                plate = unit[max(y - up - 4, 0) : y + 5, max(x - 4, 0) : x + across + 5]
                plate[:] = np.float32(generator.uniform(0, 0.5))
            cv2.putText(ink, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255,), thick, cv2.LINE_AA)
        unit += (shade - unit) * (ink.astype(np.float32) * np.float32(1 / 255))
