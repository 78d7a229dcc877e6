from __future__ import annotations

import numpy as np
import onnx
import pytest
import tiny_bundle
from onnx import TensorProto, helper, numpy_helper

from callus.bundle.contents import check_contents
from callus.bundle.onnx_check import check_onnx
from callus.errors import BundleError
from callus.preprocess import InputSpec

SPEC = InputSpec(64, 64)


def outside(tensor: TensorProto) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    return tensor


def tensor() -> TensorProto:
    return numpy_helper.from_array(np.ones(3, np.float32), "w")


def test_an_ordinary_graph_passes() -> None:
    check_onnx(tiny_bundle.tiny_graph().SerializeToString(), SPEC, "x")


def initializer(model: onnx.ModelProto) -> None:
    outside(model.graph.initializer[0])


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(outside(tensor()))


def attribute(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=outside(tensor())))


def subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [outside(tensor())])
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner))


def function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=outside(tensor()))
    model.functions.append(helper.make_function("custom", "f", [], ["c"], [node], []))


def training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.initializer.append(outside(tensor()))


@pytest.mark.parametrize("hide", [initializer, sparse, attribute, subgraph, function, training])
def test_external_data_is_found_wherever_it_hides(hide: object) -> None:
    model = tiny_bundle.tiny_graph()
    hide(model)  # type: ignore[operator]
    with pytest.raises(BundleError, match="weights outside of itself"):
        check_onnx(model.SerializeToString(), SPEC, "x")


@pytest.mark.parametrize("data", [b"\x3a", b"\x3a\xff\x01abc", b"\xff" * 20, b"\x0b", b"\x09abc"])
def test_what_is_no_protocol_buffer_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(BundleError, match="not a readable ONNX graph"):
        check_onnx(data, SPEC, "x")


def test_endless_nesting_is_refused() -> None:
    data = b""
    for _ in range(100):  # graph inside attribute inside node inside graph …
        for key in (b"\x32", b"\x2a", b"\x0a"):
            data = key + _length(len(data)) + data
    with pytest.raises(BundleError, match="nested more than"):
        check_onnx(b"\x3a" + _length(len(data)) + data, SPEC, "x")


def test_a_graph_of_endless_fields_is_refused() -> None:
    with pytest.raises(BundleError, match="more than 2,000,000 fields"):
        check_onnx(b"\x08\x01" * 2_000_001, SPEC, "x")


def test_contents_that_run_code_are_refused() -> None:
    check_contents("model.onnx", b"\x08\x09\x12\x00", b"\x11", "x")
    check_contents("weights.bin", b"\x80\x04\x95\x00", b"\x00", "x")  # floats may begin so, but do not end with STOP
    with pytest.raises(BundleError, match="is a pickle"):
        check_contents("weights.bin", b"\x80\x04\x95\x00", b".", "x")


def _length(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts) + bytes([value])
