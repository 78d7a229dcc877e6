"""MobileNetV2 of width 1.0 as in ``keras.applications``: inverted residuals with depthwise convolutions.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018, with Keras' layer names, padding and batch
norm (keras/src/applications/mobilenet_v2.py).
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the name that everybody uses
from torch import Tensor, nn

from callus.model.layers import BatchNorm2d, Trunk, convolution, normalised

# Output channels and stride of expanded_conv (which does not expand) and of block_1 to block_16.
_BLOCKS = (
    (16, 1),
    *((24, 2), (24, 1)),
    *((32, 2), (32, 1), (32, 1)),
    *((64, 2), (64, 1), (64, 1), (64, 1)),
    *((96, 1), (96, 1), (96, 1)),
    *((160, 2), (160, 1), (160, 1)),
    (320, 1),
)
_EXPANSION = 6
# The block that each stage starts with: the one that holds its stride.
_STAGE_STARTS = {"stem": 0, "blocks_1_to_2": 1, "blocks_3_to_5": 3, "blocks_6_to_12": 6, "blocks_13_to_16": 13}


def _batch_norm(channels: int) -> BatchNorm2d:
    return BatchNorm2d(channels, eps=1e-3, momentum=0.001)  # Keras' momentum is 0.999 here


def _pad_for_stride_2(x: Tensor) -> Tensor:
    """Pad (B, C, H, W) with zeros for a 3x3 convolution of stride 2 as Keras does.

    An even side gets one row or column at its end only, an odd side one at either end (``correct_pad``, and what
    "same" means to TensorFlow).
    """
    height, width = x.shape[-2:]
    return F.pad(x, (width % 2, 1, height % 2, 1))


def _active(x: Tensor, layer: nn.Module, norm: nn.Module) -> Tensor:
    """Convolution, batch norm and ReLU6."""
    return F.relu6(normalised(x, layer, norm), inplace=True)


class Block(nn.ModuleDict):
    """An inverted residual: 1x1 expansion, 3x3 depthwise, 1x1 projection without activation, and the skip.

    Args:
        inputs: channels of its input.
        outputs: channels of its output; where they and the stride allow it, the input is added.
        stride: 1 or 2.
        expansion: how many times as many channels the depthwise convolution has; 1 leaves the expansion out.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        hidden = expansion * inputs
        layers: dict[str, nn.Module] = {}
        if expansion > 1:
            layers |= {"expand": convolution(inputs, hidden, 1), "expand_BN": _batch_norm(hidden)}
        layers |= {
            "depthwise": convolution(hidden, hidden, 3, stride=stride, padding=1 if stride == 1 else 0, groups=hidden),
            "depthwise_BN": _batch_norm(hidden),
            "project": convolution(hidden, outputs, 1),
            "project_BN": _batch_norm(outputs),
        }
        super().__init__(layers)
        self.stride = stride
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        hidden = _active(x, self["expand"], self["expand_BN"]) if "expand" in self else x
        if self.stride > 1:
            hidden = _pad_for_stride_2(hidden)
        hidden = _active(hidden, self["depthwise"], self["depthwise_BN"])
        y = normalised(hidden, self["project"], self["project_BN"])
        return x + y if self.adds else y


class MobileNetV2(Trunk):
    """The compact trunk. Its third map is Keras' output with ``include_top=False``."""

    first_centre = 31.0  # padded at the end alone, each of five strided layers begins one of its pixels further in

    def __init__(self) -> None:
        super().__init__()
        self.name = "mobilenet_v2"
        self.channels = (32, 96, 1280)
        self.scale_names = ("block_5_add", "block_12_add", "out_relu")
        self._block_names = ("expanded_conv", *(f"block_{i}" for i in range(1, len(_BLOCKS))))
        self.Conv1 = convolution(3, 32, 3, stride=2)
        self.bn_Conv1 = _batch_norm(32)
        inputs = 32
        for i, (name, (outputs, stride)) in enumerate(zip(self._block_names, _BLOCKS, strict=True)):
            self.add_module(name, Block(inputs, outputs, stride=stride, expansion=_EXPANSION if i else 1))
            inputs = outputs
        self.Conv_1 = convolution(inputs, 1280, 1)
        self.Conv_1_bn = _batch_norm(1280)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps at stride 8, 16 and 32 of (B, 3, H, W)."""
        x = _active(_pad_for_stride_2(x), self.Conv1, self.bn_Conv1)
        fine = middle = x
        for name in self._block_names:
            x = self.get_submodule(name)(x)
            if name == self.scale_names[0].removesuffix("_add"):
                fine = x
            elif name == self.scale_names[1].removesuffix("_add"):
                middle = x
        return fine, middle, _active(x, self.Conv_1, self.Conv_1_bn)

    def stages(self) -> list[tuple[str, list[nn.Module]]]:
        """Return the stages, the deepest (with Conv_1) first; a stage starts with the block that holds its stride."""
        starts = [*_STAGE_STARTS.values(), len(self._block_names)]
        stages = {
            stage: [self.get_submodule(name) for name in self._block_names[start:end]]
            for stage, start, end in zip(_STAGE_STARTS, starts, starts[1:], strict=False)
        }
        stages["stem"] = [self.Conv1, self.bn_Conv1, *stages["stem"]]
        stages["blocks_13_to_16"] += [self.Conv_1, self.Conv_1_bn]
        return list(reversed(stages.items()))
