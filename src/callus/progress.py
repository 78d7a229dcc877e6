"""Progress with the time left, for anything that may take more than two seconds.

On a terminal a bar; elsewhere (a log file, CI) a line every half minute, so that logs stay short. All on stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
_LINE_EVERY_S = 30.0


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show how far ``what`` is while the block runs.

    Args:
        what: what is being done, in a few words.
        total: how many steps there are; None where nobody knows.

    Yields:
        ``advance(steps=1, note="")``: call it after each step; ``note`` stands behind the bar.
    """
    if sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        yield _lines(what, total)


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` while a progress bar counts them."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(what, total) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[..., None]]:
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=total, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            shown.update(task, advance=steps, note=note)

        yield advance


def _lines(what: str, total: int | None) -> Callable[..., None]:
    started = last = time.monotonic()
    done = 0

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal last, done
        done += steps
        now = time.monotonic()
        if now - last < _LINE_EVERY_S:
            return
        last = now
        left = "" if not total or not done else f", {(now - started) * (total - done) / done:.0f} s left"
        print(f"{what}: {done}/{total or '?'}{left} {note}".rstrip(), file=sys.stderr, flush=True)  # noqa: T201

    return advance
