"""The page's and the API's own listener: bound before anything is told, stopped in order."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from callus.errors import CallusError
from callus.service.app import create_app, served
from callus.service.protocol import BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from callus.service.metrics import App
    from callus.service.parts import Parts
    from callus.service.settings import Settings

_CONNECTIONS: Final = 1000
_LONGEST_HEAD: Final = 32 << 10  # bytes
_KEEP_ALIVE: Final = 15  # seconds
_LAST_ANSWERS: Final = 8  # seconds for what is being answered when it is told to stop


def bind(settings: Settings) -> socket.socket:
    """Take the address that the page listens at.

    Raises:
        CallusError: somebody else has it, or it is none of this machine's.
    """
    where = f"{settings.host} port {settings.port}"
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise CallusError(
            f"cannot be listened at: {error.strerror}", where=where, hint="choose another port"
        ) from error
    return listener


def address_of(settings: Settings, listener: socket.socket) -> str:
    """The page's address, as a browser on this machine takes it."""
    scheme = "https" if settings.certificate else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}/"


def configuration(app: App, settings: Settings) -> uvicorn.Config:
    """How an application is listened for: with bounds, and believing nobody's word on where a request comes from.

    Args:
        app: it, as :func:`callus.service.app.served` gives it.
        settings: the service's.
    """
    told: Any = app  # uvicorn has types of its own for what it calls
    return uvicorn.Config(
        told,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # addresses of studies and who looked at them: the audit log's business
        server_header=False,
        proxy_headers=False,  # callus.service.edge has a stricter one
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_LAST_ANSWERS,
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        ssl_certfile=settings.certificate or None,
        ssl_keyfile=settings.key or None,
    )


def serve(parts: Parts, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answer requests until the process is told to stop (SIGINT, SIGTERM), then stop the parts.

    Args:
        parts: put together; started and stopped here.
        listener: from :func:`bind`.
        ready: called when requests are answered.

    Raises:
        CallusError: the certificate or its key cannot be used.
    """
    config = configuration(served(create_app(parts)), parts.settings)
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise CallusError(f"the TLS certificate or its key cannot be used: {error.strerror}") from error
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _nothing)  # what uvicorn does about them is all; afterwards it sends them once more
    _Server(config, parts, ready).run([listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, parts: Parts, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._parts = parts
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._parts.start)
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._parts.ready = False
        self._parts.events.close()  # listeners would keep their connections for ever
        await super().shutdown(sockets)
        await asyncio.to_thread(self._parts.stop)


def _nothing(*_: object) -> None:
    """Take no notice."""
