"""A small plain trunk for the demo: nine convolutions that learn from random weights in a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from callus.model.layers import BatchNorm2d, Trunk, convolution

if TYPE_CHECKING:
    from collections.abc import Sequence


class SmallTrunk(Trunk):
    """Convolution, batch norm, ReLU, nine times; strides 8, 16 and 32 after the fifth, the seventh and the ninth.

    There are no ImageNet weights for it. A deep trunk from random weights stays at chance for as long as a demo may
    take; this one finds simulated fractures after some 8,000 pictures.
    """

    name = "small"
    channels = (48, 72, 96)
    scale_names = ("fine", "middle", "coarse")

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            _layer(3, 12, 2), _layer(12, 24, 2), _layer(24, 24, 1), _layer(24, 48, 2), _layer(48, 48, 1)
        )
        self.middle = nn.Sequential(_layer(48, 72, 2), _layer(72, 72, 1))
        self.coarse = nn.Sequential(_layer(72, 96, 2), _layer(96, 96, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps at stride 8, 16 and 32 of (B, 3, H, W)."""
        fine = self.fine(x)
        middle = self.middle(fine)
        return fine, middle, self.coarse(middle)

    def stages(self) -> Sequence[tuple[str, list[nn.Module]]]:
        """Return the three stages, the coarsest first."""
        return [("coarse", [self.coarse]), ("middle", [self.middle]), ("fine", [self.fine])]


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, outputs, 3, stride=stride, padding=1),
        BatchNorm2d(outputs, eps=1e-5, momentum=0.05),
        nn.ReLU(),
    )
