"""A study that somebody asks another archive for: where from, how far it is, what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clinic import Clinic, opened, radiograph
from dicomweb_server import Web, answering

from callus.service.database import Database
from callus.service.settings import Source
from callus.service.tables import Entry, Job, Study, now

STUDY = "1.2.276.0.8.1"


@pytest.fixture
def web() -> Iterator[Web]:
    with answering(STUDY) as server:
        yield server


@pytest.fixture
def clinic(database: Database, tmp_path: Path, tiny_bundle: Path, web: Web) -> Iterator[Clinic]:
    with opened(tmp_path / "data", tiny_bundle, database, sources=(Source("archive", web.url),)) as clinic:
        yield clinic


def ask(clinic: Clinic, study: str = STUDY) -> dict[str, Any]:
    answer = clinic.radiologist.post("/pull", {"source": "archive", "study_uid": study})
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def latest(clinic: Clinic) -> dict[str, Any]:
    told: dict[str, Any] = clinic.radiologist.get("/pull").json()["pulls"][0]
    return told


def test_whoever_asks_sees_how_far_it_is_and_what_came(clinic: Clinic, web: Web) -> None:
    assert clinic.radiologist.get("/pull").json() == {"sources": ["archive"], "pulls": []}
    web.hold(radiograph(1))
    web.hold(radiograph(2))
    web.open.clear()
    assert ask(clinic)["new"]
    assert not ask(clinic)["new"]
    waits = latest(clinic)
    assert {name: waits[name] for name in ("source", "study_uid", "by", "state", "counts", "error", "study")} == {
        "source": "archive",
        "study_uid": STUDY,
        "by": "the radiologist",
        "state": "waiting",
        "counts": None,
        "error": "",
        "study": None,
    }
    clinic.parts.start()
    clinic.until(lambda: latest(clinic)["state"] == "taken")
    web.answers[next(reversed(web.answers))] = (503, "text/plain", b"")
    web.open.set()
    clinic.until(lambda: latest(clinic)["error"])

    half = latest(clinic)
    (study,) = clinic.rows(Study)
    assert (half["state"], half["error"], half["study"]) == ("waiting", "answers 503", study.id)
    assert half["counts"] == {"taken": 1, "known": 0, "other": 0, "refused": 0}
    web.search = []
    web.hold(radiograph(1))
    web.hold(radiograph(2))
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).values(due=now()))
    clinic.until(lambda: latest(clinic)["state"] == "done")
    assert latest(clinic)["counts"] == {"taken": 1, "known": 1, "other": 0, "refused": 0}
    assert [entry.who for entry in clinic.rows(Entry, Entry.did == "pulled")] == ["the radiologist"]


def test_what_cannot_be_asked_for_is_refused(clinic: Clinic) -> None:
    for given, status in (
        ({"source": "elsewhere", "study_uid": STUDY}, 404),
        ({"source": "archive", "study_uid": "1.2/../.."}, 422),
        ({"source": "archive"}, 422),
    ):
        assert clinic.radiologist.post("/pull", given).status_code == status
    assert clinic.rows(Job) == []


def test_the_latest_come_first_and_what_is_stuck_says_why(clinic: Clinic) -> None:
    clinic.parts.start()
    for number in range(12):
        ask(clinic, f"1.2.3.{number}")
    clinic.until(lambda: not clinic.rows(Job, Job.state.in_(["waiting", "taken"])))
    told = clinic.radiologist.get("/pull").json()["pulls"]
    assert [one["study_uid"] for one in told] == [f"1.2.3.{number}" for number in range(11, 1, -1)]
    assert {(one["state"], one["error"]) for one in told} == {("stuck", "has no such study")}


@pytest.mark.parametrize("state", ["done", "stuck", "dropped"])
def test_a_study_that_is_deleted_is_not_told_of_any_more(clinic: Clinic, web: Web, state: str) -> None:
    web.hold(radiograph(1))
    clinic.parts.start()
    ask(clinic)
    ask(clinic, "1.2.3.4")
    clinic.until(lambda: not clinic.rows(Job, Job.state.in_(["waiting", "taken"])))
    (study,) = clinic.rows(Study)
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).where(Job.about["study"].as_string() == study.uid).values(state=state))
    assert clinic.administrator.delete(f"/studies/{study.id}").status_code == 200
    assert [one["study_uid"] for one in clinic.radiologist.get("/pull").json()["pulls"]] == ["1.2.3.4"]
