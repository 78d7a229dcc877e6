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
from callus.training.augment import draw_affine, draw_window, view_generator, warp
from callus.training.grey import draw_grey, vary_grey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from callus.training.grey import Grey
    from callus.training.recipe import Recipe

PLAIN = -1
"""The view that is not varied: what identification sees."""
_KEPT_BYTES = 1 << 30
"""Memory that may hold pictures at the input's size: to read and shrink one costs three times what varying it costs."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pictures, or their trunk features, with what is known of them.

    Attributes:
        inputs: what the network or the head takes, one tensor or several, (B, …) each.
        label: float32 (B,), 1 fractured, 0 not; of crops, whether a fracture crosses the crop.
        mask: float32 (B, 1, H / s, W / s) with the recipe's ``location_stride`` s, where the fractures are: see
            :meth:`Examples.mask`.
        located: float32 (B,), 1 where the mask is known: unfractured pictures and those with masks or boxes.
        share: how much of the global batch this process has, times the number of processes: the weight of its loss.
    """

    inputs: tuple[Tensor, ...]
    label: Tensor
    mask: Tensor
    located: Tensor
    share: float = 1.0


class Examples:
    """The rows of one split, as the network takes them.

    Args:
        rows: of a manifest, usable ones.
        recipe: input size, augmentation and seed.
        crop: side in pixels, a multiple of 32, of the window that is cut from each varied view; 0 takes the whole. A
            crop is labelled fractured where a fracture crosses it, so every fractured row has to have an outline.
    """

    def __init__(self, rows: pd.DataFrame, recipe: Recipe, crop: int = 0) -> None:
        self.recipe = recipe
        self.crop = crop
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
        self._kept: dict[int, NDArray[np.uint8] | NDArray[np.uint16]] = {}
        self._room = _KEPT_BYTES

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, index: int, view: int) -> NDArray[np.float32]:
        """One view of a picture: float32 (height, width), of a crop (crop, crop), in the network's range.

        Raises:
            RadiographError: the file cannot be read any more.
        """
        spec, choice = self.recipe.input, self.recipe.augmentation
        if view == PLAIN:
            return np.asarray(prepare(read(self.paths[index]), spec).array[0])
        pixels = self.fitted(index)
        moved, (height, width), grey = self.drawn(index, view)
        pixels = warp(pixels, moved, choice, height, width)
        unit = vary_grey(pixels.astype(np.float32) * np.float32(1 / np.iinfo(pixels.dtype).max), grey)
        return np.asarray(unit * np.float32(spec.high - spec.low) + np.float32(spec.low), dtype=np.float32)

    def drawn(self, index: int, view: int) -> tuple[NDArray[np.float64], tuple[int, int], Grey]:
        """What makes a view of the fitted picture: an affine map (2, 3), the view's height and width, its grey values.

        Args:
            index: of the picture.
            view: any but PLAIN.
        """
        moved, size, generator = self._varied(index, view)
        return moved, size, draw_grey(self.recipe.augmentation, *size, generator)

    def fitted(self, index: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The picture at the input's size (height, width), from memory where it is kept there.

        Raises:
            RadiographError: the file cannot be read any more.
        """
        pixels = self._kept.get(index)
        if pixels is None:
            pixels = fit_pixels(read(self.paths[index]), self.recipe.input)
            if pixels.nbytes <= self._room:
                self._room -= pixels.nbytes
                self._kept[index] = pixels
        return pixels

    def mask(self, index: int, view: int) -> NDArray[np.float32]:
        """Where the fractures are in a view: float32, cells of ``location_stride`` pixels, each in [0, 1].

        By the recipe's ``location_target`` 1 where one crosses the cell, or the share of the cell that they cover:
        where cells are finer than fractures, those that are only touched would pull the map's top off the fracture.
        """
        height, width = self.recipe.input.height, self.recipe.input.width
        moved = np.eye(2, 3)
        if view != PLAIN:
            moved, (height, width), _ = self._varied(index, view)
        canvas = np.zeros((height, width), dtype=np.uint8)
        for outline in self._outlines[index]:
            points = _moved(moved, self._in_input(index, outline))
            cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], color=(1,))
        side = self.recipe.head.location_stride
        cells = canvas.reshape(height // side, side, width // side, side)
        covered = self.recipe.optimisation.location_target == "covered"
        return np.asarray(cells.mean((1, 3)) if covered else cells.max((1, 3)), dtype=np.float32)

    def fractures(self, index: int) -> NDArray[np.float64]:
        """The boxes of a picture's fractures in the plain input: float64 (n, 4), [x, y, width, height].

        As in reports, they are in pixels whose edges are at whole numbers.
        """
        boxes = np.zeros((len(self._outlines[index]), 4))
        for box, outline in zip(boxes, self._outlines[index], strict=True):
            corners = self._in_input(index, outline - 0.5) + 0.5  # its affine is one of pixel centres
            box[:2], box[2:] = corners.min(axis=0), np.ptp(corners, axis=0)
        return boxes

    def _in_input(self, index: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (n, 2) of the original as points of the network's plain input."""
        to_original = np.vstack([fit_affine(*self._shapes[index], self.recipe.input), (0, 0, 1)])
        return _moved(np.linalg.inv(to_original)[:2], points)

    def _varied(self, index: int, view: int) -> tuple[NDArray[np.float64], tuple[int, int], np.random.Generator]:
        """The map (2, 3) from the plain input to a view, the view's size, and the generator to go on drawing from."""
        spec = self.recipe.input
        generator = view_generator(self.recipe.seed, self.sha256[index], view)
        moved = draw_affine(self.recipe.augmentation, spec.height, spec.width, generator)
        if not self.crop:
            return moved, (spec.height, spec.width), generator
        height, width = self._shapes[index]
        whole = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], dtype=np.float64)
        outlines = [_moved(moved, self._in_input(index, outline)) for outline in (whole, *self._outlines[index])]
        left, top = draw_window(outlines[0], outlines[1:], self.crop, spec.height, spec.width, generator)
        moved[:, 2] -= left, top
        return moved, (self.crop, self.crop), generator

    def targets(
        self, indices: Sequence[int] | NDArray[np.int64], views: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Label, mask and located of some views, as :class:`Batch` has them."""
        masks = np.stack([self.mask(index, view) for index, view in zip(indices, views, strict=True)])[:, np.newaxis]
        chosen = np.asarray(indices)
        label = (masks.max((1, 2, 3)) > 0).astype(np.float32) if self.crop else self.label[chosen].astype(np.float32)
        return (
            torch.from_numpy(label),
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


def _moved(affine: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (n, 2) moved by an affine map (2, 3)."""
    return points @ affine[:, :2].T + affine[:, 2]


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
