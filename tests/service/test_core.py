"""What came is kept, answered once and put on its way, whatever database; and nothing is half there."""

from __future__ import annotations

import io
import os
import threading
import time
import tracemalloc
import zlib
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import simulated_dicom
import sqlalchemy as sa
from PIL import Image as Picture

from callus.errors import RadiographError
from callus.service import jobs
from callus.service.answering import Answering
from callus.service.database import Database, DatabaseError
from callus.service.deletion import sweep
from callus.service.intake import BusyError, ConflictError, Intake
from callus.service.jobs import DELIVER, IDENTIFY
from callus.service.models import Models
from callus.service.objects import FullError, ObjectStore
from callus.service.placing import place_study
from callus.service.settings import Destination
from callus.service.tables import RANK, UNANSWERED, WAITING, Answer, Entry, Image, Job, Study, now

ARCHIVE = Destination("archive", ae_title="PACS", host="127.0.0.1", port=4242)


def radiograph(number: int = 1, study: int = 1, **tags: object) -> bytes:
    uids = {"SOPInstanceUID": f"1.2.276.0.9.{number}", "StudyInstanceUID": f"1.2.276.0.8.{study}"}
    return simulated_dicom.as_bytes(simulated_dicom.simulated(**{**uids, **tags}))


def picture(seed: int = 0) -> bytes:

    buffer = io.BytesIO()
    grey = np.random.default_rng(seed).integers(0, 255, (80, 60), dtype=np.uint8)
    Picture.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def answer_all(database: Database, objects: ObjectStore, models: Models, destinations: tuple = ()) -> list[int]:
    told: list[int] = []
    thread = Answering(database, objects, models, destinations, told.append)
    thread.start()
    end, waits = time.monotonic() + 120, True
    while waits:
        assert time.monotonic() < end, "it is not answered"
        time.sleep(0.05)
        with database.reading() as session:
            waits = jobs.waiting(session, IDENTIFY) > 0
    thread.stop()
    return told


def count(database: Database, what: type) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(what)) or 0


def test_what_comes_is_answered_and_put_on_its_way(
    database: Database, objects: ObjectStore, models: Models, intake: Intake
) -> None:
    taken = intake.take(radiograph(), source="dicom", sender="ROOM1", address="10.0.0.9")
    other = intake.take(picture(), source="upload", sender="ada", name="knee.png")
    assert taken.is_new
    assert other.is_new
    assert taken.study_id != other.study_id

    told = answer_all(database, objects, models, (ARCHIVE,))

    assert len(told) == 2
    with database.reading() as session:
        answers = {answer.image_id: answer for answer in session.scalars(sa.select(Answer))}
        of_dicom, of_picture = answers[taken.image_id], answers[other.image_id]
        assert set(of_dicom.results) == {"overlay", "sr", "sc", "pr", "fhir"}
        assert set(of_picture.results) == {"overlay"}
        heat = np.load(objects.path(of_dicom.map))
        assert heat.dtype == np.float32
        assert heat.ndim == 2
        assert objects.get(of_dicom.results["sr"])[128:132] == b"DICM"
        studies = {study.id: study for study in session.scalars(sa.select(Study))}
        assert studies[taken.study_id].rank == RANK[of_dicom.level]
        assert studies[taken.study_id].probability == pytest.approx(of_dicom.probability)
        (delivery,) = session.scalars(sa.select(Job).where(Job.kind == DELIVER))
        assert delivery.about == {"answer": of_dicom.id, "destination": "archive"}
        assert [(entry.who, entry.did, entry.address) for entry in session.scalars(sa.select(Entry))] == [
            ("ROOM1", "sent", "10.0.0.9"),
            ("ada", "sent", ""),
        ]


def test_the_same_object_twice_is_one_job(database: Database, intake: Intake) -> None:
    first = intake.take(radiograph(), source="dicom", sender="ROOM1")
    again = intake.take(radiograph(), source="stow", sender="archive")

    assert (again.image_id, again.is_new) == (first.image_id, False)
    assert count(database, Job) == 1
    with pytest.raises(ConflictError, match="another object with this SOP Instance UID"):
        intake.take(radiograph(PatientID="someone else"), source="dicom", sender="ROOM1")
    assert count(database, Image) == 1


def test_two_images_of_one_study_share_its_line(database: Database, intake: Intake) -> None:
    ids = {intake.take(radiograph(number), source="dicom", sender="ROOM1").study_id for number in (1, 2)}

    assert len(ids) == 1
    with database.reading() as session:
        (study,) = session.scalars(sa.select(Study))
        assert (study.images_count, study.uid) == (2, "1.2.276.0.8.1")


def test_nothing_is_said_to_be_none_while_a_view_waits(database: Database, models: Models, intake: Intake) -> None:
    model = models.begin_with("")

    def come(number: int) -> int:
        return intake.take(radiograph(number), source="dicom", sender="ROOM1").image_id

    def answer(image: int, level: str, probability: float) -> None:
        values = {"boxes": [], "cautions": [], "engine": "", "results": {}}
        with database.writing() as session:
            session.add(Answer(image_id=image, model_id=model, level=level, probability=probability, **values))
            session.flush()
            place_study(session, session.get_one(Image, image).study_id)

    def stands() -> tuple[int, float | None]:
        with database.reading() as session:
            (study,) = session.scalars(sa.select(Study))
            return study.rank, study.probability

    first, second = come(1), come(2)
    answer(first, "none", 0.1)
    assert stands() == (WAITING, None)
    answer(second, "none", 0.2)
    assert stands() == (RANK["none"], 0.2)
    third, _ = come(3), come(4)
    assert stands() == (WAITING, None)
    answer(third, "doubt", 0.4)  # which the one that waits cannot take back
    assert stands() == (RANK["doubt"], 0.4)


def test_what_the_first_object_does_not_tell_the_next_one_may(database: Database, intake: Intake) -> None:
    uid = "1.2.276.0.8.1"
    intake.take(picture(), source="upload", sender="ada", study_uid=uid)
    intake.take(radiograph(PatientID="P1", PatientName="Doe^Jane", AccessionNumber=""), source="dicom", sender="ROOM1")
    intake.take(radiograph(2, PatientID="P1", AccessionNumber="A7"), source="dicom", sender="ROOM1")
    intake.take(radiograph(3, PatientID="P2", PatientBirthDate="19000101"), source="dicom", sender="ROOM1")
    with database.reading() as session:
        (study,) = session.scalars(sa.select(Study))
        assert (study.patient_id, study.patient_name, study.accession) == ("P1", "Doe^Jane", "A7")
        assert study.birth_date != "19000101"  # somebody else's
        assert study.words == "a7\ndoe^jane\tp1"


def test_a_radiograph_of_another_patient_says_so(
    database: Database, objects: ObjectStore, models: Models, intake: Intake
) -> None:
    intake.take(radiograph(PatientID="P1"), source="dicom", sender="ROOM1")
    other = intake.take(radiograph(2, PatientID="P2"), source="dicom", sender="ROOM1")

    answer_all(database, objects, models)

    with database.reading() as session:
        said = {answer.image_id: str(answer.cautions) for answer in session.scalars(sa.select(Answer))}
        assert [image for image, cautions in said.items() if "another patient" in cautions] == [other.image_id]
        assert "P1" not in "".join(said.values())


def test_a_deflated_object_becomes_no_larger_than_an_upload(database: Database, objects: ObjectStore) -> None:
    data, buffer = simulated_dicom.simulated(), io.BytesIO()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    head, packed = np.split(np.frombuffer(whole, np.uint8), [144 + int.from_bytes(whole[140:144], "little")])
    plain, packer = zlib.decompress(packed.tobytes(), -15), zlib.compressobj(9, wbits=-15)
    bomb = head.tobytes() + packer.compress(plain) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(128))
    bomb += packer.flush()
    assert len(bomb) < 1 << 20
    intake = Intake(database, objects, waiting_most=50, largest=8 << 20)
    tracemalloc.start()
    with pytest.raises(RadiographError, match="inflates to more than 8,388,608 bytes"):
        intake.take(bomb, source="upload", sender="ada")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GIF89a" + bytes(50), "neither"),
        (b"", "neither"),
        (radiograph(Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "no radiograph"),
        (radiograph(SecondaryCaptureDeviceManufacturer="callus"), "callus made this picture"),
        (radiograph(StudyInstanceUID="1.2.03"), "no valid Study Instance UID"),
        (radiograph(SOPInstanceUID=None), "no valid SOP Instance UID"),
    ],
)
def test_what_is_no_radiograph_is_refused_and_leaves_nothing(
    database: Database, objects: ObjectStore, intake: Intake, data: bytes, said: str
) -> None:
    with pytest.raises(RadiographError, match=said):
        intake.take(data, source="dicom", sender="ROOM1")
    assert not list(objects.folder.glob("??/*"))
    assert (count(database, Study), count(database, Image), count(database, Job)) == (0, 0, 0)


def test_a_radiograph_that_cannot_be_decoded_says_so_and_waits_for_nobody(
    database: Database, objects: ObjectStore, models: Models, intake: Intake
) -> None:
    cut = radiograph()[:-4000]
    taken = intake.take(picture()[:40], source="upload", sender="ada")
    intake.take(cut, source="dicom", sender="ROOM1")

    answer_all(database, objects, models)

    with database.reading() as session:
        image = session.get_one(Image, taken.image_id)
        assert image.error
        assert session.get_one(Study, taken.study_id).rank == UNANSWERED
        assert {job.state for job in session.scalars(sa.select(Job))} == {"done"}


def test_a_full_disk_and_a_long_queue_refuse(database: Database, tmp_path: Path, models: Models) -> None:
    full = Intake(database, ObjectStore(tmp_path / "objects", keep_free=1 << 60), waiting_most=50)
    with pytest.raises(FullError, match="the disk is full"):
        full.take(radiograph(), source="dicom", sender="ROOM1")
    assert not [file for file in (tmp_path / "objects").rglob("*") if file.is_file()]

    busy = Intake(database, ObjectStore(tmp_path / "objects", keep_free=0), waiting_most=1)
    busy.take(radiograph(1), source="dicom", sender="ROOM1")
    with pytest.raises(BusyError, match="too many"):
        busy.take(radiograph(2), source="dicom", sender="ROOM1")
    assert count(database, Image) == 1


def test_a_job_whose_holder_died_is_taken_again_and_ends_once(database: Database, intake: Intake) -> None:
    intake.take(radiograph(), source="dicom", sender="ROOM1")
    (first,) = jobs.take(database, IDENTIFY, "one")
    assert jobs.take(database, IDENTIFY, "two") == []

    with database.writing() as session:  # as if the lease had ended
        session.execute(sa.update(Job).values(lease=now() - timedelta(seconds=1)))
    (second,) = jobs.take(database, IDENTIFY, "two")

    assert (second.id, second.attempts) == (first.id, 2)
    with database.writing() as session:
        assert not jobs.finish(session, first, "one")
        assert jobs.finish(session, second, "two")
        assert not jobs.finish(session, second, "two")


def test_threads_never_take_one_job_twice(database: Database) -> None:
    with database.writing() as session:
        for number in range(40):
            jobs.add(session, "pull", str(number))
    taken: list[int] = []

    def work(holder: str) -> None:
        while found := jobs.take(database, "pull", holder, 3):
            taken.extend(job.id for job in found)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert sorted(taken) == sorted(set(taken))
    assert len(taken) == 40


def test_a_failing_job_waits_longer_each_time_and_is_given_up(database: Database) -> None:
    with database.writing() as session:
        assert jobs.add(session, "pull", "x")
        assert not jobs.add(session, "pull", "x")
    waits = []
    for attempt in range(1, 4):
        (job,) = jobs.take(database, "pull", "one")
        begun = now()
        with database.writing() as session:
            assert jobs.fail(session, job, "one", "the archive\ndoes not answer", most=3) == (attempt == 3)
        with database.writing() as session:
            stood = session.get_one(Job, job.id)
            waits.append((stood.due - begun).total_seconds())
            stood.due = now()
    with database.reading() as session:
        (stuck,) = session.scalars(sa.select(Job))
        assert (stuck.state, stuck.error) == ("stuck", "the archive does not answer")
    assert waits[:2] == pytest.approx([5, 10], abs=1)
    with database.writing() as session:
        assert jobs.retry(session, [stuck.id]) == 1
    assert len(jobs.take(database, "pull", "one")) == 1


def test_the_audit_log_cannot_be_changed(database: Database, intake: Intake) -> None:
    intake.take(radiograph(), source="dicom", sender="ROOM1")
    for statement in (sa.update(Entry).values(who="nobody"), sa.delete(Entry)):
        with pytest.raises(sa.exc.DBAPIError, match="only added to"), database.writing() as session:
            session.execute(statement)
    assert count(database, Entry) == 1


def test_a_database_of_a_later_version_is_refused(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match=r"later version of callus \(9999\)"):
        Database(database.engine.url.render_as_string(hide_password=False))


def test_the_tables_are_those_of_the_migrations(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from callus.service.tables import Table

    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_what_a_crash_left_is_swept(objects: ObjectStore) -> None:
    known, unknown = objects.put(b"known"), objects.put(b"unknown")
    (objects.folder / "incoming" / "tmpabc").write_bytes(b"half")
    fresh = objects.put(b"fresh")
    for file in objects.folder.glob("*/*"):
        if file.name != fresh:
            os.utime(file, (time.time() - 7200,) * 2)

    assert objects.sweep(lambda sha256: sha256 == known) == 2
    assert objects.path(known).exists()
    assert objects.path(fresh).exists()
    assert not objects.path(unknown).exists()


def test_sweeping_that_is_stopped_at_any_moment_deletes_nothing_that_is_named(
    database: Database, intake: Intake, objects: ObjectStore
) -> None:
    for number in range(1, 4):
        intake.take(radiograph(number), source="dicom", sender="ROOM1")
    named = {file.name for file in objects.folder.glob("??/*")}
    unknown = objects.put(b"unknown")
    for file in objects.folder.glob("??/*"):
        os.utime(file, (time.time() - 7200,) * 2)
    for most in range(10):
        left = iter([True] * most)
        sweep(database, objects, lambda left=left: next(left, False))  # type: ignore[misc]
        assert named <= {file.name for file in objects.folder.glob("??/*")}
    assert not objects.path(unknown).exists()
    assert len(named) == 3
