"""Files read and prepared in processes: a file at which native code crashes, or hangs, costs that file only."""

from __future__ import annotations

import faulthandler
import functools
import os
import re
import time
from collections import deque
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callus.errors import CallusError, RadiographError
from callus.identify import Prepared, prepare_one
from callus.radiograph import apart, limits, read
from callus.workers import ProcessEndedError, spread_over_processes, starting_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from callus.preprocess import InputSpec

LIMIT_S: Final = 60.0
"""How long one file may take by the clock, however much else the machine has to do."""
_MOST_GROWTH: Final = 1 << 30
"""Bytes by which a process may grow before it is replaced."""

Result = tuple[str | None, Prepared | CallusError]
"""The SHA-256 of a file's bytes (None where it could not be read), and what is left of it or what went wrong."""


def prepare_files(
    files: Iterable[str], spec: InputSpec, workers: int, *, strict: bool = False
) -> Generator[tuple[str, Result]]:
    """Read and prepare files in processes, in order, only a few ahead of what is taken.

    Args:
        files: their paths, taken one by one.
        spec: what the network takes.
        workers: processes.
        strict: refuse files that are damaged but could be read in part.

    Yields:
        The path and its result.

    Raises:
        CallusError: no process can be started.
    """
    _let_grow()
    yield from survive(partial(_prepare, folder=Path.cwd(), spec=spec, strict=strict), files, workers)


@contextmanager
def starting(workers: int) -> Iterator[None]:
    """Have the processes start while the block loads a model, which takes as long."""
    _let_grow()
    with starting_processes(_settle, workers):
        yield


def _let_grow() -> None:
    # A process that has grown by 300 MB is replaced by loky, which takes a second; large films need more for a moment.
    os.environ.setdefault("LOKY_MAX_MEMORY_LEAK_SIZE", str(_MOST_GROWTH))


def survive(work: Callable[[str], Result], files: Iterable[str], workers: int) -> Generator[tuple[str, Result]]:
    """Do work on files in processes, in order, and go on where one dies.

    Then the few files that were under way are done again, each alone; the one at which a process dies again is the
    one that failed.

    Args:
        work: a function of a module, or a partial of one.
        files: taken one by one.
        workers: processes.

    Yields:
        The path and what the work gives, or what went wrong.

    Raises:
        CallusError: no process can be started.
    """
    source = iter(files)
    under_way: deque[str] = deque()

    def taken() -> Iterator[str]:
        for file in source:
            under_way.append(file)
            yield file

    broken = True
    while broken:
        broken = False
        with closing(spread_over_processes(work, taken(), workers)) as results:
            try:
                for result in results:
                    yield under_way.popleft(), result
            except ProcessEndedError:
                broken = True
        while under_way:
            file = under_way.popleft()
            yield file, _alone(work, file)


def _alone(work: Callable[[str], Result], file: str) -> Result:
    """Do one file while no other is under way, so that a process that dies tells which file it was."""
    began = time.monotonic()
    try:
        (result,) = spread_over_processes(work, [file], 1)
    except ProcessEndedError as error:
        _check_processes()
        if time.monotonic() - began >= LIMIT_S:
            fate = f"is not read in {LIMIT_S:g} s"
        else:
            codes = re.search(r"\{(.+)\}", str(error.__cause__))  # loky tells how the process ended: {SIGSEGV(-11)}
            told = codes[1] if codes else "it was ended"
            fate = f"makes the process that reads it fail ({told})"
            if "SIGPROF" in told:
                fate = "is not read in the processor time that a file of its size may take"
        hint = "the file is damaged or hostile; leave it out, or export it again"
        return None, RadiographError(fate, where=file, hint=hint)
    return result


def _check_processes() -> None:
    """Blame no file where processes cannot even do nothing."""
    try:
        list(spread_over_processes(str, [""], 1, 1))
    except ProcessEndedError as error:
        why = limits.one_line(error.__cause__ or error)
        raise CallusError(
            f"processes that read files cannot be started: {why}", hint="is there memory left?"
        ) from error


def _prepare(file: str, folder: Path, spec: InputSpec, *, strict: bool) -> Result:
    """What a process does with a file; its own working folder is the one in which it was started."""
    _settle()
    # The watch is a thread of C that ends the process even where native code holds Python's lock.
    faulthandler.dump_traceback_later(LIMIT_S, exit=True, file=_nowhere())
    try:
        with apart.processor_limited(_size(folder / file)):
            radiograph = read(folder / file, strict=strict, isolated=False)
            return radiograph.sha256, prepare_one(radiograph, spec)
    except CallusError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - a decoder's bug costs one file, not the archive
        return None, RadiographError(f"cannot be read: {error!r}"[:300], where=file)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _size(file: Path) -> int:
    """A file's bytes; 0 where they cannot be told, which is for reading it to say."""
    try:
        return file.stat().st_size
    except (OSError, ValueError):
        return 0


@functools.cache
def _settle() -> None:
    """Make the process ready, once: what a hostile file can take is bounded."""
    faulthandler.disable()  # a crash becomes one line in the results, and not a page on the terminal
    apart.limit_memory()  # the same bounds as for a decoder's own process


@functools.cache
def _nowhere() -> int:
    return os.open(Path(os.devnull), os.O_WRONLY)
