"""The audit log: who saw, sent or changed what, and when. It is only added to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callus.radiograph.limits import one_line
from callus.service.tables import Entry

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def note(session: Session, *, who: str, did: str, what: str = "", address: str = "") -> None:
    """Write a line, in the transaction of what was done.

    Args:
        session: a writing one.
        who: the account, the AE title, or "service".
        did: one word.
        what: by the service's own numbers; nothing that names a patient.
        address: where the request came from.
    """
    session.add(Entry(who=one_line(who, 100), did=did, what=one_line(what, 200), address=address[:64]))
