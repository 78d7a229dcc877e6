"""A clinic that really listens on a port, in the test's process.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from clinic import Clinic

from callus.service.protocol import BoundedProtocol


@contextmanager
def listening(clinic: Clinic) -> Iterator[tuple[str, int]]:
    """Host and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        clinic.served,  # type: ignore[arg-type]
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=32 << 10,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        wait_for(server, thread)
        yield listener.getsockname()[:2]
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
