"""A thread that takes jobs, holds them while it works, and puts back what did not go well."""

from __future__ import annotations

import logging
import threading
import uuid
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from callus.errors import CallusError
from callus.radiograph.limits import one_line
from callus.service import jobs

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.orm import Session

    from callus.service.database import Database
    from callus.service.tables import Job

_IDLE: Final = 1.0  # seconds between looks where nobody says that something came
STOP_SECONDS: Final = 40.0
"""In which a thread has to end what it is at when the service stops. What it leaves half done is done again later."""
_ATTEMPTS: Final = 30
"""After the tenth a job is tried once an hour: it is given up after most of a day."""
log = logging.getLogger(__name__)


class StuckError(CallusError):
    """Something does not end, although it was told to."""


def ended(thread: threading.Thread, seconds: float | None = None) -> None:
    """Wait until a thread that was told to end has ended; it may be one that was never started.

    Args:
        thread: it.
        seconds: how long; None for :data:`STOP_SECONDS`.

    Raises:
        StuckError: it goes on.
    """
    if thread.ident is None:
        return
    seconds = STOP_SECONDS if seconds is None else seconds
    thread.join(seconds)
    if thread.is_alive():
        raise StuckError(f"{thread.name} does not end within {seconds:g} s")


class PeerError(CallusError):
    """Another system does not do what it was asked for.

    Attributes:
        is_final: asking again would not help.
        is_away: it was not reached at all.
    """

    def __init__(self, what: str, *, is_final: bool = False, is_away: bool = False) -> None:
        """Compose it; what is wrong names no patient and no address."""
        super().__init__(what)
        self.is_final = is_final
        self.is_away = is_away


class Worker(threading.Thread):
    """Takes jobs of a kind. Set :attr:`came` when there may be one; call :meth:`stop` to end in order."""

    def __init__(
        self, database: Database, kind: str, *, name: str, most: int, only: sa.ColumnElement[bool] | None = None
    ) -> None:
        """Prepare it; ``start`` starts it.

        Args:
            database: where the jobs are.
            kind: of the jobs.
            name: of the thread.
            most: jobs that are taken together.
            only: a condition on the jobs.
        """
        super().__init__(name=name, daemon=True)
        self.came = threading.Event()
        self.stopping = threading.Event()
        self.database = database
        self.holder = uuid.uuid4().hex
        self._kind = kind
        self._most = most
        self._only = only
        self._held: set[int] = set()

    @abstractmethod
    def work(self, taken: list[Job]) -> None:
        """Do some jobs: end each by :meth:`finish` or :meth:`fail`. What is left over is put back."""

    def run(self) -> None:
        """Work until stopped."""
        threading.Thread(target=self._renew, name=f"{self.name}: leases", daemon=True).start()
        while not self.stopping.is_set():
            try:
                if not self._some():
                    self.came.wait(_IDLE)
                    self.came.clear()
            except Exception as error:  # noqa: BLE001 - nothing may end the thread
                log.error("%s waits: %s", self.name, type(error).__name__)  # noqa: TRY400 - texts may quote rows
                self.stopping.wait(_IDLE)
        with suppress(Exception):  # else the lease ends
            jobs.release(self.database, self.holder)

    def stop(self) -> None:
        """End after the job that is being done, and wait for that.

        Raises:
            StuckError: that takes too long.
        """
        self.stopping.set()
        self.came.set()
        ended(self)

    def finish(self, session: Session, job: Job) -> bool:
        """End a job in the transaction of what it brings about; whether it was still this worker's."""
        return jobs.finish(session, job, self.holder)

    def fail(self, job: Job, error: Exception) -> None:
        """Put a job back for later, or give it up where that would not help."""
        is_final = isinstance(error, PeerError) and error.is_final
        said = error.what if isinstance(error, CallusError) else type(error).__name__
        with self.database.writing() as session:
            stuck = jobs.fail(session, job, self.holder, one_line(said, 300), most=0 if is_final else _ATTEMPTS)
        log.warning("%s: job %d %s: %s", self.name, job.id, "is stuck" if stuck else "failed", one_line(said))

    def _some(self) -> int:
        taken = jobs.take(self.database, self._kind, self.holder, self._most, self._only)
        self._held = {job.id for job in taken}
        try:
            if taken:
                self.work(taken)
        except Exception as error:  # noqa: BLE001 - nothing may end the thread
            for job in taken:  # those that have ended do not change any more
                self.fail(job, error)
        finally:
            self._held = set()
        return len(taken)

    def _renew(self) -> None:
        while not self.stopping.wait(jobs.LEASE.total_seconds() / 3):
            with suppress(Exception):  # the next time, before the lease ends
                if held := set(self._held):
                    jobs.renew(self.database, self.holder, held)
