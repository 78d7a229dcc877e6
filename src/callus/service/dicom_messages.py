"""Messages as they arrive at the DICOM node: bounded in time, each in its size, and all of them together in theirs.

pynetdicom waits for ever for the rest of a message, and believes any length.
"""

from __future__ import annotations

import io
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import P_DATA

_MESSAGE_SECONDS: Final = 600.0  # in which a message that has begun has to end: 30 MB at 0.4 Mbit/s
_LONGEST_COMMAND: Final = 1 << 16
_MOST_WAITING: Final = 8  # messages of an association: one at a time is what it is granted (PS3.7 D.3.3.3)
log = logging.getLogger(__name__)


class Room:
    """What all messages that are arriving may take of the memory, and each of them."""

    def __init__(self, each: int, together: int) -> None:
        """Set the bounds.

        Args:
            each: bytes of a message's data set.
            together: bytes of all of them.
        """
        self.each = each
        self._together = together
        self._arriving: weakref.WeakSet[Arriving] = weakref.WeakSet()
        self._lock = threading.Lock()

    def enter(self, message: Arriving) -> None:
        """Count a message as long as it is there."""
        with self._lock:
            self._arriving.add(message)

    def is_full(self, more: int) -> bool:
        """Whether so many more bytes are too many."""
        with self._lock:
            return sum(message.count for message in self._arriving) + more > self._together


class Arriving(io.BytesIO):
    """A data set as it arrives. One that becomes too large is let go, and the rest of it is read and forgotten.

    Attributes:
        count: bytes that are kept.
        too_large: it is larger than any may be.
        no_room: it was let go because others take all the room.
    """

    def __init__(self, room: Room) -> None:
        """Begin an empty one."""
        super().__init__()
        self._room = room
        self.count = 0
        self.too_large = False
        self.no_room = False
        room.enter(self)

    def write(self, data: Any, /) -> int:
        """Take what came."""
        if self.too_large or self.no_room:
            return len(data)
        self.too_large = self.count + len(data) > self._room.each
        self.no_room = not self.too_large and self._room.is_full(len(data))
        if self.too_large or self.no_room:
            self.let_go()
            return len(data)
        self.count += len(data)
        return super().write(data)

    def let_go(self) -> None:
        """Give its memory back."""
        self.count = 0
        self.seek(0)
        self.truncate()


class _Command(io.BytesIO):
    """A message's command, which is some hundred bytes."""

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > _LONGEST_COMMAND:
            raise ValueError("a command without end")
        return super().write(data)


class BoundedMessages(DIMSEServiceProvider):
    """Messages as they arrive: bounded in time, in size and in number."""

    def __init__(self, assoc: Association, room: Room) -> None:
        """Begin.

        Args:
            assoc: that they belong to.
            room: what they may take.
        """
        super().__init__(assoc)
        self._room = room
        self._begun = 0.0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a part of a message; one that breaks the bounds, or the rules, ends the association."""
        if self.message is None:
            self._begun = time.monotonic()
            self.message = DIMSEMessage()
            self.message.data_set = Arriving(self._room)
            self.message.encoded_command_set = _Command()
        late = time.monotonic() - self._begun > _MESSAGE_SECONDS
        try:
            if late or self.msg_queue.qsize() > _MOST_WAITING:
                raise TimeoutError  # noqa: TRY301 - the same end as for what cannot be read
            super().receive_primitive(primitive)
        except Exception as error:  # noqa: BLE001 - a peer can send anything
            log.info("an association is ended: a message %s", "is late" if late else type(error).__name__)
            self.message = None
            self.dul.event_queue.put("Evt19")  # PS3.8 9.2: an invalid data unit
