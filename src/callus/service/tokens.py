"""Tokens: keys with which programs act for an account."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from callus.radiograph.limits import one_line
from callus.service.keys import digest, new_key
from callus.service.tables import Token, User, now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from callus.service.database import Database

MARK: Final = "callus_"
"""What every token begins with, so that it is known for one where it does not belong."""
_NOTED: Final = timedelta(minutes=1)
_FOUND: Final = (  # once, for every request asks it
    sa.select(Token, User).join(User, User.id == Token.user_id).where(Token.digest == sa.bindparam("digest"))
)


def make_token(
    session: Session, user_id: int, name: str, scopes: Sequence[str], lasts: timedelta | None
) -> tuple[Token, str]:
    """Make a token.

    Args:
        session: a writing one.
        user_id: for whom it acts.
        name: what people call it.
        scopes: what it may do, within the account's role.
        lasts: how long; None for until it is revoked.

    Returns:
        Its row and its secret, which is shown once.
    """
    key = MARK + new_key()
    token = Token(
        digest=digest(key),
        user_id=user_id,
        name=one_line(name, 60),
        scopes=sorted(set(scopes)),
        ends=None if lasts is None else now() + lasts,
    )
    session.add(token)
    session.flush()
    return token, key


def find_token(database: Database, key: str) -> tuple[Token, User] | None:
    """The token of a secret, and for whom it acts; None where it has ended, was revoked, or is none."""
    at = now()
    with database.reading() as session:
        found = session.execute(_FOUND, {"digest": digest(key)}).first()
    if found is None:
        return None
    token, user = found
    if token.revoked is not None or (token.ends is not None and token.ends < at) or user.disabled:
        return None
    if token.used is None or token.used < at - _NOTED:
        with database.writing() as session:
            session.execute(sa.update(Token).where(Token.id == token.id).values(used=at))
    return token, user
