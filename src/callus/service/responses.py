"""Errors as responses."""

from __future__ import annotations

from typing import Any, Final

from fastapi.responses import JSONResponse

from callus.errors import BundleError, CallusError, DatasetError, RadiographError
from callus.service.intake import BusyError, ConflictError
from callus.service.objects import FullError
from callus.service.refusals import RefusedError

BUSY_RETRY: Final = 10
"""Seconds after which a sender is to come again."""
_STATUS: Final[dict[type[CallusError], int]] = {
    BusyError: 429,
    FullError: 507,
    ConflictError: 409,
    RadiographError: 422,
    BundleError: 422,
    DatasetError: 404,
}


def status_of(error: CallusError) -> int:
    """HTTP's status for an error."""
    if isinstance(error, RefusedError):
        return error.status
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def as_json(error: CallusError) -> dict[str, str]:
    """An error as it is shown: never the file or the row that it is about, which may name a patient."""
    return {"what": error.what, "hint": error.hint}


def refusal(error: CallusError, **more: Any) -> JSONResponse:
    """An error as a response."""
    status = status_of(error)
    headers = {}
    again = error.retry_after if isinstance(error, RefusedError) else BUSY_RETRY if status == 429 else None  # noqa: PLR2004
    if again is not None:
        headers["Retry-After"] = str(again)
    if status == 401:  # noqa: PLR2004 - Unauthorized
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": as_json(error), **more}, status, headers)
