"""How rows are shown in JSON, to whom."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from callus.service.tables import RANK, UNANSWERED, WAITING, Answer, Image, Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from callus.service.schemas.people import TokenWhole, UserWhole
    from callus.service.schemas.studies import (
        AnsweredBox,
        AnswerWhole,
        BoxInMillimetres,
        ImageLine,
        ImageWhole,
        JobWhole,
        StudyLine,
        VerdictWhole,
    )
    from callus.service.tables import Job, Study, Token, User, Verdict

RANKS: Final = {**RANK, "unanswered": UNANSWERED, "waiting": WAITING}
"""What a study's line in the worklist says, by its place."""
COUNTS: Final = Answer.tried.is_(False)
"""Whether an answer is shown, told and delivered: one of a trial is not, until its model is switched to."""
_NAMES: Final = {rank: name for name, rank in RANKS.items()}
_ANSWERS: Final = (  # once: putting statements together anew was two fifths of what a study's page takes
    sa.select(Answer, Model)
    .join(Model, Model.id == Answer.model_id)
    .where(Answer.image_id.in_(sa.bindparam("images", expanding=True)), COUNTS)
    .order_by(Answer.id)
)


def moment(value: datetime) -> str:
    """A time, in UTC."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def box_in_millimetres(box: AnsweredBox, spacing: Sequence[float]) -> BoxInMillimetres:
    """A box from the picture's upper left corner, in millimetres of the detector or as calibrated.

    Args:
        box: pixels of the image.
        spacing: millimetres between rows, and between columns.
    """
    down, across = spacing
    return {
        "x": box["x"] * across,
        "y": box["y"] * down,
        "width": box["width"] * across,
        "height": box["height"] * down,
        "score": box["score"],
    }


def study_line(study: Study, *, patient: bool) -> StudyLine:
    """A study in the worklist.

    Args:
        study: it.
        patient: whether whose it is may be shown.
    """
    line: StudyLine = {
        "id": study.id,
        "level": _NAMES[study.rank],
        "probability": study.probability,
        "accession": study.accession,
        "date": study.date,
        "images_count": study.images_count,
        "received": moment(study.received),
        "changed": moment(study.changed),
    }
    if patient:
        line["patient"] = {
            "name": study.patient_name,
            "id": study.patient_id,
            "birth_date": study.birth_date,
            "sex": study.sex,
        }
        line["description"] = study.description
        line["uid"] = study.uid
    return line


def image_line(image: Image) -> ImageLine:
    """What an image shows."""
    return {"id": image.id, "body_part": image.body_part, "side": image.side, "view": image.view}


def image_whole(image: Image, *, patient: bool) -> ImageWhole:
    """An image, without its answer. A file's name and a UID may tell whose it is."""
    shown: ImageWhole = {
        "id": image.id,
        "body_part": image.body_part,
        "side": image.side,
        "view": image.view,
        "modality": image.modality,
        "source": image.source,
        "height": image.height,
        "width": image.width,
        "spacing_mm": image.spacing,
        "error": image.error,
        "received": moment(image.received),
    }
    if patient:
        shown["uid"], shown["name"], shown["sender"] = image.uid, image.name, image.sender
    return shown


def answer_whole(answer: Answer, model: Model) -> AnswerWhole:
    """An answer."""
    return {
        "id": answer.id,
        "model": {"id": model.id, "name": model.name, "active": model.state == "active"},
        "probability": answer.probability,
        "level": answer.level,
        "boxes": answer.boxes,
        "cautions": answer.cautions,
        "engine": answer.engine,
        "results": sorted(answer.results),
        "seconds": answer.seconds,
        "made": moment(answer.made),
    }


def verdict_whole(verdict: Verdict, name: str) -> VerdictWhole:
    """A reader's verdict."""
    return {
        "id": verdict.id,
        "by": name,
        "answer": verdict.answer_id,
        "agrees": verdict.agrees,
        "label": verdict.label,
        "boxes": verdict.boxes,
        "comment": verdict.comment,
        "made": moment(verdict.made),
    }


def job_whole(job: Job) -> JobWhole:
    """A job, for people who look after it."""
    return {
        "id": job.id,
        "kind": job.kind,
        "image": job.image_id,
        "destination": job.about.get("destination"),
        "state": job.state,
        "attempts": job.attempts,
        "error": job.error,
        "made": moment(job.made),
        "due": moment(job.due),
    }


def user_whole(user: User) -> UserWhole:
    """An account."""
    return {
        "id": user.id,
        "name": user.name,
        "role": user.role,
        "disabled": user.disabled,
        "openid": user.subject is not None,
        "made": moment(user.made),
    }


def token_whole(token: Token, name: str) -> TokenWhole:
    """A token, without its secret."""
    return {
        "id": token.id,
        "name": token.name,
        "user": name,
        "scopes": token.scopes,
        "made": moment(token.made),
        "used": None if token.used is None else moment(token.used),
        "ends": None if token.ends is None else moment(token.ends),
        "revoked": None if token.revoked is None else moment(token.revoked),
    }


def current_answers(session: Session, image_ids: Iterable[int]) -> dict[int, tuple[Answer, Model]]:
    """The answer that counts for each image: the active model's, else the newest that was not made in a trial.

    Args:
        session: any.
        image_ids: the images.
    """
    chosen: dict[int, tuple[Answer, Model]] = {}
    for answer, model in session.execute(_ANSWERS, {"images": list(image_ids)}):
        there = chosen.get(answer.image_id)
        if there is None or there[1].state != "active":
            chosen[answer.image_id] = (answer, model)
    return chosen
