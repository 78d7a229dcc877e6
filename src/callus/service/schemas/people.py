"""Answers about people: logins, accounts, invitations, tokens, and who did what."""

from typing import Annotated

from typing_extensions import TypedDict  # before Python 3.12 pydantic does not read typing's

from callus.service.schemas.fields import Csrf, Id, MaybeMoment, Moment, Notice, RoleName, told


class Account(TypedDict):
    """Who has logged in."""

    name: Annotated[str, told("the account's name")]
    role: RoleName


class LoggedIn(TypedDict):
    """A login; the cookie comes in a header."""

    user: Annotated[Account, told("whose it is")]
    csrf: Csrf
    notice: Notice


class Me(Account):
    """Who asks."""

    csrf: Csrf
    notice: Notice


class UserWhole(Account):
    """An account."""

    id: Id
    disabled: Annotated[bool, told("whether nobody can log in to it")]
    openid: Annotated[bool, told("whether its login is at the identity provider")]
    made: Moment


class Users(TypedDict):
    """All accounts."""

    users: Annotated[list[UserWhole], told("by their names")]


class Invited(TypedDict):
    """An account that somebody may make, once."""

    secret: Annotated[str, told("by which it is made; shown this once")]
    link: Annotated[str, told("the page's address with the secret, below the service's own")]
    days: Annotated[int, told("days for which it works", minimum=1, maximum=30)]


class ResetLink(TypedDict):
    """What an account's owner is to be given."""

    secret: Annotated[str, told("by which another password is chosen, once; shown this once")]
    link: Annotated[str, told("the page's address with the secret, below the service's own")]
    hours: Annotated[int, told("hours for which it works", minimum=1)]


class Chosen(TypedDict):
    """A password that was chosen."""

    name: Annotated[str, told("whose it is: they log in with it now")]


class TokenWhole(TypedDict):
    """A program's token, without its secret."""

    id: Id
    name: Annotated[str, told("what people call it")]
    user: Annotated[str, told("the account for which it acts")]
    scopes: Annotated[list[str], told('of "read", "send", "verdict", "administer"')]
    made: Moment
    used: MaybeMoment
    ends: MaybeMoment
    revoked: MaybeMoment


class Tokens(TypedDict):
    """Tokens."""

    tokens: Annotated[list[TokenWhole], told("the oldest first")]


class TokenMade(TokenWhole):
    """A token that was made."""

    secret: Annotated[str, told("to be sent as Authorization: Bearer; shown this once")]


class Line(TypedDict):
    """A line of the audit log."""

    id: Id
    at: Moment
    who: Annotated[str, told('the account, the AE title, or "service"')]
    address: Annotated[str, told("where the request came from; empty for the service itself")]
    did: Annotated[str, told('one word, such as "saw", "sent", "switched"')]
    what: Annotated[str, told("what it was done to, by the service's own numbers; a DICOM caller's certificate")]


class AuditLog(TypedDict):
    """Who saw, sent or changed what, and when."""

    entries: Annotated[list[Line], told("the oldest first")]
