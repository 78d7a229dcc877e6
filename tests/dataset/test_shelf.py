"""Descriptions that are kept: several audits at once, a disk that takes no more, a damaged file."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from callus.dataset import shelf as module
from callus.dataset.keypoints import Description, describe
from callus.dataset.shelf import Shelf
from callus.errors import CallusError

if TYPE_CHECKING:
    from pathlib import Path


def description(seed: int) -> Description:
    return describe(np.random.default_rng(seed).integers(0, 256, (64, 48), np.uint8))


def test_a_second_audit_writes_while_the_first_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY_S", 0.0)  # everything is written at once, and the first is not done yet
    with Shelf(tmp_path / "s.sqlite") as first:
        first.put("one", description(1))

        def another() -> None:
            with Shelf(tmp_path / "s.sqlite") as second:
                second.put("two", description(2))
                second.save()
                told.append(second.remark)

        told: list[str] = []
        thread = threading.Thread(target=another, daemon=True)
        thread.start()
        thread.join(20)
        assert told == [""]
        first.put("three", description(3))
        assert first.remark == ""
    with Shelf(tmp_path / "s.sqlite") as shelf:
        assert all(name in shelf for name in ("one", "two", "three"))


def test_what_was_put_just_now_is_held_by_no_transaction(tmp_path: Path) -> None:
    with Shelf(tmp_path / "s.sqlite") as shelf:
        shelf.put("one", description(1))
        with closing(sqlite3.connect(tmp_path / "s.sqlite", timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")  # "database is locked" where the shelf's own is open


def test_a_disk_that_takes_no_more_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    with Shelf(tmp_path / "s.sqlite") as shelf:
        shelf.put("before", description(1))
    with closing(sqlite3.connect(tmp_path / "s.sqlite")) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON descriptions BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
        other.commit()
    with Shelf(tmp_path / "s.sqlite") as shelf:
        for number in range(3):
            shelf.put(f"new {number}", description(number))
            shelf.save()
        assert "not kept for the next time: disk is full" in shelf.remark
        assert (shelf.get("before").thumbnail == description(1).thumbnail).all()
        assert (shelf.get("new 2").thumbnail == description(2).thumbnail).all()
    with Shelf(tmp_path / "s.sqlite") as shelf:
        assert len(shelf) == 1


@pytest.mark.parametrize(
    "damage", ["substr(packed, 1, 7)", "substr(packed, 1, 100)", "packed || packed", "'text'", "zeroblob(40)"]
)
def test_a_damaged_description_is_one_error(tmp_path: Path, damage: str) -> None:
    with Shelf(tmp_path / "s.sqlite") as shelf:
        shelf.put("one", description(1))
        shelf.put("two", description(2))
    with closing(sqlite3.connect(tmp_path / "s.sqlite")) as other:
        other.execute(f"UPDATE descriptions SET packed = {damage} WHERE sha256 = 'one'")  # noqa: S608
        other.commit()
    with Shelf(tmp_path / "s.sqlite") as shelf:
        with pytest.raises(CallusError, match=r"s\.sqlite: is damaged: .*; delete it; it is made anew"):
            shelf.get("one")
        assert (shelf.get("two").thumbnail == description(2).thumbnail).all()


def test_pages_that_were_overwritten_are_told(tmp_path: Path) -> None:
    """Each page in turn: it is told at once, or when a description is asked for, or the page was of no use."""
    place = tmp_path / "s.sqlite"
    with Shelf(place) as shelf:
        for number in range(4):
            shelf.put(f"{number}", description(number))
    whole = place.read_bytes()
    found = set()
    for start in range(0, len(whole), 32_768):
        place.write_bytes(whole[:start] + b"\xa5" * 32_768 + whole[start + 32_768 :])
        with Shelf(place) as shelf:
            if shelf.remark:
                found.add("at once")
                continue
            for number in range(4):
                try:
                    shelf.get(f"{number}")
                except KeyError:
                    found.add("gone")
                except CallusError as error:
                    found.add("later" if "is damaged" in str(error) else str(error))
        for beside in tmp_path.glob("s.sqlite-*"):
            beside.unlink()
    assert {"at once", "later"} <= found
