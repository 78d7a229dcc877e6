"""Models: put in beside each other, tried on past radiographs, switched to and back."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from callus.errors import CallusError
from callus.service import audit, trials
from callus.service.api.common import API, Administrator, Body, Number, Reader, Service
from callus.service.parts import Parts
from callus.service.refusals import TooLargeError, UnfitError
from callus.service.responses import refused
from callus.service.schemas.running import ModelAdded, Models, Nothing, TrialBegun, Tried
from callus.service.uploads import Part, boundary_of, parts_of

router = APIRouter(prefix=API, tags=["models"])
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary", "description": "a .callus file"}},
                    "required": ["file"],
                }
            }
        },
    }
}


class Trial(Body):
    """On how much a model is to be tried."""

    last: Annotated[int, Field(ge=1, le=trials.MOST, description="radiographs, those that came last")]


@router.get("/models")
def models(parts: Service, _who: Reader) -> Models:
    """The models, and which of them answers."""
    with parts.database.reading() as session:
        return {"models": trials.all_models(session)}


@router.post("/models", status_code=201, openapi_extra=_BODY, responses=refused(415, 429))
async def add(request: Request, parts: Service, who: Administrator) -> ModelAdded:
    """Put a model in beside the others: a ``.callus`` file. It answers nothing until it is tried or switched to."""
    with parts.room.request():
        async for part in parts_of(request, boundary_of(request, "multipart/form-data"), parts.room):
            if not part.is_file:
                continue
            if part.too_large:
                raise TooLargeError(f"a model is at most {parts.room.largest:,} bytes")
            number = await parts.room.use(lambda _: _add(parts, part), part)  # noqa: B023 - awaited here
            with parts.database.writing() as session:
                audit.note(session, who=who.name, did="added", what=f"model {number}", address=who.address)
            return {"id": number}
    raise UnfitError("no file came", hint="send a .callus file as the form's field file")


@router.post("/models/{number}/trial", status_code=202, responses=refused(404, 409))
def begin(number: Number, given: Trial, parts: Service, who: Administrator) -> TrialBegun:
    """Have a model answer the last radiographs beside the answers that they have."""
    count = trials.begin_trial(parts.database, number, given.last, who=who.name, address=who.address)
    parts.wake()
    return {"waiting": count}


@router.get("/models/{number}/trial", responses=refused(404))
def trial(number: Number, parts: Service, _who: Administrator) -> Tried:
    """How many levels a model would change, from what to what, and of which images."""
    with parts.database.reading() as session:
        return trials.trial(session, number)


@router.post("/models/{number}/switch", responses=refused(404))
def switch(number: Number, parts: Service, who: Administrator) -> Nothing:
    """Have a model answer from now on; the one before stays, to switch back to."""
    trials.switch(parts.database, parts.models, number, who=who.name, address=who.address)
    return {}


def _add(parts: Parts, part: Part) -> int:
    with tempfile.TemporaryDirectory(dir=parts.room.folder) as folder:
        file = Path(folder) / "model.callus"
        part.file.seek(0)
        with file.open("wb") as opened:
            shutil.copyfileobj(part.file, opened)
        try:
            return parts.models.add(file)
        except CallusError as error:
            raise UnfitError(f"this is no model: {error.what}"[:300]) from error
