"""Deleting: rows, and then the files that no other row names. What is deleted is gone from the disk.

PostgreSQL alone keeps what rows held until it needs the room; docs/serve.md says what to do where that is too long.
"""

from __future__ import annotations

import logging
import threading
from contextlib import closing, suppress
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from callus.service import audit, changes
from callus.service.copying import clear_copies
from callus.service.jobs import ENDED, PULL
from callus.service.tables import Answer, Image, Job, Study, now
from callus.service.worker import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from callus.service.database import Database
    from callus.service.objects import ObjectStore

_AT_ONCE: Final = 100  # studies in one transaction
_HASHES: Final = 500  # in one query
_EVERY: Final = 3600.0  # seconds between looks for what is too old
log = logging.getLogger(__name__)


def delete_studies(
    database: Database,
    objects: ObjectStore,
    numbers: Sequence[int],
    *,
    who: str,
    address: str = "",
    before: datetime | None = None,
) -> set[str]:
    """Delete studies with all that belongs to them; lines of the audit log stay.

    Args:
        database: where.
        objects: where their files are.
        numbers: the studies'; those that are not there are passed over.
        who: on whose account.
        address: where the request came from.
        before: passes over those to which an image came since; None for none.

    Returns:
        The hashes of files that were theirs, whether others have them too or not.
    """
    hashes: set[str] = set()
    with database.writing() as session:
        held = sa.select(Study.id).where(Study.id.in_(numbers)).order_by(Study.id).with_for_update()
        there = session.scalars(held).all()
        if before is not None:  # asked again, now that nothing can come any more
            fresh = set(session.scalars(_fresh(before).where(Image.study_id.in_(there))))
            there = [number for number in there if number not in fresh]
        hashes |= set(session.scalars(sa.select(Image.sha256).where(Image.study_id.in_(there))))
        for heat, results in session.execute(
            sa.select(Answer.map, Answer.results).join(Image).where(Image.study_id.in_(there))
        ):
            hashes |= {heat, *results.values()}
        for number in there:
            audit.note(session, who=who, did="deleted", what=f"study {number}", address=address)
        newest = changes.newest_answer(session)  # while it is there: SQLite would give its number again
        pulled = sa.and_(Job.kind == PULL, Job.state.in_((*ENDED, "stuck")))
        uids = sa.select(Study.uid).where(Study.id.in_(there))
        session.execute(sa.delete(Job).where(pulled, Job.about["study"].as_string().in_(uids)))
        session.execute(sa.delete(Study).where(Study.id.in_(there)))
        for number in there:  # last: a number that is given early would stand late
            changes.note(session, number, "deleted", after=newest)
    hashes.discard("")
    forget(database, objects, hashes)
    if database.is_sqlite:
        _empty_log(database)
    return hashes


def forget(database: Database, objects: ObjectStore, hashes: Collection[str]) -> None:
    """Delete the files that no row names any more.

    Others who keep the same bytes at this moment see in their transaction that the file is gone, and write it again.

    Args:
        database: whose rows are asked.
        objects: where the files are.
        hashes: the files.
    """
    wanted = sorted(hashes)
    for begin in range(0, len(wanted), _HASHES):
        some = wanted[begin : begin + _HASHES]
        with database.writing() as session:
            if not database.is_sqlite:  # SQLite has one writer at a time; here the others have to wait
                session.execute(sa.text("LOCK TABLE answers, images IN SHARE MODE"))
            named = set(session.scalars(sa.select(Image.sha256).where(Image.sha256.in_(some))))
            named |= set(session.scalars(sa.select(Answer.map).where(Answer.map.in_(some))))
            # Reports hold their image's UID and are nobody else's; pictures of the same pixels may be equal.
            drawn = Answer.results["overlay"].as_string()
            named |= set(session.scalars(sa.select(drawn).where(drawn.in_(some))))
            for sha256 in some:
                if sha256 not in named:
                    objects.delete(sha256)


def sweep(database: Database, objects: ObjectStore, goes_on: Callable[[], bool] = lambda: True) -> int:
    """Delete files that a crash left without a row; how many.

    Args:
        database: where the rows are.
        objects: where the files are.
        goes_on: whether nobody waits for this to end; once somebody does, it stays so, and nothing is deleted any more.
    """
    with closing(_beginnings(database)) as named:
        known = np.unique(np.fromiter(takewhile(lambda _: goes_on(), named), dtype=np.uint64))
    return objects.sweep(lambda sha256: _holds(known, sha256), goes_on)


class Keeping(threading.Thread):
    """Deletes what is older than the service was told to keep, and what crashes left."""

    def __init__(
        self, database: Database, objects: ObjectStore, days: int, gone: Callable[[set[str]], None] | None = None
    ) -> None:
        """Prepare it; ``start`` starts it.

        Args:
            database: where.
            objects: where the files are.
            days: studies whose newest image came earlier are deleted; 0 keeps them.
            gone: told the hashes of files that were deleted.
        """
        super().__init__(name="keeping", daemon=True)
        self._database = database
        self._objects = objects
        self._days = days
        self._gone = gone
        self._stopping = threading.Event()

    def run(self) -> None:
        """Look now, and every hour."""
        while True:
            try:
                if self._days > 0:
                    self.delete_old()
                sweep(self._database, self._objects, lambda: not self._stopping.is_set())
                changes.forget_old(self._database)
                clear_copies(self._objects.folder.parent)
            except Exception as error:  # noqa: BLE001 - nothing may end the thread: a disk that is full needs it most
                log.error("deleting waits: %s", type(error).__name__)  # noqa: TRY400 - a trace may hold rows
            if self._stopping.wait(_EVERY):
                return

    def stop(self) -> None:
        """End.

        Raises:
            StuckError: that takes too long.
        """
        self._stopping.set()
        ended(self)

    def delete_old(self) -> int:
        """Delete what is too old; how many studies."""
        count, before = 0, now() - timedelta(days=self._days)
        while not self._stopping.is_set():
            with self._database.reading() as session:
                is_old = sa.and_(Study.received < before, ~_fresh(before).where(Image.study_id == Study.id).exists())
                old = session.scalars(sa.select(Study.id).where(is_old).limit(_AT_ONCE)).all()
            if not old:
                break
            hashes = delete_studies(self._database, self._objects, old, who="service", before=before)
            if self._gone is not None:
                self._gone(hashes)
            count += len(old)
        return count


def _fresh(since: datetime) -> sa.Select[Any]:
    """The studies to which an image came since then."""
    return sa.select(Image.study_id).where(Image.received >= since)


def _beginnings(database: Database) -> Generator[int]:
    """The first 64 bits of each file that a row names."""
    in_parts = {"yield_per": 1000}
    with database.reading() as session:
        with session.scalars(sa.select(Image.sha256), execution_options=in_parts) as images:
            for sha256 in images:
                yield int(sha256[:16], 16)
        with session.execute(sa.select(Answer.map, Answer.results), execution_options=in_parts) as answers:
            for heat, results in answers:
                for sha256 in (heat, *results.values()):
                    if sha256:
                        yield int(sha256[:16], 16)


def _holds(known: NDArray[np.uint64], name: str) -> bool:
    try:
        value = np.uint64(int(name[:16], 16))
    except ValueError:
        return False
    place = int(np.searchsorted(known, value))
    return place < len(known) and known[place] == value


def _empty_log(database: Database) -> None:
    """Have what was deleted out of the write-ahead log too, where nobody is reading it just now."""
    with suppress(sa.exc.SQLAlchemyError):
        connection = database.engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
