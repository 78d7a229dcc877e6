"""Fetching, against a server of our own that knows ranges and breaks off when told to."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from callus.dataset import download
from callus.dataset.fetch import BASE_VARIABLE, SETS, fetch
from callus.dataset.unpack import unpack
from callus.errors import CallusError, FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cut`` is after how many bytes of an archive it breaks off, once for each entry."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.ranges = True
        self.tag = '"v1"'
        self.asked: list[tuple[str, str]] = []
        self.hold: threading.Event | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range", "")))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range", self.server.tag) == self.server.tag
        if wanted and self.server.ranges and fresh:
            start = int(wanted[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = self.path.startswith("/files") and self.server.cut
        end = start + self.server.cut.pop(0) if cut else None
        self.wfile.write(content[start:end])
        if end is not None and self.server.hold is not None:
            self.wfile.flush()
            self.server.hold.wait(60)  # until the test has killed the one who asks

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "_WAIT_S", 0.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


ARCHIVE = zipped({"FracAtlas/dataset.csv": b"image_id\n", "FracAtlas/images/a.jpg": bytes(range(256)) * 400})


def offer(server: Server, files: dict[str, bytes], **changes: Any) -> None:
    """Answer as figshare's API does for FracAtlas."""
    entries = []
    for number, (name, content) in enumerate(files.items()):
        server.files[f"/files/{number}"] = content
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        entry = {
            "name": name,
            "size": len(content),
            "download_url": f"{server.base}/files/{number}",
            "computed_md5": md5,
        }
        entries.append(entry | changes)
    server.files["/articles/22363012"] = json.dumps({"files": entries}).encode()


def accept(public: object) -> bool:
    return True


def test_a_set_comes_whole(server: Server, tmp_path: Path) -> None:
    offer(server, {"FracAtlas.zip": ARCHIVE, "notes.txt": b"read me"})
    folder = fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert folder == tmp_path / "fracatlas"
    assert (folder / "FracAtlas" / "images" / "a.jpg").read_bytes() == bytes(range(256)) * 400
    assert (folder / "notes.txt").read_bytes() == b"read me"
    assert "CC BY 4.0" in (folder / "LICENCE.txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["fracatlas"]
    asked = len(server.asked)
    assert fetch("fracatlas", tmp_path, accept=accept, base=server.base) == folder
    assert len(server.asked) == asked


def test_a_broken_connection_goes_on(server: Server, tmp_path: Path) -> None:
    offer(server, {"FracAtlas.zip": ARCHIVE})
    server.cut = [10_000, 20_000]
    fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert [wanted for path, wanted in server.asked if path == "/files/0"] == ["", "bytes=10000-", "bytes=30000-"]


def test_a_killed_download_goes_on_the_next_time(server: Server, tmp_path: Path) -> None:
    offer(server, {"FracAtlas.zip": ARCHIVE})
    server.cut = [5000, 0, 0, 0]
    with pytest.raises(FetchError, match=r"4 tries, 0.0 MiB have come\); run the same command again"):
        fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert not (tmp_path / "fracatlas").exists()
    server.asked.clear()
    fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert [wanted for path, wanted in server.asked if path == "/files/0"] == ["bytes=5000-"]


FETCH = "import sys, pathlib, callus.dataset.fetch as f; f.fetch('fracatlas', pathlib.Path(sys.argv[1]), accept=bool)"


def test_a_download_killed_midway_goes_on(server: Server, tmp_path: Path) -> None:
    offer(server, {"FracAtlas.zip": ARCHIVE})
    server.cut = [60_000]
    held = server.hold = threading.Event()
    part = tmp_path / "fracatlas.download" / ".FracAtlas.zip.part"
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, tmp_path],
        env={**os.environ, BASE_VARIABLE: server.base},
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            if part.exists() and part.stat().st_size >= 50_000:
                break
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
        held.set()
    have = part.stat().st_size
    assert 50_000 <= have <= 60_000
    server.asked.clear()
    fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert [wanted for path, wanted in server.asked if path == "/files/0"] == [f"bytes={have}-"]


@pytest.mark.parametrize("change", ["another version", "no ranges"])
def test_halves_of_different_files_are_not_joined(server: Server, tmp_path: Path, change: str) -> None:
    offer(server, {"FracAtlas.zip": ARCHIVE[::-1]})
    server.cut = [5000, 0, 0, 0]
    with pytest.raises(FetchError):
        fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    offer(server, {"FracAtlas.zip": ARCHIVE})
    if change == "another version":
        server.tag = '"v2"'
    else:
        server.ranges = False
    folder = fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert (folder / "FracAtlas" / "dataset.csv").read_bytes() == b"image_id\n"


def test_a_wrong_checksum_keeps_no_file(server: Server, tmp_path: Path) -> None:
    offer(server, {"FracAtlas.zip": ARCHIVE}, computed_md5="0" * 32)
    with pytest.raises(FetchError, match=r"another MD5 than the published 0{32}; it was removed"):
        fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_more_bytes_than_announced_are_refused(server: Server, tmp_path: Path) -> None:
    offer(server, {"FracAtlas.zip": ARCHIVE}, size=1000)
    with pytest.raises(FetchError, match="more than the 1,000 bytes"):
        fetch("fracatlas", tmp_path, accept=accept, base=server.base)


def test_github_has_no_checksum(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/naveenkumar12624/BoneData/archive/HEAD.zip"] = zipped({"BoneData-main/Data/train/x.jpg": b"x"})
    monkeypatch.setenv(BASE_VARIABLE, server.base)
    folder = fetch("bonedata", tmp_path, accept=accept)
    assert (folder / "BoneData-main" / "Data" / "train" / "x.jpg").exists()


def test_nothing_is_asked_before_the_licence_is_accepted(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="was not accepted"):
        fetch("fracatlas", tmp_path, accept=lambda _: False, base=server.base)
    assert server.asked == []
    assert list(tmp_path.iterdir()) == []


def test_mura_is_asked_for_and_unknown_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=f"ask for it at {SETS['mura'].ask}"):
        fetch("mura", tmp_path, accept=accept)
    with pytest.raises(FetchError, match="no data set 'brains'; give one of fracatlas, grazpedwri, bonedata, mura"):
        fetch("brains", tmp_path, accept=accept)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "404"),
        (b"<html>", "gives no answer that can be used"),
        (b"[]", "lists no files that can be used"),
        (b'{"files": []}', "lists no files"),
        (b'{"files": [{"name": "a", "size": 1, "download_url": "file:///etc/passwd"}]}', "does not|is not an address"),
        (b'{"files": [{"name": "..", "size": 1, "download_url": "http://x/"}]}', "lists no files that can be used"),
    ],
)
def test_a_list_that_cannot_be_used(server: Server, tmp_path: Path, answer: bytes | None, expected: str) -> None:
    if answer is not None:
        server.files["/articles/22363012"] = answer
    with pytest.raises(FetchError, match=expected) as raised:
        fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert "\n" not in str(raised.value)


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_WAIT_S", 0.0)
    with pytest.raises(FetchError, match=r"the connection failed: .*refused"):
        fetch("fracatlas", tmp_path, accept=accept, base="http://127.0.0.1:9")


def member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (member("../out.txt"), "leads outside its folder"),
        (member("/etc/out.txt"), "leads outside its folder"),
        (member("a/../../out.txt"), "leads outside its folder"),
        (member("..\\out.txt"), "leads outside its folder"),
        (member("C:/out.txt"), "leads outside its folder"),
        (member("link", stat.S_IFLNK | 0o777), "is no regular file"),
    ],
)
def test_unsafe_members_are_refused(tmp_path: Path, info: zipfile.ZipInfo, expected: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.txt", "good")
        archive.writestr(info, "x")
    (tmp_path / "in").mkdir()
    with pytest.raises(FetchError, match=expected):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []


def test_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callus.dataset.unpack._LEAST_ROOM", 1 << 16)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10 << 20))
    with pytest.raises(FetchError, match="a zip bomb"):
        unpack(tmp_path / "a.zip", tmp_path)
    (tmp_path / "b.zip").write_bytes(b"no zip")
    with pytest.raises(FetchError, match="not a zip archive"):
        unpack(tmp_path / "b.zip", tmp_path)


def test_a_broken_archive_leaves_no_folder(server: Server, tmp_path: Path) -> None:
    broken = bytearray(ARCHIVE)
    broken[5000] ^= 0xFF
    offer(server, {"FracAtlas.zip": bytes(broken)})
    with pytest.raises(CallusError, match="is not a zip archive that can be unpacked: Bad CRC"):
        fetch("fracatlas", tmp_path, accept=accept, base=server.base)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
