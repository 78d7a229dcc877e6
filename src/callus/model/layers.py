"""What every trunk is made of: Keras' convolution and batch norm in torch, and the base of the trunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from callus.model import batch_norm

if TYPE_CHECKING:
    from collections.abc import Sequence


class BatchNorm2d(batch_norm.BatchNorm2d):
    """Batch norm whose moving variance moves as Keras' does: by the biased variance of the batch.

    Torch feeds the unbiased variance (n / (n - 1) times as large) into ``running_var``. That differs where a channel
    has few values, as at stride 32 of a small picture.

    Args:
        channels: C of the input (B, C, H, W).
        eps: added to the variance.
        momentum: the weight of the new batch, which is 1 - Keras' ``momentum``.
    """

    def __init__(self, channels: int, *, eps: float, momentum: float) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); in training mode by the batch, which then moves the statistics."""
        if not self.training or self.running_var is None or self.momentum is None:
            return super().forward(x)
        n = x.numel() // x.shape[1] * self.processes()
        stored = self.running_var
        self.running_var = stored.clone()  # torch keeps it for the backward pass: what it keeps must not change
        try:
            y = super().forward(x)
            with torch.no_grad():
                kept = stored * (1 - self.momentum)
                stored.copy_(kept + (self.running_var - kept) * ((n - 1) / n))
        finally:
            self.running_var = stored
        return y


def normalised(x: Tensor, layer: Any, norm: Any) -> Tensor:
    """Batch norm of a convolution, ``norm(layer(x))`` of an ``nn.Conv2d`` and an ``nn.BatchNorm2d``.

    Where the statistics stand still, batch norm is a factor and a shift of each channel. While learning these go into
    the kernel and its bias, which gives the same values and gradients, and the activations, which the time goes into,
    are passed over once instead of twice, forwards and backwards: a step of MobileNetV2 takes two thirds of the time.
    """
    mean, variance = norm.running_mean, norm.running_var
    if norm.training or not torch.is_grad_enabled() or mean is None or variance is None:
        y: Tensor = norm(_convolved(x, layer.weight, layer.bias, layer))
        return y
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias + ((0.0 if layer.bias is None else layer.bias) - mean) * scale
    kernel = layer.weight * scale[:, None, None, None]
    return _convolved(x, kernel, shift, layer)


def _convolved(x: Tensor, kernel: Tensor, bias: Tensor | None, layer: Any) -> Tensor:
    """What a convolution's layer does, with another kernel and bias.

    In bfloat16 on CPUs the backward pass of a depthwise convolution that strides is ten times as slow as of one that
    does not (torch 2.13, which has no fast kernel of it). So while learning every place is computed, and those that
    the stride leaves out are dropped: a step of MobileNetV2 takes a fifth less time.
    """
    thinned = (
        layer.groups > 1
        and layer.stride != (1, 1)
        and x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and torch.is_grad_enabled()
        and (x.requires_grad or kernel.requires_grad)
    )
    stride = (1, 1) if thinned else layer.stride
    y = functional.conv2d(x, kernel, bias, stride, layer.padding, layer.dilation, layer.groups)
    if not thinned:
        return y
    kept = y[..., :: layer.stride[0], :: layer.stride[1]]
    return kept.contiguous(memory_format=torch.channels_last)  # gaps would make all that follows slower


def convolution(
    inputs: int, outputs: int, size: int, *, stride: int = 1, padding: int = 0, bias: bool = False, groups: int = 1
) -> nn.Conv2d:
    """Make a square convolution, drawn as Keras draws it: Glorot uniform kernel, zero bias."""
    layer = nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, bias=bias, groups=groups)
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Trunk(nn.Module):
    """A network without its top that gives three feature maps.

    Submodules have the names of Keras' layers, so weights are found by name: the path ``conv2_block1.preact_bn`` is
    Keras' ``conv2_block1_preact_bn``. ``forward`` takes a picture (B, 3, H, W) in [-1, 1] and returns the maps
    (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])), the finest first.

    Attributes:
        name: what ``build_trunk`` knows it by, "resnet152v2" for instance.
        channels: of the three maps.
        strides: of the three maps.
        scale_names: the Keras layers whose outputs the maps are.
        first_centre: the picture's pixel that the coarsest map's first cell is centred at, in each direction: what the
            strided layers' padding makes of it, for sides that are multiples of 32.
    """

    name: str
    channels: tuple[int, int, int]
    strides: tuple[int, int, int] = (8, 16, 32)
    scale_names: tuple[str, str, str]
    first_centre: float = 0.0  # padded alike at both ends, a strided 3x3 or 7x7 begins at the first pixel

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps at stride 8, 16 and 32 of (B, 3, H, W)."""
        raise NotImplementedError

    def stages(self) -> Sequence[tuple[str, list[nn.Module]]]:
        """Return the stages, the deepest first, each with its submodules: all of the trunk, none twice.

        "Unfreeze the last k stages" is ``for _, modules in trunk.stages()[:k]``.
        """
        raise NotImplementedError

    def layers(self) -> dict[str, nn.Conv2d | nn.BatchNorm2d]:
        """Return every layer that has weights by its Keras name."""
        return {
            path.replace(".", "_"): module
            for path, module in self.named_modules()
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
        }
