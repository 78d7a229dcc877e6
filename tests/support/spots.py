"""Manifests of pictures with one bright spot, which ``tiny_bundle``'s network takes for a fracture.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from callus.dataset.manifest import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SPOT = [40.0, 40.0, 40.0, 40.0]
"""Where the spot is, [x, y, width, height]; the network's map is highest there."""


def spotted(folder: Path, rows: Iterable[tuple[str, float, dict[str, Any]]]) -> pd.DataFrame:
    """Draw pictures, 140 x 160 pixels, and give their manifest.

    Args:
        folder: to draw to; may exist.
        rows: name, brightness of the spot in [0, 1], and the columns that are not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, peak, columns in rows:
        pixels = np.full((160, 140), 20, np.uint8)
        pixels[40:80, 40:80] = round(255 * peak)
        Image.fromarray(pixels).save(folder / name)
        empty = dict.fromkeys(COLUMNS, "") | {"hardware": None, "boxes": [], "polygons": []}
        made.append(empty | {"path": str(folder / name), "width": 140, "height": 160} | columns)
    types = {"width": "Int32", "height": "Int32", "label": "Int8", "hardware": "boolean"}
    return pd.DataFrame(made).astype(types)
