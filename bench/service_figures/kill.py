"""``kill``: radiographs come by C-STORE and HTTP while the service is killed at random moments and started again."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pydicom

from callus.progress import progress
from service_figures.common import STORESCU, Film, descendants, model_of, say, scratch, uid, verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from served import Served

STUCK_S = 300.0  # without anything done after which it is given up
GIVEN_UP = 0.3  # of the radiographs that a kill cut off, this part is not sent again
_TOGETHER = 20  # radiographs of one storescu


@dataclass
class Sending:
    """What the senders know. Threads share it.

    Attributes:
        acknowledged: numbers of radiographs.
        cut: of those that were under way when the line broke and were not sent again.
        ports: of HTTP and DICOM.
        token: that HTTP is asked with.
    """

    ports: tuple[int, int]
    token: str = ""
    acknowledged: set[int] = field(default_factory=set)
    cut: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - no secret

    def told(self, number: int, *, acknowledged: bool) -> bool:
        """Write down how sending one ended; whether it is done with."""
        with self.lock:
            if acknowledged:
                self.acknowledged.add(number)
            elif self.chance.random() < GIVEN_UP:
                self.cut.add(number)
            else:
                return False
        return True


def measure(given: argparse.Namespace) -> None:
    """Send, kill, start again, wait for the rest, and count."""
    if given.quick:
        given.objects, given.kills, given.senders, given.clients = 40, 3, 2, 2
    begun = time.monotonic()
    with scratch(given) as folder, _archive() as (port, delivered):
        film = Film.of(given.size)
        for number in range(given.objects):
            (folder / f"{number}.dcm").write_bytes(film.copy(number))
        clinic = _Clinic(folder, port, model_of(given, folder))
        killed = _storm(given, folder, clinic)
        found = _counted(folder, clinic, delivered)
    sending = clinic.sending
    targets = {
        "every acknowledged radiograph has one finding": found["acknowledged_without_one_finding"] == 0,
        "every finding has one delivered result": found["findings_without_one_delivery"] == 0,
        "nothing half there": found["half_there"] == 0,
        "nothing outlives a kill": killed["outlived"] == 0,
    }
    sentence = (
        f"{given.objects} radiographs came by {given.senders} storescu and {given.clients} HTTP clients while the"
        f" service was killed {given.kills} times: {len(sending.acknowledged)} were acknowledged, {len(sending.cut)}"
        f" were cut off and not sent again ({found['cut_and_there']} of these are there whole). {verdict(targets)}"
    )
    say(
        "kill",
        sentence,
        objects=given.objects,
        acknowledged=len(sending.acknowledged),
        cut=len(sending.cut),
        **killed,
        **found,
        seconds=round(time.monotonic() - begun, 1),
        reached=all(targets.values()),
    )


class _Clinic:
    """The service, its settings, and what it is started with again."""

    def __init__(self, folder: Path, archive: int, model: str) -> None:
        from programs import free_port  # noqa: PLC0415 - of tests/support

        self.data = folder / "clinic"
        self._settings = folder / "clinic.toml"
        self.sending = Sending((free_port(), free_port()))
        self._settings.write_text(
            f"[dicom]\nport = {self.sending.ports[1]}\n[[destinations]]\nname = 'archive'\nkind = 'c-store'\n"
            f"ae_title = 'ARCHIVE'\nhost = '127.0.0.1'\nport = {archive}\nresults = ['sr', 'sc']\n",
            encoding="utf-8",
        )
        self.served = self.start(model)
        self.served.join()
        self.sending.token = self.served.token("read", "send")

    def start(self, model: str | None = None) -> Served:
        from served import start  # noqa: PLC0415 - of tests/support

        words = ["--config", str(self._settings), "--port", str(self.sending.ports[0])]
        self.served = start(self.data, model, *words)
        return self.served

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask its database, beside it."""
        with closing(sqlite3.connect(f"file:{self.data / 'callus.sqlite'}?mode=ro", uri=True, timeout=60)) as database:
            return database.execute(query).fetchall()

    def done(self) -> int:
        """Jobs that have ended."""
        (count,) = self.ask("SELECT count(*) FROM jobs WHERE state IN ('done', 'stuck')")[0]
        return int(count)


def _storm(given: argparse.Namespace, folder: Path, clinic: _Clinic) -> dict[str, Any]:
    """Send all of it while the service is killed, and wait until nothing is left to do."""
    sending, chance = clinic.sending, random.Random(given.seed)  # noqa: S311 - no secret
    shares = [
        list(range(one, given.objects, given.senders + given.clients)) for one in range(given.senders + given.clients)
    ]
    work: list[Callable[[], None]] = [
        lambda mine=mine: _by_storescu(sending, folder, mine) for mine in shares[: given.senders]
    ]
    work += [lambda mine=mine: _by_http(sending, folder, mine) for mine in shares[given.senders :]]
    senders = [threading.Thread(target=one, daemon=True) for one in work]
    whole = 3 * given.objects  # acknowledged, answered, delivered
    moments = sorted(chance.uniform(0.02, 0.98) * whole for _ in range(given.kills))
    restarts, outlived, done, changed = list[float](), 0, 0, time.monotonic()
    for sender in senders:
        sender.start()
    with progress("kill: acknowledged, answered, delivered", whole) as advance:
        while True:
            now = len(sending.acknowledged) + clinic.done()
            advance(now - done, f"{given.kills - len(moments)} kills")
            changed, done = (time.monotonic() if now > done else changed), max(now, done)
            if moments and now >= moments[0]:
                del moments[0]
                time.sleep(chance.uniform(0, 1))
                outlived += _killed(clinic)
                begun = time.monotonic()
                clinic.start()
                restarts.append(time.monotonic() - begun)
            sent = not any(sender.is_alive() for sender in senders)
            if (
                sent
                and not moments
                and not clinic.ask("SELECT 1 FROM jobs WHERE state IN ('waiting', 'taken') LIMIT 1")
            ):
                break
            if time.monotonic() - changed > STUCK_S:
                print(f"nothing was done for {STUCK_S:g} s", file=sys.stderr)
                break
            time.sleep(0.2)
    if moments:
        raise SystemExit("it ended before all kills were done: take more radiographs")
    clinic.served.close()
    return {"kills": given.kills, "outlived": outlived, "restart_s_max": round(max(restarts, default=0.0), 2)}


def _killed(clinic: _Clinic) -> int:
    """Kill the service's process group; how many of its processes live half a minute later."""
    processes = descendants(clinic.served.process.pid)
    clinic.served.kill()
    clinic.served.close()
    end = time.monotonic() + 30
    while time.monotonic() < end and any(map(_lives, processes)):
        time.sleep(0.05)
    return sum(map(_lives, processes))


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _by_storescu(sending: Sending, folder: Path, mine: list[int]) -> None:
    """Send some radiographs by dcmtk, again and again until each is acknowledged or given up."""
    left = list(mine)
    while left:
        files = [str(folder / f"{number}.dcm") for number in left[:_TOGETHER]]
        words = [STORESCU, "-v", "-nh", "-aec", "CALLUS", "-R", "127.0.0.1", str(sending.ports[1]), *files]
        run = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, errors="replace"
        )
        outcomes = re.findall(r"Sending file: (\S+)|Received Store Response \((.*)\)", run.stdout)
        under_way = None
        for file, response in outcomes:
            if file:
                under_way = int(Path(file).stem)
            elif under_way is not None:
                if response == "Success":
                    left.remove(under_way)
                    sending.told(under_way, acknowledged=True)
                under_way = None
        if under_way is not None and sending.told(under_way, acknowledged=False):  # the line broke before a response
            left.remove(under_way)
        if run.returncode:
            time.sleep(0.3)


def _by_http(sending: Sending, folder: Path, mine: list[int]) -> None:
    """The same by uploads."""
    left = list(mine)
    address = f"http://127.0.0.1:{sending.ports[0]}/api/v1"
    headers = {"Authorization": f"Bearer {sending.token}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False) as client:
        while left:
            number = left[0]
            try:
                files = {"files": (f"{number}.dcm", (folder / f"{number}.dcm").read_bytes())}
                response = client.post("/radiographs", files=files)
            except httpx.ConnectError:  # it did not even arrive
                time.sleep(0.3)
            except httpx.TransportError:
                if sending.told(number, acknowledged=False):
                    del left[0]
                time.sleep(0.3)
            else:
                if response.status_code == httpx.codes.ACCEPTED:
                    sending.told(number, acknowledged=True)
                    del left[0]
                else:
                    time.sleep(float(response.headers.get("Retry-After", 1)))


@contextmanager
def _archive() -> Iterator[tuple[int, Counter[str]]]:
    """An archive that counts what it gets, by SOP Instance UID; its port."""
    from pynetdicom import AE, evt  # noqa: PLC0415 - only here
    from pynetdicom.presentation import StoragePresentationContexts  # noqa: PLC0415

    got: Counter[str] = Counter()

    def store(event: Any) -> int:
        got[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000

    node = AE("ARCHIVE")
    node.supported_contexts = StoragePresentationContexts
    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    if server is None:
        raise SystemExit("the archive cannot listen")
    try:
        yield server.server_address[1], got
    finally:
        with suppress(OSError):
            server.shutdown()


def _counted(folder: Path, clinic: _Clinic, delivered: Counter[str]) -> dict[str, int]:
    """What is there, against what was acknowledged and what the archive got."""
    images = {name: (number, sha256) for number, name, sha256 in clinic.ask("SELECT id, uid, sha256 FROM images")}
    answers: dict[int, list[tuple[int, str, dict[str, str]]]] = {}
    for number, image, heat, results in clinic.ask("SELECT id, image_id, map, results FROM answers"):
        answers.setdefault(image, []).append((number, heat, json.loads(results)))
    deliveries = Counter(
        json.loads(about)["answer"]
        for (about,) in clinic.ask("SELECT about FROM jobs WHERE kind = 'deliver' AND state = 'done'")
    )
    store = clinic.data / "objects"
    without = [
        n for n in clinic.sending.acknowledged if uid(n) not in images or len(answers.get(images[uid(n)][0], [])) != 1
    ]
    undelivered, wanted, half, named = 0, set[str](), 0, set[str]()
    for number in range(len(list(folder.glob("*.dcm")))):
        if uid(number) not in images:
            continue
        image, sha256 = images[uid(number)]
        theirs = answers.get(image, [])
        named |= {sha256} | {one for _, heat, results in theirs for one in (heat, *results.values())}
        is_whole = _is_sent(store, sha256, folder / f"{number}.dcm") and len(theirs) == 1
        for answer, heat, results in theirs:
            is_whole &= all(_is_kept(store, one) for one in (heat, *results.values())) and len(results) == 5
            uids = {_uid_of(store, results[kind]) for kind in ("sr", "sc")}
            wanted |= uids
            undelivered += deliveries[answer] != 1 or not all(delivered[one] for one in uids)
        half += not is_whole
    files = {file.name for file in store.glob("??/*")}
    return {
        "acknowledged_without_one_finding": len(without),
        "findings": sum(map(len, answers.values())),
        "findings_without_one_delivery": undelivered + len(set(delivered) - wanted),
        "delivered_again": sum(delivered.values()) - len(delivered),
        "cut_and_there": sum(uid(number) in images for number in clinic.sending.cut),
        "half_there": half + len(named - files),
        "files_left_to_sweep": len(files - named) + len(list((store / "incoming").iterdir())),
        "stuck": len(clinic.ask("SELECT 1 FROM jobs WHERE state = 'stuck'")),
    }


def _is_kept(store: Path, sha256: str) -> bool:
    """Whether a file is there and is what its name says."""
    file = store / sha256[:2] / sha256
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def _is_sent(store: Path, sha256: str, sent: Path) -> bool:
    """Whether what is kept is what was sent; the file meta information is each sender's own."""
    return _is_kept(store, sha256) and pydicom.dcmread(store / sha256[:2] / sha256) == pydicom.dcmread(sent)


def _uid_of(store: Path, sha256: str) -> str:
    data = (store / sha256[:2] / sha256).read_bytes()
    return str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID)
