"""Logins: a random secret in the browser's cookie, its hash in the database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from callus.service.keys import digest, new_key
from callus.service.tables import Session as Login
from callus.service.tables import User, now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from callus.service.database import Database

LASTS: Final = timedelta(hours=12)
"""After which one has to log in again, a shift's length."""
IDLE: Final = timedelta(hours=2)
"""Without a request that somebody made, after which one has to log in again."""
_NOTED: Final = timedelta(minutes=1)  # a use is written down no more often

_FOUND: Final = (  # once, for every request asks it
    sa.select(Login, User).join(User, User.id == Login.user_id).where(Login.digest == sa.bindparam("digest"))
)


def open_session(session: Session, user: User) -> tuple[str, str]:
    """Log an account in. Always a new secret, whatever the browser brought.

    Args:
        session: a writing one.
        user: whose login it is.

    Returns:
        The secret for the cookie, and the token that changing requests have to bring.
    """
    at = now()
    session.execute(sa.delete(Login).where(sa.or_(Login.ends < at, Login.used < at - IDLE)))
    key, csrf = new_key(), new_key()
    session.add(Login(digest=digest(key), user_id=user.id, csrf=csrf, ends=at + LASTS))
    return key, csrf


def find_session(database: Database, key: str, *, counts: bool = True) -> tuple[Login, User] | None:
    """The login that a cookie's secret belongs to, and whose it is; None where it has ended or is none.

    Args:
        database: where it is.
        key: the secret.
        counts: whether this is a use, after which the login's idle time begins anew.
    """
    at = now()
    with database.reading() as session:
        found = session.execute(_FOUND, {"digest": digest(key)}).first()
    if found is None:
        return None
    login, user = found
    if login.ends < at or login.used < at - IDLE or user.disabled:
        return None
    if counts and login.used < at - _NOTED:
        with database.writing() as session:
            session.execute(sa.update(Login).where(Login.id == login.id).values(used=at))
    return login, user


def close_session(session: Session, login_id: int) -> None:
    """Log out."""
    session.execute(sa.delete(Login).where(Login.id == login_id))


def close_all(session: Session, user_id: int, *, but: int | None = None) -> None:
    """End all logins of an account, but for one."""
    session.execute(sa.delete(Login).where(Login.user_id == user_id, Login.id != (but or 0)))
