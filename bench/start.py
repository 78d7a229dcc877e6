"""How long a fresh process takes from its start to the first answer, by parts. One JSON line each.

    python bench/start.py MODEL
    python bench/start.py --trunk resnet50v2 --side 448       # a bundle of random weights, with int8; made in minutes

``start``: what a user waits for, with the parts of ``callus bench``. ``parts``: the same way in smaller steps, and the
time of cores that each took, which other programs on the machine disturb less. ``imports``: the packages that importing
``callus.Identifier`` takes longest for (``python -X importtime``, each with what it imports first).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGET_S = 2.0
LONGEST = 16  # imports that are listed
OWN = "--parts-of"


def main() -> None:
    """Make or open the bundle, and start processes that use it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--trunk", default="resnet50v2")
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--engine", default="openvino-int8")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callus-start-") as scratch:
        folder = Path(scratch)
        radiograph = simulated(folder / "radiograph")
        model = given.model or made(folder, given.trunk, given.side)
        whole(model, radiograph, given)
        in_parts(model, radiograph, given)
    imports()


def simulated(folder: Path) -> Path:
    """One radiograph."""
    from callus.dataset.simulated import simulate  # noqa: PLC0415 - the processes that are measured read this file too

    return Path(simulate(folder, 1, size=(1280, 1024))["path"][0])


def made(folder: Path, trunk: str, side: int) -> Path:
    """A bundle of a network that has learnt nothing."""
    import engines  # noqa: PLC0415 - of bench/; as above

    return engines.made(folder, trunk, side, "none")


def whole(model: Path, radiograph: Path, given: argparse.Namespace) -> None:
    """What a user waits for."""
    from callus.measure.phases import Task  # noqa: PLC0415 - as above
    from callus.measure.run import run_phase  # noqa: PLC0415

    runs = [
        run_phase(Task("start", str(model), [str(radiograph)], given.engine, given.threads, 0, time.perf_counter()))
        for _ in range(given.runs)
    ]
    told = summary(runs)
    say("start", engine=given.engine, **told, target_s=TARGET_S, reached=told["total_s"]["median"] <= TARGET_S)


def in_parts(model: Path, radiograph: Path, given: argparse.Namespace) -> None:
    """The same in smaller steps."""
    words = [sys.executable, __file__, OWN, str(model), str(radiograph), given.engine, str(given.threads or 0)]
    runs = [
        json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout) for _ in range(given.runs)
    ]
    say("parts", engine=given.engine, wall_s=summary([run["wall_s"] for run in runs]))
    say("parts", engine=given.engine, cores_s=summary([run["cores_s"] for run in runs]))


def parts_of(model: str, radiograph: str, engine: str, threads: int) -> dict[str, dict[str, float]]:
    """Go from nothing to an answer, and tell after each step how long it took."""
    laps = Laps()
    import numpy as np  # noqa: PLC0415, F401 - the imports are what is measured here

    laps.lap("import numpy")
    import cv2  # noqa: PLC0415, F401

    laps.lap("import cv2")
    import callus.identify  # noqa: PLC0415

    laps.lap("import callus.identify")
    from callus.bundle.openvino_engine import import_openvino  # noqa: PLC0415

    import_openvino()
    laps.lap("import openvino")
    bundle = callus.identify.identifier.Bundle.load(model)
    laps.lap("Bundle.load")
    info = bundle.engine_info(engine)
    for name in (info.file, info.weights):
        if name is not None:
            bundle.read(name)
    laps.lap("Bundle.read")
    # This loads the bundle, and reads it, once more; what is left is the runtime's own.
    again = callus.Identifier(model, engine=engine, threads=threads or None)
    laps.lap("Identifier", less=("Bundle.load", "Bundle.read"))
    again.identify(radiograph)
    laps.lap("first answer")
    again.identify(radiograph)
    laps.lap("second answer")
    return {"wall_s": laps.wall, "cores_s": laps.cores}


class Laps:
    """Time, and time of cores, from lap to lap."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cores: dict[str, float] = {}
        self._last = time.perf_counter(), time.process_time()

    def lap(self, name: str, less: tuple[str, ...] = ()) -> None:
        """Note what passed since the last one, less what others took."""
        wall, cores = time.perf_counter(), time.process_time()
        self.wall[name] = wall - self._last[0] - sum(self.wall[one] for one in less)
        self.cores[name] = cores - self._last[1] - sum(self.cores[one] for one in less)
        self._last = time.perf_counter(), time.process_time()


def imports() -> None:
    """The packages that take longest to import."""
    words = [sys.executable, "-X", "importtime", "-c", "import callus; callus.Identifier"]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stderr
    found = [
        (int(together) / 1e6, name)
        for together, name in re.findall(r"\|\s+(\d+) \|\s+(\S+)$", told, re.MULTILINE)
        if name.count(".") <= 1
    ]
    say("imports", seconds={name: round(seconds, 3) for seconds, name in sorted(found, reverse=True)[:LONGEST]})


def summary(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median and best of each part, seconds."""
    return {
        name: {
            "median": round(statistics.median(run[name] for run in runs), 3),
            "best": round(min(run[name] for run in runs), 3),
        }
        for name in runs[0]
    }


def say(what: str, **line: Any) -> None:
    """Print one line."""
    print(
        json.dumps({"bench": "start", "what": what, **line, "load_average": round(os.getloadavg()[0], 1)}), flush=True
    )


if __name__ == "__main__":
    if OWN in sys.argv:
        given_model, given_file, given_engine, given_threads = sys.argv[2:]
        print(json.dumps(parts_of(given_model, given_file, given_engine, int(given_threads))))
    else:
        main()
