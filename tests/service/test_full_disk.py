"""A disk that gets full at the worst moment: the sender hears to come again, and nothing is there by half."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import simulated_dicom
import sqlalchemy as sa
from clinic import Clinic, opened, radiograph, related
from pynetdicom import AE

from callus.service import deletion, dicom_node, uploads
from callus.service.database import Database
from callus.service.dicom_node import Node
from callus.service.intake import Intake
from callus.service.objects import FullError, ObjectStore
from callus.service.settings import Caller, DicomNode
from callus.service.tables import Image, Job, Model, Study, now
from callus.service.uploads import Part, Room

RETRY = 0xA700  # Refused: Out of Resources


@pytest.fixture
def clinic(tmp_path: Path, tiny_bundle: Path) -> Iterator[Clinic]:
    with opened(tmp_path / "data", tiny_bundle) as clinic:
        yield clinic


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 6 MB; only root can have one."""
    folder = tmp_path / "small"
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(line, check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave nothing of a disk."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(folder).free == 0


@contextmanager
def node(database: Database, objects: ObjectStore) -> Iterator[Callable[[int], int]]:
    """What C-STORE answers to a radiograph."""
    settings = DicomNode(callers=(Caller(address="127.0.0.1"),))
    listening = Node(settings, Intake(database, objects, waiting_most=500), largest=8 << 20, came=lambda: None)
    listening.start()
    data = simulated_dicom.simulated()
    entity = AE("ROOM1")
    entity.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
    opened = entity.associate("127.0.0.1", listening.port, ae_title="CALLUS")

    def send(number: int) -> int:
        status = opened.send_c_store(simulated_dicom.simulated(SOPInstanceUID=f"1.2.276.0.9.{number}")).Status
        return int(status)

    try:
        yield send
    finally:
        opened.release()
        listening.stop()


@contextmanager
def database_in(folder: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{folder / 'callus.sqlite'}")
    with database.writing() as session:
        session.add(Model(name="tiny", digest="1" * 64, path="tiny", state="active"))
    try:
        yield database
    finally:
        database.close()


def count(database: Database, what: type) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(what)) or 0


def arriving(objects: ObjectStore) -> list[Path]:
    return list((objects.folder / "incoming").iterdir())


@pytest.mark.parametrize("fails", [1, 2])
def test_a_sync_that_finds_no_room_is_no_success(
    tmp_path: Path, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """The file's sync is the first, its folder's the second; whoever sends again has both done."""
    fsync, calls = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with database_in(tmp_path) as database, node(database, objects) as send:
        monkeypatch.setattr(os, "fsync", full)
        assert send(1) == RETRY
        assert (count(database, Image), count(database, Job), arriving(objects)) == (0, 0, [])
        before = calls
        assert send(1) == 0
        assert calls - before == (2 if fails == 1 else 1)
        assert (count(database, Image), count(database, Job)) == (1, 1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_success_is_told_when_all_of_it_stands(
    database: Database, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.writing() as session:
        session.add(Model(name="tiny", digest="1" * 64, path="tiny", state="active"))
    did: list[str] = []

    def noted(what: str, call: Any) -> Any:
        def calling(*given: Any, **named: Any) -> Any:
            back = call(*given, **named)
            did.append(what)
            return back

        return calling

    def synced(handle: int) -> None:
        fsync(handle)
        did.append("folder synced" if Path(f"/proc/self/fd/{handle}").resolve().is_dir() else "file synced")

    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", noted("renamed", Path.replace))
    monkeypatch.setattr(dicom_node, "_answer", noted("answered", dicom_node._answer))
    database.on_commit(lambda _: did.append("committed"))
    with node(database, objects) as send:
        assert send(1) == 0
    assert did == ["file synced", "renamed", "folder synced", "committed", "answered"]
    assert count(database, Job) == 1


def test_a_full_disk_keeps_nothing_by_half(
    tmp_path: Path, small: Path, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = ObjectStore(small / "objects", keep_free=0)
    monkeypatch.setattr(ObjectStore, "has_room", lambda *_: True)  # as if it got full just after that look
    clinic.parts.intake._objects = objects
    fill(small)
    with database_in(tmp_path) as database, node(database, objects) as send:
        assert send(1) == RETRY
        assert count(database, Image) == 0
        assert clinic.reader.send(radiograph(1)).status_code == 507
        assert clinic.reader.ask("POST", "/dicom-web/studies", **related(radiograph(2))).status_code == 507
        assert clinic.rows(Image) == []
        assert not [file for file in objects.folder.rglob("*") if file.is_file()]
        (small / "filler").unlink()
        assert send(1) == 0
        assert clinic.reader.send(radiograph(1)).status_code == 202


def test_a_full_disk_of_the_database_says_so(
    tmp_path: Path, small: Path, clinic: Clinic, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_in(small) as database, node(database, objects) as send:
        monkeypatch.setattr(clinic.parts.intake, "_database", database)
        fill(small)
        number = 1
        while not (status := send(number)):  # SQLite's log has some room in its last page
            number += 1
        assert status == RETRY
        assert count(database, Image) == count(database, Job) == number - 1
        assert clinic.reader.send(radiograph(900)).status_code == 507
        assert clinic.reader.ask("POST", "/dicom-web/studies", **related(radiograph(901))).status_code == 507
        assert count(database, Image) == number - 1
        assert arriving(objects) == []
        (small / "filler").unlink()
        assert send(number) == 0


def test_deleting_what_is_old_goes_on_once_a_full_disk_has_room(
    small: Path, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deletion, "_EVERY", 0.05)
    with database_in(small) as database:
        with database.writing() as session:
            session.add(Study(uid="1.2.3", received=now() - timedelta(days=9)))
        deletion._empty_log(database)  # else there may be room in SQLite's log
        fill(small)
        keeping = deletion.Keeping(database, objects, days=1)
        keeping.start()
        try:
            until(lambda: "deleting waits: FullError" in caplog.text)
            assert count(database, Study) == 1
            (small / "filler").unlink()
            until(lambda: not count(database, Study))
        finally:
            keeping.stop()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def test_an_upload_that_finds_no_room_is_let_go(small: Path, clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MEMORY", 4096)
    fill(small)
    room = Room(small, largest=1 << 20)
    part = Part("files", "a.dcm", "", room)
    part.write(bytes(4096))
    with pytest.raises(FullError, match="cannot be kept: No space"):
        part.write(bytes(1 << 16))
    part.close()
    assert room.hold(4096)  # what it held was given back

    monkeypatch.setattr(clinic.parts.room, "folder", small)
    monkeypatch.setattr(clinic.parts.room, "_free", 0)
    assert clinic.reader.send(radiograph(1)).status_code == 507
    assert clinic.reader.ask("POST", "/dicom-web/studies", **related(radiograph(1))).status_code == 507
    assert clinic.rows(Image) == []
    assert arriving(clinic.parts.objects) == []
    assert [file.name for file in small.iterdir()] == ["filler"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_postgresql_says_it_in_its_own_way(database: Database) -> None:
    refuse = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{}'; END $$"
    with pytest.raises(FullError, match="the disk is full"), database.writing() as session:
        session.execute(sa.text(refuse.format("disk_full")))
    with pytest.raises(sa.exc.DBAPIError), database.writing() as session:
        session.execute(sa.text(refuse.format("too_many_columns")))
