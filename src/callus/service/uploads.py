"""Files in a request's body: one after the other, none larger than is allowed, on the disk where memory is short."""

from __future__ import annotations

import io
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from callus.service.objects import keeping
from callus.service.refusals import TooLargeError, TooManyError, UnfitError, WrongKindError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from typing import IO

    from starlette.requests import Request

MOST_PARTS: Final = 1000
"""Files and fields in one request."""
_MEMORY: Final = 64 << 20  # bytes for all requests together; a file that finds no room in it goes to the disk
_TOGETHER: Final = 1 << 19  # bytes that a request holds before they are read
_MOST_TOGETHER: Final = 1 << 22  # the same, where there is room: each reading is a thread's turn, which is waited for
_LONGEST_FIELD: Final = 4096
_LONGEST_HEADER: Final = 4096
_REQUESTS: Final = 64  # that may bring files at once
_READERS: Final = 4  # files that may be whole in the memory at once
_LONGEST_BOUNDARY: Final = 200


class Room:
    """Bounds what uploads take of the memory and of the disk."""

    def __init__(self, folder: Path, largest: int) -> None:
        """Open it.

        Args:
            folder: where files lie while they arrive that find no room in the memory; they have no name there and are
                gone when they are closed.
            largest: bytes of one file.
        """
        self.folder = folder
        self.largest = largest
        self._requests = 0
        self._free = _MEMORY
        self._lock = threading.Lock()
        self._readers: anyio.CapacityLimiter | None = None

    @contextmanager
    def request(self) -> Iterator[None]:
        """Let a request bring files. Only for the event loop.

        Raises:
            TooManyError: too many do.
        """
        if self._requests >= _REQUESTS:
            raise TooManyError("too many requests bring files at once", retry_after=5)
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def hold(self, count: int) -> bool:
        """Take some bytes of the memory, to be given back; whether there were so many. Threads may."""
        with self._lock:
            if count > self._free:
                return False
            self._free -= count
            return True

    def give_back(self, count: int) -> None:
        """Give back what was held."""
        with self._lock:
            self._free += count

    async def use(self, work: Any, part: Part) -> Any:
        """Do some work on a whole file's bytes in a thread, when its turn comes."""
        if self._readers is None:
            self._readers = anyio.CapacityLimiter(_READERS)

        return await anyio.to_thread.run_sync(lambda: work(part.content()), limiter=self._readers)


@dataclass
class Part:
    """One part of a body.

    Attributes:
        name: of its field; "" in a body that is no form.
        filename: as the sender calls it; "" for a plain field.
        kind: its content type, without parameters.
        room: where it lies.
        file: its content, in the memory or on the disk. It is closed when the next part is asked for.
        size: bytes.
        too_large: it was larger than allowed, and what is in ``file`` is not all of it.
    """

    name: str
    filename: str
    kind: str
    room: Room
    file: IO[bytes] = field(default_factory=io.BytesIO)
    size: int = 0
    too_large: bool = False
    _held: int = 0

    @property
    def is_file(self) -> bool:
        """Whether it is a file and not a plain field."""
        return bool(self.filename)

    def write(self, data: bytes | memoryview) -> None:
        """Add to its content.

        Raises:
            FullError: it goes to the disk, which is full.
        """
        with keeping(self.room.folder):
            if isinstance(self.file, io.BytesIO):
                if self.room.hold(len(data)):
                    self._held += len(data)
                else:
                    before = self.file
                    self.file = tempfile.TemporaryFile(dir=str(self.room.folder))  # noqa: SIM115 - closed in close
                    self.file.write(before.getbuffer())
                    self._give_back()
            self.file.write(data)

    def content(self) -> bytes:
        """All of it.

        Raises:
            FullError: the last of it found no room on the disk.
        """
        if isinstance(self.file, io.BytesIO):
            return self.file.getvalue()  # without a copy
        with keeping(self.room.folder):
            self.file.seek(0)
            return self.file.read()

    def drop(self) -> None:
        """Forget its content, and make room at once."""
        self.close()
        self.file = io.BytesIO()

    def close(self) -> None:
        """Give back what it takes."""
        with suppress(OSError):  # what it has not written yet finds no room; nobody wants it any more
            self.file.close()
        self._give_back()

    def text(self) -> str:
        """A plain field's value.

        Raises:
            FullError: the last of it found no room on the disk.
        """
        with keeping(self.room.folder):
            self.file.seek(0)
            return self.file.read(_LONGEST_FIELD).decode("utf-8", "replace")

    def _give_back(self) -> None:
        self.room.give_back(self._held)
        self._held = 0


def boundary_of(request: Request, kind: str) -> bytes:
    """What separates the parts of a body.

    Args:
        request: whose.
        kind: "multipart/form-data" or "multipart/related".

    Raises:
        WrongKindError: the body is of another kind.
    """
    stated, options = parse_options_header(request.headers.get("Content-Type", ""))
    boundary = options.get(b"boundary", b"")
    if stated.decode("latin-1").lower() != kind or not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise WrongKindError(f"the body is to be {kind}, with a boundary")
    return boundary


async def parts_of(request: Request, boundary: bytes, room: Room) -> AsyncIterator[Part]:
    """The parts of a body, each when it has arrived whole.

    Args:
        request: whose body is read as it arrives.
        boundary: what separates them.
        room: where a part lies meanwhile, and how large it may be.

    Raises:
        UnfitError: the body is not what it says it is.
        TooLargeError: there are too many parts.
        FullError: the disk is full.
    """
    reader, pieces = _Reader(boundary, room), _Pieces(room)
    try:
        async for chunk in request.stream():
            if chunk and not pieces.are_enough(chunk):
                continue
            await anyio.to_thread.run_sync(reader.write, pieces.there)
            pieces.clear()
            while reader.whole:
                part = reader.whole.pop(0)
                try:
                    yield part
                finally:
                    part.close()
        if not reader.ended:
            raise UnfitError("the body ends before its last part does", hint="send it again")
    finally:
        pieces.clear()
        reader.close()


class _Pieces:
    """Bytes as they arrive: to hand each piece to a thread takes longer than to read it."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.there: list[bytes] = []
        self._count = 0
        self._held = 0

    def are_enough(self, piece: bytes) -> bool:
        """Take a piece; whether they are to be read now."""
        self.there.append(piece)
        self._count += len(piece)
        if self._count < _TOGETHER + self._held:
            return False
        if self._count < _MOST_TOGETHER and self._room.hold(_TOGETHER):
            self._held += _TOGETHER
            return False
        return True

    def clear(self) -> None:
        """Hold them no more."""
        self.there.clear()
        self._room.give_back(self._held)
        self._count = self._held = 0


@dataclass
class _Reader:
    """Takes a body's bytes in, and gives its parts out."""

    boundary: bytes
    room: Room
    whole: list[Part] = field(default_factory=list)
    ended: bool = False
    _count: int = 0
    _part: Part | None = None
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: bytes = b""
    _value: bytes = b""

    def __post_init__(self) -> None:
        self._parser = MultipartParser(
            self.boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._all,
            },
            max_header_count=16,
            max_header_size=_LONGEST_HEADER,
        )

    def write(self, pieces: list[bytes]) -> None:
        try:
            while pieces:
                self._parser.write(pieces.pop(0))  # which is then not there twice
        except MultipartParseError as error:
            raise UnfitError("the body is not the multipart that it says it is") from error

    def close(self) -> None:
        for part in [*self.whole, self._part]:
            if part is not None:
                part.close()

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise TooLargeError(f"more than {MOST_PARTS:,} files in one request", hint="send them in several")
        self._headers, self._name, self._value = {}, b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        kind, _ = parse_options_header(self._headers.get(b"content-type", b""))
        self._part = Part(
            name=options.get(b"name", b"").decode("utf-8", "replace"),
            filename=options.get(b"filename", b"").decode("utf-8", "replace"),
            kind=kind.decode("latin-1").lower(),
            room=self.room,
        )

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part is None:
            return
        part.size += end - start
        if part.size > self.room.largest:
            if not part.too_large:  # what has come of it is of no use, and makes room at once
                part.too_large = True
                part.drop()
            return
        part.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if self._part is not None:
            self.whole.append(self._part)
            self._part = None

    def _all(self) -> None:
        self.ended = True
