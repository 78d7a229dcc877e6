from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from callus import cli
from callus.errors import CallusError
from callus.workers import batched, spread_over_processes, spread_over_threads, starting_processes


@pytest.mark.parametrize("spread", [spread_over_threads, spread_over_processes])
def test_results_come_in_order_and_what_is_raised_is_raised(spread) -> None:  # noqa: ANN001
    assert list(spread(math.sqrt, range(200), 2)) == [math.sqrt(number) for number in range(200)]
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(spread(math.sqrt, [*range(100), -1, *range(100)], 2))


def test_a_process_that_is_killed_is_one_error() -> None:
    with pytest.raises(CallusError, match="a process that shared the work ended before it was done"):
        list(spread_over_processes(os._exit, [1, 1, 1], 2))
    assert list(spread_over_processes(abs, [-1], 2)) == [1], "the next work gets new processes"


def children() -> set[int]:
    """The processes that this one has started, and that are there."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.add(int(process.name))
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are found in /proc")
def test_processes_that_were_begun_do_the_work() -> None:
    list(spread_over_processes(abs, [1], 3))  # those of tests before are replaced then
    with starting_processes(os.setsid, 2):
        begun = children()
    assert {int(process) for process in spread_over_processes(os.readlink, ["/proc/self"] * 40, 2)} <= begun
    assert begun & set(spread_over_processes(os.getsid, [0] * 40, 2)), "none has done what makes it ready"
    ended: set[int] = set()

    def fail() -> None:
        with starting_processes(os.getpid, 3):
            ended.update(children())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not set(map(int, spread_over_processes(os.readlink, ["/proc/self"] * 40, 3))) & ended


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="signals that are held back are found in /proc")
def test_ctrl_c_is_held_back_from_processes_that_start() -> None:
    """In a process of its own, where Python starts what keeps track of resources beside the first of them."""
    code = """
import math, signal
from pathlib import Path
from callus.workers import starting_processes, spread_over_processes

def held() -> list[bool]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"popen_loky" in (process / "cmdline").read_bytes():
                lines = (process / "status").read_text().splitlines()
                status = dict(line.split(":\\t") for line in lines if ":\\t" in line)
                if status["PPid"] == Path("/proc/self").resolve().name:
                    found.append(bool(int(status["SigBlk"], 16) >> signal.SIGINT - 1 & 1))
        except OSError:
            pass
    return found

with starting_processes(math.sqrt, 2):
    print(held())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stderr, done.stdout) == ("", "[True, True]\n")


def test_the_command_line_calls_a_killed_process_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        list(spread_over_processes(os._exit, [1], 2))

    monkeypatch.setattr(cli, "app", work)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1, "not wrong use"


def test_only_a_few_items_are_taken_ahead() -> None:
    taken = []

    def items():  # noqa: ANN202
        for number in range(1000):
            taken.append(number)
            yield number

    for spread in (spread_over_threads, spread_over_processes):
        taken.clear()
        results = spread(math.sqrt, items(), 2)
        next(results)
        assert len(taken) < 60
        results.close()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are found in /proc")
def test_processes_end_with_their_caller_whenever_it_is_killed(tmp_path: Path) -> None:
    """Also one that was never given any work."""
    code = """
import math, os, signal, sys
from pathlib import Path
from callus.workers import starting_processes

with starting_processes(math.sqrt, 3):
    mine = [process.name for process in Path("/proc").glob("[0-9]*") if process.joinpath("stat").exists()
            and process.joinpath("stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())]
    print(*mine, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with (tmp_path / "told").open("w+") as told:
        done = subprocess.run([sys.executable, "-c", code], stdout=told, stderr=told, check=False, timeout=120)
        told.seek(0)
        started = told.read().split()
    assert done.returncode == -9
    assert len(started) >= 3
    wanted = time.monotonic() + 30
    while left := [process for process in started if Path("/proc", process).exists()]:
        assert time.monotonic() < wanted, left
        time.sleep(0.1)


def test_processes_need_no_guard_in_the_callers_script(tmp_path) -> None:  # noqa: ANN001
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom callus.workers import spread_over_processes\nprint('once')\n"
        "print(len({*spread_over_processes(abs, range(40), 2)}))\n"
    )
    line = [sys.executable, script]
    run = subprocess.run(line, capture_output=True, text=True, check=True, env=dict(os.environ), timeout=180)
    assert (run.stdout, run.stderr) == ("once\n40\n", "")


def test_batched() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 2)) == []
