"""What every request passes first: who really sends it, how long it may take to arrive, and what every answer says."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from callus.service.metrics import App, Message, Receive, Scope, Send

SMALL_BODY: Final = 1 << 20
"""Bytes of a request's body, where no files are taken."""
GRACE: Final = 15.0
"""Seconds that a body may take to arrive, whatever its size; then it has to have kept :data:`SLOWEST`."""
SLOWEST: Final = 8192
"""Bytes a second: a mast's worst moment is faster."""
PIECE: Final = 64 << 10
"""Bytes of an answer that are handed on at once: the next ones wait until these have gone, so that an answer is over
when nearly all of it was taken, and not before. How long that may take, callus.service.protocol bounds."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_ALWAYS: Final = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"geolocation=(), microphone=(), payment=(), usb=()"),
]
_ONLY_TLS: Final = (b"strict-transport-security", b"max-age=31536000")


log = logging.getLogger(__name__)


class BehindProxy:
    """Believes the proxy in front: the last address is the one that it added, earlier ones anybody may claim."""

    def __init__(self, app: App) -> None:
        """Put it around an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as the proxy got it."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])  # the last of several
            address = headers.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip()
            scheme = headers.get(b"x-forwarded-proto", b"").decode("latin-1").rpartition(",")[2].strip()
            if address:
                scope = dict(scope) | {"client": (address[:64], 0)}
            if scheme in ("http", "https"):
                scope = dict(scope) | {"scheme": scheme}
        await self._app(scope, receive, send)


class Headers:
    """Adds what protects a browser to every answer."""

    def __init__(self, app: App) -> None:
        """Put it around an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", [])}
                more = [*_ALWAYS, (b"cache-control", b"no-store")]
                if scope["scheme"] == "https":
                    more.append(_ONLY_TLS)
                added = [pair for pair in more if pair[0] not in given]
                message = dict(message) | {"headers": [*message.get("headers", []), *added]}
            await send(message)

        await self._app(scope, receive, with_headers)


class Bounds:
    """Bounds how much a request may bring and how slowly; hands its answer on in pieces, which the listener bounds."""

    def __init__(self, app: App, is_large: Callable[[str], object]) -> None:
        """Put it around an application.

        Args:
            app: it.
            is_large: whether a path takes files, whose size it bounds itself.
        """
        self._app = app
        self._is_large = is_large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request within the bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names = {name for name, _ in scope["headers"]}
        if {b"content-length", b"transfer-encoding"} <= names:  # a proxy may see its end elsewhere (RFC 9112 6.1)
            await _refuse(send, 400, "the request states its length in two ways")
            return
        most = None if self._is_large(scope["path"]) else SMALL_BODY
        if most is not None and _stated_length(scope) > most:
            await _refuse(send, 413, "the request is too large")
            return
        arriving = _Arriving(receive, send, most)
        try:
            await self._app(scope, arriving.receive, arriving.send)
        except Exception as error:  # noqa: BLE001 - the server would log its text, which may hold what a row holds
            if arriving.refused is None:
                log.error("a request failed: %s", type(error).__name__)  # noqa: TRY400 - as above
                arriving.refused = (500, "the service failed")
        if arriving.refused is not None and not arriving.begun:
            await _refuse(send, *arriving.refused)


class _Arriving:
    """One request on its way in, and its answer on its way out."""

    def __init__(self, receive: Receive, send: Send, most: int | None) -> None:
        self._receive = receive
        self._send = send
        self._most = most
        self._count = 0
        self._waited = 0.0
        self._whole = False
        self.refused: tuple[int, str] | None = None
        self.begun = False

    async def receive(self) -> Message:
        if self._whole:  # what comes now is that the client has gone, which may take as long as it likes
            return await self._receive()
        begun = time.monotonic()
        try:
            async with asyncio.timeout(GRACE + self._count / SLOWEST - self._waited):
                message = await self._receive()
        except TimeoutError:
            self.refused = (408, "the request arrives too slowly")
            return {"type": "http.disconnect"}
        self._waited += time.monotonic() - begun
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._most is not None and self._count > self._most:
                self.refused = (413, "the request is too large")
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self.refused is not None and not self.begun:
            return  # what the application makes of it does not matter any more
        self.begun = True
        for piece in _pieces(message):
            await self._send(piece)


def _pieces(message: Message) -> Iterator[Message]:
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= PIECE:
        yield message
        return
    view = memoryview(body)
    for begin in range(0, len(view), PIECE):
        more = begin + PIECE < len(view) or message.get("more_body", False)
        yield dict(message) | {"body": view[begin : begin + PIECE], "more_body": more}


def _stated_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def _refuse(send: Send, status: int, what: str) -> None:
    body = json.dumps({"error": {"what": what, "hint": ""}}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
