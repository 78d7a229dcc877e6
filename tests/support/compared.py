"""What comparisons are tested on. Not a test: ``tests/support`` is on the tests' path (pyproject.toml)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tiny_bundle

from callus.bundle import write_bundle
from callus.report.pairing import pair, read_evaluation

if TYPE_CHECKING:
    from callus.report.pairing import Pairs

# Name, label, brightness of the spot, radiograph, group.
PICTURES = [
    ("a.png", 1, 0.95, "r1", "g1"),
    ("b.png", 1, 0.62, "r1", "g1"),
    ("c.png", 1, 0.56, "r2", "g2"),
    ("d.png", 1, 0.30, "r3", "g3"),
    ("e.png", 1, 0.80, "r4", "g4"),
    ("f.png", 1, 0.58, "r5", "g5"),
    ("g.png", 0, 0.55, "r6", "g6"),
    ("h.png", 0, 0.10, "r7", "g7"),
    ("i.png", 0, 0.20, "r7", "g7"),
    ("j.png", 0, 0.40, "r8", "g8"),
    ("k.png", 0, 0.90, "r9", "g9"),
    ("l.png", 0, 0.15, "r10", "g9"),
]
LABEL = np.array([one[1] for one in PICTURES])


def write_model(folder: Path, gain: float, low: float, high: float) -> Path:
    engine = {
        "file": "model.onnx",
        "calibration": {"method": "platt", "slope": 1.0, "intercept": 0.0},
        "operating_points": {"high_sensitivity": low, "high_specificity": high},
        "map_threshold": 0.5,
        "parity": {},
    }
    info = tiny_bundle.tiny_info(name=folder.name, engines={"onnx-float32": engine})
    graph = tiny_bundle.tiny_graph(gain=gain).SerializeToString()
    return Path(write_bundle(folder, info, {"model.onnx": graph, "MODEL_CARD.md": b"# tiny\n"}))


def answers(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "predictions.parquet")


def change(folder: Path, **columns: Any) -> None:
    """Replace columns of an evaluation's predictions."""
    answers(folder).assign(**columns).to_parquet(folder / "predictions.parquet", index=False)


def paired(place: Path, other: str = "b") -> Pairs:
    return pair(read_evaluation(place / "a"), read_evaluation(place / other))


def probability(folder: Path) -> np.ndarray:
    return answers(folder)["probability"].to_numpy(dtype=float)
