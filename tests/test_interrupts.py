from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from callus import interrupts
from callus.interrupts import ctrl_c_waits, started

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
    yield
    signal.signal(signal.SIGINT, before)


def is_there(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_ctrl_c_comes_after_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), ctrl_c_waits():
        done += [os.kill(os.getpid(), signal.SIGINT), time.sleep(0.01)]
    assert len(done) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_a_process_starts_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *words: object, **options: object) -> None:
            super().__init__(*words, **options)
            begun.append(self.pid)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    monkeypatch.setattr(interrupts.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), started(LONG):
        pytest.fail("the block was begun")
    assert len(begun) == 1
    assert not is_there(begun[0])


def test_what_is_raised_in_the_block_ends_the_process() -> None:
    def fail() -> None:
        with started(LONG, stdin=subprocess.PIPE) as process:
            begun.append(process)
            raise ValueError("no")

    begun: list[subprocess.Popen[bytes]] = []
    with pytest.raises(ValueError, match="no"):
        fail()
    assert begun[0].returncode == -signal.SIGKILL
    assert begun[0].stdin is not None
    assert begun[0].stdin.closed


def test_a_process_that_ends_by_itself_is_waited_for() -> None:
    with started([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        pass
    assert process.returncode == 3


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError), started(["/no/such/program"]):
        pytest.fail("the block was begun")
