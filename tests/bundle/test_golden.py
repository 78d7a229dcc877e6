"""A bundle of version 1 with all that one may hold, as it was written once: int8, views, a likeness, the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from callus.bundle import Bundle
from callus.identify import Identifier
from callus.radiograph import Radiograph

INT8 = Path(__file__).parent / "golden" / "version-1-int8.callus"
"""The tiny network, and the same by nncf in int8. Never write it anew: it is what others have."""


def test_it_holds_what_it_held() -> None:
    bundle = Bundle.load(INT8)
    assert bundle.engines == ("onnx-float32", "openvino-int8", "openvino-float32")
    assert (bundle.name, bundle.views, bundle.map_kind, bundle.map_stride) == ("golden", ("mirror",), "location", 8)
    assert bundle.pictures == {"0123456789abcdef": "train", "fedcba9876543210": "test"}
    assert bundle.engine_info("openvino-int8").calibration.method == "isotonic"
    assert b'element_type="i8"' in bundle.read("model-int8/model.xml")
    assert bundle.card == "# golden\n\nFor tests.\n"


@pytest.mark.parametrize(
    ("engine", "ran", "probability", "level"),
    [
        ("auto", "openvino-int8", 0.429, "doubt"),
        ("openvino-float32", "openvino-float32", 0.9966, "fracture"),
        ("onnx-float32", "onnx-float32", 0.9966, "fracture"),
    ],
)
def test_it_answers_as_it_did(engine: str, ran: str, probability: float, level: str) -> None:
    pixels = np.full((128, 128), 60, np.uint8)
    pixels[32:48, 16:32] = 200
    finding = Identifier(INT8, engine=engine, threads=1).identify(Radiograph(pixels, None, "PNG", ""))
    assert (finding.engine, finding.views, finding.level, finding.cautions) == (ran, ("mirror",), level, ())
    assert finding.probability == pytest.approx(probability, abs=0.01 if ran == "openvino-int8" else 1e-4)
    (box,) = finding.boxes
    assert (box.x, box.y, box.width, box.height) == (16, 32, 16, 16)
    assert box.score == pytest.approx(0.784, abs=0.02)
    assert finding.distance == pytest.approx(0.939, abs=0.01)
