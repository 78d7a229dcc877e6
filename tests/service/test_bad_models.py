"""Models that are none, sent by an administrator: refused, and nothing of them is left."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinic import Clinic, opened
from tiny_bundle import packed_blind_bundle

from callus.service.tables import Entry, Model

UNPACKED = 256 << 20


@pytest.fixture
def clinic(tmp_path: Path, tiny_bundle: Path) -> Iterator[Clinic]:
    with opened(tmp_path / "data", tiny_bundle) as clinic:
        yield clinic


def bomb(model: bytes) -> bytes:
    """A whole model whose network unpacks to a thousand times what it takes."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(model)) as whole,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for name in whole.namelist():
            if name != "model.onnx":
                archive.writestr(name, whole.read(name))
        with archive.open("model.onnx", "w", force_zip64=True) as entry:
            for _ in range(UNPACKED >> 20):
                entry.write(bytes(1 << 20))
    return buffer.getvalue()


def kept(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file() and "sqlite" not in file.name}


def test_a_bundle_that_is_a_bomb_does_not_go_off(clinic: Clinic, tmp_path: Path) -> None:
    data = bomb(packed_blind_bundle(tmp_path))
    assert 1000 * len(data) < UNPACKED
    assert len(data) < clinic.parts.room.largest  # it is not refused for its own size
    before, files = len(clinic.rows(Entry)), kept(clinic.settings.data)

    tracemalloc.start()
    answer = clinic.administrator.post("/models", files={"file": ("a.callus", data)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert answer.status_code == 422, answer.text
    assert "model.onnx unpacks to" in answer.json()["error"]["what"]
    assert peak < UNPACKED / 8
    assert len(clinic.rows(Model)) == 1
    assert len(clinic.rows(Entry)) == before
    assert kept(clinic.settings.data) == files
    assert not list(clinic.parts.room.folder.iterdir())
