"""Results on their way to the archives: by C-STORE or STOW-RS, again and again until they are there.

Sending twice is no harm: an answer's objects have the same UIDs whenever they are made, and an archive that has one
already has what was wanted.
"""

from __future__ import annotations

import json
import logging
import ssl
from contextlib import AbstractContextManager, closing, contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from pydicom.errors import InvalidDicomError

from callus.errors import CallusError
from callus.service import audit
from callus.service.dicomweb import CONNECT_SECONDS, Session, check_status, joined
from callus.service.jobs import DELIVER
from callus.service.tables import Answer, Job
from callus.service.worker import PeerError, StuckError, Worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pydicom.dataset import Dataset
    from pynetdicom.association import Association

    from callus.service.database import Database
    from callus.service.objects import ObjectStore
    from callus.service.settings import Destination, DicomNode

_TOGETHER: Final = 16  # jobs that one connection serves before others are looked for
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds that a destination that is not reached is left alone
_LONGEST_ANSWER: Final = 1 << 20
_ACSE_SECONDS, _DIMSE_SECONDS = 15.0, 120.0
_FAILED_SEQUENCE, _FAILURE_REASON = "00081198", "00081197"
_DUPLICATE: Final = 0x0111
_ACCEPTED: Final = (200, 202, 409)  # of STOW-RS those whose body says what became of each object (PS3.18 10.5.3)
_CONFLICT: Final = 409
log = logging.getLogger(__name__)


class Delivering:
    """Sends the results of answers: a thread a destination, so that none waits for another."""

    def __init__(
        self, database: Database, objects: ObjectStore, destinations: Sequence[Destination], node: DicomNode
    ) -> None:
        """Prepare it.

        Args:
            database: where the jobs are.
            objects: where the results are.
            destinations: where they go.
            node: what the service is called and which certificate it has, where it is asked for one.
        """
        self._routes = [Route(database, objects, one, node) for one in destinations]

    def start(self) -> None:
        """Begin to send."""
        for route in self._routes:
            route.start()

    def came(self) -> None:
        """Say that there may be something to send."""
        for route in self._routes:
            route.came.set()

    def stop(self) -> None:
        """End after what is being sent, and wait for that.

        Raises:
            StuckError: that takes too long.
        """
        for route in self._routes:
            route.stopping.set()
        stuck: list[StuckError] = []
        for route in self._routes:
            try:
                route.stop()
            except StuckError as error:
                stuck.append(error)
        if stuck:
            raise stuck[0]


class Connection(Protocol):
    """A connection to a destination."""

    def send(self, objects: Sequence[bytes]) -> None:
        """Send DICOM files; when it returns the destination has them all.

        Raises:
            PeerError: it does not take one.
        """


class Route(Worker):
    """The way to one destination."""

    def __init__(self, database: Database, objects: ObjectStore, destination: Destination, node: DicomNode) -> None:
        """Prepare it; ``start`` starts it."""
        only = Job.about["destination"].as_string() == destination.name
        super().__init__(database, DELIVER, name=f"deliver to {destination.name}", most=_TOGETHER, only=only)
        self.destination = destination
        self._objects = objects
        self._node = node
        self._pause = 0.0

    def work(self, taken: list[Job]) -> None:
        """Send what some jobs are about, over one connection."""
        wanted = {job.id: self._find(job) for job in taken}
        ready = [job for job in taken if wanted[job.id]]
        if not ready:
            return
        classes = {uid for job in ready for uid in wanted[job.id].values()}
        try:
            with connect(self.destination, self._node, classes) as connection:
                self._pause = 0.0
                for job in ready:
                    if self.stopping.is_set():
                        return  # the rest is put back
                    self._send(connection, job, list(wanted[job.id]))
        except PeerError as error:
            for job in ready:  # those that have ended do not change any more
                self.fail(job, error)
            if error.is_away:
                self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
                self.stopping.wait(self._pause)

    def _send(self, connection: Connection, job: Job, found: list[str]) -> None:
        try:
            connection.send([self._objects.get(sha256) for sha256 in found])
        except PeerError as error:
            if error.is_away:
                raise
            self.fail(job, error)
        except CallusError as error:  # a result is damaged on the disk
            self.fail(job, PeerError(error.what, is_final=True))
        else:
            self._end(job, "delivered")

    def _find(self, job: Job) -> dict[str, str]:
        """The objects that a job is about, by SHA-256, and their SOP classes; it ends where there are none any more."""
        from pydicom.filereader import read_file_meta_info  # noqa: PLC0415 - where nothing is delivered it need not be

        with self.database.reading() as session:
            answer = session.get(Answer, int(job.about["answer"]))
            results = dict(answer.results) if answer else {}
        found = [results[kind] for kind in self.destination.results if kind in results]
        if not found:
            self._end(job, "")
        try:
            paths = {sha256: self._objects.path(sha256) for sha256 in found}
            return {sha256: str(read_file_meta_info(path).MediaStorageSOPClassUID) for sha256, path in paths.items()}
        except (OSError, AttributeError, InvalidDicomError) as error:
            self.fail(job, PeerError(f"a result cannot be read ({type(error).__name__})", is_final=True))
            return {}

    def _end(self, job: Job, did: str) -> None:
        with self.database.writing() as session:
            if self.finish(session, job) and did:
                what = f"answer {job.about['answer']} to {self.destination.name}"
                audit.note(session, who="service", did=did, what=what)


def connect(destination: Destination, node: DicomNode, classes: Collection[str]) -> AbstractContextManager[Connection]:
    """Open a connection to a destination.

    Args:
        destination: where to.
        node: what the service is called, and its certificate.
        classes: SOP classes of what will be sent, which C-STORE agrees upon first.

    Raises:
        PeerError: there is none.
    """
    if destination.kind == "stow-rs":
        return closing(_ByStow(destination))
    return _by_c_store(destination, node, classes)


class _ByStow:
    """STOW-RS (PS3.18 10.5)."""

    def __init__(self, destination: Destination) -> None:
        self._url = f"{destination.url.rstrip('/')}/studies"
        self._session = Session(destination, longest=_LONGEST_ANSWER)

    def send(self, objects: Sequence[bytes]) -> None:
        """Send them in one request."""
        kind, body = joined(objects)
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        response = self._session.post(self._url, data=body, headers=headers)
        if response.status_code not in _ACCEPTED:
            check_status(response)
            return
        reasons = _failures(response.content)
        if reasons is None and response.status_code == _CONFLICT:
            raise PeerError("answers 409", is_final=True)
        refused: list[PeerError] = []
        for reason in reasons or ():
            try:
                check_c_store(reason)
            except PeerError as error:
                refused.append(error)
        check_refused(refused)

    def close(self) -> None:
        """End it."""
        self._session.close()


def _failures(body: bytes) -> list[int] | None:
    """Why objects were not kept, as C-STORE would say it; None where the answer does not tell."""
    try:
        answer = json.loads(body)
        said = answer[0] if isinstance(answer, list) else answer
        failed = said.get(_FAILED_SEQUENCE, {}).get("Value", [])
        return [int(one[_FAILURE_REASON]["Value"][0]) for one in failed]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


@contextmanager
def _by_c_store(destination: Destination, node: DicomNode, classes: Collection[str]) -> Iterator[Connection]:
    """C-STORE (PS3.4 B), over one association."""
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian  # noqa: PLC0415 - as above

    from callus.service.dicom_transport import Client, part  # noqa: PLC0415

    entity = Client(destination.calling_ae_title or node.ae_title)
    entity.connection_timeout, entity.acse_timeout = CONNECT_SECONDS, _ACSE_SECONDS
    entity.dimse_timeout = entity.network_timeout = _DIMSE_SECONDS
    for uid in classes:
        # Results are written in explicit VR; every system reads implicit VR (PS3.5 10.1).
        entity.add_requested_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    tls = _client_context(destination, node)
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            tls_args=None if tls is None else (tls, destination.host),
        )
    except OSError as error:  # its name is unknown
        raise PeerError(f"is not found ({type(error).__name__})", is_away=True) from error
    if not association.is_established:
        part(association)
        raise _refused(association)
    try:
        yield _ByCStore(association)
    except BaseException:
        part(association, in_order=False)
        raise
    part(association)


class _ByCStore:
    def __init__(self, association: Association) -> None:
        self._association = association

    def send(self, objects: Sequence[bytes]) -> None:
        """Send them one after the other; one that is refused costs no other."""
        refused: list[PeerError] = []
        for data in objects:
            try:
                self._one(_parsed(data))
            except PeerError as error:
                if error.is_away:
                    raise
                refused.append(error)
        check_refused(refused)

    def _one(self, data: Dataset) -> None:
        try:
            answer = self._association.send_c_store(data)
        except ValueError as error:
            raise PeerError(f"does not take this kind of object ({data.SOPClassUID.name})", is_final=True) from error
        except RuntimeError as error:  # there is no association any more
            raise PeerError("ended the association", is_away=True) from error
        if "Status" not in answer:
            raise PeerError("did not answer", is_away=True)
        check_c_store(int(answer.Status))


def check_refused(refused: Sequence[PeerError]) -> None:
    """Go on where nothing was refused.

    Raises:
        PeerError: why something was. What may be taken later comes before what never will be, so that it is sent again.
    """
    for error in sorted(refused, key=lambda one: one.is_final):
        raise error


def check_c_store(status: int) -> None:
    """Refuse a status that does not mean that the object is there (PS3.4 Table B.2-1, PS3.7 Annex C).

    Raises:
        PeerError: with the status, and whether another attempt can help: it can where resources lacked (A7xx) or
            something went wrong (0110), and not where the object (A9xx, Cxxx) or the sender (0122, 0124) is refused.
    """
    if status in (0x0000, _DUPLICATE) or 0xB000 <= status < 0xC000:  # noqa: PLR2004 - warnings
        return
    passes = 0xA700 <= status < 0xA800 or status == 0x0110  # noqa: PLR2004 - as the docstring says
    raise PeerError(f"answers {status:04X}", is_final=not passes)


def _refused(association: Association) -> PeerError:
    """Why there is no association."""
    said: Any = association.acceptor.primitive
    if said is not None and said.result == 0:  # it was accepted, but nothing that was proposed
        return PeerError("does not take this kind of object", is_final=True)
    if not association.is_rejected or said is None:
        return PeerError("does not answer, or not as a DICOM node does", is_away=True)
    reasons = {(1, 3): "does not know the service's AE title", (1, 7): "has another AE title"}
    reason = reasons.get((said.result_source, said.diagnostic), "refuses an association")
    return PeerError(reason, is_final=said.result == 1, is_away=said.result != 1)


def _client_context(destination: Destination, node: DicomNode) -> ssl.SSLContext | None:
    if not destination.authorities:
        return None
    try:
        context = ssl.create_default_context(cafile=destination.authorities)
        if node.certificate:
            context.load_cert_chain(node.certificate, node.key)
    except OSError as error:
        raise PeerError("its authorities, or the service's certificate, cannot be read", is_away=True) from error
    return context


def _parsed(data: bytes) -> Dataset:
    from pydicom import dcmread  # noqa: PLC0415 - as above

    return cast("Dataset", dcmread(BytesIO(data)))
