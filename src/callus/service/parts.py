"""The parts of a service that runs, and in which order they start and stop."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Callable

    from callus.service.answering import Answering
    from callus.service.database import Database
    from callus.service.events import Events
    from callus.service.intake import Intake
    from callus.service.metrics import Metrics
    from callus.service.models import Models
    from callus.service.objects import ObjectStore
    from callus.service.openid import OpenId
    from callus.service.pictures import Pictures
    from callus.service.seen import Seen
    from callus.service.settings import Settings
    from callus.service.throttle import Throttle
    from callus.service.uploads import Room


class Running(Protocol):
    """Something that works beside the page until it is stopped."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End in order, and wait for that.

        Raises:
            CallusError: that takes too long.
        """


@dataclass
class Parts:
    """What requests are answered with.

    Attributes:
        settings: what the service was told.
        database: where everything is written down.
        objects: the files.
        models: what answers.
        intake: the way in.
        answering: the thread that answers.
        events: findings, as they come.
        metrics: what Prometheus is told.
        throttle: failed logins.
        pictures: frames and heat maps for the page.
        room: for what is being uploaded.
        seen: who saw what.
        openid: the identity provider; None for none.
        beside: what else runs: the DICOM node, deliveries, pulls, deleting.
        wakes: what tells those who do jobs that there may be some.
        ready: whether all of it runs.
        lock: the handle of the data folder's lock; -1 once it was given back.
    """

    settings: Settings
    database: Database
    objects: ObjectStore
    models: Models
    intake: Intake
    answering: Answering
    events: Events
    metrics: Metrics
    throttle: Throttle
    pictures: Pictures
    room: Room
    seen: Seen
    openid: OpenId | None = None
    beside: list[Running] = field(default_factory=list)
    wakes: list[Callable[[], None]] = field(default_factory=list)
    ready: bool = False
    lock: int = -1

    def start(self) -> None:
        """Begin to answer, and to listen beside the page."""
        self.answering.start()
        for one in self.beside:
            one.start()
        self.ready = True

    def wake(self) -> None:
        """Have whoever does jobs look for some now."""
        for one in self.wakes:
            one()

    def stop(self) -> None:
        """End in order: first what brings work, then what does it.

        Raises:
            CallusError: something does not end; all else has.
        """
        self.ready = False
        self.events.close()
        stuck: list[CallusError] = []
        for one in (*self.beside, self.answering):
            try:
                one.stop()
            except CallusError as error:
                stuck.append(error)
        self.close()
        if stuck:
            raise stuck[0]

    def close(self) -> None:
        """Give back the database and the folder of what does not run."""
        self.database.close()
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1
