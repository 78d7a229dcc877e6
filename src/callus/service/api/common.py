"""What the routes share: their parts, their rules' results, numbers in paths."""

from typing import Annotated

from fastapi import Depends, Path, Request

from callus.service.access import Who, allow
from callus.service.parts import Parts

API = "/api/v1"
LARGEST_NUMBER = (1 << 63) - 1


async def _parts(request: Request) -> Parts:  # else a thread would be asked for it
    parts: Parts = request.app.state.parts
    return parts


Service = Annotated[Parts, Depends(_parts)]
"""The service's parts."""
Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]
"""A row's number, in a path."""

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
