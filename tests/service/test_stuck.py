"""What nothing does any more is shown as stuck, with its reason, and is tried again or dropped by an administrator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from clinic import Clinic, opened, radiograph

from callus.service import jobs, stuck
from callus.service.database import Database
from callus.service.jobs import DELIVER, PULL
from callus.service.settings import Destination, Settings, Source
from callus.service.tables import Entry, Job, now

PACS = Destination("pacs", ae_title="PACS", host="127.0.0.1", port=104)
CLOUD = Destination("cloud", kind="stow-rs", url="https://archive.example/dicom-web")
GONE = "destination cloud is no longer in the settings"


@pytest.fixture
def left(database: Database) -> Database:
    """A database whose service was killed with three deliveries for the cloud, one for the archive, and a pull."""
    with database.writing() as session:
        for number, name in enumerate(("cloud", "cloud", "pacs", "cloud")):
            about = {"answer": number, "destination": name}
            jobs.add(session, DELIVER, f"{number} {name}", about=about)
        jobs.add(session, PULL, "old 1.2.3", about={"source": "old", "study": "1.2.3", "who": "ada"})
        held, over = (session.get_one(Job, number) for number in (2, 4))
        held.state, held.holder, held.lease = "taken", "killed", now() + timedelta(hours=1)
        over.state = "done"
    return database


@pytest.fixture
def clinic(left: Database, tmp_path: Path, tiny_bundle: Path) -> Iterator[Clinic]:
    """The service started again, without the cloud and the source."""
    with opened(tmp_path / "data", tiny_bundle, left, destinations=(PACS,)) as clinic:
        yield clinic


def states(clinic: Clinic) -> list[str]:
    return [job.state for job in clinic.rows(Job)]


def test_what_is_for_a_destination_or_a_source_that_was_removed_is_stuck(clinic: Clinic) -> None:
    shown = clinic.administrator.get("/jobs").json()["jobs"]
    assert [(job["kind"], job["destination"], job["error"]) for job in shown] == [
        ("deliver", "cloud", GONE),
        ("deliver", "cloud", GONE),
        ("pull", None, "source old is no longer in the settings"),
    ]
    assert states(clinic) == ["stuck", "stuck", "waiting", "done", "stuck"]
    assert 'callus_jobs{kind="deliver",state="stuck"} 2.0' in clinic.nobody.get("/metrics").text


def test_it_is_stuck_too_where_there_is_no_destination_any_more(
    left: Database, tmp_path: Path, tiny_bundle: Path
) -> None:
    with opened(tmp_path / "data", tiny_bundle, left) as clinic:
        assert states(clinic) == ["stuck", "stuck", "stuck", "done", "stuck"]


def test_what_nothing_would_do_is_not_tried_again_but_dropped(clinic: Clinic) -> None:
    admin, (first, second, _, _, pull) = clinic.administrator, [job.id for job in clinic.rows(Job)]
    for number, said in ((first, GONE), (pull, "source old is no longer in the settings")):
        refused = admin.post(f"/jobs/{number}/retry")
        assert (refused.status_code, refused.json()["error"]["what"]) == (409, said)
    assert admin.post("/jobs/retry", {"destination": "cloud"}).status_code == 409
    assert states(clinic) == ["stuck", "stuck", "waiting", "done", "stuck"]

    assert admin.post(f"/jobs/{first}/drop").status_code == 200
    assert admin.post(f"/jobs/{pull}/drop").status_code == 200
    assert admin.post(f"/jobs/{first}/drop").status_code == 404
    assert admin.post(f"/jobs/{first}/retry").status_code == 404
    assert states(clinic) == ["dropped", "stuck", "waiting", "done", "dropped"]
    assert [job["id"] for job in admin.get("/jobs").json()["jobs"]] == [second]
    dropped = admin.get("/jobs", params={"state": "dropped"}).json()["jobs"]
    assert (dropped[0]["id"], dropped[0]["error"]) == (first, GONE)
    stuck.give_up_gone(clinic.parts.database, clinic.settings)  # as the next start does
    assert states(clinic) == ["dropped", "stuck", "waiting", "done", "dropped"]
    log = [(entry.who, entry.did, entry.what) for entry in clinic.rows(Entry)]
    assert log == [("the administrator", "dropped", f"job {number}") for number in (first, pull)]


def test_all_for_a_destination_are_dropped_at_once(clinic: Clinic) -> None:
    admin = clinic.administrator
    assert admin.post("/jobs/drop", {"destination": "cloud"}).json() == {"count": 2}
    assert states(clinic) == ["dropped", "dropped", "waiting", "done", "stuck"]
    for given in ("cloud", "pacs", "another"):
        assert admin.post("/jobs/drop", {"destination": given}).status_code == 404
    assert [(entry.did, entry.what) for entry in clinic.rows(Entry)] == [("dropped", "2 deliveries to cloud")]


def test_what_was_put_back_into_the_settings_is_tried_again(left: Database, tmp_path: Path, tiny_bundle: Path) -> None:
    stuck.give_up_gone(left, Settings(tmp_path, destinations=(PACS,)))
    sources = (Source("old", "https://archive.example/dicom-web"),)
    with opened(tmp_path / "data", tiny_bundle, left, destinations=(PACS, CLOUD), sources=sources) as clinic:
        admin, pull = clinic.administrator, clinic.rows(Job, Job.kind == PULL)[0].id
        assert states(clinic) == ["stuck", "stuck", "waiting", "done", "stuck"]
        assert admin.post("/jobs/retry", {"destination": "cloud"}).json() == {"count": 2}
        assert admin.post(f"/jobs/{pull}/retry").status_code == 200
        assert states(clinic) == ["waiting", "waiting", "waiting", "done", "waiting"]
        assert [(entry.did, entry.what) for entry in clinic.rows(Entry)] == [
            ("retried", "2 deliveries to cloud"),
            ("retried", f"job {pull}"),
        ]


@pytest.mark.parametrize("kind", ["identify", "try"])
def test_a_radiograph_that_waits_for_an_answer_is_not_dropped(tmp_path: Path, tiny_bundle: Path, kind: str) -> None:
    with opened(tmp_path / "data", tiny_bundle) as clinic:
        clinic.sent(radiograph(), answered=False)
        (job,) = clinic.rows(Job)
        assert clinic.administrator.post(f"/jobs/{job.id}/drop").status_code == 404  # it is not stuck
        with clinic.parts.database.writing() as session:
            found = session.get_one(Job, job.id)
            found.state, found.kind = "stuck", kind
        assert clinic.administrator.post(f"/jobs/{job.id}/drop").status_code == 409
        assert states(clinic) == ["stuck"]
