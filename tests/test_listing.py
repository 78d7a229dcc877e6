from __future__ import annotations

from typing import TYPE_CHECKING

from callus.archive.listing import gather, list_files

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_named_twice_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("b.png", "a/low", "a/notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    named = [tmp_path / "b.png", tmp_path, tmp_path / "a" / ".." / "b.png"]
    inputs, failed = gather(named)
    assert [item.path.name for item in inputs] == ["b.png", "low"]
    assert failed == []
    assert list_files(named) == ([str(item.path) for item in inputs], [])
