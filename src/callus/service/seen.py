"""Who saw what: a study opened, a picture of it fetched without that, the worklist shown or searched, a file loaded."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from callus.service import audit

if TYPE_CHECKING:
    from callus.service.access import Who
    from callus.service.database import Database

_ONE_LOOK: Final = 900.0  # seconds in which what is fetched of a study, or listed, belongs to one look at it
_MOST: Final = 10_000


class Seen:
    """Notes what people look at. Threads may share it."""

    def __init__(self, database: Database) -> None:
        """Open it.

        Args:
            database: whose audit log it is.
        """
        self._database = database
        self._looks: OrderedDict[tuple[int, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, who: Who, study_id: int, *, opened: bool = False) -> None:
        """Write down that somebody sees a study.

        Args:
            who: somebody.
            study_id: the study.
            opened: whether this is a look of its own, and not a picture that may belong to one.
        """
        what = f"study {study_id}"
        if self._is_new(who, what, goes_on=True) or opened:
            self._write(who, "saw", what)

    def listed(self, who: Who) -> None:
        """Write down that somebody sees the worklist: once for as long as one look takes, however often it is shown."""
        if self._is_new(who, "listed", goes_on=False):
            self._write(who, "listed", "studies")

    def listens(self, who: Who) -> None:
        """Write down that somebody follows findings as they come: once where the line breaks and is taken up again."""
        if self._is_new(who, "listened", goes_on=True):
            self._write(who, "listened", "events")

    def searched(self, who: Who, *, begun: bool) -> None:
        """Write down that somebody searches the worklist, but not for what: it may be a patient's name.

        Args:
            who: somebody.
            begun: whether this is a search of its own, and not its next page or what an open page asks by itself.
        """
        if self._is_new(who, "searched", goes_on=False) or begun:
            self._write(who, "searched", "studies")

    def loaded(self, who: Who, image_id: int, kind: str) -> None:
        """Write down that somebody loads a file, each time.

        Args:
            who: somebody.
            image_id: the image that it is of.
            kind: "original", or a key of the answer's results.
        """
        self._write(who, "loaded", f"image {image_id} {kind}")

    def _is_new(self, who: Who, what: str, *, goes_on: bool) -> bool:
        """Whether no look at it stands. One that goes on lasts from its last part, any other from its first."""
        key, at = (who.user.id, what), time.monotonic()
        with self._lock:
            last = self._looks.pop(key, float("-inf"))
            is_new = at - last > _ONE_LOOK
            self._looks[key] = at if is_new or goes_on else last
            if len(self._looks) > _MOST:
                self._looks.popitem(last=False)
        return is_new

    def _write(self, who: Who, did: str, what: str) -> None:
        try:
            with self._database.writing(soon=True) as session:  # nobody is to wait for the disk to look at a radiograph
                audit.note(session, who=who.name, did=did, what=what, address=who.address)
        except BaseException:
            with self._lock:  # the next look has to be written down, for this one is not
                for key in (what, did):
                    self._looks.pop((who.user.id, key), None)
            raise
