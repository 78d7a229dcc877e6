"""A process of the service's own ends with the service. Light to import: it comes before anything else in them."""

from __future__ import annotations

import os
import select
import threading


def end_with_service() -> None:
    """End this process at once when the one at the other end of its standard input is gone, however that ended.

    Even where something be half made: nobody waits for it any more.
    """
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    watch = select.poll()
    watch.register(0, 0)  # only the other end's closing is told
    watch.poll()
    os._exit(0)
