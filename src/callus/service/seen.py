"""Who saw which study: written down when it is opened, and when a picture of it is fetched without that."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from callus.service import audit

if TYPE_CHECKING:
    from callus.service.access import Who
    from callus.service.database import Database

_ONE_LOOK: Final = 900.0  # seconds in which what is fetched of a study belongs to one look at it
_MOST: Final = 10_000


class Seen:
    """Notes looks at studies. Threads may share it."""

    def __init__(self, database: Database) -> None:
        """Open it.

        Args:
            database: whose audit log it is.
        """
        self._database = database
        self._looks: OrderedDict[tuple[int, int], float] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, who: Who, study_id: int, *, opened: bool = False) -> None:
        """Write down that somebody sees a study.

        Args:
            who: somebody.
            study_id: the study.
            opened: whether this is a look of its own, and not a picture that may belong to one.
        """
        key, at = (who.user.id, study_id), time.monotonic()
        with self._lock:
            last = self._looks.pop(key, float("-inf"))
            self._looks[key] = at
            if len(self._looks) > _MOST:
                self._looks.popitem(last=False)
        if opened or at - last > _ONE_LOOK:
            with self._database.writing(soon=True) as session:  # nobody is to wait for the disk to look at a radiograph
                audit.note(session, who=who.name, did="saw", what=f"study {study_id}", address=who.address)
