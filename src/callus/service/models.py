"""The models of the service: beside each other on the disk, one of them active."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

from callus.bundle import DEFAULT_MODEL, Bundle, write_bundle
from callus.errors import CallusError
from callus.identify import Identifier
from callus.service.tables import Model

if TYPE_CHECKING:
    from pathlib import Path

    from callus.service.database import Database


class Models:
    """The models and what runs them. Threads may share it.

    Attributes:
        folder: where their bundles lie.
    """

    def __init__(self, database: Database, folder: Path, threads: int | None = None) -> None:
        """Open it.

        Args:
            database: which models there are.
            folder: where their bundles lie.
            threads: cores for each; None for all.
        """
        self._database = database
        self.folder = folder
        self._threads = threads
        self._loaded: dict[int, Identifier] = {}
        self._lock = threading.Lock()

    def begin_with(self, model: str) -> int:
        """Put in the model that the service starts with; one that was switched to later stays.

        Args:
            model: a bundle, a run folder or the name of a model that comes with callus; "" for the default one.

        Returns:
            The active model's number.

        Raises:
            BundleError: it cannot be loaded.
            CallusError: it cannot be written.
        """
        with self._database.reading() as session:
            active = session.scalar(sa.select(Model.id).where(Model.state == "active"))
        if active is not None:
            return active
        return self.add(model or DEFAULT_MODEL, state="active")

    def add(self, source: str | Path, state: str = "retired") -> int:
        """Copy a bundle in, once.

        Args:
            source: a bundle's folder, a ``.callus`` file, or a run folder.
            state: "active", "trial" or "retired".

        Returns:
            Its number.

        Raises:
            BundleError: it cannot be loaded.
            CallusError: it cannot be written.
        """
        bundle = Bundle.load(source)
        place = self.folder / bundle.digest[:16]
        if not place.exists():
            write_bundle(place, bundle.info, {name: bundle.read(name) for name in bundle.info["files"]})
        with self._database.writing() as session:
            self._database.hold(session, f"model {bundle.digest}")
            there = session.scalar(sa.select(Model).where(Model.digest == bundle.digest))
            if there is None:
                there = Model(name=bundle.name, digest=bundle.digest, path=place.name, state=state)
                session.add(there)
                session.flush()
            return there.id

    def identifier(self, number: int) -> Identifier:
        """What runs a model; loaded when it is first asked for.

        Raises:
            CallusError: there is no such model, or it cannot be loaded.
        """
        with self._lock:
            if number not in self._loaded:
                with self._database.reading() as session:
                    model = session.get(Model, number)
                if model is None:
                    raise CallusError(f"there is no model {number}")
                self._loaded[number] = Identifier(self.folder / model.path, threads=self._threads)
            return self._loaded[number]
