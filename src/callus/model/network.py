"""FractureNet: a trunk and a head, from grey radiographs to a logit, a map and pooled features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from callus.model.head import HierarchicalHead, PooledHead
from callus.model.trunks import build_trunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callus.model.head import Head
    from callus.model.trunks import Trunk


class FractureNet(nn.Module):
    """Trunk + head.

    The forward pass is what a bundle holds; training calls ``trunk`` and ``head`` apart, so that a frozen trunk's
    features can come from a cache.

    Attributes:
        fresh_trunk: whether the trunk began from random weights, so that its batch norm has no statistics yet.
        learns_statistics: whether the batch norm of the stages that learn goes on by each batch's statistics.
    """

    def __init__(self, trunk: Trunk, head: Head) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.fresh_trunk = True
        self.learns_statistics = True

    @property
    def map_kind(self) -> str:
        """What the map is: "location" or "gradcam"."""
        return self.head.map_kind

    @property
    def map_stride(self) -> int:
        """Input pixels that a cell of the map has on a side."""
        return self.head.map_stride

    @property
    def first_centre(self) -> float:
        """The input's pixel that the map's first cell is centred at, in each direction.

        What learns places learns them as its cells' targets lie, evenly over the input. Grad-CAM lies where the trunk's
        padding puts its cells.
        """
        return (self.map_stride - 1) / 2 if self.map_kind == "location" else self.trunk.first_centre

    @property
    def feature_channels(self) -> int:
        """C of the features."""
        return sum(self.trunk.channels)

    @property
    def plain_channels(self) -> int:
        """How many of the features, the first, are not the coarsest map's, which training turns to fractures."""
        return sum(self.trunk.channels[:-1])

    def forward(self, radiographs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer a batch.

        Args:
            radiographs: (B, 3, H, W), three equal channels in the range of the recipe's ``input``; H and W multiples
                of 32.

        Returns:
            ``logit`` (B,); ``map`` (B, H / stride, W / stride) in [0, 1] with the head's ``map_stride``; ``features``
            (B, C), the means of the trunk's three maps, from the finest to the coarsest.
        """
        scales = self.trunk(radiographs)
        logit, where = self.head.answer_with_map(scales)
        return logit, where, torch.cat([scale.mean((2, 3)) for scale in scales], dim=1)


def build_network(
    trunk: str,
    *,
    head: str,
    width: int,
    dense: Sequence[int],
    dropout: float,
    location: bool,
    location_gain: float = 0.0,
    location_stride: int = 16,
) -> FractureNet:
    """A network with weights drawn from torch's generator; the trunk's ImageNet weights are loaded apart.

    Args:
        trunk: a name of ``callus.model.trunks.TRUNKS``.
        head: "pooled" or "hierarchical".
        width: channels of the hierarchical head.
        dense: units of the dense layers.
        dropout: behind each dense layer.
        location: whether the hierarchical head has a logit for each place.
        location_gain: where the weight of that logit's highest cells in the image's logit begins.
        location_stride: input pixels that such a place has on a side, 8 or 16.

    Raises:
        WeightsError: no such trunk.
    """
    body = build_trunk(trunk)
    if head == "pooled":
        return FractureNet(body, PooledHead(body.channels, dense, dropout))
    return FractureNet(
        body,
        HierarchicalHead(
            body.channels,
            width,
            dense,
            dropout,
            location=location,
            location_gain=location_gain,
            location_stride=location_stride,
        ),
    )
