"""Results that are being made: in a few threads, each with a process, while the network goes on."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

from callus.service import making

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

LAST_S: Final = 10.0
"""In which results that are being made when the service stops may be done; the others are made after the next start."""
_THREADS: Final = min(4, os.cpu_count() or 1)
_LOOK_S: Final = 0.5


class Underway:
    """What one service has made. Begin by :meth:`add`; :meth:`end` once nothing is added any more."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """Prepare it.

        Args:
            ended: called when something has ended, however it did.
        """
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="results")
        self._processes = making.Processes()
        self._jobs: dict[Future[None], int] = {}
        self._ended = ended

    def jobs(self) -> list[int]:
        """The numbers of the jobs whose results are being made, or wait for that."""
        return list(self._jobs.values())

    def add(self, job: int, work: Callable[[], None]) -> None:
        """Have a job's results made: ``work`` does so, by :meth:`make`, in a thread."""

        def done(future: Future[None]) -> None:
            del self._jobs[future]
            self._ended()

        future = self._threads.submit(work)
        self._jobs[future] = job
        future.add_done_callback(done)

    def make(self, order: making.Order) -> making.Made:
        """Make an answer's results.

        Raises:
            StoppedError: the service stops; they are to be made after the next start.
            CallusError: they cannot be made.
        """
        return making.make(order, self._processes)

    def wait(self, stopping: threading.Event) -> None:
        """Wait until nothing is being made, or the service stops."""
        while self._jobs and not stopping.is_set():
            wait(list(self._jobs), _LOOK_S)

    def end(self) -> None:
        """Begin no more, and end what does not end by itself: a process takes long to start where cores are scarce."""
        begun = list(self._jobs)
        for future in begun:
            future.cancel()  # where it has not begun
        wait(begun, LAST_S)
        self._processes.end()
        self._threads.shutdown()
