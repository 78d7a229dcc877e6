"""``callus serve`` as people run it: the first link, a login, a radiograph, kill -9 and a new start, an orderly end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from certificates import Authority
from clinic import picture, radiograph
from dicomweb_server import answering
from served import LONGEST, NAME, PASSWORD, Served, serving

from callus.service.database import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def words(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """The words that say where the database is: none for the one in the service's folder."""
    if request.param == "sqlite":
        yield ()
        return
    with request.getfixturevalue("on_postgresql")() as url:
        yield "--database", url


def test_from_the_first_start_over_a_crash_to_an_orderly_end(
    tmp_path: Path, tiny_bundle: Path, words: tuple[str, ...]
) -> None:
    data = tmp_path / "clinic"
    with serving(data, tiny_bundle, *words) as served:
        assert data.stat().st_mode & 0o077 == 0
        assert served.browser.get("/ready").json()["ready"]
        assert served.browser.get("/studies").status_code == 401
        joined = served.post("/first", json={"secret": served.first_key(), "name": "ada", "password": PASSWORD})
        csrf = joined.json()["csrf"]
        assert joined.json()["user"] == {"name": "ada", "role": "administrator"}
        sent = served.post("/radiographs", csrf, files=[("files", (f"{n}.dcm", radiograph(n))) for n in range(1, 6)])
        assert sent.status_code == 202
        os.killpg(served.process.pid, signal.SIGKILL)  # at whatever moment this is

    with serving(data, None, *words) as served:
        joined = served.post("/login", json={"name": "ada", "password": PASSWORD})
        csrf = joined.json()["csrf"]
        study = until_answered(served, sent.json()["taken"][0]["study"], 5)
        assert [image["id"] for image in study["images"]] == [one["image"] for one in sent.json()["taken"]]
        again = served.post("/radiographs", csrf, files=[("files", ("1.dcm", radiograph(1)))])
        assert again.json()["taken"][0]["new"] is False
        with served.browser.stream("GET", "/events", headers={"Last-Event-ID": "0"}) as events:
            lines = (line for line in events.iter_lines() if line.startswith("id:"))
            numbers = [next(lines) for _ in range(5)]
            assert len(set(numbers)) == 5
            begun = time.monotonic()
            served.process.send_signal(signal.SIGTERM)  # while somebody listens
            assert served.process.wait(30) == 0
        assert time.monotonic() - begun < 15
        output, errors = served.process.communicate(timeout=60)
        assert (output, errors) == ("", "")

    assert (data / "callus.sqlite").exists() == (not words)
    url = words[-1] if words else f"sqlite:///{data / 'callus.sqlite'}"
    with closing(Database(url)) as database, database.reading() as session:
        answers = session.execute(sa.text("SELECT count(*), count(DISTINCT image_id) FROM answers")).all()
        states = session.execute(sa.text("SELECT state, count(*) FROM jobs GROUP BY 1")).all()
    assert (answers, states) == ([(5, 5)], [("done", 5)])


def until_answered(served: Served, study: int, count: int) -> dict[str, Any]:
    end = time.monotonic() + LONGEST
    while True:
        found: dict[str, Any] = served.browser.get(f"/studies/{study}").json()
        # Results come soon after the answer.
        if sum(bool(image["answer"] and image["answer"]["results"]) for image in found["images"]) == count:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_the_link_is_printed_until_there_is_an_account_and_nowhere_else(tmp_path: Path, tiny_bundle: Path) -> None:
    with serving(tmp_path, tiny_bundle) as served:
        old = served.first_key()
    with serving(tmp_path, None) as served:
        new = served.first_key()
        given = {"name": "ada", "password": PASSWORD}
        assert served.post("/first", json={"secret": old, **given}).status_code == 403
        assert served.post("/first", json={"secret": new, **given}).status_code == 200
        for file in tmp_path.rglob("*"):
            assert file.is_dir() or new.encode() not in file.read_bytes(), file
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(30) == 0
        assert served.process.communicate(timeout=60) == ("", "")


def callus(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "callus", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=180)


def test_what_cannot_be_served_is_said_in_a_line(tmp_path: Path, tiny_bundle: Path) -> None:
    unsafe = callus("serve", "--data", str(tmp_path / "a"), "--model", str(tiny_bundle), "--host", "10.0.0.1")
    assert unsafe.returncode == 2
    assert "open to the network without TLS" in unsafe.stderr
    unknown = callus("serve", "--data", str(tmp_path / "b"), "--port", "0", "--model", "nobody-has-it")
    assert unknown.returncode == 2
    assert "there is no such model" in unknown.stderr
    (tmp_path / "wrong.toml").write_text('data = "x"\nporrt = 1\n')
    wrong = callus("serve", "--config", str(tmp_path / "wrong.toml"))
    assert wrong.returncode == 2
    assert "unknown key porrt" in wrong.stderr
    assert callus("serve").returncode == 2
    with serving(tmp_path / "c", tiny_bundle) as served:
        port = str(httpx.URL(served.browser.base_url).port)
        taken = callus("serve", "--data", str(tmp_path / "d"), "--model", str(tiny_bundle), "--port", port)
        second = callus("serve", "--data", str(tmp_path / "c"), "--port", "0")
    assert taken.returncode == 1
    assert "Address already in use" in taken.stderr
    assert second.returncode == 1
    assert "is served already" in second.stderr
    for done in (unsafe, unknown, wrong, taken, second):
        assert "Traceback" not in done.stderr


def test_it_speaks_tls_itself(tmp_path: Path, tiny_bundle: Path) -> None:
    authority = Authority(tmp_path)
    mine, other = authority.give("callus"), authority.give("another")

    def words(key: Path) -> tuple[str, ...]:
        host = "0.0.0.0"  # noqa: S104 - as a hospital's is
        return "--host", host, "--tls-certificate", str(mine.certificate), "--tls-key", str(key)

    with serving(tmp_path / "a", tiny_bundle, *words(mine.key), authority=authority.file) as served:
        assert served.address.startswith("https://")
        served.join()
        answer = served.browser.post("/login", json={"name": NAME, "password": PASSWORD})
        assert answer.status_code == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert {"secure", "httponly"} <= set(answer.headers["Set-Cookie"].lower().split("; "))
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{served.address}/api/v1/health", trust_env=False)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{served.address}/api/v1/health".replace("https:", "http:"), trust_env=False)

    begun = ("serve", "--data", str(tmp_path / "b"), "--model", str(tiny_bundle), "--port", "0")
    for key in (other.key, mine.certificate, tmp_path / "none.key"):
        wrong = callus(*begun, *words(key))
        assert wrong.returncode == 1
        assert "the TLS certificate or its key cannot be used" in wrong.stderr
        assert "Traceback" not in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1
        assert wrong.stdout == ""


def test_nothing_of_a_patient_is_written_by_what_is_not_ours(tmp_path: Path, tiny_bundle: Path) -> None:
    """An archive's broken header has urllib3 write down the address, which holds whom somebody looks for."""
    study = "1.2.276.0.8.4711"
    with answering(study) as web:
        web.broken = True
        web.answers["/dicom-web/studies"] = (200, "application/dicom+json", b"[]")
        web.hold(radiograph(1, 4711))
        config = tmp_path / "clinic.toml"
        config.write_text(f'[[sources]]\nname = "archive"\nurl = "{web.url}"\n')
        with serving(tmp_path / "data", tiny_bundle, "--config", str(config)) as served:
            served.join()
            looked = {"source": "archive", "patient_id": "P-4711", "accession": "A-0815"}
            assert served.browser.post("/pull/search", json=looked).json()["studies"] == []
            assert "PatientID=P-4711" in web.asked[0]
            asked = served.browser.post("/pull", json={"source": "archive", "study_uid": study})
            assert asked.json() == {"new": True}
            born = radiograph(2, 4712, PatientBirthDate="born in May")  # pydicom warns of it, and quotes it
            served.browser.post("/radiographs", files=[("files", ("2.dcm", born))])
            end = time.monotonic() + 60
            while len(studies := served.browser.get("/studies").json()["studies"]) < 2:
                assert time.monotonic() < end
                time.sleep(0.1)
            for one in studies:
                until_answered(served, one["id"], 1)
            served.process.send_signal(signal.SIGTERM)
            _, errors = served.process.communicate(timeout=60)
    for said in ("4711", "A-0815", "born", "Doe", "1.2.276", "Traceback"):
        assert said not in errors, errors


def test_serving_needs_no_torch(tmp_path: Path) -> None:
    code = "import callus.cli.serve, callus.service.listening, callus.service.serving, sys; "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'lightning_fabric', 'onnx', 'highdicom')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=180).returncode == 0


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "clinic"


@pytest.fixture(scope="module")
def filled(clinic: Path, tiny_bundle: Path) -> Iterator[Served]:
    with serving(clinic, tiny_bundle) as served:
        joined = served.post("/first", json={"secret": served.first_key(), "name": "ada", "password": PASSWORD})
        served.browser.headers["X-CSRF-Token"] = joined.json()["csrf"]
        files = [("files", ("1.dcm", radiograph(1))), ("files", ("a.png", picture()))]
        taken = served.browser.post("/radiographs", files=files).json()["taken"]
        for one in taken:
            until_answered(served, one["study"], 1)
            answer = served.browser.post(f"/images/{one['image']}/verdict", json={"label": 1})
            assert answer.status_code == 201
        yield served


def test_verdicts_become_a_manifest_while_it_runs(filled: Served, clinic: Path, tmp_path: Path) -> None:
    from callus.dataset.manifest import read_manifest

    out = tmp_path / "manifest.parquet"
    done = callus("data", "from-verdicts", str(clinic), "--out", str(out))
    assert done.returncode == 0, done.stderr
    frame = read_manifest(out)
    assert list(frame["label"]) == [1, 1]
    assert all(Path(path).is_file() for path in frame["path"])
    missing = callus("data", "from-verdicts", str(tmp_path / "nothing"), "--out", str(out))
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr


def test_a_backup_is_made_while_it_runs_and_restored_where_it_is_whole(
    filled: Served, clinic: Path, tmp_path: Path
) -> None:
    file = tmp_path / "backup.tar"
    done = callus("backup", str(clinic), "--to", str(file))
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o077 == 0
    filled.browser.post("/radiographs", files=[("files", ("2.dcm", radiograph(2)))])  # comes too late for it

    back = callus("restore", str(file), "--to", str(tmp_path / "other"))
    assert back.returncode == 0, back.stderr
    twice = callus("restore", str(file), "--to", str(tmp_path / "other"))
    assert twice.returncode == 2
    assert "is not empty" in twice.stderr
    data = bytearray(file.read_bytes())
    data[data.index(b"\x89PNG\r\n\x1a\n") + 40] ^= 1
    file.write_bytes(data)
    damaged = callus("restore", str(file), "--to", str(tmp_path / "third"))
    assert damaged.returncode != 0
    assert "is damaged" in damaged.stderr
    assert not (tmp_path / "third").exists()
    with serving(tmp_path / "other", None) as served:
        served.post("/login", json={"name": "ada", "password": PASSWORD})
        lines = served.browser.get("/studies").json()["studies"]
        assert sorted(line["images_count"] for line in lines) == [1, 1]
        for line in lines:
            image = served.browser.get(f"/studies/{line['id']}").json()["images"][0]["id"]
            for name in ("original", "overlay.png", "heat.png"):
                assert served.browser.get(f"/images/{image}/{name}").status_code == 200
