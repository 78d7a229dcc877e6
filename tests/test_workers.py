from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from callus import cli
from callus.errors import CallusError
from callus.workers import batched, spread_over_processes, spread_over_threads


@pytest.mark.parametrize("spread", [spread_over_threads, spread_over_processes])
def test_results_come_in_order_and_what_is_raised_is_raised(spread) -> None:  # noqa: ANN001
    assert list(spread(math.sqrt, range(200), 2)) == [math.sqrt(number) for number in range(200)]
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(spread(math.sqrt, [*range(100), -1, *range(100)], 2))


def test_a_process_that_is_killed_is_one_error() -> None:
    with pytest.raises(CallusError, match="a process that shared the work ended before it was done"):
        list(spread_over_processes(os._exit, [1, 1, 1], 2))
    assert list(spread_over_processes(abs, [-1], 2)) == [1], "the next work gets new processes"


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
