"""From a manifest's rows to tensors: pictures as the network takes them, labels, and masks of the fractures."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
import torch

from callus.preprocess import CHANNELS, fit_affine, fit_pixels, prepare
from callus.radiograph import read
from callus.training.augment import draw_affine, vary_grey, view_generator, warp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from callus.training.recipe import Recipe

PLAIN = -1
"""The view that is not varied: what identification sees."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pictures, or their trunk features, with what is known of them.

    Attributes:
        inputs: what the network or the head takes, one tensor or several, (B, …) each.
        label: float32 (B,), 1 fractured, 0 not.
        mask: float32 (B, 1, H / 16, W / 16), 1 where a fracture crosses the cell.
        located: float32 (B,), 1 where the mask is known: unfractured pictures and those with masks or boxes.
        share: how much of the global batch this process has, times the number of processes: the weight of its loss.
    """

    inputs: tuple[Tensor, ...]
    label: Tensor
    mask: Tensor
    located: Tensor
    share: float = 1.0


class Examples:
    """The rows of one split, as the network takes them."""

    def __init__(self, rows: pd.DataFrame, recipe: Recipe) -> None:
        self.recipe = recipe
        self.paths = [str(path) for path in rows["path"]]
        self.sha256 = [str(value) for value in rows["sha256"]]
        self.label = rows["label"].to_numpy(dtype=np.int64)
        self.group = rows["group"].astype(str).to_numpy()
        self._shapes = list(zip(rows["height"].astype(int), rows["width"].astype(int), strict=True))
        self._outlines = [
            _outlines(polygons, boxes) for polygons, boxes in zip(rows["polygons"], rows["boxes"], strict=True)
        ]
        outlined = np.array([bool(outlines) for outlines in self._outlines], dtype=bool)
        self.located = outlined | (self.label == 0)

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, index: int, view: int) -> NDArray[np.float32]:
        """One view of a picture: float32 (height, width) in the network's range.

        Raises:
            RadiographError: the file cannot be read any more.
        """
        spec, choice = self.recipe.input, self.recipe.augmentation
        radiograph = read(self.paths[index])
        if view == PLAIN:
            return np.asarray(prepare(radiograph, spec).array[0])
        pixels = fit_pixels(radiograph, spec)
        generator = view_generator(self.recipe.seed, self.sha256[index], view)
        pixels = warp(pixels, draw_affine(choice, spec.height, spec.width, generator), choice)
        unit = vary_grey(pixels.astype(np.float32) * np.float32(1 / np.iinfo(pixels.dtype).max), choice, generator)
        return np.asarray(unit * np.float32(spec.high - spec.low) + np.float32(spec.low), dtype=np.float32)

    def mask(self, index: int, view: int) -> NDArray[np.float32]:
        """Where the fractures are in a view: float32 (H / 16, W / 16), 1 where one crosses the cell, else 0."""
        spec = self.recipe.input
        cells = np.zeros((spec.height // 16, spec.width // 16), dtype=np.float32)
        if not self._outlines[index]:
            return cells
        to_input = np.vstack([fit_affine(*self._shapes[index], spec), (0, 0, 1)])
        to_input = np.linalg.inv(to_input)
        if view != PLAIN:
            generator = view_generator(self.recipe.seed, self.sha256[index], view)
            moved = draw_affine(self.recipe.augmentation, spec.height, spec.width, generator)
            to_input = np.vstack([moved, (0, 0, 1)]) @ to_input
        canvas = np.zeros((spec.height, spec.width), dtype=np.uint8)
        for outline in self._outlines[index]:
            points = outline @ to_input[:2, :2].T + to_input[:2, 2]
            cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], color=(1,))
        cells[:] = canvas.reshape(cells.shape[0], 16, cells.shape[1], 16).max((1, 3))
        return cells

    def targets(
        self, indices: Sequence[int] | NDArray[np.int64], views: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Label, mask and located of some views, as :class:`Batch` has them."""
        masks = np.stack([self.mask(index, view) for index, view in zip(indices, views, strict=True)])[:, np.newaxis]
        chosen = np.asarray(indices)
        return (
            torch.from_numpy(self.label[chosen].astype(np.float32)),
            torch.from_numpy(masks),
            torch.from_numpy(self.located[chosen].astype(np.float32)),
        )

    def pictures(self, indices: Sequence[int] | NDArray[np.int64], views: Sequence[int]) -> Tensor:
        """Some views as the trunk takes them: float32 (B, 3, H, W)."""
        grey = np.stack([self.picture(index, view) for index, view in zip(indices, views, strict=True)])
        return torch.from_numpy(grey)[:, None].expand(-1, CHANNELS, -1, -1)


def ahead(jobs: Iterable[In], work: Callable[[In], Out], threads: int) -> Iterator[Out]:
    """Do ``work`` on each job in threads, a few jobs ahead of whoever takes the results; order is kept.

    Reading and turning pictures releases Python's lock, so threads are enough, and nothing is copied to processes.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Out]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > threads + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _outlines(polygons: object, boxes: object) -> list[NDArray[np.float64]]:
    """The fractures of a row as (n, 2) corner lists in the original's pixels: its polygons, else its boxes."""
    outlines = [np.asarray(flat, dtype=np.float64).reshape(-1, 2) for flat in _items(polygons)]
    if outlines:
        return outlines
    corners = []
    for x, y, width, height in _items(boxes):
        corners.append(np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], dtype=np.float64))
    return corners


def _items(value: object) -> Sequence[Sequence[float]]:
    """A manifest's list, which is None where a row has none."""
    return [] if value is None or isinstance(value, float) else list(value)  # type: ignore[call-overload]
