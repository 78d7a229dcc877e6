"""A way back in for whoever runs the service: a password reset from the machine itself, past every account."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import sqlalchemy as sa

from callus.errors import CallusError
from callus.service import audit
from callus.service.accounts import begin_reset, by_name
from callus.service.copying import elsewhere
from callus.service.pairing import open_pair
from callus.service.refusals import MissingError
from callus.service.roles import ROLES
from callus.service.tables import User

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from callus.service.settings import Settings

_SHOWN = 5  # names of administrators


def reset_password(settings: Settings, name: str) -> str:
    """Take an account's password away, and make a secret by which its owner chooses another, once.

    Whoever can write the service's folder could change its database as well; for all others the way is an
    administrator in the page. The service may run meanwhile.

    Args:
        settings: whose folder and database they are.
        name: the account's.

    Returns:
        The secret.

    Raises:
        CallusError: the folder is not this user's to write.
        PairingError: the database is another folder's.
        MissingError: there is no service there, or no account of that name.
        ClashError: the account is disabled, or has its password elsewhere.
    """
    if settings.data.is_dir() and not os.access(settings.data, os.W_OK | os.X_OK):
        raise CallusError("cannot be written", where=settings.data, hint="do this as the service's own user")
    own, kind = (settings.data / "callus.sqlite").is_file(), elsewhere(settings.data)
    if not (settings.database or own or kind) or not (settings.data / "objects").is_dir():
        raise MissingError(f"there is no service in {settings.data}", hint="give the folder that callus serve has")
    database = open_pair(settings.data, settings.database)
    try:
        with database.writing() as session:
            user = by_name(session, name)
            if user is None:
                hint = f"administrators are: {', '.join(_administrators(session)) or 'none yet'}"
                raise MissingError("there is no account of that name", hint=hint)
            key = begin_reset(session, user.id)
            who = f"{pwd.getpwuid(os.getuid()).pw_name} at the command line"
            audit.note(session, who=who, did="reset", what=f"password of user {user.id}")
            return key
    finally:
        database.close()


def _administrators(session: Session) -> Sequence[str]:
    mine = sa.and_(User.role == ROLES[-1], User.subject.is_(None))
    return session.scalars(sa.select(User.name).where(mine).order_by(User.id).limit(_SHOWN)).all()
