"""Logging in and out; the first account; invitations that are accepted."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from callus.labels import RESEARCH_ONLY
from callus.service import audit, openid
from callus.service.access import COOKIE, address_of, open_to_all
from callus.service.accounts import accept, change_password, check_password, check_still
from callus.service.api.common import API, NO_NUL, Body, Person, Reader, Service
from callus.service.parts import Parts
from callus.service.refusals import MissingError
from callus.service.responses import refused
from callus.service.schemas.people import LoggedIn, Me
from callus.service.schemas.running import Nothing
from callus.service.sessions import LASTS, close_session, open_session
from callus.service.tables import User

router = APIRouter(prefix=API, tags=["login"])
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=NO_NUL, description="the account's name")]
Password = Annotated[str, Field(max_length=1024, description="the account's password")]


class Credentials(Body):
    """A name and its password."""

    name: Name
    password: Password


class Joining(Credentials):
    """A name and a password for the account that a link makes."""

    secret: Annotated[str, Field(max_length=1024, description="of the link")]


class NewPassword(Body):
    """A password for another one."""

    old: Annotated[str, Field(max_length=1024, description="the password until now")]
    new: Annotated[str, Field(max_length=1024, description="the password from now on")]


@router.post("/login", dependencies=[open_to_all()], responses=refused(401, 429))
def login(given: Credentials, request: Request, response: Response, parts: Service) -> LoggedIn:
    """Log in: sets the cookie, and gives the token that changing requests have to bring."""
    address = address_of(request)
    user = check_password(parts.database, parts.throttle, given.name, given.password, address)
    return _logged_in(parts, user, request, response)


@router.post("/first", dependencies=[open_to_all()], responses=refused(409, 429))
def first(given: Joining, request: Request, response: Response, parts: Service) -> LoggedIn:
    """Make the administrator, by the link that the first start prints."""
    return _join(given, request, response, parts, first=True)


@router.post("/accept", dependencies=[open_to_all()], responses=refused(409, 429))
def accepted(given: Joining, request: Request, response: Response, parts: Service) -> LoggedIn:
    """Make an account, by an invitation."""
    return _join(given, request, response, parts, first=False)


@router.post("/logout")
def logout(response: Response, parts: Service, who: Person) -> Nothing:
    """Log out; the browser is to forget what it was shown."""
    with parts.database.writing() as session:
        close_session(session, who.login_id or 0)
        audit.note(session, who=who.name, did="logged out", address=who.address)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return {}


@router.get("/me")
def me(who: Reader) -> Me:
    """Who is logged in."""
    return {"name": who.name, "role": who.user.role, "csrf": who.csrf, "notice": RESEARCH_ONLY}


@router.post("/me/password", responses=refused(429))
def password(given: NewPassword, parts: Service, who: Person) -> Nothing:
    """Give one's own account another password; its other logins end."""
    change_password(parts.database, parts.throttle, who.user, who.login_id, given.old, given.new, who.address)
    return {}


@router.get(
    "/login/openid",
    dependencies=[open_to_all()],
    response_class=RedirectResponse,
    status_code=302,
    responses=refused(404),
)
def begin_openid(request: Request, parts: Service) -> RedirectResponse:
    """Go to the identity provider; or back to the page, which is told by ``#login=`` why that cannot be."""
    provider = _provider(parts)
    try:
        address, key = provider.begin(str(request.url_for("end_openid")))
    except openid.NotLetInError as error:
        return _back(error)
    response = RedirectResponse(address, 302)
    # Lax: the provider's page sends the browser back, and a stricter cookie would stay behind.
    response.set_cookie(
        openid.COOKIE,
        key,
        max_age=openid.BEGUN_LASTS,
        path=f"{API}/login/openid",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response


@router.get(
    "/login/openid/return",
    dependencies=[open_to_all()],
    response_class=RedirectResponse,
    status_code=302,
    responses=refused(401, 404),
)
def end_openid(request: Request, parts: Service) -> RedirectResponse:
    """Come back from the identity provider, to the page; it is told by ``#login=`` why nobody was let in."""
    provider = _provider(parts)
    try:
        claims = provider.end(request.cookies.get(openid.COOKIE, ""), request.query_params)
        user = provider.account(parts.database, claims, address_of(request))
    except openid.NotLetInError as error:
        return _back(error)
    response = RedirectResponse("/", 302)
    _logged_in(parts, user, request, response)
    response.delete_cookie(openid.COOKIE, path=f"{API}/login/openid")
    return response


def _back(error: openid.NotLetInError) -> RedirectResponse:
    """To the page, with a word for why; a browser's window has no use for an error as JSON."""
    response = RedirectResponse(f"/#login={error.why}", 302)
    response.delete_cookie(openid.COOKIE, path=f"{API}/login/openid")
    return response


def _provider(parts: Parts) -> openid.OpenId:
    if parts.openid is None:
        raise MissingError("there is no identity provider here")
    return parts.openid


def _join(given: Joining, request: Request, response: Response, parts: Parts, *, first: bool) -> LoggedIn:
    address = address_of(request)
    parts.throttle.check("", address)
    user = accept(parts.database, given.secret, given.name, given.password, first=first, address=address)
    return _logged_in(parts, user, request, response)


def _logged_in(parts: Parts, user: User, request: Request, response: Response) -> LoggedIn:
    with parts.database.writing() as session:
        check_still(session, user)
        key, csrf = open_session(session, user)
        audit.note(session, who=user.name, did="logged in", address=address_of(request))
    response.set_cookie(
        COOKIE,
        key,
        max_age=int(LASTS.total_seconds()),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return {"user": {"name": user.name, "role": user.role}, "csrf": csrf, "notice": RESEARCH_ONLY}
