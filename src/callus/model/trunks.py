"""The trunks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callus.errors import WeightsError
from callus.model.layers import Trunk
from callus.model.mobilenet_v2 import MobileNetV2
from callus.model.resnet_v2 import ResNetV2
from callus.model.small import SmallTrunk

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TRUNKS", "Trunk", "build_trunk"]

_BUILDERS: dict[str, Callable[[], Trunk]] = {
    "resnet50v2": lambda: ResNetV2(50),
    "resnet101v2": lambda: ResNetV2(101),
    "resnet152v2": lambda: ResNetV2(152),
    "mobilenet_v2": MobileNetV2,
}
TRUNKS: tuple[str, ...] = tuple(_BUILDERS)
"""The trunks that Keras publishes ImageNet weights for."""


def build_trunk(name: str) -> Trunk:
    """Build a trunk with random weights, drawn as Keras draws them from torch's generator.

    Args:
        name: one of ``TRUNKS``, or "small" (the demo's, without ImageNet weights).

    Raises:
        WeightsError: there is no trunk of that name.
    """
    if name == SmallTrunk.name:
        return SmallTrunk()
    if name not in _BUILDERS:
        raise WeightsError(f"there is no trunk {name!r}", hint=f"take one of {', '.join(TRUNKS)}")
    return _BUILDERS[name]()
