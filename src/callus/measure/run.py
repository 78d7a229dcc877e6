"""Measures a model on this machine: each phase in a process of its own, and what they found in one dictionary."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import callus
from callus import errors
from callus.bundle import Bundle
from callus.bundle.engine import AUTO, usable_cores
from callus.errors import CallusError, RadiographError
from callus.interrupts import started
from callus.labels import RESEARCH_ONLY
from callus.measure.machine import machine, versions
from callus.measure.phases import Task, as_json
from callus.progress import progress, track
from callus.radiograph import read

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

MOST_FILES: Final = 64
"""Radiographs that are used of a folder, spread over it."""
_START_SECONDS: Final = 4
"""About what a process takes beside the seconds that it measures; for the time left that is shown."""


def measure(
    model: str | os.PathLike[str],
    files: Sequence[Path],
    *,
    engine: str = AUTO,
    threads: int | None = None,
    seconds: float = 20.0,
    simulated: bool = False,
) -> dict[str, Any]:
    """Measure how fast a model answers on this machine.

    Args:
        model: a bundle's folder, a ``.callus`` file, or a run folder.
        files: radiographs; of more than 64 that many are taken, spread over them. Those that cannot be read are left
            out.
        engine: by its name; "auto" takes the fastest.
        threads: cores for the network; None for all that this process may use.
        seconds: how long answers are asked for, in all.
        simulated: whether the radiographs are, for the record.

    Returns:
        What ``docs/bench.md`` describes: measured, callus, research_only, model, machine, versions, files, settings,
        start, one, many.

    Raises:
        BundleError: the model cannot be loaded, or does not hold the engine.
        RadiographError: none of the files can be read.
        CallusError: a value is out of its range, or a process ended without an answer.
    """
    if not seconds > 0:
        raise CallusError(f"{seconds:g} seconds were asked for; expected more than 0")
    bundle = Bundle.load(model)
    if engine != AUTO:
        bundle.engine_info(engine)  # before anything takes long
    spec = bundle.spec
    told: dict[str, Any] = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "callus": callus.__version__,
        "research_only": RESEARCH_ONLY,
        "model": {"name": bundle.name, "digest": bundle.digest, "height": spec.height, "width": spec.width},
        "machine": machine(usable_cores()),
        "versions": versions(),
        "settings": {"engine": engine, "threads": threads, "seconds": seconds},
    }
    taken, told["files"] = usable(files)
    told["files"]["simulated"] = simulated
    where = str(bundle.where)
    total = round(seconds) + 2 * _START_SECONDS
    with progress("measuring", total) as advance:
        left = iter(range(total - 1))  # the bar waits for the answer at its last step, however long that takes

        def second() -> None:
            if next(left, None) is not None:
                advance()

        for phase in ("one", "many"):
            task = Task(phase, where, taken, engine, threads, seconds / 2, time.perf_counter())
            found = run_phase(task, second)
            told |= found if phase == "one" else {"many": found}
    told["many"]["decode_share"] = min(1.0, told["one"]["decode_cpu_ms"] / told["many"]["cpu_ms"])
    return told


def run_phase(task: Task, each_second: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Measure in a fresh process.

    Args:
        task: what; ``spawned`` is to be now.
        each_second: is called every second until it has answered.

    Raises:
        CallusError: what the process raised, of the same kind; or it ended without an answer.
    """
    command = [sys.executable, "-m", "callus.measure.phases"]
    words: str | None = as_json(task)
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while True:
            try:
                out, _ = process.communicate(words, timeout=1.0)
                break
            except subprocess.TimeoutExpired:
                words = None  # it was given already
                each_second()
    lines = out.splitlines()
    if process.returncode or not lines:
        raise CallusError(f"the process that measures ended with exit code {process.returncode} and no figures")
    told: dict[str, Any] = json.loads(lines[-1])
    if "error" in told:
        error = told["error"]
        raise getattr(errors, error["kind"])(error["what"], where=error["where"], hint=error["hint"])
    return told


def usable(files: Sequence[Path]) -> tuple[list[str], dict[str, Any]]:
    """Choose those of at most 64 files that can be read, and say what they are.

    Raises:
        RadiographError: none can.
    """
    every = max(1, -(-len(files) // MOST_FILES))
    chosen = files[::every]
    taken: list[str] = []
    sizes: list[float] = []
    first: RadiographError | None = None
    for file in track(chosen, "reading radiographs"):
        try:
            radiograph = read(file)
        except RadiographError as error:
            first = first or error
            continue
        taken.append(str(file.resolve()))
        sizes.append(radiograph.height * radiograph.width / 1e6)
    if not taken:
        raise first or RadiographError("there are no radiographs to measure with")
    return taken, {
        "count": len(taken),
        "unreadable": len(chosen) - len(taken),
        "median_megapixels": statistics.median(sizes),
        "endings": dict(Counter(Path(file).suffix.lower() for file in taken).most_common()),
    }
