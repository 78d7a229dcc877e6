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
    while not server.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join()
