"""A study pulled from a real Orthanc by QIDO-RS and WADO-RS, and from servers that do not do as they should."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import simulated_dicom
import sqlalchemy as sa
from clinic import ON_SQLITE
from dicomweb_server import Web, answering
from orthanc import Orthanc, running
from programs import free_port
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from callus.errors import CallusError
from callus.service.database import Database
from callus.service.dicomweb import joined
from callus.service.intake import Intake
from callus.service.jobs import PULL
from callus.service.objects import ObjectStore
from callus.service.pull import Pulling, ask
from callus.service.settings import Source
from callus.service.tables import Entry, Image, Job, Model, now

STUDY = "1.2.276.0.8.1"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc")) as one:
        yield one


@pytest.fixture
def database(database: Database) -> Database:
    """One with a model that answers."""
    with database.writing() as session:
        session.add(Model(name="tiny", digest="1" * 64, path="tiny", state="active"))
    return database


@pytest.fixture
def intake(database: Database, objects: ObjectStore) -> Intake:
    return Intake(database, objects, waiting_most=50)


@contextmanager
def pulling(database: Database, intake: Intake, url: str, largest: int = 8 << 20) -> Iterator[None]:
    thread = Pulling(database, intake, (Source("archive", url),), largest=largest, came=lambda: None)
    thread.start()
    try:
        yield
    finally:
        thread.stop()


def wanted(database: Database, study: str = STUDY, source: str = "archive") -> bool:
    with database.writing() as session:
        return ask(session, source, study, "ada")


def job(database: Database) -> Job:
    with database.reading() as session:
        return session.scalars(sa.select(Job).where(Job.kind == PULL)).one()


def images(database: Database) -> list[Image]:
    with database.reading() as session:
        return list(session.scalars(sa.select(Image).order_by(Image.id)))


def until(done: Callable[[], Any], seconds: float = 30) -> bool:
    ends = time.monotonic() + seconds
    while not done() and time.monotonic() < ends:
        time.sleep(0.05)
    return bool(done())


def as_file(data: Dataset) -> bytes:
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def radiograph(number: int = 1, **tags: Any) -> bytes:
    uids = {"SOPInstanceUID": f"1.2.276.0.9.{number}", "StudyInstanceUID": STUDY}
    return as_file(simulated_dicom.simulated(**{**uids, **tags}))


def test_a_study_is_pulled_and_once_more_when_it_has_grown(
    database: Database, objects: ObjectStore, intake: Intake, orthanc: Orthanc
) -> None:
    orthanc.clear()
    sent = [radiograph(1), radiograph(2, SeriesInstanceUID="1.2.276.0.1.4"), radiograph(9, StudyInstanceUID="1.2.3")]
    for data in (*sent, radiograph(3, SOPClassUID=CTImageStorage, Modality="CT")):
        orthanc.put(data)
    assert wanted(database)
    assert not wanted(database)  # it waits already
    with pulling(database, intake, orthanc.web):
        assert until(lambda: job(database).state == "done")
        assert job(database).about["counts"] == {"taken": 2, "known": 0, "other": 1, "refused": 0}
        orthanc.put(radiograph(4))
        assert wanted(database)
        assert until(lambda: job(database).state == "done" and len(images(database)) == 3)
    assert job(database).about["counts"] == {"taken": 1, "known": 2, "other": 1, "refused": 0}
    kept = images(database)
    assert {(image.source, image.sender) for image in kept} == {("pull", "archive")}
    assert {image.uid for image in kept} == {f"1.2.276.0.9.{number}" for number in (1, 2, 4)}
    assert pydicom.dcmread(objects.path(kept[0].sha256)).PatientID == "P-4711"
    with database.reading() as session:
        did = [(entry.who, entry.did) for entry in session.scalars(sa.select(Entry))]
    assert did.count(("ada", "pulled")) == 2


@ON_SQLITE
def test_real_radiographs_come_in_their_own_transfer_syntax(
    database: Database, objects: ObjectStore, intake: Intake, orthanc: Orthanc, dicom_folder: Path
) -> None:
    orthanc.clear()
    file = dicom_folder / "RG3_JPLL.dcm"
    orthanc.put(file.read_bytes())
    theirs = pydicom.dcmread(file)
    wanted(database, theirs.StudyInstanceUID)
    with pulling(database, intake, orthanc.web):
        assert until(lambda: job(database).state == "done")
    (image,) = images(database)
    mine = pydicom.dcmread(objects.path(image.sha256))
    assert mine.file_meta.TransferSyntaxUID == theirs.file_meta.TransferSyntaxUID
    assert mine.PixelData == theirs.PixelData


def test_what_is_not_there_is_stuck_and_what_is_down_is_tried_again(
    database: Database, intake: Intake, orthanc: Orthanc
) -> None:
    orthanc.clear()
    wanted(database)
    with pulling(database, intake, orthanc.web):
        assert until(lambda: job(database).state == "stuck")
    assert job(database).error == "has no such study"

    assert wanted(database)
    with pulling(database, intake, f"http://127.0.0.1:{free_port()}/dicom-web"):
        assert until(lambda: job(database).error)
    assert (job(database).state, job(database).error) == ("waiting", "does not answer (ConnectionError)")
    orthanc.put(radiograph())
    with database.writing() as session:
        session.execute(sa.update(Job).values(due=now()))
    with pulling(database, intake, orthanc.web):
        assert until(lambda: job(database).state == "done")
    assert len(images(database)) == 1


def test_a_source_that_is_named_no_more_is_stuck(database: Database, intake: Intake) -> None:
    wanted(database, source="old")
    with pulling(database, intake, "https://pacs.example/"):
        assert until(lambda: job(database).state == "stuck")
    assert job(database).error == "source old is no longer in the settings"


@ON_SQLITE
def test_only_a_uid_is_asked_for(database: Database) -> None:
    for study in ("", "1.2/../../", "1.2.3?x=y", "1.2.03", "*"):
        with pytest.raises(CallusError, match="no Study Instance UID"):
            wanted(database, study)


@pytest.fixture
def web() -> Iterator[Web]:
    with answering(STUDY) as server:
        yield server


def test_what_is_not_what_it_was_said_to_be_is_refused(database: Database, intake: Intake, web: Web) -> None:
    web.hold(radiograph(1))
    web.hold(radiograph(2), uid="1.2.276.0.9.77")
    web.hold(radiograph(3, StudyInstanceUID="1.2.3.4"))
    web.hold(radiograph(4, Modality="CT"))
    web.hold(radiograph(5), uid="1.2/../../../elsewhere")
    wanted(database)
    with pulling(database, intake, web.url):
        assert until(lambda: job(database).state == "done")
    assert job(database).about["counts"] == {"taken": 1, "known": 0, "other": 1, "refused": 3}
    assert not [path for path in web.asked if "elsewhere" in path]


@pytest.mark.parametrize("turns_pages", [True, False])
@ON_SQLITE
def test_long_studies_have_pages(
    database: Database, intake: Intake, web: Web, monkeypatch: pytest.MonkeyPatch, turns_pages: bool
) -> None:
    from callus.service import pull

    monkeypatch.setattr(pull, "_PAGE", 2)
    web.turns_pages = turns_pages
    for number in range(5):
        web.hold(radiograph(number))
    wanted(database)
    with pulling(database, intake, web.url):
        assert until(lambda: job(database).state == "done")
    assert job(database).about["counts"]["taken"] == (5 if turns_pages else 2)


@pytest.mark.parametrize(
    ("search", "answer", "state", "said"),
    [
        (b"<html>", None, "waiting", "answers a search with something else"),
        (b'["x"]', None, "waiting", "answers a search with something else"),
        (None, (503, "text/plain", b""), "waiting", "answers 503"),
        (None, (403, "text/plain", b""), "stuck", "answers 403"),
        (None, (302, "text/plain", b""), "stuck", "answers with a redirect, which is not followed"),
        (None, (200, "text/html", b""), "stuck", "answers with text/html"),
        (None, (200, *joined([])), "waiting", "gives 0 objects for one"),
        (None, (200, "multipart/related; boundary=x", b"--x\r\n\r\nhalf"), "waiting", "its answer ends early"),
        (None, (200, *joined([bytes(9 << 20)])), "stuck", "answers with more than 8454144 bytes"),
    ],
)
@ON_SQLITE
def test_a_source_that_answers_badly_leaves_nothing(
    database: Database, intake: Intake, web: Web, search: bytes | None, answer: Any, state: str, said: str
) -> None:
    web.hold(radiograph(1))
    if search is not None:
        web.search = search
    if answer is not None:
        web.answers = dict.fromkeys(web.answers, answer)
    wanted(database)
    with pulling(database, intake, web.url):
        assert until(lambda: (job(database).state, job(database).error) == (state, said)), job(database).error
    assert not images(database)


def test_a_full_queue_pulls_the_rest_later(database: Database, objects: ObjectStore, orthanc: Orthanc) -> None:
    orthanc.clear()
    for number in (1, 2):
        orthanc.put(radiograph(number, pixels=np.full((150, 120), 100 * number, np.uint16)))
    wanted(database)
    with pulling(database, Intake(database, objects, waiting_most=1), orthanc.web):
        assert until(lambda: job(database).error)
    assert (job(database).state, len(images(database))) == ("waiting", 1)
    with database.writing() as session:
        session.execute(sa.update(Job).values(due=now()))
    with pulling(database, Intake(database, objects, waiting_most=50), orthanc.web):
        assert until(lambda: job(database).state == "done")
    assert job(database).about["counts"] == {"taken": 1, "known": 1, "other": 0, "refused": 0}
