"""Several networks that answer as one: each sees the radiograph at its own size, and what they say is averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callus.model.network import FractureNet


class AveragedNet(nn.Module):
    """The mean of several networks' logits and maps.

    What one of them learnt by chance the other did not: what that was worth, and where nothing, stands in
    docs/decisions.md.

    Args:
        members: networks with maps of one kind. The first gives the map's cells and the pooled features.
        sizes: height and width that each of them takes, of one aspect, none larger than the first's.
    """

    def __init__(self, members: Sequence[FractureNet], sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.sizes = tuple(sizes)
        self.map_kind, self.map_stride = members[0].map_kind, members[0].map_stride
        self.first_centre = members[0].first_centre
        self.feature_channels, self.plain_channels = members[0].feature_channels, members[0].plain_channels

    def forward(self, radiographs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer a batch (B, 3, H, W) of the first member's size; see :meth:`FractureNet.forward`."""
        logit, where, features = self.members[0](radiographs)
        logits, maps = [logit], [where]
        for member, size in zip(list(self.members)[1:], self.sizes[1:], strict=True):
            smaller = radiographs if size == self.sizes[0] else _resized(radiographs, size)
            logit, found, _ = member(smaller)
            cells = (where.shape[1], where.shape[2])
            same = (found.shape[1], found.shape[2]) == cells
            logits.append(logit)
            maps.append(found if same else _resized(found[:, None], cells)[:, 0])
        return torch.stack(logits).mean(0), torch.stack(maps).mean(0), features


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) over the same field with other cells, linear between their centres."""
    return functional.interpolate(values, size=size, mode="bilinear", align_corners=False)
