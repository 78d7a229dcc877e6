"""``clients``: many of them for a long time: no error, flat memory, and senders put off where too much comes."""

from __future__ import annotations

import io
import itertools
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pydicom

from callus.progress import progress
from service_figures.common import Film, memory_mb, model_of, say, scratch, summed, verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from served import Served

FLAT = 0.05  # of the memory
LOOK_S = 2.0
PICTURES = ("frame.png", "heat.png", "overlay.png", "sr.dcm", "report.fhir.json")
SHARES = {"listener": 5, "room": 4, "uploader": 11}  # of 50 clients; the others look


@dataclass
class Crowd:
    """What the clients share. Threads write to it."""

    served: Served
    dicom: int
    token: str
    film: Film
    end: float
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def is_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.end

    def note(self, who: str, status: object, *, fine: bool) -> None:
        """Write down how a request ended."""
        self.statuses[f"{who} {status}"] += 1
        if not fine:
            self.wrong.append(f"{who} {status}")

    def client(self) -> httpx.Client:
        """A program with its own connection."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{self.served.address}/api/v1", headers=headers, timeout=60, trust_env=False)


def measure(given: argparse.Namespace) -> None:
    """Let them all at it, watch, and see whether what was acknowledged is answered afterwards."""
    if given.quick:
        given.clients, given.minutes, given.waiting = 20, 0.7, 8
    with scratch(given) as folder:
        served, dicom = _started(given, folder)
        try:
            crowd = Crowd(
                served, dicom, served.token("read", "send"), Film.of(given.size), time.monotonic() + 60 * given.minutes
            )
            memory = _watched(
                crowd, [threading.Thread(target=one, daemon=True) for one in _clients(crowd, given.clients)]
            )
            left = _drained(crowd)
        finally:
            served.close()
    begin, end = _levels(memory)
    pressed = {kind: sum(n for name, n in crowd.statuses.items() if name.endswith(kind)) for kind in ("429", "0xA700")}
    targets = {
        "no error": not crowd.wrong,
        f"memory flat within {100 * FLAT:g} %": end <= begin * (1 + FLAT),
        "back-pressure by HTTP": pressed["429"] > 0,
        "back-pressure by DICOM": pressed["0xA700"] > 0,
        "every acknowledged radiograph is answered": left == 0,
    }
    sentence = (
        f"{given.clients} clients for {given.minutes:g} minutes: {sum(crowd.statuses.values()):,} requests,"
        f" {len(crowd.wrong)} errors, {len(crowd.acknowledged)} radiographs taken, {pressed['429']} times 429 and"
        f" {pressed['0xA700']} times 0xA700; memory from {begin:.0f} to {end:.0f} MB. {verdict(targets)}"
    )
    say(
        "clients",
        sentence,
        clients=given.clients,
        minutes=given.minutes,
        requests=dict(sorted(crowd.statuses.items())),
        errors=len(crowd.wrong),
        first_errors=crowd.wrong[:5],
        look_ms=summed(crowd.times),
        taken=len(crowd.acknowledged),
        unanswered=left,
        memory_mb=[round(one) for one in memory[:: max(1, len(memory) // 20)]],
        memory_growth=round(end / begin - 1, 3),
        reached=all(targets.values()),
    )


def _started(given: argparse.Namespace, folder: Path) -> tuple[Served, int]:
    from programs import free_port  # noqa: PLC0415 - of tests/support
    from served import start  # noqa: PLC0415

    dicom, settings = free_port(), folder / "clinic.toml"
    settings.write_text(f"waiting_most = {given.waiting}\n[dicom]\nport = {dicom}\n", encoding="utf-8")
    served = start(folder / "clinic", model_of(given, folder), "--config", str(settings))
    served.join()
    return served, dicom


def _clients(crowd: Crowd, count: int) -> list[Callable[[], None]]:
    kinds: dict[str, Callable[[Crowd], None]] = {"listener": _listens, "room": _sends_dicom, "uploader": _uploads}
    work: list[Callable[[Crowd], None]] = []
    for kind, share in SHARES.items():
        work += [kinds[kind]] * max(1, round(share * count / 50))
    work += [_looks] * (count - len(work))
    return [lambda one=one: one(crowd) for one in work]


def _watched(crowd: Crowd, clients: list[threading.Thread]) -> list[float]:
    """Let the clients run; what the service takes of the memory all the while, in MB."""
    memory, begun = list[float](), time.monotonic()
    for client in clients:
        client.start()
    whole = round(crowd.end - begun)
    with progress("clients: seconds", whole) as advance:
        done = 0
        while crowd.is_on:
            time.sleep(LOOK_S)
            memory.append(memory_mb(crowd.served.process.pid))
            now = min(whole, round(time.monotonic() - begun))
            advance(now - done, f"{memory[-1]:.0f} MB, {len(crowd.wrong)} errors")
            done = now
    for client in clients:
        client.join(90)
        if client.is_alive():
            crowd.wrong.append("a client hangs")
    return memory


def _levels(memory: list[float]) -> tuple[float, float]:
    """The memory after the first third, when everything has been loaded, and at the end: medians of a sixth each."""
    part = max(1, len(memory) // 6)
    return float(np.median(memory[2 * part : 3 * part])), float(np.median(memory[-part:]))


def _drained(crowd: Crowd) -> int:
    """Wait until nothing waits any more; how many that were acknowledged have no answer then."""
    last, changed = None, time.monotonic()
    with crowd.client() as client:
        while time.monotonic() - changed < 120:
            waiting = _all_studies(client, "waiting")
            if not waiting:
                break
            if len(waiting) != last:
                last, changed = len(waiting), time.monotonic()
            time.sleep(1)
        answered = [one for one in _all_studies(client, None) if one["level"] in ("fracture", "doubt", "none")]
    return len(crowd.acknowledged) - len(answered)


def _all_studies(client: httpx.Client, level: str | None) -> list[dict[str, Any]]:
    found, before = list[dict[str, Any]](), ""
    while True:
        params = {"limit": "200", "before": before} | ({"level": level} if level else {})
        page = client.get("/studies", params=params).raise_for_status().json()
        found += page["studies"]
        before = page["next"]
        if not before:
            return found


def _listens(crowd: Crowd) -> None:
    """A robot: listens for findings, and goes on where it was when the line breaks."""
    last = "0"
    while crowd.is_on:
        try:
            with crowd.client() as client, client.stream("GET", "/events", headers={"Last-Event-ID": last}) as stream:
                if stream.status_code != httpx.codes.OK:
                    crowd.note("listener", stream.status_code, fine=False)
                    return
                kind = ""
                for line in stream.iter_lines():
                    if line.startswith("event:"):
                        kind = line[6:].strip()
                    elif line.startswith("data:"):
                        last = str(json.loads(line[5:])["id"])
                        crowd.statuses[f"listener {kind}"] += 1
                    if not crowd.is_on:
                        break
        except httpx.TransportError as error:
            crowd.note("listener", type(error).__name__, fine=False)


def _uploads(crowd: Crowd) -> None:
    """Somebody who sends as fast as they are let."""
    with crowd.client() as client:
        while crowd.is_on:
            number = next(crowd.numbers)
            try:
                answer = client.post("/radiographs", files={"files": ("a.dcm", crowd.film.copy(number))})
            except httpx.TransportError as error:
                crowd.note("uploader", type(error).__name__, fine=False)
                continue
            later = float(answer.headers.get("Retry-After", 0))
            is_later = answer.status_code == httpx.codes.TOO_MANY_REQUESTS and later > 0
            crowd.note("uploader", answer.status_code, fine=is_later or answer.status_code == httpx.codes.ACCEPTED)
            if answer.status_code == httpx.codes.ACCEPTED:
                crowd.acknowledged.add(f"http {number}")
            _rest(crowd, later if is_later else 0.2)


def _sends_dicom(crowd: Crowd) -> None:
    """A room: one association for some radiographs, then another."""
    from pynetdicom import AE  # noqa: PLC0415 - only here
    from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation  # noqa: PLC0415

    node = AE("ROOM1")
    node.add_requested_context(DigitalXRayImageStorageForPresentation, "1.2.840.10008.1.2.1")
    while crowd.is_on:
        association = node.associate("127.0.0.1", crowd.dicom, ae_title="CALLUS")
        if not association.is_established:
            crowd.note("room", "no association", fine=False)
            _rest(crowd, 1)
            continue
        for _ in range(5):
            number = next(crowd.numbers)
            data = pydicom.dcmread(io.BytesIO(crowd.film.copy(number)))
            status = association.send_c_store(data).get("Status")
            said = "no status" if status is None else f"0x{status:04X}"
            crowd.note("room", said, fine=said in ("0x0000", "0xA700"))
            if said == "0x0000":
                crowd.acknowledged.add(f"dicom {number}")
            _rest(crowd, 2 if said == "0xA700" else 0.2)
            if not crowd.is_on or status is None:
                break
        association.release()


def _looks(crowd: Crowd) -> None:
    """A reader: the worklist, a study, its pictures."""
    chance = random.Random(threading.get_ident())  # noqa: S311 - no secret
    with crowd.client() as client:
        while crowd.is_on:
            lines = _look(crowd, client, "/studies", chance.choice([{}, {"level": "fracture"}, {"limit": 200}]))
            if lines and (studies := lines.json()["studies"]):
                study = _look(crowd, client, f"/studies/{chance.choice(studies)['id']}", {})
                images = (
                    [one for one in study.json()["images"] if one["answer"] and one["answer"]["results"]]
                    if study
                    else []
                )
                for image in images[:1]:
                    _look(crowd, client, f"/images/{image['id']}/{chance.choice(PICTURES)}", {})
            _rest(crowd, chance.uniform(0.5, 1.5))


def _look(crowd: Crowd, client: httpx.Client, path: str, params: dict[str, Any]) -> httpx.Response | None:
    begun = time.perf_counter()
    try:
        answer = client.get(path, params=params)
    except httpx.TransportError as error:
        crowd.note("reader", type(error).__name__, fine=False)
        return None
    crowd.times.append(time.perf_counter() - begun)
    fine = answer.status_code == httpx.codes.OK
    crowd.note("reader", answer.status_code, fine=fine)
    return answer if fine else None


def _rest(crowd: Crowd, seconds: float) -> None:
    time.sleep(max(0.0, min(seconds, crowd.end - time.monotonic())))
