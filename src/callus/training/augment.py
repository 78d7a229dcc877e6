"""How training pictures are moved: one affine map for the picture and its fractures, and the window of a crop.

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
    # Drawn whether used or not, as in draw_grey.
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
