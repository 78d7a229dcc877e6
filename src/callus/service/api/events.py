"""Findings as they come, as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from callus.errors import CallusError
from callus.service.access import Who, allow, find_who
from callus.service.api.common import API, LARGEST_NUMBER, Service
from callus.service.refusals import UnfitError
from callus.service.responses import reference, refused
from callus.service.schemas.studies import Finding

router = APIRouter(prefix=API, tags=["events"])
Listener = Annotated[Who, allow("reader", "read", attended=False)]
"""Whoever may see findings. Browsers come back by themselves where the line breaks: nobody needs to be there."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "string",
                    "description": "the data of each event named finding, its id is the finding's",
                    "contentMediaType": "application/json",
                    "contentSchema": reference(Finding),
                }
            }
        },
        "description": "events named finding",
    },
    **refused(429),
}


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses=_EVENTS,
)
async def events(
    request: Request,
    parts: Service,
    _who: Listener,
    last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None,
) -> StreamingResponse:
    """Findings as they come: ``finding`` events with boxes in pixels and, where the spacing is known, in millimetres.

    A listener that was away sends the last number that it has as ``Last-Event-ID``, and gets what it missed.
    """
    after = None
    if last:
        if not last.isascii() or not last.isdigit() or int(last) > LARGEST_NUMBER:
            raise UnfitError("Last-Event-ID is the number of a finding")
        after = int(last)

    def still() -> bool:
        try:
            find_who(request, parts, attended=False)
        except CallusError:
            return False
        return True

    stream = parts.events.listen(after, still)
    beginning = await anext(stream)  # where too many listen, this says so while it still can

    async def all_of_it() -> AsyncIterator[bytes]:
        yield beginning
        async for piece in stream:
            yield piece

    return StreamingResponse(all_of_it(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
