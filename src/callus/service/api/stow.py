"""STOW-RS: an archive or a modality sends DICOM objects by HTTP (PS3.18 10.5)."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from callus.errors import CallusError
from callus.results.uids import is_uid
from callus.service.access import Who
from callus.service.api.common import Sender, Service
from callus.service.api.radiographs import check_free
from callus.service.database import AwayError
from callus.service.intake import BusyError, ConflictError, Taken
from callus.service.objects import FullError
from callus.service.parts import Parts
from callus.service.refusals import TooLargeError, TooManyError, UnfitError, WrongKindError
from callus.service.responses import reference, refusal, refused
from callus.service.schemas.sending import StoreAnswer
from callus.service.uploads import Part, boundary_of, parts_of

router = APIRouter(prefix="/dicom-web", tags=["dicom-web"])
JSON = "application/dicom+json"
_LATER = (AwayError, BusyError, FullError, TooManyError)
# Failure Reasons (PS3.18 10.5.3, PS3.4 CC.2.3-1 and C-STORE's statuses). The standard has none for an object of another
# study than the request's; A900, "data set does not match", is its class of errors that comes closest.
PROCESSING_FAILURE, DUPLICATE, NO_RESOURCES, WRONG_CLASS, NOT_UNDERSTOOD = 0x0110, 0x0111, 0xA700, 0x0122, 0xC000
OTHER_STUDY = 0xA900
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/related": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_STORED = {JSON: {"schema": reference(StoreAnswer)}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": _STORED, "description": "all were stored"},
    202: {"content": _STORED, "description": "some were stored"},
    409: {"content": _STORED, "description": "none was stored"},
    **refused(415, 429, 507),
}


class _OtherStudyError(CallusError):
    """It is of another study than the one that the request is about."""


@router.post("/studies", response_class=Response, openapi_extra=_BODY, responses=_RESPONSES)
async def store(request: Request, parts: Service, who: Sender) -> JSONResponse:
    """Store DICOM objects. Those that are told as stored are on the disk and will be answered."""
    return await _stored(request, parts, who, "")


@router.post("/studies/{study}", response_class=Response, openapi_extra=_BODY, responses=_RESPONSES)
async def store_in(
    study: Annotated[str, Path(max_length=64, description="Study Instance UID")],
    request: Request,
    parts: Service,
    who: Sender,
) -> JSONResponse:
    """Store DICOM objects of one study; those of others are refused with the Failure Reason A900."""
    if not is_uid(study):
        raise UnfitError("the address holds no Study Instance UID")
    return await _stored(request, parts, who, study)


async def _stored(request: Request, parts: Parts, who: Who, study: str) -> JSONResponse:
    """Store a request's objects; ``study`` is the one that they have to be of, "" for any."""
    stored: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    later: CallusError | None = None
    with parts.room.request():
        await check_free(parts)
        async for part in parts_of(request, boundary_of(request, "multipart/related"), parts.room):
            if later is not None:
                failed.append(_failure(NO_RESOURCES, "", ""))
                continue
            sop = ["", ""]
            try:
                uid = await _store(parts, who, part, sop, study)
                stored.append({"00081150": _ui(sop[0]), "00081155": _ui(uid)})
            except CallusError as error:
                later = error if isinstance(error, _LATER) else None
                failed.append(_failure(_reason(error), *sop))
    if not stored and not failed:
        raise UnfitError("no object came")
    if not stored and later is not None:
        return refusal(later)  # to be sent again, as a whole
    shown: dict[str, Any] = {}
    if stored:
        shown["00081199"] = {"vr": "SQ", "Value": stored}
    if failed:
        shown["00081198"] = {"vr": "SQ", "Value": failed}
    status = 200 if not failed else 202 if stored else 409
    return JSONResponse(shown, status, media_type=JSON)


async def _store(parts: Parts, who: Who, part: Part, sop: list[str], study: str) -> str:
    """Take an object in; its SOP Class and Instance UID are put into ``sop`` as soon as they are known."""
    if part.too_large:
        raise TooLargeError("is too large")
    if part.kind not in ("application/dicom", ""):
        raise WrongKindError("is no application/dicom")

    def take(data: bytes) -> Taken:
        is_dicom, identity = parts.intake.look(data)
        if not is_dicom:
            raise UnfitError("is no DICOM object")
        sop[:] = identity.sop_class_uid, identity.sop_instance_uid
        if study not in ("", identity.study_uid):
            raise _OtherStudyError("is of another study")
        return parts.intake.take(data, source="stow", sender=who.name, address=who.address)

    taken: Taken = await parts.room.use(take, part)
    parts.wake()
    return taken.uid


def _reason(error: CallusError) -> int:
    for kinds, reason in (
        (_LATER, NO_RESOURCES),
        (ConflictError, DUPLICATE),
        (_OtherStudyError, OTHER_STUDY),
        ((UnfitError, WrongKindError), NOT_UNDERSTOOD),
    ):
        if isinstance(error, kinds):
            return reason
    return WRONG_CLASS if "no radiograph" in error.what else NOT_UNDERSTOOD


def _failure(reason: int, sop_class: str, uid: str) -> dict[str, Any]:
    return {
        "00081150": _ui(sop_class),
        "00081155": _ui(uid),
        "00081197": {"vr": "US", "Value": [reason]},
    }


def _ui(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]} if value else {"vr": "UI"}
