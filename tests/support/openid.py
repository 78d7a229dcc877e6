"""A small OpenID provider that really is one: discovery, keys, code flow with PKCE, signed ID tokens.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

import base64
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from listening import wait_for

CLIENT, SECRET = "callus", "the client's secret"


class Provider:
    """An identity provider.

    Attributes:
        claims: of whoever logs in next.
        elsewhere: more of them, which the ID token does not tell: the user info endpoint does.
        lies: what the next ID token says wrongly.
        key: that signs.
        scopes: that the last login was begun with.
        error: what a login ends with; "" for a code.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.claims: dict[str, Any] = {"sub": "1", "preferred_username": "ada", "roles": ["radiologist"]}
        self.elsewhere: dict[str, Any] = {}
        self.lies: dict[str, Any] = {}
        self.scopes, self.error = "", ""
        self.token = secrets.token_urlsafe()
        self.key = ECKey.generate_key("P-256", parameters={"kid": "1", "use": "sig", "alg": "ES256"})
        self.signing: Any = self.key
        self._codes: dict[str, dict[str, str]] = {}

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        def discovery() -> dict[str, Any]:
            return {
                "issuer": self.address,
                "authorization_endpoint": f"{self.address}/authorize",
                "token_endpoint": f"{self.address}/token",
                "jwks_uri": f"{self.address}/keys",
                "userinfo_endpoint": f"{self.address}/userinfo",
                "id_token_signing_alg_values_supported": ["ES256"],
            }

        @app.get("/keys")
        def keys() -> dict[str, Any]:
            return dict(KeySet([self.key]).as_dict(private=False))

        @app.get("/authorize")
        def authorize(request: Request) -> RedirectResponse:
            asked = dict(request.query_params)
            wanted = {"response_type": "code", "client_id": CLIENT, "code_challenge_method": "S256"}
            if any(asked.get(name) != value for name, value in wanted.items()) or "openid" not in asked["scope"]:
                raise HTTPException(400)
            self.scopes = asked["scope"]
            if self.error:
                told = {"error": self.error, "state": asked["state"]}
                return RedirectResponse(asked["redirect_uri"] + "?" + urlencode(told), 302)
            code = secrets.token_urlsafe()
            self._codes[code] = asked
            return RedirectResponse(
                asked["redirect_uri"] + "?" + urlencode({"code": code, "state": asked["state"]}), 302
            )

        @app.post("/token")
        async def token(request: Request) -> dict[str, Any]:
            form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            asked = self._codes.pop(form["code"], None)
            if asked is None or request.headers.get("Authorization") != f"Basic {basic}":
                raise HTTPException(400)
            challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
            if challenge.decode() != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
                raise HTTPException(400)
            at = int(time.time())
            claims = {"iss": self.address, "aud": CLIENT, "iat": at, "exp": at + 300, "nonce": asked["nonce"]}
            claims |= self.claims | self.lies
            header = {"alg": self.signing.get("alg") or "HS256", "kid": "1"}
            signed = jwt.encode(header, claims, self.signing, algorithms=["ES256", "HS256"])
            return {"access_token": self.token, "token_type": "Bearer", "expires_in": 300, "id_token": signed}

        app.get("/userinfo")(self._userinfo)
        return app

    def _userinfo(self, request: Request) -> dict[str, Any]:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise HTTPException(401)
        return {"sub": self.claims["sub"], **self.elsewhere}


@contextmanager
def provider() -> Iterator[Provider]:
    """Run one on loopback, on a port that nobody can take meanwhile."""
    listener = socket.create_server(("127.0.0.1", 0))
    made = Provider(f"http://127.0.0.1:{listener.getsockname()[1]}")
    server = uvicorn.Server(uvicorn.Config(made.app(), log_config=None, ws="none", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        wait_for(server, thread)
        yield made
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive(), "the provider does not end"
