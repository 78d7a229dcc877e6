"""The network side of the DICOM node: pynetdicom's server, with bounds on what a peer can make it wait for and keep.

pynetdicom shakes TLS hands in the thread that accepts connections, waits for ever for the rest of a data unit, believes
any length and reads 4 KB at a time. Here a peer that says nothing costs a thread for some seconds, one that has hung up
costs none, a data unit has a time and a size, and bytes are taken as they come: each call gives the interpreter's lock
away, and while an answer is made it is got back only after some milliseconds.
"""

from __future__ import annotations

import ipaddress
import logging
import select
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from callus.service.certificates import shown_by
from callus.service.dicom_messages import BoundedMessages

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.presentation import PresentationContext
    from pynetdicom.transport import T_CONNECT

    from callus.service.dicom_messages import Room

LONGEST_PDU: Final = 1 << 20
"""Bytes of a protocol data unit that peers are told to send at most."""
_SLACK: Final = 64  # some count the header in
_CHUNK: Final = 1 << 20
_PDU_SECONDS: Final = 30.0  # in which a data unit that has begun has to end
_HANDSHAKE_SECONDS: Final = 10.0
_PART_SECONDS: Final = 20.0  # in which an association that is over has to end
_UNDECIDED: Final = 16  # connections of one machine that are no association yet: others still find a place
_MACHINE_BITS: Final = 64  # of an IPv6 address; with the other half a machine can do as it likes (RFC 8981)
log = logging.getLogger(__name__)


class ClosingSocket(AssociationSocket):
    """A connection that is closed when it ends: pynetdicom leaves it open where the peer was quicker, or not there."""

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect. A peer that takes nothing then holds nobody up for ever."""
        super().connect(primitive)
        if self.socket is not None:
            self.socket.settimeout(_PDU_SECONDS)

    def hang_up(self) -> None:
        """End it for both sides; whoever reads it finds out."""
        if (opened := self.socket) is not None:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    def _shutdown_socket(self) -> None:
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                self.socket.close()


class Client(ApplicationEntity):
    """What calls other nodes."""

    def _create_socket(self, assoc: Association, address: Any, tls_args: Any) -> AssociationSocket:
        assoc.dul.daemon = True  # the process ends without it
        made = ClosingSocket(assoc, address=address)
        made.tls_args = tls_args
        return made


class BoundedSocket(ClosingSocket):
    """A peer's connection: what has arrived is taken at once, and a data unit has a length and a time.

    Attributes:
        certificate: that the peer has shown; None for none.
    """

    def __init__(self, assoc: Association, client_socket: socket.socket) -> None:
        """Wrap an accepted socket."""
        super().__init__(assoc, client_socket=client_socket)
        self.certificate = shown_by(client_socket)
        self._held = bytearray()

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        if self._held:
            return True
        if self.socket is None or not self._is_connected:
            return False
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        try:
            poll = select.poll()  # and not select(), which knows no file descriptor beyond 1,023
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # PS3.8 9.2: the connection is closed
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Take so many bytes; fewer where the peer closed.

        Raises:
            OSError: they are too many, or do not come.
        """
        if nr_bytes > LONGEST_PDU + _SLACK:
            raise OSError(f"a data unit of {nr_bytes} bytes")
        ends = time.monotonic() + _PDU_SECONDS
        while len(self._held) < nr_bytes:
            if time.monotonic() > ends or self.socket is None:
                raise TimeoutError("a data unit does not end")
            part = self.socket.recv(_CHUNK)
            if not part:
                break
            self._held += part
        taken = self._held[:nr_bytes]
        del self._held[:nr_bytes]
        return taken


class BoundedProvider(DULServiceProvider):
    """What reads and writes a peer's connection. Once it has ended, however it did, nobody waits for it any more.

    pynetdicom waits for the request of a peer that has hung up as long as for one that says nothing, and foresees none
    that aborts just while it is answered.
    """

    def __init__(self, assoc: Association) -> None:
        """Begin.

        Args:
            assoc: whose it is, whose times are set.
        """
        super().__init__(assoc)
        self.daemon = True  # the process ends without it
        self.artim_timer.timeout = assoc.acse_timeout
        self._idle_timer.timeout = assoc.network_timeout

    def run_reactor(self) -> None:
        """Work until the association is over."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - a peer can send anything at any moment
            log.info("an association is ended: %s", type(error).__name__)
        finally:
            if isinstance(self.socket, ClosingSocket):
                self.socket.hang_up()
            no_more(self)


def no_more(provider: DULServiceProvider) -> None:
    """Let go who waits for a peer's request, as if the time for that had passed."""
    nothing: Any = None
    provider.to_user_queue.put(nothing)


def hang_up(association: Association) -> None:
    """Close an association's connection; its threads end by themselves."""
    opened = association.dul.socket
    if isinstance(opened, ClosingSocket):
        opened.hang_up()
    if not association.is_established:
        no_more(association.dul)


def part(association: Association, *, in_order: bool = True) -> None:
    """End an association that this side asked for.

    pynetdicom's release() waits for its own thread without a bound, and for an answer that cannot come any more where
    the peer has aborted meanwhile: it is called where all went well only, and in a thread, which is left to itself
    where it does not come back. Its abort() waits for the connection's state without a bound.

    Args:
        association: it, established or not.
        in_order: release it; else it is aborted, after what went wrong in it.
    """
    end = association.release if in_order else association.abort
    if association.is_established:
        ending = threading.Thread(target=end, name="dicom: end", daemon=True)
        ending.start()
        ending.join(_PART_SECONDS)
        if ending.is_alive():
            log.warning("an association does not end within %g s; its connection is closed", _PART_SECONDS)
    opened = association.dul.socket
    if isinstance(opened, ClosingSocket):
        opened.hang_up()


class _Handler(RequestHandler):
    """Makes an association of a connection."""

    server: BoundedServer

    def _create_association(self) -> Association:
        """As pynetdicom's, with bounds."""
        server = self.server
        assoc = Association(self.ae, MODE_ACCEPTOR)
        assoc._server = server  # noqa: SLF001 - pynetdicom sets it the same way
        assoc.name = f"AcceptorThread@{self.client_address[0]}"  # pynetdicom finds them by this name
        assoc.dul = BoundedProvider(assoc)
        assoc.dimse = BoundedMessages(assoc, server.room)
        assoc.set_socket(BoundedSocket(assoc, self.request))
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.acceptor.supported_contexts = list(server.contexts)
        assoc.requestor.address_info = self.remote
        handlers: dict[evt.EventType, Any] = server._handlers  # noqa: SLF001 - as above
        for event, bound in handlers.items():
            if event.is_intervention:
                assoc.bind(event, *bound)
            else:
                for handler, words in bound:
                    assoc.bind(event, handler, words)
        return assoc


class BoundedServer(ThreadedAssociationServer):
    """Accepts connections, not too many, and shakes hands where nobody else waits for it.

    Attributes:
        room: what messages may take.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        entity: ApplicationEntity,
        address: tuple[str, int],
        title: str,
        contexts: list[PresentationContext],
        _: None = None,
        *,
        room: Room,
        tls: ssl.SSLContext | None,
        heard: Callable[[str], bool],
        evt_handlers: list[evt.EventHandlerType],
    ) -> None:
        """Listen.

        Args:
            entity: pynetdicom's.
            address: where.
            title: what it is called.
            contexts: what may be proposed.
            _: pynetdicom's TLS context, which would shake hands where all others wait.
            room: what messages may take.
            tls: how to speak TLS; None for not at all.
            heard: whether an address may be that of a caller at all; others cost nothing more than being asked.
            evt_handlers: what is called.
        """
        self.room = room
        self._tls = tls
        self._heard = heard
        self._shaking: Counter[str] = Counter()  # by machine
        self._count = threading.Lock()
        super().__init__(entity, address, title, contexts, None, evt_handlers, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's signature
        """Whether a connection may become an association; else it is closed."""
        return self._heard(client_address[0])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin with a connection in a thread of its own, unless there are too many."""
        machine = _machine(client_address[0])
        with self._count:
            active = self.active_associations
            of_it = [one for one in active if not one.is_established and _machine(one.requestor.address) == machine]
            # One that is refused because of the associations' number has to be heard first: so twice as many.
            if (
                self._shaking.total() + len(active) >= 2 * self.ae.maximum_associations
                or self._shaking[machine] + len(of_it) >= _UNDECIDED
            ):
                request.close()
                return
            self._shaking[machine] += 1
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands and start the association."""
        try:
            request.settimeout(_HANDSHAKE_SECONDS)
            if self._tls is not None:
                request = self._tls.wrap_socket(request, server_side=True)
            request.settimeout(_PDU_SECONDS)
            with suppress(OSError):
                request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().finish_request(request, client_address)
        except OSError:
            request.close()
            raise
        finally:
            with self._count:
                self._shaking.subtract([_machine(client_address[0])])
                self._shaking += Counter()  # which keeps nothing of those that are through

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """A connection that did not become an association is no event."""
        log.info("a connection from %s did not become an association", client_address[0])

    def _bind_defaults(self) -> None:
        """As pynetdicom's, without its handlers that write down every data unit."""
        for event in evt._INTERVENTION_EVENTS:  # noqa: SLF001 - as above
            self.bind(event, evt.get_default_handler(event))


def _machine(address: str) -> str:
    """What connections of one machine have in common."""
    known = ipaddress.ip_address(address)
    if isinstance(known, ipaddress.IPv4Address) or known.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((int(known), _MACHINE_BITS), strict=False))
