"""Radiographs that people and programs send, and studies that are pulled."""

import re
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from callus.errors import CallusError
from callus.radiograph.limits import one_line
from callus.results.uids import is_uid
from callus.service.access import Who
from callus.service.api.common import API, LARGEST_NUMBER, Sender, Service
from callus.service.database import AwayError
from callus.service.intake import BusyError, Taken
from callus.service.objects import FullError
from callus.service.parts import Parts
from callus.service.refusals import MissingError, TooLargeError, TooManyError, UnfitError
from callus.service.responses import as_json, refusal, refused, status_of
from callus.service.schemas.sending import FileRefused, FilesRefused, FilesTaken, FileTaken
from callus.service.tables import Study
from callus.service.uploads import Part, boundary_of, parts_of

router = APIRouter(prefix=API, tags=["radiographs"])
_LATER = (AwayError, BusyError, FullError, TooManyError)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "study_uid": {
                            "type": "string",
                            "description": "the study that pictures belong to; before them",
                        },
                        "study": {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": LARGEST_NUMBER,
                            "description": "the same by its number, of a study that is here; before them",
                        },
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "DICOM, PNG, JPEG or TIFF",
                        },
                    },
                    "required": ["files"],
                }
            }
        },
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": FilesTaken, "description": "one at least was taken"},
    **refused(404, 409, 413, 422, 429, 503, 507, model=FilesRefused),
    **refused(415),
}


@router.post("/radiographs", status_code=202, openapi_extra=_BODY, responses=_RESPONSES)
async def send(request: Request, parts: Service, who: Sender) -> JSONResponse:
    """Send radiographs, DICOM, PNG, JPEG or TIFF, several at once. Each file's outcome is told.

    What is told as taken is on the disk and will be answered, whatever happens. Files after a form's field ``study``
    or ``study_uid`` that are no DICOM belong to that study.
    """
    taken: list[FileTaken | FileRefused] = []
    worst: CallusError | None = None
    study_uid = ""
    with parts.room.request():
        await check_free(parts)
        try:
            async for part in parts_of(request, boundary_of(request, "multipart/form-data"), parts.room):
                if taken:
                    parts.wake()  # what is here waits for nothing that comes after it
                if not part.is_file:
                    study_uid = await run_in_threadpool(_study_uid, parts, part, study_uid)
                    continue
                try:
                    if isinstance(worst, _LATER):
                        raise worst  # what comes after it would not fit either
                    taken.append(await _take(parts, who, part, study_uid))
                except CallusError as error:
                    worst = error if worst is None or isinstance(error, _LATER) else worst
                    taken.append({"name": _named(part), "error": as_json(error), "status": status_of(error)})
        except BaseException:
            parts.wake()
            raise
    if not taken:
        raise UnfitError("no file came", hint="send them as the form's field files")
    if worst is not None and all("error" in one for one in taken):
        return refusal(worst, taken=taken)
    # To be told first, or the network would have the processor before the sender has the answer.
    return JSONResponse({"taken": taken}, 202, background=BackgroundTask(_wake, parts))


async def _wake(parts: Parts) -> None:
    parts.wake()


async def check_free(parts: Parts) -> None:
    """Refuse what will be refused before its body is read.

    Raises:
        BusyError: enough waits already.
        FullError: the disk is full.
    """
    if not parts.intake.was_free():
        await run_in_threadpool(parts.intake.check_free)
    if not parts.objects.has_room():
        raise FullError("the disk is full")


async def _take(parts: Parts, who: Who, part: Part, study_uid: str) -> FileTaken:
    if part.too_large:
        raise TooLargeError(f"is larger than {parts.room.largest:,} bytes")
    name = _named(part)

    def take(data: bytes) -> Taken:
        return parts.intake.take(
            data, source="upload", sender=who.name, name=name, address=who.address, study_uid=study_uid
        )

    kept = await parts.room.use(take, part)
    return {"name": name, "image": kept.image_id, "study": kept.study_id, "new": kept.is_new}


def _named(part: Part) -> str:
    """A file's name without folders, as whoever sent it calls it."""
    return one_line(part.filename.replace("\\", "/").rpartition("/")[2], 200)


def _study_uid(parts: Parts, part: Part, before: str) -> str:
    if part.name == "study":
        return _uid_of(parts, part.text().strip())
    if part.name != "study_uid":
        return before
    uid = part.text().strip()
    if uid and not is_uid(uid):
        raise UnfitError("study_uid is no DICOM UID")
    return uid


def _uid_of(parts: Parts, number: str) -> str:
    """The UID of a study that is here: readers know its number, because a UID may tell whose it is."""
    if not re.fullmatch("[0-9]{1,19}", number) or int(number) > LARGEST_NUMBER:
        raise UnfitError("study is no study's number")
    with parts.database.reading() as session:
        uid = session.scalar(sa.select(Study.uid).where(Study.id == int(number)))
    if uid is None:
        raise MissingError("there is no such study")
    return uid
