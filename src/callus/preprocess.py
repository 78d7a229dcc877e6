"""From a radiograph to what a network takes, with the way back to the radiograph's own pixels.

The one path for training and identification, so that nothing can be normalised in two ways: training calls
:func:`prepare`, identification its two steps, :func:`fit_pixels` and :func:`scale_values`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import cv2
import numpy as np

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from callus.radiograph import Radiograph

Fit = Literal["letterbox", "squash"]
CHANNELS = 3
"""ImageNet trunks take three channels; a radiograph's grey stands in each of them."""


@dataclass(frozen=True)
class InputSpec:
    """What a network takes; stands in the bundle as ``input``.

    Attributes:
        height: rows of the network's input, in pixels.
        width: columns of the network's input, in pixels.
        fit: "letterbox" keeps the aspect and pads with black; "squash" stretches to the size.
        low: the value of black in the network's input.
        high: the value of white. Keras' ResNetV2 and MobileNetV2 were trained with -1 to 1.
    """

    height: int = 448
    width: int = 448
    fit: Fit = "letterbox"
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.height < 32 or self.width < 32:  # noqa: PLR2004 - the trunks' coarsest stride
            raise CallusError(f"a network input of {self.height}x{self.width} is too small; at least 32x32 is needed")
        if self.fit not in get_args(Fit):
            raise CallusError(f"fit is {self.fit!r}; expected one of {', '.join(get_args(Fit))}")
        if not self.low < self.high:
            raise CallusError(f"black is {self.low} and white is {self.high}; black has to be the smaller")

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``bundle.json``."""
        return {
            "height": self.height,
            "width": self.width,
            "channels": CHANNELS,
            "fit": self.fit,
            "low": self.low,
            "high": self.high,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InputSpec:
        """Read what :meth:`as_dict` wrote."""
        return cls(
            int(values["height"]), int(values["width"]), values["fit"], float(values["low"]), float(values["high"])
        )


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """A radiograph as a network takes it.

    Attributes:
        array: float32 (3, height, width), black is ``spec.low`` and white ``spec.high``; the channels are equal.
        to_original: float64 (2, 3); maps (x, y, 1) of an input pixel's centre to (x, y) in the radiograph's pixels.
            Pixel centres are at whole numbers.
    """

    array: NDArray[np.float32]
    to_original: NDArray[np.float64]


def fit_affine(height: int, width: int, spec: InputSpec) -> NDArray[np.float64]:
    """Where each input pixel lies in an original of ``height`` x ``width``.

    Returns:
        float64 (2, 3): (x, y, 1) of an input pixel's centre to (x, y) of the original's.
    """
    rows, columns, top, left = _placement(height, width, spec)
    scale_x, scale_y = width / columns, height / rows
    # Edges map to edges: (x + 0.5 - left) * scale - 0.5.
    return np.array(
        [[scale_x, 0.0, (0.5 - left) * scale_x - 0.5], [0.0, scale_y, (0.5 - top) * scale_y - 0.5]], dtype=np.float64
    )


def fit_pixels(radiograph: Radiograph, spec: InputSpec) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The radiograph at the network's size, grey values untouched: (height, width), the radiograph's dtype."""
    rows, columns, top, left = _placement(radiograph.height, radiograph.width, spec)
    # Area averaging when shrinking: a fracture line of one pixel must dim, not vanish between samples.
    smaller = rows <= radiograph.height and columns <= radiograph.width
    resized = cv2.resize(
        radiograph.pixels, (columns, rows), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )
    if (rows, columns) == (spec.height, spec.width):
        return resized  # type: ignore[return-value]  # OpenCV keeps the dtype; its stubs do not say so
    canvas = np.zeros((spec.height, spec.width), dtype=radiograph.pixels.dtype)
    canvas[top : top + rows, left : left + columns] = resized
    return canvas


def scale_values(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], spec: InputSpec, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Grey values to the network's range, in three equal channels.

    Args:
        pixels: (height, width) uint8 or uint16, 0 is black and the dtype's maximum white.
        spec: gives the range.
        out: where they go, as a picture's place in a batch; None for an array of their own.

    Returns:
        float32 (3, height, width).
    """
    if out is None:
        out = np.empty((CHANNELS, *pixels.shape), np.float32)
    white = np.iinfo(pixels.dtype).max
    np.multiply(pixels, np.float32((spec.high - spec.low) / white), out=out[0])
    out[0] += np.float32(spec.low)
    out[1:] = out[0]
    return out


def prepare(radiograph: Radiograph, spec: InputSpec) -> NetworkInput:
    """Make a radiograph what the network takes."""
    return NetworkInput(
        scale_values(fit_pixels(radiograph, spec), spec),
        fit_affine(radiograph.height, radiograph.width, spec),
    )


def _placement(height: int, width: int, spec: InputSpec) -> tuple[int, int, int, int]:
    """Rows, columns, top and left of the picture inside the network's input."""
    if spec.fit == "squash":
        return spec.height, spec.width, 0, 0
    scale = min(spec.height / height, spec.width / width)
    rows = min(spec.height, max(1, round(height * scale)))
    columns = min(spec.width, max(1, round(width * scale)))
    return rows, columns, (spec.height - rows) // 2, (spec.width - columns) // 2
