"""The database: opened, brought up to date, and asked in transactions. SQLite and PostgreSQL, the same for both."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from callus.errors import CallusError
from callus.service.objects import FullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MIGRATIONS = Path(__file__).parent / "migrations"
_SOON = 1.0  # seconds in which what nobody waits for is on the disk
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)  # the latter: of what its processes share
_POSTGRESQL_FULL = "53100"  # SQLSTATE disk_full
_POSTGRESQL_PASSES = ("08", "40", "53", "57P")  # connections, transactions, resources, a server that ends or begins
_BUSY_MS = 30_000  # how long a writer waits for another one


class DatabaseError(CallusError):
    """The database cannot be reached, or is of a later version."""


class AwayError(CallusError):
    """The database does not answer just now: what was asked for is to be asked for again, and is done then or was."""


class Database:
    """A database that is up to date. Threads may share it.

    Attributes:
        engine: SQLAlchemy's.
        is_sqlite: whether it is the embedded one.
    """

    def __init__(self, url: str | sa.URL) -> None:
        """Open it and bring its tables up to date.

        Args:
            url: SQLAlchemy's.

        Raises:
            DatabaseError: it cannot be reached, does not keep text as UTF-8, or a later version of callus has written
                it.
        """
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise DatabaseError("the database's URL cannot be understood", hint="see docs/serve.md") from error
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        # Else psycopg speaks in the server's encoding, and gives bytes where that is none.
        options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"client_encoding": "utf8"}}
        if self.is_sqlite:
            options = {"connect_args": {"timeout": _BUSY_MS / 1000, "check_same_thread": False}}
        try:
            self.engine = sa.create_engine(parsed, **options)
        except sa.exc.NoSuchModuleError as error:
            raise DatabaseError(
                f"there is no database called {parsed.drivername[:40]!r}", hint="give a postgresql:// address"
            ) from error
        except ImportError as error:
            raise DatabaseError(
                f"this database needs {error.name or parsed.get_driver_name()}, which is not installed",
                hint="pip install 'callus[postgresql]', and give a postgresql:// address",
            ) from error
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._settling: threading.Timer | None = None
        self._lock = threading.Lock()
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        try:
            self._upgrade()
        except sa.exc.DBAPIError as error:
            self.close()
            where = parsed.render_as_string(hide_password=True)
            raise DatabaseError(f"the database cannot be used: {error.orig}", where=where) from error
        except DatabaseError:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads.

        Raises:
            AwayError: the database does not answer just now.
        """
        with _told(), self._sessions() as session:
            if self.is_sqlite:
                session.connection(execution_options={"callus_reads": True})
            yield session

    @contextmanager
    def writing(self, *, soon: bool = False) -> Iterator[Session]:
        """A transaction: what was written stands on the disk when the block has ended, or not at all.

        Args:
            soon: it need not survive a power cut within a second of the block's end, and nobody waits for the disk. All
                else it survives, also that this process is killed.

        Raises:
            AwayError: the database does not answer just now.
            FullError: the database's disk is full.
        """
        with _told(), self._sessions.begin() as session:
            if soon and self.is_sqlite:
                session.connection(execution_options={"callus_soon": True})
            elif soon:  # PostgreSQL itself writes it down within three times wal_writer_delay, 0.6 s
                session.execute(sa.text("SET LOCAL synchronous_commit TO OFF"))
            yield session
        if soon and self.is_sqlite:
            self._settle_soon()

    @staticmethod
    def hold(session: Session, name: str) -> None:
        """Have others who hold the same name wait until this transaction ends, before there is a row to lock.

        Args:
            session: a writing one.
            name: whatever two may be about to add at once.
        """
        if session.get_bind().dialect.name != "sqlite":  # there only one writes at a time
            session.execute(_hold(name))

    def on_commit(self, heard: Callable[[Session], None]) -> None:
        """Have somebody told of each transaction that now stands; it may not ask the database with that session."""
        event.listen(self._sessions, "after_commit", heard)

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            settling, self._settling = self._settling, None
        if settling is not None:
            settling.cancel()
            self._settle()
        self.engine.dispose()

    def _settle_soon(self) -> None:
        with self._lock:
            if self._settling is None:
                self._settling = threading.Timer(_SOON, self._settled)
                self._settling.daemon = True
                self._settling.start()

    def _settled(self) -> None:
        with self._lock:
            self._settling = None
        self._settle()

    def _settle(self) -> None:
        """Have on the disk what was committed without waiting for it: SQLite's log, where it is still there."""
        # Of the log only: a second handle of the database itself would, when it is closed, take SQLite's locks along.
        with suppress(OSError):
            handle = os.open(f"{self.engine.url.database}-wal", os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _upgrade(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with self.engine.begin() as connection:
            if not self.is_sqlite:  # which has one writer at a time; here two that start at once would make all twice
                _check_encoding(connection)
                connection.execute(_hold("tables"))
            at = MigrationContext.configure(connection).get_current_revision()
            scripts = ScriptDirectory.from_config(config)
            if at is not None and at not in {script.revision for script in scripts.walk_revisions()}:
                raise DatabaseError(
                    f"the database is of a later version of callus ({at})", hint="install that version, or a newer one"
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _check_encoding(connection: sa.Connection) -> None:
    """Refuse a database that has no place for every name; a server that was set up without a language makes such ones.

    Raises:
        DatabaseError: it does not keep text as UTF-8.
    """
    encoding = connection.scalar(sa.text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise DatabaseError(
            f"the database keeps text as {encoding}; expected UTF8",
            hint="make another: createdb --encoding UTF8 --template template0 callus",
        )


def _hold(name: str) -> sa.Select[Any]:
    return sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0)))


@contextmanager
def _told() -> Iterator[None]:
    """Have it told apart why a database does not do what it was asked for, where that passes.

    Raises:
        AwayError: it is not reached, ends, has too many connections, or gave way to somebody else.
        FullError: its disk is full.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        if _is_full(error.orig):
            raise FullError("the disk is full", where="the database", hint="make room") from error
        if error.connection_invalidated or _passes(error):
            raise AwayError("the database does not answer just now", hint="try again") from error
        raise


def _passes(error: sa.exc.DBAPIError) -> bool:
    """Whether PostgreSQL may do another time what it did not do."""
    if isinstance(error.orig, sqlite3.Error):
        return False
    state = getattr(error.orig, "sqlstate", None)  # there is none where it was not reached
    return state.startswith(_POSTGRESQL_PASSES) if state else isinstance(error, sa.exc.OperationalError)


def _is_full(error: BaseException | None) -> bool:
    """Whether a database says that its disk is full."""
    code = getattr(error, "sqlite_errorcode", None)
    return code in _SQLITE_FULL or getattr(error, "sqlstate", None) == _POSTGRESQL_FULL


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where sqlite3 guesses
    for line in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",  # what was committed survives a power cut
        "PRAGMA foreign_keys=ON",
        f"PRAGMA busy_timeout={_BUSY_MS}",
        "PRAGMA secure_delete=ON",  # deleted means overwritten
    ):
        connection.execute(line)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes its lock at once: two that begin by reading and then write would both have to give up.
    options = connection.get_execution_options()
    reads, soon = options.get("callus_reads", False), options.get("callus_soon", False)
    if not reads and connection.info.get("callus_soon", False) != soon:
        connection.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if soon else 'FULL'}")
        connection.info["callus_soon"] = soon
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
