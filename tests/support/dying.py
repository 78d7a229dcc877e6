"""Work for other processes, at which some of them die. Not a test."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from callus.radiograph import apart


def die_at_crash(file: str) -> tuple[str, str]:
    """End the process as native code does that reads where it must not, at files named "crash...", always."""
    if Path(file).name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return file, "done"


def spin_at_spin(file: str) -> tuple[str, str]:
    """Compute without end at files named "spin...", with a bound of a second of processor time."""
    apart.CPU_S = 0.1
    with apart.processor_limited(0):
        while Path(file).name.startswith("spin"):
            pass
    return file, "done"


def die_at_once() -> None:
    """For a process's very start."""
    os._exit(3)
