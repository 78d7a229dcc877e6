"""Findings as they come, and what else becomes of studies, as server-sent events."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from callus.errors import CallusError
from callus.service.access import Who, allow, find_who
from callus.service.api.common import API, LARGEST_NUMBER, Service
from callus.service.events import Last
from callus.service.refusals import UnfitError
from callus.service.responses import reference, refused
from callus.service.schemas.studies import Finding, StudyChanged

router = APIRouter(prefix=API, tags=["events"])
_ID = re.compile(r"[0-9]{1,19}(\.[0-9]{1,19})?")
Listener = Annotated[Who, allow("reader", "read", attended=False)]
"""Whoever may see findings. Browsers come back by themselves where the line breaks: nobody needs to be there."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "string",
                    "description": "the data of each event, a Finding or a StudyChanged; a finding's id is its number",
                    "contentMediaType": "application/json",
                    "contentSchema": {"anyOf": [reference(Finding), reference(StudyChanged)]},
                }
            }
        },
        "description": "events named finding and study",
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
    who: Listener,
    last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
) -> StreamingResponse:
    """Findings as they come: ``finding`` events with boxes in pixels and, where the spacing is known, in millimetres.

    ``study`` events tell that an image arrived, gets no answer or waits for one again, that its answer's results
    are made, or that a study is gone. A listener that was away sends the last id that it has as ``Last-Event-ID``, and
    gets what it missed.
    """
    after = None
    if last:
        numbers = [int(number) for number in last.split(".")] if _ID.fullmatch(last) else [LARGEST_NUMBER + 1]
        if max(numbers) > LARGEST_NUMBER:
            raise UnfitError("Last-Event-ID is the id of an event, or the number of a finding")
        after = Last(*numbers)

    def still() -> bool:
        try:
            find_who(request, parts, attended=False)
        except CallusError:
            return False
        return True

    stream = parts.events.listen(after, still)
    beginning = await anext(stream)  # where too many listen, this says so while it still can
    try:
        await run_in_threadpool(parts.seen.listens, who)
    except BaseException:
        await stream.aclose()
        raise

    async def all_of_it() -> AsyncIterator[bytes]:
        yield beginning
        async for piece in stream:
            yield piece

    return StreamingResponse(all_of_it(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
