"""Test-time views: a radiograph answered mirrored, turned or from closer as well, and the answers averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from callus.bundle.engine import Outputs
from callus.bundle.schema import VIEWS
from callus.errors import CallusError
from callus.metrics.boxes import map_to_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Run = Callable[[NDArray[np.float32]], Outputs]

TURN: Final = 8.0
"""Degrees; less than the 15 to 20 that the recipes vary training pictures by."""
ENLARGED: Final = 1.6
"""By how much the closer view enlarges: as much as the recipe ``radiograph`` enlarges what the network learns from."""


def checked(views: Sequence[str]) -> tuple[str, ...]:
    """Give the views that are meant, each once, in the order of :data:`VIEWS`.

    Raises:
        CallusError: one is unknown.
    """
    unknown = [view for view in views if view not in VIEWS]
    if isinstance(views, str) or unknown:
        raise CallusError(f"the views are {views!r}; expected some of {', '.join(VIEWS)}")
    return tuple(view for view in VIEWS if view in views)


def answered(run: Run, batch: NDArray[np.float32], views: Sequence[str], black: float, stride: int) -> Outputs:
    """Run the network on a batch and on views of it, and average.

    Args:
        run: the network.
        batch: float32 (n, 3, height, width).
        views: of :data:`VIEWS`; none gives the network's own answer.
        black: what the corners of a turned picture are filled with.
        stride: input pixels that a cell of the map covers.

    Returns:
        The mean of the logits; of the maps, each turned back to where the picture is, cell by cell over the views that
        saw the cell's place; and the features of the batch itself, because what is known of the training data's
        comes from pictures as they are.
    """
    plain = run(batch)
    if not views:
        return plain
    size = (batch.shape[3], batch.shape[2])
    logits = [plain.logit]
    heat, seen = plain.map.copy(), np.ones_like(plain.map)
    for to_view in _maps(views, plain.map, size, stride):
        outputs = run(_moved(batch, to_view, size, black))
        logits.append(outputs.logit)
        back, sees = _turned_back(outputs.map, to_view, stride)
        heat += back
        seen += sees
    return Outputs(np.mean(logits, axis=0, dtype=np.float32), heat / seen, plain.features)


def _maps(
    views: Sequence[str], heat: NDArray[np.float32], size: tuple[int, int], stride: int
) -> list[NDArray[np.float64]]:
    """Where a pixel (x, y, 1) of the input lies in each view: float64, pixel centres at whole numbers.

    (2, 3), or (n, 2, 3) where it is another place in each picture.
    """
    found = []
    width, height = size
    if "mirror" in views:
        found.append(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]))
    if "rotate" in views:
        centre = ((width - 1) / 2, (height - 1) / 2)
        found += [np.asarray(cv2.getRotationMatrix2D(centre, turn, 1.0), np.float64) for turn in (TURN, -TURN)]
    if "closer" in views:
        found.append(np.stack([_closer(one, size, stride) for one in heat]))
    return found


def _closer(heat: NDArray[np.float32], size: tuple[int, int], stride: int) -> NDArray[np.float64]:
    """The surroundings of a map's highest place, enlarged and mirrored; never beyond the picture's edge."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    highest = map_to_input(stride) @ [float(column), float(row), 1.0]
    shown = np.array(size) / ENLARGED
    start = np.clip(highest + 0.5 - shown / 2, 0.0, np.array(size) - shown)
    x, y = (0.5 - start) * ENLARGED - 0.5  # edges map to edges
    return np.array([[-ENLARGED, 0.0, size[0] - 1.0 - x], [0.0, ENLARGED, y]])


def _moved(
    batch: NDArray[np.float32], to_view: NDArray[np.float64], size: tuple[int, int], black: float
) -> NDArray[np.float32]:
    """The batch as a view shows it; its three channels are equal."""
    if to_view.ndim == 2 and to_view[0, 0] == -1:  # noqa: PLR2004 - one for all pictures
        return np.ascontiguousarray(batch[..., ::-1])
    each = np.broadcast_to(to_view, (len(batch), 2, 3))
    grey = [
        cv2.warpAffine(one[0], at, size, flags=cv2.INTER_LINEAR, borderValue=black)
        for one, at in zip(batch, each, strict=True)
    ]
    return np.repeat(np.stack(grey)[:, np.newaxis], batch.shape[1], axis=1).astype(np.float32)


def _turned_back(
    heat: NDArray[np.float32], to_view: NDArray[np.float64], stride: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A view's maps where the pictures are, 0 where it did not see a place; and 1 where it did: both (n, h, w)."""
    cells = (heat.shape[2], heat.shape[1])
    between = [_between_cells(one, stride) for one in to_view.reshape(-1, 2, 3)]
    # Places whose neighbours a view did not see get no share of that view.
    saw = [_warped(np.ones_like(heat[0]), one, cells, 0.0) > 1 - 1e-3 for one in between]  # OpenCV rounds
    sees = np.broadcast_to(np.stack(saw), heat.shape).astype(np.float32)
    each = between * (len(heat) // len(between))
    return np.stack([_warped(one, at, cells, 0.0) for one, at in zip(heat, each, strict=True)]) * sees, sees


def _between_cells(to_view: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """The same map between centres of the map's cells."""
    cells = np.vstack([map_to_input(stride), [0.0, 0.0, 1.0]])
    return np.asarray((np.linalg.inv(cells) @ np.vstack([to_view, [0.0, 0.0, 1.0]]) @ cells)[:2])


def _warped(
    picture: NDArray[np.float32], to_view: NDArray[np.float64], size: tuple[int, int], outside: float
) -> NDArray[np.float32]:
    """The view's picture, looked up where each place of the plain one lies in it."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, to_view, size, flags=flags, borderValue=outside), np.float32)
