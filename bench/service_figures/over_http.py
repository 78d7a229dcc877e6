"""``http``: what HTTP adds to keeping and identifying. ``answers``: answers a second, and requests meanwhile."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from http import HTTPStatus
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from callus.identify import Identifier
from callus.progress import progress, track
from service_figures.common import Film, descendants, memory_mb, model_of, running, say, scratch, summed, verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from served import Served

TARGET_MS = 15.0
_BOUNDARY = "a-boundary-that-no-radiograph-holds"


def http(given: argparse.Namespace) -> None:
    """Send one radiograph after the other and ask for each's finding; compare with keeping and identifying it here.

    ``send``: until it is acknowledged; ``finding``: until it is fetched; ``keep``: until the same is on the disk and in
    the database without HTTP, as by DICOM; ``added``: the first two without the third. From sending on, ``told``: until
    the finding is told, and ``made``: until it is told that its results are there. Asked is by one connection that is
    kept and costs next to nothing on this side: a client library's own work is not the service's.
    """
    count = 10 if given.quick else given.objects
    film = Film.of(given.size)
    times: dict[str, list[float]] = {name: [] for name in ("send", "finding", "keep", "told", "made", "identify")}
    with scratch(given) as folder:
        model = model_of(given, folder)
        identifier, keep = Identifier(model, threads=1), _keeping(folder / "beside", model)
        keep(film.copy(0))
        with running(folder / "clinic", model) as served:
            lean = _Lean(served)
            _one(lean, film.copy(0), heard := _listen(served), {name: [] for name in times})  # what is made but once
            for number in track(range(1, count + 1), "http: radiographs", count):
                data = film.copy(number)
                begun = time.perf_counter()
                identifier.identify(data)
                times["identify"].append(time.perf_counter() - begun)
                begun = time.perf_counter()
                keep(data)
                times["keep"].append(time.perf_counter() - begun)
                _one(lean, data, heard, times)
    rows = zip(times["send"], times["finding"], times["keep"], strict=True)
    added = [send + finding - keep for send, finding, keep in rows]
    told = {f"{name}_ms": summed(values) for name, values in {"added": added, **times}.items()}
    reached = told["added_ms"]["p50"] < TARGET_MS
    p50 = {name: values["p50"] for name, values in told.items()}
    sentence = (
        f"HTTP adds {p50['added_ms']} ms (p50) to what a radiograph of {given.size} takes: {p50['identify_ms']} ms of"
        f" identification, and {p50['keep_ms']} ms until it is safe on the disk and in the database. From sending to"
        f" being told {p50['told_ms']} ms, until results are made {p50['made_ms']} ms."
        f" {verdict({f'under {TARGET_MS:g} ms': reached})}"
    )
    say("http", sentence, objects=count, size=given.size, **told, target_ms=TARGET_MS, reached=reached)


def _keeping(folder: Path, model: str) -> Callable[[bytes], object]:
    """What takes a radiograph in without HTTP, into a folder of its own."""
    from callus.service.database import Database  # noqa: PLC0415 - here only
    from callus.service.intake import Intake  # noqa: PLC0415
    from callus.service.models import Models  # noqa: PLC0415
    from callus.service.objects import ObjectStore  # noqa: PLC0415

    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'callus.sqlite'}")
    Models(database, folder / "models").begin_with(model)
    intake = Intake(database, ObjectStore(folder / "objects", keep_free=0), waiting_most=1 << 30)
    return lambda data: intake.take(data, source="upload", sender="bench")


class _Lean:
    """A client that does no more than HTTP asks for."""

    def __init__(self, served: Served) -> None:
        where = urlsplit(served.address)
        self._connection = HTTPConnection(where.hostname or "", where.port, timeout=120)
        self._token = {"Authorization": f"Bearer {served.token('read', 'send')}"}

    def send(self, data: bytes) -> Any:
        """Send a file; what the service says of it."""
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'
        body = b"".join([head.encode(), data, f"\r\n--{_BOUNDARY}--\r\n".encode()])
        return self._ask("POST", "/radiographs", body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})

    def get(self, path: str) -> Any:
        """What a path gives."""
        return self._ask("GET", path, None, {})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        self._connection.request(method, f"/api/v1{path}", body, self._token | headers)
        response = self._connection.getresponse()
        told = json.loads(response.read())
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise SystemExit(f"{method} {path}: {response.status} {told}")
        return told


def _one(lean: _Lean, data: bytes, heard: _Heard, times: dict[str, list[float]]) -> None:
    begun = time.perf_counter()
    (taken,) = lean.send(data)["taken"]
    times["send"].append(time.perf_counter() - begun)
    heard.wait("finding", taken["image"])
    times["told"].append(time.perf_counter() - begun)
    asking = time.perf_counter()
    study = lean.get(f"/studies/{taken['study']}")
    times["finding"].append(time.perf_counter() - asking)
    heard.wait("made", taken["image"])  # else the next one would be sent while they are being made
    times["made"].append(time.perf_counter() - begun)
    if study["images"][0]["answer"] is None:
        raise SystemExit("what was told is not there")


class _Heard:
    """What the service tells, as it tells it: findings, and that results of answers are made."""

    def __init__(self) -> None:
        self.of: dict[str, queue.Queue[int]] = {"finding": queue.Queue(), "made": queue.Queue()}

    def take(self, event: str, told: dict[str, Any]) -> None:
        if (queue := self.of.get(told.get("what", event))) is not None:
            queue.put(told["image"])

    def wait(self, what: str, image: int) -> None:
        while self.of[what].get(timeout=120) != image:
            pass


def _listen(served: Served) -> _Heard:
    """Listen to the service until it ends."""
    heard = _Heard()
    begun = threading.Event()

    def listen() -> None:
        headers = {"Authorization": f"Bearer {served.token('read')}"}
        with (
            httpx.Client(headers=headers, timeout=None, trust_env=False) as client,  # noqa: S113 - as long as it serves
            client.stream("GET", f"{served.address}/api/v1/events") as events,
        ):
            begun.set()
            try:
                kind = ""
                for line in events.iter_lines():
                    if line.startswith("event:"):
                        kind = line[6:].strip()
                    elif line.startswith("data:"):
                        heard.take(kind, json.loads(line[5:]))
            except httpx.TransportError:  # it was ended
                return

    threading.Thread(target=listen, daemon=True).start()
    if not begun.wait(30):
        raise SystemExit("nobody tells findings")
    return heard


def answers(given: argparse.Namespace) -> None:
    """Have many radiographs answered while somebody looks at the worklist."""
    count = 12 if given.quick else given.objects
    words = ["--threads", str(given.threads or os.cpu_count())]
    film = Film.of(given.size)
    with scratch(given) as folder, running(folder / "clinic", model_of(given, folder), *words) as served:
        first = {name: list[float]() for name in ("send", "told", "finding", "made")}
        _one(_Lean(served), film.copy(0), heard := _listen(served), first)
        made = heard.of["made"]
        idle = _looking(served, threading.Event(), most=30)
        served.browser.timeout = httpx.Timeout(120)
        for number in track(range(1, count + 1), "answers: sent", count):
            served.browser.post("/radiographs", files=[("files", ("a.dcm", film.copy(number)))]).raise_for_status()
        waiting = count - made.qsize()
        done, looked = threading.Event(), list[float]()
        looker = threading.Thread(target=lambda: looked.extend(_looking(served, done)))
        begun, used = time.perf_counter(), _cpu_s(served.process.pid)
        looker.start()
        with progress("answers: answered", waiting) as advance:
            for _ in range(count - waiting):
                made.get()
            for _ in range(waiting):
                made.get(timeout=300)
                advance()
        seconds = time.perf_counter() - begun
        done.set()
        looker.join()
        told = {
            "answers_s": round(waiting / seconds, 2),
            "cpu_s_an_answer": round((_cpu_s(served.process.pid) - used) / waiting, 3),
            "worklist_idle_ms": summed(idle),
            "worklist_meanwhile_ms": summed(looked),
            "memory_mb": round(memory_mb(served.process.pid)),
        }
    sentence = (
        f"{told['answers_s']} answers a second with their results, of radiographs of {given.size}; the worklist answers"
        f" in {told['worklist_meanwhile_ms']['p95']} ms (p95) meanwhile, {told['worklist_idle_ms']['p95']} ms before."
    )
    say("answers", sentence, objects=waiting, size=given.size, **told)


def _looking(served: Served, done: threading.Event, most: int = 1 << 30) -> list[float]:
    """Look at the worklist ten times a second; what each look takes."""
    times: list[float] = []
    with httpx.Client(
        base_url=f"{served.address}/api/v1", cookies=served.browser.cookies, timeout=120, trust_env=False
    ) as client:
        while len(times) < most and not done.is_set():
            begun = time.perf_counter()
            client.get("/studies").raise_for_status()
            times.append(time.perf_counter() - begun)
            time.sleep(0.1)
    return times


def _cpu_s(root: int) -> float:
    """Seconds of cores that a process and those it started and that still run have taken."""
    total = 0.0
    for process in descendants(root):
        try:
            with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - one line of /proc
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / 100
    return total
