"""The models that come with callus: ``.callus`` files in ``callus/models``, called by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEFAULT_MODEL: Final = "radiograph"
"""What answers where no model is named."""
FOLDER: Final = Path(__file__).parents[1] / "models"


def shipped_models() -> dict[str, Path]:
    """Give the models that come with callus, by name, each with its file; the default first."""
    names = {file.stem: file for file in sorted(FOLDER.glob("*.callus"))}
    return dict(sorted(names.items(), key=lambda item: item[0] != DEFAULT_MODEL))
