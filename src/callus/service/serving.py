"""The service put together from what it was told."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any, Final

from callus.atomic import make_folder
from callus.errors import CallusError
from callus.service import jobs, stuck
from callus.service.answering import Answering
from callus.service.copying import note_database
from callus.service.deletion import Keeping
from callus.service.events import Events
from callus.service.intake import Intake
from callus.service.metrics import Metrics
from callus.service.models import Models
from callus.service.objects import ObjectStore, keeping
from callus.service.pairing import open_pair
from callus.service.parts import Parts
from callus.service.pictures import Pictures
from callus.service.placing import give_up_killers
from callus.service.seen import Seen
from callus.service.throttle import Throttle
from callus.service.uploads import Room

if TYPE_CHECKING:
    from pathlib import Path

    from callus.service.parts import Running
    from callus.service.settings import Settings

_KILLED: Final = 5  # times in a row that the service may have been killed at a radiograph


def build(settings: Settings, *, threads: int | None = None) -> Parts:
    """Put a service together, with its model loaded; nothing of it runs yet.

    Args:
        settings: what it was told, checked.
        threads: cores for the network; None for all.

    Raises:
        CallusError: the folder, the database or the model cannot be used.
    """
    make_folder(settings.data)
    settings.data.chmod(0o700)  # patients' pictures are nobody else's on this machine
    lock = _alone(settings.data)
    try:
        return _build(settings, threads, lock)
    except BaseException:
        os.close(lock)
        raise


def _build(settings: Settings, threads: int | None, lock: int) -> Parts:
    database = open_pair(settings.data, settings.database, begins=True)
    with keeping(settings.data):
        note_database(settings.data, database.engine.url)
    jobs.take_up(database)
    give_up_killers(database, most=_KILLED)
    stuck.give_up_gone(database, settings)
    objects = ObjectStore(settings.data / "objects", settings.keep_free)
    models = Models(database, settings.data / "models", threads)
    models.identifier(models.begin_with(settings.model))
    intake = Intake(database, objects, settings.waiting_most, settings.largest_upload)
    events, metrics = Events(database), Metrics(database)

    def tell(number: int) -> None:
        told = events.tell(number)
        if told is not None:
            metrics.answered(told["level"], told["seconds"])

    def made() -> None:
        parts.wake()  # there may be something to deliver

    answering = Answering(database, objects, models, settings.destinations, tell, made)
    pictures = Pictures(objects, models)
    parts = Parts(
        settings=settings,
        database=database,
        objects=objects,
        models=models,
        intake=intake,
        answering=answering,
        events=events,
        metrics=metrics,
        throttle=Throttle(),
        pictures=pictures,
        room=Room(settings.data / "objects" / "incoming", settings.largest_upload),
        seen=Seen(database),
        openid=_openid(settings),
        wakes=[answering.came.set],
        lock=lock,
    )
    parts.beside = [Keeping(database, objects, settings.retention_days, pictures.forget), *_network(parts)]
    return parts


def _alone(folder: Path) -> int:
    """Take a data folder for this process; the lock goes when the process ends, however it ends.

    Raises:
        CallusError: another process serves it.
    """
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise CallusError("is served already by another process", where=folder) from error
    return handle


def _openid(settings: Settings) -> Any:
    if not settings.openid.issuer:
        return None
    from callus.service.openid import OpenId  # noqa: PLC0415 - only where there is a provider

    return OpenId(settings.openid)


def _network(parts: Parts) -> list[Running]:
    """What speaks DICOM: the node that listens, what delivers results, what pulls studies."""
    settings, beside = parts.settings, list[Any]()
    came = parts.answering.came.set
    if settings.dicom.port:
        from callus.service.dicom_node import Node  # noqa: PLC0415 - a second of a start that may do without

        beside.append(Node(settings.dicom, parts.intake, largest=settings.largest_upload, came=came))
    if settings.sources:
        from callus.service.pull import Pulling  # noqa: PLC0415 - as above

        pulling = Pulling(parts.database, parts.intake, settings.sources, largest=settings.largest_upload, came=came)
        beside.append(pulling)
        parts.wakes.append(pulling.came.set)
    if settings.destinations:
        from callus.service.delivery import Delivering  # noqa: PLC0415 - as above

        delivering = Delivering(parts.database, parts.objects, settings.destinations, settings.dicom)
        beside.append(delivering)
        parts.wakes.append(delivering.came)
    return beside
