"""Work that is spread over the cores: results in the items' order, only a few ahead, so that Ctrl-C is quick."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Final, TypeVar

from callus.errors import CallusError
from callus.interrupts import held_back

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

_AHEAD: Final = 8  # items a thread that are begun before the first result is taken
_TOGETHER: Final = 4  # items that a process gets at once: passing them on takes as long as for one
_CHUNKS_AHEAD: Final = 4
_PARENT_EVERY_S: Final = 2.0
WORTH_PROCESSES: Final = 1000
"""Items of some milliseconds each from which processes are worth the two seconds that they take to start."""


def spread_over_threads(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Do work in threads: for what mostly leaves Python's lock (reading, decoding, OpenCV on large pictures).

    Args:
        work: what is to be done with an item.
        items: taken one by one.
        workers: threads.

    Yields:
        What the work gives, in the items' order. What it raises is raised here, and ends the rest.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting = []
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class ProcessEndedError(CallusError):
    """A process that shared the work ended before it was done."""


def spread_over_processes(
    work: Callable[[T], R], items: Iterable[T], workers: int, together: int = _TOGETHER
) -> Generator[R]:
    """Do work in processes: for what holds Python's lock so much that two threads are no faster than one.

    loky's processes do not run the caller's script again, so it needs no guard. One that waits for five
    minutes ends by itself; the next call finds those that still wait.

    Args:
        work: a function of a module; it and the items are pickled.
        items: taken one by one.
        workers: processes, each of which computes with one thread.
        together: items that a process gets at once; 1 where each takes long.

    Yields:
        What the work gives, in the items' order. What it raises is raised here, and ends the rest.

    Raises:
        ProcessEndedError: a process was killed, or killed itself; what loky says of it is its cause.
    """
    pool = _pool(workers)
    waiting = []
    try:
        for chunk in batched(items, together):
            with held_back():  # they inherit that, and so die of none before ``_begin``
                waiting.append(pool.submit(_each, work, chunk))
            if len(waiting) >= _CHUNKS_AHEAD * workers:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()
    except BrokenProcessPool as error:
        pool.shutdown(kill_workers=True)
        raise ProcessEndedError(
            "a process that shared the work ended before it was done; the machine may have run out of memory",
            hint="free some, or use fewer cores",
        ) from error
    except BaseException:
        pool.shutdown(kill_workers=True)
        raise


@contextmanager
def starting_processes(ready: Callable[[], object], workers: int) -> Iterator[None]:
    """Have the processes of :func:`spread_over_processes` start while the block does something else.

    Where that raises they are ended.

    Args:
        ready: a function of a module, which each calls once it runs: importing that takes a part of the start.
        workers: as there.
    """
    pool = _pool(workers)
    try:
        with held_back():
            for _ in range(workers):
                pool.submit(ready)
        yield
    except BaseException:
        pool.shutdown(kill_workers=True)
        raise


def _pool(workers: int) -> Any:
    """The processes: those that wait from before, or new ones."""
    from loky import get_reusable_executor  # noqa: PLC0415 - a tenth of a second

    if hasattr(signal, "pthread_sigmask"):
        # Python starts it beside the first process, and then lets signals through that were held back before.
        resource_tracker.ensure_running()
    begun = {"initializer": _begin, "initargs": (os.getpid(),)}
    return get_reusable_executor(workers, timeout=300, env=_ONE_THREAD, **begun)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Give the items in lists of ``size``, the last one shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def prefer_throughput() -> None:
    """Have this process, and those that it starts, do much work rather than answer soon; before threads are started.

    Measured with ``callus identify --parquet`` on two cores: large blocks of memory that are used again save up to 10 %
    of the processor time, and a kernel that interrupts half as often (Linux' SCHED_BATCH) 3 to 8 %.
    """
    from callus.memory import keep_freed_memory  # noqa: PLC0415

    keep_freed_memory()
    with suppress(AttributeError, OSError):  # elsewhere than on Linux, or where that is not allowed
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _each(work: Callable[[T], R], chunk: list[T]) -> list[R]:
    return [work(item) for item in chunk]


_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def _begin(parent: int) -> None:
    """Make a process ready: Ctrl-C is the caller's to handle, and the cores are shared out already."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import cv2  # noqa: PLC0415

    from callus.memory import keep_freed_memory  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    cv2.setNumThreads(1)


def _end_with(parent: int) -> None:
    """End when the caller has been killed: loky's processes would wait for more work."""
    while os.getppid() == parent:
        time.sleep(_PARENT_EVERY_S)
    os._exit(1)
