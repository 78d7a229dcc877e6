"""Ctrl-C (SIGINT) at the right moment: what must be whole is finished first, and what was started is ended."""

from __future__ import annotations

import signal
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Let Ctrl-C come after the block; in the main thread alone, which it interrupts."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield  # None: something that is not Python has installed its own, which could not be put back
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def held_back() -> Iterator[None]:
    """Block Ctrl-C where processes may be started, which inherit that, until the block has ended."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a process that does not outlive the block where that raises, also when Ctrl-C comes while it starts.

    Args:
        command: the program and its words.
        options: for :class:`subprocess.Popen`.

    Raises:
        OSError: it cannot be started.
    """
    with ExitStack() as ended:
        with ctrl_c_waits():  # else a Ctrl-C after the fork would lose hold of what was forked
            process = subprocess.Popen(command, **options)  # nosec B603  # noqa: S603 - the caller's own words
            ended.enter_context(process)
            ended.push(_killed_if_raised(process))
        yield process


def _killed_if_raised(process: subprocess.Popen[Any]) -> Callable[..., None]:
    """What leaves a block by an exception kills the process; leaving :class:`subprocess.Popen` alone waits for it."""

    def left(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            process.kill()
            process.wait()

    return left
