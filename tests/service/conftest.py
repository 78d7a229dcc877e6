"""A real PostgreSQL beside SQLite, and the parts of a service on simulated radiographs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from clinic import Clinic, opened
from programs import free_port, missing
from tiny_bundle import write_tiny_bundle

from callus.service.database import Database
from callus.service.intake import Intake
from callus.service.models import Models
from callus.service.objects import ObjectStore


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """Where PostgreSQL's programs are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        missing("PostgreSQL")
    return found[-1].parent


@pytest.fixture(scope="session")
def postgres(postgres_programs: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, without its database's name.

    Its folder is not pytest's: each session makes that private again, and PostgreSQL runs as another user than root.
    """
    folder, port = Path(tempfile.mkdtemp(prefix="callus-postgres-")), free_port()
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    cluster = folder / "cluster"

    def run(program: str, *words: str) -> None:
        line = [*as_user, str(postgres_programs / program), *words]
        subprocess.run(line, check=True, capture_output=True, cwd=folder, timeout=180)

    run("initdb", "-D", str(cluster), "-U", "callus", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "-D", str(cluster), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://callus@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-D", str(cluster), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def on_postgresql(postgres: str) -> Callable[..., AbstractContextManager[str]]:
    """Makes a database on that server for a block; its URL. Nothing is in it, or what is in the one that it copies."""
    import psycopg

    @contextmanager
    def make(copied: str = "template1", more: str = "") -> Iterator[str]:
        name = f"test_{os.urandom(6).hex()}"
        with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {copied} {more}")
        yield f"{postgres}/{name}"
        with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # each takes 8 MB

    return make


@pytest.fixture(scope="session")
def template(on_postgresql: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """The name of a database there with the tables and no rows: to copy it is quicker than to migrate each test's."""
    with on_postgresql() as url:
        Database(url).close()
        yield url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without rows, of either kind."""
    with ExitStack() as ending:
        url = f"sqlite:///{tmp_path / 'callus.sqlite'}"
        if request.param == "postgresql":
            url = ending.enter_context(request.getfixturevalue("on_postgresql")(request.getfixturevalue("template")))
        yield ending.enter_context(closing(Database(url)))


@pytest.fixture
def clinic(database: Database, tmp_path: Path, tiny_bundle: Path) -> Iterator[Clinic]:
    """A service on either database."""
    with opened(tmp_path / "data", tiny_bundle, database) as clinic:
        yield clinic


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
