"""What is stuck, and trying it again; studies that are pulled from another archive."""

from typing import Annotated, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from callus.results.uids import is_uid
from callus.service import audit, jobs
from callus.service.api.common import API, LARGEST_NUMBER, Administrator, Number, Puller, Service, Shown
from callus.service.refusals import MissingError, UnfitError
from callus.service.shown import job_whole
from callus.service.tables import Job

router = APIRouter(prefix=API, tags=["jobs"])


class Wanted(BaseModel):
    """A study of another archive."""

    model_config = ConfigDict(extra="forbid")
    study_uid: Annotated[str, Field(min_length=1, max_length=64)]
    source: Annotated[str, Field(min_length=1, max_length=200)]


@router.get("/jobs")
def stuck(
    parts: Service,
    _who: Administrator,
    state: Literal["waiting", "taken", "done", "stuck"] = "stuck",
    after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Shown:
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


@router.post("/jobs/{number}/retry")
def retry(number: Number, parts: Service, who: Administrator) -> Shown:
    """Have a job that was given up tried again."""
    with parts.database.writing() as session:
        if not jobs.retry(session, [number]):
            raise MissingError("there is no such job that is stuck")
        audit.note(session, who=who.name, did="retried", what=f"job {number}", address=who.address)
    parts.wake()
    return {}


@router.post("/pull", status_code=202)
def pull(given: Wanted, parts: Service, who: Puller) -> Shown:
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
