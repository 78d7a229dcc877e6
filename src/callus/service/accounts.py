"""Accounts: made by the first link, by invitation or by an identity provider; opened by a password."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from callus.service import audit
from callus.service.database import Database
from callus.service.keys import digest, new_key
from callus.service.passwords import fits, hashed
from callus.service.refusals import ClashError, ForbiddenError, MissingError, UnfitError, UnknownCallerError
from callus.service.roles import ROLES
from callus.service.sessions import close_all
from callus.service.tables import Once, Reset, User, now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from callus.service.throttle import Throttle

FIRST_LASTS: Final = timedelta(hours=24)
RESET_LASTS: Final = timedelta(hours=24)
_NAME: Final = re.compile(r"[\w][\w.@+ -]{0,62}[\w]|[\w]", re.UNICODE)
_WRONG: Final = "the name and the password do not belong together"


def first_key(database: Database) -> str | None:
    """A secret that makes the administrator, once; None where there is one already. Earlier ones end."""
    with database.writing() as session:
        if _has_administrator(session):
            return None
        session.execute(sa.delete(Once))
        return invite(session, "administrator", FIRST_LASTS)


def invite(session: Session, role: str, lasts: timedelta) -> str:
    """A secret that makes one account of a role, once.

    Args:
        session: a writing one.
        role: the account's.
        lasts: how long it works.
    """
    key = new_key()
    session.execute(sa.delete(Once).where(Once.ends < now()))
    session.add(Once(digest=digest(key), role=role, ends=now() + lasts))
    return key


def accept(database: Database, key: str, name: str, password: str, *, first: bool, address: str) -> User:
    """Make an account by a secret that works once.

    Args:
        database: where.
        key: the secret.
        name: what the account is to be called.
        password: its password.
        first: whether it is the first account, which makes the administrator.
        address: where the request came from.

    Raises:
        ForbiddenError: the secret is none, was used, or has ended.
        ClashError: there is an account of that name.
        UnfitError: the name or the password cannot be used.
    """
    check_name(name)
    with database.reading() as session:  # before the password is hashed, which takes a core for a while
        _find_once(session, key, first=first)
    kept = hashed(password)
    with database.writing() as session:
        once = _find_once(session, key, first=first)
        used: Any = session.execute(sa.delete(Once).where(Once.id == once.id))
        if not used.rowcount:
            raise _spent()
        user = add_user(session, name, once.role, password=kept)
        audit.note(session, who=name, did="joined", what=f"user {user.id} {user.role}", address=address)
        return user


def add_user(session: Session, name: str, role: str, *, password: str = "", subject: str | None = None) -> User:
    """Add an account.

    Raises:
        ClashError: there is one of that name.
    """
    hold_names(session)
    if by_name(session, name) is not None:
        raise ClashError("there is an account of that name", hint="choose another name")
    user = User(name=name, role=role, password=password, subject=subject)
    session.add(user)
    session.flush()
    return user


def hold_names(session: Session) -> None:
    """Have others who add an account wait until this transaction ends."""
    Database.hold(session, "names of accounts")


def by_name(session: Session, name: str) -> User | None:
    """The account of a name, in whichever case; None where there is none."""
    # Not the database's lower(): SQLite's knows A to Z only, and PostgreSQL's what its locale does.
    names = session.execute(sa.select(User.id, User.name)).all()
    number = next((number for number, one in names if one.lower() == name.lower()), None)
    return None if number is None else session.get(User, number)


def check_password(database: Database, throttle: Throttle, name: str, password: str, address: str) -> User:
    """The account of a name and its password.

    Raises:
        UnknownCallerError: they do not belong together, or the account is disabled; which of them is not told.
        TooManyError: too many attempts failed.
    """
    throttle.check(name, address)
    with database.reading() as session:
        user = session.scalar(sa.select(User).where(User.name == name))
    if not fits("" if user is None or user.disabled else user.password, password) or user is None:
        throttle.failed(name, address)
        with database.writing() as session:  # not what was typed: it may be a password
            who = "nobody" if user is None else user.name
            audit.note(session, who=who, did="failed to log in", address=address)
        raise UnknownCallerError(_WRONG)
    throttle.succeeded(name, address)
    return user


def check_still(session: Session, user: User) -> None:
    """Hold an account to what was checked of it before: its password may have been taken away since.

    Passwords are compared outside of transactions, for a tenth of a second of a core. Whoever changes the account waits
    for this transaction, and then ends what it has begun.

    Args:
        session: a writing one.
        user: as it was checked.

    Raises:
        UnknownCallerError: it has another password now, or is disabled.
    """
    same = sa.and_(User.id == user.id, User.password == user.password, User.disabled.is_(False))
    if session.scalar(sa.select(User.id).where(same).with_for_update()) is None:
        raise UnknownCallerError(_WRONG)


def change_password(
    database: Database, throttle: Throttle, user: User, login_id: int | None, old: str, new: str, address: str
) -> None:
    """Give an account another password; its other logins end.

    Raises:
        UnknownCallerError: the old one is wrong.
        UnfitError: the new one cannot be used.
        TooManyError: too many attempts failed.
    """
    checked = check_password(database, throttle, user.name, old, address)
    kept = hashed(new)
    with database.writing() as session:
        check_still(session, checked)
        session.execute(sa.update(User).where(User.id == user.id).values(password=kept))
        close_all(session, user.id, but=login_id)
        audit.note(session, who=user.name, did="changed", what=f"password of user {user.id}", address=address)


def begin_reset(session: Session, user_id: int) -> str:
    """A secret by which an account's owner chooses another password, once; earlier ones end.

    The old password and all logins end at once: whoever has learnt the password must not stay until the owner comes.

    Args:
        session: a writing one.
        user_id: the account's.

    Raises:
        MissingError: there is no such account.
        ClashError: it is disabled, or has its password elsewhere.
    """
    user = session.get(User, user_id)
    if user is None:
        raise MissingError("there is no such account")
    if user.subject is not None:
        raise ClashError("this account logs in at the identity provider", hint="its password is changed there")
    if user.disabled:
        raise ClashError("this account is disabled", hint="enable it first")
    key = new_key()
    session.execute(sa.delete(Reset).where(sa.or_(Reset.user_id == user_id, Reset.ends < now())))
    session.add(Reset(digest=digest(key), user_id=user_id, ends=now() + RESET_LASTS))
    user.password = ""  # nosec B105  # none: no password fits it
    close_all(session, user_id)
    return key


def end_reset(database: Database, key: str, password: str, *, address: str) -> User:
    """Give an account another password by a secret that works once.

    Args:
        database: where.
        key: the secret.
        password: the new one.
        address: where the request came from.

    Raises:
        ForbiddenError: the secret is none, was used, or has ended; or the account was disabled since.
        UnfitError: the password cannot be used.
    """
    with database.reading() as session:  # before the password is hashed, which takes a core for a while
        _find_reset(session, key)
    kept = hashed(password)
    with database.writing() as session:
        reset, user = _find_reset(session, key)
        used: Any = session.execute(sa.delete(Reset).where(Reset.id == reset.id))
        if not used.rowcount:
            raise _spent()
        user.password = kept
        close_all(session, user.id)
        audit.note(session, who=user.name, did="changed", what=f"password of user {user.id} by a link", address=address)
        return user


def change_user(session: Session, user_id: int, *, role: str | None, disabled: bool | None) -> User:
    """Change an account's role, or close and open it. One administrator who can log in always stays.

    Raises:
        MissingError: there is no such account.
        ForbiddenError: nobody would be administrator any more.
    """
    # Not whoever waits for the link of a reset.
    logs_in = sa.or_(sa.func.length(User.password) > 0, User.subject.is_not(None))
    administrators = sa.select(User.id).where(User.role == ROLES[-1], User.disabled.is_(False), logs_in)
    session.execute(administrators.with_for_update()).all()  # two of them may change each other at once
    user = session.get(User, user_id, populate_existing=True)
    if user is None:
        raise MissingError("there is no such account")
    if role is not None:
        user.role = role
    if disabled is not None:
        user.disabled = disabled
    session.flush()
    if session.scalar(administrators.limit(1)) is None:
        raise ForbiddenError("nobody would be administrator any more", hint="make somebody else administrator first")
    if user.disabled:
        close_all(session, user.id)
    return user


def check_name(name: str) -> None:
    """Refuse what cannot be an account's name.

    Raises:
        UnfitError: it is empty, too long, or holds other than letters, digits, blanks and . @ + - _.
    """
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise UnfitError("an account's name has 1 to 64 letters, digits, blanks or . @ + - _")


def _find_once(session: Session, key: str, *, first: bool) -> Once:
    once = session.scalar(sa.select(Once).where(Once.digest == digest(key), Once.ends > now()))
    if once is None or first == _has_administrator(session):
        raise _spent()
    return once


def _has_administrator(session: Session) -> bool:
    """Whether somebody can let others in. Accounts alone do not tell: an identity provider's readers may come first."""
    there = sa.select(User.id).where(User.role == "administrator", User.disabled.is_(False))
    return session.scalar(there.limit(1)) is not None


def _find_reset(session: Session, key: str) -> tuple[Reset, User]:
    found = session.execute(
        sa.select(Reset, User)
        .join(User, User.id == Reset.user_id)
        .where(Reset.digest == digest(key), Reset.ends > now(), User.disabled.is_(False))
    ).first()
    if found is None:
        raise _spent()
    reset, user = found
    return reset, user


def _spent() -> ForbiddenError:
    return ForbiddenError("the link does not work any more", hint="ask for a new one")
