"""Damaged and hostile bundles, a hundred of those that ``bench/fuzz.py`` makes by the thousand."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import mutate_bundle
import pytest
import sound_bundles
import tiny_bundle
from onnx import TensorProto, helper

from callus.bundle import Bundle, write_bundle
from callus.bundle.container import unsafe
from callus.bundle.onnx_check import check_onnx
from callus.bundle.openvino_check import check_layers
from callus.errors import BundleError
from callus.preprocess import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

SPEC = InputSpec(64, 64)
FUZZ = Path(__file__).resolve().parents[2] / "bench" / "fuzz.py"


def test_damaged_bundles() -> None:
    done = subprocess.run(
        [sys.executable, FUZZ, "bundles", "--count", "100", "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    *findings, last = done.stdout.splitlines()
    found = json.loads(last)
    assert found["findings"] == [], "\n".join(findings)
    assert found["files"] == 100
    assert found["outcomes"]["BundleError"] > 50
    assert found["outcomes"]["answer"] > 5


def test_what_is_damaged_holds_all_that_a_bundle_may(tmp_path: Path) -> None:
    for name, files in sound_bundles.sound().items():
        mutate_bundle.BundleMutant(name, (), files).write(tmp_path / name)
        bundle = Bundle.load(tmp_path / name)
        assert bundle.views
        assert bundle.pictures
        assert bundle.likeness() is not None
        assert {"onnx-float32", "openvino-int8"} <= set(bundle.engines)
        assert (b'element_type="i8"' in files[sound_bundles.IR]) == (name != "tiny")


def body() -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Loop", ["rounds", "", "logit"], ["z"], body=body()),
        helper.make_node("If", ["z"], ["y"], then_branch=body(), else_branch=body()),
        helper.make_node("Scan", ["map"], ["z"], body=body(), num_scan_inputs=1),
    ],
    ids=lambda node: str(node.op_type),
)
def test_a_graph_that_need_not_end_is_refused(node: onnx.NodeProto) -> None:
    model = tiny_bundle.tiny_graph()
    model.graph.node.append(node)
    with pytest.raises(BundleError, match="holds a loop or a branch"):
        check_onnx(model.SerializeToString(), SPEC, "x")


def circle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[1] = "largest"  # which the third node gives


def twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "cells"


def short(model: onnx.ModelProto) -> None:
    model.graph.node[2].op_type = "Pad"


def hollow(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[1] = ""


def unknown(model: onnx.ModelProto) -> None:
    model.graph.node[7].op_type = "RandomNormalLike"


def foreign(model: onnx.ModelProto) -> None:
    model.graph.node[7].domain = "com.microsoft"


def endless(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 2**62


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (circle, r"node 0 takes 'largest', which nothing before it gives"),
        (twice, r"node 1 gives 'cells', which is there already"),
        (short, r"node 2 lacks inputs: Pad takes at least 2"),
        (hollow, r"node 0 lacks inputs: Conv takes at least 2"),
        (unknown, r"node 7 is 'RandomNormalLike', an operator that callus does not run"),
        (foreign, r"node 7 is 'com.microsoft.Flatten', an operator that callus does not run"),
        (endless, r"names version 4611686018427387904 of its operators"),
    ],
)
def test_a_graph_that_a_runtime_does_not_survive_is_refused(
    change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = tiny_bundle.tiny_graph()
    check_onnx(model.SerializeToString(), SPEC, "x")
    change(model)
    with pytest.raises(BundleError, match=message):
        check_onnx(model.SerializeToString(), SPEC, "x")


def test_an_entry_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.callus"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("?", b"x")
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    nameless = data[: start + 28] + b"\0\0" + data[start + 30 : start + 46] + data[start + 47 :]
    path.write_bytes(nameless.replace(struct.pack("<I", 47), struct.pack("<I", 46)))
    with pytest.raises(BundleError, match="the file name '' is no plain file name"):
        Bundle.load(path)


def test_a_graph_is_looked_at_whatever_its_name_ends_in(tmp_path: Path) -> None:
    model = tiny_bundle.tiny_graph()
    circle(model)
    info = tiny_bundle.tiny_info()
    info["engines"]["onnx-float32"]["file"] = "weights.BIN"
    files = {"weights.BIN": model.SerializeToString(), "MODEL_CARD.md": b"# x"}
    with pytest.raises(BundleError, match="nothing before it gives"):
        write_bundle(tmp_path / "b", info, files)
    written = write_bundle(tmp_path / "b", info, files | {"weights.BIN": tiny_bundle.tiny_graph().SerializeToString()})
    (written / "weights.BIN").write_bytes(files["weights.BIN"])
    sealed = json.loads((written / "bundle.json").read_text())
    sealed["files"]["weights.BIN"] = hashlib.sha256(files["weights.BIN"]).hexdigest()
    (written / "bundle.json").write_text(json.dumps(sealed))
    with pytest.raises(BundleError, match=r"weights\.BIN: .*nothing before it gives"):
        Bundle.load(written)


LAYERS = """<?xml version="1.0"?><net><layers><layer id="0" type="Parameter"><output/></layer>
<layer id="1" type="{kind}"><input>{port}</input></layer></layers>
<edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>"""


def test_a_layered_network_that_is_not_safe_is_refused() -> None:
    sound = LAYERS.format(kind="ReLU", port='<port id="0"/>')
    check_layers(sound.encode(), b"", "x")
    for text, message in (
        (LAYERS.format(kind="ReLU", port=""), "'ReLU' has no input"),
        (LAYERS.format(kind="Loop", port='<port id="0"/>'), r"loop or a branch \(Loop\)"),
        (LAYERS.format(kind="TensorIterator", port='<port id="0"/>'), r"loop or a branch \(TensorIterator\)"),
        (sound.replace("<net>", '<!DOCTYPE net [<!ENTITY a "b">]><net>'), "no declarations"),
        (sound[:-3], "no OpenVINO network"),
        ("", "no OpenVINO network"),
    ):
        with pytest.raises(BundleError, match=message):
            check_layers(text.encode(), b"", "x")
    with pytest.raises(BundleError, match="no OpenVINO network"):
        check_layers(sound.encode("utf-16"), b"", "x")


@pytest.mark.parametrize("name", ["\u202emd.exe", "a\u2028b.md", "x\x7f.md", "x\x85.md"])
def test_names_that_do_not_show_what_they_are_are_refused(name: str) -> None:
    assert unsafe(name) == "is no plain file name"
    assert not unsafe("modèle (1).md")
