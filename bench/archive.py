"""How near an archive's throughput comes to what the cores can do, and what memory it takes; one JSON line.

    python bench/archive.py [RUN-OR-BUNDLE] [--files 2000] [--images FOLDER] [--workers 2]
    python bench/archive.py --ray [RUN-OR-BUNDLE] [--files 300] [--images FOLDER]

``limit_per_s`` is the number of cores divided by the CPU seconds that reading and preparing one file and running the
bare network on it take (as often as there are views), each measured alone with all cores at work. ``share`` is the
whole command's rate, its start included, as part of that; ``share_steady`` the same between the first and the last part
file. Where other programs run on the same cores, ``cpu_share`` still holds: the CPU seconds of the two alone by those
of the whole command. ``peak_mb`` is the largest sum over all its processes of memory that is theirs (proportional set
size), looked at every five seconds, because looking takes time of the cores too; compare it between ``--files 2000``
and ``--files 20000``. Files are links to those of FOLDER, or to 200 JPEG files that are made.

``--ray`` measures instead what Ray costs: the same files by ``--on here``, by ``--on ray`` with all cores on one node,
and with the cores shared out to two nodes. Both nodes are on this machine, so two cannot be faster than one: the
figures are Ray's overhead, and no speed-up. ``start_s`` is the time to the first part (of 20 files here); ``ms_a_file``
and ``cpu_ms_a_file``, wall clock and CPU of all processes, are taken between the first part and the last by the files
of the parts between; ``overhead`` is their difference from here's. ``cpu_s`` is the whole command's, nodes included.
Where other programs run on the same cores, only the CPU figures hold.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from engines import made

from callus.archive.listing import list_files
from callus.bundle.engine import usable_cores
from callus.bundle.schema import passes
from callus.identify import Identifier, prepare_one
from callus.radiograph import read
from callus.workers import spread_over_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callus.preprocess import InputSpec

MEASURED = 200
PART = 20
"""Files a part with --ray."""


def main() -> None:
    """Measure both parts alone, then the whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--files", type=int)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--ray", action="store_true", help="what Ray costs a file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callus-bench-") as name:
        scratch = Path(name)
        model = chosen.model or made(scratch, "mobilenet_v2", 448, "none")
        images = chosen.images or made_images(scratch / "images")
        sources = list_files([images])[0]
        chosen.files = chosen.files or (300 if chosen.ray else 2000)
        link(sources, scratch / "archive", chosen.files)
        if chosen.ray:
            print(json.dumps({"bench": "archive --ray", "files": chosen.files} | on_ray(model, scratch)), flush=True)
            return
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


def on_ray(model: Path, scratch: Path) -> dict[str, float]:
    """Answer the same files here, on one node and on two."""
    cores = usable_cores()
    figures: dict[str, float] = {"cores": cores}
    for name, cpus in (("here", []), ("one", [cores]), ("two", [cores - cores // 2, max(1, cores // 2)])):
        with ray_nodes(cpus, scratch / name) as (address, nodes):
            times = timed(model, scratch / "archive", scratch / f"out-{name}", address, nodes)
        figures |= {f"{name}_{key}": value for key, value in times.items()}
    for name in ("one", "two"):
        for key in ("ms_a_file", "cpu_ms_a_file"):
            figures[f"{name}_overhead_{key}"] = round(figures[f"{name}_{key}"] - figures[f"here_{key}"], 2)
    return figures | {"load_average": round(os.getloadavg()[0], 1)}


def timed(model: Path, archive: Path, out: Path, address: str | None, nodes: list[int]) -> dict[str, float]:
    """Run the verb with small parts; what passed until the first and between the full ones."""
    code = f"import callus.archive.parts as parts; parts.ROWS = {PART}; from callus.cli import main; main()"
    call = [sys.executable, "-c", code, "identify", archive, "--model", model, "--parquet", out]
    call += ["--on", "ray", "--ray-address", address] if address else []
    used: dict[int, float] = {}
    sample_cpu(nodes, used)
    idle = sum(used.values())
    began = time.time()
    samples = []
    run = subprocess.Popen([str(word) for word in call])
    while run.poll() is None:
        sample_cpu([run.pid, *nodes], used)
        samples.append((time.time(), sum(used.values()) - idle))
        time.sleep(0.1)
    if run.returncode:
        raise SystemExit(run.returncode)
    written = [part.stat().st_mtime for part in sorted(out.glob("part-*"))]
    full = written[: sum(1 for _ in archive.iterdir()) // PART]
    files = PART * (len(full) - 1)
    first, last = np.interp([full[0], full[-1]], *zip(*samples, strict=True))
    return {
        "wall_s": round(time.time() - began, 1),
        "cpu_s": round(samples[-1][1], 1),
        "start_s": round(full[0] - began, 1),
        "ms_a_file": round(1e3 * (full[-1] - full[0]) / files, 2),
        "cpu_ms_a_file": round(1e3 * (last - first) / files, 2),
    }


def sample_cpu(roots: list[int], used: dict[int, float]) -> None:
    """Keep the CPU seconds of processes and all that they started, those that have ended since among them."""
    waiting = list(roots)
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            used[int(process.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            waiting += [
                int(pid) for task in (process / "task").iterdir() for pid in (task / "children").read_text().split()
            ]
        except OSError:  # it has ended meanwhile
            continue


@contextmanager
def ray_nodes(cpus: list[int], folder: Path) -> Iterator[tuple[str | None, list[int]]]:
    """Start nodes with so many CPUs each on this machine; their head's address (None without any), their processes."""
    if not cpus:
        yield None, []
        return
    folder.mkdir()
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started: list[subprocess.Popen[bytes]] = []
    log = folder / "log"
    try:
        for count in cpus:
            port = address.rpartition(":")[2]
            head = ["--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"]
            place = [f"--address={address}"] if started else head
            ray = Path(sys.executable).with_name("ray")
            call = [str(ray), "start", "--block", f"--num-cpus={count}", "--node-ip-address=127.0.0.1", *place]
            with log.open("ab") as file:
                started.append(subprocess.Popen(call, stdout=file, stderr=file))
            while log.read_text(encoding="utf-8").count("Ray runtime started.") < len(started):
                if started[-1].poll() is not None:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.1)
        yield address, [node.pid for node in started]
    finally:
        for node in reversed(started):
            node.terminate()
            node.wait()


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
    """CPU seconds that the bare network takes for a picture and its views, all cores at work."""
    spec = identifier.bundle.spec
    shape = (max(8, identifier.engine.batch), 3, spec.height, spec.width)
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    identifier.engine.run(batch)
    rounds = -(-MEASURED // len(batch))
    began = time.process_time()
    for _ in range(rounds):
        identifier.engine.run(batch)
    return passes(identifier.views) * (time.process_time() - began) / (rounds * len(batch))


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
        time.sleep(5)


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
