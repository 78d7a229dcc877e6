"""Networks that would take the memory or the time of whoever loads them: refused before a runtime is given them."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_bundle
from onnx import TensorProto, helper, numpy_helper

from callus.bundle import Bundle, Engine, openvino_engine, write_bundle
from callus.bundle.cost import MOST_STEPS, Cost, too_much
from callus.bundle.given import Given, Tensor, weight
from callus.bundle.onnx_check import check_onnx
from callus.bundle.onnx_reader import read_network
from callus.bundle.openvino_check import check_layers, too_large
from callus.bundle.operators import OPERATORS
from callus.errors import BundleError
from callus.preprocess import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from callus.bundle.onnx_reader import Step

SPEC = InputSpec(64, 64)
GRAPH = "model.onnx"
IR_FILES = {"file": "model-int8/model.xml", "weights": "model-int8/model.bin"}
node = helper.make_node


def graph(*nodes: onnx.NodeProto, **weights: Any) -> onnx.ModelProto:
    """The tiny network with more steps, which it does not need."""
    model = tiny_bundle.tiny_graph()
    model.graph.node.extend(nodes)
    for name, value in weights.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def expand() -> onnx.ModelProto:
    return graph(node("Expand", ["map", "sizes"], ["large"]), sizes=[2**23, 1, 1, 1])


def fill() -> onnx.ModelProto:
    return graph(node("ConstantOfShape", ["sizes"], ["large"]), sizes=[2**40])


def tile() -> onnx.ModelProto:
    return graph(node("Tile", ["map", "times"], ["large"]), times=[2**20, 2**20, 1])


def resize() -> onnx.ModelProto:
    return graph(node("Resize", ["radiograph", "", "scales"], ["large"]), scales=[1.0, 1.0, 1e4, 1e4])


def resize_to() -> onnx.ModelProto:
    return graph(node("Resize", ["radiograph", "", "", "sizes"], ["large"]), sizes=[1, 3, 2**16, 2**16])


def pad() -> onnx.ModelProto:
    return graph(node("Pad", ["radiograph", "pads"], ["large"]), pads=[0, 0, 0, 0, 0, 0, 10**6, 10**6])


def channels() -> onnx.ModelProto:
    """A convolution of 1 MB of weights gives 2 GB, and so do two of them one after another from nothing much."""
    wide = node("Conv", ["radiograph", "many"], ["large"])
    return graph(wide, many=np.zeros((100_000, 3, 1, 1)))


def outer() -> onnx.ModelProto:
    """A column times a row."""
    nodes = [node("Reshape", ["radiograph", shape], [shape + "d"]) for shape in ("column", "row")]
    return graph(*nodes, node("MatMul", ["columnd", "rowd"], ["large"]), column=[-1, 1], row=[1, -1])


def doubling() -> onnx.ModelProto:
    names = ["radiograph", *(f"d{number}" for number in range(40))]
    return graph(*(node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)))


def constants() -> onnx.ModelProto:
    """Runtimes compute once for all what depends on nothing, and keep it."""
    made = [node("Expand", ["one_number", "sizes"], [f"large{number}"]) for number in range(40)]
    return graph(*made, one_number=[1.0], sizes=[2**24])


def copies() -> onnx.ModelProto:
    """Every step may keep a copy of its weights."""
    names = ["pooled", *(f"c{number}" for number in range(40))]
    every = [node("Conv", [a, "many"], [b]) for a, b in pairwise(names[1:])]
    first = node("Conv", ["pooled", "first"], ["c0"])
    return graph(first, *every, first=np.zeros((2000, 3, 1, 1)), many=np.zeros((2000, 2000, 1, 1)))


def kept() -> onnx.ModelProto:
    """Each is gone soon in the order of the file, but not in the order in which it is needed."""
    nodes, ends = [], []
    for number in range(24):
        nodes += [
            node("Relu", ["radiograph" if not number else f"r{number - 1}"], [f"r{number}"]),
            node("Resize", [f"r{number}", "", "scales"], [f"large{number}"]),
            node("ReduceMax", [f"large{number}"], [f"early{number}"]),
            node("ReduceMin", [f"large{number}"], [f"late{number}"]),
        ]
        ends.append(f"early{number}")
    ends += [f"late{number}" for number in range(24)]
    sums = [ends[0], *(f"sum{number}" for number in range(1, 48))]
    nodes += [node("Add", [sums[number - 1], ends[number]], [sums[number]]) for number in range(1, 48)]
    return graph(*nodes, scales=[1.0, 1.0, 30.0, 30.0])


def work() -> onnx.ModelProto:
    nodes = [node("Resize", ["radiograph", "", "scales"], ["wide"]), node("Conv", ["wide", "first"], ["c0"])]
    nodes += [node("Conv", [f"c{n}", "more"], [f"c{n + 1}"], pads=[15, 15, 15, 15]) for n in range(2)]
    return graph(*nodes, scales=[1.0, 1.0, 4.0, 4.0], first=np.zeros((64, 3, 1, 1)), more=np.zeros((64, 64, 31, 31)))


def sorting() -> onnx.ModelProto:
    nodes = [node("Resize", ["radiograph", "", "scales"], ["wide"]), node("Flatten", ["wide"], ["t0"])]
    nodes += [node("TopK", [f"t{number}", "count"], [f"t{number + 1}", f"i{number}"]) for number in range(12)]
    return graph(*nodes, scales=[1.0, 1.0, 30.0, 30.0], count=[3 * 1920 * 1920])


def many() -> onnx.ModelProto:
    return graph(*(node("GlobalMaxPool", ["cells"], [f"m{number}"]) for number in range(MOST_STEPS)))


def in_a_run() -> onnx.ModelProto:
    names = ["map", *(f"r{number}" for number in range(200))]
    return graph(*(node("Add", [a, a], [b]) for a, b in pairwise(names)))


def shared() -> onnx.ModelProto:
    return graph(node("Concat", ["map"] * 1000, ["joined"], axis=1))


def window() -> onnx.ModelProto:
    return graph(node("MaxPool", ["radiograph"], ["m"], kernel_shape=[64, 64]))


def grouped() -> onnx.ModelProto:
    return graph(node("Conv", ["radiograph", "w"], ["c"], group=3), w=np.zeros((3, 1, 31, 31)))


def computed() -> onnx.ModelProto:
    """A size that the picture's own brightness gives."""
    nodes = [node("Cast", ["logit"], ["size"], to=TensorProto.INT64), node("Expand", ["map", "size"], ["large"])]
    return graph(*nodes)


def by_batch() -> onnx.ModelProto:
    """For one picture as many as one, for 64 of them 64^4."""
    nodes = [
        node("Shape", ["radiograph"], ["n"], start=0, end=1),
        node("Concat", ["n", "n", "n", "n", "n"], ["sizes"], axis=0),
        node("Expand", ["gain", "sizes"], ["large"]),
    ]
    return graph(*nodes)


def wide_numbers() -> onnx.ModelProto:
    return graph(node("Cast", ["radiograph"], ["d"], to=TensorProto.DOUBLE))


def large_input() -> onnx.ModelProto:
    model = graph()
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = 2**15
    return model


def lying_weights() -> onnx.ModelProto:
    model = graph()
    model.graph.initializer[0].dims[0] = 2**33
    return model


def sparse() -> onnx.ModelProto:
    model = graph()
    entry = model.graph.sparse_initializer.add()
    entry.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "few"))
    entry.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), ""))
    entry.dims.append(2**40)
    return model


def function() -> onnx.ModelProto:
    """A function may have the name of an operator, and then is what runs."""
    model = graph()
    model.functions.append(helper.make_function("", "Conv", ["x"], ["y"], [node("Neg", ["x"], ["y"])], []))
    return model


def older() -> onnx.ModelProto:
    model = graph()
    model.opset_import[0].version = 9
    return model


def twice() -> onnx.ModelProto:
    model = graph()
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [1, 1]))
    return model


HOSTILE: dict[Callable[[], onnx.ModelProto], str] = {
    expand: "takes about",
    fill: "'ConstantOfShape', an operator that callus does not run",
    tile: "'Tile', an operator that callus does not run",
    resize: r"node 8 \(Resize\) has scales",
    resize_to: r"a picture takes about 98,\d+ MiB, at most 1,792",
    pad: r"a picture takes about [\d,]{9,} MiB",
    channels: r"a picture takes about 3,\d+ MiB",
    outer: r"a picture takes 1,\d+ thousand million multiplications",
    doubling: r"a picture takes about [\d,]{13,} MiB",
    constants: r"a picture takes about 2,5\d\d MiB",
    copies: r"a picture takes about 2,\d+ MiB",
    kept: r"a picture takes about \d,\d+ MiB",
    work: r"a picture takes [\d,]+ thousand million multiplications, at most 400",
    sorting: r"thousand million multiplications",
    many: r"it has 1,0\d\d steps and 0 constant ones",
    in_a_run: "more than 128 steps one after another",
    shared: "a step takes 1,000 others",
    window: r"has a window of \[64, 64\]",
    grouped: r"has a window of \[31, 31\] for each group",
    computed: r"node 9 \(Expand\) takes a size that is computed",
    by_batch: r"a picture takes about 4,\d+ MiB",
    wide_numbers: "numbers of a type that callus does not take",
    large_input: r"a picture takes about \d+,\d+ MiB",
    lying_weights: r"weights of shape \(8589934592, 3, 8, 8\) in \d+ bytes",
    sparse: "it holds sparse weights",
    function: "it holds functions",
    older: "names version 9 of its operators, 13 to 26 are read",
    twice: "a node has two attributes 'strides'",
}


@pytest.mark.parametrize(("build", "message"), HOSTILE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_hostile_graph_is_refused(build: Callable[[], onnx.ModelProto], message: str) -> None:
    check_onnx(graph().SerializeToString(), SPEC, "x")
    with pytest.raises(BundleError, match=f"callus cannot load the graph: .*({message})"):
        check_onnx(build().SerializeToString(), SPEC, "x")


def test_the_work_of_all_passes_counts(tmp_path: Path) -> None:
    nodes = [node("Resize", ["radiograph", "", "scales"], ["wide"]), node("Conv", ["wide", "first"], ["c0"])]
    nodes += [node("Conv", ["c0", "more"], ["c1"], pads=[15, 15, 15, 15])]
    more = {"scales": [1.0, 1.0, 4.0, 4.0], "first": np.zeros((64, 3, 1, 1)), "more": np.zeros((64, 64, 31, 31))}
    files = {GRAPH: graph(*nodes, **more).SerializeToString(), "MODEL_CARD.md": b"# x"}  # 258 thousand million
    folder = write_bundle(tmp_path / "b", tiny_bundle.tiny_info(), files)
    told = "a picture takes {} thousand million multiplications in {} passes, for its views, at most 400"
    for views, work, passes in (
        (["mirror"], "51\\d", 2),
        (["rotate"], "77\\d", 3),
        (["rotate", "mirror"], "1,03\\d", 4),
    ):
        with pytest.raises(BundleError, match=told.format(work, passes)):
            write_bundle(tmp_path / "b", tiny_bundle.tiny_info(views=views), files)
        info = json.loads((folder / "bundle.json").read_text())
        (folder / "bundle.json").write_text(json.dumps(info | {"views": views}))
        with pytest.raises(BundleError, match=told.format(work, passes)):
            Bundle.load(folder)


def test_folders_that_nest_deeply_or_are_many_end_in_a_named_error(tmp_path: Path) -> None:
    deep = tiny_bundle.write_tiny_bundle(tmp_path / "deep")
    many = tiny_bundle.write_tiny_bundle(tmp_path / "many")
    for number in range(600):
        (many / f"{number}").mkdir()
    (deep / "/".join("d" * 600)).mkdir(parents=True)
    for folder in (deep, many):
        with pytest.raises(BundleError, match="holds more than 512 files and folders"):
            Bundle.load(folder)


def sealed(folder: Path, name: str, data: bytes) -> Path:
    """Put other bytes into a bundle, with their hash, as one does who means harm."""
    (folder / name).write_bytes(data)
    info = json.loads((folder / "bundle.json").read_text())
    info["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(info))
    return folder


def test_a_bundle_with_it_is_neither_loaded_nor_written(tmp_path: Path) -> None:
    hostile = resize_to().SerializeToString()
    folder = tiny_bundle.write_tiny_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match=r"model\.onnx: callus cannot load the graph: a picture takes about"):
        write_bundle(tmp_path / "b", tiny_bundle.tiny_info(), {GRAPH: hostile, "MODEL_CARD.md": b"# x"})
    Bundle.load(folder)
    with pytest.raises(BundleError, match=r"model\.onnx: callus cannot load the graph: a picture takes about"):
        Bundle.load(sealed(folder, GRAPH, hostile))


def test_files_longer_than_any_of_their_kind_are_refused(tmp_path: Path) -> None:
    folder = sealed(tiny_bundle.write_tiny_bundle(tmp_path / "b"), "MODEL_CARD.md", bytes((8 << 20) + 1))
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md is longer than 8,388,608 bytes"):
        Bundle.load(folder)


# --- what is told of sizes is what ONNX Runtime gives ---

X = np.random.default_rng(0).normal(size=(2, 4, 9, 12)).astype(np.float32)
SAME: list[tuple[onnx.NodeProto, dict[str, Any]]] = [
    (
        node("Conv", ["x", "w"], ["y"], pads=[1, 0, 2, 1], strides=[2, 3], dilations=[2, 1]),
        {"w": np.ones((6, 4, 3, 2))},
    ),
    (node("Conv", ["x", "w"], ["y"], group=2, kernel_shape=[3, 3]), {"w": np.ones((6, 2, 3, 3))}),
    (node("MaxPool", ["x"], ["y"], kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1), {}),
    (node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
    (node("GlobalMaxPool", ["x"], ["y"]), {}),
    (node("Pad", ["x", "p"], ["y"], mode="reflect"), {"p": [0, 0, 1, 2, 0, 0, 3, 0]}),
    (node("Resize", ["x", "", "s"], ["y"], mode="linear"), {"s": [1.0, 1.0, 2.5, 0.7]}),
    (node("Resize", ["x", "", "", "n"], ["y"]), {"n": [2, 4, 5, 30]}),
    (node("ReduceMean", ["x", "a"], ["y"], keepdims=0), {"a": [2, -1]}),
    (node("ReduceSum", ["x", "a"], ["y"]), {"a": [1]}),
    (node("ReduceMax", ["x"], ["y"]), {}),
    (node("MatMul", ["x", "w"], ["y"]), {"w": np.ones((12, 5))}),
    (node("Squeeze", ["w", "a"], ["y"]), {"w": np.ones((3, 1, 2, 1)), "a": [-1]}),
    (node("Unsqueeze", ["x", "a"], ["y"]), {"a": [0, -1]}),
    (node("Reshape", ["x", "n"], ["y"]), {"n": [0, -1, 6]}),
    (node("Flatten", ["x"], ["y"], axis=2), {}),
    (node("Flatten", ["x"], ["y"], axis=4), {}),
    (node("Transpose", ["x"], ["y"], perm=[3, 0, 1, 2]), {}),
    (node("Transpose", ["x"], ["y"]), {}),
    (node("Concat", ["x", "x", "x"], ["y"], axis=-2), {}),
    (node("Gather", ["x", "i"], ["y"], axis=1), {"i": np.array([[0, 1, 3]])}),
    (node("Gather", ["x", "i"], ["y"], axis=2), {"i": np.array(4)}),
    (node("TopK", ["x", "k"], ["y", "z"], axis=2), {"k": [4]}),
    (node("Shape", ["x"], ["y"], start=1), {}),
    (node("Shape", ["x"], ["y"], start=-3, end=-1), {}),
    (node("Expand", ["x", "n"], ["y"]), {"n": [3, 1, 1, 1, 12]}),
    (node("Mul", ["x", "w"], ["y"]), {"w": np.ones((3, 1, 1, 9, 1))}),
    (node("Where", ["c", "x", "w"], ["y"]), {"c": np.ones((4, 1, 1), bool), "w": np.float32(2)}),
    (node("Max", ["x", "w", "x"], ["y"]), {"w": np.ones((5, 1, 1, 1, 1))}),
    (node("BatchNormalization", ["x", *"bbbb"], ["y"]), {"b": np.ones(4)}),
    (node("Gemm", ["w", "v"], ["y"], transA=1, transB=1), {"w": np.ones((3, 2)), "v": np.ones((5, 3))}),
    (node("Constant", [], ["y"], value=numpy_helper.from_array(np.ones((2, 3), np.float32))), {}),
    (node("Constant", [], ["y"], value_ints=[1, 2, 3]), {}),
    (node("Constant", [], ["y"], value_float=1.0), {}),
    (node("Cast", ["x"], ["y"], to=TensorProto.BOOL), {}),
    (node("QuantizeLinear", ["x", "s", "z"], ["y"]), {"s": np.float32(0.1), "z": np.uint8(3)}),
    (node("Softmax", ["x"], ["y"], axis=1), {}),
]


def network(step: onnx.NodeProto, weights: dict[str, Any]) -> bytes:
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    held = [
        numpy_helper.from_array(value.astype(np.float32) if value.dtype == np.float64 else value, name)
        for name, value in arrays.items()
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)
    outputs = [onnx.ValueInfoProto(name=name) for name in step.output]
    made = helper.make_graph([step], "one", [x], outputs, held)
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString())


def told(step: Step, known: dict[str, Tensor]) -> list[Tensor]:
    return OPERATORS[step.operator].gives(
        Given([known[name] if name else None for name in step.takes], step.attributes)
    )


def runs(data: bytes) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": X}))


@pytest.mark.parametrize(("step", "weights"), SAME, ids=lambda value: getattr(value, "op_type", ""))
def test_sizes_are_those_that_the_runtime_gives(step: onnx.NodeProto, weights: dict[str, Any]) -> None:
    data = network(step, weights)
    found = read_network(data, "x")
    known = {"x": Tensor(X.shape)} | {name: weight(held) for name, held in found.weights.items()}
    gives = told(found.steps[0], known)
    for expected, actual in zip(runs(data), gives, strict=True):
        assert actual.shape == expected.shape
        if actual.values is not None:
            assert list(actual.values) == pytest.approx(expected.ravel().tolist())


@pytest.mark.parametrize(
    ("step", "weights", "message"),
    [
        (node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER"), {"w": np.ones((1, 4, 3, 3))}, "auto_pad 'SAME_UPPER'"),
        (node("Conv", ["x", "w"], ["y"], pads=[9] * 4), {"w": np.ones((1, 4, 3, 3))}, "pads that no window has"),
        (node("Conv", ["x", "w"], ["y"], strides=[0, 1]), {"w": np.ones((1, 4, 3, 3))}, "strides, dilations or pads"),
        (node("Conv", ["x", "w"], ["y"]), {"w": np.ones((1, 3, 3, 3))}, "do not fit 4 channels"),
        (node("Conv", ["x", "w"], ["y"], strides=2), {"w": np.ones((1, 4, 3, 3))}, "no list of whole numbers"),
        (node("MaxPool", ["x"], ["y"]), {}, "has a window of"),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[10, 1]), {}, "window of 10 on a side of 9"),
        (node("Pad", ["x", "p"], ["y"]), {"p": [0] * 7 + [-1]}, "pads that callus does not know"),
        (node("Resize", ["x", "", "s"], ["y"], antialias=1), {"s": [1.0] * 4}, "kind of resizing"),
        (node("Resize", ["x", "", "s"], ["y"], mode="cubic"), {"s": [1.0] * 4}, "mode 'cubic'"),
        (node("Resize", ["x", "", "s"], ["y"]), {"s": [1.0, 1.0, 0.01, 1.0]}, r"gives \(2, 4, 0, 12\)"),
        (node("Reshape", ["x", "n"], ["y"]), {"n": [5, -1]}, "makes .* into"),
        (node("Reshape", ["x", "x"], ["y"]), {}, "takes a size that is computed"),
        (node("TopK", ["x", "k"], ["y", "z"]), {"k": [13]}, "takes 13 of 12"),
        (node("Concat", ["x", "w"], ["y"], axis=0), {"w": np.ones((1, 4, 9, 11))}, "other sides differ"),
        (node("Mul", ["x", "w"], ["y"]), {"w": np.ones(5)}, "joins tensors of shapes"),
        (node("Relu", ["x"], ["y"], unheard=1), {}, "'unheard', which callus does not know"),
        (node("Unsqueeze", ["x", "a"], ["y"]), {"a": list(range(5))}, "gives .*"),
        (node("Expand", ["x", "n"], ["y"]), {"n": [0, 1]}, "has sizes of"),
        (node("Transpose", ["x"], ["y"], perm=[0, 0, 1, 2]), {}, "orders 4 sides by"),
        (node("Squeeze", ["x", "a"], ["y"]), {"a": [7]}, "names axis 7 of 4"),
    ],
)
def test_sizes_that_cannot_be_told_are_refused(step: onnx.NodeProto, weights: dict[str, Any], message: str) -> None:
    found = read_network(network(step, weights), "x")
    known = {"x": Tensor(X.shape)} | {name: weight(held) for name, held in found.weights.items()}
    with pytest.raises(ValueError, match=message):
        told(found.steps[0], known)


# --- OpenVINO's own format ---


COUNT, MANY = 3 * 64 * 64, 10**10
"""A number to build networks with, and what takes its place in the file: OpenVINO cannot build them with the second."""


def layered(folder: Path, build: Callable[[Any, Any], Any]) -> tuple[bytes, bytes]:
    """The tiny network in OpenVINO's format, with what ``build`` makes of the picture added to its logit."""
    openvino = openvino_engine.import_openvino()
    op = __import__("openvino.opset13", fromlist=["*"])
    model = openvino.Core().read_model(model=tiny_bundle.tiny_graph().SerializeToString())
    end = build(op, model.inputs[0])
    if end is not None:
        mean = op.reduce_mean(end, np.arange(len(end.output(0).get_partial_shape())), keep_dims=False)
        result = model.get_results()[0]
        result.input(0).replace_source_output(op.add(result.input_value(0), mean).output(0))
        model.validate_nodes_and_infer_types()
    openvino.serialize(model, folder / "m.xml", folder / "m.bin")
    weights = (folder / "m.bin").read_bytes()
    return (folder / "m.xml").read_bytes(), weights.replace(struct.pack("<q", COUNT), struct.pack("<q", MANY))


def enlarged(op: Any, picture: Any) -> Any:
    sizes = op.constant(np.array([2**16, 2**16]))
    return op.interpolate(picture, sizes, "nearest", "sizes", axes=op.constant(np.array([2, 3])))


def spread(op: Any, picture: Any) -> Any:
    return op.broadcast(
        op.reduce_mean(picture, np.array([1]), keep_dims=True), op.constant(np.array([1, 2**30, 64, 64]))
    )


def joined(op: Any, picture: Any) -> Any:
    for _ in range(30):
        picture = op.concat([picture, picture], 1)
    return picture


def endless_size(op: Any, picture: Any) -> Any:
    """A size that is the sum of so many ones, which OpenVINO makes when it reads the network."""
    ones = op.broadcast(op.constant(np.array(1)), op.constant(np.array([COUNT])))
    return op.reshape(picture, op.unsqueeze(op.reduce_sum(ones, np.array([0])), np.array(0)), False)


def long_size(op: Any, picture: Any) -> Any:
    sizes = op.constant(np.array([1]))
    for _ in range(10):
        sizes = op.concat([sizes, sizes], 0)
    return op.reshape(picture, op.concat([op.constant(np.array([COUNT])), sizes], 0), False)


def repeated_size(op: Any, picture: Any) -> Any:
    """As it is written for biases, but so often, of which one is picked."""
    count = op.add(op.shape_of(op.shape_of(picture)), op.constant(np.array([COUNT])))
    ones = op.broadcast(op.constant(np.array(-1)), count)
    return op.reshape(picture, op.gather(ones, op.constant(np.array([0])), op.constant(np.array(0))), False)


def wide_window(op: Any, picture: Any) -> Any:
    weights = op.constant(np.ones((3, 1, 1, 31, 31), np.float32))
    return op.group_convolution(picture, weights, [1, 1], [0, 0], [0, 0], [1, 1])


def random_numbers(op: Any, picture: Any) -> Any:
    return op.random_uniform(op.shape_of(picture), op.constant(np.float32(0)), op.constant(np.float32(1)), "f32")


def long_run(op: Any, picture: Any) -> Any:
    for _ in range(200):
        picture = op.add(picture, picture)
    return picture


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (enlarged, r"a picture takes about \d\d,\d+ MiB"),
        (spread, r"a picture takes about [\d,]{9,} MiB"),
        (joined, r"a picture takes about [\d,]{9,} MiB"),
        (endless_size, "Reshape takes a size that is computed or too long"),
        (long_size, "Reshape takes a size that is computed or too long"),
        (repeated_size, "Reshape takes a size that is computed or too long"),
        (wide_window, "a window for each group has more than 7 places on a side"),
        (random_numbers, "'RandomUniform' is a layer that callus does not run"),
        (long_run, "more than 128 steps one after another"),
    ],
)
def test_a_hostile_layered_network_is_refused(tmp_path: Path, build: Callable[[Any, Any], Any], message: str) -> None:
    graph, weights = layered(tmp_path, lambda _op, _picture: None)
    files = {GRAPH: tiny_bundle.tiny_graph().SerializeToString(), "MODEL_CARD.md": b"# x"}
    files |= {IR_FILES["file"]: graph, IR_FILES["weights"]: weights}
    info = tiny_bundle.tiny_info()
    info["engines"] |= {"openvino-int8": info["engines"]["onnx-float32"] | IR_FILES}
    folder = write_bundle(tmp_path / "b", info, files)
    Engine(Bundle.load(folder), 1, "openvino-int8").run(np.zeros((1, 3, 64, 64), np.float32))
    graph, weights = layered(tmp_path, build)
    sealed(sealed(folder, IR_FILES["weights"], weights), IR_FILES["file"], graph)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match=message):
        Engine(Bundle.load(folder), 1, "openvino-int8")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB


def costly(op: Any, picture: Any) -> Any:
    """A convolution of 258 thousand million multiplications."""
    wide = op.interpolate(picture, op.constant([256, 256]), "nearest", "sizes", axes=op.constant([2, 3]))
    weights = [op.constant(np.zeros((64, *shape), np.float32)) for shape in ((3, 1, 1), (64, 31, 31))]
    first = op.convolution(wide, weights[0], [1, 1], [0, 0], [0, 0], [1, 1])
    return op.convolution(first, weights[1], [1, 1], [15, 15], [15, 15], [1, 1])


def test_the_work_of_all_passes_counts_in_layers_too(tmp_path: Path) -> None:
    graph, weights = layered(tmp_path, costly)
    model = openvino_engine.import_openvino().Core().read_model(model=graph, weights=weights)
    model.reshape([1, 3, 64, 64])
    assert too_large(model) == ""
    assert re.match(r"a picture takes 5\d\d thousand million multiplications in 2 passes", too_large(model, 2))
    files = {GRAPH: tiny_bundle.tiny_graph().SerializeToString(), "MODEL_CARD.md": b"# x"}
    files |= {IR_FILES["file"]: graph, IR_FILES["weights"]: weights}
    info = tiny_bundle.tiny_info(views=["rotate"])
    info["engines"] |= {"openvino-int8": info["engines"]["onnx-float32"] | IR_FILES}
    bundle = Bundle.load(write_bundle(tmp_path / "b", info, files))
    with pytest.raises(BundleError, match="multiplications in 3 passes, for its views"):
        Engine(bundle, 1, "openvino-int8")


NET = '<?xml version="1.0"?><net><layers>{}</layers><edges>{}</edges></net>'
FIRST = '<layer id="0" type="Parameter"><data shape="1,3"/><output/></layer>'
RELU = '<layer id="{}" type="ReLU"><input><port id="0"/></input></layer>'
EDGE = '<edge from-layer="{}" from-port="0" to-layer="{}" to-port="{}"/>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NET.format(FIRST + RELU.format(1), ""), "ReLU lacks inputs"),
        (NET.format(FIRST + RELU.format(0), EDGE.format(0, 0, 0)), "layer '0' is there twice"),
        (NET.format(FIRST + RELU.format(1), EDGE.format(9, 1, 0)), "takes what no layer gives"),
        (NET.format(FIRST + RELU.format(1), EDGE.format(0, 1, 0) * 2), "takes two things in one place"),
        (NET.format(FIRST + RELU.format(1), EDGE.format(1, 1, 0)), "takes what a later one gives"),
        (NET.format((FIRST + RELU.format(1)).replace("<input>", '<data kernel="1,999"/><input>'), EDGE.format(0, 1, 0)),
         "ReLU has kernel '1,999'"),
        (NET.format((FIRST + RELU.format(1)).replace("<input>", '<data antialias="true"/><input>'),
                    EDGE.format(0, 1, 0)), "kind of resizing"),
    ],
)  # fmt: skip
def test_layers_that_do_not_hold_together_are_refused(text: str, message: str) -> None:
    check_layers(NET.format(FIRST + RELU.format(1), EDGE.format(0, 1, 0)).encode(), b"", "x")
    with pytest.raises(BundleError, match=message):
        check_layers(text.encode(), b"", "x")


# --- the sum ---


def test_what_is_needed_at_once_is_counted_once() -> None:
    mebi = 1 << 20
    chain = [Cost(gives={0: 100 * mebi})]
    chain += [Cost([number], {number + 1: 100 * mebi}) for number in range(50)]
    assert too_much(chain) == ""  # two at a time
    assert too_much([Cost(gives={0: 897 * mebi})]) == "a picture takes about 1,794 MiB, at most 1,792 are taken"
    assert too_much([Cost(gives={0: 897 * mebi})], pictures=2) == ""
    assert "1,795 MiB" in too_much([Cost(weights=359 * mebi)])
    once = [Cost(gives={number: 200 * mebi}, constant=True) for number in range(9)]
    assert "1,800 MiB" in too_much(once)
    assert too_much(once, keeps=False) == ""
