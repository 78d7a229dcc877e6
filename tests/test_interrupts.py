from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ctrl_c import HEED_CTRL_C

from callus.interrupts import started

LONG = [sys.executable, "-c", "import time; time.sleep(600)"]
CTRL_C_IN_THE_BLOCK = """\
import os, time
from callus.interrupts import ctrl_c_waits
try:
    with ctrl_c_waits():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        print("done")
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted")
"""
CTRL_C_WHILE_STARTING = """\
import os, subprocess, sys, time
from callus import interrupts

class Interrupted(subprocess.Popen):
    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        print(self.pid)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

interrupts.subprocess.Popen = Interrupted
try:
    with interrupts.started([sys.executable, "-c", "import time; time.sleep(600)"]):
        print("the block was begun")
except KeyboardInterrupt:
    print("interrupted")
"""


def printed(code: str) -> list[str]:
    """What a process of its own prints: libraries that other tests load may leave this one unable to take a signal."""
    done = subprocess.run(
        [sys.executable, "-c", HEED_CTRL_C + code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_ctrl_c_comes_after_the_block() -> None:
    assert printed(CTRL_C_IN_THE_BLOCK) == ["done", "interrupted"]


def test_ctrl_c_while_a_process_starts_ends_it() -> None:
    begun, after = printed(CTRL_C_WHILE_STARTING)
    assert after == "interrupted"
    assert not Path(f"/proc/{begun}").exists()


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
