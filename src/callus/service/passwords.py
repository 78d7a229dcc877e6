"""Passwords: argon2id, a few at a time."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from callus.service.refusals import TooManyError, UnfitError

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST: Final = 12
LONGEST: Final = 256
_AT_ONCE: Final = 2
_LONGEST_WAIT: Final = 5.0  # seconds
_hasher = PasswordHasher()  # argon2id with RFC 9106's second choice: 64 MiB, 3 passes, 4 lanes
_turns = threading.BoundedSemaphore(_AT_ONCE)  # each takes 64 MiB and a core: a flood of logins must not take them all
# Of a random password that nobody kept: who has no account waits as long as who has one.
_NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=4$AjWD5910vb5CDa94s2Xb4Q$Vtr0yTCembcGuT2EjcsUYGVIBHBRN42iJvOMsPhcfbA"


def hashed(password: str) -> str:
    """What is kept of a new password.

    Raises:
        UnfitError: it is too short or too long.
        TooManyError: too many logins at once.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise UnfitError(f"a password has {SHORTEST} to {LONGEST} characters, this one has {len(password)}")
    with _turn():
        return _hasher.hash(password)


def fits(kept: str, password: str) -> bool:
    """Whether a password is the one that something was kept of. Takes as long where nothing was kept.

    Args:
        kept: by :func:`hashed`; "" where there is no such account or it has no password.
        password: what was given.

    Raises:
        TooManyError: too many logins at once.
    """
    if len(password) > LONGEST:
        return False
    with _turn():
        try:
            return _hasher.verify(kept or _NOBODY, password) and bool(kept)
        except (VerificationError, InvalidHashError):
            return False


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=_LONGEST_WAIT):
        raise TooManyError("too many people log in at once", retry_after=5)
    try:
        yield
    finally:
        _turns.release()
