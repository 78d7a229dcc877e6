"""Networks damaged on purpose, field by field, so that they still are networks to whoever only walks their bytes.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml), and ``bench/fuzz.py`` puts it on its own.
"""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from mutate import damage
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from random import Random

_INTS: Final = (
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    64,
    255,
    65_536,
    10**6,
    2**31 - 1,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    -(2**31),
    -(2**63),
)
_FLOATS: Final = (0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-45)
_OPERATORS: Final = (
    *("Conv", "ConvTranspose", "MatMul", "Gemm", "Resize", "Expand", "Tile", "ConstantOfShape", "Range", "Reshape"),
    *(
        "Squeeze",
        "Unsqueeze",
        "NonZero",
        "Pad",
        "EyeLike",
        "OneHot",
        "Einsum",
        "Gather",
        "Scatter",
        "TopK",
        "If",
        "Loop",
    ),
    *("Scan", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "Flatten", "Slice", "Split", "Concat", "CumSum"),
    *("DequantizeLinear", "QuantizeLinear", "QLinearConv", "LSTM", "GRU", "RandomNormal", "Upsample", "DepthToSpace"),
    *("SpaceToDepth", "LayerNormalization", "BatchNormalization", "InstanceNormalization", "LRN", "Cast", "Identity"),
    *("NonMaxSuppression", "RoiAlign", "MaxUnpool", "StringNormalizer", "TfIdfVectorizer", "Det", "Dropout", "NoSuch"),
)
_ATTRIBUTES: Final = (
    *("strides", "pads", "dilations", "kernel_shape", "output_shape", "output_padding", "axes", "split", "perm"),
    *("group", "axis", "to", "blocksize", "ceil_mode", "allowzero", "keepdims", "storage_order", "batch_dims"),
)
_IR_VALUES: Final = (
    *(
        "",
        "-1",
        "0",
        "1",
        "2",
        "3",
        "7",
        "64",
        "65536",
        "2147483647",
        "2147483648",
        "9223372036854775807",
        "-9223372036854775808",
    ),
    *(
        "?",
        "x",
        "nan",
        "1e308",
        "1,2,3",
        "f32",
        "f16",
        "i64",
        "u1",
        "i4",
        "string",
        "opset1",
        "opset15",
        "no_such",
        "x" * 5000,
    ),
)
_IR_TYPES: Final = (
    *("Parameter", "Const", "Result", "Convolution", "MatMul", "Reshape", "Loop", "TensorIterator", "If", "Broadcast"),
    *(
        "Tile",
        "Range",
        "Squeeze",
        "TopK",
        "FakeQuantize",
        "Interpolate",
        "LSTMSequence",
        "ReadValue",
        "NoSuch",
        "Split",
    ),
)
_IR_PLACES: Final = (
    (r'(?<=type=")[A-Z]\w*', _IR_TYPES),
    (r"(?<=<dim>)-?\d+", _IR_VALUES),
    *((r'(?<==")[^"<>]*', _IR_VALUES),) * 3,
)


def changed_onnx(random: Random, graph: bytes) -> tuple[bytes, str]:
    """Change one field of an ONNX graph; the bytes, and what was done."""
    model = onnx.load_model_from_string(graph)
    change = random.choice((_node, _node, _node, _tensor, _tensor, _shape, _version, _hostile))
    done = change(random, model)
    return model.SerializeToString(), done


def changed_ir(random: Random, xml: bytes) -> tuple[bytes, str]:
    """Change one value in OpenVINO's .xml, or a layer's type; the bytes, and what was done."""
    text = xml.decode("utf-8", "replace")
    kind, values = random.choice(_IR_PLACES)
    found = list(re.finditer(kind, text))
    if not found:
        return xml, "nothing"
    place, value = random.choice(found), random.choice(values)
    told = f"{text[max(0, place.start() - 12) : place.end()]!r} became {value[:30]!r}"
    return f"{text[: place.start()]}{value}{text[place.end() :]}".encode(), told


def _node(random: Random, model: onnx.ModelProto) -> str:
    node = random.choice(model.graph.node)
    way = random.choice(("operator", "attribute", "attribute", "new attribute", "input", "input", "output", "domain"))
    if way == "operator":
        node.op_type = random.choice(_OPERATORS)
    elif way == "domain":
        node.domain = random.choice(("com.microsoft", "ai.onnx.ml", "ai.onnx.training", "no.such"))
    elif way == "new attribute":
        value = random.choice(
            [random.choice(_INTS), random.choices(_INTS, k=random.randint(1, 4)), random.choice(_FLOATS)]
        )
        node.attribute.append(helper.make_attribute(random.choice(_ATTRIBUTES), value))
    elif way == "attribute" and node.attribute:
        attribute = random.choice(node.attribute)
        if attribute.ints:
            attribute.ints[random.randrange(len(attribute.ints))] = random.choice(_INTS)
        attribute.i = random.choice(_INTS)
    else:
        names = [name for other in model.graph.node for name in (*other.input, *other.output)]
        slots = node.output if way == "output" else node.input
        value = random.choice((*names, "", "nowhere"))
        if slots and random.random() < 0.8:
            slots[random.randrange(len(slots))] = value
        else:
            slots.append(value)
    return f"{way} of {node.op_type}"


def _tensor(random: Random, model: onnx.ModelProto) -> str:
    tensor = random.choice(model.graph.initializer)
    way = random.choice(("sides", "more sides", "kind", "bytes", "values", "values", "name"))
    if way == "sides" and tensor.dims:
        tensor.dims[random.randrange(len(tensor.dims))] = random.choice(_INTS)
    elif way == "more sides":
        tensor.dims.append(random.choice(_INTS))
    elif way == "kind":
        tensor.data_type = random.randrange(26)
    elif way == "bytes":
        raw = bytearray(tensor.raw_data)
        damage(random, raw)
        tensor.raw_data = bytes(raw)
    elif way == "name":
        tensor.name = random.choice((*[other.name for other in model.graph.initializer], "", "radiograph"))
    elif tensor.data_type == TensorProto.INT64:
        values = random.choices(_INTS, k=max(1, len(tensor.raw_data) // 8))
        tensor.raw_data = struct.pack(f"<{len(values)}q", *values)
    else:
        tensor.raw_data = struct.pack("<f", random.choice(_FLOATS)) * (len(tensor.raw_data) // 4)
    return f"{way} of tensor {tensor.name}"


def _shape(random: Random, model: onnx.ModelProto) -> str:
    value = random.choice([*model.graph.input, *model.graph.output])
    kind = value.type.tensor_type
    if random.random() < 0.3:
        kind.elem_type = random.randrange(26)
        return f"kind of {value.name}"
    if kind.shape.dim:
        side = random.choice(kind.shape.dim)
        side.dim_value = random.choice(_INTS)
    return f"shape of {value.name}"


def _version(random: Random, model: onnx.ModelProto) -> str:
    if random.random() < 0.5:
        model.ir_version = random.choice(_INTS)
        return f"ir_version {model.ir_version}"
    model.opset_import[0].version = random.choice((*_INTS, 6, 11, 12, 13, 18, 21, 25, 30))
    return f"opset {model.opset_import[0].version}"


def _hostile(random: Random, model: onnx.ModelProto) -> str:
    """Something that takes memory or time without end, or reads elsewhere."""
    ways = {"huge": _huge, "grow": _grow, "loop": _loop, "circle": _circle, "outside": _outside, "copies": _copies}
    ways |= {"double": _double, "window": _window, "input": _input}
    way = random.choice(list(ways))
    ways[way](random, model)
    return way


def _huge(random: Random, model: onnx.ModelProto) -> None:
    """A tensor of any size out of a few numbers, which nothing needs."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(_int64([random.choice(_INTS) for _ in range(3)]), "sides"))
    operator = random.choice(("ConstantOfShape", "Expand"))
    taken = ["sides"] if operator == "ConstantOfShape" else [graph.initializer[0].name, "sides"]
    graph.node.append(helper.make_node(operator, taken, ["filled"]))
    graph.node.append(helper.make_node("ReduceMax", ["filled"], ["unused"]))


def _grow(random: Random, model: onnx.ModelProto) -> None:
    """The picture becomes a larger one first."""
    graph, times = model.graph, random.choice((2, 5, 30, 64, 10**6, 2**40))
    way = random.choice(("Tile", "Resize", "Pad"))
    if way == "Tile":
        held, taken = _int64([1, 1, times, times]), ["radiograph", "times"]
    elif way == "Resize":
        held, taken = np.array([1, 1, times, times], dtype=np.float32), ["radiograph", "", "times"]
    else:
        held, taken = _int64([0] * 6 + [64 * times] * 2), ["radiograph", "times"]
    graph.initializer.append(numpy_helper.from_array(held, "times"))
    graph.node.insert(0, helper.make_node(way, taken, ["grown"]))
    for node in graph.node[1:]:
        node.input[:] = ["grown" if name == "radiograph" else name for name in node.input]


def _double(random: Random, model: onnx.ModelProto) -> None:
    """Each step gives twice what the one before gave, or the same once more."""
    operator, count = random.choice(("Concat", "Add", "MatMul")), random.choice((4, 12, 40, 400))
    more = {"axis": random.choice((0, 1, 2, 3))} if operator == "Concat" else {}
    names = ["radiograph", *(f"double{number}" for number in range(count))]
    for before, after in pairwise(names):
        model.graph.node.append(helper.make_node(operator, [before, before], [after], **more))


def _window(random: Random, model: onnx.ModelProto) -> None:
    """A convolution or a pool with a large window, many channels or many groups."""
    groups, side = random.choice((1, 3)), random.choice((1, 7, 16, 32, 64))
    gives = groups * random.choice((1, 16, 2000))
    weights = np.zeros((gives, 3 // groups, side, side), dtype=np.float32)
    if weights.size > 10**6:
        return
    model.graph.initializer.append(numpy_helper.from_array(weights, "window"))
    pads = [random.choice((0, side - 1))] * 4
    node = helper.make_node("Conv", ["radiograph", "window"], ["through"], group=groups, pads=pads)
    model.graph.node.append(node)


def _input(random: Random, model: onnx.ModelProto) -> None:
    """A picture of another size than the bundle says."""
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = random.choice((1024, 4096, 2**15, 2**31))


def _circle(_random: Random, model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def _outside(random: Random, model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=random.choice(("/dev/zero", "../../x", "model.onnx")))


def _copies(random: Random, model: onnx.ModelProto) -> None:
    for number in range(random.choice((100, 3000))):
        model.graph.node.append(helper.make_node("Identity", ["radiograph"], [f"copy{number}"]))


def _loop(_random: Random, model: onnx.ModelProto) -> None:
    """A loop of 2^63 - 1 rounds whose result the logit takes."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Add", ["sum", "sum"], ["sum_after"]),
        ],
        "body",
        [
            value("round", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("sum", TensorProto.FLOAT, None),
        ],
        [value("goes_on", TensorProto.BOOL, []), value("sum_after", TensorProto.FLOAT, None)],
    )
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(_int64([2**63 - 1]).reshape(()), "rounds"))
    graph.initializer.append(helper.make_tensor("true", TensorProto.BOOL, [], [True]))
    last = next(node for node in graph.node if "logit" in node.output)
    last.output[list(last.output).index("logit")] = "before"
    graph.node.append(helper.make_node("Loop", ["rounds", "true", "before"], ["logit"], body=body))


def _int64(values: list[int]) -> Any:
    return np.array(values, dtype=np.int64)
