"""The service's figures: one JSON line for each.

    python bench/service.py receive [--model BUNDLE] [--senders 4] [--objects 8] [--size 2500x2048]

``receive``: megabytes a second that dcmtk's storescu, several at once, get acknowledged by the DICOM node: each object
is on the disk (fsync) and its job in the database. ``alone``: nothing else runs. ``beside``: radiographs that came
before are being answered all the while, results and all, by the given bundle or by a tiny network.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

if TYPE_CHECKING:
    from callus.service.database import Database

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
TARGET_MB_S = 30.0
STORESCU = "/usr/bin/storescu"  # pynetdicom puts a program of the same name into the environment
ALONE_S = 10.0
BEFORE = 400  # radiographs that wait for their answers before anything is sent


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    figures = parser.add_subparsers(required=True)
    receive = figures.add_parser("receive", help="MB/s of C-STORE, alone and beside answering")
    receive.add_argument("--model", help="a bundle; a tiny network where none is given")
    receive.add_argument("--senders", type=int, default=4)
    receive.add_argument("--objects", type=int, default=8, help="of each sender")
    receive.add_argument("--size", default="2500x2048", help="rows x columns of 16 bits")
    receive.add_argument("--switch-ms", type=float, help="Python's switch interval; its own where none is given")
    receive.set_defaults(run=receiving)
    given = parser.parse_args()
    given.run(given)


def receiving(given: argparse.Namespace) -> None:
    """Send with nothing else going on, and beside answering."""
    if given.switch_ms:
        sys.setswitchinterval(given.switch_ms / 1000)
    rows, columns = (int(part) for part in given.size.split("x"))
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="callus-service-") as scratch:
        folder = Path(scratch)
        model = given.model or tiny(folder)
        for name in ("alone", "beside"):
            sent = [
                written(folder / f"{name}{one}", one, given.objects, (rows, columns)) for one in range(given.senders)
            ]
            told[name] = received(folder / name, model, sent, answering=name == "beside")
    reached = told["beside"]["mb_s"] >= TARGET_MB_S
    words = {"senders": given.senders, "objects": given.senders * given.objects, "size": given.size}
    say("receive", **words, **told, switch_ms=1000 * sys.getswitchinterval(), target_mb_s=TARGET_MB_S, reached=reached)


def received(folder: Path, model: str, sent: list[Path], *, answering: bool) -> dict[str, Any]:
    """Have a service of its own take what several senders send.

    Returns:
        ``mb_s``, ``seconds``, and the answers a second meanwhile and afterwards.
    """
    from callus.service.answering import Answering  # noqa: PLC0415 - beside what needs none of it
    from callus.service.database import Database  # noqa: PLC0415
    from callus.service.dicom_node import Node  # noqa: PLC0415
    from callus.service.intake import Intake  # noqa: PLC0415
    from callus.service.models import Models  # noqa: PLC0415
    from callus.service.objects import ObjectStore  # noqa: PLC0415
    from callus.service.settings import DicomNode  # noqa: PLC0415

    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'callus.sqlite'}")
    objects = ObjectStore(folder / "objects", keep_free=0)
    models = Models(database, folder / "models")
    models.begin_with(model)
    intake = Intake(database, objects, waiting_most=10_000)
    thread = Answering(database, objects, models, ())
    if answering:
        begin_answering(database, intake, thread)
    node = Node(DicomNode(), intake, largest=1 << 28, came=thread.came.set)
    node.start()
    before, begun = answers(database), time.perf_counter()
    words = [STORESCU, "-aec", "CALLUS", "+sd", "-R", "127.0.0.1", str(node.port)]
    senders = [subprocess.Popen([*words, str(place)], stdout=subprocess.DEVNULL) for place in sent]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - begun
    answered = answers(database) - before
    node.stop()
    told = {"seconds": round(seconds, 2)}
    if answering:
        told["answers_s"] = round(answered / seconds, 2)
        told["answers_s_after"] = answering_alone(database)
        thread.stop()
    count = kept(database)
    database.close()
    if any(codes) or count != sum(len(list(place.iterdir())) for place in sent):
        raise SystemExit(f"storescu ended with {codes}; {count} objects were kept")
    size = sum(file.stat().st_size for place in sent for file in place.iterdir())
    return {"mb_s": round(size / 1e6 / seconds, 1), **told}


def answering_alone(database: Database) -> float:
    """Answers a second when nothing arrives any more."""
    before, begun = answers(database), time.perf_counter()
    time.sleep(ALONE_S)
    return round((answers(database) - before) / (time.perf_counter() - begun), 2)


def begin_answering(database: Database, intake: Any, thread: Any) -> None:
    """Have work wait for the network, and wait until it is at it."""
    from simulated_dicom import as_bytes, simulated  # noqa: PLC0415 - of tests/support

    random = np.random.default_rng(5)
    for number in range(BEFORE):
        pixels = random.integers(0, 4095, (600, 500), np.uint16)
        uids = {"SOPInstanceUID": f"1.2.276.0.6.{number}", "StudyInstanceUID": f"1.2.276.0.5.{number}"}
        intake.take(as_bytes(simulated(pixels=pixels, **uids)), source="upload", sender="bench")
    thread.start()
    while not answers(database):
        time.sleep(0.05)


def answers(database: Database) -> int:
    """How many there are."""
    from callus.service.tables import Answer  # noqa: PLC0415 - as above

    return _count(database, sa.select(sa.func.count()).select_from(Answer))


def kept(database: Database) -> int:
    """Objects that came by DICOM."""
    from callus.service.tables import Image  # noqa: PLC0415 - as above

    return _count(database, sa.select(sa.func.count()).select_from(Image).where(Image.source == "dicom"))


def _count(database: Database, query: Any) -> int:
    with database.reading() as session:
        return int(session.scalar(query) or 0)


def written(folder: Path, sender: int, count: int, size: tuple[int, int]) -> Path:
    """A folder of radiographs."""
    from simulated_dicom import simulated, stored_values  # noqa: PLC0415 - of tests/support

    folder.mkdir()
    pixels = stored_values(size)
    for number in range(count):
        uids = {"SOPInstanceUID": f"1.2.276.0.4.{sender}.{number}", "StudyInstanceUID": f"1.2.276.0.3.{sender}"}
        buffer = io.BytesIO()
        simulated(pixels=pixels + number, **uids).save_as(buffer, enforce_file_format=True)
        (folder / f"{number}.dcm").write_bytes(buffer.getvalue())
    return folder


def tiny(folder: Path) -> str:
    """A bundle that answers at once."""
    from tiny_bundle import write_tiny_bundle  # noqa: PLC0415 - of tests/support

    return str(write_tiny_bundle(folder / "tiny"))


def say(figure: str, **values: Any) -> None:
    """Print a figure with what the machine was at."""
    print(json.dumps({"figure": figure, **values, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
