"""Results that belong together take their places together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from callus.atomic import check_place, whole_set
from callus.errors import CallusError


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


def test_ctrl_c_waits_until_all_are_there(tmp_path: Path) -> None:
    """In a process of its own: libraries that other tests load may leave this one unable to take a signal."""
    code = """
import os, signal, sys
from pathlib import Path
from callus.atomic import whole_set
signal.signal(signal.SIGINT, signal.default_int_handler)
replace = Path.replace
def interrupted(self, target):
    os.kill(os.getpid(), signal.SIGINT)
    return replace(self, target)
try:
    with whole_set(Path(sys.argv[1]), ("a", "b", "c")) as places:
        for place in places.values():
            place.write_text("x")
        Path.replace = interrupted
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "interrupted\n", done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


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
