"""Findings as they come, and what else becomes of studies: server-sent events that go on where a listener left off.

The database is the log. A finding's number is its answer's; a study event has a number of its own, and knows after
which finding it came, so that a listener who names the last finding gets the study events since then as well.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from callus.labels import RESEARCH_ONLY
from callus.service import changes
from callus.service.refusals import TooManyError
from callus.service.shown import COUNTS, box_in_millimetres, moment
from callus.service.tables import Answer, Change, Image

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from sqlalchemy.orm import Session

    from callus.service.database import Database
    from callus.service.schemas.studies import Finding, StudyChanged

    Told = tuple[str, Finding | StudyChanged]  # the event's name and its data

LISTENERS: Final = 200
"""At once; each holds a connection."""
_QUEUE: Final = 64  # events that wait for a slow listener; then it reads on from the database
_STILL: Final = 15.0  # seconds after which a listener is asked for anew, and told that the line is not dead
_AT_ONCE: Final = 100
# Numbers by which threads may tell, and transactions of PostgreSQL end, out of order.
_LATE: Final = 16
_LATE_CHANGES: Final = 256  # one transaction deletes up to a hundred studies, and others end before it


@dataclass(frozen=True)
class Last:
    """What a listener got last.

    Attributes:
        finding: its number.
        change: the study event's number; None where only the finding is known.
    """

    finding: int
    change: int | None = None


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
        database.on_commit(self._tell_changes)

    def tell(self, number: int) -> Finding | None:
        """Tell all listeners of an answer.

        Returns:
            What they are told; None where the answer is gone.
        """
        found = self._load(Answer.id == number)
        if not found:
            return None
        self._give("finding", found[0])
        return found[0]

    async def listen(self, after: Last | None, still: Callable[[], bool]) -> AsyncGenerator[bytes]:
        """The stream for one listener.

        Args:
            after: what it has; None for what is to come only.
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
            place = await run_in_threadpool(self._place, after)
            # With where it begins: a line that breaks before anything came is taken up from there.
            yield f": {RESEARCH_ONLY}\nretry: 3000\nid: {place.named}\n\n".encode()
            due = loop.time() + _STILL
            while not self._closed:
                if loop.time() >= due:
                    if not await run_in_threadpool(still):
                        return
                    due = loop.time() + _STILL
                    yield b": still there\n\n"
                if listener.behind:
                    listener.behind = False
                    found = await run_in_threadpool(self._since, place)
                    for told in found:
                        yield place.passed(told)
                    listener.behind |= bool(found)  # there may be more
                    continue
                came = await listener.next(due - loop.time())
                if came is not None:  # what a listener gets twice it knows by its number
                    yield place.passed(came)
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        with self._lock:
            for listener in self._listeners:
                listener.wake()

    def _tell_changes(self, session: Session) -> None:
        for change in changes.noted(session):
            self._give("study", changes.as_told(change))

    def _give(self, name: str, data: Finding | StudyChanged) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.give((name, data))

    def _place(self, after: Last | None) -> _Place:
        with self._database.reading() as session:
            newest = sa.select(sa.func.max(Change.id))
            if after is None:
                finding = changes.newest_answer(session)
                change = session.scalar(newest) or 0
            else:
                finding, known = after.finding, after.change
                since = newest.where(Change.after < finding - _LATE)
                change = (session.scalar(since) or 0) if known is None else known
        return _Place(finding - _LATE, change - _LATE_CHANGES, finding)

    def _since(self, place: _Place) -> list[Told]:
        """The next that a listener has missed. Study events first: a finding's number says that it has those."""
        with self._database.reading() as session:
            found = session.scalars(
                sa.select(Change).where(Change.id > place.change).order_by(Change.id).limit(_AT_ONCE)
            ).all()
        if found:
            return [("study", changes.as_told(change)) for change in found]
        return [("finding", finding) for finding in self._load(Answer.id > place.finding)]

    def _load(self, which: sa.ColumnElement[bool]) -> list[Finding]:
        """Answers that count, as they are told; the oldest first."""
        with self._database.reading() as session:
            found = session.execute(
                sa.select(Answer, Image)
                .join(Image, Image.id == Answer.image_id)
                .where(which, COUNTS)
                .order_by(Answer.id)
                .limit(_AT_ONCE)
            ).all()
        return [as_finding(answer, image) for answer, image in found]


@dataclass
class _Place:
    """How far a listener is.

    Attributes:
        finding: the number after which findings are read.
        change: the same of study events.
        named: the last finding's number, as study events name it.
    """

    finding: int
    change: int
    named: int

    def passed(self, told: Told) -> bytes:
        """The event, which the listener then has."""
        name, data = told
        number = str(data["id"])
        if name == "finding":
            self.finding, self.named = max(self.finding, data["id"]), max(self.named, data["id"])
        else:
            self.change = max(self.change, data["id"])
            number = f"{self.named}.{number}"
        return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


class _Listener:
    """One listener's queue. Where it is full the rest is left to the database."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Told | None] = asyncio.Queue(_QUEUE)
        self.behind = False

    def give(self, told: Told) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._put, told)

    def wake(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._put, None)

    def _put(self, told: Told | None) -> None:
        try:
            self._queue.put_nowait(told)
        except asyncio.QueueFull:
            self.behind = True
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(None)

    async def next(self, longest: float) -> Told | None:
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
