"""What is measured, each in a process of its own: ``python -m callus.measure.phases TASK`` prints one line of JSON.

A fresh process has its own peak of memory, and starts as a user's does.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from callus.identify import Finding, Identifier

_BEGAN: Final = time.perf_counter()  # after Python itself, before anything that is heavy
FEWEST: Final = 5
"""Answers that are taken even where they last longer than was given for them."""
_RUNS_OF_LAYERS: Final = 9


@dataclass(frozen=True)
class Task:
    """What a process is to measure.

    Attributes:
        phase: a name of :data:`PHASES`.
        model: the bundle.
        files: radiographs that can be read.
        engine: by its name, or "auto".
        threads: cores for the network; None for all.
        seconds: for how long answers are asked for.
        spawned: ``time.perf_counter()``, which all processes share, when the process was started.
    """

    phase: str
    model: str
    files: list[str]
    engine: str
    threads: int | None
    seconds: float
    spawned: float


def start(task: Task) -> dict[str, Any]:
    """How long it takes until a fresh process has answered its first radiograph, by parts, in seconds."""
    _, told = _started(task)
    return told


def one_at_a_time(task: Task) -> dict[str, Any]:
    """Ask for one radiograph after the other, all cores on each; see :func:`callus.measure.run.measure`."""
    identifier, started = _started(task)
    from callus.measure.machine import peak_memory  # noqa: PLC0415 - not part of the start

    times = _Times()
    batch = times.one(identifier, Path(task.files[0]).read_bytes())  # the first one fills caches
    times = _Times()
    ends = time.perf_counter() + task.seconds
    for count, file in enumerate(cycle(task.files)):
        if count >= FEWEST and time.perf_counter() >= ends:
            break
        batch = times.one(identifier, Path(file).read_bytes())
    memory = peak_memory()  # before a second copy of the network is made
    from callus.bundle.schema import passes  # noqa: PLC0415 - the same
    from callus.measure.map_cost import map_share  # noqa: PLC0415

    engine = identifier.engine
    share = map_share(identifier.bundle, engine.name, engine.threads, batch, _RUNS_OF_LAYERS)
    told = times.told() | {"map_share": _map_share(times, share, passes(identifier.views)), "peak_memory_mib": memory}
    return {"start": started, "one": _ran(identifier) | told}


def many(task: Task) -> dict[str, Any]:
    """Ask for many radiographs, with the cores shared out among them; see :func:`callus.measure.run.measure`."""
    from callus.identify import Identifier  # noqa: PLC0415 - as in the other phase
    from callus.measure.machine import peak_memory  # noqa: PLC0415

    identifier = Identifier(task.model, engine=task.engine, threads=task.threads, hint="throughput")
    identifier.identify(task.files[0])
    ends = time.perf_counter() + task.seconds
    batch = identifier.engine.batch

    def files() -> Iterator[str]:
        for count, file in enumerate(cycle(task.files)):
            # Whole batches: the last one, half empty, would speak against a batch of many.
            if count >= FEWEST and count % batch == 0 and time.perf_counter() >= ends:
                return
            yield file

    begun, cpu = time.perf_counter(), time.process_time()
    answers = 0
    for _, _, answer in identifier.identify_many(files()):
        _checked(answer)
        answers += 1
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return _ran(identifier) | {
        "batch": batch,
        "answers": answers,
        "seconds": seconds,
        "images_a_second": answers / seconds,
        "cpu_ms": cpu / answers * 1e3,
        "cores_busy": cpu / seconds,
        "peak_memory_mib": peak_memory(),
    }


PHASES: Final[dict[str, Callable[[Task], dict[str, Any]]]] = {
    "start": start,
    "one": one_at_a_time,
    "many": many,
}


class _Times:
    """How long the parts of each answer took, in seconds."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {"decode": [], "prepare": [], "answer": [], "network": [], "boxes": []}
        self.cpu: list[float] = []  # of decoding and preparing

    def one(self, identifier: Identifier, data: bytes) -> Any:
        """Answer a file's bytes, then ask the bare network for the same; what it was given, float32 (1, 3, h, w)."""
        from callus.identify import prepare_one  # noqa: PLC0415 - not before the start is measured
        from callus.metrics.boxes import boxes_from_map  # noqa: PLC0415
        from callus.preprocess import scale_values  # noqa: PLC0415
        from callus.radiograph import read  # noqa: PLC0415

        spec = identifier.bundle.spec
        clock = _Clock()
        cpu = time.process_time()
        radiograph = read(data)
        self.parts["decode"].append(clock.lap())
        prepared = prepare_one(radiograph, spec)
        self.parts["prepare"].append(clock.lap())
        self.cpu.append(time.process_time() - cpu)
        clock.lap()
        finding = _checked(identifier.answer([prepared])[0])
        self.parts["answer"].append(clock.lap())
        batch = scale_values(prepared.pixels, spec)[None]
        clock.lap()
        identifier.engine.run(batch)
        self.parts["network"].append(clock.lap())
        # Where none is seen no boxes are made; here they always are, so that their price is not a matter of the files.
        boxes_from_map(finding.map, finding.map_to_original, identifier.info.map_threshold, finding.shape)
        self.parts["boxes"].append(clock.lap())
        return batch

    def told(self) -> dict[str, Any]:
        """The figures of one radiograph at a time."""
        import numpy as np  # noqa: PLC0415 - not before the start is measured

        decode, prepare, answer, network, boxes = (np.array(taken) for taken in self.parts.values())
        whole = decode + prepare + answer
        p50, p99 = np.percentile(whole, (50, 99))
        medians = {
            "decode_ms": decode, "prepare_ms": prepare, "network_ms": network, "boxes_ms": boxes,
            "decode_cpu_ms": np.array(self.cpu),
        }  # fmt: skip
        return {
            "answers": len(whole),
            "p50_ms": float(p50) * 1e3,
            "p99_ms": float(p99) * 1e3,
            **{name: float(np.median(taken)) * 1e3 for name, taken in medians.items()},
            "decode_share": float((decode + prepare).sum() / whole.sum()),
        }


class _Clock:
    """Time between one lap and the next."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last one."""
        now = time.perf_counter()
        taken, self._last = now - self._last, now
        return taken


def _map_share(times: _Times, of_network: float, passes: int) -> float:
    """What map, features and boxes add to the network with the logit alone, as a share of the network's time.

    Args:
        times: of boxes, which an answer has once, and of the network asked once.
        of_network: the share of map and features.
        passes: how often an answer asks the network.
    """
    network, boxes = passes * sum(times.parts["network"]), sum(times.parts["boxes"])
    return of_network + boxes / network


def _started(task: Task) -> tuple[Identifier, dict[str, float]]:
    """A model that has answered once, and when it was how far."""
    moments = [task.spawned, _BEGAN]
    from callus.identify import Identifier  # noqa: PLC0415 - this is what is measured

    moments.append(time.perf_counter())
    identifier = Identifier(task.model, engine=task.engine, threads=task.threads)
    moments.append(time.perf_counter())
    identifier.identify(task.files[0])
    moments.append(time.perf_counter())
    parts = ("python_s", "imports_s", "load_s", "first_answer_s")
    told = {name: later - earlier for name, earlier, later in zip(parts, moments, moments[1:], strict=False)}
    return identifier, told | {"total_s": moments[-1] - moments[0]}


def _ran(identifier: Identifier) -> dict[str, Any]:
    return {"engine": identifier.engine.ran, "threads": identifier.engine.threads}


def _checked(answer: Finding | CallusError) -> Finding:
    if isinstance(answer, CallusError):
        raise answer
    return answer


def as_json(task: Task) -> str:
    """A task as it is passed on."""
    return json.dumps(asdict(task))


def main() -> None:
    """Measure what stdin says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    task = Task(**json.load(sys.stdin))
    try:
        told = PHASES[task.phase](task)
    except CallusError as error:
        told = {"error": {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}}
    print(json.dumps(told), flush=True)  # noqa: T201 - how it answers


if __name__ == "__main__":
    main()
