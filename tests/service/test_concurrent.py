"""What comes at once, in PostgreSQL: nothing is refused, miscounted or placed without the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clinic import opened, radiograph, wait_for_a_lock
from sqlalchemy.orm import Session

from callus.bundle import Bundle
from callus.service import jobs, placing
from callus.service.accounts import accept, add_user, first_key
from callus.service.database import Database
from callus.service.intake import Intake, Taken
from callus.service.models import Models
from callus.service.openid import OpenId
from callus.service.refusals import ClashError
from callus.service.settings import OpenIdConnect
from callus.service.shown import current_answers
from callus.service.tables import RANK, Answer, Image, Job, Model, Study

THREADS = 8
pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time


def at_once(work: Callable[[int, threading.Barrier], Any]) -> list[Any]:
    """Have some threads do something, each with its number and a barrier that all meet at; what they return."""
    barrier, results, errors = threading.Barrier(THREADS, timeout=60), list[Any](), list[BaseException]()

    def one(number: int) -> None:
        try:
            results.append(work(number, barrier))
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    return results


def take(intake: Intake, barrier: threading.Barrier, data: bytes) -> Taken:
    barrier.wait()
    return intake.take(data, source="dicom", sender="ROOM1")


def test_the_first_images_of_a_study_are_one_study(database: Database, intake: Intake) -> None:
    for study in range(1, 4):
        files = [radiograph(100 * study + number, study=study) for number in range(THREADS)]
        taken = at_once(lambda number, barrier, files=files: take(intake, barrier, files[number]))
        assert len({one.study_id for one in taken}) == 1
        assert all(one.is_new for one in taken)
    with database.reading() as session:
        assert session.scalars(sa.select(Study.images_count)).all() == [THREADS] * 3


def test_the_same_object_from_many_is_taken_once(database: Database, intake: Intake) -> None:
    for number in range(1, 4):
        data = radiograph(number)
        taken = at_once(lambda _, barrier, data=data: take(intake, barrier, data))
        assert sum(one.is_new for one in taken) == 1
        assert len({one.image_id for one in taken}) == 1
    with database.reading() as session:
        assert len(session.scalars(sa.select(Image)).all()) == 3
        assert len(session.scalars(sa.select(Job)).all()) == 3
        assert session.scalar(sa.select(Study.images_count)) == 3


def test_answers_of_one_study_place_it_by_all_of_them(
    database: Database, models: Models, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_slowly(session: Session, numbers: list[int]) -> Any:
        found = current_answers(session, numbers)
        time.sleep(0.1 if any(answer.level == "fracture" for answer, _ in found.values()) else 0.4)
        return found

    monkeypatch.setattr(placing, "current_answers", read_slowly)
    model = models.begin_with("")
    images = [
        intake.take(radiograph(number), source="dicom", sender="ROOM1").image_id for number in range(1, THREADS + 1)
    ]

    def answer(number: int, barrier: threading.Barrier) -> None:
        level, probability = ("fracture", 0.9) if number == 0 else ("none", 0.1)
        values: dict[str, Any] = {"boxes": [], "cautions": [], "engine": "", "results": {}}
        with database.writing() as session:
            image = session.get_one(Image, images[number])
            session.add(Answer(image_id=image.id, model_id=model, probability=probability, level=level, **values))
            session.flush()
            barrier.wait()  # none sees the others' yet
            placing.place_study(session, image.study_id)

    at_once(answer)
    with database.reading() as session:
        (study,) = session.scalars(sa.select(Study))
        assert (study.rank, study.probability) == (RANK["fracture"], 0.9)


@pytest.mark.parametrize("what", ["jobs", "images"])
def test_what_is_tried_again_while_its_study_is_deleted_is_gone(
    database: Database, tmp_path: Path, tiny_bundle: Path, what: str
) -> None:
    with opened(tmp_path / "data", tiny_bundle, database) as clinic, ThreadPoolExecutor(1) as threads:
        (taken,) = clinic.sent(radiograph(), answered=False)
        (job,) = clinic.rows(Job)
        with database.writing() as session:
            session.execute(sa.update(Job).values(state="stuck"))
            placing.leave_unanswered(session, taken["image"], "no memory")
        number = job.id if what == "jobs" else taken["image"]
        with database.writing() as session:
            placing.hold_study(session, taken["study"])  # as deleting begins
            trying = threads.submit(clinic.administrator.post, f"/{what}/{number}/retry")
            wait_for_a_lock(database)
            session.execute(sa.delete(Study))  # its images and their jobs go with it
        assert trying.result(60).status_code == 404


def test_a_job_that_many_add_is_one(database: Database) -> None:
    def add(_: int, barrier: threading.Barrier) -> bool:
        with database.writing() as session:
            barrier.wait()
            return jobs.add(session, "pull", "archive 1.2.3")

    assert sum(at_once(add)) == 1


@pytest.mark.parametrize("what", ["verdict", "trial"])
def test_what_a_study_gets_while_it_is_deleted_goes_with_it(
    database: Database, tmp_path: Path, tiny_bundle: Path, what: str
) -> None:
    with opened(tmp_path / "data", tiny_bundle, database) as clinic, ThreadPoolExecutor(1) as threads:
        (taken,) = clinic.sent(radiograph(), answered=False)
        with database.writing() as session:
            session.add(Model(name="other", digest="1" * 64, path="other"))
        path, given, said = {
            "verdict": (f"/images/{taken['image']}/verdict", {"label": 1}, 404),
            "trial": ("/models/2/trial", {"last": 1}, 202),
        }[what]
        with database.writing() as session:
            session.execute(sa.delete(Study))
            asking = threads.submit(clinic.administrator.post, path, given)
            if what == "verdict":
                wait_for_a_lock(database)
            else:  # which does not wait
                assert asking.result(60).json() == {"waiting": 0}
        assert asking.result(60).status_code == said
        assert clinic.rows(Image) == []


@pytest.mark.parametrize("name", ["Ada", "aDA"])
def test_two_who_choose_a_name_at_once_do_not_both_have_it(database: Database, name: str) -> None:
    key = first_key(database) or ""
    with ThreadPoolExecutor(1) as threads:
        with database.writing() as session:
            add_user(session, "Ada", "reader")
            second = threads.submit(accept, database, key, name, "correct horse battery", first=True, address="")
            wait_for_a_lock(database)
        with pytest.raises(ClashError):
            second.result(60)


def test_who_comes_from_the_provider_twice_at_once_has_one_account(database: Database) -> None:
    provider = OpenId(OpenIdConnect("https://login.example", "callus"))
    claims = {"iss": "https://login.example", "sub": "1", "preferred_username": "ada", "roles": "reader"}
    with ThreadPoolExecutor(1) as threads:
        with database.writing() as session:
            first = add_user(session, "ada", "reader", subject="https://login.example 1")
            second = threads.submit(provider.account, database, claims, "10.0.0.1")
            wait_for_a_lock(database)
        assert second.result(60).id == first.id


def test_a_model_that_two_put_in_at_once_is_one(database: Database, tmp_path: Path, tiny_bundle: Path) -> None:
    models = Models(database, tmp_path, threads=1)
    digest = Bundle.load(tiny_bundle).digest
    with ThreadPoolExecutor(1) as threads:
        with database.writing() as session:
            database.hold(session, f"model {digest}")
            session.add(first := Model(name="tiny", digest=digest, path=digest[:16]))
            session.flush()
            second = threads.submit(models.add, tiny_bundle)
            wait_for_a_lock(database)
        assert second.result(60) == first.id
