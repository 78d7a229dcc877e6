"""What comes at once, in PostgreSQL: nothing is refused, miscounted or placed without the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clinic import radiograph

from callus.service import jobs
from callus.service.database import Database
from callus.service.intake import Intake, Taken
from callus.service.models import Models
from callus.service.objects import ObjectStore
from callus.service.placing import place_study
from callus.service.tables import RANK, Answer, Image, Job, Study

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


@pytest.fixture
def models(database: Database, tmp_path: Path, tiny_bundle: Path) -> Models:
    opened = Models(database, tmp_path / "models", threads=1)
    opened.begin_with(str(tiny_bundle))
    return opened


@pytest.fixture
def intake(database: Database, objects: ObjectStore, models: Models) -> Intake:
    return Intake(database, objects, waiting_most=500)


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


def test_answers_of_one_study_place_it_by_all_of_them(database: Database, models: Models, intake: Intake) -> None:
    model = models.begin_with("")
    for round_ in range(1, 4):
        images = [
            intake.take(radiograph(100 * round_ + number, study=round_), source="dicom", sender="ROOM1")
            for number in range(THREADS)
        ]

        def answer(number: int, barrier: threading.Barrier, images: list[Taken] = images) -> None:
            level = "fracture" if number == 0 else "none"
            with database.writing() as session:
                image = images[number].image_id
                values: dict[str, Any] = {"boxes": [], "cautions": [], "engine": "", "results": {}}
                probability = 0.9 if level == "fracture" else 0.1
                session.add(Answer(image_id=image, model_id=model, probability=probability, level=level, **values))
                session.flush()
                barrier.wait()  # none sees the others' yet
                place_study(session, images[number].study_id)

        at_once(answer)
        with database.reading() as session:
            study = session.get_one(Study, images[0].study_id)
            assert (study.rank, study.probability) == (RANK["fracture"], 0.9)


def test_a_job_that_many_add_is_one(database: Database) -> None:
    def add(_: int, barrier: threading.Barrier) -> bool:
        with database.writing() as session:
            barrier.wait()
            return jobs.add(session, "pull", "archive 1.2.3")

    assert sum(at_once(add)) == 1
