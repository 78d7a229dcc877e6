"""Progress as it is seen: lines in a log, a bar on a real terminal, and the time left in both."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from callus import progress as module
from callus.progress import progress, track


class Clock:
    """Stands in for the time, so that minutes pass at once."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_log_gets_a_line_every_half_minute_with_the_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("reading", 200) as advance:
        for _ in range(100):
            clock.now += 1.0
            advance(note="2 failed")
    assert capsys.readouterr().err.splitlines() == [
        "reading: 30/200, 170 s left 2 failed",
        "reading: 60/200, 140 s left 2 failed",
        "reading: 90/200, 110 s left 2 failed",
    ]


def test_what_is_soon_done_prints_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(5), "reading")) == [0, 1, 2, 3, 4]
    clock.now += 29
    assert capsys.readouterr().err == ""


def test_of_an_unknown_number_no_time_is_promised(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def items() -> Iterator[int]:
        for number in range(2):
            clock.now += 40
            yield number

    assert list(track(items(), "listing")) == [0, 1]
    assert capsys.readouterr().err == "listing: 1/?\nlisting: 2/?\n"


def test_several_steps_at_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 100) as advance:
        clock.now += 30
        advance(25)
    assert capsys.readouterr().err == "reading: 25/100, 90 s left\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_gets_a_bar() -> None:
    import pty

    code = """
from callus.progress import track
import time
for number in track(range(8), "reading films"):
    time.sleep(0.1)
print("done")
"""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as run:
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux: the last one that wrote is gone
                piece = b""
            if not piece:
                break
            seen += piece
        assert run.stdout is not None
        assert run.stdout.read() == b"done\n", "what is printed is not mixed with the bar"
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "reading films" in text
    assert re.search(r"\b8/8\b", text)
    assert re.search(r"\d:\d\d|\d+s|--:--", text), "the time left, or taken"
