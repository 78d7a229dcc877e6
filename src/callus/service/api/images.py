"""An image's pictures and files."""

import hashlib
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from callus.service.access import Who
from callus.service.api.common import API, Number, Radiologist, Reader, Service
from callus.service.parts import Parts
from callus.service.pictures import as_png, windowed
from callus.service.refusals import MissingError
from callus.service.responses import refused
from callus.service.shown import current_answers
from callus.service.tables import Answer, Image, Model

router = APIRouter(prefix=API, tags=["images"])
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "the picture"},
    304: {"description": "as before"},
    **refused(404, 429),
}
_FRAME = {**_PNG, **refused(503)}
_BIN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "the pixels"},
    304: {"description": "as before"},
    **refused(404, 429, 503),
}
_DICOM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/dicom": {}}, "description": "the object"},
    **refused(404),
}
_ORIGINAL: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/dicom": {}, "application/octet-stream": {}}, "description": "the file"},
    **refused(404),
}
_FHIR: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/fhir+json": {
                "schema": {
                    "type": "object",
                    "description": "a Bundle of FHIR R4B, which holds the DiagnosticReport",
                    "properties": {"resourceType": {"const": "Bundle", "description": "what this is"}},
                    "required": ["resourceType"],
                }
            }
        },
        "description": "the bundle",
    },
    **refused(404),
}
Grey = Annotated[float | None, Query(ge=-65536, le=131072, allow_inf_nan=False)]
Width = Annotated[int | None, Query(ge=16, le=2048, description="pixels that it is at most to be wide")]


@router.get("/images/{number}/frame.png", response_class=Response, responses=_FRAME)
async def frame_png(
    number: Number,
    request: Request,
    parts: Service,
    who: Reader,
    low: Grey = None,
    high: Grey = None,
    width: Width = None,
) -> Response:
    """The radiograph, 8 bits grey: from ``low``, black, to ``high``, white, in the pixels' own values."""

    def make() -> Response:
        image = _image(parts, number, who)
        tag = _tag("png", image.sha256, low, high, width)
        if _has(request, tag):
            return _same(tag)
        return _response(as_png(windowed(parts.pictures.frame(image.sha256), low, high), width), "image/png", tag)

    return await parts.pictures.answer(make)


@router.get("/images/{number}/frame.bin", response_class=Response, responses=_BIN)
async def frame_bin(number: Number, request: Request, parts: Service, who: Reader) -> Response:
    """The radiograph's pixels, 16 bits little endian row by row; their size and range are in ``X-`` headers."""

    def make() -> Response:
        image = _image(parts, number, who)
        tag = _tag("bin", image.sha256)
        if _has(request, tag):
            return _same(tag)
        pixels = parts.pictures.frame(image.sha256)
        response = _response(pixels.astype("<u2").tobytes(), "application/octet-stream", tag)
        response.headers["X-Rows"], response.headers["X-Columns"] = (str(side) for side in pixels.shape)
        response.headers["X-Bits"] = "8" if pixels.dtype == np.uint8 else "16"
        return response

    return await parts.pictures.answer(make)


@router.get("/images/{number}/heat.png", response_class=Response, responses=_PNG)
async def heat(number: Number, request: Request, parts: Service, who: Reader) -> Response:
    """The heat map over the whole image, 8 bits grey from 0 to 1; at most 1,024 pixels a side, or the image's own."""

    def make() -> Response:
        image, answer, model = _answered(parts, number, who)
        tag = _tag("heat", answer.map, image.height, image.width, model.digest)
        if _has(request, tag):
            return _same(tag)
        return _response(parts.pictures.heat(image, answer, model), "image/png", tag)

    return await parts.pictures.answer(make)


@router.get("/images/{number}/overlay.png", response_class=Response, responses=_PNG)
async def overlay(number: Number, request: Request, parts: Service, who: Reader, width: Width = None) -> Response:
    """The radiograph with its heat map, its boxes, the answer and its cautions."""

    def make() -> Response:
        _, answer, _ = _answered(parts, number, who)
        sha256 = _result(answer, "overlay")
        tag = _tag("overlay", sha256, width)
        if _has(request, tag):
            return _same(tag)
        whole = parts.objects.get(sha256)
        return _response(whole if width is None else parts.pictures.narrow(whole, width), "image/png", tag)

    return await parts.pictures.answer(make)


@router.get("/images/{number}/sr.dcm", response_class=Response, responses=_DICOM)
def report(number: Number, parts: Service, who: Radiologist) -> Response:
    """The answer as a DICOM structured report."""
    return _file(parts, number, who, "sr")


@router.get("/images/{number}/sc.dcm", response_class=Response, responses=_DICOM)
def capture(number: Number, parts: Service, who: Radiologist) -> Response:
    """The overlay as a DICOM secondary capture."""
    return _file(parts, number, who, "sc")


@router.get("/images/{number}/pr.dcm", response_class=Response, responses=_DICOM)
def presentation(number: Number, parts: Service, who: Radiologist) -> Response:
    """The boxes as a DICOM presentation state."""
    return _file(parts, number, who, "pr")


@router.get("/images/{number}/report.fhir.json", response_class=Response, responses=_FHIR)
def fhir(number: Number, parts: Service, who: Radiologist) -> Response:
    """The answer as a FHIR bundle with a DiagnosticReport."""
    return _file(parts, number, who, "fhir")


@router.get("/images/{number}/original", response_class=Response, responses=_ORIGINAL)
def original(number: Number, parts: Service, who: Radiologist) -> Response:
    """The file as it came."""
    image = _image(parts, number, who)
    data = parts.objects.get(image.sha256)
    parts.seen.loaded(who, number, "original")
    is_dicom = bool(image.sop_class)
    response = Response(data, media_type="application/dicom" if is_dicom else "application/octet-stream")
    ending = ".dcm" if is_dicom else ""  # not the sender's name for it, which is theirs to choose
    response.headers["Content-Disposition"] = f'attachment; filename="callus-{number}{ending}"'
    return response


def _image(parts: Parts, number: int, who: Who) -> Image:
    with parts.database.reading() as session:
        image = session.get(Image, number)
    if image is None:
        raise MissingError("there is no such image")
    parts.seen.note(who, image.study_id)
    return image


def _answered(parts: Parts, number: int, who: Who) -> tuple[Image, Answer, Model]:
    image = _image(parts, number, who)
    with parts.database.reading() as session:
        found = current_answers(session, [number]).get(number)
    if found is None:
        raise MissingError("there is no answer yet")
    return image, *found


def _result(answer: Answer, kind: str) -> str:
    sha256 = answer.results.get(kind)
    if not answer.results:
        raise MissingError("this is not made yet", hint="an event tells when it is: study, what made")
    if not isinstance(sha256, str):
        raise MissingError("this was not made of that image", hint="it is made of those that came as DICOM")
    return sha256


def _file(parts: Parts, number: int, who: Who, kind: str) -> Response:
    _, answer, _ = _answered(parts, number, who)
    data = parts.objects.get(_result(answer, kind))
    parts.seen.loaded(who, number, kind)
    is_fhir = kind == "fhir"
    response = Response(data, media_type="application/fhir+json" if is_fhir else "application/dicom")
    name = f"callus-{number}-{kind}.{'json' if is_fhir else 'dcm'}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _tag(*what: object) -> str:
    """What a picture was made of: the same again is the same picture."""
    return f'"{hashlib.sha256(repr(what).encode()).hexdigest()[:32]}"'


def _has(request: Request, tag: str) -> bool:
    return tag in (one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(","))


def _same(tag: str) -> Response:
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": _CACHE})


def _response(data: bytes, kind: str, tag: str) -> Response:
    return Response(data, media_type=kind, headers={"ETag": tag, "Cache-Control": _CACHE})


_CACHE = "private, no-cache"  # kept by the browser, but each time asked for: whoever has logged out sees nothing
