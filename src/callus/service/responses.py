"""Errors as responses, and as the API's description tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.responses import JSONResponse

from callus.errors import BundleError, CallusError, DatasetError, PassingError, RadiographError
from callus.service.database import AwayError
from callus.service.intake import BusyError, ConflictError
from callus.service.objects import FullError
from callus.service.refusals import RefusedError
from callus.service.schemas.sending import Refusal

if TYPE_CHECKING:
    from callus.service.schemas.sending import Why

PLACE: Final = "#/components/schemas/{model}"
"""Where the API's description keeps what its answers hold."""
BUSY_RETRY: Final = 10
"""Seconds after which a sender is to come again."""
_STATUS: Final[dict[type[CallusError], int]] = {
    BusyError: 429,
    FullError: 507,
    AwayError: 503,
    ConflictError: 409,
    PassingError: 503,  # before what it is a kind of
    RadiographError: 422,
    BundleError: 422,
    DatasetError: 404,
}
_MEANINGS: Final = {
    400: "the body cannot be read",
    401: "nobody is logged in, the token is none, or a name and its password do not belong together",
    403: "whoever asks may not, or the request comes from another page",
    404: "there is no such thing",
    408: "the body arrives too slowly",
    409: "it stands against what is there already",
    413: "too much at once",
    415: "the body is of another kind",
    422: "what was sent does not fit, or cannot be used",
    429: "too much at once, or too often",
    500: "the service failed",
    503: "what it takes, the database, another system or free memory, is not there just now",
    507: "the disk is full",
}
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "seconds after which to come again", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "the same, where it is known", "schema": {"type": "integer"}}},
}


def status_of(error: CallusError) -> int:
    """HTTP's status for an error."""
    if isinstance(error, RefusedError):
        return error.status
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def as_json(error: CallusError) -> Why:
    """An error as it is shown: never the file or the row that it is about, which may name a patient."""
    return {"what": error.what, "hint": error.hint}


def refusal(error: CallusError, **more: Any) -> JSONResponse:
    """An error as a response."""
    status = status_of(error)
    headers = {}
    again = BUSY_RETRY if isinstance(error, BusyError | AwayError) else getattr(error, "retry_after", None)
    if again is not None:
        headers["Retry-After"] = str(again)
    if status == 401:  # noqa: PLR2004 - Unauthorized
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": as_json(error), **more}, status, headers)


def reference(model: Any) -> dict[str, str]:
    """A schema in the API's description, for what FastAPI does not see."""
    return {"$ref": PLACE.format(model=model.__name__)}


def refused(*statuses: int, model: Any = Refusal) -> dict[int | str, dict[str, Any]]:
    """What a route may be refused with, as FastAPI's ``responses`` takes it.

    Args:
        *statuses: HTTP's; those that follow from a route's rule and from what it takes need not be named, see
            :mod:`callus.service.description`.
        model: what such an answer holds.
    """
    return {
        status: {"model": model, "description": _MEANINGS[status], "headers": _HEADERS.get(status, {})}
        for status in statuses
    }
