"""Bundles that load, to be damaged: a tiny one in both formats, the golden one with int8, and the model that ships.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml), and ``bench/fuzz.py`` puts it on its own.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tiny_bundle import IR_FILES, likeness_entry, tiny_graph, tiny_info, tiny_likeness

from callus.bundle import DEFAULT_MODEL, PICTURES, write_bundle
from callus.bundle.openvino_engine import import_openvino
from callus.bundle.shipped import shipped_models

if TYPE_CHECKING:
    from collections.abc import Mapping

GOLDEN: Final = Path(__file__).resolve().parents[1] / "bundle" / "golden" / "version-1-int8.callus"
IR, IR_WEIGHTS, LIKENESS = IR_FILES["file"], IR_FILES["weights"], "likeness.bin"


def sound() -> dict[str, Mapping[str, bytes]]:
    """Each bundle's files by name, by what it is; all hold two networks, views, a likeness and ``pictures.csv``.

    "tiny" has its network in OpenVINO's format in float32, and the rotated views; "golden" has nncf's int8 of the tiny
    network, and the mirrored view; "shipped" is the model that comes with callus.
    """
    return {"tiny": _tiny(), "golden": _unpacked(GOLDEN), "shipped": _unpacked(shipped_models()[DEFAULT_MODEL])}


def _tiny() -> dict[str, bytes]:
    graph = tiny_graph().SerializeToString()
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "model.xml"
        openvino.save_model(openvino.Core().read_model(model=graph), xml, compress_to_fp16=False)
        files = {
            "model.onnx": graph,
            IR: xml.read_bytes(),
            IR_WEIGHTS: xml.with_suffix(".bin").read_bytes(),
            "MODEL_CARD.md": b"# tiny\n\nFor tests.\n",
            LIKENESS: tiny_likeness(components=2).to_bytes(),
            PICTURES: b"sha256,split\n0123456789abcdef,train\nfedcba9876543210,test\n",
        }
        info = tiny_info(likeness=likeness_entry(2, "onnx-float32", "openvino-int8"), views=["rotate"])
        info["engines"]["openvino-int8"] = info["engines"]["onnx-float32"] | IR_FILES
        bundle = write_bundle(Path(folder) / "bundle", info, dict(files))
        return {"bundle.json": (bundle / "bundle.json").read_bytes(), **files}


def _unpacked(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
