"""Weights rounded as the network in int8 rounds them, while the loss and its gradients are calculated.

A network that is rounded only when it is trained loses what it says in small differences between weights. One whose
losses are those of rounded weights, while the steps go to the weights themselves, settles where rounding costs little,
and its batch norm learns the statistics of the rounded network (the straight-through estimator: Bengio et al. 2013,
arXiv 1308.3432; Jacob et al., CVPR 2018). What is validated and kept has rounded weights, in float32 too.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_EITHER_SIDE: Final = 127
"""Whole steps on either side of 0, in twice the range that the channel needs: seven bits of eight are used."""


def round_weights(network: nn.Module) -> None:
    """Round the weights of convolutions and dense layers for good; again, it changes nothing.

    Those of depthwise convolutions stay, as in the int8 network. A batch norm behind a convolution scales each of its
    output channels as a whole, so that it makes no difference whether it is folded in before or after.
    """
    with torch.no_grad():
        for layer in _rounded_layers(network):
            layer.weight.copy_(rounded(layer.weight))


@contextmanager
def rounded_weights(network: nn.Module) -> Iterator[None]:
    """Have the weights rounded as :func:`round_weights` does; afterwards they are what they were."""
    layers = _rounded_layers(network)
    own = [layer.weight.detach().clone() for layer in layers]
    round_weights(network)
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, own, strict=True):
                layer.weight.copy_(weight)


def _rounded_layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [layer for layer in layers if isinstance(layer, nn.Linear) or layer.groups == 1]


def rounded(weight: Tensor) -> Tensor:
    """Weights (output channels, ...) as ``callus.training.quantise`` has nncf round them; the dtype stays.

    The same operations in the same order, as weights that lie halfway between two steps go where those take them: every
    second one of weights that were in eight bits before does. But for the largest of a channel, which would go from
    63.5 steps to a whole one and is what steps are measured by: it stays, so that rounding again changes nothing.
    """
    largest = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.dim() - 1))
    reach = (2 * largest).clamp_min(torch.finfo(weight.dtype).tiny)  # a channel of zeros stays
    steps = ((weight + reach) / (2 * reach) * (2 * _EITHER_SIDE)).round_() - _EITHER_SIDE
    return torch.where(weight.abs() == largest, weight, steps * (reach / _EITHER_SIDE))
