"""How near an archive's throughput comes to what the cores can do, and what memory it takes; one JSON line.

    python bench/archive.py [RUN-OR-BUNDLE] [--files 2000] [--images FOLDER] [--workers 2]

``limit_per_s`` is the number of cores divided by the CPU seconds that reading and preparing one file and running the
bare network on it take, each measured alone with all cores at work. ``share`` is the whole command's rate, its start
included, as part of that; ``share_steady`` the same between the first and the last part file. Where other programs
run on the same cores, ``cpu_share`` still holds: the CPU seconds of the two alone by those of the whole command.
``peak_mb`` is the largest sum over all its processes of memory that is theirs (proportional set size), looked at each
second; compare it between ``--files 2000`` and ``--files 20000``. Files are links to those of FOLDER, or to 200 JPEG
files that are made.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from engines import made

from callus.archive.listing import list_files
from callus.bundle.engine import usable_cores
from callus.identify import Identifier, prepare_one
from callus.radiograph import read
from callus.workers import spread_over_processes

if TYPE_CHECKING:
    from callus.preprocess import InputSpec

MEASURED = 200


def main() -> None:
    """Measure both parts alone, then the whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--workers", type=int, default=usable_cores())
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callus-bench-") as name:
        scratch = Path(name)
        model = chosen.model or made(scratch, "mobilenet_v2", 448, "none")
        images = chosen.images or made_images(scratch / "images")
        sources = list_files([images])[0]
        link(sources, scratch / "archive", chosen.files)
        identifier = Identifier(model, hint="throughput")
        decoding = decoding_cpu_s(sources[:: max(1, len(sources) // MEASURED)], identifier.bundle.spec)
        engine = engine_cpu_s(identifier)
        limit = usable_cores() / (decoding + engine)
        line = {
            "bench": "archive",
            "model": identifier.name,
            "engine": identifier.engine.ran,
            "side": identifier.bundle.spec.height,
            "files": chosen.files,
            "distinct": len(sources),
            "cores": usable_cores(),
            "decoding_cpu_ms": round(1e3 * decoding, 2),
            "engine_cpu_ms": round(1e3 * engine, 2),
            "limit_per_s": round(limit, 1),
        }
        del identifier
        line |= whole(model, scratch / "archive", scratch / "out", chosen.workers, limit, decoding + engine)
    print(json.dumps(line | {"load_average": round(os.getloadavg()[0], 1)}), flush=True)


def whole(model: Path, archive: Path, out: Path, workers: int, limit: float, alone: float) -> dict[str, float | int]:
    """Run the verb on all files."""
    call = [sys.executable, "-m", "callus", "identify", archive, "--model", model, "--parquet", out]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    run = subprocess.Popen([*map(str, call), "--workers", str(workers)])
    peak = [0.0]
    watch = threading.Thread(target=watch_memory, args=(run, peak))
    watch.start()
    if run.wait():
        raise SystemExit(run.returncode)
    wall = time.monotonic() - began
    watch.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    files = sum(1 for _ in archive.iterdir())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {
        "wall_s": round(wall, 1),
        "per_s": round(files / wall, 1),
        "share": round(files / wall / limit, 3),
        "cpu_share": round(alone * files / cpu, 3),
        "busy": round(cpu / wall / usable_cores(), 3),
        "peak_mb": round(peak[0]),
    }
    parts = sorted(out.glob("part-*"))
    if len(parts) > 2:  # the last is not full; the parts between are
        rows = 1000 * (len(parts) - 2)
        figures["share_steady"] = round(rows / (parts[-2].stat().st_mtime - parts[0].stat().st_mtime) / limit, 3)
    return figures


def decoding_cpu_s(files: list[str], spec: InputSpec) -> float:
    """CPU seconds that a file takes to be read and prepared, with a process at work on each core."""
    times = list(spread_over_processes(partial(time_one, spec=spec), files + files, usable_cores()))
    return float(np.mean(times[len(files) :]))  # the first round warms up


def time_one(file: str, spec: InputSpec) -> float:
    """One file's CPU seconds."""
    began = time.process_time()
    prepare_one(read(file), spec)
    return time.process_time() - began


def engine_cpu_s(identifier: Identifier) -> float:
    """CPU seconds that the bare network takes for a picture, all cores at work."""
    spec = identifier.bundle.spec
    shape = (max(8, identifier.engine.batch), 3, spec.height, spec.width)
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    identifier.engine.run(batch)
    rounds = -(-MEASURED // len(batch))
    began = time.process_time()
    for _ in range(rounds):
        identifier.engine.run(batch)
    return (time.process_time() - began) / (rounds * len(batch))


def watch_memory(run: subprocess.Popen[bytes], peak: list[float]) -> None:
    """Keep the largest sum of the proportional set sizes, in MB, of a process and those that it started."""
    while run.poll() is None:
        total, waiting = 0.0, [run.pid]
        while waiting:
            process = Path("/proc") / str(waiting.pop())
            try:
                total += next(
                    int(line.split()[1]) / 1e3
                    for line in (process / "smaps_rollup").read_text().splitlines()
                    if line.startswith("Pss:")
                )
                waiting += [
                    int(pid) for task in (process / "task").iterdir() for pid in (task / "children").read_text().split()
                ]
            except (OSError, StopIteration):  # it has ended meanwhile
                continue
        peak[0] = max(peak[0], total)
        time.sleep(1)


def link(sources: list[str], folder: Path, count: int) -> None:
    """Fill a folder with links to files, over and over."""
    folder.mkdir()
    for number in range(count):
        source = Path(sources[number % len(sources)]).resolve()
        (folder / f"{number:06}{source.suffix}").symlink_to(source)


def made_images(folder: Path) -> Path:
    """200 grey JPEG files of 400 to 1,200 pixels, smooth with noise, as radiographs are."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(MEASURED):
        height, width = (int(side) for side in random.integers(400, 1200, 2))
        smooth = cv2.resize(
            random.normal(110, 50, (12, 10)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        picture = np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


if __name__ == "__main__":
    main()
