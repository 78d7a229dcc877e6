"""Work that outlives a crash: taken with a lease, done once.

Whoever takes a job holds it until the lease ends and renews the lease meanwhile. A holder that was killed renews
nothing, so the job is free again. What a job brings about and its end are one transaction, so it is done once, however
often it was begun.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from callus.radiograph.limits import one_line
from callus.service.tables import Job, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from callus.service.database import Database

PULL: Final = "pull"
"""The kind of job that brings a study from another archive."""
LEASE: Final = timedelta(seconds=60)
_FIRST_WAIT: Final = 5.0  # seconds before a failed job is tried again; twice as many each time
_LONGEST_WAIT: Final = 3600.0


def add(
    session: Session,
    kind: str,
    key: str,
    *,
    image_id: int | None = None,
    about: dict[str, Any] | None = None,
    due: datetime | None = None,
) -> bool:
    """Add a job, in the caller's transaction; where it is there already nothing happens.

    Args:
        session: a writing one.
        kind: what is to be done.
        key: to what; unique within the kind.
        image_id: the image that it is about; the job goes when the image goes.
        about: more.
        due: not to be taken before.

    Returns:
        Whether it is new.
    """
    if session.scalar(sa.select(Job.id).where(Job.kind == kind, Job.key == key)) is not None:
        return False
    session.add(Job(kind=kind, key=key, image_id=image_id, about=about or {}, due=due or now()))
    session.flush()
    return True


def take(
    database: Database, kind: str, holder: str, most: int = 1, only: sa.ColumnElement[bool] | None = None
) -> list[Job]:
    """Take the jobs that have waited longest, those too whose holder's lease has ended.

    Args:
        database: where they are.
        kind: of the jobs.
        holder: who takes them.
        most: how many at most.
        only: a condition on :class:`Job`; None for all of the kind.
    """
    at = now()
    free = sa.or_(Job.state == "waiting", sa.and_(Job.state == "taken", Job.lease < at))
    with database.writing() as session:
        found = session.scalars(
            sa.select(Job)
            .where(Job.kind == kind, free, Job.due <= at, sa.true() if only is None else only)
            .order_by(Job.due, Job.id)
            .limit(most)
            .with_for_update(skip_locked=True)
        ).all()
        for job in found:
            job.state, job.holder, job.lease, job.attempts = "taken", holder, at + LEASE, job.attempts + 1
        return list(found)


def renew(database: Database, holder: str, numbers: Iterable[int]) -> None:
    """Hold some jobs for another lease."""
    with database.writing() as session:
        session.execute(
            sa.update(Job)
            .where(Job.id.in_(list(numbers)), Job.holder == holder, Job.state == "taken")
            .values(lease=now() + LEASE)
        )


def finish(session: Session, job: Job, holder: str) -> bool:
    """End a job in the transaction that brings about what it is for.

    Returns:
        Whether the holder still has it; where not, someone else does it, and the caller has to roll back.
    """
    done: Any = session.execute(
        sa.update(Job)
        .where(Job.id == job.id, Job.holder == holder, Job.state == "taken")
        .values(state="done", lease=None, finished=now(), error="")
    )
    return bool(done.rowcount)


def fail(session: Session, job: Job, holder: str, reason: object, *, most: int) -> bool:
    """Put a job back to be tried later, twice as long after as last time, or give it up.

    Args:
        session: a writing one.
        job: which failed.
        holder: who has it.
        reason: why, for people.
        most: attempts after which it is given up: its state is then "stuck".

    Returns:
        Whether it was given up.
    """
    stuck = job.attempts >= most
    wait = min(_FIRST_WAIT * 2 ** min(job.attempts - 1, 20), _LONGEST_WAIT)
    session.execute(
        sa.update(Job)
        .where(Job.id == job.id, Job.holder == holder, Job.state == "taken")
        .values(
            state="stuck" if stuck else "waiting",
            lease=None,
            due=now() + timedelta(seconds=wait),
            error=one_line(reason, 500),
        )
    )
    return stuck


def retry(session: Session, numbers: Sequence[int]) -> int:
    """Have jobs that were given up tried again; the number of those that were."""
    done: Any = session.execute(
        sa.update(Job).where(Job.id.in_(numbers), Job.state == "stuck").values(state="waiting", attempts=0, due=now())
    )
    return int(done.rowcount)


def release(database: Database, holder: str) -> None:
    """Give back what a holder that ends in order still has."""
    with database.writing() as session:
        session.execute(
            sa.update(Job)
            .where(Job.holder == holder, Job.state == "taken")
            .values(state="waiting", lease=None, attempts=Job.attempts - 1)
        )


def take_up(database: Database, *, most: int) -> None:
    """Free what is still held, at the start of the only service that there is: its holders were killed.

    Args:
        database: where the jobs are.
        most: times that a job may have been begun; who saw the service end as often while it was done is given up.
    """
    with database.writing() as session:
        held = Job.state == "taken"
        session.execute(
            sa.update(Job)
            .where(held, Job.attempts >= most)
            .values(state="stuck", lease=None, error="the service ended each time while this was done")
        )
        session.execute(sa.update(Job).where(held).values(state="waiting", lease=None))


def waiting(session: Session, kind: str) -> int:
    """How many jobs of a kind are to be done."""
    count = sa.select(sa.func.count()).select_from(Job).where(Job.kind == kind, Job.state.in_(["waiting", "taken"]))
    return session.scalar(count) or 0
