"""Readers' verdicts, and their export for the next training."""

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field, model_validator

from callus.service import audit
from callus.service.api.common import API, NO_NUL, Body, Judge, Number, Service
from callus.service.parts import Parts
from callus.service.placing import held_image
from callus.service.refusals import ClashError, MissingError, UnfitError
from callus.service.responses import refused
from callus.service.schemas.studies import VerdictWhole
from callus.service.shown import current_answers, verdict_whole
from callus.service.tables import Verdict

router = APIRouter(prefix=API, tags=["verdicts"])
Pixels = Annotated[float, Field(ge=0, le=65535, allow_inf_nan=False, description="pixels from the upper left corner")]
_EXPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/vnd.apache.parquet": {}, "text/csv": {"schema": {"type": "string"}}},
        "description": "a manifest, see docs/data.md",
    },
    **refused(404),
}
Side = Annotated[float, Field(gt=0, le=65535, allow_inf_nan=False, description="pixels")]


class Drawn(Body):
    """A box that a reader drew, in pixels of the image."""

    x: Pixels
    y: Pixels
    width: Side
    height: Side


class Judgement(Body):
    """What a reader says of an image."""

    agrees: Annotated[bool | None, Field(description="with the answer")] = None
    answer: Annotated[
        int | None, Field(ge=1, description="the answer that was looked at; refused where another counts by now")
    ] = None
    label: Annotated[int | None, Field(ge=0, le=1, description="1 fractured, 0 not")] = None
    boxes: Annotated[list[Drawn], Field(max_length=100, description="where a fracture is")] = []  # noqa: RUF012 - copied
    comment: Annotated[str, Field(max_length=4000, pattern=NO_NUL, description="in the reader's words")] = ""

    @model_validator(mode="after")
    def _says_something(self) -> "Judgement":
        if self.agrees is None and self.label is None and not self.boxes and not self.comment:
            raise ValueError("a verdict says something")
        if self.label == 0 and self.boxes:
            raise ValueError("boxes are where a fracture is")
        return self


@router.post("/images/{number}/verdict", status_code=201, responses=refused(404, 409))
def judge(number: Number, given: Judgement, parts: Service, who: Judge) -> VerdictWhole:
    """Say what is seen. Verdicts are added, never changed; a reader's last one counts.

    Agreeing says nothing without what is agreed with: who agrees or disagrees should name the answer.
    """
    with parts.database.writing() as session:
        image = held_image(session, number)
        if image is None:
            raise MissingError("there is no such image")
        for box in given.boxes:
            if box.x + box.width > (image.width or 65535) or box.y + box.height > (image.height or 65535):
                raise UnfitError("a box reaches beyond the image")
        found = current_answers(session, [number]).get(number)
        if given.answer is not None and (found is None or found[0].id != given.answer):
            raise ClashError("another answer counts by now", hint="look at it, and judge again")
        verdict = Verdict(
            image_id=number,
            answer_id=found[0].id if found else None,
            user_id=who.user.id,
            agrees=given.agrees,
            label=given.label,
            boxes=[box.model_dump() for box in given.boxes],
            comment=given.comment,
        )
        session.add(verdict)
        session.flush()
        audit.note(session, who=who.name, did="judged", what=f"image {number}", address=who.address)
        return verdict_whole(verdict, who.name)


@router.get("/verdicts/export", response_class=Response, responses=_EXPORT)
def export(
    parts: Service, who: Judge, form: Annotated[Literal["parquet", "csv"], Query(alias="format")] = "parquet"
) -> Response:
    """The verdicts as a manifest for training. It names files on the service's own disk, and no patient."""
    data = _manifest(parts, form)
    with parts.database.writing() as session:
        audit.note(session, who=who.name, did="exported", what="verdicts", address=who.address)
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/vnd.apache.parquet"
    return Response(data, media_type=kind, headers={"Content-Disposition": f'attachment; filename="verdicts.{form}"'})


def _manifest(parts: Parts, form: str) -> bytes:
    from callus.dataset.manifest import write_manifest  # noqa: PLC0415 - pandas is not needed for a start
    from callus.service.verdicts import verdict_manifest  # noqa: PLC0415

    with parts.database.reading() as session:
        frame = verdict_manifest(session, parts.objects)
    with tempfile.TemporaryDirectory(dir=parts.room.folder) as folder:
        file = Path(folder) / f"verdicts.{form}"
        write_manifest(frame, file)
        return file.read_bytes()
