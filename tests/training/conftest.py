from __future__ import annotations

from pathlib import Path

import pytest

from callus.dataset.simulated import simulate
from callus.training import recipe as recipes
from callus.training.recipe import Recipe

SMALL = {
    "input.height": 64,
    "input.width": 64,
    "head.width": 8,
    "head.dense": [8],
    "optimisation.batch": 8,
    "splitting.test": 0.2,
    "splitting.validation": 0.3,
}


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 40 small simulated radiographs."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, 40, seed=5)
    return folder / "manifest.parquet"


@pytest.fixture(scope="session")
def small() -> Recipe:
    """Two epochs on a frozen trunk from the cache, then one with its last stage, on pictures of 64 x 64."""
    changes = {
        "trunk.name": "mobilenet_v2",
        "trunk.weights": "none",
        "frozen.epochs": 2,
        "frozen.cache_views": 2,
        "tuning.epochs": 1,
        "tuning.stages": 1,
        "tuning.crop": 0,
    }
    return recipes.override(recipes.load("callus"), {**SMALL, **changes})
