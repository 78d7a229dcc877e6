"""A whole service in the test's process, and browsers and programs that use it.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import simulated_dicom
import sqlalchemy as sa
from described import described
from PIL import Image as Picture

from callus.service.access import COOKIE
from callus.service.accounts import add_user
from callus.service.app import create_app, served
from callus.service.database import Database
from callus.service.serving import build
from callus.service.sessions import open_session
from callus.service.settings import Settings
from callus.service.tables import Answer, Image, Job, User
from callus.service.tokens import make_token

API = "/api/v1"
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For tests to which it does not matter what database there is."""
ROLES = ("reader", "radiologist", "administrator")
UNFIT = "what no password fits"
"""What accounts have in place of a hash: they could log in, if anybody knew with what."""


def radiograph(number: int = 1, study: int = 1, **tags: Any) -> bytes:
    """A DICOM radiograph with UIDs of its own."""
    uids = {"SOPInstanceUID": f"1.2.276.0.9.{number}", "StudyInstanceUID": f"1.2.276.0.8.{study}"}
    return simulated_dicom.as_bytes(simulated_dicom.simulated(**{**uids, **tags}))


def picture(seed: int = 0, shape: tuple[int, int] = (80, 60)) -> bytes:
    """A PNG of noise."""
    buffer = io.BytesIO()
    Picture.fromarray(np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Loop:
    """An event loop in a thread, so that tests read from top to bottom."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(60)
        assert not self._thread.is_alive(), "the event loop does not end"
        self.loop.run_until_complete(asyncio.wait_for(self.loop.shutdown_asyncgens(), 60))
        self.loop.run_until_complete(asyncio.wait_for(self.loop.shutdown_default_executor(), 60))
        self.loop.close()


class Browser:
    """Asks the service, with a cookie, a token or nothing; changing requests bring the login's CSRF token.

    Every answer is held against the API's description.
    """

    def __init__(self, clinic: Clinic, *, cookie: str = "", csrf: str = "", token: str = "") -> None:
        self.csrf = csrf
        self._clinic = clinic
        cookies = httpx.Cookies()
        if cookie:
            cookies.set(COOKIE, cookie, domain=httpx.URL(clinic.address).host)
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(clinic.served, raise_app_exceptions=False, client=("127.0.0.1", 5)),
            base_url=clinic.address,
            cookies=cookies,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=60,
        )

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"X-CSRF-Token": self.csrf} if self.csrf and method != "GET" else {}
        headers |= given.pop("headers", {})
        if not given.pop("whole", path.startswith("/dicom-web")):
            path = API + path
        response: httpx.Response = self._clinic.loop.run(self._client.request(method, path, headers=headers, **given))
        described(self._clinic.app).check(response)
        return response

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.ask("GET", path, **given)

    def post(self, path: str, json: Any = None, **given: Any) -> httpx.Response:
        return self.ask("POST", path, json=json, **given)

    def patch(self, path: str, json: Any = None, **given: Any) -> httpx.Response:
        return self.ask("PATCH", path, json=json, **given)

    def delete(self, path: str, **given: Any) -> httpx.Response:
        return self.ask("DELETE", path, **given)

    def send(self, *files: bytes | tuple[str, bytes], **fields: str) -> httpx.Response:
        named = [file if isinstance(file, tuple) else (f"{number}.dcm", file) for number, file in enumerate(files)]
        return self.ask("POST", "/radiographs", files=[("files", one) for one in named], data=fields)

    def log_in(self, name: str, password: str) -> httpx.Response:
        answer = self.post("/login", {"name": name, "password": password})
        if answer.status_code == 200:
            self.csrf = answer.json()["csrf"]
        return answer

    @property
    def cookie(self) -> str:
        return self._client.cookies.get(COOKIE) or ""


class Clinic:
    """A service on a database, with people in every role. Nothing is answered until :meth:`answer`."""

    def __init__(self, folder: Path, bundle: Path, database: Database | None = None, **settings: Any) -> None:
        self.address = settings.pop("address", "http://callus.test")
        url = database.engine.url.render_as_string(hide_password=False) if database else ""
        told = {"keep_free": 0, "waiting_most": 50, "largest_upload": 4 << 20, "database": url}
        self.settings = Settings(folder, str(bundle), **{**told, **settings})
        self.loop = Loop()
        self.parts = build(self.settings, threads=1)
        self.app = create_app(self.parts)
        self.served = served(self.app)
        self.users = {role: self.add(f"the {role}", role) for role in ROLES}
        self.nobody = Browser(self)
        self.reader, self.radiologist, self.administrator = (self.browser(self.users[role]) for role in ROLES)

    def add(self, name: str, role: str, password: str = UNFIT) -> User:
        with self.parts.database.writing() as session:
            return add_user(session, name, role, password=password)

    def browser(self, user: User) -> Browser:
        with self.parts.database.writing() as session:
            cookie, csrf = open_session(session, user)
        return Browser(self, cookie=cookie, csrf=csrf)

    def program(self, role: str, *scopes: str) -> Browser:
        with self.parts.database.writing() as session:
            _, token = make_token(session, self.users[role].id, "a program", scopes, None)
        return Browser(self, token=token)

    def answer(self) -> None:
        """Have everything answered that waits."""
        if not self.parts.answering.is_alive():
            self.parts.start()
        self.until(lambda: not self.rows(Job, Job.kind.in_(["identify", "try"]), Job.state.in_(["waiting", "taken"])))

    def rows(self, what: type, *where: Any) -> list[Any]:
        with self.parts.database.reading() as session:
            return list(session.scalars(sa.select(what).where(*where).order_by(what.id)))

    def sent(self, *files: bytes, answered: bool = True) -> list[dict[str, Any]]:
        """Send some radiographs; what the service says of them."""
        response = self.radiologist.send(*files)
        assert response.status_code == 202, response.text
        if answered:
            self.answer()
        taken: list[dict[str, Any]] = response.json()["taken"]
        return taken

    def until(self, true: Callable[[], Any], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it does not happen"
            time.sleep(0.02)

    def files(self) -> set[str]:
        """The hashes that lie on the disk."""
        return {file.name for file in self.parts.objects.folder.glob("??/*")}

    def named(self) -> set[str]:
        """The hashes that rows name."""
        hashes = {image.sha256 for image in self.rows(Image)}
        for answer in self.rows(Answer):
            hashes |= {answer.map, *answer.results.values()}
        return hashes

    def close(self) -> None:
        if self.parts.answering.is_alive():
            self.parts.stop()
        self.parts.close()
        self.loop.close()


@contextmanager
def opened(folder: Path, bundle: Path, database: Database | None = None, **settings: Any) -> Iterator[Clinic]:
    clinic = Clinic(folder, bundle, database, **settings)
    try:
        yield clinic
    finally:
        clinic.close()


def wait_for_a_lock(database: Database) -> None:
    """Wait until somebody waits for a lock in PostgreSQL."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    end = time.monotonic() + 60
    while True:
        with database.reading() as session:
            if session.scalar(sa.text(waits)):
                return
        assert time.monotonic() < end, "nobody waits"
        time.sleep(0.02)


def related(*objects: bytes, kind: str = "application/dicom") -> dict[str, Any]:
    """A STOW-RS request's body and headers."""
    boundary = f"callus-{os.urandom(8).hex()}"
    body = b"".join(f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + one + b"\r\n" for one in objects)
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'}
    return {"content": body + f"--{boundary}--\r\n".encode(), "headers": headers}
