"""Real callers send to the DICOM node: dcmtk's programs, pynetdicom, and some that keep no rules."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import subprocess
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import simulated_dicom
import sqlalchemy as sa
from certificates import Authority, Pair
from clinic import ON_SQLITE
from programs import dcmtk
from pydicom.uid import CTImageStorage, DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF

from callus.radiograph import codecs, elements
from callus.service import dicom_node, dicom_transport
from callus.service.database import Database
from callus.service.dicom_messages import Arriving, Room
from callus.service.dicom_node import CLASSES, SYNTAXES, Node, NodeError, plain_address
from callus.service.intake import Intake
from callus.service.objects import ObjectStore
from callus.service.settings import Caller, DicomNode
from callus.service.tables import Entry, Image, Job, Model, Study

HERE = Caller(address="127.0.0.1")
LARGEST = 8 << 20
OWN_SYNTAX = {"JPLL": "-xs", "JLSL": "-xt", "RLE": "-xr", "J2KR": "-xv", "J2KI": "-xw", "UNC": "-xe"}


@pytest.fixture
def database(database: Database) -> Database:
    """One with a model that answers."""
    with database.writing() as session:
        session.add(Model(name="tiny", digest="1" * 64, path="tiny", state="active"))
    return database


class Service:
    """A node and what it keeps."""

    def __init__(self, database: Database, objects: ObjectStore, node: Node) -> None:
        self.database, self.objects, self.node = database, objects, node

    @property
    def port(self) -> int:
        return self.node.port

    def images(self) -> list[Image]:
        with self.database.reading() as session:
            return list(session.scalars(sa.select(Image).order_by(Image.id)))

    def is_empty(self) -> bool:
        with self.database.reading() as session:
            rows = [session.scalar(sa.select(sa.func.count()).select_from(one)) for one in (Study, Image, Job, Entry)]
        return not any(rows) and not [file for file in self.objects.folder.rglob("*") if file.is_file()]


@pytest.fixture
def listening(database: Database, objects: ObjectStore) -> Iterator[Callable[..., Service]]:
    nodes: list[Node] = []

    def start(keep: ObjectStore = objects, largest: int = LARGEST, most: int = 50, **given: Any) -> Service:
        settings = DicomNode(**{"callers": (HERE,), **given})
        node = Node(settings, Intake(database, keep, waiting_most=most), largest=largest, came=lambda: None)
        node.start()
        nodes.append(node)
        return Service(database, keep, node)

    yield start
    for node in nodes:
        node.stop()


def store(service: Service, *files: Path, words: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [dcmtk("storescu"), "-v", *words, "-aec", "CALLUS", "127.0.0.1", str(service.port), *map(str, files)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def written(folder: Path, number: int = 1, **tags: Any) -> Path:
    file = folder / f"{number}.dcm"
    data = simulated_dicom.simulated(**{"SOPInstanceUID": f"1.2.276.0.9.{number}", **tags})
    data.save_as(file, enforce_file_format=True)
    return file


@contextmanager
def association(service: Service, contexts: list[Any], tls: tuple[ssl.SSLContext, str] | None = None) -> Iterator[Any]:
    entity = AE("ROOM1")
    for context in contexts:
        entity.add_requested_context(*context)
    opened = entity.associate("127.0.0.1", service.port, ae_title="CALLUS", tls_args=tls)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()
        if opened.dul.socket.socket is not None:  # pynetdicom leaves it open where there was no association
            opened.dul.socket.socket.close()


def send(service: Service, data: pydicom.Dataset, **given: Any) -> pydicom.Dataset:
    context = [(data.SOPClassUID, data.file_meta.TransferSyntaxUID)]
    with association(service, context, **given) as opened:
        assert opened.is_established
        return opened.send_c_store(data)


def until(done: Callable[[], object], seconds: float = 20) -> bool:
    ends = time.monotonic() + seconds
    while not done() and time.monotonic() < ends:
        time.sleep(0.02)
    return bool(done())


def test_what_was_uploaded_is_known_when_it_comes_in_another_encoding(
    listening: Callable[..., Service], tmp_path: Path
) -> None:
    service, file = listening(), written(tmp_path)
    for words, name in ((["dcmconv", "+ti"], "implicit"), (["dcmcrle"], "rle")):
        line = [dcmtk(words[0]), *words[1:], str(file), str(tmp_path / f"{name}.dcm")]
        subprocess.run(line, check=True, timeout=60)
    uploaded = (tmp_path / "implicit.dcm").read_bytes()
    taken = Intake(service.database, service.objects, waiting_most=50).take(uploaded, source="upload", sender="ada")
    for sent, words in ((file, ("-xe",)), (file, ("-xb",)), (tmp_path / "rle.dcm", ("-xr",))):
        done = store(service, sent, words=words)
        assert "Received Store Response (Success)" in done.stdout + done.stderr
    assert [image.id for image in service.images()] == [taken.image_id]
    other = store(service, written(tmp_path, PatientID="someone else"), words=("-xe",))
    assert "Status: 0x111" in other.stdout + other.stderr
    assert len(service.images()) == 1


def test_every_syntax_that_is_read_is_taken() -> None:
    assert set(SYNTAXES) == codecs.READ - {""}
    assert len(SYNTAXES) == len(set(SYNTAXES))


@ON_SQLITE
def test_real_radiographs_arrive_in_their_own_transfer_syntaxes(
    listening: Callable[..., Service], dicom_folder: Path
) -> None:
    service = listening()
    echo = [dcmtk("echoscu"), "-aec", "CALLUS", "127.0.0.1", str(service.port)]
    assert subprocess.run(echo, check=False, capture_output=True, timeout=60).returncode == 0

    files = sorted(dicom_folder.glob("*.dcm"))
    for file in files:
        done = store(service, file, words=("-R", OWN_SYNTAX[file.stem.split("_")[1]]))
        assert done.returncode == 0, done.stderr

    kept = {image.uid: image for image in service.images()}
    for file in files:
        theirs = pydicom.dcmread(file)
        image = kept.pop(theirs.SOPInstanceUID)
        mine = pydicom.dcmread(service.objects.path(image.sha256))
        assert mine.file_meta.TransferSyntaxUID == theirs.file_meta.TransferSyntaxUID
        assert mine.PixelData == theirs.PixelData
        assert (image.source, image.sender) == ("dicom", "STORESCU")
    assert not kept


@pytest.mark.parametrize("word", ["-xe", "-xi", "-xd"])
@ON_SQLITE
def test_uncompressed_radiographs_arrive_in_each_encoding(
    listening: Callable[..., Service], tmp_path: Path, word: str
) -> None:
    service = listening()
    file = written(tmp_path)
    assert store(service, file, words=("-R", word)).returncode == 0
    (image,) = service.images()
    kept = pydicom.dcmread(service.objects.path(image.sha256))
    assert np.array_equal(kept.pixel_array, pydicom.dcmread(file).pixel_array)
    expected = {"-xe": elements.EXPLICIT, "-xi": elements.IMPLICIT, "-xd": elements.DEFLATED}
    assert kept.file_meta.TransferSyntaxUID == expected[word]


@ON_SQLITE
def test_a_radiograph_arrives_in_big_endian(listening: Callable[..., Service]) -> None:
    service = listening()
    data = simulated_dicom.simulated()
    data.PixelData = simulated_dicom.stored_values().byteswap().tobytes()
    assert send_raw(service, encoded(data, little=False), elements.BIG_ENDIAN) == 0x0000
    (image,) = service.images()
    kept = pydicom.dcmread(service.objects.path(image.sha256))
    assert kept.file_meta.TransferSyntaxUID == elements.BIG_ENDIAN
    assert np.array_equal(kept.pixel_array, simulated_dicom.stored_values())


@pytest.mark.parametrize("kind", ["CR", "DX", "DX processing", "SC"])
def test_each_kind_of_radiograph_is_on_the_disk_before_it_is_acknowledged(
    listening: Callable[..., Service], kind: str
) -> None:
    service = listening()
    assert send(service, simulated_dicom.simulated(kind)).Status == 0x0000
    (image,) = service.images()
    assert service.objects.get(image.sha256)[128:132] == b"DICM"
    with service.database.reading() as session:
        assert [(entry.who, entry.did, entry.address) for entry in session.scalars(sa.select(Entry))] == [
            ("ROOM1", "sent", "127.0.0.1")
        ]


@ON_SQLITE
def test_other_kinds_are_not_negotiated(listening: Callable[..., Service]) -> None:
    service = listening()
    others = [(DigitalMammographyXRayImageStorageForPresentation,), (CTImageStorage,)]
    with association(service, [*others, (CLASSES[0],)]) as opened:
        assert [context.abstract_syntax for context in opened.accepted_contexts] == [CLASSES[0]]
        assert {context.result for context in opened.rejected_contexts} == {3}  # abstract syntax not supported


@ON_SQLITE
def test_what_loses_nothing_is_chosen_where_several_are_offered(listening: Callable[..., Service]) -> None:
    offered = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.90"]
    with association(listening(), [(CLASSES[0], offered)]) as opened:
        assert opened.accepted_contexts[0].transfer_syntax == ["1.2.840.10008.1.2.4.90"]


@pytest.mark.parametrize(
    ("callers", "called", "said"),
    [
        ((Caller("ROOM2", "127.0.0.1"),), "CALLUS", (1, 1, 3)),
        ((HERE,), "PACS", (1, 1, 7)),
    ],
)
@ON_SQLITE
def test_who_may_not_send_is_told_why(
    listening: Callable[..., Service], callers: tuple[Caller, ...], called: str, said: tuple[int, int, int]
) -> None:
    service = listening(callers=callers)
    assert refusal(service, called) == said
    assert service.is_empty()


@pytest.mark.parametrize(
    "callers",
    [(), (Caller(address="10.1.0.0/16"),), (Caller("ROOM2", "10.1.0.1"), Caller(address="127.0.0.2"))],
)
@ON_SQLITE
def test_who_is_where_no_caller_is_is_not_heard(
    listening: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    callers: tuple[Caller, ...],
) -> None:
    monkeypatch.setattr(dicom_node, "_ARTIM_SECONDS", 3600.0)
    service = listening(callers=callers)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as peer:
            assert not peer.recv(1)  # closed, and not after an hour
    assert not active(service)
    assert "refused a DICOM connection of 127.0.0.1" in caplog.text
    assert service.is_empty()


@ON_SQLITE
def test_one_machine_that_says_nothing_keeps_nobody_out(
    listening: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_node, "_ARTIM_SECONDS", 3600.0)
    service = listening(callers=(Caller(address="127.0.0.0/8"),))
    count = 2 * dicom_node._ASSOCIATIONS + 1
    with ExitStack() as open_ones:
        silent = [
            open_ones.enter_context(
                socket.create_connection(("127.0.0.1", service.port), source_address=("127.0.0.2", 0))
            )
            for _ in range(count)
        ]

        def closed() -> int:
            return len(select.select(silent, [], [], 0)[0])

        assert until(lambda: closed() >= count - dicom_transport._UNDECIDED)
        assert send(service, simulated_dicom.simulated()).Status == 0x0000
        assert closed() < count
    assert until(lambda: not active(service))


def test_a_machine_is_counted_by_its_half_of_an_address() -> None:
    machine = dicom_transport._machine
    assert machine("fe80::1") == machine("fe80::2:3:4:5") != machine("fe80:0:0:1::1")
    assert machine("10.1.2.3") != machine("10.1.2.4")
    assert machine("::ffff:10.1.2.3") != machine("::ffff:10.1.2.4")


@ON_SQLITE
def test_too_many_associations_are_told_to_come_later(
    listening: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_node, "_ASSOCIATIONS", 2)
    service = listening()
    with association(service, [(CLASSES[0],)]), association(service, [(CLASSES[0],)]):
        assert refusal(service) == (2, 3, 2)
    assert until(lambda: refusal(service) is None)


def test_the_same_object_twice_is_one_job_and_another_of_its_uid_is_refused(
    listening: Callable[..., Service],
) -> None:
    service = listening()
    data = simulated_dicom.simulated()
    assert [send(service, data).Status for _ in range(2)] == [0x0000, 0x0000]
    data.PatientID = "someone else"
    answer = send(service, data)
    assert answer.Status == 0x0111
    assert "someone" not in str(answer)
    assert len(service.images()) == 1


def test_an_object_that_came_otherwise_is_the_same_in_other_file_meta_information(
    listening: Callable[..., Service], database: Database, objects: ObjectStore
) -> None:
    service = listening()
    data = simulated_dicom.simulated()
    assert send(service, data).Status == 0x0000
    data.file_meta.ImplementationVersionName = "ANOTHER"
    again = Intake(database, objects, waiting_most=50).take(as_file(data), source="stow", sender="archive")
    assert not again.is_new


def test_a_full_disk_and_a_long_queue_answer_out_of_resources(
    listening: Callable[..., Service], tmp_path: Path
) -> None:
    full = listening(keep=ObjectStore(tmp_path / "full", keep_free=1 << 60))
    assert send(full, simulated_dicom.simulated()).Status == 0xA700
    assert full.is_empty()

    busy = listening(most=1)
    assert send(busy, simulated_dicom.simulated()).Status == 0x0000
    assert send(busy, simulated_dicom.simulated(SOPInstanceUID="1.2.276.0.9.2")).Status == 0xA700
    assert len(busy.images()) == 1


def test_what_is_no_radiograph_is_refused_for_its_reason(listening: Callable[..., Service]) -> None:
    service = listening()
    no_radiograph = simulated_dicom.simulated(Modality="CT")
    no_pixels = simulated_dicom.simulated()
    del no_pixels.PixelData
    for data in (no_radiograph, no_pixels, simulated_dicom.simulated(StudyInstanceUID=None)):
        answer = send(service, data)
        assert answer.Status == 0xA900
        assert "Doe" not in answer.ErrorComment
    other = encoded(simulated_dicom.simulated(SOPInstanceUID="1.2.276.0.9.9"))
    assert send_raw(service, other) == 0xA900
    assert send_raw(service, struct.pack("<HH2sHIHHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF, 8, 1, 0)) == 0xC000
    assert service.is_empty()


def test_an_object_that_is_too_large_is_refused_and_the_next_one_is_taken(listening: Callable[..., Service]) -> None:
    service = listening(largest=1 << 20)
    large = simulated_dicom.simulated(pixels=np.zeros((1200, 1000), np.uint16))
    with association(service, [(large.SOPClassUID, ExplicitVRLittleEndian)]) as opened:
        answer = opened.send_c_store(large)
        assert (answer.Status, answer.ErrorComment) == (0xC000, "is larger than 1048576 bytes")
        assert service.is_empty()
        assert opened.send_c_store(simulated_dicom.simulated()).Status == 0x0000
    assert len(service.images()) == 1


@ON_SQLITE
def test_a_deflated_bomb_does_not_go_off(listening: Callable[..., Service]) -> None:
    service = listening()
    bomb = simulated_dicom.simulated()
    bomb.PixelData = bytes(16 * LARGEST)
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(encoded(bomb)) + packer.flush()
    assert 50 * len(packed) < LARGEST
    del bomb
    tracemalloc.start()
    assert send_raw(service, packed, elements.DEFLATED) == 0xC000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * LARGEST
    assert service.is_empty()


@ON_SQLITE
def test_deflated_objects_are_looked_at_one_at_a_time(
    listening: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, most = threading.Barrier(2), []

    def parse(data: bytes, **given: Any) -> elements.Elements:
        with suppress(threading.BrokenBarrierError):  # which nobody joins while another one is in
            together.wait(1)
            most.append(2)
        return elements.parse(data, **given)

    monkeypatch.setattr(dicom_node, "parse", parse)
    service = listening()
    packed = []
    for number in (1, 2):
        data = simulated_dicom.simulated(SOPInstanceUID=f"1.2.276.0.1.{number}")
        data.file_meta.TransferSyntaxUID = elements.DEFLATED
        packed.append(data)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda data: send(service, data).Status, packed))
    assert answers == [0x0000, 0x0000]
    assert not most


def test_what_arrives_at_once_has_a_bound() -> None:
    room = Room(each=100, together=150)
    first, second = Arriving(room), Arriving(room)
    first.write(bytes(90))
    second.write(bytes(60))
    second.write(bytes(1))
    assert (second.no_room, second.too_large, second.getvalue()) == (True, False, b"")
    first.write(bytes(10))
    assert first.getvalue() == bytes(100)
    first.write(bytes(1))
    assert (first.too_large, first.no_room, first.getvalue()) == (True, False, b"")
    third = Arriving(room)
    third.write(bytes(100))
    assert len(third.getvalue()) == 100


@pytest.mark.parametrize("ends", ["abort", "connection"])
def test_an_association_that_ends_within_an_object_leaves_nothing(listening: Callable[..., Service], ends: str) -> None:
    service = listening()
    data = simulated_dicom.simulated(pixels=np.zeros((1200, 1000), np.uint16))
    with association(service, [(data.SOPClassUID, ExplicitVRLittleEndian)]) as opened:
        units = data_units(opened, encoded(data), of=16_384)
        for unit in units[: len(units) // 2]:
            opened.dul.socket.send(unit)
        assert until(lambda: any(assoc.dimse.message for assoc in active(service)))
        if ends == "abort":
            opened.abort()
        else:
            opened.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        assert until(lambda: not active(service))
    assert service.is_empty()
    assert send(service, data).Status == 0x0000


@ON_SQLITE
def test_a_peer_that_says_nothing_or_too_much_is_sent_away(
    listening: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_node, "_ARTIM_SECONDS", 0.3)
    monkeypatch.setattr(dicom_transport, "_PDU_SECONDS", 0.3)
    monkeypatch.setattr(dicom_transport, "_HANDSHAKE_SECONDS", 0.3)
    service = listening()
    silent, slow, endless = (socket.create_connection(("127.0.0.1", service.port)) for _ in range(3))
    slow.sendall(b"\x01\x00\x00\x00\x01")  # not even a data unit's length
    endless.sendall(b"\x04\x00\xff\xff\xff\xff")
    for peer in (silent, slow, endless):
        peer.settimeout(10)
        with suppress(ConnectionResetError):
            assert not peer.recv(100)[:1].strip(b"\x07")  # closed, or aborted before
        peer.close()
    assert until(lambda: not active(service))
    assert send(service, simulated_dicom.simulated()).Status == 0x0000


@ON_SQLITE
def test_a_peer_that_hangs_up_has_no_place_any_more(
    listening: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_node, "_ARTIM_SECONDS", 3600.0)
    service = listening()
    for said in (b"", b"\x01\x00\x00"):
        for _ in range(2 * dicom_node._ASSOCIATIONS):  # beyond these nobody is heard
            with socket.create_connection(("127.0.0.1", service.port)) as peer:
                peer.sendall(said)
        assert until(lambda: not active(service))
        assert send(service, simulated_dicom.simulated()).Status == 0x0000


@ON_SQLITE
def test_a_peer_that_breaks_the_rules_while_it_is_answered_is_sent_away(
    listening: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at, broken = threading.Event(), threading.Event()

    def admitted(_: Node, opened: Any) -> bool:
        """Admit it at the moment when it asks for the second time, which is none of the moments to do so."""

        def hold(event: evt.Event) -> None:
            if event.next_state == "Sta13":  # PS3.8 9.2: what is still to come is the connection's end
                broken.set()
                assert until(opened.dul.to_provider_queue.qsize)

        opened.bind(evt.EVT_FSM_TRANSITION, hold)
        looked_at.set()
        assert broken.wait(60)
        return False

    service = listening()
    with association(service, [(CLASSES[0],)]) as good:
        asking = good.requestor.primitive
        assert asking is not None
        unit = A_ASSOCIATE_RQ()
        unit.from_primitive(asking)
        monkeypatch.setattr(Node, "_refused", admitted)
        with socket.create_connection(("127.0.0.1", service.port)) as peer:
            peer.settimeout(60)
            peer.sendall(unit.encode())
            assert looked_at.wait(60)
            peer.sendall(unit.encode())
            with suppress(ConnectionResetError):
                while peer.recv(4096):
                    pass
        assert until(lambda: len(active(service)) == 1)
        monkeypatch.undo()
        assert good.is_established
    assert send(service, simulated_dicom.simulated()).Status == 0x0000


@ON_SQLITE
def test_broken_messages_end_their_association_only(listening: Callable[..., Service]) -> None:
    service = listening()
    with association(service, [(CLASSES[0],)]) as good:
        for unit in (command(b"\0" * 40, last=True), *[command(b"\1" * 30_000, last=False)] * 3):
            with association(service, [(CLASSES[0],)]) as opened:
                opened.dul.socket.send(unit)
                opened.dul.socket.send(unit)
                opened.dul.socket.send(unit)
                assert until(lambda one=opened: not one.is_established)
        assert good.is_established
    assert service.is_empty()


@ON_SQLITE
def test_an_association_that_is_idle_ends(listening: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_node, "_IDLE_SECONDS", 0.3)
    with association(listening(), [(CLASSES[0],)]) as opened:
        assert until(lambda: not opened.is_established)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@ON_SQLITE
def test_by_tls_a_certificate_is_asked_for_and_dcmtk_has_one(
    listening: Callable[..., Service], authority: Authority, tmp_path: Path
) -> None:
    service = listening(**tls(authority), callers=(Caller(),))
    theirs = authority.give("room1")
    words = ("+tls", str(theirs.key), str(theirs.certificate), "+cf", str(authority.file))
    done = store(service, written(tmp_path), words=words)
    assert done.returncode == 0, done.stderr
    assert len(service.images()) == 1

    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").give("room1")
    words = ("+tls", str(stranger.key), str(stranger.certificate), "+cf", str(authority.file))
    assert store(service, written(tmp_path, 2), words=words).returncode != 0
    anonymous = client(authority, None), "localhost"
    with association(service, [(CLASSES[0],)], tls=anonymous) as opened:
        assert not opened.is_established
    with association(service, [(CLASSES[0],)]) as opened:  # in the clear
        assert not opened.is_established
    assert len(service.images()) == 1


@pytest.mark.parametrize("by", ["name", "sha256"])
def test_a_certificate_belongs_to_its_caller_and_stands_in_the_audit_log(
    listening: Callable[..., Service], authority: Authority, by: str
) -> None:
    room1, room2, both = authority.give("room1"), authority.give("room2"), authority.give("room1", "room2")
    as_openssl_writes = ":".join(room1.sha256[at : at + 2] for at in range(0, 64, 2)).upper()
    wanted = {"certificate_name": "room1"} if by == "name" else {"certificate_sha256": as_openssl_writes}
    service = listening(**tls(authority), callers=(Caller("ROOM1", **wanted),))

    for theirs in (room2, both):  # of the same authority, under the title of another
        with association(service, [(CLASSES[0],)], tls=(client(authority, theirs), "localhost")) as opened:
            assert opened.is_rejected
    given = client(authority, room1), "localhost"
    assert send(service, simulated_dicom.simulated(), tls=given).Status == 0x0000

    (image,) = service.images()
    with service.database.reading() as session:
        log = [(entry.who, entry.did, entry.address, entry.what) for entry in session.scalars(sa.select(Entry))]
    assert log == [
        ("ROOM1", "refused", "127.0.0.1", f"an association, certificate SHA-256 {room2.sha256} (room2)"),
        ("ROOM1", "refused", "127.0.0.1", f"an association, certificate SHA-256 {both.sha256} ()"),
        ("ROOM1", "sent", "127.0.0.1", f"image {image.id}, certificate SHA-256 {room1.sha256} (room1)"),
    ]


@ON_SQLITE
def test_a_caller_with_a_certificate_needs_its_title_and_address_too(
    listening: Callable[..., Service], authority: Authority
) -> None:
    theirs = authority.give("room1")
    given = client(authority, theirs), "localhost"
    for caller in (
        Caller("ROOM2", certificate_sha256=theirs.sha256),
        Caller("ROOM1", "10.1.0.0/16", certificate_name="room1"),
        Caller("ROOM1", "127.0.0.1", certificate_name="room1", certificate_sha256="0" * 64),
    ):
        callers = (caller, Caller("ROOM9", "127.0.0.1"))  # so that who is here is heard
        with association(listening(**tls(authority), callers=callers), [(CLASSES[0],)], tls=given) as opened:
            assert opened.is_rejected
    assert not Caller(certificate_name="room1").admits("ROOM1", "127.0.0.1", None)


@ON_SQLITE
def test_a_caller_that_cannot_be_looked_at_may_not_send(
    listening: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(address: str) -> str:
        raise ValueError(address)

    service = listening()
    monkeypatch.setattr(dicom_node, "plain_address", broken)
    assert refusal(service) == (1, 1, 3)


@ON_SQLITE
def test_nobody_waits_for_a_peer_that_does_not_shake_hands(
    listening: Callable[..., Service], authority: Authority
) -> None:
    service = listening(**tls(authority))
    silent = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(4)]
    given = client(authority, authority.give("room1")), "localhost"
    assert send(service, simulated_dicom.simulated(), tls=given).Status == 0x0000
    for peer in silent:
        peer.close()


@ON_SQLITE
def test_what_cannot_listen_says_so(listening: Callable[..., Service], tmp_path: Path, authority: Authority) -> None:
    first = listening()
    with pytest.raises(NodeError, match="cannot listen for DICOM"):
        listening(port=first.port)
    with pytest.raises(NodeError, match="cannot be used"):
        listening(**{**tls(authority), "key": str(tmp_path / "none.key")})


def test_an_address_is_the_same_in_both_forms() -> None:
    assert plain_address("::ffff:10.1.2.3") == "10.1.2.3"
    assert plain_address("10.1.2.3") == "10.1.2.3"
    assert plain_address("fe80::1") == "fe80::1"


@ON_SQLITE
def test_a_node_ends_while_callers_are_there(listening: Callable[..., Service]) -> None:
    service = listening()
    server = service.node._server
    assert server is not None
    address = ("127.0.0.1", service.port)
    with (
        socket.create_connection(address),
        socket.create_connection(address) as half,
        association(service, [(CLASSES[0],)]) as opened,
    ):
        half.sendall(b"\x01\x00\x00")
        assert until(lambda: len(server.active_associations) == 3)
        service.node.stop()
        assert not server.active_associations
        assert until(lambda: not opened.is_established)
    assert not [thread for thread in threading.enumerate() if thread.name == "dicom-node" and thread.is_alive()]


def tls(authority: Authority) -> dict[str, str]:
    own = authority.give("callus")
    return {
        "certificate": str(own.certificate),
        "key": str(own.key),
        "client_authorities": str(authority.file),
    }


def client(authority: Authority, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def active(service: Service) -> list[Association]:
    server = service.node._server
    return [] if server is None else server.active_associations


def refusal(service: Service, called: str = "CALLUS") -> tuple[int, int, int] | None:
    """Result, source and reason of an A-ASSOCIATE-RJ; None where the association is accepted."""
    entity = AE("ROOM1")
    entity.add_requested_context(CLASSES[0])
    opened = entity.associate("127.0.0.1", service.port, ae_title=called)
    if opened.is_established:
        opened.release()
        return None
    assert opened.is_rejected
    said = opened.acceptor.primitive
    return said.result, said.result_source, said.diagnostic


def encoded(data: pydicom.Dataset, *, little: bool = True) -> bytes:
    return encode(data, False, little) or b""


def as_file(data: pydicom.Dataset) -> bytes:
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def data_units(opened: Association, data: bytes, of: int) -> list[bytes]:
    """A C-STORE request of a data set as the data units that carry it."""
    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID = opened.accepted_contexts[0].abstract_syntax
    request.AffectedSOPInstanceUID = "1.2.276.0.1.1"
    request.DataSet = BytesIO(data)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    units = []
    for part in message.encode_msg(opened.accepted_contexts[0].context_id, of):
        unit = P_DATA_TF()
        unit.from_primitive(part)
        units.append(unit.encode())
    return units


def send_raw(service: Service, data: bytes, syntax: str = ExplicitVRLittleEndian) -> int:
    """Send bytes as the data set of a DX radiograph; the status."""
    with association(service, [(CLASSES[1], syntax)]) as opened:
        opened._reactor_checkpoint.clear()  # the answer is ours to take
        assert until(lambda: opened._is_paused)
        for unit in data_units(opened, data, of=16_384):
            opened.dul.socket.send(unit)
        _, answer = opened.dimse.get_msg(block=True)
        opened._reactor_checkpoint.set()
        return int(answer.Status)


def command(part: bytes, *, last: bool) -> bytes:
    """A data unit with a part of a message's command."""
    value = struct.pack(">IBB", len(part) + 2, 1, 3 if last else 1) + part
    return struct.pack(">BBI", 4, 0, len(value)) + value
