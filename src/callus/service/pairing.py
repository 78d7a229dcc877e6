"""A database and a data folder go together: each keeps the same name, and neither is used with another one.

With another folder's database a service would take that one's jobs and miss their radiographs; with another database it
would in time delete all radiographs of the folder, as files that no row names.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from callus.atomic import whole_file
from callus.errors import CallusError
from callus.service.copying import ELSEWHERE, NAMED, elsewhere, is_own, name_in
from callus.service.database import Database
from callus.service.objects import sync
from callus.service.tables import Image, Pair

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

_ONLY: Final = 1  # the row's number


class PairingError(CallusError):
    """The database and the data folder are not of one service."""


def open_pair(data: Path, url: str, *, begins: bool = False) -> Database:
    """Open the database that goes with a data folder.

    Args:
        data: the folder; it exists.
        url: SQLAlchemy's, of the database; "" for SQLite in the folder.
        begins: a service starts with them: where the database goes with no folder yet, it goes with this one from now
            on.

    Raises:
        PairingError: they are not of one service.
        CallusError: the database cannot be used, or the folder not be written.
    """
    if not url and (kind := elsewhere(data)):
        raise PairingError(
            f"its service has its database elsewhere ({kind})",
            where=data,
            hint=f"give that one; to go back to the one in the folder, delete {ELSEWHERE} there",
        )
    # Not written as an address: in one a ? in the folder's name would begin something else.
    database = Database(url or sa.URL.create("sqlite", database=str((data / "callus.sqlite").resolve())))
    try:
        with database.writing() if begins else database.reading() as session:
            if begins:
                database.hold(session, "pair")
            _match(session, data, begins=begins)
    except BaseException:
        database.close()
        raise
    return database


def _match(session: Session, data: Path, *, begins: bool) -> None:
    """Refuse a folder and a database of which one goes with another; at a start have both keep one name.

    Raises:
        PairingError: one does.
    """
    kept, name = session.get(Pair, _ONLY), name_in(data)
    if kept is None and begins:
        is_filled = any((data / "objects").glob("??/*"))
        if is_filled and session.scalar(sa.select(Image.id).limit(1)) is None:
            raise PairingError(
                "holds radiographs of which this database knows nothing",
                where=data,
                hint="give the database that they came with; to begin anew, give a new folder",
            )
        kept = Pair(id=_ONLY, name=name or uuid.uuid4().hex)
        session.add(kept)
    # A backup that was restored has its database in it, and the name there alone.
    elif kept is not None and kept.name != name and (name or not is_own(data, session.get_bind().engine.url)):
        raise PairingError(
            "does not go with this database, which is another folder's",
            where=data,
            hint=f"give that folder, or a database of its own; only where this is a copy of that folder, write "
            f"{kept.name} into {NAMED} there",
        )
    if begins and kept is not None and name is None:
        # The file first: a crash before the row is there leaves a name that the database takes over.
        with whole_file(data / NAMED, "w") as file:
            file.write(f"{kept.name}\n")
        sync((data / NAMED).parent)
