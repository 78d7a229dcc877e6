"""The audit log: who saw, sent or changed what, and when. It is only added to."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from callus.radiograph.limits import one_line
from callus.service.tables import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from callus.service.database import Database
    from callus.service.schemas.people import Line

_FIELDS: Final = ("id", "at", "who", "address", "did", "what")
_AT_ONCE: Final = 1000


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


def lines(database: Database, after: int = 0, most: int | None = None) -> Iterator[Line]:
    """The log's lines, the oldest first, read a thousand at a time.

    Args:
        database: where.
        after: the number of the line after which to begin.
        most: how many at most; None for all.
    """
    left = most
    while left is None or left > 0:
        some = _AT_ONCE if left is None else min(left, _AT_ONCE)
        with database.reading() as session:
            entries = session.scalars(sa.select(Entry).where(Entry.id > after).order_by(Entry.id).limit(some)).all()
        for entry in entries:
            yield {
                "id": entry.id,
                "at": entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "who": entry.who,
                "address": entry.address,
                "did": entry.did,
                "what": entry.what,
            }
        if len(entries) < some:
            return
        after = entries[-1].id
        left = None if left is None else left - len(entries)


def as_json(found: Iterator[Line]) -> Iterator[bytes]:
    """Lines as the text of a JSON object, piece by piece."""
    separator = b'{"entries": ['
    for line in found:
        yield separator + json.dumps(line).encode()
        separator = b",\n"
    yield b"]}" if separator == b",\n" else b'{"entries": []}'


def as_csv(found: Iterator[Line]) -> Iterator[bytes]:
    """Lines as CSV, piece by piece."""
    yield (",".join(_FIELDS) + "\n").encode()
    for line in found:
        cells: dict[str, object] = {**line}
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow([inert(cells[name]) for name in _FIELDS])
        yield buffer.getvalue().encode()


def inert(value: object) -> object:
    """A cell that no spreadsheet takes for a formula (an AE title may be "=cmd")."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
