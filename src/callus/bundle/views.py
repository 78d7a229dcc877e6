"""Test-time views: a radiograph answered mirrored and turned a little as well, and the answers averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from callus.bundle.engine import Outputs
from callus.bundle.schema import VIEWS
from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Run = Callable[[NDArray[np.float32]], Outputs]

TURN: Final = 8.0
"""Degrees; less than the 15 to 20 that the recipes vary training pictures by."""


def checked(views: Sequence[str]) -> tuple[str, ...]:
    """Give the views that are meant, each once, in the order of :data:`VIEWS`.

    Raises:
        CallusError: one is unknown.
    """
    unknown = [view for view in views if view not in VIEWS]
    if isinstance(views, str) or unknown:
        raise CallusError(f"the views are {views!r}; expected some of {', '.join(VIEWS)}")
    return tuple(view for view in VIEWS if view in views)


def answered(
    run: Run, batch: NDArray[np.float32], views: Sequence[str], black: float, cells: NDArray[np.float64]
) -> Outputs:
    """Run the network on a batch and on views of it, and average.

    Args:
        run: the network.
        batch: float32 (n, 3, height, width).
        views: of :data:`VIEWS`; none gives the network's own answer.
        black: what the corners of a turned picture are filled with.
        cells: float64 (2, 3): where the map's cells lie in the input, as a bundle's ``map_to_input``.

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
    heat, seen = plain.map.copy(), np.ones_like(plain.map[0])
    for to_view in _maps(views, *size):
        outputs = run(_moved(batch, to_view, size, black))
        logits.append(outputs.logit)
        if _is_mirror(to_view) and _mirrors(cells, outputs.map.shape[2], size[0]):
            heat += outputs.map[:, :, ::-1]
            seen += 1
            continue
        back = _between_cells(to_view, cells)
        shape = (heat.shape[2], heat.shape[1])
        # Places whose neighbours a view did not see get no share of that view.
        sees = _warped(np.ones_like(heat[0]), back, shape, 0.0) > 1 - 1e-3  # OpenCV rounds
        seen += sees
        heat += np.stack([_warped(one, back, shape, 0.0) for one in outputs.map]) * sees
    return Outputs(np.mean(logits, axis=0, dtype=np.float32), heat / seen, plain.features)


def _maps(views: Sequence[str], width: int, height: int) -> list[NDArray[np.float64]]:
    """Where a pixel (x, y, 1) of the input lies in each view: float64 (2, 3), pixel centres at whole numbers."""
    found = []
    if "mirror" in views:
        found.append(np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]))
    if "rotate" in views:
        centre = ((width - 1) / 2, (height - 1) / 2)
        found += [np.asarray(cv2.getRotationMatrix2D(centre, turn, 1.0), np.float64) for turn in (TURN, -TURN)]
    return found


def _is_mirror(to_view: NDArray[np.float64]) -> bool:
    return bool(to_view[0, 0] == -1)


def _moved(
    batch: NDArray[np.float32], to_view: NDArray[np.float64], size: tuple[int, int], black: float
) -> NDArray[np.float32]:
    """The batch as a view shows it; its three channels are equal, so one of them is moved."""
    moved = np.empty(batch.shape, np.float32)  # a batch of one channel shown three times has another layout in memory
    for picture, place in zip(batch, moved, strict=True):
        if _is_mirror(to_view):
            cv2.flip(picture[0], 1, place[0])
        else:
            cv2.warpAffine(picture[0], to_view, size, place[0], cv2.INTER_LINEAR, borderValue=black)
        place[1:] = place[0]
    return moved


def _mirrors(cells: NDArray[np.float64], columns: int, width: int) -> bool:
    """Whether the cells of a mirrored picture lie where the picture's own do: the last as far in as the first."""
    stride, first = float(cells[0, 0]), float(cells[0, 2])
    return first + (columns - 1) * stride == width - 1 - first


def _between_cells(to_view: NDArray[np.float64], cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same map between centres of the map's cells."""
    square = np.vstack([cells, [0.0, 0.0, 1.0]])
    return np.asarray((np.linalg.inv(square) @ np.vstack([to_view, [0.0, 0.0, 1.0]]) @ square)[:2])


def _warped(
    picture: NDArray[np.float32], to_view: NDArray[np.float64], size: tuple[int, int], outside: float
) -> NDArray[np.float32]:
    """The view's picture, looked up where each place of the plain one lies in it."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, to_view, size, flags=flags, borderValue=outside), np.float32)
