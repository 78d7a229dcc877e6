"""A real PostgreSQL beside SQLite, and the parts of a service on simulated radiographs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import free_port, missing
from tiny_bundle import write_tiny_bundle

from callus.service.database import Database
from callus.service.intake import Intake
from callus.service.models import Models
from callus.service.objects import ObjectStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, without its database's name.

    Its folder is not pytest's: each session makes that private again, and PostgreSQL runs as another user than root.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        missing("PostgreSQL")
    programs, folder, port = found[-1].parent, Path(tempfile.mkdtemp(prefix="callus-postgres-")), free_port()
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    cluster = folder / "cluster"

    def run(program: str, *words: str) -> None:
        line = [*as_user, str(programs / program), *words]
        subprocess.run(line, check=True, capture_output=True, cwd=folder, timeout=180)

    run("initdb", "-D", str(cluster), "-U", "callus", "-A", "trust", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "-D", str(cluster), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://callus@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-D", str(cluster), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database, of either kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'callus.sqlite'}"
    else:
        import psycopg

        server = request.getfixturevalue("postgres")
        name = f"test_{os.urandom(6).hex()}"
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = f"{server}/{name}"
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects", keep_free=0)


@pytest.fixture
def models(database: Database, tmp_path: Path, tiny_bundle: Path) -> Models:
    opened = Models(database, tmp_path / "models", threads=1)
    opened.begin_with(str(tiny_bundle))
    return opened


@pytest.fixture
def intake(database: Database, objects: ObjectStore, models: Models) -> Intake:
    return Intake(database, objects, waiting_most=500)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
