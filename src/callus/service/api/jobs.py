"""What is stuck, and trying it again or dropping it; studies that are pulled from another archive."""

from typing import Annotated, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy.orm import Session

from callus.results.uids import is_uid
from callus.service import audit, jobs, stuck
from callus.service.access import Who
from callus.service.api.common import API, LARGEST_NUMBER, NO_NUL, Administrator, Body, Number, Puller, Sender, Service
from callus.service.jobs import IDENTIFY, TRY
from callus.service.parts import Parts
from callus.service.placing import have_waiting, held_image, try_again
from callus.service.refusals import ClashError, MissingError, UnfitError
from callus.service.responses import refused
from callus.service.schemas.running import Counted, Jobs, Nothing, Pulled
from callus.service.shown import current_answers, job_whole
from callus.service.tables import Job

router = APIRouter(prefix=API, tags=["jobs"])
_BACK = "put it back into the settings and start the service anew; or drop what was meant for it"


class Wanted(Body):
    """A study of another archive."""

    study_uid: Annotated[str, Field(min_length=1, max_length=64, description="Study Instance UID")]
    source: Annotated[str, Field(min_length=1, max_length=200, description="its name in the service's settings")]


class Those(Body):
    """The deliveries to a destination that are stuck."""

    destination: Annotated[
        str,
        Field(min_length=1, max_length=200, pattern=NO_NUL, description="its name in the service's settings"),
    ]


@router.get("/jobs")
def listed(
    parts: Service,
    _who: Administrator,
    state: Literal["waiting", "taken", "done", "stuck", "dropped"] = "stuck",
    after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Jobs:
    """Jobs of a state, and how many there are of each."""
    with parts.database.reading() as session:
        counts = session.execute(
            sa.select(Job.kind, Job.state, sa.func.count()).group_by(Job.kind, Job.state).order_by(Job.kind, Job.state)
        )
        found = session.scalars(
            sa.select(Job).where(Job.state == state, Job.id > after).order_by(Job.id).limit(limit)
        ).all()
        return {
            "jobs": [job_whole(job) for job in found],
            "counts": [{"kind": kind, "state": of, "count": count} for kind, of, count in counts],
        }


@router.post("/jobs/{number}/retry", responses=refused(404, 409))
def retry(number: Number, parts: Service, who: Administrator) -> Nothing:
    """Have a job that was given up tried again."""
    with parts.database.writing() as session:
        image = held_image(session, session.scalar(sa.select(Job.image_id).where(Job.id == number)))  # before its job
        job = _stuck(session, number)
        _check_done_by_somebody(job, parts)
        jobs.retry(session, [number])
        if image is not None and job.kind == IDENTIFY and not current_answers(session, [image.id]):
            have_waiting(session, image)  # else only its results are missing
        audit.note(session, who=who.name, did="retried", what=f"job {number}", address=who.address)
    parts.wake()
    return {}


@router.post("/jobs/{number}/drop", responses=refused(404, 409))
def drop(number: Number, parts: Service, who: Administrator) -> Nothing:
    """Have a job that was given up never tried again; not a radiograph's answer, nor a trial's."""
    with parts.database.writing() as session:
        if _stuck(session, number).kind in (IDENTIFY, TRY):
            raise ClashError("a radiograph is to be answered", hint="have it tried again, or delete its study")
        jobs.drop(session, [number])
        audit.note(session, who=who.name, did="dropped", what=f"job {number}", address=who.address)
    return {}


@router.post("/jobs/retry", responses=refused(404, 409))
def retry_those(given: Those, parts: Service, who: Administrator) -> Counted:
    """Have all deliveries to a destination that are stuck tried again; how many there were."""
    if parts.settings.destination(given.destination) is None:
        raise ClashError("this destination is not in the settings", hint=_BACK)
    with parts.database.writing() as session:
        count = jobs.retry(session, stuck.stuck_for(given.destination))
        _note_those(session, who, "retried", count, given.destination)
    parts.wake()
    return {"count": count}


@router.post("/jobs/drop", responses=refused(404))
def drop_those(given: Those, parts: Service, who: Administrator) -> Counted:
    """Have all deliveries to a destination that are stuck never tried again; how many there were."""
    with parts.database.writing() as session:
        count = jobs.drop(session, stuck.stuck_for(given.destination))
        _note_those(session, who, "dropped", count, given.destination)
    return {"count": count}


@router.post("/images/{number}/retry", status_code=202, responses=refused(404, 409))
def answer_again(number: Number, parts: Service, who: Sender) -> Nothing:
    """Have a radiograph that got no answer answered after all, by the model that is active now."""
    with parts.database.writing() as session:
        try_again(session, number)
        audit.note(session, who=who.name, did="retried", what=f"image {number}", address=who.address)
    parts.wake()
    return {}


@router.post("/pull", status_code=202, responses=refused(404))
def pull(given: Wanted, parts: Service, who: Puller) -> Pulled:
    """Pull a study from an archive that the service was told of: its radiographs come as if they had been sent."""
    from callus.service.pull import ask  # noqa: PLC0415 - not needed for a start

    if parts.settings.source(given.source) is None:
        raise MissingError("there is no such source", hint="sources are named in the service's settings")
    if not is_uid(given.study_uid):
        raise UnfitError("study_uid is no DICOM UID")
    with parts.database.writing() as session:
        new = ask(session, given.source, given.study_uid, who.name)
        audit.note(session, who=who.name, did="asked", what=f"a study of {given.source}", address=who.address)
    parts.wake()
    return {"new": new}


def _stuck(session: Session, number: int) -> Job:
    job = session.get(Job, number, with_for_update=True)
    if job is None or job.state != "stuck":
        raise MissingError("there is no such job that is stuck")
    return job


def _check_done_by_somebody(job: Job, parts: Parts) -> None:
    if why := stuck.why_gone(job, parts.settings):
        raise ClashError(why, hint=_BACK)


def _note_those(session: Session, who: Who, did: str, count: int, destination: str) -> None:
    if not count:
        raise MissingError("nothing is stuck on its way to such a destination")
    audit.note(session, who=who.name, did=did, what=f"{count} deliveries to {destination}", address=who.address)
