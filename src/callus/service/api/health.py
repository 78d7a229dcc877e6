"""Whether the service lives and is ready; what it counts; what its API is."""

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from callus.labels import RESEARCH_ONLY
from callus.service.access import Who, allow, open_to_all
from callus.service.api.common import API, Reader, Service
from callus.service.database import AwayError
from callus.service.schemas.running import Health, Ready
from callus.service.tables import Model

router = APIRouter(prefix=API, tags=["health"])
_READY: dict[int | str, dict[str, Any]] = {
    200: {"model": Ready, "description": "ready"},
    503: {"model": Ready, "description": "not ready"},
}
_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "in Prometheus' text format"}
}


@router.get("/health", dependencies=[open_to_all()])
def health(parts: Service) -> Health:
    """That the process answers, and whether people can log in at an identity provider."""
    return {"alive": True, "openid": parts.openid is not None, "notice": RESEARCH_ONLY}


@router.get("/ready", dependencies=[open_to_all()], responses=_READY)
def ready(parts: Service) -> JSONResponse:
    """Whether it can do its work: its parts run, the database answers, the disk has room, a model is active."""
    checks = {"running": parts.ready, "disk": parts.objects.has_room(), "database": False, "model": False}
    try:
        with parts.database.reading() as session:
            checks["model"] = session.scalar(sa.select(Model.id).where(Model.state == "active")) is not None
        checks["database"] = True
    except (sa.exc.SQLAlchemyError, AwayError):
        pass  # it is what is told
    checks["answering"] = parts.answering.is_alive()
    fine = all(checks.values())
    return JSONResponse({"ready": fine, "checks": checks, "notice": RESEARCH_ONLY}, 200 if fine else 503)


@router.get("/metrics", response_class=Response, responses=_METRICS)
def metrics(
    parts: Service, _who: Annotated[Who | None, allow("administrator", "administer", on_loopback=True)]
) -> Response:
    """What Prometheus is told."""
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/openapi.json", include_in_schema=False)
def description(request: Request, _who: Reader) -> JSONResponse:
    """The API's description."""
    return JSONResponse(request.app.openapi())
