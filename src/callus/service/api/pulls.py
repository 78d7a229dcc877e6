"""From where studies may be pulled, which ones there are, and what became of those that were asked for."""

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import Field

from callus.service import audit
from callus.service.api.common import API, Body, Day, Puller, Radiologist, Service
from callus.service.jobs import PULL
from callus.service.refusals import MissingError
from callus.service.responses import refused
from callus.service.schemas.running import AskedFor, Pulls, StudiesThere
from callus.service.shown import moment
from callus.service.tables import Job, Study

router = APIRouter(prefix=API, tags=["jobs"])
LATEST = 10


class Sought(Body):
    """Which studies of another archive; one of the three at least."""

    source: Annotated[str, Field(min_length=1, max_length=200, description="its name in the service's settings")]
    patient_id: Annotated[str, Field(max_length=64, description="the patient's number, whole; empty for any")] = ""
    accession: Annotated[str, Field(max_length=16, description="the accession number, whole; empty for any")] = ""
    date: Annotated[Day | None, Field(description="the day on which the study was made, YYYY-MM-DD; null for any")] = (
        None
    )


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


@router.post("/pull/search", responses=refused(404, 429, 503))
def search(given: Sought, parts: Service, who: Puller) -> StudiesThere:
    """Which studies an archive that the service was told of has: of a patient, of an accession, of a day.

    What is searched for comes in the body, because what stands in an address stands in many a log.
    """
    from callus.service import source as there  # noqa: PLC0415 - not needed for a start

    source = parts.settings.source(given.source)
    if source is None:
        raise MissingError("there is no such source", hint="sources are named in the service's settings")
    found = there.search(
        source, patient_id=given.patient_id.strip(), accession=given.accession.strip(), date=given.date
    )
    shown = found[: there.MOST]
    with parts.database.writing() as session:
        what = f"{len(shown)} studies of {source.name}"
        audit.note(session, who=who.name, did="searched", what=what, address=who.address)
        here = sa.select(Study.uid, Study.id).where(Study.uid.in_([one["study_uid"] for one in shown]))
        numbers = {one.uid: one.id for one in session.execute(here)}
    return {
        "studies": [{**one, "study": numbers.get(one["study_uid"])} for one in shown],
        "more": len(found) > there.MOST,
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
