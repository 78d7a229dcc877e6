"""Work that outlives a crash: taken with a lease, done once.

Whoever takes a job holds it until the lease ends and renews the lease meanwhile. A holder that was killed renews
nothing, so the job is free again. The last that a job brings about and its end are one transaction, so it is done once,
however often it was begun.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from callus.radiograph.limits import one_line
from callus.service.tables import Job, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from callus.service.database import Database

    Numbers = Sequence[int] | sa.Select[Any]

IDENTIFY: Final = "identify"
TRY: Final = "try"
"""Answers of a model that is being tried: when nothing else waits, and nobody is told."""
DELIVER: Final = "deliver"
PULL: Final = "pull"
ENDED: Final = ("done", "dropped")
"""States that jobs do not leave by themselves."""
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
    session.flush()  # the image that it names
    insert: Any = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    row = insert(Job).values(kind=kind, key=key, image_id=image_id, about=about or {}, due=due or now())
    new = row.on_conflict_do_nothing(index_elements=["kind", "key"]).returning(Job.id)
    return session.scalar(new) is not None


def take(
    database: Database, kind: str, holder: str, most: int = 1, only: sa.ColumnElement[bool] | None = None
) -> list[Job]:
    """Take the jobs that have waited longest, those too whose holder's lease has ended.

    One at which the service was killed is taken alone: if it is the cause, others must not be killed with it.

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
        found = found[:1] if found and found[0].killed else [job for job in found if not job.killed]
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


def holds(session: Session, job: Job, holder: str) -> bool:
    """Whether a holder still has a job, which nobody takes or ends then until this transaction ends."""
    mine = sa.select(Job.id).where(Job.id == job.id, Job.holder == holder, Job.state == "taken")
    return session.scalar(mine.with_for_update()) is not None


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
        Whether it was given up; not where somebody else has it, or it has ended.
    """
    stuck = job.attempts >= most
    wait = min(_FIRST_WAIT * 2 ** min(job.attempts - 1, 20), _LONGEST_WAIT)
    done: Any = session.execute(
        sa.update(Job)
        .where(Job.id == job.id, Job.holder == holder, Job.state == "taken")
        .values(
            state="stuck" if stuck else "waiting",
            lease=None,
            due=now() + timedelta(seconds=wait),
            error=one_line(reason, 500),
            killed=0,
        )
    )
    return stuck and bool(done.rowcount)


def retry(session: Session, numbers: Numbers) -> int:
    """Have jobs that were given up tried again; the number of those that were."""
    done: Any = session.execute(sa.update(Job).where(Job.id.in_(numbers), Job.state == "stuck").values(_anew()))
    return int(done.rowcount)


def renew_ended(session: Session, kind: str, key: str) -> None:
    """Have a job that has ended, however it did, done again."""
    ended = sa.and_(Job.kind == kind, Job.key == key, Job.state.in_((*ENDED, "stuck")))
    session.execute(sa.update(Job).where(ended).values(_anew()))


def drop(session: Session, numbers: Numbers) -> int:
    """Have jobs that were given up never tried again; the number of those that were. They say why they were stuck."""
    done: Any = session.execute(
        sa.update(Job).where(Job.id.in_(numbers), Job.state == "stuck").values(state="dropped", finished=now())
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


def take_up(database: Database) -> None:
    """Free what is still held, at the start of the only service that there is: its holders were killed.

    That counts apart from attempts that failed: whoever waits for an archive is not what the service was killed by.
    """
    with database.writing() as session:
        attempts = sa.case((Job.attempts > 0, Job.attempts - 1), else_=0)
        values = {"state": "waiting", "lease": None, "attempts": attempts, "killed": Job.killed + 1}
        session.execute(sa.update(Job).where(Job.state == "taken").values(values))


def waiting(session: Session, kind: str) -> int:
    """How many jobs of a kind are to be done."""
    count = sa.select(sa.func.count()).select_from(Job).where(Job.kind == kind, Job.state.in_(["waiting", "taken"]))
    return session.scalar(count) or 0


def _anew() -> dict[str, Any]:
    """A job as if it had just been added."""
    return {"state": "waiting", "attempts": 0, "killed": 0, "due": now(), "finished": None, "error": ""}
