"""DICOMweb as a client: sessions that go to one place, wait and read for a bounded time, and follow no redirect."""

from __future__ import annotations

import base64
import re
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests

from callus.radiograph.limits import one_line
from callus.service.worker import PeerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callus.service.settings import Destination, Source

CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0  # between two parts of an answer
_ANSWER_SECONDS: Final = 600.0  # for all of it
_CHUNK: Final = 1 << 16
_REDIRECT, _ERROR, _BROKEN = 300, 400, 500
_PORTS: Final = {"http": 80, "https": 443}
_LATER: Final = (408, 425, 429)  # of the 4xx those that say: not now
_BOUNDARY: Final = re.compile(r'boundary="?([^";\s]{1,70})"?', re.IGNORECASE)  # RFC 2046 5.1.1
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750 2.1


class Session(requests.Session):
    """A session with one server."""

    def __init__(self, peer: Source | Destination, *, longest: int, within: float | None = None) -> None:
        """Open it.

        Args:
            peer: the server, and what is shown to it; nothing elsewhere is asked.
            longest: bytes of an answer.
            within: seconds that all of an answer may take; None for as long as large objects take.

        Raises:
            PeerError: the token or the password cannot be read.
        """
        super().__init__()
        self.trust_env = False  # no proxy, no .netrc, no authorities that the environment names
        self.verify = peer.authorities or True
        self._place = _place(peer.url)
        self._longest = longest
        self._within = within
        if peer.token_file:
            token = _secret(peer.token_file, "token").strip()
            if not _TOKEN.fullmatch(token):
                raise PeerError("its token file does not hold one bearer token")
            self.headers["Authorization"] = f"Bearer {token}"
        elif peer.user:
            password = _secret(peer.password_file, "password").rstrip("\r\n")
            if not password or not password.isprintable():
                raise PeerError("its password file does not hold one password")
            known = base64.b64encode(f"{peer.user}:{password}".encode())  # RFC 7617
            self.headers["Authorization"] = f"Basic {known.decode()}"

    def send(self, request: requests.PreparedRequest, **given: Any) -> requests.Response:
        """Send a request and read its answer, however requests would do it.

        Raises:
            PeerError: it would go elsewhere, is not answered in time, or the answer is a redirect or too long.
        """
        if _place(request.url or "") != self._place:
            raise PeerError("a request would go to another server", is_final=True)
        quiet = _READ_SECONDS if self._within is None else min(_READ_SECONDS, self._within)
        given |= {"timeout": (CONNECT_SECONDS, quiet), "allow_redirects": False, "stream": True}
        try:
            response = super().send(request, **given)
            with response:
                response._content = self._read(response)  # noqa: SLF001 - as requests does, but bounded
        except requests.exceptions.SSLError as error:
            raise PeerError("its TLS certificate is not accepted", is_away=True) from error
        except (requests.RequestException, OSError) as error:
            is_away = isinstance(error, requests.ConnectionError | requests.Timeout)
            raise PeerError(f"does not answer ({type(error).__name__})", is_away=is_away) from error
        if _REDIRECT <= response.status_code < _ERROR:
            raise PeerError("answers with a redirect, which is not followed", is_final=True)
        return response

    def _read(self, response: requests.Response) -> bytes:
        within = _ANSWER_SECONDS if self._within is None else self._within
        ends, read = time.monotonic() + within, bytearray()
        for part in response.iter_content(_CHUNK):
            read += part
            if len(read) > self._longest:
                raise PeerError(f"answers with more than {self._longest} bytes", is_final=True)
            if time.monotonic() > ends:
                raise PeerError("its answer does not end")
        return bytes(read)


def check_status(response: requests.Response) -> None:
    """Refuse an answer that is none.

    Raises:
        PeerError: with the status, and whether it may be another one later.
    """
    status = response.status_code
    if status >= _ERROR:
        raise PeerError(f"answers {status}", is_final=status < _BROKEN and status not in _LATER)


def joined(objects: Sequence[bytes]) -> tuple[str, bytes]:
    """DICOM files as one message (PS3.18 8.6.1.2): its content type and its body."""
    boundary = uuid.uuid4().hex
    parts = [
        part
        for data in objects
        for part in (f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(), data, b"\r\n")
    ]
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    return f'multipart/related; type="application/dicom"; boundary={boundary}', body


def apart(content_type: str, body: bytes) -> list[bytes]:
    """The parts of a message, without their headers.

    Raises:
        PeerError: it is no such message.
    """
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/related") or found is None:
        raise PeerError(f"answers with {one_line(content_type, 60) or 'an unknown type'}", is_final=True)
    mark = b"\r\n--" + found[1].encode("latin-1")
    parts = (b"\r\n" + body).split(mark)[1:]
    if not parts or not parts[-1].startswith(b"--"):
        raise PeerError("its answer ends early")
    return [content for _, split, content in (part.partition(b"\r\n\r\n") for part in parts[:-1]) if split]


def _place(url: str) -> tuple[str, str, int | None]:
    """What of an address says which server is meant: letters' case, and a port that goes without saying, do not."""
    address = urlsplit(url)  # it gives the scheme and the host in small letters
    return address.scheme, address.hostname or "", address.port or _PORTS.get(address.scheme)


def _secret(file: str, what: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PeerError(f"its {what} cannot be read") from error
