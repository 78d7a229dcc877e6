"""Findings as they come, for whoever listens: server-sent events that go on where a listener left off."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from callus.labels import RESEARCH_ONLY
from callus.service.refusals import TooManyError
from callus.service.shown import box_in_millimetres, moment
from callus.service.tables import Answer, Image, Model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from callus.service.database import Database
    from callus.service.schemas.studies import Finding

LISTENERS: Final = 200
"""At once; each holds a connection."""
_QUEUE: Final = 64  # findings that wait for a slow listener; then it reads on from the database
_STILL: Final = 15.0  # seconds after which a listener is asked for anew, and told that the line is not dead
_AT_ONCE: Final = 100
_LATE: Final = 16  # numbers by which transactions of PostgreSQL may end out of order


class Events:
    """Where answers are told and listened to. Telling is for threads, listening for the event loop."""

    def __init__(self, database: Database) -> None:
        """Open it.

        Args:
            database: where answers are.
        """
        self._database = database
        self._listeners: set[_Listener] = set()
        self._lock = threading.Lock()
        self._closed = False

    def tell(self, number: int) -> Finding | None:
        """Tell all listeners of an answer.

        Returns:
            What they are told; None where the answer is gone.
        """
        found = self._load(Answer.id == number)
        if not found:
            return None
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.give(found[0])
        return found[0]

    async def listen(self, after: int | None, still: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The stream for one listener.

        Args:
            after: the number of the last finding that it has; None for those to come only.
            still: whether it may still listen; asked from time to time, whatever comes meanwhile, in a thread.

        Yields:
            Pieces of ``text/event-stream``.

        Raises:
            TooManyError: too many listen.
        """
        loop = asyncio.get_running_loop()
        listener = _Listener(loop)
        with self._lock:
            if len(self._listeners) >= LISTENERS:
                raise TooManyError("too many programs listen", retry_after=60)
            self._listeners.add(listener)
        listener.behind = after is not None
        try:
            last = await run_in_threadpool(self._newest) if after is None else after
            if not self._database.is_sqlite:
                last -= _LATE  # what a listener gets twice it knows by its number
            yield f": {RESEARCH_ONLY}\nretry: 3000\n\n".encode()
            due = loop.time() + _STILL
            while not self._closed:
                if loop.time() >= due:
                    if not await run_in_threadpool(still):
                        return
                    due = loop.time() + _STILL
                    yield b": still there\n\n"
                if listener.behind:
                    listener.behind = False
                    found = await run_in_threadpool(self._since, last)
                    for finding in found:
                        last = finding["id"]
                        yield _as_event(finding)
                    listener.behind |= bool(found)  # there may be more
                    continue
                told = await listener.next(due - loop.time())
                if told is not None and (told["id"] > last or not self._database.is_sqlite):
                    last = max(told["id"], last)
                    yield _as_event(told)
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        with self._lock:
            for listener in self._listeners:
                listener.wake()

    def _newest(self) -> int:
        with self._database.reading() as session:
            return session.scalar(sa.select(sa.func.max(Answer.id))) or 0

    def _since(self, after: int) -> list[Finding]:
        return self._load(Answer.id > after)

    def _load(self, which: sa.ColumnElement[bool]) -> list[Finding]:
        """Answers of models that are or were active, as they are told; the oldest first."""
        with self._database.reading() as session:
            found = session.execute(
                sa.select(Answer, Image)
                .join(Image, Image.id == Answer.image_id)
                .join(Model, Model.id == Answer.model_id)
                .where(which, Model.state != "trial")
                .order_by(Answer.id)
                .limit(_AT_ONCE)
            ).all()
        return [as_finding(answer, image) for answer, image in found]


class _Listener:
    """One listener's queue. Where it is full the rest is left to the database."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Finding | None] = asyncio.Queue(_QUEUE)
        self.behind = False

    def give(self, finding: Finding) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._put, finding)

    def wake(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._put, None)

    def _put(self, finding: Finding | None) -> None:
        try:
            self._queue.put_nowait(finding)
        except asyncio.QueueFull:
            self.behind = True
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(None)

    async def next(self, longest: float) -> Finding | None:
        try:
            return await asyncio.wait_for(self._queue.get(), longest)
        except TimeoutError:
            return None


def as_finding(answer: Answer, image: Image) -> Finding:
    """An answer as programs are told it; nothing in it names a patient."""
    return {
        "id": answer.id,
        "study": image.study_id,
        "image": image.id,
        "level": answer.level,
        "probability": answer.probability,
        "boxes": answer.boxes,
        "boxes_mm": [box_in_millimetres(box, image.spacing) for box in answer.boxes] if image.spacing else None,
        "spacing_mm": image.spacing,
        "height": image.height,
        "width": image.width,
        "cautions": answer.cautions,
        "seconds": answer.seconds,
        "made": moment(answer.made),
        "notice": RESEARCH_ONLY,
    }


def _as_event(finding: Finding) -> bytes:
    return f"id: {finding['id']}\nevent: finding\ndata: {json.dumps(finding)}\n\n".encode()
