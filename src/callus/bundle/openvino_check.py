"""Refuses networks in OpenVINO's own format that would take too much memory or time, or the process with them."""

from __future__ import annotations

import math
from typing import Any, Final
from xml.etree import ElementTree as ET

from callus.bundle.cost import GROUPED, MOST_CONSTANT_STEPS, PLAIN_WORK, POOLED, Cost, too_much
from callus.bundle.openvino_sizes import SIZED, SOURCES, Layer, check_sizes
from callus.bundle.shape_rules import MOST_GROUPED, MOST_KERNEL
from callus.errors import BundleError

MOST_XML: Final = 16 << 20
"""That of a ResNet152V2 has 2 MB: the weights lie elsewhere."""
_BRANCHES: Final = ("Loop", "TensorIterator", "If")
_NUMBER_BY_NUMBER: Final = (
    "Abs Add BatchNormInference Clamp Convert Divide Elu Equal Erf Exp FakeQuantize Floor Gelu Greater GreaterEqual "
    "HSigmoid HSwish HardSigmoid Less LessEqual Log LogicalAnd LogicalNot LogicalOr Maximum Minimum Mish Multiply "
    "Negative Power PReLU ReLU Round Select Selu Sigmoid Sign SoftMax SoftPlus SoftSign Sqrt Subtract Swish Tanh"
)
_PLAIN: Final = frozenset(_NUMBER_BY_NUMBER.split())
_OTHERS: Final = ("AvgPool", "Concat", "Convolution", "GroupConvolution", "MatMul", "MaxPool", "Result", "ShapeOf")
KINDS: Final = frozenset((*SOURCES, *_PLAIN, *SIZED, *_OTHERS))
"""Layers that a bundle's network may be made of: those that callus writes, and what computes number by number."""
_WINDOW: Final = ("kernel", "strides", "dilations", "pads_begin", "pads_end", "antialias")
_SLOW: Final = {"Gather": 8, "Interpolate": 8, "Power": 16, "ReduceL2": 16, "SoftMax": 32, "TopK": 64}
"""How many times longer than to move one number they take; 2, in and out, for the rest (measured on ONNX's like)."""


def check_layers(xml: bytes, weights: bytes, where: object) -> None:
    """Refuse a network in OpenVINO's own format that may never end, or that takes the process or the memory with it.

    OpenVINO 2026.4 follows a null pointer where a layer that needs inputs has none, and computes what a size is made of
    when it reads a network: that has to be short lists throughout. The rest is looked at once it is read, by
    :func:`too_large`.

    Args:
        xml: the bytes of the .xml file.
        weights: the bytes of the .bin file.
        where: the file, for the error.

    Raises:
        BundleError: loops or branches, layers that callus does not run, one without inputs that needs some, windows
            that no network here has, sizes that come from anything but sizes, or not such a file.
    """
    refused = "is no OpenVINO network; callus cannot load the graph"
    if len(xml) > MOST_XML or b"<!" in xml:  # what begins so can make a short file long
        raise BundleError(f"{refused}: {len(xml):,} bytes, at most {MOST_XML:,}, and no declarations", where=where)
    try:
        root = ET.fromstring(xml.decode("utf-8"))  # nosec B314  # noqa: S314 - no declarations, no trap
    except (ET.ParseError, ValueError) as error:
        raise BundleError(f"{refused}: {error}", where=where, hint="export it anew") from error
    try:
        check_sizes(_read(root, where), root, weights)
    except ValueError as error:
        raise BundleError(f"{refused}: {error}", where=where, hint="export it anew") from error


def too_large(model: Any, passes: int = 1) -> str:
    """Say why a network takes more memory or time than any network for radiographs; empty where it does not.

    Args:
        model: as OpenVINO has read it, for one picture.
        passes: how often an answer asks the network.
    """
    costs = []
    constants: dict[str, int] = {}  # bytes of what comes from constants alone, by its maker
    for step in model.get_ordered_ops():
        kind, name = step.get_type_name(), step.get_name()
        try:
            sizes = [output.get_tensor().size for output in step.outputs()]
        except RuntimeError:
            return f"the size of what a {kind[:40]} gives cannot be told"
        if kind == "Const":  # half of all
            constants[name] = sizes[0]
            continue
        if kind == "GroupConvolution" and max(step.input(1).get_shape()[-2:]) > MOST_GROUPED:
            return f"a window for each group has more than {MOST_GROUPED} places on a side"
        takes = [(value.get_node().get_name(), value.get_index()) for value in step.input_values()]
        makers = [maker for maker, _ in takes]
        # What is made of sizes is a constant too, now that they are fixed.
        constant = kind == "ShapeOf" or (kind != "Parameter" and all(maker in constants for maker in makers))
        if constant:
            constants[name] = sum(sizes)
        costs.append(
            Cost(
                takes,
                {(name, index): size for index, size in enumerate(sizes)},
                sum(constants.get(maker, 0) for maker in makers),
                _work(step, kind, sum(sizes)),
                constant,
                kind in _PLAIN,
            )
        )
    return too_much(costs, keeps=False, passes=passes)


def _work(step: Any, kind: str, given: int) -> int:
    """Tell how much work a step is, in multiplications; ``given`` bytes come out of it."""
    count = given // 4 + 1  # nothing that multiplies gives other than float32
    each = PLAIN_WORK * _SLOW.get(kind, 2)
    if kind == "Convolution":
        each += math.prod(step.input(1).get_shape()[1:])
    elif kind == "GroupConvolution":
        each += GROUPED * math.prod(step.input(1).get_shape()[2:])
    elif kind == "MatMul":
        each += max(step.input(0).get_shape()[-2:], default=1)
    elif kind in ("AvgPool", "MaxPool"):
        each += POOLED * math.prod(step.get_attributes()["kernel"])
    elif kind.startswith("Reduce"):
        count = step.input(0).get_tensor().size // 4
    return count * each


def _read(root: ET.Element, where: object) -> dict[str, Layer]:
    """The layers by id; a ValueError says which may not be there."""
    layers: dict[str, Layer] = {}
    for element in root.iter("layer"):
        kind, number = element.get("type", ""), element.get("id", "")
        if kind in _BRANCHES:
            raise BundleError(f"holds a loop or a branch ({kind}), which need never end", where=where)
        if kind not in KINDS:
            raise ValueError(f"{kind!r:.40} is a layer that callus does not run")
        parts = {part.tag: part for part in element}
        if len(parts) != len(element) or number in layers:
            raise ValueError(f"layer {number!r:.40} is there twice, or a part of it")
        ports = [port.get("id", "") for port in parts.get("input", ())]
        if not ports and kind not in SOURCES:
            raise ValueError(f"{kind!r:.40} has no input")
        layers[number] = Layer(kind, ports, parts["data"].attrib if "data" in parts else {})
    if len(layers) > MOST_CONSTANT_STEPS:
        raise ValueError(f"it has {len(layers):,} layers, at most {MOST_CONSTANT_STEPS:,} are read")
    for layer in layers.values():
        if not layer.data.keys().isdisjoint(_WINDOW):
            _check_window(layer)
    return layers


def _check_window(layer: Layer) -> None:
    """Refuse windows that a runtime has no fast way for, or that make a picture larger than it is."""
    for name in _WINDOW[:-1]:
        text = layer.data.get(name, "")
        if not all(part.strip().isdecimal() and int(part) <= MOST_KERNEL for part in text.split(",") if text):
            raise ValueError(f"{layer.kind} has {name} {text!r:.40}, expected numbers from 0 to {MOST_KERNEL}")
    if layer.data.get("antialias", "false") not in ("false", "0"):
        raise ValueError(f"{layer.kind} is a kind of resizing that callus does not know")
