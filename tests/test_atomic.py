"""Results that belong together take their places together."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from callus.atomic import check_place, whole_set
from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_a_set_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for content in ("old", "new"):
        with whole_set(out, ("a.csv", "b.html")) as places:
            for place in places.values():
                assert place.parent == out  # paths that a manifest holds are relative to it
                place.write_text(content)
    (out / "mine").write_text("mine")

    def fail() -> None:
        with whole_set(out, ("a.csv", "b.html")) as places:
            places["a.csv"].write_text("newer")
            raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        fail()
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a.csv": "new", "b.html": "new", "mine": "mine"}


@pytest.fixture
def _heeded() -> Iterator[None]:
    """A shell lets what it runs in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeded")
def test_ctrl_c_waits_until_all_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return replace(self, target)

    def write() -> None:
        with whole_set(tmp_path, ("a", "b", "c")) as places:
            for place in places.values():
                place.write_text("x")
            monkeypatch.setattr(Path, "replace", interrupted)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "taken" / "a.csv").mkdir(parents=True)
    check_place(tmp_path / "new" / "deeper", ("a.csv",))
    check_place(tmp_path, ("a.csv",))
    for folder, reason in (
        ("file", "Not a directory"),
        ("file/in", "Not a directory"),
        ("taken", "'a.csv' is a folder"),
    ):
        with pytest.raises(CallusError, match=f"{folder}: cannot be written: {reason}"):
            check_place(tmp_path / folder, ("a.csv",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]
