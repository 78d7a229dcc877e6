"""``receive``: megabytes a second of C-STORE, alone and beside answering."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from callus.progress import track
from service_figures.common import STORESCU, Film, model_of, say, scratch, verdict

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from callus.service.database import Database

TARGET_MB_S = 30.0
ALONE_S = 10.0
BEFORE = 400  # radiographs that wait for their answers before anything is sent


def measure(given: argparse.Namespace) -> None:
    """Send with nothing else going on, and beside answering."""
    if given.quick:
        given.objects, given.size = 2, "600x500"
    if given.switch_ms:
        sys.setswitchinterval(given.switch_ms / 1000)
    told: dict[str, Any] = {}
    with scratch(given) as folder:
        model = model_of(given, folder)
        for name in ("alone", "beside"):
            sent = [_written(folder / f"{name}{one}", one, given) for one in range(given.senders)]
            told[name] = _received(folder / name, model, sent, answering=name == "beside")
    reached = told["beside"]["mb_s"] >= TARGET_MB_S
    words = {"senders": given.senders, "objects": given.senders * given.objects, "size": given.size}
    sentence = (
        f"{given.senders} storescu are acknowledged {told['alone']['mb_s']} MB/s alone and {told['beside']['mb_s']}"
        f" MB/s while others are being answered. {verdict({f'{TARGET_MB_S:g} MB/s beside answering': reached})}"
    )
    switch_ms = 1000 * sys.getswitchinterval()
    say("receive", sentence, **words, **told, switch_ms=switch_ms, target_mb_s=TARGET_MB_S, reached=reached)


def _received(folder: Path, model: str, sent: list[Path], *, answering: bool) -> dict[str, Any]:
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
        _begin_answering(database, intake, thread)
    node = Node(DicomNode(), intake, largest=1 << 28, came=thread.came.set)
    node.start()
    before, begun = _answers(database), time.perf_counter()
    words = [STORESCU, "-aec", "CALLUS", "+sd", "-R", "127.0.0.1", str(node.port)]
    senders = [subprocess.Popen([*words, str(place)], stdout=subprocess.DEVNULL) for place in sent]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - begun
    answered = _answers(database) - before
    node.stop()
    told = {"seconds": round(seconds, 2)}
    if answering:
        told["answers_s"] = round(answered / seconds, 2)
        told["answers_s_after"] = _answering_alone(database)
        thread.stop()
    count = _kept(database)
    database.close()
    if any(codes) or count != sum(len(list(place.iterdir())) for place in sent):
        raise SystemExit(f"storescu ended with {codes}; {count} objects were kept")
    size = sum(file.stat().st_size for place in sent for file in place.iterdir())
    return {"mb_s": round(size / 1e6 / seconds, 1), **told}


def _answering_alone(database: Database) -> float:
    """Answers a second when nothing arrives any more."""
    before, begun = _answers(database), time.perf_counter()
    time.sleep(ALONE_S)
    return round((_answers(database) - before) / (time.perf_counter() - begun), 2)


def _begin_answering(database: Database, intake: Any, thread: Any) -> None:
    """Have work wait for the network, and wait until it is at it."""
    film = Film.of("600x500")
    for number in track(range(BEFORE), "radiographs that wait"):
        intake.take(film.copy(900_000_000 + number), source="upload", sender="bench")
    thread.start()
    while not _answers(database):
        time.sleep(0.05)


def _answers(database: Database) -> int:
    from callus.service.tables import Answer  # noqa: PLC0415 - as above

    return _count(database, sa.select(sa.func.count()).select_from(Answer))


def _kept(database: Database) -> int:
    """Objects that came by DICOM."""
    from callus.service.tables import Image  # noqa: PLC0415 - as above

    return _count(database, sa.select(sa.func.count()).select_from(Image).where(Image.source == "dicom"))


def _count(database: Database, query: Any) -> int:
    with database.reading() as session:
        return int(session.scalar(query) or 0)


def _written(folder: Path, sender: int, given: argparse.Namespace) -> Path:
    """A folder of radiographs, one study."""
    folder.mkdir()
    film = Film.of(given.size)
    for number in range(given.objects):
        (folder / f"{number}.dcm").write_bytes(film.copy(1000 * sender + number, study=sender))
    return folder
