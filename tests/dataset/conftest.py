"""Small trees of real picture files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Write a picture of noise: ``draw("train/fractured/a.png", size=(width, height))``; each name another noise."""

    def make(name: str, *, size: tuple[int, int] = (32, 24), seed: int | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(sum(name.encode()) * 1000 + len(name) if seed is None else seed)
        Image.fromarray(noise.integers(0, 256, (size[1], size[0]), np.uint8)).save(path)
        return path

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text file of the tree."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make
