"""``callus serve`` as people run it: a process of its own, in a session of its own.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml). ``bench/service.py`` uses it as well.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from callus.labels import RESEARCH_ONLY

NAME = "ada"
PASSWORD = "correct horse battery"  # noqa: S105 - of nobody
LONGEST = 180.0
"""Seconds that a line of a process may take to come, its start on a slow machine included."""


@contextmanager
def killed_after(process: subprocess.Popen[Any], seconds: float = LONGEST) -> Iterator[None]:
    """Kill a process where the block takes longer: what waits there for its output gets the end of it, and fails."""
    late = threading.Timer(seconds, process.kill)
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints; "" where it ended or printed none in time."""
    assert process.stdout is not None
    with killed_after(process):
        return process.stdout.readline()


class Served:
    """The process, and a browser at it."""

    def __init__(self, process: subprocess.Popen[str], authority: Path | None = None) -> None:
        self.process = process
        line = line_of(process)
        found = re.match(r"callus serves at (https?://(?:127\.0\.0\.1|0\.0\.0\.0):\d+)/ \((.*)\)\n", line)
        if not found:
            process.kill()
            raise AssertionError(f"it does not say where it serves: {line!r}; {process.communicate(timeout=60)[1]}")
        assert found[2] == RESEARCH_ONLY
        self.address = found[1].replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - the certificate's, as people write it
        trusted = ssl.create_default_context(cafile=authority)
        self.browser = httpx.Client(base_url=self.address + "/api/v1", timeout=30, trust_env=False, verify=trusted)

    def first_key(self) -> str:
        line = line_of(self.process)
        found = re.search(r"once, within a day: https?://[\d.:]+/#first=(\S+)\n", line)
        assert found, line
        return found[1]

    def join(self) -> None:
        """Make the administrator, and be logged in."""
        given = {"secret": self.first_key(), "name": NAME, "password": PASSWORD}
        self._logged_in(self.browser.post("/first", json=given))

    def log_in(self) -> None:
        self._logged_in(self.browser.post("/login", json={"name": NAME, "password": PASSWORD}))

    def token(self, *scopes: str) -> str:
        """A program's token; whoever asks for it is logged in."""
        made = self.browser.post("/tokens", json={"name": "a program", "scopes": scopes})
        assert made.status_code == 201, made.text
        return str(made.json()["secret"])

    def post(self, path: str, csrf: str = "", **given: Any) -> httpx.Response:
        return self.browser.post(path, headers={"X-CSRF-Token": csrf} if csrf else {}, **given)

    def kill(self) -> None:
        """Kill the whole process group, as at a power cut."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def close(self) -> None:
        """End it, however it is, and drop what it wrote."""
        self.browser.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=60)

    def _logged_in(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        self.browser.headers["X-CSRF-Token"] = answer.json()["csrf"]


def start(
    data: Path,
    bundle: Path | str | None,
    *more: str,
    env: dict[str, str] | None = None,
    authority: Path | None = None,
    python: Path | str = sys.executable,
) -> Served:
    """Start one, and wait until it is ready.

    Args:
        data: its folder.
        bundle: the model that it starts with; None for the one that it has.
        *more: words of the command line; of two ``--port`` the last counts.
        env: its environment; this process's where None is given.
        authority: file (PEM) of the authority that gave its certificate; None for the system's.
        python: what it runs in.
    """
    words = [str(python), "-m", "callus", "serve", "--data", str(data), "--port", "0", "--threads", "1", *more]
    words += ["--model", str(bundle)] if bundle else []
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=env
    )
    try:
        return Served(process, authority)
    except BaseException:
        process.kill()
        process.communicate(timeout=60)
        raise


@contextmanager
def serving(data: Path, bundle: Path | None, *more: str, authority: Path | None = None) -> Iterator[Served]:
    """One that runs during the block."""
    served = start(data, bundle, *more, authority=authority)
    try:
        yield served
    finally:
        served.close()
