"""What the routes share: their parts, their rules' results, numbers in paths."""

import re
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from callus.service.access import Who, allow
from callus.service.parts import Parts

API = "/api/v1"
LARGEST_NUMBER = (1 << 63) - 1
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_INSTANT = _DAY + r"T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"


async def _parts(request: Request) -> Parts:  # else a thread would be asked for it
    parts: Parts = request.app.state.parts
    return parts


def _as_written(value: object) -> object:
    """Refuse a day that is not written as one: pydantic takes a number, 20240229 too, for seconds since 1970."""
    if not isinstance(value, str) or not re.fullmatch(_DAY, value):
        raise ValueError("a day is written YYYY-MM-DD")
    return value


def _day_or_instant(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(_INSTANT, value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except OverflowError as error:
            raise ValueError("a time is before the year 1 or after 9999") from error
    if not isinstance(value, str) or not re.fullmatch(_DAY, value):
        raise ValueError("a time is written YYYY-MM-DD, or YYYY-MM-DDThh:mm:ssZ with its zone")
    return date.fromisoformat(value)


class Body(BaseModel):
    """What a request brings as JSON: no field that is not known, and nothing for what it is not, as "5" for 5."""

    model_config = ConfigDict(extra="forbid", strict=True)


Service = Annotated[Parts, Depends(_parts)]
"""The service's parts."""
Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]
"""A row's number, in a path."""
Day = Annotated[date, Field(strict=False), BeforeValidator(_as_written)]
"""A day, YYYY-MM-DD."""
Time = Annotated[date | datetime, BeforeValidator(_day_or_instant)]
"""A day, or an instant as RFC 3339 writes it."""
NO_NUL = r"^[^\x00]*$"
"""What text is that a database is asked for or keeps: PostgreSQL takes no NUL."""

Reader = Annotated[Who, allow("reader", "read")]
"""Whoever may see findings."""
Sender = Annotated[Who, allow("reader", "send")]
"""Whoever may send radiographs."""
Radiologist = Annotated[Who, allow("radiologist", "read")]
"""Whoever may see originals."""
Judge = Annotated[Who, allow("radiologist", "verdict")]
"""Whoever may give verdicts."""
Puller = Annotated[Who, allow("radiologist", "send")]
"""Whoever may pull studies from another archive."""
Administrator = Annotated[Who, allow("administrator", "administer")]
"""Whoever runs the service."""
Person = Annotated[Who, allow("reader", None)]
"""Whoever is logged in; no program with a token."""
