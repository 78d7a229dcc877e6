"""The stream: files are prepared in processes, answered in batches meanwhile, and written part by part."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any, Final

from callus.archive.parts import file_key
from callus.archive.preparing import prepare_files
from callus.bundle.engine import usable_cores
from callus.errors import CallusError
from callus.identify import Prepared
from callus.progress import progress
from callus.results.tables import as_row
from callus.workers import batched

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from concurrent.futures import Future

    from callus.archive.parts import Parts
    from callus.archive.preparing import Result
    from callus.identify import Identifier

_ANSWERING: Final = 2
"""Threads that ask the network: while one scales pixels or draws boxes, the other's pictures keep the cores at work."""
_BATCHES: Final = _ANSWERING + 1
"""Batches under way, so that one always waits."""

Row = tuple[dict[str, Any], str | None]
"""A file's entry by :func:`callus.results.tables.as_row`, and the SHA-256 of its bytes."""


def answer_files(
    identifier: Identifier, files: list[str], parts: Parts, *, workers: int | None = None, strict: bool = False
) -> None:
    """Answer files into a folder of Parquet parts, each once; memory does not grow with their number.

    Args:
        identifier: made with the hint "throughput".
        files: their paths, each once; those that the parts hold already are left out.
        parts: by :func:`callus.archive.parts.open_parts`.
        workers: processes that read and prepare; None for one a core.
        strict: refuse files that are damaged but could be read in part.

    Raises:
        CallusError: a part cannot be written, or no process can be started.
    """
    todo = [file for file in files if file_key(file) not in parts.answered]
    answered = answered_batches(identifier, todo, workers or usable_cores(), strict=strict)
    with closing(answered), progress("identifying", len(todo)) as advance:
        for rows in answered:
            for row, sha256 in rows:
                parts.add(row, sha256)
            advance(len(rows), note=f"{parts.failures} failed" if parts.failures else "")


def answered_batches(
    identifier: Identifier,
    files: Iterable[str],
    workers: int,
    *,
    strict: bool,
    turn: AbstractContextManager[object] | None = None,
) -> Generator[list[Row]]:
    """Answer files batch by batch.

    Args:
        identifier: made with the hint "throughput".
        files: their paths, taken only as far as is read ahead.
        workers: processes that read and prepare.
        strict: refuse files that are damaged but could be read in part.
        turn: held while files are read, and let go of before the last of them are answered. Threads that do this with
            the same lock do not get into each other's way, and the next one's reading begins meanwhile.

    Yields:
        The rows of a batch, in the order of the files.

    Raises:
        CallusError: no process can be started.
    """

    def answer(batch: list[tuple[str, Result]]) -> list[Row]:
        answers = iter(identifier.answer([item for _, (_, item) in batch if isinstance(item, Prepared)]))
        return [
            (as_row(file, item if isinstance(item, CallusError) else next(answers)), sha256)
            for file, (sha256, item) in batch
        ]

    def prepared_files() -> Generator[tuple[str, Result]]:
        with turn or nullcontext():
            yield from prepare_files(files, identifier.bundle.spec, workers, strict=strict)

    pool = ThreadPoolExecutor(_ANSWERING, thread_name_prefix="callus-answer")
    waiting: deque[Future[list[Row]]] = deque()
    with closing(prepared_files()) as prepared:
        try:
            for batch in batched(prepared, identifier.engine.batch):
                waiting.append(pool.submit(answer, batch))
                if len(waiting) >= _BATCHES:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
