"""What becomes of who takes an answer slowly, or not at all."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from certificates import Authority
from listening import listening_to

from callus.service import edge, protocol
from callus.service.edge import Bounds
from callus.service.settings import Settings

LONG = 8 << 20  # the kernel's two buffers hold less
GET = b"GET /%b HTTP/1.1\r\nHost: callus.test\r\n\r\n"
PIECES = [edge.PIECE, LONG]
CLOSED = (GET % b"whole").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
ASKED = [GET % b"whole", GET % b"streamed", 4000 * (GET % b"short"), CLOSED]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what the path asks for."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    count = {"/whole": LONG, "/streamed": 64 << 10}.get(scope["path"], 4 << 10)
    for _ in range(LONG // count if scope["path"] == "/streamed" else 0):
        await send({"type": "http.response.body", "body": bytes(count), "more_body": True})
    await send({"type": "http.response.body", "body": bytes(count)})


def bounded() -> Bounds:
    return Bounds(app, lambda _: False)


def until_gone(server: uvicorn.Server, seconds: float = 25) -> bool:
    """Whether nobody is connected any more, soon."""
    ends = time.monotonic() + seconds
    while server.server_state.connections and time.monotonic() < ends:
        time.sleep(0.05)
    return not server.server_state.connections


@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("asked", ASKED, ids=["whole", "streamed", "pipelined", "closed"])
@pytest.mark.parametrize("piece", PIECES, ids=["pieces", "at once"])
def test_who_takes_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bytes, piece: int, half_closed: bool
) -> None:
    monkeypatch.setattr(protocol, "READ_WITHIN", 0.3)
    monkeypatch.setattr(edge, "PIECE", piece)
    with listening_to(bounded(), Settings(data=tmp_path)) as (address, server):
        with socket.create_connection(address) as connection:
            connection.sendall(asked)
            assert connection.recv(1)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
            assert until_gone(server)
        assert until_gone(server)


@pytest.mark.parametrize("half_closed", [False, True])
def test_who_takes_nothing_is_let_go_under_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half_closed: bool
) -> None:
    monkeypatch.setattr(protocol, "READ_WITHIN", 0.3)
    settings, client = secure(tmp_path)
    with (
        listening_to(bounded(), settings) as (address, server),
        client.wrap_socket(socket.create_connection(address), server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(GET % b"whole")
        assert connection.recv(1)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        assert until_gone(server)


@pytest.mark.parametrize("piece", PIECES, ids=["pieces", "at once"])
@pytest.mark.parametrize("tls", [False, True])
def test_who_takes_an_answer_slowly_gets_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, tls: bool
) -> None:
    monkeypatch.setattr(protocol, "READ_WITHIN", 0.5)
    monkeypatch.setattr(edge, "PIECE", piece)
    settings, client = secure(tmp_path) if tls else (Settings(data=tmp_path), None)
    with listening_to(bounded(), settings) as (address, _):
        plain = socket.create_connection(address, timeout=20)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10)
        with plain if client is None else client.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(CLOSED)
            got, begun = 0, time.monotonic()
            while part := connection.recv(128 << 10):
                got += len(part)
                time.sleep(max(0.0, begun + got / (2 << 20) - time.monotonic()))  # 2 MB a second: 4 s
    assert got > LONG


def secure(folder: Path) -> tuple[Settings, ssl.SSLContext]:
    """The settings of a service that speaks TLS, and how its clients do."""
    authority = Authority(folder)
    pair = authority.give("callus")
    client = ssl.create_default_context(cafile=str(authority.file))
    return Settings(data=folder, certificate=str(pair.certificate), key=str(pair.key)), client
