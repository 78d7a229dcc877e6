"""Results reach the archive: a real Orthanc by C-STORE and STOW-RS, and peers that fail in each way."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import simulated_dicom
import sqlalchemy as sa
from certificates import Authority
from orthanc import TITLE, Orthanc, running
from programs import free_port
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from callus.service import delivery, dicom_transport, dicomweb, jobs
from callus.service import worker as worker_module
from callus.service.answering import Answering
from callus.service.checks import check
from callus.service.database import Database
from callus.service.delivery import Delivering, check_c_store
from callus.service.dicom_node import Node
from callus.service.dicomweb import Session, apart, joined
from callus.service.intake import Intake
from callus.service.jobs import DELIVER
from callus.service.models import Models
from callus.service.objects import ObjectStore
from callus.service.settings import (
    Caller,
    Destination,
    DicomNode,
    Settings,
    SettingsError,
    Source,
    load_settings,
)
from callus.service.tables import Answer, Entry, Job, Model, now
from callus.service.worker import PeerError, StuckError, Worker

STUDY = "1.2.276.0.8.1"
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # what the database does not matter to
REPORTS = (ComprehensiveSRStorage, Comprehensive3DSRStorage)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc")) as one:
        yield one


@pytest.fixture
def archive(orthanc: Orthanc) -> Orthanc:
    orthanc.clear()
    return orthanc


def with_a_spot() -> np.ndarray:
    values = np.full((150, 120), 400, np.uint16)
    values[40:90, 30:70] = 3900
    return values


def until(done: Callable[[], Any], seconds: float = 30) -> bool:
    ends = time.monotonic() + seconds
    while not done() and time.monotonic() < ends:
        time.sleep(0.05)
    return bool(done())


def all_jobs(database: Database, kind: str = DELIVER) -> list[Job]:
    with database.reading() as session:
        return list(session.scalars(sa.select(Job).where(Job.kind == kind).order_by(Job.id)))


@contextmanager
def delivering(
    database: Database, objects: ObjectStore, *destinations: Destination, node: DicomNode | None = None
) -> Iterator[Delivering]:
    sender = Delivering(database, objects, destinations, node or DicomNode())
    sender.start()
    try:
        yield sender
    finally:
        sender.stop()


class Answered:
    """A database with answers whose results wait for their delivery."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self.database, self.objects, self.count = database, objects, 0
        with database.writing() as session:
            session.add(Model(id=1, name="tiny", digest="1" * 64, path="tiny", state="active"))

    def add(self, *destinations: str, **results: bytes) -> int:
        """An answer's number."""
        self.count += 1
        data = simulated_dicom.as_bytes(simulated_dicom.simulated(SOPInstanceUID=f"1.2.276.0.9.{self.count}"))
        taken = Intake(self.database, self.objects, waiting_most=500).take(data, source="upload", sender="ada")
        kept = {kind: self.objects.put(data) for kind, data in results.items()}
        with self.database.writing() as session:
            answer = Answer(
                image_id=taken.image_id, model_id=1, probability=0.9, level="fracture", boxes=[], cautions=[],
                engine="onnx", results=kept,
            )  # fmt: skip
            session.add(answer)
            session.flush()
            for name in destinations:
                about = {"answer": answer.id, "destination": name}
                jobs.add(session, DELIVER, f"{answer.id} {name}", image_id=answer.image_id, about=about)
            return answer.id


@pytest.fixture
def answered(database: Database, objects: ObjectStore) -> Answered:
    return Answered(database, objects)


def polylines(item: Any) -> list[np.ndarray]:
    """The regions of a structured report: (points, 2), column and row."""
    found = []
    for one in item.get("ContentSequence", ()):
        if one.get("GraphicType") == "POLYLINE":
            found.append(np.reshape(one.GraphicData, (-1, 2)))
        found.extend(polylines(one))
    return found


def as_file(data: Dataset) -> bytes:
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def result(number: int = 1, **tags: Any) -> bytes:
    """A small object of a kind that results are of."""
    uids = {"SOPInstanceUID": f"1.2.276.0.7.{number}", "StudyInstanceUID": STUDY}
    return as_file(simulated_dicom.simulated("SC", **uids, **tags))


def test_a_study_sent_by_the_archive_comes_back_with_its_findings_at_their_places(
    database: Database, objects: ObjectStore, tmp_path: Path, tiny_bundle: Path, archive: Orthanc
) -> None:
    models = Models(database, tmp_path / "models", threads=1)
    models.begin_with(str(tiny_bundle))
    pacs = Destination("pacs", ae_title=TITLE, host="127.0.0.1", port=archive.dicom, results=("sr", "sc", "pr"))
    intake = Intake(database, objects, waiting_most=50)
    node = Node(DicomNode(callers=(Caller(TITLE, "127.0.0.1"),)), intake, largest=8 << 20, came=lambda: None)
    node.start()
    sent = simulated_dicom.simulated(pixels=with_a_spot(), StudyInstanceUID=STUDY)
    study = archive.put(as_file(sent))
    archive.know("callus", "CALLUS", node.port)

    with delivering(database, objects, pacs) as sender:
        answering = Answering(database, objects, models, (pacs,), lambda _: sender.came())
        answering.start()
        archive.rest("POST", "/modalities/callus/store", [study])
        assert until(lambda: [job.state for job in all_jobs(database)] == ["done"])
        answering.stop()
    node.stop()

    held = {one.SOPClassUID: one for one in archive.objects(STUDY)}
    assert len(held) == 4
    assert SecondaryCaptureImageStorage in held
    assert GrayscaleSoftcopyPresentationStateStorage in held
    (report,) = (one for uid, one in held.items() if uid in REPORTS)
    with database.reading() as session:
        (answer,) = session.scalars(sa.select(Answer))
        assert [(entry.who, entry.did) for entry in session.scalars(sa.select(Entry))] == [
            (TITLE, "sent"),
            ("service", "delivered"),
        ]
    assert answer.boxes
    drawn = polylines(report)
    assert len(drawn) == len(answer.boxes)
    for corners, box in zip(drawn, answer.boxes, strict=True):
        assert corners.min(axis=0) == pytest.approx([box["x"], box["y"]], rel=1e-6)
        assert corners.max(axis=0) == pytest.approx([box["x"] + box["width"], box["y"] + box["height"]], rel=1e-6)
    middle = np.mean(drawn[0][:4], axis=0)
    assert 30 < middle[0] < 70
    assert 40 < middle[1] < 90


def test_results_arrive_by_stow_and_twice_is_no_harm(answered: Answered, archive: Orthanc) -> None:
    answered.add("web", sr=result(1), sc=result(2))
    web = Destination("web", kind="stow-rs", url=archive.web)
    with delivering(answered.database, answered.objects, web):
        assert until(lambda: [job.state for job in all_jobs(answered.database)] == ["done"])
    assert {one.SOPInstanceUID for one in archive.objects(STUDY)} == {"1.2.276.0.7.1", "1.2.276.0.7.2"}

    # As if it had been killed between the archive's answer and its own note of it; and by the other way.
    answered.add("web", "pacs", sr=result(1), sc=result(2))
    pacs = Destination("pacs", ae_title=TITLE, host="127.0.0.1", port=archive.dicom)
    with delivering(answered.database, answered.objects, web, pacs):
        assert until(lambda: {job.state for job in all_jobs(answered.database)} == {"done"})
    assert len(archive.objects(STUDY)) == 2


class Peer:
    """A DICOM node that answers C-STORE as it is told, and counts."""

    def __init__(self, port: int = 0, syntax: str = ExplicitVRLittleEndian, **given: Any) -> None:
        self.statuses: list[int] = []  # what is answered first; afterwards success
        self.associations, self.taken = 0, list[str]()
        self._entity = AE("PACS")
        self._entity.require_called_aet = True
        self._entity.add_supported_context(SecondaryCaptureImageStorage, syntax)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_ACCEPTED, self._count)]
        self._server = self._entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, **given)
        self.port = int(self._server.server_address[1])

    def _store(self, event: Any) -> int:
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status == 0x0000:
            self.taken.append(event.dataset.SOPInstanceUID)
        return status

    def _count(self, _: Any) -> None:
        self.associations += 1

    def destination(self, name: str = "pacs", **given: Any) -> Destination:
        return Destination(
            name, **{"ae_title": "PACS", "host": "127.0.0.1", "port": self.port, "results": ("sc",), **given}
        )

    def stop(self) -> None:
        self._entity.shutdown()


@pytest.fixture
def peers() -> Iterator[Callable[..., Peer]]:
    started: list[Peer] = []

    def start(**given: Any) -> Peer:
        started.append(Peer(**given))
        return started[-1]

    yield start
    for peer in started:
        peer.stop()


def test_one_association_serves_all_that_wait(answered: Answered, peers: Callable[..., Peer]) -> None:
    peer = peers()
    for number in range(5):
        answered.add("pacs", sc=result(number))
    with delivering(answered.database, answered.objects, peer.destination()):
        assert until(lambda: {job.state for job in all_jobs(answered.database)} == {"done"})
    assert (peer.associations, len(peer.taken)) == (1, 5)


@ON_SQLITE
def test_an_archive_that_reads_implicit_vr_only_is_served(answered: Answered, peers: Callable[..., Peer]) -> None:
    peer = peers(syntax=ImplicitVRLittleEndian)
    answered.add("pacs", sc=result())
    with delivering(answered.database, answered.objects, peer.destination()):
        assert until(lambda: peer.taken == ["1.2.276.0.7.1"])


@ON_SQLITE
@pytest.mark.parametrize(
    ("status", "state"),
    [(0x0000, "done"), (0x0111, "done"), (0xB007, "done"), (0xA700, "waiting"), (0x0110, "waiting"), (0xA900, "stuck"),
     (0xC000, "stuck"), (0x0124, "stuck")],
)  # fmt: skip
def test_what_an_archive_answers_decides_what_comes_next(
    answered: Answered, peers: Callable[..., Peer], status: int, state: str
) -> None:
    peer = peers()
    peer.statuses = [status]
    answered.add("pacs", sc=result(1))
    answered.add("pacs", sc=result(2))  # which does not suffer from it
    with delivering(answered.database, answered.objects, peer.destination()):
        assert until(lambda: peer.taken[-1:] == ["1.2.276.0.7.2"])
        assert until(lambda: [job.state for job in all_jobs(answered.database)] == [state, "done"])
    first = all_jobs(answered.database)[0]
    assert first.error == ("" if state == "done" else f"answers {status:04X}")
    assert (first.due > now()) == (state != "done")


@ON_SQLITE
def test_what_is_refused_for_good_is_stuck_at_once(answered: Answered, peers: Callable[..., Peer]) -> None:
    peer = peers()
    for number, name in enumerate(("title", "kind", "damaged")):
        answered.add(name, sc=result(number), sr=result(99, SOPClassUID=ComprehensiveSRStorage))
    routes = [
        peer.destination("title", ae_title="ANOTHER"),
        peer.destination("kind", results=("sr",)),
        peer.destination("damaged"),
    ]
    with answered.database.reading() as session:
        damaged = session.get_one(Answer, 3).results["sc"]
    place = answered.objects.path(damaged)
    place.write_bytes(place.read_bytes()[:-2])
    with delivering(answered.database, answered.objects, *routes):
        assert until(lambda: {job.state for job in all_jobs(answered.database)} == {"stuck"})
    assert {job.about["destination"]: job.error for job in all_jobs(answered.database)} == {
        "title": "has another AE title",
        "kind": "does not take this kind of object",
        "damaged": "is damaged on the disk",
    }
    with answered.database.writing() as session:  # once somebody has seen to it
        assert jobs.retry(session, [all_jobs(answered.database)[0].id]) == 1
    with delivering(answered.database, answered.objects, peer.destination("title")):
        assert until(lambda: all_jobs(answered.database)[0].state == "done")


@ON_SQLITE
@pytest.mark.parametrize("order", [("sr", "sc"), ("sc", "sr")])
def test_what_an_archive_takes_it_gets_though_it_refuses_the_rest(
    answered: Answered, peers: Callable[..., Peer], order: tuple[str, ...]
) -> None:
    peer = peers()  # of secondary captures
    peer.statuses = [0xA700]
    answered.add("pacs", sr=result(1, SOPClassUID=ComprehensiveSRStorage), sc=result(2))
    with delivering(answered.database, answered.objects, peer.destination(results=order)):
        assert until(
            lambda: [(job.state, job.error) for job in all_jobs(answered.database)] == [("waiting", "answers A700")]
        )
        with answered.database.writing() as session:
            session.execute(sa.update(Job).values(due=now()))
        assert until(lambda: [job.state for job in all_jobs(answered.database)] == ["stuck"])
    assert all_jobs(answered.database)[0].error == "does not take this kind of object (Comprehensive SR Storage)"
    assert peer.taken == ["1.2.276.0.7.2"]


def test_a_destination_that_is_down_blocks_no_other_and_gets_its_results_later(
    answered: Answered, peers: Callable[..., Peer]
) -> None:
    peer, port = peers(), free_port()
    for number in range(3):
        answered.add("down", "pacs", sc=result(number))
    down = Destination("down", ae_title="PACS", host="127.0.0.1", port=port, results=("sc",))
    with delivering(answered.database, answered.objects, down, peer.destination()):
        assert until(lambda: len(peer.taken) == 3)
        assert until(lambda: len([job for job in all_jobs(answered.database) if job.error]) == 3)
        failed = [job for job in all_jobs(answered.database) if job.about["destination"] == "down"]
        assert {(job.state, job.error) for job in failed} == {
            ("waiting", "does not answer, or not as a DICOM node does")
        }
        later = peers(port=port)
        with answered.database.writing() as session:
            session.execute(sa.update(Job).values(due=now()))
        assert until(lambda: len(later.taken) == 3)


@ON_SQLITE
def test_a_peer_that_takes_all_and_says_nothing_is_left(answered: Answered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_ACSE_SECONDS", 0.3)
    answered.add("pacs", sc=result())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silently = Destination("pacs", ae_title="PACS", host="127.0.0.1", port=silent.getsockname()[1], results=("sc",))
        with delivering(answered.database, answered.objects, silently):
            assert until(lambda: all_jobs(answered.database)[0].error.startswith("does not answer"))
    assert all_jobs(answered.database)[0].state == "waiting"


@ON_SQLITE
def test_an_association_that_ends_midway_loses_nothing(answered: Answered, peers: Callable[..., Peer]) -> None:
    peer = peers()
    for number in range(3):
        answered.add("pacs", sc=result(number))
    told = threading.Event()

    def abort(event: Any) -> None:
        if len(peer.taken) == 2 and not told.is_set():
            told.set()
            event.assoc.abort()

    peer._server.bind(evt.EVT_DIMSE_RECV, abort)
    with delivering(answered.database, answered.objects, peer.destination()):
        assert until(told.is_set)
        assert until(lambda: {job.state for job in all_jobs(answered.database)} == {"done", "waiting"})
        with answered.database.writing() as session:
            session.execute(sa.update(Job).values(due=now()))
        assert until(lambda: {job.state for job in all_jobs(answered.database)} == {"done"})
    assert set(peer.taken) == {"1.2.276.0.7.0", "1.2.276.0.7.1", "1.2.276.0.7.2"}


@ON_SQLITE
def test_by_tls_the_archive_has_to_be_who_it_is_and_sees_who_sends(
    answered: Answered, peers: Callable[..., Peer], tmp_path: Path
) -> None:
    authority, own = Authority(tmp_path), Authority(tmp_path, "other")
    theirs, ours = authority.give("pacs"), authority.give("callus")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.certificate, theirs.key)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    peer = peers(ssl_context=context)
    answered.add("good", "other", sc=result())
    routes = [
        peer.destination("good", authorities=str(authority.file)),
        peer.destination("other", authorities=str(own.file)),
    ]
    node = DicomNode(certificate=str(ours.certificate), key=str(ours.key))
    with delivering(answered.database, answered.objects, *routes, node=node):
        assert until(lambda: [bool(job.error) or job.state for job in all_jobs(answered.database)] == ["done", True])
    assert len(peer.taken) == 1


class Web(ThreadingHTTPServer):
    """A web server that answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.status, self.body, self.headers = 200, b"[]", dict[str, str]()
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web"


class _Answers(BaseHTTPRequestHandler):
    server: Web

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.shutdown()
    server.server_close()


def failed(*reasons: int) -> bytes:
    values = [{"00081197": {"vr": "US", "Value": [reason]}} for reason in reasons]
    return json.dumps({"00081198": {"vr": "SQ", "Value": values}}).encode()


@ON_SQLITE
@pytest.mark.parametrize(
    ("status", "body", "state", "said"),
    [
        (200, b"{}", "done", ""),
        (409, failed(0x0111), "done", ""),
        (202, failed(0xA700), "waiting", "answers A700"),
        (409, failed(0xC000), "stuck", "answers C000"),
        (409, failed(0xC000, 0xA700), "waiting", "answers A700"),
        (409, b"<html>", "stuck", "answers 409"),
        (503, b"", "waiting", "answers 503"),
        (429, b"", "waiting", "answers 429"),
        (401, b"", "stuck", "answers 401"),
        (307, b"", "stuck", "answers with a redirect, which is not followed"),
        (200, bytes(2 << 20), "stuck", "answers with more than 1048576 bytes"),
    ],
)
def test_what_a_web_archive_answers_decides_what_comes_next(
    answered: Answered, web: Web, status: int, body: bytes, state: str, said: str
) -> None:
    web.status, web.body = status, body
    if status == 307:
        web.headers["Location"] = "http://127.0.0.1:1/elsewhere"
    answered.add("web", sc=result())
    with delivering(answered.database, answered.objects, Destination("web", kind="stow-rs", url=web.url)):
        assert until(lambda: [(job.state, job.error) for job in all_jobs(answered.database)] == [(state, said)])
    assert len(web.asked) == 1


@ON_SQLITE
def test_the_token_goes_along_and_into_no_log(
    answered: Answered, web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret-token\n")
    caplog.set_level("DEBUG")
    web.status = 503
    answered.add("web", sc=result(1), sr=result(2))
    route = Destination("web", kind="stow-rs", url=web.url, token_file=str(token))
    with delivering(answered.database, answered.objects, route):
        assert until(lambda: all_jobs(answered.database)[0].error)
    ((path, headers, body),) = web.asked
    assert path == "/dicom-web/studies"
    assert headers["Authorization"] == "Bearer s3cret-token"
    assert apart(headers["Content-Type"], body) == [result(2), result(1)]
    assert "s3cret" not in caplog.text
    assert "Doe" not in caplog.text

    token.write_text("two\nlines")
    with answered.database.writing() as session:
        session.execute(sa.update(Job).values(due=now()))
    with delivering(answered.database, answered.objects, route):
        assert until(lambda: "bearer token" in all_jobs(answered.database)[0].error)
    assert len(web.asked) == 1


@ON_SQLITE
def test_a_password_goes_along_and_into_no_log(
    answered: Answered, web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret: \u00fc\n", encoding="utf-8")
    caplog.set_level("DEBUG")
    answered.add("web", sc=result(1))
    route = Destination("web", kind="stow-rs", url=web.url, user="callus", password_file=str(password))
    with delivering(answered.database, answered.objects, route):
        assert until(lambda: all_jobs(answered.database)[0].state == "done")
    ((_, headers, _),) = web.asked
    assert headers["Authorization"] == "Basic " + b64encode("callus:s3cret: \u00fc".encode()).decode()
    assert "s3cret" not in caplog.text

    answered.add("web", sc=result(2))
    password.unlink()
    with delivering(answered.database, answered.objects, route):
        assert until(lambda: all_jobs(answered.database)[1].error == "its password cannot be read")


@ON_SQLITE
def test_capitals_in_an_address_mean_the_same_server(answered: Answered, web: Web) -> None:
    answered.add("web", sc=result())
    route = Destination("web", kind="stow-rs", url=web.url.replace("http://127.0.0.1", "HTTP://LocalHost"))
    with delivering(answered.database, answered.objects, route):
        assert until(lambda: [(job.state, job.error) for job in all_jobs(answered.database)] == [("done", "")])


@pytest.mark.parametrize(
    ("url", "asked", "is_same"),
    [
        ("https://Archive.Example/dicom-web", "https://archive.example:443/", True),
        ("https://archive.example:8443/", "https://archive.example/", False),
        ("https://archive.example/", "http://archive.example:443/", False),
        ("https://archive.example/", "https://archive.example.evil.example/", False),
        ("https://archive.example/", "https://archive.example@evil.example/", False),
    ],
)
def test_only_the_server_that_was_named_is_asked(url: str, asked: str, is_same: bool) -> None:
    with Session(Source("one", url), longest=100) as session:
        session.mount("https://", Reached())
        session.mount("http://", Reached())
        said = "does not answer" if is_same else "another server"
        with pytest.raises(PeerError, match=said):
            session.get(asked)


class Reached(requests.adapters.BaseAdapter):
    """What a request comes to that goes out; nothing leaves the machine."""

    def send(self, *_: Any, **__: Any) -> requests.Response:
        raise requests.ConnectionError

    def close(self) -> None:
        pass


@ON_SQLITE
def test_by_https_the_archive_has_to_be_who_it_is(answered: Answered, web: Web, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    theirs = authority.give("pacs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.certificate, theirs.key)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    answered.add("good", "other", sc=result())
    url = web.url.replace("http:", "https:")
    good = Destination("good", kind="stow-rs", url=url, authorities=str(authority.file))
    with delivering(answered.database, answered.objects, good, Destination("other", kind="stow-rs", url=url)):
        assert until(
            lambda: (
                [(job.state, job.error) for job in all_jobs(answered.database)]
                == [("done", ""), ("waiting", "its TLS certificate is not accepted")]
            )
        )
    assert len(web.asked) == 1


@ON_SQLITE
def test_what_nobody_thought_of_costs_one_attempt(database: Database) -> None:
    class Broken(Worker):
        def work(self, taken: list[Job]) -> None:
            raise ZeroDivisionError("Doe^Jane")

    with database.writing() as session:
        jobs.add(session, DELIVER, "1")
    worker = Broken(database, DELIVER, name="broken", most=1)
    worker.start()
    assert until(lambda: all_jobs(database)[0].error)
    worker.stop()
    assert (all_jobs(database)[0].state, all_jobs(database)[0].error) == ("waiting", "ZeroDivisionError")


@ON_SQLITE
def test_a_job_without_end_does_not_hold_up_the_end_of_the_service(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over = threading.Event(), threading.Event()

    class Endless(Worker):
        def work(self, taken: list[Job]) -> None:
            begun.set()
            over.wait(60)

    monkeypatch.setattr(worker_module, "STOP_SECONDS", 0.2)
    with database.writing() as session:
        jobs.add(session, DELIVER, "1")
    worker = Endless(database, DELIVER, name="endless", most=1)
    worker.start()
    assert begun.wait(30)
    with pytest.raises(StuckError, match=r"endless does not end within 0\.2 s"):
        worker.stop()
    over.set()
    worker.join(30)
    assert not worker.is_alive()
    Endless(database, DELIVER, name="never started", most=1).stop()


@pytest.mark.parametrize("in_order", [True, False])
def test_an_association_that_does_not_end_is_left(
    peers: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch, in_order: bool
) -> None:
    monkeypatch.setattr(dicom_transport, "_PART_SECONDS", 0.2)
    peer, over = peers(), threading.Event()
    entity = dicom_transport.Client("CALLUS")
    entity.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", peer.port, ae_title="PACS")
    assert association.is_established
    assert association.dul.daemon
    monkeypatch.setattr(association, "release" if in_order else "abort", lambda: over.wait(60))
    dicom_transport.part(association, in_order=in_order)
    over.set()
    assert until(lambda: not association.is_alive())  # its connection is closed


def test_a_session_goes_nowhere_else_and_waits_for_nothing_endless(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(Source("one", web.url), longest=100) as session:
        with pytest.raises(PeerError, match="another server") as caught:
            session.get("http://127.0.0.1:1/")
        assert caught.value.is_final
        monkeypatch.setattr(dicomweb, "_ANSWER_SECONDS", -1.0)
        with pytest.raises(PeerError, match="does not end"):
            session.get(web.url)
        assert len(web.asked) == 1


def test_messages_are_put_together_and_taken_apart() -> None:
    kind, body = joined([b"one\r\n", b"\r\n--two"])
    assert apart(kind, body) == [b"one\r\n", b"\r\n--two"]
    for broken in (body[:-6], b"", b"nothing"):
        with pytest.raises(PeerError, match="ends early"):
            apart(kind, broken)
    with pytest.raises(PeerError, match="answers with text/html"):
        apart("text/html", body)


def test_a_status_is_success_a_warning_or_has_a_reason() -> None:
    for status in (0x0000, 0x0111, 0xB000, 0xB007):
        check_c_store(status)
    for status, is_final in ((0xA700, False), (0x0110, False), (0xA900, True), (0xC123, True), (0x0122, True)):
        with pytest.raises(PeerError) as caught:
            check_c_store(status)
        assert caught.value.is_final == is_final


def test_sources_are_checked_as_destinations_are(tmp_path: Path) -> None:
    file = tmp_path / "callus.toml"
    file.write_text('[[sources]]\nname = "archive"\nurl = "https://pacs.example/dicom-web"\n')
    settings = load_settings(file, data=tmp_path)
    assert settings.source("archive") == Source("archive", "https://pacs.example/dicom-web")
    assert settings.source("other") is None
    for sources, said in (
        ((Source("a", "http://pacs.example/"),), "in the clear"),
        ((Source("a", "file:///etc/passwd"),), "expected an http"),
        ((Source("a", "https://b"), Source("a", "https://c")), "two sources have one name"),
        ((Source("a", "https://ada:secret@b"),), "holds a name and a password"),
        ((Source("a", "https://b:port"),), "expected an http"),
        ((Source("a", "https://b", user="ada"),), "user needs password_file"),
        ((Source("a", "https://b", "token", "ada", "password"),), "a token and a password"),
        ((Source("a", "https://b", "", "a:b", "password"),), "holds a colon"),
    ):
        with pytest.raises(SettingsError, match=said):
            check(Settings(tmp_path, sources=sources))
