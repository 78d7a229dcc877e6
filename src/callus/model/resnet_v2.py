"""ResNet50V2, 101V2 and 152V2 as in ``keras.applications``: pre-activation residual networks.

He et al., Identity Mappings in Deep Residual Networks, 2016, in the variant that Keras trained on ImageNet: the stride
sits in the *last* block of a stage, the 1x1 convolutions at shortcut and block end have a bias, and batch norm has an
epsilon of 1.001e-5 (keras/src/applications/resnet.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812 - the name that everybody uses
from torch import Tensor, nn

from callus.model.layers import BatchNorm2d, Trunk, convolution, normalised

if TYPE_CHECKING:
    from collections.abc import Iterator

# Blocks in the stages conv2, conv3, conv4 and conv5 for each depth.
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_WIDTHS = (64, 128, 256, 512)
_WIDEN = 4  # a block's output has this many times the channels of its 3x3 convolution


def _batch_norm(channels: int) -> BatchNorm2d:
    return BatchNorm2d(channels, eps=1.001e-5, momentum=0.01)  # Keras' default momentum is 0.99


class Block(nn.ModuleDict):
    """A pre-activation bottleneck: BN, ReLU, 1x1, BN, ReLU, 3x3 (strided), BN, ReLU, 1x1, plus the shortcut.

    Args:
        inputs: channels of its input.
        width: channels of its 3x3 convolution; its output has four times as many.
        stride: 1 or 2.
        convolved_shortcut: the shortcut is a 1x1 convolution of the pre-activated input, not the input itself.
    """

    def __init__(self, inputs: int, width: int, *, stride: int = 1, convolved_shortcut: bool = False) -> None:
        layers: dict[str, nn.Module] = {"preact_bn": _batch_norm(inputs)}
        if convolved_shortcut:
            layers["0_conv"] = convolution(inputs, _WIDEN * width, 1, stride=stride, bias=True)
        layers |= {
            "1_conv": convolution(inputs, width, 1),
            "1_bn": _batch_norm(width),
            "2_conv": convolution(width, width, 3, stride=stride, padding=1),
            "2_bn": _batch_norm(width),
            "3_conv": convolution(width, _WIDEN * width, 1, bias=True),
        }
        super().__init__(layers)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 * width, ceil(H / stride), ceil(W / stride))."""
        preactivated = F.relu(self["preact_bn"](x))
        if "0_conv" in self:
            shortcut = self["0_conv"](preactivated)
        else:
            shortcut = F.max_pool2d(x, 1, self.stride) if self.stride > 1 else x
        x = F.relu(normalised(preactivated, self["1_conv"], self["1_bn"]), inplace=True)
        x = F.relu(normalised(x, self["2_conv"], self["2_bn"]), inplace=True)
        y: Tensor = shortcut + self["3_conv"](x)
        return y


class ResNetV2(Trunk):
    """The trunk of depth 50, 101 or 152.

    The first two maps are the raw sums (not yet activated) that the last block before each strided one gives out; the
    third is the activated end, which is Keras' output with ``include_top=False``.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.name = f"resnet{depth}v2"
        self.channels = (_WIDEN * 128, _WIDEN * 256, _WIDEN * 512)
        blocks = BLOCKS[depth]
        self.scale_names = (f"conv3_block{blocks[1] - 1}_out", f"conv4_block{blocks[2] - 1}_out", "post_relu")
        self._stage_blocks = {f"conv{i}": count for i, count in enumerate(blocks, start=2)}
        self.conv1_conv = convolution(3, 64, 7, stride=2, padding=3, bias=True)
        inputs = 64
        for (stage, count), width in zip(self._stage_blocks.items(), _WIDTHS, strict=True):
            for i in range(1, count + 1):
                stride = 2 if i == count and stage != "conv5" else 1
                block = Block(inputs, width, stride=stride, convolved_shortcut=i == 1)
                self.add_module(f"{stage}_block{i}", block)
                inputs = _WIDEN * width
        self.post_bn = _batch_norm(inputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps at stride 8, 16 and 32 of (B, 3, H, W)."""
        x = self.conv1_conv(x)
        # Keras pads with zeros, not with minus infinity, and these values can be negative: nothing was activated yet.
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        fine = middle = x
        for stage in self._stage_blocks:
            for name, block in self._blocks(stage):
                x = block(x)
                if name == self.scale_names[0].removesuffix("_out"):
                    fine = x
                elif name == self.scale_names[1].removesuffix("_out"):
                    middle = x
        return fine, middle, F.relu(self.post_bn(x))

    def stages(self) -> list[tuple[str, list[nn.Module]]]:
        """Return conv5 (with post_bn), conv4, conv3, conv2, conv1 with their submodules."""
        stages = [(stage, [block for _, block in self._blocks(stage)]) for stage in reversed(self._stage_blocks)]
        stages[0][1].append(self.post_bn)
        return [*stages, ("conv1", [self.conv1_conv])]

    def _blocks(self, stage: str) -> Iterator[tuple[str, nn.Module]]:
        for i in range(1, self._stage_blocks[stage] + 1):
            name = f"{stage}_block{i}"
            yield name, self.get_submodule(name)
