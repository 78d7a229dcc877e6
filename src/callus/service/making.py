"""Results made in processes of their own: drawing and writing them takes Python, which requests would wait for.

A process gets the radiograph with its answer, keeps what it makes in the object store and tells the hashes. It ends
when the service ends, however that ends, and is replaced when it dies: what it was at is made again, once, and comes
out under the same UIDs. To it go pickles, which are this process's own; from it come lines of JSON.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.errors import CallusError, PassingError
from callus.radiograph.apart import limit_memory
from callus.radiograph.limits import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callus.identify import Finding
    from callus.radiograph import Radiograph
    from callus.service.objects import ObjectStore

LIMIT_S: Final = 300.0
"""How long one radiograph's results may take, a process's start included: seconds, more where cores are scarce."""
_END_S: Final = 10.0  # for a process that was killed to be gone
_NICER: Final = 5  # requests and the network come first
_SERVE: Final = """
from callus.service.ending import end_with_service
end_with_service()
from callus.service.making import serve
serve()
"""
_LONGEST_LINE: Final = 65_536

_idle: list[_Maker] = []


@dataclass(frozen=True)
class Order:
    """What results are to be made of.

    Attributes:
        objects: where they go.
        radiograph: as read from its file.
        finding: the answer to it.
        model: the name of what answered.
        digest: of its bundle.
    """

    objects: ObjectStore
    radiograph: Radiograph
    finding: Finding
    model: str
    digest: str


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes:
        hashes: SHA-256 by kind: "overlay" (PNG) of every radiograph; "sr", "sc", "pr" (DICOM) and "fhir" (JSON) of
            those that came as DICOM.
        cautions: why some could not be made.
    """

    hashes: dict[str, str]
    cautions: tuple[str, ...]


def begin() -> None:
    """Start a process before there is anything to make: it takes some seconds, for which nobody waits here."""
    if not _idle:
        with suppress(OSError):  # whoever needs one will be told
            _idle.append(_Maker())


class StoppedError(CallusError):
    """Results are not made, because the service that wants them stops."""


class Processes:
    """Those that are at work for one service, to be ended with it. Threads may share it."""

    def __init__(self) -> None:
        """With none."""
        self._lock = threading.Lock()
        self._at_work: set[_Maker] = set()
        self._is_ended = False

    @contextmanager
    def used(self, maker: _Maker) -> Iterator[None]:
        """Count a process among them while it is asked for something.

        Raises:
            StoppedError: they were ended.
        """
        with self._lock:
            self.check()
            self._at_work.add(maker)
        try:
            yield
        finally:
            with self._lock:
                self._at_work.remove(maker)

    def check(self) -> None:
        """Refuse to go on once they were ended.

        Raises:
            StoppedError: they were.
        """
        if self._is_ended:
            raise StoppedError("results: the service stops")

    def end(self) -> None:
        """Kill them, whatever they do, and use none any more."""
        with self._lock:
            self._is_ended = True
            for maker in self._at_work:
                maker.process.kill()


def make(order: Order, processes: Processes | None = None) -> Made:
    """Make an answer's results. Threads may call it at once; each then has a process of its own.

    Args:
        order: what of.
        processes: among which the one that makes them is to be.

    Raises:
        StoppedError: those were ended.
        CallusError: they cannot be kept, or two processes in turn died of it.
    """
    among = processes or Processes()
    try:
        maker = _idle.pop()
    except IndexError:
        maker = _Maker()
    try:
        return _made_by(maker, order, among)
    except _DiedError:  # perhaps of something else, and perhaps long ago
        among.check()
        return _made_by(_Maker(), order, among)


def serve() -> None:
    """Be such a process: make what is asked for until nobody can ask any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    with suppress(OSError):
        os.nice(_NICER)
    limit_memory()
    _load()
    with suppress(EOFError):
        while True:
            order = pickle.load(sys.stdin.buffer)  # nosec B301  # noqa: S301 - of the process that started this one
            answers.write(json.dumps(_answer(order)).encode() + b"\n")
            answers.flush()


def _load() -> None:
    """Import what the first results would wait for."""
    import cv2  # noqa: PLC0415 - in the process that makes results, and nowhere else

    from callus.results import dicom_results, fhir  # noqa: F401, PLC0415 - as above

    cv2.setNumThreads(1)


def _answer(order: Order) -> dict[str, Any]:
    try:
        files, trouble = made_of(order)
        return {"hashes": {kind: order.objects.put(data) for kind, data in files.items()}, "cautions": trouble}
    except CallusError as error:
        return {"what": error.what}
    except Exception as error:  # noqa: BLE001 - it costs this one; its text may hold what a row holds
        return {"what": f"results: {type(error).__name__}"}


def made_of(order: Order) -> tuple[dict[str, bytes], list[str]]:
    """What is made of an answer: its files by kind as in :class:`Made`, and why some could not be made."""
    from PIL import Image  # noqa: PLC0415 - as in _load

    from callus.results.overlay import overlay  # noqa: PLC0415

    files, trouble = dict[str, bytes](), list[str]()
    picture = None
    if order.radiograph.identity is not None:
        try:
            archived, picture = _for_the_archive(order)
            files |= archived
        except PassingError:  # the answer's job is done again, or it would stand without them for good
            raise
        except CallusError as error:
            trouble.append(f"results: {one_line(error.what, 160)}")
    drawn = overlay(order.radiograph, order.finding) if picture is None else Image.fromarray(picture)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", compress_level=1)
    files["overlay"] = buffer.getvalue()
    return files, trouble


def _for_the_archive(order: Order) -> tuple[dict[str, bytes], np.ndarray[Any, Any]]:
    """DICOM and FHIR, and the picture in the secondary capture: uint8 (height, width, 3)."""
    from callus.results.dicom_results import Algorithm, Exam, dicom_results, encoded  # noqa: PLC0415 - as in _load
    from callus.results.fhir import fhir_bundle, fhir_json  # noqa: PLC0415

    exam, algorithm = Exam.of(order.radiograph), Algorithm(order.model, order.digest)
    made = dicom_results(exam, order.finding, algorithm, presentation=True)
    files = {kind: encoded(result) for kind, result in made.items()}
    files["fhir"] = fhir_json(fhir_bundle(exam, order.finding, algorithm))
    capture = made["sc"]
    picture = np.frombuffer(capture.PixelData, np.uint8, capture.Rows * capture.Columns * 3)
    return files, picture.reshape(capture.Rows, capture.Columns, 3)


class _DiedError(CallusError):
    """The process ended before it answered."""


class _Maker:
    """The other process, seen from here."""

    def __init__(self) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(  # nosec B603  # noqa: S603 - our own code in our own interpreter
            # Without -P a file in the working folder could stand in for a module; Ctrl-C is this process's to handle.
            [sys.executable, "-P", "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what libraries warn of may quote a patient's values
            start_new_session=True,
            env=os.environ | one_thread,
        )

    def ask(self, order: Order) -> dict[str, Any]:
        """Have something made.

        Raises:
            _DiedError: the process ended, or took too long.
        """
        late = threading.Timer(LIMIT_S, self.process.kill)
        late.daemon = True
        late.start()
        try:
            return self._asked(order)
        except (OSError, EOFError, ValueError) as error:
            self.end()
            code = self.process.returncode
            ended = "it does not end" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
            raise _DiedError(f"results: the process that makes them failed ({ended})") from error
        finally:
            late.cancel()

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        # What was not written yet has nobody to read it; and nothing waits for ever for what the kernel does not end.
        with suppress(OSError, subprocess.TimeoutExpired):
            self.process.communicate(timeout=_END_S)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_S)

    def _asked(self, order: Order) -> dict[str, Any]:
        question, answers = self.process.stdin, self.process.stdout
        if question is None or answers is None:
            raise EOFError
        pickle.dump(order, question, protocol=pickle.HIGHEST_PROTOCOL)
        question.flush()
        answer: dict[str, Any] = json.loads(answers.readline(_LONGEST_LINE))
        return answer


def _made_by(maker: _Maker, order: Order, among: Processes) -> Made:
    try:
        with among.used(maker):
            answer = maker.ask(order)
    except BaseException:  # it would give the next question this one's answer
        maker.end()
        raise
    _idle.append(maker)
    if "what" in answer:
        raise CallusError(str(answer["what"]))
    return Made({str(kind): str(sha256) for kind, sha256 in answer["hashes"].items()}, tuple(answer["cautions"]))


def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


atexit.register(_end_idle)
os.register_at_fork(after_in_child=_idle.clear)  # the pipes are the parent's
