"""Coded DICOM frames decoded in processes of their own, where a decoder that crashes or hangs costs one file.

GDCM, OpenJPEG and CharLS are native code, and what they decode may come from anybody. In a batch a crash would take
all the other files with it, so there the stream is handed to a process that does nothing but decode, which is replaced
when it dies. It costs the time to hand pixels over (some 10 ms), and about a second once for each process.

The two talk in lines of JSON with bytes behind them, never in pickles: a decoder that was taken over must not be able
to run code here.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from callus.errors import PassingError, RadiographError
from callus.radiograph import codecs
from callus.radiograph.elements import syntax_name
from callus.radiograph.limits import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S: float = 60.0
"""How long one frame may take by the clock, however much else the machine has to do."""
CPU_S: float = 10.0
"""Processor time that a file or a coded frame of a few MB may take: see ``docs/decisions.md``."""
_CPU_S_A_MIB: Final = 0.5
_MOST_CPU_S: Final = 55.0
MOST_MEMORY: Final = 2 << 30
"""What a process may allocate beside what it starts with."""
_END_S: Final = 10.0  # for a process that was killed to be gone
_SERVE: Final = "from callus.radiograph.apart import serve; serve()"
_KINDS: Final = {"uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32}
_LONGEST_LINE: Final = 65_536

_OUT_OF_TIME: Final = getattr(signal, "SIGPROF", 27)

_idle: list[_Decoder] = []


def coded(data: bytes, layout: codecs.Layout, syntax: str) -> codecs.Frame:
    """Decode one compressed frame as :func:`callus.radiograph.codecs.coded` does, but in another process.

    Threads may call it at once; each then has a process of its own. The processes are kept for the next call. One that
    ends before it answers is replaced, once: it may have been killed while it waited, or with others that the machine
    had no memory for.

    Raises:
        RadiographError: as there; and where two processes in turn ended at it, or one answered nonsense or took more
            processor time than frames of that size do.
        PassingError: a process cannot be started, took too long by the clock, was killed twice, or has no memory.
    """
    try:
        decoder = _idle.pop()
    except IndexError:
        decoder = _Decoder()
    try:
        frame = _decoded_by(decoder, data, layout, syntax)
    except _DiedError:
        try:
            frame = _decoded_by(_Decoder(), data, layout, syntax)
        except _DiedError as error:
            kind = PassingError if error.was_killed else RadiographError
            raise kind(error.what, hint=error.hint) from error
    if isinstance(frame, RadiographError):
        raise frame
    return frame


def _decoded_by(decoder: _Decoder, data: bytes, layout: codecs.Layout, syntax: str) -> codecs.Frame | RadiographError:
    try:
        frame = decoder.decode(data, layout, syntax)
    except BaseException:  # after Ctrl-C, too: it would give the next question this one's answer
        decoder.end()
        raise
    _idle.append(decoder)
    return frame


def serve() -> None:
    """Be such a process: answer until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    limit_memory()
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        data = _exactly(sys.stdin.buffer, request["bytes"])
        with processor_limited(len(data)):
            answer, body = _answer(data, codecs.Layout(**request["layout"]), request["syntax"])
        _send(answers, answer, body)


def _answer(data: bytes, layout: codecs.Layout, syntax: str) -> tuple[dict[str, Any], memoryview]:
    try:
        frame = codecs.coded(data, layout, syntax)
    except RadiographError as error:
        return {"what": error.what, "hint": error.hint}, memoryview(b"")
    except MemoryError:
        return {"what": "does not fit into memory", "hint": "reduce it", "passes": True}, memoryview(b"")
    values = np.ascontiguousarray(frame.values)
    answer = {"layout": asdict(frame.layout), "missing": frame.missing, "kind": values.dtype.name}
    return answer | {"shape": values.shape}, values.data.cast("B")


class _DiedError(RadiographError):
    """A process ended before it answered.

    Attributes:
        was_killed: from outside, as the system does where memory is short; no decoder crashes that way.
    """

    was_killed = False


class _Decoder:
    """The other process, seen from here."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(  # nosec B603  # noqa: S603 - our own code in our own interpreter
                # Without -P a file in the working folder could stand in for a module; Ctrl-C is this process's to
                # handle.
                [sys.executable, "-P", "-c", _SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:  # too many processes or open files, no memory
            raise _not_now(error) from error

    def decode(self, data: bytes, layout: codecs.Layout, syntax: str) -> codecs.Frame | RadiographError:
        """Ask, and give what it answers.

        Raises:
            RadiographError: it answers nonsense, or takes too much processor time.
            PassingError: it takes too long.
            _DiedError: it ended.
        """
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(LIMIT_S, stop)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError as error:  # no more threads
            raise _not_now(error) from error
        try:
            return self._asked(data, layout, syntax)
        except (OSError, EOFError, ValueError, TypeError, LookupError) as error:
            if late.is_set():
                raise PassingError(
                    f"has pixel data that its decoder is not done with in {LIMIT_S:g} s [{syntax_name(syntax)}]",
                    hint="try again when the machine has less to do; if that does not help, export it uncompressed",
                ) from error
            died = isinstance(error, OSError | EOFError)
            raise self._failure(syntax, len(data), _DiedError if died else RadiographError) from error
        finally:
            timer.cancel()

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        with suppress(OSError, subprocess.TimeoutExpired):  # nothing waits for ever for what the kernel does not end
            self._process.communicate(timeout=_END_S)

    def _asked(self, data: bytes, layout: codecs.Layout, syntax: str) -> codecs.Frame | RadiographError:
        question, answers = self._process.stdin, self._process.stdout
        if question is None or answers is None:
            raise EOFError
        _send(question, {"bytes": len(data), "layout": asdict(layout), "syntax": syntax}, memoryview(data))
        line = answers.readline(_LONGEST_LINE)
        if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
            raise EOFError
        answer = json.loads(line)
        if "what" in answer:
            kind_of = PassingError if answer.get("passes") else RadiographError
            return kind_of(str(answer["what"]), hint=str(answer["hint"]))
        kind, shape = np.dtype(_KINDS[answer["kind"]]), tuple(answer["shape"])
        if shape not in ((layout.rows, layout.columns), (layout.rows, layout.columns, 3)):
            raise ValueError(shape)
        body = _exactly(answers, math.prod(shape) * kind.itemsize)
        missing = answer["missing"]
        values = np.frombuffer(body, kind).reshape(shape)
        return codecs.Frame(values, codecs.Layout(**answer["layout"]), missing if missing is None else float(missing))

    def _failure(self, syntax: str, size: int, kind: type[RadiographError]) -> RadiographError:
        if kind is RadiographError:
            self._process.kill()  # where it answers nonsense it may still run
        try:
            code: int | None = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            code = None
        hint = "the file is damaged or hostile; leave it out, or export it uncompressed"
        if code == -_OUT_OF_TIME:  # it would be so again, however little else there is to do
            seconds = processor_s(size)
            return RadiographError(
                f"has pixel data that its decoder is not done with in {seconds} s of processor time"
                f" [{syntax_name(syntax)}]",
                hint=hint,
            )
        ended = "it does not end" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        failure = kind(
            f"has pixel data that make the process of its decoder fail ({ended}) [{syntax_name(syntax)}]", hint=hint
        )
        if isinstance(failure, _DiedError):
            failure.was_killed = code == -getattr(signal, "SIGKILL", 9)
        return failure


def _not_now(error: Exception) -> PassingError:
    return PassingError(
        f"cannot be decoded now: no process can be started for it ({one_line(error)})", hint="try again later"
    )


def _send(pipe: IO[bytes], head: dict[str, Any], body: memoryview) -> None:
    pipe.write(json.dumps(head).encode() + b"\n")
    pipe.write(body)
    pipe.flush()


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    body = pipe.read(count)
    if len(body) < count:
        raise EOFError
    return body


def processor_s(size: int) -> int:
    """Seconds of processor time that a file, or a coded frame, of ``size`` bytes may take."""
    return math.ceil(min(_MOST_CPU_S, CPU_S + _CPU_S_A_MIB * size / (1 << 20)))


@contextmanager
def processor_limited(size: int) -> Iterator[None]:
    """End this process (SIGPROF) where it takes more processor time meanwhile than ``size`` bytes may take.

    The kernel sees to that, whatever native code does; on systems that can do so. Of RLIMIT_CPU it could not be said
    from when on: the kernel counts whole ticks there, and :func:`time.process_time` what was really used.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, processor_s(size))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def limit_memory() -> None:
    """Let an allocation without end fail here, and not take the machine's memory; where the system can do that.

    Nor does a crash leave the process's memory on the disk, which holds a radiograph.
    """
    try:
        import resource  # noqa: PLC0415 - Unix only
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) if Path("/proc").exists() else 0
    if pages:
        most = pages * resource.getpagesize() + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


atexit.register(_end_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the pipes are the parent's
