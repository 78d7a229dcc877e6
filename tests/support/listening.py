"""A clinic that really listens on a port as ``callus serve`` does, in the test's process.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from clinic import Clinic

from callus.service.listening import configuration
from callus.service.settings import Settings


@contextmanager
def listening(clinic: Clinic) -> Iterator[tuple[str, int]]:
    """Host and port."""
    with listening_to(clinic.served, clinic.settings) as (address, _):
        yield address


@contextmanager
def listening_to(app: Any, settings: Settings) -> Iterator[tuple[tuple[str, int], uvicorn.Server]]:
    """Host and port of an application of a test's own, and what listens there."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = configuration(app, settings)
    config.timeout_graceful_shutdown = 2  # nobody waits for what a test has left open
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        wait_for(server, thread)
        yield listener.getsockname()[:2], server
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive(), "the server does not end"


def wait_for(server: uvicorn.Server, thread: threading.Thread) -> None:
    """Wait until a server that was started in a thread answers."""
    ends = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive(), "the server cannot start"
        assert time.monotonic() < ends, "the server does not start"
        time.sleep(0.01)


def raw(address: tuple[str, int], data: bytes, *later: bytes, seconds: float = 20) -> bytes:
    """What comes back until the connection is closed."""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(data)
        for piece in later:
            time.sleep(0.2)
            connection.sendall(piece)
        got = b""
        try:
            while piece := connection.recv(65536):
                got += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return got
