"""A DICOMweb server that says what a test wants, on loopback.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pydicom

from callus.service.dicomweb import joined


class Web(ThreadingHTTPServer):
    """A DICOMweb server of one study that answers as it is told: path to status, type and body.

    While ``open`` is not set it gives no object that it has; while ``broken`` is, a line of its headers is none.
    """

    daemon_threads = True

    def __init__(self, study: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.study = study
        self.open = threading.Event()
        self.open.set()
        self.search: list[dict[str, Any]] | bytes = []
        self.turns_pages = True
        self.broken = False
        self.answers: dict[str, tuple[int, str, bytes]] = {}
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web"

    def hold(self, data: bytes, uid: str = "") -> None:
        """Have an instance; ``uid`` is what it is said to be."""
        one, file = pydicom.dcmread(BytesIO(data), force=True), BytesIO()
        one.save_as(file, enforce_file_format=True)
        uid = uid or one.SOPInstanceUID
        values = {"00080016": one.SOPClassUID, "00080018": uid, "0020000E": one.SeriesInstanceUID}
        assert isinstance(self.search, list)
        self.search.append({tag: {"vr": "UI", "Value": [str(value)]} for tag, value in values.items()})
        kind, body = joined([file.getvalue()])
        place = f"/dicom-web/studies/{self.study}/series/{one.SeriesInstanceUID}/instances/{uid}"
        self.answers[place] = (200, kind, body)


class _Answers(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path, _, query = self.path.partition("?")
        if path.endswith("/instances") and isinstance(self.server.search, list):
            words = dict(part.split("=") for part in query.split("&") if "=" in part)
            offset = int(words["offset"]) if self.server.turns_pages else 0
            page = self.server.search[offset : offset + int(words["limit"])]
            status, kind, body = 200, "application/dicom+json", json.dumps(page).encode()
        elif path.endswith("/instances"):
            status, kind, body = 200, "application/dicom+json", self.server.search
        else:
            self.server.open.wait(60)
            status, kind, body = self.server.answers.get(path, (404, "text/plain", b""))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if self.server.broken:
            self.flush_headers()
            self.wfile.write(b"this is no header\r\n")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(study: str) -> Iterator[Web]:
    """One that runs."""
    server = Web(study)
    try:
        yield server
    finally:
        server.open.set()
        server.shutdown()
        server.server_close()
