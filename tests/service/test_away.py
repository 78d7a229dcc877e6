"""A database that goes away and comes back: senders hear to come again, nothing is lost, and nothing ends with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from clinic import opened, radiograph, related
from pynetdicom import AE
from simulated_dicom import simulated

from callus.service.database import AwayError, Database
from callus.service.dicom_node import Node
from callus.service.settings import Caller, DicomNode
from callus.service.tables import Answer

RETRY = 0xA700  # Refused: Out of Resources


@contextmanager
def away(url: str) -> Iterator[None]:
    """Have PostgreSQL end all connections to a database during the block, and take none."""
    import psycopg

    server, _, name = url.rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_who_sends_meanwhile_is_told_to_come_again(
    on_postgresql: Callable[..., AbstractContextManager[str]], template: str, tmp_path: Path, tiny_bundle: Path
) -> None:
    node_settings = DicomNode(callers=(Caller(address="127.0.0.1"),))
    with (
        on_postgresql(template) as url,
        closing(Database(url)) as database,
        opened(tmp_path / "data", tiny_bundle, database) as clinic,
    ):
        clinic.parts.start()
        program = clinic.program("reader", "send")
        node = Node(node_settings, clinic.parts.intake, largest=8 << 20, came=clinic.parts.wake)
        node.start()
        entity = AE("ROOM1")
        sent = simulated(SOPInstanceUID="1.2.276.0.9.3")
        entity.add_requested_context(sent.SOPClassUID, sent.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", node.port, ae_title="CALLUS")
        try:
            with away(url):
                for answer in (
                    program.send(radiograph(1)),
                    program.ask("POST", "/dicom-web/studies", **related(radiograph(2))),
                    clinic.reader.get("/studies"),
                ):
                    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
                    assert "the database does not answer just now" in answer.text
                assert association.send_c_store(sent).Status == RETRY
                ready = clinic.nobody.get("/ready")
                assert (ready.status_code, ready.json()["checks"]["database"]) == (503, False)
            assert program.send(radiograph(1)).status_code == 202
            assert program.ask("POST", "/dicom-web/studies", **related(radiograph(2))).status_code == 200
            assert association.send_c_store(sent).Status == 0
        finally:
            association.release()
            node.stop()
        clinic.answer()
        assert len(clinic.rows(Answer)) == 3
        assert clinic.nobody.get("/ready").status_code == 200


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_transaction_that_ends_by_what_passes_is_told(database: Database) -> None:
    gives_way = "DO $$ BEGIN RAISE EXCEPTION 'two wait for each other' USING ERRCODE = 'deadlock_detected'; END $$"
    for statement in ("SELECT pg_terminate_backend(pg_backend_pid())", gives_way):
        for within in (database.reading, database.writing):
            with pytest.raises(AwayError), within() as session:
                session.execute(sa.text(statement))
    with database.reading() as session:
        assert session.scalar(sa.text("SELECT 1")) == 1
