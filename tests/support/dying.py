"""Work for other processes, at which some of them die. Not a test."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def die_at_crash(file: str) -> tuple[str, str]:
    """End the process as native code does that reads where it must not, at files named "crash...", always."""
    if Path(file).name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return file, "done"


def die_at_once() -> None:
    """For a process's very start."""
    os._exit(3)
