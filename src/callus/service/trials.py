"""A new model beside the old one: tried on radiographs that came before, then switched to, and back."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from callus.service import audit, jobs
from callus.service.jobs import TRY
from callus.service.placing import hold_study, place_study
from callus.service.refusals import ClashError, MissingError
from callus.service.shown import current_answers, moment
from callus.service.tables import Answer, Image, Job, Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from callus.service.database import Database
    from callus.service.models import Models
    from callus.service.schemas.running import Changed, ModelWhole, Tried

MOST: Final = 10_000
"""Radiographs that a model is tried on at once."""
_SHOWN: Final = 1000
_AT_ONCE: Final = 200


def all_models(session: Session) -> list[ModelWhole]:
    """The models, as they are shown."""
    counts = dict(session.execute(sa.select(Answer.model_id, sa.func.count()).group_by(Answer.model_id)).all())
    return [
        {
            "id": model.id,
            "name": model.name,
            "digest": model.digest,
            "state": model.state,
            "added": moment(model.added),
            "answers": counts.get(model.id, 0),
        }
        for model in session.scalars(sa.select(Model).order_by(Model.id))
    ]


def begin_trial(database: Database, number: int, last: int, *, who: str, address: str = "") -> int:
    """Have a model answer the radiographs that came last, beside the answers that they have.

    Args:
        database: where.
        number: the model's.
        last: how many radiographs.
        who: on whose account.
        address: where the request came from.

    Returns:
        How many it has not answered yet.

    Raises:
        MissingError: there is no such model.
        ClashError: it is the active one.
    """
    with database.writing() as session:
        model = _model(session, number)
        if model.state == "active":
            raise ClashError("this model answers already")
        counting = sa.select(Answer.id).where(Answer.model_id == number, Answer.tried.is_(False))
        if session.scalar(counting.limit(1)) is None:  # else it was active once, and its answers of then count on
            model.state = "trial"
        answered = sa.select(Answer.image_id).where(Answer.model_id == number)
        images = session.scalars(
            sa.select(Image.id)
            .where(Image.error == "", Image.id.not_in(answered))
            .order_by(Image.id.desc())
            .limit(min(last, MOST))
            .with_for_update(read=True, key_share=True, skip_locked=True)  # not those that are being deleted
        ).all()
        for image_id in images:
            jobs.add(session, TRY, f"{image_id} {number}", image_id=image_id, about={"model": number})
        audit.note(session, who=who, did="tried", what=f"model {number} on {len(images)} images", address=address)
        return len(images)


def trial(session: Session, number: int) -> Tried:
    """What a model changes: how many levels from what to what, and of which images.

    Args:
        session: any.
        number: the model's.

    Raises:
        MissingError: there is no such model.
    """
    _model(session, number)
    levels: Counter[tuple[str, str]] = Counter()
    changes: list[Changed] = []
    answered = 0
    for some in _pages(session, number):
        before = current_answers(session, [answer.image_id for answer, _ in some])
        for answer, study_id in some:
            if answer.image_id not in before:
                continue
            old = before[answer.image_id][0]
            if old.id == answer.id:  # it was active when this image came
                continue
            answered += 1
            levels[old.level, answer.level] += 1
            if old.level != answer.level:
                changes.append(
                    {
                        "image": answer.image_id,
                        "study": study_id,
                        "from": {"level": old.level, "probability": old.probability},
                        "to": {"level": answer.level, "probability": answer.probability},
                    }
                )
    changes.sort(key=lambda one: -abs(one["to"]["probability"] - one["from"]["probability"]))
    nested: dict[str, dict[str, int]] = {}
    for (old_level, new_level), count in sorted(levels.items()):
        nested.setdefault(old_level, {})[new_level] = count
    states = _states(session, number)
    return {
        "model": number,
        "waiting": states["waiting"] + states["taken"],
        "failed": states["stuck"],
        "answered": answered,
        "changed": len(changes),
        "levels": nested,
        "changes": changes[:_SHOWN],
    }


def switch(database: Database, models: Models, number: int, *, who: str, address: str = "") -> None:
    """Have a model answer what comes from now on. Its answers from the trial count, and so do older ones of others.

    Args:
        database: where.
        models: what runs them.
        number: the model's.
        who: on whose account.
        address: where the request came from.

    Raises:
        MissingError: there is no such model.
        CallusError: it cannot be loaded; the old one goes on.
    """
    with database.reading() as session:
        _model(session, number)
    models.identifier(number)
    with database.writing() as session:
        session.execute(sa.select(Model.id).with_for_update()).all()
        session.execute(sa.update(Model).where(Model.state == "active").values(state="retired"))
        session.execute(sa.update(Model).where(Model.id == number).values(state="active"))
        session.execute(sa.update(Answer).where(Answer.model_id == number, Answer.tried).values(tried=False))
        audit.note(session, who=who, did="switched", what=f"to model {number}", address=address)
    # Elsewhere the same answer counts as before.
    several = sa.select(Answer.image_id).group_by(Answer.image_id).having(sa.func.count() > 1)
    its = sa.select(Answer.image_id).where(Answer.model_id == number)
    with database.reading() as session:
        studies = session.scalars(
            sa.select(Image.study_id)
            .where(sa.or_(Image.id.in_(several), Image.id.in_(its)))
            .distinct()
            .order_by(Image.study_id)
        ).all()
    for begin in range(0, len(studies), _AT_ONCE):
        with database.writing() as session:
            for study_id in studies[begin : begin + _AT_ONCE]:
                hold_study(session, study_id)
                answered = sa.and_(Image.study_id == study_id, Image.error != "", Image.id.in_(its))
                session.execute(sa.update(Image).where(answered).values(error=""))
                place_study(session, study_id, changed=False)


def _model(session: Session, number: int) -> Model:
    model = session.get(Model, number)
    if model is None:
        raise MissingError("there is no such model")
    return model


def _pages(session: Session, number: int) -> Iterator[list[tuple[Answer, int]]]:
    after = 0
    while True:
        some = [
            (answer, study_id)
            for answer, study_id in session.execute(
                sa.select(Answer, Image.study_id)
                .join(Image)
                .where(Answer.model_id == number, Answer.id > after)
                .order_by(Answer.id)
                .limit(_AT_ONCE)
            )
        ]
        if not some:
            return
        yield some
        after = some[-1][0].id


def _states(session: Session, number: int) -> Counter[str]:
    keys = sa.select(Job.state, sa.func.count()).where(Job.kind == TRY, Job.key.endswith(f" {number}"))
    return Counter(dict(session.execute(keys.group_by(Job.state)).all()))
