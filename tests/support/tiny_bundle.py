"""A tiny network that really runs: what is bright in the picture is its fracture.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from callus.bundle.likeness import Likeness

SIDE, STRIDE = 64, 8
IR_FILES = {"file": "model-int8/model.xml", "weights": "model-int8/model.bin"}
IR_POINTS = {"high_sensitivity": 0.1, "high_specificity": 0.2}


def tiny_graph(side: int = SIDE, stride: int = STRIDE, gain: float = 20.0) -> onnx.ModelProto:
    """map = each cell's mean brightness in [0, 1]; logit = gain * (the largest - 0.5); features = channel means."""
    cell = np.zeros((1, 3, stride, stride), dtype=np.float32)
    cell[:] = 1.0 / (3 * stride * stride) / 2  # inputs in [-1, 1] to [-0.5, 0.5]
    half = np.array([0.5], dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["radiograph", "cell", "half"], ["cells"], strides=[stride, stride]),
        helper.make_node("Squeeze", ["cells", "one"], ["map"]),
        helper.make_node("GlobalMaxPool", ["cells"], ["largest"]),
        helper.make_node("Reshape", ["largest", "flat"], ["peak"]),
        helper.make_node("Sub", ["peak", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "gain"], ["logit"]),
        helper.make_node("GlobalAveragePool", ["radiograph"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    weights = {
        "cell": cell,
        "half": half,
        "one": np.array([1], dtype=np.int64),
        "flat": np.array([-1], dtype=np.int64),
        "gain": np.array([gain], dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("radiograph", TensorProto.FLOAT, ["batch", 3, side, side])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", side // stride, side // stride]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def tiny_info(**changes: Any) -> dict[str, Any]:
    """``bundle.json`` for :func:`tiny_graph`, but for what ``write_bundle`` fills in."""
    engine = {
        "file": "model.onnx",
        "calibration": {"method": "platt", "slope": 1.0, "intercept": 0.0},
        "operating_points": {"high_sensitivity": 0.3, "high_specificity": 0.7},
        "map_threshold": 0.5,
        "parity": {},
    }
    training = dict.fromkeys(
        ("trunk", "weights", "recipe", "manifest_sha256", "files", "radiographs", "groups", "splits")
    )
    info = {
        "name": "tiny",
        "input": {"height": SIDE, "width": SIDE, "channels": 3, "fit": "letterbox", "low": -1.0, "high": 1.0},
        "outputs": {
            "logit": "of a fracture",
            "map": {"kind": "location", "stride": STRIDE},
            "features": {"channels": 3},
        },
        "engines": {"onnx-float32": engine},
        "training": training,
        "figures": [],
        "licence": "Apache-2.0",
    }
    return info | changes


def write_tiny_bundle(folder: Path, **changes: Any) -> Path:
    """Write a bundle that runs; ``changes`` replace entries of ``bundle.json``."""
    from callus.bundle import write_bundle

    files: dict[str, Path | bytes] = {
        "model.onnx": tiny_graph().SerializeToString(),
        "MODEL_CARD.md": b"# tiny\n\nFor tests.\n",
    }
    return write_bundle(folder, tiny_info(**changes), files)


def ir_bundle(folder: Path, *, spoil: bytes | None = None) -> Path:
    """The tiny network in ONNX, and once more in OpenVINO's format, where an int8 network stands."""
    from callus.bundle import openvino_engine, write_bundle

    openvino = openvino_engine.import_openvino()
    graph = tiny_graph().SerializeToString()
    path = folder / "made" / "model.xml"
    path.parent.mkdir(parents=True)
    openvino.save_model(openvino.Core().read_model(model=graph), path, compress_to_fp16=False)
    files = {
        "model.onnx": graph,
        "MODEL_CARD.md": b"# x\n",
        IR_FILES["file"]: path.read_bytes() if spoil is None else spoil,
        IR_FILES["weights"]: path.with_suffix(".bin").read_bytes(),
    }
    float32 = tiny_info()["engines"]["onnx-float32"]
    engines = {"onnx-float32": float32, "openvino-int8": {**float32, **IR_FILES, "operating_points": IR_POINTS}}
    return write_bundle(folder / "bundle", tiny_info(engines=engines), files)


def packed_blind_bundle(folder: Path) -> bytes:
    """A ``.callus`` file of a model "other", which sees a fracture in nothing."""
    engine = tiny_info()["engines"]["onnx-float32"] | {
        "operating_points": {"high_sensitivity": 1.0, "high_specificity": 1.0}
    }
    write_tiny_bundle(folder / "other", name="other", engines={"onnx-float32": engine})
    return Path(shutil.make_archive(str(folder / "other"), "zip", folder / "other")).read_bytes()


def tiny_likeness(channels: int = 3, components: int = 1, mean: float = -0.7, spread: float = 0.1) -> Likeness:
    """What knows pictures whose features are all about ``mean``; one deviation along the first axis is ``spread``."""
    from callus.bundle.likeness import Likeness

    axes = np.linalg.qr(np.eye(channels, dtype=np.float32)[:, :components] + channels**-0.5)[0].T
    if components == 1:
        axes = np.full((1, channels), channels**-0.5, dtype=np.float32)  # the tiny network's channels are equal
    one = np.ones(channels, dtype=np.float32)
    deviation = np.full(components, channels**0.5 * spread, dtype=np.float32)
    return Likeness(mean * one, one, axes, deviation, 1.0)


def likeness_entry(components: int, *engines: str) -> dict[str, Any]:
    """``likeness`` of ``bundle.json``, the file being ``likeness.bin``."""
    return {
        "file": "likeness.bin",
        "components": components,
        "pictures": 100,
        "split": "train",
        "held_out": 50,
        "within": 0.99,
        "thresholds": dict.fromkeys(engines, 2 * 3**-0.5),
    }


def write_knowing_bundle(folder: Path, mean: float = -0.7, spread: float = 0.1, **changes: Any) -> Path:
    """Write a bundle that runs and knows its training data: pictures whose mean, in [-1, 1], is about ``mean``.

    Their distance is 1 where the mean is two ``spread`` off.
    """
    from callus.bundle import write_bundle

    files: dict[str, Path | bytes] = {
        "model.onnx": tiny_graph().SerializeToString(),
        "MODEL_CARD.md": b"# tiny\n\nFor tests.\n",
        "likeness.bin": tiny_likeness(mean=mean, spread=spread).to_bytes(),
    }
    return write_bundle(folder, tiny_info(**{"likeness": likeness_entry(1, "onnx-float32"), **changes}), files)
