"""A study's place in the worklist: by the answers that count to its images, and by those that get none.

Whatever changes a study holds its row first: PostgreSQL lets two answers of one study come at once, and each would
place it without the other's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from callus.service import changes, jobs
from callus.service.jobs import IDENTIFY, TRY
from callus.service.refusals import ClashError, MissingError
from callus.service.shown import current_answers
from callus.service.tables import RANK, UNANSWERED, WAITING, Answer, Image, Job, Model, Study, now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from callus.service.database import Database

_KILLED: Final = "the service ended each time while this was done"


def hold_study(session: Session, study_id: int) -> None:
    """Have others who change a study wait until this transaction ends; SQLite has one writer anyhow."""
    session.execute(sa.select(Study.id).where(Study.id == study_id).with_for_update())


def held_image(session: Session, image_id: int | None) -> Image | None:
    """An image as it is once its study is held; None where there is none, or it was deleted meanwhile."""
    study_id = session.scalar(sa.select(Image.study_id).where(Image.id == image_id))
    if study_id is None:
        return None
    hold_study(session, study_id)
    return session.scalar(sa.select(Image).where(Image.id == image_id).execution_options(populate_existing=True))


def place_study(session: Session, study_id: int, *, changed: bool = True) -> None:
    """Give a study its place in the worklist, by the answers that count to its images.

    Args:
        session: a writing one.
        study_id: the study.
        changed: whether something came, by which it is newer than others.
    """
    hold_study(session, study_id)
    images = session.execute(sa.select(Image.id, Image.error).where(Image.study_id == study_id)).all()
    current = current_answers(session, [number for number, _ in images])
    answers = [answer for answer, _ in current.values()]
    ranks = [RANK[answer.level] for answer in answers]
    if any(error for _, error in images):
        ranks.append(UNANSWERED)
    rank = max(ranks, default=WAITING)
    if rank == RANK["none"] and any(number not in current for number, _ in images):
        rank = WAITING  # the views that are still to be answered may show what these do not
    probability = max((answer.probability for answer in answers), default=None)
    values: dict[str, Any] = {"rank": rank, "probability": None if rank == WAITING else probability}
    if changed:
        values["changed"] = now()
    session.execute(sa.update(Study).where(Study.id == study_id).values(**values))


def leave_unanswered(session: Session, image_id: int, why: str) -> None:
    """Have the worklist say that an image gets no answer.

    Args:
        session: a writing one.
        image_id: the image; that it is gone is no error, nor that another model's answer counts meanwhile.
        why: for people.
    """
    image = held_image(session, image_id)
    if image is not None and not current_answers(session, [image_id]):
        image.error = why
        place_study(session, image.study_id)
        changes.note(session, image.study_id, "unanswered", image.id)


def give_up_killers(database: Database, *, most: int) -> None:
    """Give up, when the service starts, the radiographs at which it was killed too often in a row.

    Nothing else kills it each time: a delivery that waits for an archive is tried again, however often that is.

    Args:
        database: where the jobs are.
        most: kills after which a radiograph is taken for their cause.
    """
    with database.writing() as session:
        deadly = sa.and_(Job.kind.in_((IDENTIFY, TRY)), Job.state == "waiting", Job.killed >= most)
        for job in session.scalars(sa.select(Job).where(deadly).order_by(Job.id)).all():
            job.state, job.error = "stuck", _KILLED
            if job.kind == IDENTIFY and job.image_id is not None:
                leave_unanswered(session, job.image_id, _KILLED)


def have_waiting(session: Session, image: Image) -> None:
    """Have the worklist say that an image, whose study is held, waits for its answer again."""
    image.error = ""
    place_study(session, image.study_id)
    changes.note(session, image.study_id, "waiting", image.id)


def try_again(session: Session, image_id: int) -> None:
    """Have an image that got no answer answered after all, by the model that is active now.

    Args:
        session: a writing one.
        image_id: the image.

    Raises:
        MissingError: there is no such image.
        ClashError: it has an answer, or waits for one.
    """
    image = held_image(session, image_id)
    if image is None:
        raise MissingError("there is no such image")
    active = session.scalar(sa.select(Model.id).where(Model.state == "active"))
    if not image.error or active is None:
        raise ClashError("this radiograph has an answer, or waits for one")
    key, about = f"{image.id} {active}", {"model": active}
    there = sa.select(Answer.id).where(Answer.image_id == image.id, Answer.model_id == active)
    if session.scalar(there) is None and not jobs.add(session, IDENTIFY, key, image_id=image.id, about=about):
        jobs.renew_ended(session, IDENTIFY, key)
    others = sa.and_(Job.kind == IDENTIFY, Job.image_id == image.id, Job.key != key, Job.state == "stuck")
    session.execute(sa.update(Job).where(others).values(state="dropped", finished=now()))
    have_waiting(session, image)
