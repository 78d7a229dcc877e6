"""The sources' tests draw the same small trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from callus.dataset.files import list_files
from callus.dataset.sources import Options, find_rows
from callus.dataset.sources.names import ClassNames

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from callus.dataset.sources import Found


@pytest.fixture
def find() -> Callable[..., tuple[str, Found]]:
    """Give what "auto" (or a named source) finds in a folder before decoding, and the source's name."""

    def look(
        folder: Path,
        source: str = "auto",
        labels: Path | None = None,
        positive: tuple[str, ...] = (),
        negative: tuple[str, ...] = (),
        *,
        take_all: bool = False,
    ) -> tuple[str, Found]:
        return find_rows(list_files(folder), source, Options(labels, ClassNames(positive, negative), take_all))

    return look
