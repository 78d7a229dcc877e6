"""The answer to one radiograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.labels import Level
    from callus.metrics.boxes import Box


@dataclass(frozen=True, eq=False)
class Finding:
    """The answer to one radiograph.

    Attributes:
        path: the radiograph's file; None where it came as bytes.
        probability: of a fracture, calibrated, in [0, 1].
        level: "fracture", "doubt" or "none", by the bundle's operating points.
        boxes: in the radiograph's pixels, by score; none at level "none".
        map: float32 (h, w) in [0, 1], at the network's resolution.
        map_to_original: float64 (2, 3); (x, y, 1) of a map cell's centre to (x, y) of the radiograph's pixels.
        cautions: what speaks against trusting the answer, a line each, beginning with a word and a colon.
        model: the bundle's name.
        engine: what ran it: "openvino-int8", "openvino-float32", "onnx-float32" or "onnx-float32 on GPU".
        logit: what the network returned, not calibrated.
        features: float32 (C,), the pooled features.
        shape: height and width of the radiograph.
        distance: of the features from the training data's; 99 % of radiographs like those lie within 1. None where the
            bundle cannot tell.
        views: what the answer is averaged with: "mirror", "rotate"; empty where nothing.
    """

    path: str | None
    probability: float
    level: Level
    boxes: tuple[Box, ...]
    map: NDArray[np.float32]
    map_to_original: NDArray[np.float64]
    cautions: tuple[str, ...]
    model: str
    engine: str
    logit: float
    features: NDArray[np.float32]
    shape: tuple[int, int]
    distance: float | None = None
    views: tuple[str, ...] = ()

    def heat(self, shape: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Draw the map at the radiograph's size, linear between the centres of its cells.

        Args:
            shape: height and width to draw it at instead, over the same field.

        Returns:
            float32 (height, width) in [0, 1].
        """
        height, width = shape or self.shape
        rows = _interpolation(height, self.shape[0], self.map.shape[0], *self.map_to_original[1, 1:])
        columns = _interpolation(width, self.shape[1], self.map.shape[1], *self.map_to_original[0, ::2])
        return np.asarray(rows @ self.map @ columns.T)


def _interpolation(size: int, original: int, cells: int, scale: float, offset: float) -> NDArray[np.float32]:
    """Weights that draw one axis of a map at ``size`` pixels: float32 (size, cells), each row sums to 1.

    Args:
        size: pixels to draw.
        original: pixels that the radiograph has along this axis.
        cells: cells of the map.
        scale: radiograph pixels for a cell.
        offset: the first cell's centre, in the radiograph's pixels.
    """
    centre = (np.arange(size) + 0.5) * (original / size) - 0.5
    position = np.clip((centre - offset) / scale, 0, cells - 1)
    lower = np.floor(position).astype(np.intp)
    upper = np.minimum(lower + 1, cells - 1)
    weights = np.zeros((size, cells), dtype=np.float32)
    share = (position - lower).astype(np.float32)
    np.add.at(weights, (np.arange(size), lower), 1 - share)
    np.add.at(weights, (np.arange(size), upper), share)
    return weights
