"""A backup is whole or is refused, whatever bit of it is lost; and nothing of one that was killed stays behind."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from clinic import picture

from callus.errors import CallusError
from callus.service.backup import BackupError, back_up, count_of, restore
from callus.service.copying import clear_copies, place_for_copy
from callus.service.database import Database
from callus.service.deletion import Keeping
from callus.service.intake import Intake
from callus.service.objects import ObjectStore
from callus.service.pairing import PairingError
from callus.service.serving import build
from callus.service.settings import Settings
from callus.service.tables import Entry, Image, Job

PICTURES = 3
BLOCK = tarfile.BLOCKSIZE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service's folder of some pictures and a model."""
    data = tmp_path_factory.mktemp("clinic")
    database = Database(f"sqlite:///{data / 'callus.sqlite'}")
    intake = Intake(database, ObjectStore(data / "objects", keep_free=0), waiting_most=50)
    for seed in range(PICTURES):
        intake.take(picture(seed), source="upload", sender="ada")
    database.close()
    (data / "models").mkdir()
    (data / "models" / "mine.callus").write_bytes(b"weights" * 100)
    return data


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("backup") / "clinic.tar"
    assert back_up(data, file).count == PICTURES + 2
    assert count_of(file) == PICTURES + 2
    return file.read_bytes()


def members(whole: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        return archive.getmembers()


def refused(data: bytes, folder: Path) -> str:
    """What a backup is refused with; nothing is made of it."""
    (folder / "cut.tar").write_bytes(data)
    with pytest.raises(BackupError) as caught:
        restore(folder / "cut.tar", folder / "made")
    assert sorted(file.name for file in folder.iterdir()) == ["cut.tar"]
    return caught.value.what


def of_the_version_before(whole: bytes) -> bytes:
    """The same files as callus wrote them first: all are listed at the beginning, and none at the end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(fileobj=buffer, mode="w") as new:
        first, *files, last = old.getmembers()
        listed = json.loads(old.extractfile(last).read())["files"]  # type: ignore[union-attr]  # it is a file
        told = {"version": 1, "files": {name: one["sha256"] for name, one in listed.items()}}
        first.size = len(json.dumps(told))
        new.addfile(first, io.BytesIO(json.dumps(told).encode()))
        for file in files:
            new.addfile(file, old.extractfile(file))
    return buffer.getvalue()


@pytest.fixture(scope="module", params=["now", "before"])
def of_either_version(request: pytest.FixtureRequest, whole: bytes) -> bytes:
    return whole if request.param == "now" else of_the_version_before(whole)


def test_a_whole_one_is_put_back(of_either_version: bytes, data: Path, tmp_path: Path) -> None:
    (tmp_path / "clinic.tar").write_bytes(of_either_version)
    made = restore(tmp_path / "clinic.tar", tmp_path / "made")
    assert (made.count, made.doubtful) == (PICTURES + 2, ())
    for file in (data / "objects").rglob("*"):
        assert file.is_dir() or (tmp_path / "made" / file.relative_to(data)).read_bytes() == file.read_bytes()
    with closing(sqlite3.connect(tmp_path / "made" / "callus.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM images").fetchone() == (PICTURES,)


@pytest.mark.parametrize("place", [0, 124, 148])  # name, size, checksum
def test_a_bit_that_is_lost_in_any_header_is_told(of_either_version: bytes, tmp_path: Path, place: int) -> None:
    for number, member in enumerate(members(of_either_version)):
        data = bytearray(of_either_version)
        data[member.offset + place] ^= 2
        folder = tmp_path / str(number)
        folder.mkdir()
        assert refused(bytes(data), folder)


def test_one_that_is_cut_anywhere_is_told(of_either_version: bytes, tmp_path: Path) -> None:
    found = members(of_either_version)
    end = found[-1].offset_data + -(-found[-1].size // BLOCK) * BLOCK
    places = {member.offset for member in found} | {member.offset_data for member in found}
    for place in sorted(places | {end, end + BLOCK}):
        folder = tmp_path / str(place)
        folder.mkdir()
        assert refused(of_either_version[:place], folder)


def test_a_file_that_is_missing_or_too_much_is_told(whole: bytes, tmp_path: Path) -> None:
    for number in range(1, len(members(whole)) - 1):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(fileobj=buffer, mode="w") as new:
            for place, member in enumerate(old.getmembers()):
                if place != number:
                    new.addfile(member, old.extractfile(member))
        folder = tmp_path / str(number)
        folder.mkdir()
        assert refused(buffer.getvalue(), folder)
    twice = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(fileobj=twice, mode="w") as new:
        for member in old.getmembers():
            for _ in range(2 if member.name.startswith("objects") else 1):
                new.addfile(member, old.extractfile(member))
    (tmp_path / "twice").mkdir()
    assert "what no backup holds" in refused(twice.getvalue(), tmp_path / "twice")


def test_one_of_the_version_before_tells_what_it_lists_and_lacks(whole: bytes, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(of_the_version_before(whole))) as old:
        *kept, lost = old.getmembers()
        with tarfile.open(fileobj=buffer, mode="w") as new:
            for member in kept:
                new.addfile(member, old.extractfile(member))
    (tmp_path / "clinic.tar").write_bytes(buffer.getvalue())
    assert count_of(tmp_path / "clinic.tar") == PICTURES + 2
    line = [sys.executable, "-m", "callus", "restore", str(tmp_path / "clinic.tar"), "--to", str(tmp_path / "made")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "lists 1 files that it does not hold" in done.stderr
    assert not (tmp_path / "made" / lost.name).exists()


def test_what_is_damaged_on_the_disk_is_told_and_costs_nothing_else(data: Path, tmp_path: Path) -> None:
    damaged = min(file for file in (data / "objects").glob("??/*"))
    before = damaged.read_bytes()
    damaged.write_bytes(before[:-1])
    try:
        made = back_up(data, tmp_path / "clinic.tar")
    finally:
        damaged.write_bytes(before)
    assert made.doubtful == (str(damaged.relative_to(data)),)
    assert restore(tmp_path / "clinic.tar", tmp_path / "made").count == PICTURES + 2


@pytest.fixture
def killed(data: Path) -> Iterator[Path]:
    """What a backup that was killed leaves: a copy of the database."""
    code = (
        "import sys, time, pathlib; from callus.service import backup, copying\n"
        "backup._write = lambda *_: (print('copied', flush=True), time.sleep(60))\n"
        "backup.back_up(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))"
    )
    line = [sys.executable, "-c", code, str(data), str(data / "clinic.tar")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "copied\n"
        (copy,) = (data / "backup").iterdir()
        assert copy.stat().st_mode & 0o077 == 0
        with pytest.raises(CallusError, match="is being backed up already"), place_for_copy(data):
            pass
        clear_copies(data)  # not of one that is being written
        assert copy.exists()
        os.kill(process.pid, signal.SIGKILL)
    yield copy
    (data / "clinic.tar.part").unlink(missing_ok=True)


def test_a_start_clears_what_a_killed_backup_left(data: Path, killed: Path) -> None:
    assert killed.exists()
    database = Database(f"sqlite:///{data / 'callus.sqlite'}")
    keeping = Keeping(database, ObjectStore(data / "objects", keep_free=0), days=0)
    keeping.start()
    ends = time.monotonic() + 30
    while killed.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    keeping.stop()
    database.close()
    assert not killed.exists()


def test_the_next_backup_clears_it_too_and_leaves_nothing(data: Path, killed: Path, tmp_path: Path) -> None:
    (killed.parent / "older").mkdir()
    back_up(data, tmp_path / "clinic.tar")
    assert list((data / "backup").iterdir()) == []
    handle = os.open(data / "backup", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it any more
    os.close(handle)


def test_what_earlier_versions_left_is_cleared(tmp_path: Path) -> None:
    for name, inside in (("tmpab12_cde", "callus.sqlite"), ("tmpnewer000", "callus.sqlite"), ("tmpothers00", "notes")):
        (tmp_path / name).mkdir()
        (tmp_path / name / inside).write_bytes(b"patients")
        if name != "tmpnewer000":
            os.utime(tmp_path / name, (time.time() - 100_000,) * 2)
    clear_copies(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tmpnewer000", "tmpothers00"]


def test_an_old_database_is_not_taken_for_the_service_s(database: Database, tmp_path: Path, tiny_bundle: Path) -> None:
    """A service that has moved to another database left its first one in the folder."""
    folder, file = tmp_path / "data", tmp_path / "clinic.tar"
    elsewhere = database.engine.url

    def serve(url: str = "") -> None:
        build(Settings(folder, str(tiny_bundle), database=url, keep_free=0), threads=1).close()

    serve()
    assert back_up(folder, file).count > 1
    file.unlink()
    serve(elsewhere.render_as_string(hide_password=False))
    assert (folder / "callus.sqlite").is_file()
    with pytest.raises(BackupError, match="has its database elsewhere") as caught:
        back_up(folder, file)
    assert elsewhere.get_backend_name() in caught.value.what
    assert "pg_dump" in caught.value.hint
    assert not file.exists()
    with pytest.raises(PairingError, match="delete database-elsewhere there"):
        serve()
    (folder / "database-elsewhere").unlink()
    serve()  # and back
    assert back_up(folder, file).count > 1


def test_what_the_refusal_says_is_enough(
    postgres_programs: Path,
    on_postgresql: Callable[..., AbstractContextManager[str]],
    tmp_path: Path,
    tiny_bundle: Path,
) -> None:
    """The server's own means while the service runs, and then the folder's objects and models."""
    with on_postgresql() as old, on_postgresql() as new:
        parts = build(Settings(tmp_path / "old", str(tiny_bundle), database=old, keep_free=0), threads=1)
        taken = parts.intake.take(picture(), source="upload", sender="ada")
        line = [postgres_programs / "pg_dump", "--dbname", old]
        dump = subprocess.run(line, check=True, capture_output=True, timeout=180).stdout
        parts.intake.take(picture(1), source="upload", sender="ada")  # comes too late for it
        for name in ("objects", "models"):
            shutil.copytree(tmp_path / "old" / name, tmp_path / "new" / name)
        parts.close()
        line = [postgres_programs / "psql", "--dbname", new, "--set", "ON_ERROR_STOP=1"]
        subprocess.run(line, input=dump, check=True, capture_output=True, timeout=180)

        parts = build(Settings(tmp_path / "new", database=new, keep_free=0), threads=1)  # which loads the old model
        with parts.database.reading() as session:
            (image,) = session.scalars(sa.select(Image))
            (job,) = session.scalars(sa.select(Job))
        assert (image.id, job.image_id, job.state) == (taken.image_id, taken.image_id, "waiting")
        assert parts.objects.get(image.sha256) == picture()
        assert parts.intake.take(picture(2), source="upload", sender="ada").image_id == taken.image_id + 1
        with pytest.raises(sa.exc.DBAPIError, match="only added to"), parts.database.writing() as session:
            session.execute(sa.delete(Entry))
        parts.close()
