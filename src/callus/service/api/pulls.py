"""From where studies may be pulled, and what became of those that were asked for."""

from typing import Literal

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel

from callus.service.api.common import API, Radiologist, Service
from callus.service.jobs import PULL
from callus.service.shown import moment
from callus.service.tables import Job, Study

router = APIRouter(prefix=API, tags=["jobs"])
LATEST = 10


class Counts(BaseModel):
    """How many of a study's objects were taken, were here already, are no radiographs, were refused."""

    taken: int = 0
    known: int = 0
    other: int = 0
    refused: int = 0


class Pull(BaseModel):
    """A study that was asked for; ``study`` is its number here, once something of it has come."""

    id: int
    source: str
    study_uid: str
    by: str
    state: Literal["waiting", "taken", "done", "stuck"]
    counts: Counts | None
    error: str
    due: str
    study: int | None


class Pulls(BaseModel):
    """The sources' names, and the studies that were asked for last."""

    sources: list[str]
    pulls: list[Pull]


@router.get("/pull")
def pulls(parts: Service, _who: Radiologist) -> Pulls:
    """Where studies may be pulled from, and what became of the last ones, the latest first."""
    latest = sa.func.coalesce(Job.finished, Job.due).desc()
    with parts.database.reading() as session:
        found = session.execute(
            sa.select(Job, Study.id)
            .outerjoin(Study, Study.uid == Job.about["study"].as_string())
            .where(Job.kind == PULL)
            .order_by(latest, Job.id.desc())
            .limit(LATEST)
        ).all()
    return Pulls(
        sources=[source.name for source in parts.settings.sources],
        pulls=[_pull(job, study) for job, study in found],
    )


def _pull(job: Job, study: int | None) -> Pull:
    return Pull.model_validate(
        {
            "id": job.id,
            "source": job.about["source"],
            "study_uid": job.about["study"],
            "by": job.about["who"],
            "state": job.state,
            "counts": job.about.get("counts"),
            "error": job.error,
            "due": moment(job.due),
            "study": study,
        }
    )
