"""What uploads take of the memory is bounded for all together, whatever becomes of them."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from clinic import Clinic, opened, radiograph

from callus.service import database as module
from callus.service import uploads
from callus.service.database import Database
from callus.service.uploads import Part, Room

MEMORY = 1 << 20


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(uploads, "_MEMORY", MEMORY)
    return Room(tmp_path, largest=MEMORY)


@pytest.fixture
def clinic(tmp_path: Path, tiny_bundle: Path) -> Iterator[Clinic]:
    with opened(tmp_path / "data", tiny_bundle) as clinic:
        yield clinic


def test_what_finds_no_room_in_the_memory_goes_to_the_disk_whole(room: Room) -> None:
    first, second = (Part("files", name, "", room) for name in ("a.dcm", "b.dcm"))
    pieces = [os.urandom(MEMORY // 4) for _ in range(3)]
    for piece in pieces:
        first.write(piece)
    second.write(pieces[0])
    assert not room.hold(1)
    second.write(pieces[1])  # its first piece goes along, and makes room
    assert room.hold(MEMORY // 4)
    assert isinstance(first.file, io.BytesIO)
    assert not isinstance(second.file, io.BytesIO)
    assert (first.content(), second.content()) == (b"".join(pieces), b"".join(pieces[:2]))
    assert list(room.folder.iterdir()) == []  # it has no name there
    room.give_back(MEMORY // 4)
    for part in (first, second, second):
        part.close()
    assert room.hold(MEMORY)


def test_one_that_is_too_large_takes_nothing_any_more(room: Room) -> None:
    reader = uploads._Reader(b"x", room)
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    reader.write([head, bytes(MEMORY // 2)])
    assert not room.hold(MEMORY)
    reader.write([bytes(MEMORY)])
    assert room.hold(MEMORY)
    room.give_back(MEMORY)
    reader.write([bytes(MEMORY) + b"\r\n--x--\r\n"])
    (part,) = reader.whole
    assert part.too_large
    assert reader.ended
    reader.close()
    assert room.hold(MEMORY)


@pytest.mark.parametrize("memory", [0, 1 << 19, 64 << 20])
def test_whatever_memory_there_is_all_of_it_comes_and_all_is_given_back(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    room = clinic.parts.room
    room._free = memory
    monkeypatch.setattr(uploads, "_TOGETHER", 1 << 12)
    files = [radiograph(number, study=number) for number in (1, 2)]
    taken = clinic.sent(*files, answered=False)
    for one, file in zip(taken, files, strict=True):
        assert clinic.radiologist.get(f"/images/{one['image']}/original").content == file
    assert clinic.radiologist.send(bytes(5 << 20), radiograph(3)).json()["taken"][0]["status"] == 413
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    cut = clinic.radiologist.ask("POST", "/radiographs", content=head + bytes(1 << 20), headers=headers)
    assert cut.status_code == 422
    assert room._free == memory


def test_what_is_cut_after_a_file_that_was_taken_is_answered_all_the_same(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(clinic.parts, "wake", lambda: woken.append(True))
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = head + radiograph() + b"\r\n" + head + b"half"
    assert clinic.radiologist.ask("POST", "/radiographs", content=body, headers=headers).status_code == 422
    assert woken
    assert clinic.files()


def test_what_may_come_to_the_disk_soon_does(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = "PRAGMA synchronous" if database.is_sqlite else "SHOW synchronous_commit"
    settled, fsync = threading.Event(), os.fsync

    def synced(handle: int) -> None:
        fsync(handle)
        settled.set()

    monkeypatch.setattr(module, "_SOON", 0.01)
    monkeypatch.setattr(os, "fsync", synced)
    for _ in range(2):
        with database.writing() as session:
            assert session.scalar(sa.text(waits)) in (2, "on")
        assert not settled.is_set()
        with database.writing(soon=True) as session:
            assert session.scalar(sa.text(waits)) in (1, "off")
            session.execute(sa.text("CREATE TABLE IF NOT EXISTS seen (what INTEGER)"))
            session.execute(sa.text("INSERT INTO seen VALUES (1)"))
        if database.is_sqlite:
            assert settled.wait(60)
            settled.clear()
    with database.reading() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM seen")) == 2
