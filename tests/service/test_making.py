"""Results are made in processes of their own, which may die at any moment and never outlive the service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import simulated_dicom
import sqlalchemy as sa
from clinic import opened, picture, radiograph
from PIL import Image as Picture
from served import line_of

from callus.errors import CallusError
from callus.radiograph import read
from callus.results.overlay import overlay
from callus.service import making, underway
from callus.service.database import Database
from callus.service.objects import FullError, ObjectStore
from callus.service.tables import Answer, Job, User, now


@pytest.fixture(autouse=True)
def no_process_of_other_tests() -> Iterator[None]:
    making._end_idle()
    yield
    making._end_idle()


@pytest.fixture
def order(tmp_path: Path) -> making.Order:
    return ordered(tmp_path, radiograph())


def ordered(folder: Path, data: bytes) -> making.Order:
    (folder / "came").write_bytes(data)
    came = read(folder / "came")
    store = ObjectStore(folder / "objects", keep_free=0)
    return making.Order(store, came, simulated_dicom.made_finding(came, path=None), "tiny", "d" * 64)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_process_keeps_what_it_makes(order: making.Order) -> None:
    made = making.make(order)

    assert made.cautions == ()
    assert set(made.hashes) == {"overlay", "sr", "sc", "pr", "fhir"}
    files = {kind: order.objects.get(sha256) for kind, sha256 in made.hashes.items()}
    drawn = np.asarray(overlay(order.radiograph, order.finding))
    np.testing.assert_array_equal(np.asarray(Picture.open(BytesIO(files["overlay"]))), drawn)
    np.testing.assert_array_equal(pydicom.dcmread(BytesIO(files["sc"])).pixel_array, drawn)
    report = pydicom.dcmread(BytesIO(files["sr"]))
    assert (report.StudyInstanceUID, report.Modality) == ("1.2.276.0.8.1", "SR")
    assert b'"DiagnosticReport"' in files["fhir"]


def test_a_picture_has_an_overlay_only(tmp_path: Path) -> None:
    assert set(making.make(ordered(tmp_path, picture())).hashes) == {"overlay"}


def test_what_cannot_be_made_is_a_caution_and_what_cannot_be_kept_an_error(order: making.Order, tmp_path: Path) -> None:
    from dataclasses import replace

    Path(order.radiograph.path or "").write_bytes(radiograph(2))
    made = making.make(order)
    assert set(made.hashes) == {"overlay"}
    assert made.cautions == ("results: has changed since it was read, so no result of it is written",)
    full = replace(order, objects=ObjectStore(tmp_path / "objects", keep_free=1 << 60))
    Path(order.radiograph.path or "").write_bytes(radiograph())
    with pytest.raises(CallusError, match="the disk is full") as raised:
        making.make(full)
    assert not isinstance(raised.value, FullError)
    assert len(making._idle) == 1  # it goes on


def test_a_process_killed_while_it_waits_or_works_costs_a_retry(order: making.Order) -> None:
    first = making.make(order)
    (idle,) = making._idle
    os.kill(idle.process.pid, signal.SIGKILL)
    assert making.make(order).hashes["overlay"] == first.hashes["overlay"]

    (working,) = making._idle
    os.kill(working.process.pid, signal.SIGSTOP)
    made: list[making.Made] = []
    thread = threading.Thread(target=lambda: made.append(making.make(order)))
    thread.start()
    until(lambda: not making._idle)
    os.kill(working.process.pid, signal.SIGKILL)
    thread.join(60)
    assert made[0].hashes["overlay"] == first.hashes["overlay"]
    assert making._idle[0] is not working
    assert not lives(working.process.pid)


def test_whom_two_processes_die_of_is_told(order: making.Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_SERVE", "raise SystemExit(7)")
    with pytest.raises(CallusError, match=r"the process that makes them failed \(exit code 7\)"):
        making.make(order)
    assert making._idle == []


def test_a_process_that_hangs_is_ended(order: making.Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "LIMIT_S", 0.2)
    monkeypatch.setattr(making, "_SERVE", "import time; time.sleep(600)")
    with pytest.raises(CallusError, match=r"signal 9"):
        making.make(order)


def test_processes_end_with_a_service_that_was_killed(tmp_path: Path) -> None:
    code = "from callus.service import making; import time; making.begin();"
    code += "print(making._idle[0].process.pid, flush=True); time.sleep(600)"
    service = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        maker = int(line_of(service))
        assert lives(maker)
    finally:
        service.kill()
        service.communicate(timeout=60)
    until(lambda: not lives(maker))


def test_a_job_is_neither_lost_nor_doubled_when_its_processes_die(
    database: Database, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "data", tiny_bundle, database) as clinic:
        clinic.parts.start()
        clinic.until(lambda: making._idle)
        with monkeypatch.context() as patched:
            patched.setattr(making, "_SERVE", "raise SystemExit(7)")
            making._end_idle()
            clinic.sent(radiograph(), answered=False)
            clinic.until(lambda: clinic.rows(Job, Job.attempts == 1, Job.state == "waiting"))
        (job,) = clinic.rows(Job)
        assert "exit code 7" in job.error
        with clinic.parts.database.writing() as session:
            session.execute(sa.update(Job).values(due=now()))
        clinic.answer()
        assert len(clinic.rows(Answer)) == 1
        assert clinic.rows(Job)[0].state == "done"
        assert clinic.files() == clinic.named()


def test_results_that_are_deleted_before_they_are_named_are_made_again(
    database: Database, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = making.make

    def deleted(order: making.Order, *more: Any) -> making.Made:
        made = make(order, *more)
        order.objects.delete(made.hashes["overlay"])
        return made

    with opened(tmp_path / "data", tiny_bundle, database) as clinic:
        clinic.parts.start()
        with monkeypatch.context() as patched:
            patched.setattr(making, "make", deleted)
            clinic.sent(radiograph(), answered=False)
            clinic.until(lambda: clinic.rows(Job, Job.attempts == 1, Job.state == "waiting"))
        (answer,) = clinic.rows(Answer)
        assert answer.results == {}
        assert clinic.files() == clinic.named()
        with clinic.parts.database.writing() as session:
            session.execute(sa.update(Job).values(due=now()))
        clinic.answer()
        assert clinic.files() == clinic.named()
        assert len(clinic.rows(Answer)) == 1


def test_a_service_that_stops_waits_for_no_process_and_loses_nothing(
    database: Database, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where cores are scarce a process may take longer to start than a stop has."""
    count = underway._THREADS + 2
    with opened(tmp_path / "data", tiny_bundle, database) as clinic, monkeypatch.context() as patched:
        patched.setattr(underway, "LAST_S", 0.1)
        patched.setattr(making, "_SERVE", "import time; time.sleep(600)")
        clinic.sent(*(radiograph(number) for number in range(1, count + 1)), answered=False)
        clinic.parts.start()
        clinic.until(lambda: len(clinic.rows(Answer)) == count)
        at_work = clinic.parts.answering._underway._processes._at_work
        clinic.until(lambda: at_work)
        begun = {maker.process.pid for maker in list(at_work)}
        clinic.parts.stop()  # or it says that answering does not end
        assert not any(lives(pid) for pid in begun)
        assert {(job.state, job.attempts, job.error) for job in clinic.rows(Job)} == {("waiting", 0, "")}
        with clinic.parts.database.writing() as session:  # the next one has people of its own
            session.execute(sa.delete(User))
    with opened(tmp_path / "data", tiny_bundle, database) as clinic:
        clinic.answer()
        assert {job.state for job in clinic.rows(Job)} == {"done"}
        assert [set(answer.results) for answer in clinic.rows(Answer)] == [
            {"overlay", "sr", "sc", "pr", "fhir"} for _ in range(count)
        ]
        assert clinic.files() == clinic.named()
