"""Damaged and hostile files: none may crash, hang or take the memory; each gives an answer or a named error.

    python bench/fuzz.py pictures --count 10000 [--data ../shared/data]
    python bench/fuzz.py bundles --count 2000
    python bench/fuzz.py pictures --only 4711

Each file is made from the seed and its number, and read in a process of its own, which may take 10 s of processor
time, 60 s in all (for one that only waits; the machine may be busy) and 2 GiB. What goes beyond, dies, or raises
anything but a CallusError is a finding: its number and what was done to it are printed, and ``--only`` makes it again
(with ``--keep FILE`` it is written and not read). Where the real data are missing, only simulated files are damaged.
Of four bundles two are a tiny one, one is the golden one with int8, one the model that comes with callus.
The last line is JSON: counts by outcome, the slowest and the largest; the exit code is 1 where there is a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from callus.progress import progress  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from callus.bundle import Bundle
    from callus.identify import Finding

    Make = Callable[[int], Any]

CPU_S, WALL_S = 10, 60
MOST_BYTES = 2 << 30
LONGEST_ERROR = 1200
OUT_OF_MEMORY = r"does not fit into memory|[Ff]ailed to allocate|bad_alloc|[Cc]ould ?n.t allocate|out of memory"


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        number: of the file.
        kind: "answer", an error's name, "crash", "hang", "memory", "wrong error" or "wrong answer".
        said: the error's line, or what is wrong.
        cpu_s: processor time.
        peak: bytes of memory at most, those of the interpreter and its libraries included.
    """

    number: int
    kind: str
    said: str
    cpu_s: float
    peak: int

    @property
    def is_finding(self) -> bool:
        """Whether it should not have been."""
        return self.kind in ("crash", "hang", "memory", "wrong error", "wrong answer")


def main() -> int:
    """Damage, read, count."""
    given = arguments()
    make, judge = PARTS[given.part](given)
    numbers = range(given.count) if given.only is None else [given.only]
    if given.keep:
        make(given.only).write(given.keep)
        return 0
    found: list[Outcome] = []
    begin = time.perf_counter()
    with progress(f"fuzz {given.part}", len(numbers)) as advance:
        for outcome in each_apart(lambda number: judge(make(number)), numbers, given.workers):
            found.append(outcome)
            if outcome.is_finding or given.only is not None:
                told = make(outcome.number)
                print(f"{outcome.number}: {outcome.kind}: {outcome.said} [{told.seed}: {'; '.join(told.what)}]")
            advance()
    print(json.dumps(summary(given, found, time.perf_counter() - begin)), flush=True)
    return 1 if any(outcome.is_finding for outcome in found) else 0


def arguments() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one file")
    parser.add_argument("--keep", type=Path, help="write that file and do not read it")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--formats", default="", help="only these: dicom,tiff")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--errors", action="store_true", help="print every kind of error's line once")
    given = parser.parse_args()
    if given.keep and given.only is None:
        parser.error("--keep goes with --only")
    return given


def pictures(given: argparse.Namespace) -> tuple[Make, Callable[[Any], str]]:
    """Radiographs: every file is read, prepared for the network and looked at for cautions."""
    import mutate  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    import sound_pictures  # noqa: PLC0415

    from callus.identify import cautions  # noqa: PLC0415
    from callus.preprocess import InputSpec, prepare  # noqa: PLC0415
    from callus.radiograph import read  # noqa: PLC0415

    sound = sound_pictures.simulated() | sound_pictures.real(given.data)
    wanted = given.formats.split(",") if given.formats else []
    sound = {name: data for name, data in sound.items() if not wanted or name.split()[0] in wanted}

    def judge(mutant: Any) -> str:
        radiograph = read(mutant.data, frame=0)
        pixels, notes = radiograph.pixels, radiograph.notes
        spec = InputSpec()
        array = prepare(radiograph, spec).array
        spacing = radiograph.spacing_mm or (1.0,)
        sane = {
            "kind of pixels": pixels.dtype in (np.uint8, np.uint16) and pixels.ndim == 2 and pixels.size > 0,
            "order of pixels": pixels.flags.c_contiguous,
            "notes": all(note.isprintable() for note in (*notes, *cautions(radiograph, spec))),
            "spacing": all(0 < value < 1000 for value in spacing),
            "input": array.shape == (3, spec.height, spec.width) and bool(np.isfinite(array).all()),
        }
        return ", ".join(name for name, right in sane.items() if not right)

    return lambda number: mutate.mutant(sound, given.seed, number), judge


def bundles(given: argparse.Namespace) -> tuple[Make, Callable[[Any], str]]:
    """Bundles: loaded, what they say read, their network loaded, and one radiograph answered with their views."""
    import mutate_bundle  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    import onnxruntime  # noqa: F401, PLC0415 - once, and not in each process; it starts no thread before it is used
    import sound_bundles  # noqa: PLC0415

    from callus.errors import CallusError  # noqa: PLC0415
    from callus.identify import Identifier  # noqa: PLC0415
    from callus.radiograph import Radiograph  # noqa: PLC0415

    sound = sound_bundles.sound()
    pixels = (np.arange(200 * 150).reshape(200, 150) % 251).astype(np.uint8)
    radiograph = Radiograph(pixels, None, "PNG", "")

    def judge(mutant: Any) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            mutant.write(path)
            return answered(path, mutant.engines)

    def answered(path: Path, engines: Sequence[str]) -> str:
        refused = None
        wrong = []
        for engine in engines:
            try:
                identifier = Identifier(path, engine=engine, threads=1)
                wrong.append(judge_told(identifier.bundle))
                wrong.append(judge_finding(identifier.identify(radiograph)))
            except CallusError as error:
                refused = error
        if refused is not None and not any(wrong):
            raise refused
        return "; ".join(filter(None, wrong))

    def judge_told(bundle: Bundle) -> str:
        names = [*(bundle.pictures or ()), *(bundle.pictures or {}).values()]
        return "" if isinstance(bundle.card, str) and all(isinstance(name, str) for name in names) else "what it tells"

    def judge_finding(finding: Finding) -> str:
        sane = {
            "probability": 0 <= finding.probability <= 1,
            "logit": np.isfinite(finding.logit),
            "map": finding.map.ndim == 2 and bool(((finding.map >= 0) & (finding.map <= 1)).all()),
            "features": finding.features.ndim == 1 and bool(np.isfinite(finding.features).all()),
            "level": finding.level in ("fracture", "doubt", "none"),
            "cautions": all(caution.isprintable() for caution in finding.cautions),
            "boxes": all(0 <= box.x <= 150 and 0 <= box.y <= 200 for box in finding.boxes),
        }
        return ", ".join(name for name, right in sane.items() if not right)

    return lambda number: mutate_bundle.mutant(sound, given.seed, number), judge


def each_apart(judge: Callable[[int], str], numbers: Any, workers: int) -> Iterator[Outcome]:
    """Judge each number in a process of its own, ``workers`` at a time, in the order in which they end."""
    running: dict[int, tuple[int, int]] = {}
    rest = iter(numbers)
    while True:
        while len(running) < workers and (number := next(rest, None)) is not None:
            answers, asks = os.pipe()
            process = os.fork()
            if not process:
                os.close(answers)
                _child(judge, number, asks)
            os.close(asks)
            running[process] = number, answers
        if not running:
            return
        process, status, used = os.wait4(-1, 0)
        number, answers = running.pop(process)
        with os.fdopen(answers, "rb") as pipe:
            said = pipe.read().decode("utf-8", "replace")
        yield _outcome(number, said, status, used)


def _child(judge: Callable[[int], str], number: int, asks: int) -> None:
    """Answer through the pipe, within limits that the kernel keeps, and end without cleaning up the parent's things."""
    nowhere = os.open(os.devnull, os.O_WRONLY)  # decoders write lines of their own
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    signal.alarm(WALL_S)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_BYTES,) * 2)
    os.write(asks, _judged(judge, number).encode("utf-8", "replace")[:4096])
    os._exit(0)


def _judged(judge: Callable[[int], str], number: int) -> str:
    """The outcome's kind and a line."""
    from callus.errors import CallusError  # noqa: PLC0415

    try:
        wrong = judge(number)
    except CallusError as error:
        line = str(error)
        if re.search(OUT_OF_MEMORY, line) or isinstance(error.__cause__, MemoryError):
            return f"memory\n{line}"
        if not line.isprintable() or len(line) > LONGEST_ERROR:
            return f"wrong error\nnot one line to read: {line[:200]!r}"
        return f"{type(error).__name__}\n{line}"
    except MemoryError as error:
        return f"memory\n{error!r}"
    except BaseException as error:  # noqa: BLE001 - a finding, whatever it is
        return f"wrong error\n{error!r}"
    return f"wrong answer\n{wrong}" if wrong else "answer\n"


def _outcome(number: int, said: str, status: int, used: Any) -> Outcome:
    kind, _, line = said.partition("\n")
    peak = used.ru_maxrss * 1024
    cpu = used.ru_utime + used.ru_stime
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        kind = "hang" if name in ("SIGALRM", "SIGXCPU") else "crash"
        line = f"ended by {name}"
    elif os.WEXITSTATUS(status) or not said:
        kind, line = "crash", f"ended with exit code {os.WEXITSTATUS(status)}"
    elif peak > MOST_BYTES:
        kind, line = "memory", f"{peak >> 20} MiB"
    return Outcome(number, kind, line, cpu, peak)


def summary(given: argparse.Namespace, found: list[Outcome], seconds: float) -> dict[str, Any]:
    """All in one JSON line."""
    if given.errors:
        lines = Counter(re.sub(r"\S*/model|\d+", "#", one.said)[:150] for one in found)
        for line, count in lines.most_common():
            print(f"{count:6} {line}")
    slowest = max(found, key=lambda one: one.cpu_s)
    largest = max(found, key=lambda one: one.peak)
    return {
        "bench": f"fuzz {given.part}",
        "files": len(found),
        "seed": given.seed,
        "outcomes": dict(Counter(outcome.kind for outcome in found).most_common()),
        "findings": sorted(outcome.number for outcome in found if outcome.is_finding),
        "slowest": {"number": slowest.number, "cpu_s": round(slowest.cpu_s, 2)},
        "largest": {"number": largest.number, "mib": largest.peak >> 20},
        "seconds": round(seconds, 1),
    }


PARTS = {"pictures": pictures, "bundles": bundles}

if __name__ == "__main__":
    sys.exit(main())
