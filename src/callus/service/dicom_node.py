"""The DICOM node: C-ECHO, and C-STORE of radiographs by the callers that may send them.

0x0000 is answered when the object is on the disk and its job in the database, and not before. What arrives is kept as
it arrived: its data set is not decoded and encoded again.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when it is asked for

from callus.errors import CallusError, RadiographError
from callus.radiograph.dicom import stated_identity
from callus.radiograph.elements import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, parse
from callus.radiograph.limits import one_line
from callus.service.database import AwayError
from callus.service.dicom_messages import Arriving, Room
from callus.service.dicom_transport import LONGEST_PDU, BoundedServer, BoundedSocket, hang_up
from callus.service.intake import BusyError, ConflictError
from callus.service.objects import FullError
from callus.service.settings import Caller
from callus.service.worker import ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from callus.service.certificates import Certificate
    from callus.service.intake import Intake
    from callus.service.settings import DicomNode

CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray, for processing
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
)
SYNTAXES: Final = (
    EXPLICIT,
    IMPLICIT,
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K lossless, resolutions in order
    "1.2.840.10008.1.2.5",  # RLE
    DEFLATED,
    BIG_ENDIAN,
    "1.2.840.10008.1.2.4.81",  # JPEG-LS
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.55",  # JPEG full progression
    "1.2.840.10008.1.2.4.53",  # JPEG spectral selection
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
)
"""All that are read. A caller that offers several gets the first of them: what loses nothing comes before what does."""

SUCCESS: Final = 0x0000
_FAILED: Final = 0x0110  # Processing Failure (PS3.7 C.5.3)
_ASSOCIATIONS: Final = 32
_ARTIM_SECONDS: Final = 10.0  # for a peer to say what it wants (PS3.8 9.1.5)
_IDLE_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0  # for what is being kept when the node ends
_TOGETHER: Final = 2  # as many of the largest objects may be in the memory at once
_LONGEST_COMMENT: Final = 64  # Error Comment is of VR LO
log = logging.getLogger(__name__)


class NodeError(CallusError):
    """The DICOM node cannot listen."""


class _NotUnderstoodError(CallusError):
    """What arrived is no data set, or is too large to look."""


_STATUSES: Final[dict[type[CallusError], int]] = {
    _NotUnderstoodError: 0xC000,  # Cannot Understand
    RadiographError: 0xA900,  # Data Set Does Not Match SOP Class
    ConflictError: 0x0111,  # Duplicate SOP Instance
    AwayError: 0xA700,  # Refused: Out of Resources; worth sending again
    BusyError: 0xA700,
    FullError: 0xA700,
}
"""What C-STORE answers (PS3.4 Table B.2-1, PS3.7 Annex C) where an object is not kept."""


class Node:
    """A DICOM node that listens; its threads are its own."""

    def __init__(self, settings: DicomNode, intake: Intake, *, largest: int, came: Callable[[], None]) -> None:
        """Prepare it; :meth:`start` starts it.

        Args:
            settings: how it listens, and to whom.
            intake: where radiographs go.
            largest: bytes of one object.
            came: called after a radiograph came.
        """
        self._settings = settings
        self._intake = intake
        self._came = came
        self._room = Room(largest, _TOGETHER * largest)
        self._server: BoundedServer | None = None
        self._entity = AE(settings.ae_title)
        self._entity.require_called_aet = True
        self._entity.maximum_associations = _ASSOCIATIONS
        self._entity.maximum_pdu_size = LONGEST_PDU
        self._entity.acse_timeout = _ARTIM_SECONDS
        self._entity.network_timeout = _IDLE_SECONDS

    @property
    def port(self) -> int:
        """The port that it listens at; 0 before it does."""
        return 0 if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Listen.

        Raises:
            NodeError: the port is taken or may not be listened at, or the certificate cannot be used.
        """
        settings = self._settings
        tls = server_context(settings)
        try:
            server = self._entity.make_server(
                (settings.host, settings.port),
                contexts=contexts(),
                evt_handlers=[(evt.EVT_REQUESTED, self._admit), (evt.EVT_C_STORE, self._store)],
                server_class=BoundedServer,
                room=self._room,
                tls=tls,
                heard=self._may_come,
            )
        except (OSError, OverflowError) as error:
            where = f"{settings.host}:{settings.port}"
            raise NodeError(f"cannot listen for DICOM: {error}", where=where, hint="choose another port") from error
        self._server = server  # type: ignore[assignment]  # of the class that was asked for
        self._entity._servers.append(server)  # noqa: SLF001 - shutdown() takes it out
        threading.Thread(target=server.serve_forever, args=(0.2,), name="dicom-node", daemon=True).start()

    def stop(self) -> None:
        """Take no more, let what is being kept be kept, and end.

        Raises:
            StuckError: it goes on accepting connections.
        """
        server, self._server = self._server, None
        if server is None:
            return
        # It waits without a bound until the server's thread has seen that it is to end.
        stopping = threading.Thread(target=server.shutdown, name="dicom-node: shutdown", daemon=True)
        stopping.start()
        ended(stopping)
        left = server.active_associations
        for association in left:
            if association.is_established:
                association.abort(block=False)
            else:
                hang_up(association)
        ends = time.monotonic() + _STOP_SECONDS
        for association in left:
            association.join(max(0.0, ends - time.monotonic()))
            if association.is_alive():
                hang_up(association)

    def _may_come(self, address: str) -> bool:
        """Whether any caller can be at an address, whatever it says there."""
        try:
            plain = plain_address(address)
            heard = any(Caller(address=caller.address).admits("", plain) for caller in self._settings.callers)
        except ValueError:  # what is raised here would end all listening; :meth:`_admit` refuses it
            return True
        if not heard:
            log.warning("refused a DICOM connection of %s, where no caller is", plain)
        return heard

    def _admit(self, event: evt.Event) -> None:
        """Send away who may not send (PS3.8 Table 9-21: permanent, by the service's user, title not recognized)."""
        association = event.assoc
        try:
            refused = self._refused(association)
        except Exception as error:  # noqa: BLE001 - what is raised here pynetdicom writes down, and goes on to accept
            log.error("a DICOM association cannot be looked at: %s", type(error).__name__)  # noqa: TRY400
            refused = True
        if refused:
            association.acse.send_reject(1, 1, 3)
            association.kill()

    def _refused(self, association: Association) -> bool:
        """Whether an association is of none of the callers; who showed a certificate all the same is written down."""
        asked: Any = association.requestor.primitive
        title = str(asked.calling_ae_title).strip()
        address, certificate = plain_address(association.requestor.address), certificate_of(association)
        if any(caller.admits(title, address, certificate) for caller in self._settings.callers):
            return False
        log.warning("refused a DICOM association of %s at %s", one_line(title, 16), address)
        if certificate is not None:
            self._intake.note_refused(title, address, str(certificate))
        return True

    def _store(self, event: evt.Event) -> Dataset:
        """Answer C-STORE."""
        request: Any = event.request
        status, said = SUCCESS, ""
        try:
            self._keep(event, request)
        except CallusError as error:
            status, said = _STATUSES.get(type(error), _FAILED), error.what
        except Exception as error:  # noqa: BLE001 - its text may quote what the database was told
            log.error("C-STORE failed: %s", type(error).__name__)  # noqa: TRY400
            status, said = _FAILED, "the service failed; send it again"
        finally:
            if isinstance(request.DataSet, Arriving):
                request.DataSet.let_go()
        if status == SUCCESS:
            self._came()
        return _answer(status, said)

    def _keep(self, event: evt.Event, request: Any) -> None:
        """Take an object in.

        Raises:
            CallusError: of a kind that :data:`_STATUSES` has the status of.
        """
        arriving = request.DataSet
        if arriving.no_room:
            raise BusyError("too much arrives at once; send it again later")
        if arriving.too_large:
            raise _NotUnderstoodError(f"is larger than {self._room.each} bytes")
        data = event.encoded_dataset()
        try:
            with self._intake.turn(data):
                stated = stated_identity(parse(data, most=self._room.each))
        except RadiographError as error:
            raise _NotUnderstoodError(error.what) from error
        announced = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        if (stated.sop_class_uid, stated.sop_instance_uid) != announced:
            raise RadiographError("its SOP class or instance is not the one that was announced")
        peer = event.assoc.requestor
        certificate = certificate_of(event.assoc)
        self._intake.take(
            data,
            source="dicom",
            sender=peer.ae_title.strip(),
            address=plain_address(peer.address),
            proof=str(certificate or ""),
        )


def contexts() -> list[PresentationContext]:
    """What a caller may propose."""
    return [build_context(Verification), *(build_context(uid, list(SYNTAXES)) for uid in CLASSES)]


def certificate_of(association: Association) -> Certificate | None:
    """The certificate that an association's caller has shown; None where it was asked for none."""
    connection = association.dul.socket
    return connection.certificate if isinstance(connection, BoundedSocket) else None


def plain_address(address: str) -> str:
    """A peer's IP address, without the form that IPv4 has on an IPv6 socket."""
    mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    return str(mapped or address)


def server_context(node: DicomNode) -> ssl.SSLContext | None:
    """How the node speaks TLS; None where it does not.

    Raises:
        NodeError: a certificate or key cannot be used.
    """
    if not node.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # PS3.15 B.9: BCP 195
    try:
        context.load_cert_chain(node.certificate, node.key)
        if node.client_authorities:
            context.load_verify_locations(node.client_authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # what ssl raises is one too
        raise NodeError(
            f"the DICOM certificate, its key or client_authorities cannot be used: {error.strerror or error}",
            where=node.certificate,
        ) from error
    return context


def _answer(status: int, said: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    if said:
        answer.ErrorComment = one_line(said, _LONGEST_COMMENT).encode("ascii", "replace").decode()
    return answer
