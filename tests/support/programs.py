"""Programs that tests start: real peers, on loopback."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NoReturn

import pytest

CI = "CALLUS_CI" in os.environ  # set by .ci/run
DEBIAN = Path("/usr/bin")


def missing(what: str) -> NoReturn:
    """Skip for want of a program; in CI, where ``.ci/run`` installs them all, that is a failure."""
    (pytest.fail if CI else pytest.skip)(f"{what} is not installed here (see .ci/run)")


def dcmtk(program: str) -> str:
    """The path of one of dcmtk's programs: pynetdicom puts others of the same names into the environment."""
    if not (DEBIAN / program).exists():
        missing(f"dcmtk ({program})")
    return str(DEBIAN / program)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
