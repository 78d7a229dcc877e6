"""What stands on a trunk: hierarchical features, custom residual blocks and pooling, dense layers, one logit.

Two heads share one interface. :class:`PooledHead` is the original project's notebook: average pool, dense layers.
:class:`HierarchicalHead` is what the original's text describes: features at several scales through residual blocks
*and pooling*, then dense layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from callus.model.batch_norm import BatchNorm2d

if TYPE_CHECKING:
    from collections.abc import Sequence

Scales = tuple[Tensor, Tensor, Tensor]
"""A trunk's maps at strides 8, 16 and 32: (B, C, H / stride, W / stride) each."""

TOP_AREA = 1024
"""The image hears the mean of the location map's highest cells, as many as cover so many input pixels: 4 of stride 16.

One cell alone is noise.
"""


_FINEST = 8
"""Stride of the trunks' finest map that heads get."""


class Answer(NamedTuple):
    """What a head says of a batch.

    Attributes:
        logit: (B,) of "fractured".
        location: (B, 1, H / map_stride, W / map_stride) logit of "a fracture crosses this cell", or None where the
            head has none.
    """

    logit: Tensor
    location: Tensor | None


class Head(nn.Module):
    """The interface: ``collect`` has no parameters, so what it returns can be computed once and kept on disk."""

    map_kind: str
    map_stride: int

    def collect(self, scales: Scales) -> tuple[Tensor, ...]:
        """What of the trunk's maps the head takes: the part that a trunk cache keeps."""
        raise NotImplementedError

    def forward(self, *collected: Tensor) -> Answer:
        """Answer from what :meth:`collect` returned."""
        raise NotImplementedError

    def answer_with_map(self, scales: Scales) -> tuple[Tensor, Tensor]:
        """The logit (B,) and the map (B, H / map_stride, W / map_stride) in [0, 1]."""
        raise NotImplementedError


class DenseLayers(nn.Module):
    """Dense layers with ReLU and dropout, then one unit.

    The network between a pooled vector and its logit is piecewise linear, so its Jacobian is a product of masked
    matrices; :meth:`jacobian` writes it in the forward pass, and Grad-CAM needs no gradients at run time.
    """

    def __init__(self, inputs: int, units: Sequence[int], dropout: float) -> None:
        super().__init__()
        sizes = [inputs, *units]
        self.hidden = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(units)))
        self.dropout = nn.Dropout(dropout)
        self.logit = nn.Linear(sizes[-1], 1)
        for layer in (*self.hidden, self.logit):
            # Keras' default, which the original's notebook trained with.
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, inputs) → (B,)."""
        for layer in self.hidden:
            pooled = self.dropout(functional.relu(layer(pooled)))
        return self.logit(pooled).squeeze(1)  # type: ignore[no-any-return]

    def jacobian(self, pooled: Tensor) -> Tensor:
        """The derivative of each logit by its pooled vector, without dropout: (B, inputs) → (B, inputs)."""
        masks = []
        for layer in self.hidden:
            before = layer(pooled)
            masks.append((before > 0).to(before.dtype))
            pooled = functional.relu(before)
        backward = self.logit.weight.expand(pooled.shape[0], -1)  # (B, last)
        for layer, mask in zip(reversed(self.hidden), reversed(masks), strict=True):
            backward = (backward * mask) @ layer.weight
        return backward


def grad_cam(dense: DenseLayers, maps: Tensor) -> Tensor:
    """Grad-CAM of the logit at the maps that are average-pooled into the dense layers.

    Selvaraju et al., ICCV 2017: each channel is weighted by the mean over places of the logit's derivative. Behind an
    average pool over n places that derivative is the pooled vector's Jacobian / n at every place.

    Args:
        dense: the dense layers behind the pool.
        maps: (B, C, h, w), what is pooled.

    Returns:
        (B, h, w), at least 0, not scaled.
    """
    weights = dense.jacobian(maps.mean((2, 3))) / (maps.shape[2] * maps.shape[3])  # (B, C)
    return functional.relu((weights[:, :, None, None] * maps).sum(1))


def scaled_grad_cam(dense: DenseLayers, maps: Tensor, logit: Tensor) -> Tensor:
    """Grad-CAM in [0, 1]: relative to its highest place, and dimmed by the picture's own probability.

    Without the second factor every picture, also one that nothing was seen in, would have a place at full heat.
    """
    heat = grad_cam(dense, maps)
    highest = heat.amax((1, 2), keepdim=True).clamp_min(1e-12)
    return heat / highest * torch.sigmoid(logit)[:, None, None]


class PooledHead(Head):
    """The original's notebook: global average pool of the coarsest map, dense layers, one logit."""

    map_kind = "gradcam"
    map_stride = 32

    def __init__(self, channels: tuple[int, int, int], dense: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.dense = DenseLayers(channels[-1], dense, dropout)

    def collect(self, scales: Scales) -> tuple[Tensor, ...]:
        """((B, C),): the pooled coarsest map."""
        return (scales[-1].mean((2, 3)),)

    def forward(self, *collected: Tensor) -> Answer:
        """(B, C) → the answer; there is no location."""
        return Answer(self.dense(collected[0]), None)

    def answer_with_map(self, scales: Scales) -> tuple[Tensor, Tensor]:
        """The logit (B,) and Grad-CAM (B, H / 32, W / 32)."""
        logit = self.dense(scales[-1].mean((2, 3)))
        return logit, scaled_grad_cam(self.dense, scales[-1], logit)


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus the way round it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(width)
        # The block begins as the identity: a deep stack then learns as fast as a shallow one (Goyal et al. 2017).
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) → the same."""
        return x + self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))  # type: ignore[no-any-return]


class Reduce(nn.Module):
    """A trunk's map to the head's width. The trunk's raw maps are not normalised, so this begins with BN."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) → (B, width, h, w)."""
        return self.conv(self.norm(x))  # type: ignore[no-any-return]


class HierarchicalHead(Head):
    """Three scales fused top-down, then residual blocks and pooling from the finest scale to the coarsest."""

    def __init__(
        self,
        channels: tuple[int, int, int],
        width: int,
        dense: Sequence[int],
        dropout: float,
        *,
        location: bool,
        location_gain: float = 0.0,
        location_stride: int = 16,
    ) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(Reduce(count, width) for count in channels)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in channels)
        self.locate = nn.Conv2d(width, 1, 1) if location else None
        self.dense = DenseLayers(width, dense, dropout)
        self.map_kind = "location" if location else "gradcam"
        self.map_stride = location_stride if location else 32
        # How loudly the location map speaks in the image's logit; learnt from where it begins.
        self.location_gain = nn.Parameter(torch.tensor(location_gain)) if location else None

    def collect(self, scales: Scales) -> tuple[Tensor, ...]:
        """The three maps themselves."""
        return scales

    def forward(self, *collected: Tensor) -> Answer:
        """Three maps → the answer."""
        maps, location = self._maps(collected)
        return Answer(self._logit(maps, location), location)

    def answer_with_map(self, scales: Scales) -> tuple[Tensor, Tensor]:
        """The logit (B,) and the location's probability at its stride, or Grad-CAM (B, H / 32, W / 32)."""
        maps, location = self._maps(scales)
        logit = self._logit(maps, location)
        if location is not None:
            return logit, torch.sigmoid(location[:, 0])
        return logit, scaled_grad_cam(self.dense, maps, logit)

    def _maps(self, scales: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """The coarsest map (B, width, H / 32, W / 32), which is pooled, and the location logits at their stride."""
        fine, middle, coarse = (reduce(x) for reduce, x in zip(self.reduce, scales, strict=True))
        middle = middle + functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = fine + functional.interpolate(middle, scale_factor=2.0, mode="nearest")
        finest = self.blocks[0](fine)  # stride 8
        x = self.blocks[1](functional.max_pool2d(finest, 2) + middle)  # stride 16
        location = None
        if self.locate is not None and self.map_stride == _FINEST:
            # Which cell is told by the finest map, whether it is a fracture by what lies around it too.
            location = self.locate(finest + functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        elif self.locate is not None:
            location = self.locate(x)
        x = self.blocks[2](functional.max_pool2d(x, 2) + coarse)  # stride 32
        return x, location

    def _logit(self, maps: Tensor, location: Tensor | None) -> Tensor:
        logit: Tensor = self.dense(maps.mean((2, 3)))
        if location is None or self.location_gain is None:
            return logit
        cells = min(TOP_AREA // self.map_stride**2, location.shape[2] * location.shape[3])
        top = location.flatten(1).topk(cells, dim=1).values.mean(1)
        return logit + self.location_gain * top
