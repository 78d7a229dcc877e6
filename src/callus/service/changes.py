"""What becomes of studies, written down for whoever shows them: numbers and one word, nothing of a patient."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

import sqlalchemy as sa

from callus.service.shown import moment
from callus.service.tables import Answer, Change, now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from callus.service.database import Database
    from callus.service.schemas.studies import StudyChanged

    What = Literal["arrived", "unanswered", "waiting", "made", "deleted"]

KEPT: Final = timedelta(days=7)
"""Who was away for longer reads the worklist anew."""
_NOTED: Final = "changes"


def note(session: Session, study: int, what: What, image: int | None = None, *, after: int | None = None) -> None:
    """Write down what became of a study, in the transaction that brings it about. Its commit tells the listeners.

    Args:
        session: a writing one.
        study: its number.
        what: "arrived" (an image), "unanswered" (an image will get no answer), "waiting" (it is tried again),
            "made" (the results of an image's answer are there) or "deleted".
        image: the image's number; None where the whole study is meant.
        after: the newest answer's number; None to look for it.
    """
    after = newest_answer(session) if after is None else after
    change = Change(study=study, image=image, what=what, after=after)
    session.add(change)
    session.info.setdefault(_NOTED, []).append(change)


def newest_answer(session: Session) -> int:
    """The highest number that an answer has or had; 0 before the first.

    Whoever listens goes on after a number, which SQLite would give again once its answer is deleted.
    """
    there = session.scalar(sa.select(sa.func.max(Answer.id))) or 0
    noted_then = session.scalar(sa.select(Change.after).order_by(Change.id.desc()).limit(1)) or 0
    return max(there, noted_then)


def noted(session: Session) -> list[Change]:
    """What was written down in a transaction that has just been committed."""
    found: list[Change] = session.info.pop(_NOTED, [])
    return found


def as_told(change: Change) -> StudyChanged:
    """A change as listeners are told it."""
    return {
        "id": change.id,
        "study": change.study,
        "image": change.image,
        "what": change.what,
        "at": moment(change.at),
    }


def forget_old(database: Database) -> None:
    """Delete what is older than :data:`KEPT`; not the newest, because SQLite would give its number again."""
    with database.writing() as session:
        newest = session.scalar(sa.select(sa.func.max(Change.id))) or 0
        session.execute(sa.delete(Change).where(Change.at < now() - KEPT, Change.id < newest))
