"""What the listener that ``callus serve`` starts makes of raw connections."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from clinic import API, Clinic, opened, radiograph
from listening import listening, raw
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from callus.service import listening as module
from callus.service import protocol
from callus.service.tables import Entry

GET = b"GET /api/v1/health HTTP/1.1\r\nHost: callus.test\r\n"
FORGED = b"X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Proto: https\r\n"
CLOSE = b"Connection: close\r\n\r\n"


@pytest.fixture
def clinic(tmp_path: Path, tiny_bundle: Path) -> Iterator[Clinic]:
    with opened(tmp_path / "data", tiny_bundle) as clinic:
        yield clinic


@pytest.mark.parametrize("begun", [b"", b"GET", GET, b"POST /api/v1/login HTTP/1.1\r\nContent-Length: 9\r\n"])
def test_a_connection_that_asks_for_nothing_is_closed(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 0.4)
    with listening(clinic) as address:
        at = time.monotonic()
        assert raw(address, begun).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - at < 10  # of the 15 s that a connection is kept otherwise
    assert module._KEEP_ALIVE == 15


def test_no_answer_says_what_serves(clinic: Clinic) -> None:
    with listening(clinic) as address:
        for head in (GET, GET.replace(b"health", b"nothing"), GET.replace(b"GET", b"\x00")):
            got = raw(address, head + CLOSE).lower()
            assert got.startswith(b"http/1.1 ")
            assert b"\r\nserver:" not in got
            assert b"uvicorn" not in got


def test_nobody_says_by_a_header_where_they_are(clinic: Clinic) -> None:
    (taken,) = clinic.sent(radiograph())
    cookie = f"Cookie: callus_session={clinic.reader.cookie}\r\n".encode()
    saw = f"GET {API}/studies/{taken['study']} HTTP/1.1\r\nHost: callus.test\r\n".encode()
    body = b'{"name": "ada", "password": "a wrong password"}'
    login = f"POST {API}/login HTTP/1.1\r\nHost: callus.test\r\nContent-Type: application/json\r\n".encode()
    login += f"Content-Length: {len(body)}\r\n".encode()
    with listening(clinic) as address:
        got = raw(address, saw + cookie + FORGED + CLOSE)
        assert got.startswith(b"HTTP/1.1 200")
        assert b"strict-transport-security" not in got  # nor how they came
        assert raw(address, login + FORGED + CLOSE + body).startswith(b"HTTP/1.1 401")
    addresses = {entry.address for entry in clinic.rows(Entry, Entry.did.in_(["saw", "failed to log in"]))}
    assert addresses == {"127.0.0.1"}
    failures = set(clinic.parts.throttle._failures)
    assert ("address", "127.0.0.1") in failures
    assert not [key for key in failures if "6.6.6.6" in key[1]]


def test_there_are_only_so_many_connections(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.configuration(clinic.served, clinic.settings).limit_concurrency == 1000
    monkeypatch.setattr(module, "_CONNECTIONS", 3)
    with listening(clinic) as address, ExitStack() as others:
        for _ in range(3):
            others.enter_context(socket.create_connection(address))
        assert raw(address, GET + CLOSE).startswith(b"HTTP/1.1 503")
        others.close()
        ends = time.monotonic() + 20
        while not raw(address, GET + CLOSE).startswith(b"HTTP/1.1 200"):
            assert time.monotonic() < ends
            time.sleep(0.05)


def test_a_long_head_is_refused(clinic: Clinic) -> None:
    with listening(clinic) as address:
        assert raw(address, GET + b"X: " + b"y" * (24 << 10), b"\r\n" + CLOSE).startswith(b"HTTP/1.1 200")
        assert raw(address, GET + b"X: " + b"y" * (40 << 10)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["login", "nothing", "radiographs"])
@pytest.mark.parametrize("more", [b"", b"Content-Length: 5\r\n"])
def test_a_body_that_is_no_http_has_one_answer(
    clinic: Clinic, caplog: pytest.LogCaptureFixture, path: str, more: bytes
) -> None:
    token = clinic.program("reader", "send")._client.headers["Authorization"]
    head = f"POST {API}/{path} HTTP/1.1\r\nHost: callus.test\r\nAuthorization: {token}\r\n".encode() + more
    head += b"Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with listening(clinic) as address:
        for sent in ([head + b"no length\r\n"], [head, b"no length\r\n"]):
            got = raw(address, *sent)
            assert got.startswith(b"HTTP/1.1 4")
            assert got.count(b"HTTP/1.1 ") == 1
        assert raw(address, GET + CLOSE).startswith(b"HTTP/1.1 200")
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_what_is_no_http_ends_an_answer_that_is_under_way(clinic: Clinic, caplog: pytest.LogCaptureFixture) -> None:
    token = clinic.program("reader", "read")._client.headers["Authorization"]
    head = f"GET {API}/events HTTP/1.1\r\nHost: callus.test\r\nAuthorization: {token}\r\n".encode()
    with listening(clinic) as address, socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        got = b""
        while b"retry:" not in got:
            got += connection.recv(65536)
        connection.sendall(b"no length\r\n")
        while piece := connection.recv(65536):
            got += piece
        assert got.count(b"HTTP/1.1 ") == 1
        clinic.until(lambda: not clinic.parts.events._listeners)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


@pytest.mark.parametrize("cuts", [(0.5,), (0.001, 0.002, 0.6, 0.99999), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)])
@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("follows", [True, False])
def test_a_body_comes_whole_however_it_is_cut_and_what_follows_is_asked(
    clinic: Clinic, cuts: tuple[float, ...], stated: bool, follows: bool
) -> None:
    token = clinic.program("reader", "send")._client.headers["Authorization"]
    films = [radiograph(number) for number in range(1, 9)]
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'
    body = b"\r\n".join(part + film for film in films) + b"\r\n--x--\r\n"
    assert len(body) > 2 * HIGH_WATER_LIMIT  # at which uvicorn stops reading for a while
    ends = [0, *(round(cut * len(body)) for cut in cuts), len(body)]
    pieces = [body[begin:end] for begin, end in pairwise(ends)]
    length = b"Content-Length: %d\r\n" % len(body) if stated else b"Transfer-Encoding: chunked\r\n"
    if not stated:
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
        pieces[-1] += b"0\r\n\r\n"
    head = f"POST {API}/radiographs HTTP/1.1\r\nHost: callus.test\r\nAuthorization: {token}\r\n".encode() + length
    head += b"Content-Type: multipart/form-data; boundary=x\r\n"
    pieces[0] = head + (b"\r\n" if follows else CLOSE) + pieces[0]
    pieces[-1] += GET + CLOSE if follows else b""
    with listening(clinic) as address:
        got = raw(address, *pieces)
    assert got.startswith(b"HTTP/1.1 202")
    assert got.count(b"HTTP/1.1 ") == 1 + follows
    assert (b"HTTP/1.1 200" in got) == follows
    assert {sha256(film).hexdigest() for film in films} <= clinic.files()


def test_nothing_is_kept_of_a_body_that_ends_early(clinic: Clinic) -> None:
    token = clinic.program("reader", "send")._client.headers["Authorization"]
    film = radiograph()
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'
    head = f"POST {API}/radiographs HTTP/1.1\r\nHost: callus.test\r\nAuthorization: {token}\r\n".encode()
    head += b"Content-Type: multipart/form-data; boundary=x\r\n"
    head += b"Content-Length: %d\r\n\r\n" % (len(part) + len(film) + len(b"\r\n--x--\r\n"))
    with listening(clinic) as address:
        with socket.create_connection(address, timeout=20) as connection:
            for piece in (head + part, film[:1000], film[1000:]):  # all of it but the boundary behind it
                connection.sendall(piece)
                time.sleep(0.05)
            connection.shutdown(socket.SHUT_WR)
            got = connection.recv(65536)
        assert not got.startswith(b"HTTP/1.1 2")
        assert raw(address, GET + CLOSE).startswith(b"HTTP/1.1 200")
    assert not clinic.files()
