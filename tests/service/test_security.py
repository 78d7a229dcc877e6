"""Hostile requests, files, names and clients: nothing comes through, nothing leaks, nothing falls over."""

from __future__ import annotations

import io
import json
import logging
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import simulated_dicom
import sqlalchemy as sa
from clinic import API, Browser, Clinic, opened, picture, radiograph, related
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listening import listening, raw
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation.meta import CoverageScenario
from schemathesis.specs.openapi.checks import negative_data_rejection, unsupported_method

from callus.service import edge, protocol
from callus.service.passwords import hashed
from callus.service.tables import Entry, Image, Job, Study

XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
PASSWORD = "correct horse battery"  # noqa: S105 - of nobody


@pytest.fixture
def clinic(tmp_path: Path, tiny_bundle: Path) -> Iterator[Clinic]:
    with opened(tmp_path / "data", tiny_bundle) as clinic:
        yield clinic


def test_every_answer_protects_the_browser(clinic: Clinic) -> None:
    (taken,) = clinic.sent(radiograph())
    answers = [
        clinic.nobody.get("/health"),
        clinic.nobody.get("/studies"),
        clinic.nobody.get("/nothing/here"),
        clinic.reader.get("/studies"),
        clinic.reader.get(f"/images/{taken['image']}/frame.png"),
        clinic.radiologist.get(f"/images/{taken['image']}/original"),
        clinic.reader.get("/studies", params={"limit": "x"}),
        clinic.nobody.post("/login", {"name": "x" * (2 << 20), "password": ""}),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 200, 200, 200, 422, 413]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] in ("no-store", "private, no-cache")
        assert "Strict-Transport-Security" not in answer.headers  # over plain HTTP it means nothing
        assert not answer.headers["Content-Type"].startswith("text/html")
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "server" not in answer.headers


def test_markup_in_tags_names_and_comments_stays_text(clinic: Clinic) -> None:
    tags = {
        "PatientName": XSS,
        "PatientID": XSS,
        "StudyDescription": XSS[:60],
        "AccessionNumber": "<b>1</b>",
        "BodyPartExamined": "<I>",
        "ViewPosition": "<svg/onload>",
    }
    image = clinic.sent(radiograph(1, **tags))[0]
    named = clinic.radiologist.send(
        (XSS + ".png", picture()), ("../../etc/passwd", picture(2)), ("a\r\nb: c", picture(3))
    )
    clinic.answer()
    clinic.radiologist.post(f"/images/{image['image']}/verdict", {"comment": XSS})

    for path in ("/studies", f"/studies/{image['study']}", "/audit"):
        answer = clinic.administrator.get(path)
        assert answer.headers["Content-Type"] == "application/json"
        json.loads(answer.content)
    study = clinic.administrator.get(f"/studies/{image['study']}").json()
    assert study["images"][0]["verdicts"][0]["comment"] == XSS
    assert [one["name"] for one in named.json()["taken"]][1] == "passwd"
    for one in named.json()["taken"]:
        answer = clinic.radiologist.get(f"/images/{one['image']}/original")
        assert answer.headers["Content-Disposition"] == f'attachment; filename="callus-{one["image"]}"'
        assert answer.headers["Content-Type"] == "application/octet-stream"
    refused = clinic.reader.get("/studies", params={"level": XSS})
    assert XSS not in refused.text
    page = clinic.radiologist.send(("page.html", b"<html><script>alert(1)</script>"))
    assert page.status_code == 422


def test_no_name_of_a_file_is_a_place(clinic: Clinic, tmp_path: Path) -> None:
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    clinic.radiologist.send(
        ("../../../outside.png", picture(1)), ("/etc/outside.png", picture(2)), ("..\\x", picture(3))
    )
    new = {file for file in tmp_path.rglob("*") if file.is_file()} - before
    objects = clinic.parts.objects.folder
    assert {file.parent.parent for file in new if "sqlite" not in file.name} == {objects}
    for path in ("/images/../../me", "/images/..%2f..%2fetc%2fpasswd/original", "/images/1%00/original"):
        assert clinic.radiologist.get(path).status_code in (404, 422)


def test_numbers_of_others_things_are_of_no_use(clinic: Clinic) -> None:
    token = clinic.administrator.post("/tokens", {"name": "x", "scopes": ["read"]}).json()["id"]
    assert clinic.radiologist.delete(f"/tokens/{token}").status_code == 404
    assert clinic.radiologist.post("/tokens", {"name": "x", "scopes": ["read"], "user": 3}).status_code == 404
    for number in ("0", "-1", str(1 << 63), str(1 << 64), "1e3", "0x1", "\u0661"):
        for path in ("/studies/{}", "/images/{}/original", "/images/{}/frame.png"):
            assert clinic.radiologist.get(path.format(number)).status_code in (404, 422), number


def test_no_header_is_split(clinic: Clinic) -> None:
    (taken,) = clinic.sent(radiograph())
    for query in ({"format": "csv\r\nX-Evil: 1"}, {"before": "\r\nX-Evil: 1"}):
        for path in ("/audit", "/studies", f"/images/{taken['image']}/frame.png"):
            assert "X-Evil" not in clinic.administrator.get(path, params=query).headers
    with listening(clinic) as address:
        answer = raw(address, b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nX-Request: a\x00b\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")


def png_bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1 << 24), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_bombs_are_taken_or_refused_but_do_not_go_off(clinic: Clinic) -> None:
    deflated = simulated_dicom.simulated(SOPInstanceUID="1.2.276.0.9.77")
    head = io.BytesIO()
    deflated.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    deflated.file_meta.MediaStorageSOPClassUID = deflated.SOPClassUID
    deflated.file_meta.MediaStorageSOPInstanceUID = deflated.SOPInstanceUID
    del deflated.PixelData
    deflated.save_as(head, enforce_file_format=True)
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(700)) + packer.flush()
    data = head.getvalue()
    meta_end = 144 + int.from_bytes(data[140:144], "little")
    answer = clinic.radiologist.send(
        ("a.png", png_bomb(60_000, 60_000)),
        ("b.png", png_bomb(4000, 4000)),
        ("c.dcm", data[:meta_end] + bomb),
        ("d.zip", b"PK\x03\x04" + bytes(1000)),
    )
    assert answer.status_code < 500
    clinic.answer()
    images = clinic.rows(Image)
    assert all(image.error or image.height for image in images)
    for image in images:
        assert clinic.reader.get(f"/images/{image.id}/frame.png").status_code in (200, 422)
    deep = clinic.reader.ask("POST", "/login", content=b"[" * 100_000, headers={"Content-Type": "application/json"})
    assert deep.status_code == 400
    many = related(*[b"x"] * 1001)
    assert clinic.reader.ask("POST", "/dicom-web/studies", **many).status_code == 413


def test_a_session_is_never_taken_over(clinic: Clinic) -> None:
    clinic.add("ada", "reader", hashed(PASSWORD))
    planted = Browser(clinic, cookie="planted")
    planted.log_in("ada", PASSWORD)
    assert Browser(clinic, cookie="planted").get("/me").status_code == 401
    assert "callus_session" not in clinic.reader.get("/me").headers.get("Set-Cookie", "")


def test_no_secret_and_no_patient_is_logged(clinic: Clinic, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clinic.add("ada", "reader", hashed(PASSWORD))
    browser = Browser(clinic)
    browser.log_in("ada", PASSWORD)
    browser.log_in(PASSWORD, "ada")
    made = clinic.radiologist.post("/tokens", {"name": "robot", "scopes": ["read"]}).json()
    Browser(clinic, token=made["secret"]).get("/studies")
    clinic.sent(radiograph(), radiograph()[:-4000])
    with clinic.parts.database.writing() as session:  # what breaks says no more
        session.execute(sa.text("DROP TABLE verdicts"))
    study = clinic.rows(Study)[0].id
    broken = clinic.radiologist.get(f"/studies/{study}")
    assert broken.status_code == 500
    clinic.radiologist.post("/studies/search", {"text": "Doe"})

    secrets = [PASSWORD, browser.cookie, browser.csrf, made["secret"], clinic.radiologist.cookie]
    secrets += ["Doe", "P-4711", "19700101", "20240229", "1.2.276"]
    # What is not ours is listened to from WARNING on, as callus serve does.
    heard = [one for one in caplog.records if one.name.startswith("callus") or one.levelno >= logging.WARNING]
    said = "\n".join(record.getMessage() + str(record.exc_info or "") for record in heard)
    for secret in secrets:
        assert secret not in said
        assert secret not in broken.text
        assert secret not in clinic.nobody.get("/metrics").text
    log = str([(entry.who, entry.did, entry.what) for entry in clinic.rows(Entry)])
    assert all(secret not in log for secret in secrets)
    assert "failed: OperationalError at" in said


def drip(address: tuple[str, int], head: bytes, piece: bytes, *, seconds: float = 10) -> tuple[float, bytes]:
    """Send a little at a time for ever; when the connection was closed, and what came."""
    begun, got = time.monotonic(), b""
    with socket.create_connection(address, timeout=0.05) as connection:
        connection.sendall(head)
        while time.monotonic() - begun < seconds:
            try:
                connection.sendall(piece)
                if not (came := connection.recv(65536)):
                    return time.monotonic() - begun, got
                got += came
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return time.monotonic() - begun, got
    raise AssertionError("it was never closed")


def test_slow_clients_are_let_go(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 0.4)
    monkeypatch.setattr(protocol, "LINGER", 0.3)
    monkeypatch.setattr(edge, "GRACE", 0.4)
    cookie = f"Cookie: callus_session={clinic.reader.cookie}\r\nX-CSRF-Token: {clinic.reader.csrf}\r\n".encode()
    post = b"POST /api/v1/radiographs HTTP/1.1\r\nHost: callus.test\r\n" + cookie
    post += b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n"
    get = b"GET /api/v1/health HTTP/1.1\r\nHost: callus.test\r\n"
    with listening(clinic) as address:
        assert raw(address, b"").startswith(b"HTTP/1.1 408")  # says nothing at all
        _, got = drip(address, b"GET / HTTP/1.1\r\n", b"X: y\r\n")
        assert got.startswith(b"HTTP/1.1 408")
        _, got = drip(address, get + b"\r\n", b"X")  # a second request that never ends
        assert got.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in got
        _, got = drip(address, post, b"x")
        assert got.startswith(b"HTTP/1.1 408")
        assert b"too slowly" in got
        stranger = post.replace(b"callus_session=", b"other=")  # is answered before the body's end, and stays
        _, got = drip(address, stranger, b"x")
        assert got.startswith(b"HTTP/1.1 401")
        assert raw(address, get + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert clinic.rows(Job) == []
    assert not list((clinic.parts.objects.folder / "incoming").iterdir())


def test_requests_beyond_the_bounds_are_refused(clinic: Clinic) -> None:
    with listening(clinic) as address:
        head = b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n"
        assert raw(address, head + b"X: " + b"y" * 600_000 + b"\r\n\r\n")[:12] in (b"HTTP/1.1 400", b"")
        post = b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        chunked = post + b"Content-Type: application/json\r\n\r\n"
        chunks = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        assert raw(address, chunked + chunks * 16 + b"1\r\nx\r\n").startswith(b"HTTP/1.1 413")
        smuggled = get = b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\n"
        both = post + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + smuggled
        assert raw(address, get, seconds=1).startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 200" not in raw(address, both, seconds=1)


def test_behind_a_proxy_only_its_own_word_counts(tmp_path: Path, tiny_bundle: Path) -> None:
    with opened(tmp_path / "proxied", tiny_bundle, behind_proxy=True) as clinic:
        (taken,) = clinic.sent(radiograph())
        headers = {"X-Forwarded-For": "6.6.6.6, 10.0.0.7", "X-Forwarded-Proto": "https"}
        answer = clinic.reader.get(f"/studies/{taken['study']}", headers=headers)
        assert "Strict-Transport-Security" in answer.headers
        assert clinic.rows(Entry, Entry.did == "saw")[0].address == "10.0.0.7"
    with opened(tmp_path / "bare", tiny_bundle) as clinic:
        (taken,) = clinic.sent(radiograph())
        clinic.reader.get(f"/studies/{taken['study']}", headers=headers)
        assert clinic.rows(Entry, Entry.did == "saw")[0].address == "127.0.0.1"


def test_the_api_keeps_to_its_description(clinic: Clinic) -> None:
    """What fits the description and what does not, each the same in each run: no failure, and no answer but as it says.

    What does not fit is refused, unless it does once it is written as a request has to write it ("1" for 1), or is
    only one more field; schemathesis tells these apart.
    """
    (taken,) = clinic.sent(radiograph())
    for _ in range(8):  # so that none of the first numbers is of the token that asks
        clinic.program("administrator", "read")
    token = clinic.program("administrator", "read", "send", "verdict", "administer")
    told = {"generation": {"deterministic": True, "with-security-parameters": False, "allow-extra-parameters": False}}
    schema = schemathesis.openapi.from_dict(clinic.app.openapi(), config=schemathesis.Config.from_dict(told))
    operations = [one.ok() for one in schema.get_all_operations() if one.ok().path != f"{API}/events"]  # has no end
    operations.sort(key=lambda one: one.method == "delete")  # of studies, which the others ask for

    asked: dict[str, Counter[Any]] = {}  # of each operation: modes, what is wrong, statuses
    problems: list[str] = []
    for operation in operations:
        is_programs = any("bearer" in one for one in operation.definition.raw["security"])
        who = token if is_programs else clinic.browser(clinic.users["administrator"])
        seen = asked[operation.label] = Counter()
        for case in cases(operation):
            answer = who.ask(**written(case), whole=True)
            scenario = getattr(case.meta.phase.data, "scenario", None)
            seen.update([case.meta.generation.mode, scenario, answer.status_code])
            try:
                case.validate_response(answer, checks=[negative_data_rejection, unsupported_method])
                assert answer.status_code < 500 or answer.status_code == 503
                if answer.status_code >= 400 and answer.headers["Content-Type"] == "application/json":
                    assert set(answer.json()["error"]) == {"what", "hint"}
            except (AssertionError, Failure, FailureGroup) as problem:
                sent = f"{case.method} {case.formatted_path} {case.query} {case.body!r:.200}"
                problems.append(f"{sent}: {answer.status_code} {problem}")
    assert problems == []
    assert taken
    assert token.get("/users").status_code == 200  # it may still do all of it
    for label, seen in asked.items():
        assert {*GenerationMode, CoverageScenario.MALFORMED_CONTENT_TYPE} <= seen.keys(), label
    for label in (f"POST {API}/radiographs", f"POST {API}/models", "POST /dicom-web/studies"):
        assert {CoverageScenario.UNSUPPORTED_CONTENT_TYPE, CoverageScenario.MISSING_PARAMETER} <= asked[label].keys()
    assert 200 in asked["POST /dicom-web/studies"]
    whole = {one for seen in asked.values() for one in seen}
    wrong = {CoverageScenario.INCORRECT_TYPE, CoverageScenario.OBJECT_MISSING_REQUIRED_PROPERTY}
    assert {200, 201, 202, 400, 404, 405, 409, 415, 422} | wrong <= whole


# Both are GET and DELETE of /studies/{number}, with a number that is none.
ANOTHERS = {(method, f"{API}/studies/search") for method in ("GET", "DELETE")}
STOW = "multipart/related"
HEAD, TAIL = b"--parts\r\nContent-Type: application/dicom\r\n\r\n", b"\r\n--parts--\r\n"
schemathesis.openapi.media_type(
    STOW,
    st.just(HEAD + radiograph(7, 7) + TAIL)
    | st.binary(max_size=100).map(lambda data: HEAD + data + TAIL)
    | st.binary(max_size=100),
)


def cases(operation: Any) -> Iterator[schemathesis.Case]:
    """An operation's edges, missing and wrong values, other methods and kinds of bodies; and some at random."""
    modes = list(GenerationMode)
    config = operation.schema.config.generation
    edges = operation.schema.iter_coverage_cases(operation, generation_modes=modes, generation_config=config)
    yield from (case for case in edges if (case.method, case.path) not in ANOTHERS)
    for mode in modes if operation.path_parameters or operation.query or is_described(operation) else modes[:1]:
        yield from drawn(operation, mode)


def is_described(operation: Any) -> bool:
    """Whether it takes a body of which the description says more than its kind, so that one can be wrong."""
    return any(body.media_type != STOW for body in operation.body)


def drawn(operation: Any, mode: GenerationMode) -> list[schemathesis.Case]:
    """Some cases at random, the same each time."""
    found: list[schemathesis.Case] = []

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    return found


@schemathesis.serializer(STOW)
def as_drawn(_: schemathesis.SerializationContext, body: Any) -> bytes:
    """schemathesis writes no STOW-RS by itself."""
    return body if isinstance(body, bytes) else bytes(getattr(body, "data", b""))


def written(case: schemathesis.Case) -> dict[str, Any]:
    """A case as it goes over the wire, as requests writes it: of forms, too."""
    request = requests.Request(**case.as_transport_kwargs(base_url="http://callus.test")).prepare()
    headers = {name: value for name, value in request.headers.items() if name != "Content-Length"}
    if case.media_type == STOW and request.body:  # unless it was to be of another kind
        headers.setdefault("Content-Type", f'{STOW}; type="application/dicom"; boundary=parts')
    return {"method": request.method, "path": request.url, "headers": headers, "content": request.body}
