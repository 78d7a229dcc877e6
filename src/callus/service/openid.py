"""Logging in at an identity provider: OpenID Connect, code flow with PKCE."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from callus.service import audit
from callus.service.accounts import add_user
from callus.service.keys import digest, new_key
from callus.service.refusals import ClashError, ElsewhereError, ForbiddenError, UnknownCallerError
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
            ElsewhereError: the provider does not answer.
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
            The claims of the ID token, whose signature, issuer, audience, times and nonce were checked.

        Raises:
            UnknownCallerError: something does not fit.
            ElsewhereError: the provider does not answer.
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
            raise UnknownCallerError("this login was not begun here, or too long ago", hint="try again")
        if "code" not in query:
            raise UnknownCallerError("the identity provider did not let you in")
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
        except RequestException as error:
            raise ElsewhereError("the identity provider does not answer") from error
        except (JoseError, AuthlibBaseError, KeyError, ValueError, TypeError) as error:
            raise UnknownCallerError("what the identity provider says does not fit") from error
        return dict(claims)

    def account(self, database: Database, claims: Mapping[str, Any], address: str) -> User:
        """The account that claims are of; made when it first comes, and given its role at each login.

        Raises:
            ForbiddenError: the provider gives no role, or the account is disabled.
        """
        role = self._role(claims)
        subject = f"{claims['iss']} {claims['sub']}"[:512]
        with database.writing() as session:
            user = session.scalar(sa.select(User).where(User.subject == subject))
            if user is not None and user.disabled:
                raise ForbiddenError("this account is disabled")
            if user is None:
                user = _add(session, claims, role, subject)
                audit.note(session, who=user.name, did="joined", what=f"user {user.id} {role}", address=address)
            elif user.role != role:
                user.role = role
                audit.note(session, who=user.name, did="changed", what=f"user {user.id} {role}", address=address)
            return user

    def _role(self, claims: Mapping[str, Any]) -> str:
        found: Any = claims.get(self._settings.role_claim)
        if found is None:  # a name with dots is a way down, such as realm_access.roles
            found = claims
            for step in self._settings.role_claim.split("."):
                found = found.get(step) if isinstance(found, dict) or found is claims else None
        values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        for role in reversed(ROLES):
            if role in values:
                return role
        raise ForbiddenError(
            "the identity provider gives you no role here", hint=f"it is to be one of {', '.join(ROLES)}"
        )

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
            fits = described["issuer"].rstrip("/") == self._settings.issuer.rstrip("/")
        except (requests.RequestException, KeyError, ValueError, AttributeError, TypeError) as error:
            raise ElsewhereError("the identity provider does not answer") from error
        of_issuer = urlsplit(self._settings.issuer).scheme
        if not fits or any(urlsplit(str(one)).scheme not in ("https", of_issuer) for one in wanted):
            raise ElsewhereError("the identity provider describes another one")
        self._known = (time.monotonic(), described)
        return described

    def _client(self, redirect: str) -> Any:
        from authlib.integrations.requests_client import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
            OAuth2Session,
        )

        return OAuth2Session(
            self._settings.client_id,
            self._secret or None,
            scope="openid profile",
            redirect_uri=redirect,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
        )


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
    raise ClashError("there are too many accounts of that name")
