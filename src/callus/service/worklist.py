"""The worklist: the worst first, the newest first within that, a page at a time however many there are."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from callus.labels import RESEARCH_ONLY
from callus.service.refusals import UnfitError
from callus.service.shown import RANKS, image_line, study_line
from callus.service.tables import Image, Job, Moment, Number, Study

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from callus.service.schemas.studies import ImageLine, StudyListed, Worklist

MOST: Final = 200
"""Studies on one page."""
_LONGEST_TEXT: Final = 100
_WORDS: Final = 6


@dataclass(frozen=True)
class Wanted:
    """Which studies.

    Attributes:
        level: a key of :data:`callus.service.shown.RANKS`; None for all.
        text: words that accession number, patient's name or number hold; "" for all.
        first: the first day on which a study may have come, or the instant from which on; None for any.
        last: the last day, or the instant before which; None for any.
        before: the cursor that the page before ended with; "" for the first page.
        limit: studies on the page.
    """

    level: str | None = None
    text: str = ""
    first: date | None = None
    last: date | None = None
    before: str = ""
    limit: int = 50


def worklist(session: Session, wanted: Wanted, *, patient: bool) -> Worklist:
    """A page of the worklist.

    Args:
        session: any.
        wanted: which studies.
        patient: whether patients may be shown; where not, their names cannot be searched either.

    Raises:
        UnfitError: the cursor is none.
    """
    order = (Study.rank.desc(), Study.changed.desc(), Study.id.desc())
    query = sa.select(Study.id).order_by(*order)  # all that is asked of stands in the index of this order
    if wanted.level is not None:
        query = query.where(Study.rank == RANKS[wanted.level])
    if wanted.first is not None:
        query = query.where(Study.received >= _begin(wanted.first))
    if wanted.last is not None:
        query = query.where(Study.received < _end(wanted.last))
    for word in wanted.text[:_LONGEST_TEXT].lower().split()[:_WORDS]:
        query = query.where(_holds(word, patient=patient))
    if wanted.before:
        here = sa.tuple_(Study.rank, Study.changed, Study.id)
        query = query.where(here < sa.tuple_(*_position(wanted.before)))
    ids = session.scalars(query.limit(wanted.limit + 1)).all()
    studies = session.scalars(sa.select(Study).where(Study.id.in_(ids)).order_by(*order)).all()
    shown = studies[: wanted.limit]
    images: dict[int, list[ImageLine]] = {study.id: [] for study in shown}
    for image in session.scalars(sa.select(Image).where(Image.study_id.in_(list(images))).order_by(Image.id)):
        images[image.study_id].append(image_line(image))
    given_up = (
        sa.select(Image.study_id, sa.func.count())
        .join(Job, Job.image_id == Image.id)
        .where(Image.study_id.in_(list(images)), Job.state == "stuck")
        .group_by(Image.study_id)
    )
    stuck = dict(session.execute(given_up).all())
    lines: list[StudyListed] = [
        {**study_line(study, patient=patient), "stuck": stuck.get(study.id, 0), "images": images[study.id]}
        for study in shown
    ]
    next_page = _cursor(shown[-1]) if len(studies) > wanted.limit else None
    return {"studies": lines, "next": next_page, "notice": RESEARCH_ONLY}


def _holds(word: str, *, patient: bool) -> sa.ColumnElement[bool]:
    """Whether a study's words hold one; before the line's end, where patients are not to be found."""
    escaped = "".join(f"/{letter}" if letter in "%_/" else letter for letter in word)
    return Study.words.like(f"%{escaped}%" if patient else f"%{escaped}%\n%", escape="/")


def _begin(time: date) -> datetime:
    """A day's first instant in UTC; an instant is its own."""
    return time if isinstance(time, datetime) else datetime(time.year, time.month, time.day, tzinfo=UTC)


def _end(time: date) -> datetime:
    """The instant after a day; an instant is its own."""
    if isinstance(time, datetime):
        return time
    return _begin(time) + timedelta(days=1) if time < date.max else datetime.max.replace(tzinfo=UTC)


def _cursor(study: Study) -> str:
    text = json.dumps([study.rank, study.changed.isoformat(), study.id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _position(cursor: str) -> list[sa.BindParameter[Any]]:
    try:
        rank, changed, number = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        at = datetime.fromisoformat(changed)
        fits = at.tzinfo is not None and 0 <= int(number) < 1 << 63 and 0 <= int(rank) < 1 << 15
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _no_place() from error
    if not fits:
        raise _no_place()
    return [
        sa.literal(int(rank), sa.Integer()),
        sa.literal(at, Moment()),
        sa.literal(int(number), Number),
    ]


def _no_place() -> UnfitError:
    return UnfitError("before is no place in the worklist", hint="take it from the page before")
