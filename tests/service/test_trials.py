"""A trial shows nothing and hides nothing, whatever the model was before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from clinic import Clinic, radiograph
from tiny_bundle import packed_blind_bundle, write_tiny_bundle

from callus.service import jobs
from callus.service.database import Database
from callus.service.placing import leave_unanswered
from callus.service.shown import current_answers
from callus.service.tables import Answer, Image, Job, Model, Study, now


def test_a_model_that_was_active_keeps_its_answers_while_it_is_tried(clinic: Clinic, tmp_path: Path) -> None:
    (first,) = clinic.sent(radiograph(1))
    old = clinic.rows(Answer)[0].model_id
    (packed := tmp_path / "other.callus").write_bytes(packed_blind_bundle(tmp_path))
    new = clinic.parts.models.add(packed)
    admin = clinic.administrator
    assert admin.post(f"/models/{new}/switch").status_code == 200
    (second,) = clinic.sent(radiograph(2, study=2))
    before = clinic.reader.get("/studies").json()["studies"]
    levels = {line["id"]: line["level"] for line in before}
    assert levels == {first["study"]: "fracture", second["study"]: "none"}
    assert clinic.radiologist.post(f"/images/{first['image']}/verdict", {"agrees": True}).status_code == 201

    assert admin.post(f"/models/{old}/trial", {"last": 200}).json() == {"waiting": 1}
    for answered in (False, True):
        if answered:
            clinic.answer()
        assert {model["id"]: model["state"] for model in admin.get("/models").json()["models"]} == {
            old: "retired",
            new: "active",
        }
        assert clinic.reader.get("/studies").json()["studies"] == before
        for one, by in ((first, old), (second, new)):
            (image,) = clinic.reader.get(f"/studies/{one['study']}").json()["images"]
            assert image["answer"]["model"]["id"] == by
            for file in ("overlay.png", "sr.dcm", "report.fhir.json"):
                assert clinic.radiologist.get(f"/images/{one['image']}/{file}").status_code == 200
    (verdict,) = clinic.reader.get(f"/studies/{first['study']}").json()["images"][0]["verdicts"]
    assert verdict["answer"] is not None
    told = admin.get(f"/models/{old}/trial").json()
    assert (told["answered"], told["levels"]) == (1, {"none": {"fracture": 1}})
    assert [(answer.model_id, answer.tried) for answer in clinic.rows(Answer)] == [
        (old, False),
        (new, False),
        (old, True),
    ]

    third = clinic.parts.models.add(write_tiny_bundle(tmp_path / "third", name="third"))
    assert admin.post(f"/models/{third}/switch").status_code == 200
    assert {line["id"]: line["level"] for line in clinic.reader.get("/studies").json()["studies"]} == levels
    assert admin.post(f"/models/{old}/switch").status_code == 200
    assert {line["level"] for line in clinic.reader.get("/studies").json()["studies"]} == {"fracture"}
    assert not clinic.rows(Answer, Answer.tried)


def test_a_model_that_never_was_active_is_on_trial(clinic: Clinic, tmp_path: Path) -> None:
    (taken,) = clinic.sent(radiograph(1))
    other = clinic.parts.models.add(write_tiny_bundle(tmp_path / "other", name="other"))
    clinic.administrator.post(f"/models/{other}/trial", {"last": 5})
    clinic.answer()
    states = {model["id"]: model["state"] for model in clinic.administrator.get("/models").json()["models"]}
    assert states[other] == "trial"
    (image,) = clinic.reader.get(f"/studies/{taken['study']}").json()["images"]
    assert image["answer"]["model"]["id"] != other


def test_a_trial_answers_nothing_that_has_no_answer_until_it_is_switched_to(clinic: Clinic, tmp_path: Path) -> None:
    """The active model fails at an image, and is given up, while another is tried on it."""
    (taken,) = clinic.sent(radiograph(1), answered=False)
    (job,) = clinic.rows(Job)
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).values(due=now() + timedelta(hours=1)))
    other = clinic.parts.models.add(write_tiny_bundle(tmp_path / "other", name="other"))
    assert clinic.administrator.post(f"/models/{other}/trial", {"last": 5}).json() == {"waiting": 1}

    def give_up() -> None:
        with clinic.parts.database.writing() as session:
            session.execute(sa.update(Job).where(Job.id == job.id).values(state="stuck"))
            leave_unanswered(session, taken["image"], "no memory")

    def shown() -> tuple[str, str, Any]:
        (line,) = clinic.reader.get("/studies").json()["studies"]
        (image,) = clinic.reader.get(f"/studies/{taken['study']}").json()["images"]
        return line["level"], image["error"], image["answer"] and image["answer"]["model"]["id"]

    give_up()
    clinic.answer()
    assert [(answer.model_id, answer.tried) for answer in clinic.rows(Answer)] == [(other, True)]
    assert shown() == ("unanswered", "no memory", None)

    assert clinic.administrator.post(f"/models/{other}/switch").status_code == 200
    assert shown() == ("fracture", "", other)
    assert clinic.reader.post(f"/images/{taken['image']}/retry").status_code == 409
    give_up()  # later still: it has an answer that counts
    assert shown() == ("fracture", "", other)


def test_what_got_no_answer_is_tried_again_though_another_model_was_tried_on_it(clinic: Clinic, tmp_path: Path) -> None:
    (taken,) = clinic.sent(radiograph(1), answered=False)
    other = clinic.parts.models.add(write_tiny_bundle(tmp_path / "other", name="other"))
    clinic.administrator.post(f"/models/{other}/trial", {"last": 5})
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).where(Job.kind == jobs.IDENTIFY).values(state="stuck"))
        leave_unanswered(session, taken["image"], "no memory")
    clinic.answer()
    assert clinic.reader.post(f"/images/{taken['image']}/retry").status_code == 202
    clinic.answer()
    assert clinic.reader.get("/studies").json()["studies"][0]["level"] == "fracture"


def test_what_a_trial_hid_before_is_shown_after_the_migration(database: Database) -> None:
    """A database of before: the model is on trial, and has answers from when it was active."""
    with database.writing() as session:
        session.add(Model(id=1, name="old", digest="old", path="old", state="trial"))
        session.add(Study(id=1, uid="1.2.3"))
        for number, kind in ((1, jobs.IDENTIFY), (2, jobs.TRY)):
            session.add(Image(id=number, study_id=1, uid=f"1.2.{number}", sha256="", bytes=1, source="dicom"))
            session.flush()
            values: dict[str, Any] = {"boxes": [], "cautions": [], "engine": "", "results": {}}
            session.add(Answer(id=number, image_id=number, model_id=1, probability=0.9, level="fracture", **values))
            jobs.add(session, kind, f"{number} 1", image_id=number)
    with database.engine.begin() as connection:
        for line in (
            "ALTER TABLE answers DROP COLUMN tried",
            "ALTER TABLE jobs DROP COLUMN killed",
            "DROP TABLE changes",
            "DROP TABLE pair",
            "UPDATE alembic_version SET version_num = '0002'",
        ):
            connection.execute(sa.text(line))

    migrated = Database(database.engine.url.render_as_string(hide_password=False))

    with migrated.reading() as session:
        answers = session.scalars(sa.select(Answer).order_by(Answer.id)).all()
        assert [answer.tried for answer in answers] == [False, True]
        assert list(current_answers(session, [1, 2])) == [1]
        assert [job.killed for job in session.scalars(sa.select(Job))] == [0, 0]
    migrated.close()
