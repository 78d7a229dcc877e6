"""From where studies may be pulled, and what became of those that were asked for."""

import sqlalchemy as sa
from fastapi import APIRouter

from callus.service.api.common import API, Radiologist, Service
from callus.service.jobs import PULL
from callus.service.schemas.running import AskedFor, Pulls
from callus.service.shown import moment
from callus.service.tables import Job, Study

router = APIRouter(prefix=API, tags=["jobs"])
LATEST = 10


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
    return {
        "sources": [source.name for source in parts.settings.sources],
        "pulls": [_asked_for(job, study) for job, study in found],
    }


def _asked_for(job: Job, study: int | None) -> AskedFor:
    return {
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
