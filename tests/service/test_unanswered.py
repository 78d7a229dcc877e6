"""What gets no answer: because of the file, or of something that passes; and that it can be tried again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import simulated_dicom
import sqlalchemy as sa
from clinic import Clinic, picture, radiograph
from pydicom.uid import RLELossless
from tiny_bundle import write_tiny_bundle

from callus.identify import Identifier
from callus.radiograph import apart
from callus.service import jobs
from callus.service.tables import Answer, Entry, Image, Job, now


def compressed() -> bytes:
    """A radiograph whose pixels a process of their own decodes."""
    data = simulated_dicom.simulated(SOPInstanceUID="1.2.276.0.9.1", StudyInstanceUID="1.2.276.0.8.1")
    data.compress(RLELossless, generate_instance_uid=False)
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def due_now(clinic: Clinic) -> None:
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).values(due=now()))


def image_of(clinic: Clinic, taken: dict[str, Any]) -> dict[str, Any]:
    (image,) = clinic.reader.get(f"/studies/{taken['study']}").json()["images"]
    shown: dict[str, Any] = image
    return shown


def test_a_decoder_that_fails_for_a_while_costs_no_radiograph(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    apart._end_idle()
    with monkeypatch.context() as patched:
        patched.setattr(apart, "_SERVE", "import os; os.kill(os.getpid(), 9)")  # as where memory is short
        (taken,) = clinic.sent(compressed(), answered=False)
        clinic.parts.start()
        clinic.until(lambda: clinic.rows(Job, Job.attempts == 1, Job.state == "waiting"))
    assert "signal 9" in clinic.rows(Job)[0].error
    assert image_of(clinic, taken)["error"] == ""
    due_now(clinic)
    clinic.answer()
    assert image_of(clinic, taken)["answer"] is not None


def test_what_cannot_be_looked_at_just_now_is_no_other_object(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    uids = {"SOPInstanceUID": "1.2.276.0.9.1", "StudyInstanceUID": "1.2.276.0.8.1"}
    (taken,) = clinic.sent(simulated_dicom.as_bytes(simulated_dicom.simulated(**uids)), answered=False)
    apart._end_idle()
    with monkeypatch.context() as patched:
        patched.setattr(apart, "_SERVE", "import os; os.kill(os.getpid(), 9)")  # as where memory is short
        answer = clinic.radiologist.send(compressed())
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]
    assert [(one["image"], one["new"]) for one in clinic.sent(compressed(), answered=False)] == [
        (taken["image"], False)
    ]


def test_a_picture_that_cannot_be_decoded_just_now_says_so(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = clinic.sent(compressed(), answered=False)
    apart._end_idle()
    with monkeypatch.context() as patched:
        patched.setattr(apart, "_SERVE", "import os; os.kill(os.getpid(), 9)")
        for picture in ("frame.png", "frame.bin"):
            assert clinic.reader.get(f"/images/{taken['image']}/{picture}").status_code == 503
    assert clinic.reader.get(f"/images/{taken['image']}/frame.png").status_code == 200


def test_an_unanswered_radiograph_is_tried_again(clinic: Clinic) -> None:
    (taken,) = clinic.sent(radiograph(), answered=False)
    file = clinic.parts.objects.path(clinic.rows(Image)[0].sha256)
    file.rename(away := file.with_suffix(".away"))
    clinic.answer()
    assert "no such file" in image_of(clinic, taken)["error"]
    assert clinic.reader.get("/studies").json()["studies"][0]["level"] == "unanswered"
    away.rename(file)

    assert clinic.nobody.post(f"/images/{taken['image']}/retry").status_code == 401
    assert clinic.program("reader", "read").post(f"/images/{taken['image']}/retry").status_code == 403
    assert clinic.reader.post("/images/99/retry").status_code == 404
    assert clinic.reader.post(f"/images/{taken['image']}/retry").status_code == 202
    assert [entry.what for entry in clinic.rows(Entry, Entry.did == "retried")] == [f"image {taken['image']}"]
    clinic.answer()

    assert image_of(clinic, taken)["answer"] is not None
    assert clinic.reader.get("/studies").json()["studies"][0]["level"] == "fracture"
    assert clinic.reader.post(f"/images/{taken['image']}/retry").status_code == 409
    assert len(clinic.rows(Job)) == 1


def test_it_is_tried_by_the_model_that_is_active_now(clinic: Clinic, tmp_path: Path) -> None:
    (taken,) = clinic.sent(radiograph(), answered=False)
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).values(state="stuck", error="the network failed", attempts=5))
        session.execute(sa.update(Image).values(error="the network failed"))
    other = clinic.parts.models.add(write_tiny_bundle(tmp_path / "other", name="other"))
    assert clinic.administrator.post(f"/models/{other}/switch").status_code == 200

    assert clinic.reader.post(f"/images/{taken['image']}/retry").status_code == 202
    clinic.answer()

    assert image_of(clinic, taken)["answer"]["model"]["id"] == other
    assert [job.state for job in clinic.rows(Job)] == ["dropped", "done"]


def test_what_an_administrator_has_tried_again_waits(clinic: Clinic) -> None:
    (taken,) = clinic.sent(radiograph(), answered=False)
    (job,) = clinic.rows(Job)
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).values(state="stuck", error="the network failed", attempts=5))
        session.execute(sa.update(Image).values(error="the network failed"))
    assert clinic.administrator.post(f"/jobs/{job.id}/retry").status_code == 200
    assert image_of(clinic, taken)["error"] == ""
    assert clinic.reader.get("/studies").json()["studies"][0]["level"] == "waiting"


def test_what_goes_wrong_unforeseen_does_not_end_the_answering(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[object] = []

    def fails(*_: object, **__: object) -> None:
        failed.append(None)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(Identifier, "identify_many", fails)
        (taken,) = clinic.sent(radiograph(), answered=False)
        clinic.parts.start()
        clinic.until(lambda: clinic.rows(Job, Job.attempts == 1, Job.state == "waiting"))  # at once, not a lease later
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "take", fails)
        clinic.until(lambda: len(failed) > 3)
    assert clinic.parts.answering.is_alive()
    due_now(clinic)
    clinic.answer()
    assert image_of(clinic, taken)["answer"] is not None


def test_equal_pictures_of_different_studies_are_answered_together(clinic: Clinic) -> None:
    data = picture()
    for study in ("1.2.3", "1.2.4"):
        clinic.parts.intake.take(data, source="upload", sender="ada", study_uid=study)
    clinic.answer()
    assert len({answer.image_id for answer in clinic.rows(Answer)}) == 2
    assert [job.attempts for job in clinic.rows(Job)] == [1, 1]  # none had to wait for its lease's end
