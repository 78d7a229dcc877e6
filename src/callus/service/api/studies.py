"""The worklist, and one study."""

import tempfile
from collections.abc import Iterator
from typing import IO, Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.background import BackgroundTask

from callus.labels import RESEARCH_ONLY
from callus.service import audit
from callus.service.access import Who
from callus.service.api.common import API, NO_NUL, Administrator, Body, Number, Reader, Service, Time
from callus.service.deletion import delete_studies
from callus.service.parts import Parts
from callus.service.refusals import MissingError
from callus.service.responses import refused
from callus.service.schemas.running import Nothing
from callus.service.schemas.studies import ImageAnswered, StudyWhole, VerdictWhole, Worklist
from callus.service.shown import (
    answer_whole,
    current_answers,
    image_whole,
    job_whole,
    study_line,
    verdict_whole,
)
from callus.service.tables import Image, Job, Study, User, Verdict
from callus.service.worklist import MOST, Wanted, worklist

router = APIRouter(prefix=API, tags=["studies"])
Level = Literal["fracture", "doubt", "unanswered", "none", "waiting"]
Cursor = Annotated[str, Field(max_length=200, description="next of the page before; empty for the first page")]
Limit = Annotated[int, Field(ge=1, le=MOST, description="studies on the page")]
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {}}, "description": "the radiographs, and the findings as JSON"},
    **refused(404),
}
_IMAGES = sa.select(Image).where(Image.study_id == sa.bindparam("study")).order_by(Image.id)
_VERDICTS = (
    sa.select(Verdict, User.name)
    .join(User)
    .where(Verdict.image_id.in_(sa.bindparam("images", expanding=True)))
    .order_by(Verdict.id)
)
_STUCK = (
    sa.select(Job)
    .where(Job.image_id.in_(sa.bindparam("images", expanding=True)), Job.state == "stuck")
    .order_by(Job.id)
)
_FIRST = "the first day on which studies came, UTC; or the instant from which on they came"
_LAST = "the last day on which studies came, UTC; or the instant before which they came"
_IN_MEMORY = 8 << 20
_PIECE = 1 << 18


class Search(Body):
    """Which studies."""

    text: Annotated[
        str,
        Field(max_length=100, pattern=NO_NUL, description="words that are all to be found; empty for all studies"),
    ]
    level: Annotated[Level | None, Field(description="the worst among a study's images; null for any")] = None
    first: Annotated[Time | None, Field(alias="from", description=_FIRST)] = None
    last: Annotated[Time | None, Field(alias="to", description=_LAST)] = None
    before: Cursor = ""
    limit: Limit = 50


@router.get("/studies")
def studies(
    parts: Service,
    who: Reader,
    level: Level | None = None,
    first: Annotated[Time | None, Query(alias="from", description=_FIRST)] = None,
    last: Annotated[Time | None, Query(alias="to", description=_LAST)] = None,
    before: Annotated[Cursor, Query()] = "",
    limit: Annotated[Limit, Query()] = 50,
    text: Annotated[str, Query(deprecated=True, max_length=0, description="see POST /studies/search")] = "",
) -> Worklist:
    """The worklist: fracture, doubt, unanswered, none seen, waiting; the newest first within each.

    ``from`` and ``to`` bound when studies came: by days in UTC, or by instants, as of a day elsewhere. ``before`` is
    the ``next`` of the page before.
    """
    return _page(parts, who, Wanted(level, text, first, last, before, limit))


@router.post("/studies/search")
def search(given: Search, parts: Service, who: Reader) -> Worklist:
    """The worklist's studies that hold some words: in accession numbers, and where patients are shown in theirs.

    The words come in the body, because what stands in an address stands in many a log.
    """
    return _page(parts, who, Wanted(given.level, given.text, given.first, given.last, given.before, given.limit))


@router.get("/studies/{number}", response_model=StudyWhole, responses=refused(404))
def study(number: Number, parts: Service, who: Reader) -> JSONResponse:
    """A study: its images, the answer that counts for each, verdicts, and what is stuck."""
    with parts.database.reading() as session:
        found = session.get(Study, number)
        if found is None:
            raise _missing()
        line = study_line(found, patient=who.sees_patients)
        images = session.scalars(_IMAGES, {"study": number}).all()
        ids = [image.id for image in images]
        answers = current_answers(session, ids)
        verdicts: dict[int, list[VerdictWhole]] = {image_id: [] for image_id in ids}
        for verdict, name in session.execute(_VERDICTS, {"images": ids}):
            verdicts[verdict.image_id].append(verdict_whole(verdict, name))
        stuck = [job_whole(job) for job in session.scalars(_STUCK, {"images": ids})]
        shown: list[ImageAnswered] = [
            {
                **image_whole(image, patient=who.sees_patients),
                "answer": answer_whole(*answers[image.id]) if image.id in answers else None,
                "verdicts": verdicts[image.id],
            }
            for image in images
        ]
    parts.seen.note(who, number, opened=who.attended)
    whole: StudyWhole = {**line, "jobs": stuck, "images": shown, "notice": RESEARCH_ONLY}
    return JSONResponse(whole)  # as it is: to have it checked once more took two more threads' turns


@router.delete("/studies/{number}", responses=refused(404))
def delete(number: Number, parts: Service, who: Administrator) -> Nothing:
    """Delete a study with its images, answers, verdicts and files. What was delivered elsewhere stays there."""
    with parts.database.reading() as session:
        if session.get(Study, number) is None:
            raise _missing()
    parts.pictures.forget(delete_studies(parts.database, parts.objects, [number], who=who.name, address=who.address))
    return {}


@router.get("/studies/{number}/deidentified.zip", response_class=StreamingResponse, responses=_ZIP)
def deidentified(number: Number, parts: Service, who: Administrator) -> StreamingResponse:
    """A study's radiographs without their patient, and the findings. Burnt-in text is flagged, not removed."""
    from callus.service.deidentify import export  # noqa: PLC0415 - not needed for a start

    found = _images(number, parts, who)
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(parts.room.folder))  # noqa: SIM115 - closed when it is sent
    try:
        export(found, file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    headers = {"Content-Disposition": f'attachment; filename="callus-study-{number}-deidentified.zip"'}
    return StreamingResponse(
        _pieces(file), media_type="application/zip", headers=headers, background=BackgroundTask(file.close)
    )


def _page(parts: Parts, who: Who, wanted: Wanted) -> Worklist:
    with parts.database.reading() as session:
        page = worklist(session, wanted, patient=who.sees_patients)
    if wanted.text.strip():
        parts.seen.searched(who, begun=who.attended and not wanted.before)
    else:
        parts.seen.listed(who)
    return page


def _images(number: int, parts: Parts, who: Who) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    with parts.database.writing() as session:
        images = session.scalars(_IMAGES, {"study": number}).all()
        if not images:
            raise _missing()
        answers = current_answers(session, [image.id for image in images])
        audit.note(session, who=who.name, did="exported", what=f"study {number}", address=who.address)
    return (
        (image.id, parts.objects.get(image.sha256), _finding(answers[image.id]) if image.id in answers else {})
        for image in images
    )


def _finding(found: Any) -> dict[str, Any]:
    answer, model = found
    return {
        "model": model.name,
        "level": answer.level,
        "probability": answer.probability,
        "boxes": answer.boxes,
        "cautions": answer.cautions,
    }


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _missing() -> MissingError:
    return MissingError("there is no such study")
