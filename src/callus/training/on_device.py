"""Training pictures that lie on the device and are varied there: a fast GPU does not wait for the cores.

What a view is, is drawn as everywhere (``augment.py``, ``grey.py``) and done here with torch, a batch at a time; each
picture is read, fitted and sent once. Masks are small, and are made on the processor.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional

from callus.preprocess import CHANNELS
from callus.training.batches import FIRST_VIEW, Pictures, shares
from callus.training.examples import Batch, ahead
from callus.training.grey import LEAST_BLUR, TONES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from callus.training.batches import Plain
    from callus.training.examples import Examples
    from callus.training.grey import Grey

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]

SHARE = 0.25
"""Of the device's free memory that pictures may take."""
_PADDING = {"black": "zeros", "nearest": "border"}


Drawn = tuple["NDArray[np.float64]", tuple[int, int], "Grey"]
"""What :meth:`callus.training.examples.Examples.drawn` gives."""


class DevicePictures:
    """Pictures as :class:`callus.training.batches.Pictures` gives them, varied on the device.

    Args:
        examples: of the training split.
        batch: pictures of all processes together.
        threads: that read pictures and draw views ahead.
        device: where they are to be.
        there: the pictures that lie there, by their files' SHA-256; crops and whole pictures share them.
    """

    cached = False

    def __init__(
        self, examples: Examples, batch: int, threads: int, device: torch.device, there: dict[str, Tensor]
    ) -> None:
        self.examples = examples
        self._pictures = Pictures(examples, batch, threads)
        self._device = device
        self._there = there

    def batches(self, order: NDArray[np.int64], epoch: int, *, rank: int, world: int) -> Iterator[Batch]:
        """See :class:`callus.training.batches.Source`; the views are those of ``Pictures``."""
        examples, view = self.examples, FIRST_VIEW + epoch
        spec, fill = examples.recipe.input, examples.recipe.augmentation.fill

        def draw(job: tuple[NDArray[np.int64], float]) -> tuple[list[Pixels | None], list[str], list[Drawn], Batch]:
            mine, share = job
            keys = [examples.sha256[index] for index in mine]
            read = [
                None if key in self._there else examples.fitted(int(index))
                for index, key in zip(mine, keys, strict=True)
            ]
            drawn = [examples.drawn(int(index), view) for index in mine]
            return read, keys, drawn, Batch((), *examples.targets(mine, [view] * len(mine)), share=share)

        jobs = shares(order, self._pictures.batch, rank, world)
        for read, keys, drawn, batch in ahead(jobs, draw, self._pictures.threads):
            for pixels, key in zip(read, keys, strict=True):
                if pixels is not None:
                    self._there[key] = _sent(pixels, self._device)
            unit = torch.stack([_unit(self._there[key]) for key in keys])
            unit = varied(unit, [one[0] for one in drawn], drawn[0][1], [one[2] for one in drawn], fill)
            pictures = (unit * (spec.high - spec.low) + spec.low)[:, None].expand(-1, CHANNELS, -1, -1)
            yield replace(batch, inputs=(pictures,))

    def plain(self, parts: Sequence[NDArray[np.int64]]) -> Plain:
        """See :class:`callus.training.batches.Source`: as identification makes them, on the processor."""
        return self._pictures.plain(parts)


def fits(examples: Examples, device: torch.device) -> bool:
    """Whether the pictures, at the input's size and of 16 bits, find room in a GPU's memory."""
    spec = examples.recipe.input
    free, _ = torch.cuda.mem_get_info(device)
    return len(examples) * spec.height * spec.width * 2 <= SHARE * free


def _sent(pixels: Pixels, device: torch.device) -> Tensor:
    """A picture as it lies on the device: torch's own 16 bits without a sign hold values, and do little else."""
    return torch.from_numpy(pixels if pixels.dtype == np.uint8 else pixels.view(np.int16)).to(device)


def _unit(kept: Tensor) -> Tensor:
    """float32 in [0, 1]."""
    return kept.float() / 255 if kept.dtype == torch.uint8 else (kept.int() & 0xFFFF).float() / 65535


def varied(
    pixels: Tensor, moved: Sequence[NDArray[np.float64]], size: tuple[int, int], greys: Sequence[Grey], fill: str
) -> Tensor:
    """Views of some pictures.

    Args:
        pixels: float32 (B, H, W) in [0, 1].
        moved: of each the affine map (2, 3) from it to its view, pixel centres at whole numbers.
        size: height and width of the views.
        greys: what is done to each view's grey values.
        fill: "black" or "nearest", beside the picture.

    Returns:
        float32 (B, height, width) in [0, 1].
    """
    return _grey(_warped(pixels, moved, size, fill), greys)


def _warped(pixels: Tensor, moved: Sequence[NDArray[np.float64]], size: tuple[int, int], fill: str) -> Tensor:
    """Where each pixel of a view lies in the picture, in [-1, 1] between the outermost pixels' centres."""
    height, width = pixels.shape[1:]
    to_unit = np.diag([2 / (width - 1), 2 / (height - 1), 1.0])
    to_unit[:2, 2] = -1
    from_view = np.stack([to_unit[:2] @ np.linalg.inv(np.vstack([one, (0, 0, 1)])) for one in moved])
    maps = torch.from_numpy(from_view.astype(np.float32)).to(pixels.device)
    rows = torch.arange(size[0], device=pixels.device, dtype=torch.float32)
    columns = torch.arange(size[1], device=pixels.device, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    grid = torch.einsum("hwk,bck->bhwc", points, maps)
    return functional.grid_sample(pixels[:, None], grid, "bilinear", _PADDING[fill], align_corners=True)[:, 0]


def _grey(unit: Tensor, greys: Sequence[Grey]) -> Tensor:
    """As :func:`callus.training.grey.vary_grey`, of a batch whose recipe is one."""
    first, device = greys[0], unit.device

    def each(values: list[np.float32 | None]) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float32)).to(device)[:, None, None]

    if first.gamma is not None:
        unit = unit ** each([one.gamma for one in greys])
    if first.slope is not None:
        unit = (unit - 0.5) * each([one.slope for one in greys]) + each([one.offset for one in greys])
    if first.grain is not None:
        unit = unit + torch.from_numpy(np.stack([one.grain for one in greys if one.grain is not None])).to(device)
    unit = unit.clamp(0, 1)
    if first.tone is not None:
        tables = torch.from_numpy(np.stack([one.tone for one in greys if one.tone is not None])).to(device)
        steps = (unit * (TONES - 1)).to(torch.int64)
        unit = tables.gather(1, steps.flatten(1)).reshape(unit.shape)
    unit = _sharpened(unit, [(n, one.sharpness) for n, one in enumerate(greys) if one.sharpness is not None])
    for one, drawn in zip(unit, greys, strict=True):
        _draw_in(one, drawn)
    turned = torch.tensor([drawn.inverted for drawn in greys], device=device)[:, None, None]
    return torch.where(turned, 1 - unit, unit)


def _sharpened(unit: Tensor, drawn: Sequence[tuple[int, float]]) -> Tensor:
    """Some of the batch blurred or sharpened, each by its own Gaussian, cut off where OpenCV cuts it off."""
    if not drawn:
        return unit
    chosen = torch.tensor([index for index, _ in drawn], device=unit.device)
    amounts = np.array([amount for _, amount in drawn], dtype=np.float32)
    widths = np.maximum(np.abs(amounts), LEAST_BLUR)
    sizes = [round(8 * float(width) + 1) | 1 for width in widths]
    most = max(sizes)
    kernels = np.zeros((len(drawn), 1, most), np.float32)
    for kernel, size, width in zip(kernels, sizes, widths, strict=True):
        start = (most - size) // 2
        kernel[0, start : start + size] = cv2.getGaussianKernel(size, float(width), cv2.CV_32F)[:, 0]
    weights, some = torch.from_numpy(kernels).to(unit.device), unit[chosen]
    half = most // 2
    padded = functional.pad(some[None], (half, half, half, half), mode="reflect")
    across = functional.conv2d(padded, weights[:, :, None, :], groups=len(drawn))
    blurred = functional.conv2d(across, weights[:, :, :, None], groups=len(drawn))[0]
    by = torch.from_numpy(amounts).to(unit.device)[:, None, None]
    sharper = (some + (some - blurred) * by).clamp(0, 1)
    return unit.index_copy(0, chosen, torch.where(by < 0, blurred, sharper))


def _draw_in(unit: Tensor, drawn: Grey) -> None:
    """The sides and marks of one view (height, width), in place."""
    height, width = unit.shape
    if (sides := drawn.sides) is not None:
        shade = float(sides.shade)
        unit[: sides.top] = shade
        unit[height - sides.bottom :] = shade
        unit[:, : sides.left] = shade
        unit[:, width - sides.right :] = shade
    for mark in drawn.marks:
        if mark.plate is not None:
            top, bottom, left, right = mark.plate
            unit[top:bottom, left:right] = float(mark.plate_shade)
        ink = torch.from_numpy(mark.ink).to(unit.device).float() / 255
        unit += (float(mark.shade) - unit) * ink
