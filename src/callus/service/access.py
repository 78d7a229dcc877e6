"""Who asks, and whether they may: one rule at each route, by which a test can ask every route for its own."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request

from callus.service.refusals import ForbiddenError, UnknownCallerError
from callus.service.roles import Role, Scope, reaches
from callus.service.sessions import find_session
from callus.service.settings import is_loopback
from callus.service.tokens import find_token

if TYPE_CHECKING:
    from callus.service.parts import Parts
    from callus.service.tables import User

COOKIE: Final = "callus_session"
CSRF_HEADER: Final = "X-CSRF-Token"
UNATTENDED: Final = "X-Unattended"
"""With what the page asks by itself: a login that nobody uses ends, whatever the page goes on looking for."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


@dataclass(frozen=True)
class Who:
    """Who asks.

    Attributes:
        user: their account.
        scopes: of the token that they came with; None for a login.
        csrf: of the login; "" with a token.
        login_id: of the login; None with a token.
        address: where the request came from.
        attended: whether somebody asked, and not the page by itself.
    """

    user: User
    scopes: frozenset[str] | None
    csrf: str
    login_id: int | None
    address: str
    attended: bool = True

    @property
    def name(self) -> str:
        """The account's name."""
        return self.user.name

    @property
    def sees_patients(self) -> bool:
        """Whether they are shown whose radiographs they look at."""
        return reaches(self.user.role, "radiologist")


@dataclass(frozen=True)
class Rule:
    """Who may use a route. A dependency that gives :class:`Who`.

    Attributes:
        role: the least role; None for everybody, who need not be logged in.
        scope: that a token needs; None where tokens may not.
        on_loopback: whether everybody may who asks from this machine.
        attended: whether somebody asks; where programs go on by themselves, a login may end idle meanwhile.
    """

    role: Role | None
    scope: Scope | None = None
    on_loopback: bool = False
    attended: bool = True

    def __call__(self, request: Request) -> Who | None:
        """Find out who asks.

        Returns:
            Who; None where nobody has to be logged in.

        Raises:
            UnknownCallerError: nobody is logged in.
            ForbiddenError: they may not, or the request comes from another page.
        """
        parts: Parts = request.app.state.parts
        if self.role is None:
            if request.method not in SAFE:
                check_same_page(request)
            return None
        if self.on_loopback and not parts.settings.behind_proxy and is_loopback(address_of(request)):
            return None
        who = find_who(request, parts, attended=self.attended)
        if not reaches(who.user.role, self.role):
            raise ForbiddenError(f"this is for the role {self.role}")
        if who.scopes is not None and self.scope not in who.scopes:
            wanted = f"the scope {self.scope}" if self.scope else "a login"
            raise ForbiddenError(f"this needs {wanted}; a token of other scopes came")
        return who


def allow(role: Role, scope: Scope | None, *, on_loopback: bool = False, attended: bool = True) -> Any:
    """A route's rule: the least role, and the scope that a token needs.

    Args:
        role: the least.
        scope: None where only people may, not programs with a token.
        on_loopback: whether everybody may who asks from this machine.
        attended: whether somebody asks, so that a login does not end idle.
    """
    return Depends(Rule(role, scope, on_loopback, attended))


def open_to_all() -> Any:
    """The rule of a route that nobody has to be logged in for."""
    return Depends(Rule(None))


def find_who(request: Request, parts: Parts, *, attended: bool = True) -> Who:
    """Who a request comes from, by its token or else by its cookie.

    Args:
        request: it.
        parts: the service's.
        attended: whether somebody asks; where the request says that nobody does, nobody does.

    Raises:
        UnknownCallerError: by none.
        ForbiddenError: it would change something, and comes from another page.
    """
    address = address_of(request)
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    if kind:
        found = find_token(parts.database, key.strip()) if kind.lower() == "bearer" else None
        if found is None:
            raise UnknownCallerError("the token is none, has ended or was revoked")
        token, user = found
        return Who(user, frozenset(token.scopes), "", None, address)
    cookie = request.cookies.get(COOKIE, "")
    attended = attended and UNATTENDED not in request.headers
    opened = find_session(parts.database, cookie, counts=attended) if cookie else None
    if opened is None:
        raise UnknownCallerError("nobody is logged in", hint="log in, or send a token")
    login, user = opened
    if request.method not in SAFE:
        check_same_page(request)
        given = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), login.csrf.encode()):
            raise ForbiddenError(f"the header {CSRF_HEADER} is missing or another login's")
    return Who(user, None, login.csrf, login.id, address, attended)


def check_same_page(request: Request) -> None:
    """Refuse a request that a browser sends for another site's page.

    Raises:
        ForbiddenError: it does.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise ForbiddenError("the request comes from another page")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host", ""):
        raise ForbiddenError(
            "the request comes from another page", hint="where a proxy is in front, it has to pass Host on as it came"
        )


def address_of(request: Request) -> str:
    """Where a request came from."""
    return request.client.host if request.client else ""
