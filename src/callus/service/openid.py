"""Logging in at an identity provider: OpenID Connect, code flow with PKCE."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import sqlalchemy as sa

from callus.errors import CallusError
from callus.radiograph.limits import one_line
from callus.service import audit
from callus.service.accounts import add_user, hold_names
from callus.service.keys import digest, new_key
from callus.service.refusals import ClashError
from callus.service.roles import ROLES
from callus.service.settings import SettingsError, is_loopback
from callus.service.tables import User

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from callus.service.database import Database
    from callus.service.settings import OpenIdConnect

COOKIE: Final = "callus_openid"
BEGUN_LASTS: Final = 600
"""Seconds that one may take to log in over there."""
_MOST_BEGUN: Final = 1000
_TIMEOUT: Final = 10.0
_FRESH: Final = 3600.0  # seconds for which the provider's own description is believed
_ALGORITHMS: Final = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
]
"""Signatures only: never "none", nor a shared secret."""
_LEEWAY: Final = 60
_LONGEST_NAME: Final = 48
_LONGEST_SUBJECT: Final = 512  # of the column that keeps it
_OK: Final = 200
Why = Literal["away", "cancelled", "disabled", "late", "refused", "role", "taken", "unfit"]
log = logging.getLogger(__name__)


class NotLetInError(CallusError):
    """Nobody comes in by this login.

    Attributes:
        why: the page has words for it (``web/src/entry.tsx``).
    """

    def __init__(self, what: str, why: Why) -> None:
        """Compose it.

        Args:
            what: what is wrong.
            why: a word for the page.
        """
        super().__init__(what)
        self.why = why


@dataclass(frozen=True)
class _Begun:
    """A login that has begun: what has to come back."""

    state: str
    nonce: str
    verifier: str
    redirect: str
    ends: float


class OpenId:
    """An identity provider. Threads may share it."""

    def __init__(self, settings: OpenIdConnect) -> None:
        """Prepare it; the provider is asked when the first one logs in.

        Raises:
            SettingsError: the issuer's address is none or would be asked in the clear, or the secret cannot be read.
        """
        address = urlsplit(settings.issuer)
        safe = address.scheme == "https" or (address.scheme == "http" and is_loopback(address.hostname or ""))
        if not address.hostname or not safe:
            raise SettingsError("openid.issuer is to be an https address")
        self._settings = settings
        self._secret = ""  # nosec B105  # no secret, where none was given
        if settings.client_secret_file:
            try:
                self._secret = Path(settings.client_secret_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError("openid.client_secret_file cannot be read") from error
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._known: tuple[float, dict[str, Any]] = (float("-inf"), {})
        self._lock = threading.Lock()

    def begin(self, redirect: str) -> tuple[str, str]:
        """Begin a login.

        Args:
            redirect: the address that the provider is to send the browser back to.

        Returns:
            The address to send the browser to, and the secret for a cookie, by which it is known again.

        Raises:
            NotLetInError: the provider does not answer.
        """
        described = self._described()
        begun = _Begun(new_key(), new_key(), secrets.token_urlsafe(48), redirect, time.monotonic() + BEGUN_LASTS)
        with self._client(redirect) as client:
            address, _ = client.create_authorization_url(
                described["authorization_endpoint"], begun.state, begun.verifier, nonce=begun.nonce
            )
        key = new_key()
        with self._lock:
            self._begun[digest(key)] = begun
            while len(self._begun) > _MOST_BEGUN:
                self._begun.popitem(last=False)
        return str(address), key

    def end(self, key: str, query: Mapping[str, str]) -> dict[str, Any]:
        """End a login: what the provider says of whoever came back.

        Args:
            key: of the cookie. It works once.
            query: of the address that the browser came back to.

        Returns:
            The claims of the ID token, whose signature, issuer, audience, times and nonce were checked; and where the
            role's is not among them, those that the provider tells of the same person elsewhere.

        Raises:
            NotLetInError: something does not fit, or the provider does not answer.
        """
        from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]  # noqa: PLC0415 - only who logs in so
        from joserfc import jwt  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415
        from joserfc.jwk import KeySet  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415

        with self._lock:
            begun = self._begun.pop(digest(key), None)
        if (
            begun is None
            or begun.ends < time.monotonic()
            or not secrets.compare_digest(query.get("state", "").encode(), begun.state.encode())
        ):
            raise NotLetInError("this login was not begun here, or too long ago", "late")
        if "code" not in query:
            said = query.get("error", "")  # RFC 6749 4.1.2.1
            log.warning("the identity provider lets nobody in: %s", one_line(said, 60) or "it does not say why")
            raise NotLetInError(
                "the identity provider did not let you in", "cancelled" if said == "access_denied" else "refused"
            )
        described = self._described()
        from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]  # noqa: PLC0415

        try:
            with self._client(begun.redirect) as client:
                token = client.fetch_token(
                    described["token_endpoint"],
                    grant_type="authorization_code",
                    code=query["code"],
                    code_verifier=begun.verifier,
                    timeout=_TIMEOUT,
                    allow_redirects=False,
                )
                keys = client.request(
                    "GET", described["jwks_uri"], withhold_token=True, timeout=_TIMEOUT, allow_redirects=False
                ).json()
            decoded = jwt.decode(token["id_token"], KeySet.import_key_set(keys), algorithms=_ALGORITHMS)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": described["issuer"]},
                    "aud": {"essential": True, "value": self._settings.client_id},
                },
                {
                    "nonce": begun.nonce,
                    "client_id": self._settings.client_id,
                    "access_token": token.get("access_token"),
                },
            )
            claims.validate(leeway=_LEEWAY)
            _check_subject(claims["sub"])
        except RequestException as error:
            raise NotLetInError("the identity provider does not answer", "away") from error
        except (JoseError, AuthlibBaseError, KeyError, ValueError, TypeError) as error:
            log.warning("what the identity provider says does not fit: %s", type(error).__name__)
            raise NotLetInError("what the identity provider says does not fit", "unfit") from error
        told = dict(claims)
        if self._found(told) is None and described.get("userinfo_endpoint"):
            more = self._more(described["userinfo_endpoint"], token, told)
            # Under its whole name, which is looked at first: both may have claims within one that is named alike.
            told = more | told | {self._settings.role_claim: self._found(more)}
        return told

    def _more(self, place: str, token: Any, claims: Mapping[str, Any]) -> dict[str, Any]:
        """What the provider tells beside the ID token (OpenID Connect Core 5.3); nothing where it does not.

        Raises:
            NotLetInError: the provider does not answer.
        """
        import requests  # noqa: PLC0415 - only for those who log in so

        headers = {"Authorization": f"Bearer {token.get('access_token')}", "Accept": "application/json"}
        try:
            answer = requests.get(place, headers=headers, timeout=_TIMEOUT, allow_redirects=False)
            more = answer.json() if answer.status_code == _OK else {}
        except ValueError:  # it signs what it tells, which nobody asked it to
            return {}
        except requests.RequestException as error:
            raise NotLetInError("the identity provider does not answer", "away") from error
        is_theirs = isinstance(more, dict) and more.get("sub") == claims["sub"]
        return more if is_theirs else {}

    def account(self, database: Database, claims: Mapping[str, Any], address: str) -> User:
        """The account that claims are of; made when it first comes, and given its role at each login.

        Raises:
            NotLetInError: the provider gives no role, the account is disabled, or its name cannot be had.
        """
        role = self._role(claims)
        subject = f"{claims['iss']} {claims['sub']}"
        if len(subject) > _LONGEST_SUBJECT:  # cut off, two people might be one
            raise NotLetInError("what the identity provider says does not fit", "unfit")
        theirs = sa.select(User).where(User.subject == subject)
        with database.writing() as session:
            user = session.scalar(theirs)
            if user is None:
                hold_names(session)
                user = session.scalar(theirs)  # two windows may have come back at once
            if user is not None and user.disabled:
                raise NotLetInError("this account is disabled", "disabled")
            if user is None:
                user = _add(session, claims, role, subject)
                audit.note(session, who=user.name, did="joined", what=f"user {user.id} {role}", address=address)
            elif user.role != role:
                user.role = role
                audit.note(session, who=user.name, did="changed", what=f"user {user.id} {role}", address=address)
            return user

    def _role(self, claims: Mapping[str, Any]) -> str:
        found = self._found(claims)
        values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        roles = self._settings.roles or {role: role for role in ROLES}
        meant = {roles.get(str(value)) for value in values}
        for role in reversed(ROLES):
            if role in meant:
                return role
        log.warning("the identity provider gives somebody no role by the claim %s", self._settings.role_claim)
        raise NotLetInError("the identity provider gives you no role here", "role")

    def _found(self, claims: Mapping[str, Any]) -> Any:
        """The value of the role's claim; a name with dots is a way down, such as realm_access.roles."""
        found: Any = claims.get(self._settings.role_claim)
        if found is None:
            found = claims
            for step in self._settings.role_claim.split("."):
                found = found.get(step) if isinstance(found, dict) or found is claims else None
        return found

    def _described(self) -> dict[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery)."""
        import requests  # noqa: PLC0415 - only for those who log in so

        at, known = self._known
        if time.monotonic() - at < _FRESH:
            return known
        place = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            answer = requests.get(place, timeout=_TIMEOUT, allow_redirects=False)
            answer.raise_for_status()
            described: dict[str, Any] = answer.json()
            wanted = [described[name] for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
            wanted += [described[name] for name in ("userinfo_endpoint",) if described.get(name)]
            fits = described["issuer"].rstrip("/") == self._settings.issuer.rstrip("/")
        except (requests.RequestException, KeyError, ValueError, AttributeError, TypeError) as error:
            raise NotLetInError("the identity provider does not answer", "away") from error
        of_issuer = urlsplit(self._settings.issuer).scheme
        if not fits or any(urlsplit(str(one)).scheme not in ("https", of_issuer) for one in wanted):
            log.warning("the identity provider describes another one than openid.issuer names")
            raise NotLetInError("the identity provider describes another one", "unfit")
        self._known = (time.monotonic(), described)
        return described

    def _client(self, redirect: str) -> Any:
        from authlib.integrations.requests_client import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
            OAuth2Session,
        )

        return OAuth2Session(
            self._settings.client_id,
            self._secret or None,
            scope=" ".join(self._settings.scopes),
            redirect_uri=redirect,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
        )


def _check_subject(subject: object) -> None:
    """Refuse what is no name of a person (OpenID Connect Core 2): no text, endless, or of unprintable signs.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():  # noqa: PLR2004 - as there
        raise ValueError("sub")


def _add(session: Session, claims: Mapping[str, Any], role: str, subject: str) -> User:
    """An account of the name that the provider tells; with a number where somebody has that name here."""
    told = str(claims.get("preferred_username") or claims.get("name") or claims["sub"])
    name = "".join(letter if letter.isalnum() or letter in ".@+-_ " else "_" for letter in told)[:_LONGEST_NAME].strip()
    for number in range(1, 1000):
        try:
            return add_user(
                session, name if number == 1 and name else f"{name} {number}".strip(), role, subject=subject
            )
        except ClashError:
            continue
    raise NotLetInError("there are too many accounts of that name", "taken")
