from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from compared import PICTURES, write_model
from spots import spotted

from callus.report import evaluate


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations a and b: b is less steep, of other thresholds; c ranks the other way round."""
    folder = tmp_path_factory.mktemp("evaluations")
    frame = spotted(
        folder,
        [
            (
                name,
                peak,
                {"sha256": f"sha-{name}", "label": label, "radiograph": shown, "group": group, "split": "test"},
            )
            for name, label, peak, shown, group in PICTURES
        ],
    ).assign(split="test")
    for name, *how in (("a", 20.0, 0.3, 0.7), ("b", 4.0, 0.45, 0.6), ("c", -20.0, 0.3, 0.7)):
        evaluate(write_model(folder / "models" / f"tiny-{name}", *how), frame, "test", folder / name, pictures=0)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """Copies of the evaluations, to be changed."""
    for name in "abc":
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path
