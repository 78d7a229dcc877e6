"""The service's HTTP application: routes, each with its rule; errors as JSON; bounds and headers around all."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

import callus
from callus.errors import CallusError
from callus.labels import RESEARCH_ONLY
from callus.service.api import ROUTERS
from callus.service.description import complete
from callus.service.edge import BehindProxy, Bounds, Headers
from callus.service.metrics import Counting
from callus.service.responses import refusal

if TYPE_CHECKING:
    from callus.service.metrics import App
    from callus.service.parts import Parts

LARGE: Final = re.compile(r"/api/v1/(radiographs|models)|/dicom-web/studies(/[^/]+)?")
"""Paths that take files; they bound what they take themselves."""
log = logging.getLogger(__name__)


class _Application(FastAPI):
    """FastAPI's, whose description tells all refusals."""

    _described: dict[str, Any] | None = None  # FastAPI keeps its own before it is complete
    _describing = threading.Lock()

    def openapi(self) -> dict[str, Any]:
        """The description; made once."""
        with self._describing:
            if self._described is None:
                described = super().openapi()
                complete(described, self.routes)
                self._described = described
            return self._described


def create_app(parts: Parts) -> FastAPI:
    """The application, without its middleware: a test can walk its routes.

    Args:
        parts: what it answers with; whoever made them starts and stops them.
    """
    app = _Application(
        title="callus",
        version=callus.__version__,
        description=f"Fractures in radiographs: {RESEARCH_ONLY}.",
        docs_url=None,  # these pages load from other hosts
        redoc_url=None,
        openapi_url=None,  # a route of its own gives it, with a rule
    )
    app.state.parts = parts
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # flat, so that each route is seen with its rule
    handlers: dict[Any, Any] = {
        CallusError: _told,
        RequestValidationError: _unfit,
        HTTPException: _plain,
        ClientDisconnect: _gone,
        sa.exc.SQLAlchemyError: _failed,
        Exception: _failed,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    return app


def served(app: FastAPI) -> App:
    """The application as it is served, within its bounds and with its headers."""
    parts: Parts = app.state.parts
    whole: Any = Headers(Counting(Bounds(app, LARGE.fullmatch), parts.metrics))
    return BehindProxy(whole) if parts.settings.behind_proxy else whole


def _told(_: Request, error: CallusError) -> JSONResponse:
    return refusal(error)


def _unfit(_: Request, error: RequestValidationError) -> JSONResponse:
    """What does not fit, by its place; not what was sent there."""
    places = sorted({".".join(str(step) for step in one["loc"][1:]) or str(one["loc"][0]) for one in error.errors()})
    known = ", ".join(place for place in places if place.isprintable())[:200]
    return JSONResponse(
        {"error": {"what": f"the request does not fit: {known}", "hint": "see the API's description"}}, 422
    )


def _plain(_: Request, error: HTTPException) -> JSONResponse:
    what = {404: "there is no such thing", 405: "this cannot be done here"}.get(
        error.status_code, "the request does not fit"
    )
    return JSONResponse({"error": {"what": what, "hint": ""}}, error.status_code, error.headers)


def _gone(_: Request, __: ClientDisconnect) -> JSONResponse:
    return JSONResponse({"error": {"what": "the request ended early", "hint": ""}}, 400)


def _failed(request: Request, error: Exception) -> JSONResponse:
    """Something that nobody thought of: logged by its kind and place, for its text may hold what a row holds."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
    route = getattr(request.scope.get("route"), "path_format", "?")
    log.error("%s %s failed: %s at %s", request.method, route, type(error).__name__, where)
    return JSONResponse({"error": {"what": "the service failed", "hint": "tell who runs it"}}, 500)
