"""A finding is told before its results are made; and whatever happens in between, there is one of each."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from clinic import Clinic, opened, picture, radiograph
from served import Served, serving
from tiny_bundle import packed_blind_bundle

from callus.identify import Identifier
from callus.service import answering, jobs, making
from callus.service.answering import Answering
from callus.service.database import Database
from callus.service.jobs import DELIVER, IDENTIFY, TRY
from callus.service.settings import Destination
from callus.service.tables import Answer, Change, Image, Job, User, now

ARCHIVE = Destination("archive", ae_title="PACS", host="127.0.0.1", port=1)
"""Where nobody listens: what is put on its way stays to be counted."""
FILES = ("overlay.png", "sr.dcm", "sc.dcm", "pr.dcm", "report.fhir.json")


class _Killed(BaseException):
    """The service ends here: nothing after it is done."""


class Held:
    """Makers that wait until they are let go."""

    def __init__(self) -> None:
        self._make = making.make
        self._gone = threading.Event()
        self.begun = threading.Semaphore(0)

    def make(self, *order: Any) -> making.Made:
        self.begun.release()
        assert self._gone.wait(120)
        return self._make(*order)

    def let_go(self) -> None:
        self._gone.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    one = Held()
    monkeypatch.setattr(making, "make", one.make)
    yield one
    one.let_go()


@pytest.fixture
def clinic(database: Database, tmp_path: Path, tiny_bundle: Path) -> Iterator[Clinic]:
    with opened(tmp_path / "data", tiny_bundle, database, destinations=(ARCHIVE,)) as clinic:
        yield clinic


def whats(clinic: Clinic) -> list[str]:
    return [change.what for change in clinic.rows(Change)]


def due_now(clinic: Clinic) -> None:
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).where(Job.kind != DELIVER).values(due=now()))


def told_by(clinic: Clinic) -> list[tuple[str, int]]:
    """What listeners are told from now on: findings by their image, study events by what became of it."""
    told: list[tuple[str, int]] = []
    give = clinic.parts.events._give

    def also(name: str, data: Any) -> None:
        told.append((data.get("what", name), data["image"]))
        give(name, data)

    clinic.parts.events._give = also  # type: ignore[method-assign]
    return told


def test_a_finding_is_told_before_its_results_are_made(clinic: Clinic, held: Held) -> None:
    told = told_by(clinic)
    clinic.parts.start()
    (first,) = clinic.sent(radiograph(1), answered=False)
    assert held.begun.acquire(timeout=120)
    (second,) = clinic.sent(radiograph(2, study=2), answered=False)  # nor does the next one wait for them
    clinic.until(lambda: ("finding", second["image"]) in told)
    assert [one for one in told if one[0] == "finding"] == [
        ("finding", first["image"]),
        ("finding", second["image"]),
    ]
    for taken in (first, second):
        (image,) = clinic.reader.get(f"/studies/{taken['study']}").json()["images"]
        assert (image["answer"]["level"], image["answer"]["results"]) == ("fracture", [])
        assert image["height"]
        assert clinic.reader.get(f"/images/{taken['image']}/heat.png").status_code == 200
        for file in FILES:
            refused = clinic.radiologist.get(f"/images/{taken['image']}/{file}")
            assert (refused.status_code, refused.json()["error"]["what"]) == (404, "this is not made yet")
    assert {line["level"] for line in clinic.reader.get("/studies").json()["studies"]} == {"fracture"}
    assert clinic.administrator.get(f"/studies/{first['study']}/deidentified.zip").status_code == 200
    assert [job.state for job in clinic.rows(Job)] == ["taken", "taken"]

    held.let_go()
    for taken in (first, second):
        clinic.until(lambda taken=taken: ("made", taken["image"]) in told)
        for file in FILES:
            assert clinic.radiologist.get(f"/images/{taken['image']}/{file}").status_code == 200
    assert clinic.files() == clinic.named()
    assert len(clinic.rows(Job, Job.kind == DELIVER)) == 2
    assert whats(clinic).count("made") == 2


def test_what_is_never_made_of_a_picture_says_so(clinic: Clinic) -> None:
    (taken,) = clinic.sent(picture())
    refused = clinic.radiologist.get(f"/images/{taken['image']}/sr.dcm")
    assert (refused.status_code, refused.json()["error"]["what"]) == (404, "this was not made of that image")


def other_arithmetic(identify: Callable[..., Any]) -> Callable[..., Any]:
    """As an engine would answer that calculates in another way."""

    def answers(self: Identifier, sources: Any, **more: Any) -> Iterator[Any]:
        for source, came, finding in identify(self, sources, **more):
            heat = np.clip(finding.map + np.float32(1e-4), 0, 1)
            yield source, came, replace(finding, probability=finding.probability - 1e-4, map=heat)

    return answers


@pytest.mark.parametrize("same", [True, False])
def test_killed_before_its_results_are_made_an_answer_is_kept_as_it_was_told(
    database: Database, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    def killed(*_: object) -> None:
        raise _Killed

    with (
        opened(tmp_path / "data", tiny_bundle, database, destinations=(ARCHIVE,)) as clinic,
        monkeypatch.context() as patched,
    ):
        patched.setattr(making, "make", killed)
        patched.setattr(jobs, "release", lambda *_: None)  # a service that is killed gives nothing back
        told = told_by(clinic)
        clinic.parts.start()
        (taken,) = clinic.sent(radiograph(), answered=False)
        clinic.until(lambda: told[-1:] == [("finding", taken["image"])])
        clinic.parts.stop()
        (answer,) = clinic.rows(Answer)
        assert [(job.kind, job.state) for job in clinic.rows(Job)] == [(IDENTIFY, "taken")]
        with clinic.parts.database.writing() as session:  # the next one has people of its own
            session.execute(sa.delete(User))
    if not same:
        monkeypatch.setattr(Identifier, "identify_many", other_arithmetic(Identifier.identify_many))

    with opened(tmp_path / "data", tiny_bundle, database, destinations=(ARCHIVE,)) as clinic:
        assert [job.killed for job in clinic.rows(Job)] == [1]
        told = told_by(clinic)
        clinic.answer()
        (again,) = clinic.rows(Answer)
        for name in ("id", "probability", "level", "boxes", "cautions", "map", "made"):
            assert getattr(again, name) == getattr(answer, name)
        assert set(again.results) == {"overlay", "sr", "sc", "pr", "fhir"}
        clinic.until(lambda: told)  # a moment after it stands in the database
        assert told == [("made", taken["image"])]
        assert [job.state for job in clinic.rows(Job, Job.kind == IDENTIFY)] == ["done"]
        (delivery,) = clinic.rows(Job, Job.kind == DELIVER)
        assert delivery.about["answer"] == answer.id
        assert clinic.files() == clinic.named()


def test_what_is_deleted_before_its_results_are_made_leaves_nothing(clinic: Clinic, held: Held) -> None:
    clinic.parts.start()
    (taken,) = clinic.sent(radiograph(), answered=False)
    assert held.begun.acquire(timeout=120)
    assert clinic.administrator.delete(f"/studies/{taken['study']}").status_code == 200
    held.let_go()
    clinic.until(lambda: not clinic.parts.answering._underway.jobs())
    assert clinic.files() == set()
    assert clinic.rows(Answer) == clinic.rows(Job) == []
    assert whats(clinic) == ["arrived", "deleted"]


def test_what_is_deleted_before_its_answer_stands_leaves_nothing(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, gone = clinic.parts.objects.put, threading.Event()

    def deleted(data: bytes) -> str:
        sha256 = put(data)
        if data[:6] == b"\x93NUMPY" and not gone.is_set():  # the map
            clinic.administrator.delete(f"/studies/{taken['study']}")
            gone.set()
        return sha256

    (taken,) = clinic.sent(radiograph(), answered=False)
    monkeypatch.setattr(clinic.parts.objects, "put", deleted)
    clinic.answer()
    assert gone.wait(120)
    clinic.until(lambda: not clinic.files())
    assert clinic.rows(Answer) == []


def test_an_answer_whose_results_cannot_be_made_is_shown_and_its_job_is_stuck(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    making._end_idle()
    with monkeypatch.context() as patched:
        patched.setattr(making, "_SERVE", "raise SystemExit(7)")
        patched.setattr(answering, "_ATTEMPTS", 1)
        (taken,) = clinic.sent(radiograph())
    study = clinic.reader.get(f"/studies/{taken['study']}").json()
    assert (study["level"], study["images"][0]["error"]) == ("fracture", "")
    assert study["images"][0]["answer"]["results"] == []
    said = "results: the process that makes them failed (exit code 7)"
    assert [(job["kind"], job["error"]) for job in study["jobs"]] == [("identify", said)]
    assert [line["stuck"] for line in clinic.reader.get("/studies").json()["studies"]] == [1]
    (job,) = clinic.administrator.get("/jobs").json()["jobs"]
    assert (job["image"], job["error"]) == (taken["image"], said)
    assert clinic.reader.post(f"/images/{taken['image']}/retry").status_code == 409  # it has its answer

    making._end_idle()
    assert clinic.administrator.post(f"/jobs/{job['id']}/retry").status_code == 200
    assert clinic.reader.get("/studies").json()["studies"][0]["level"] == "fracture"
    clinic.answer()
    (answer,) = clinic.rows(Answer)
    assert answer.results
    assert [line["stuck"] for line in clinic.reader.get("/studies").json()["studies"]] == [0]
    assert whats(clinic) == ["arrived", "made"]
    assert clinic.files() == clinic.named()


def test_a_radiograph_that_is_damaged_before_its_results_are_made_keeps_its_answer(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "_ATTEMPTS", 2)
    make = making.make

    def damaged(*_: object) -> making.Made:
        clinic.parts.objects.path(clinic.rows(Image)[0].sha256).write_bytes(b"\x89PNG\r\n\x1a\n damaged")
        raise making._DiedError("results: nobody makes them")

    monkeypatch.setattr(making, "make", damaged)
    (taken,) = clinic.sent(picture(), answered=False)
    clinic.parts.start()
    clinic.until(lambda: clinic.rows(Job, Job.kind == IDENTIFY, Job.attempts == 1, Job.state == "waiting"))
    monkeypatch.setattr(making, "make", make)
    due_now(clinic)
    clinic.answer()
    (job,) = clinic.rows(Job)
    assert job.state == "stuck"
    assert job.error.startswith("results: ")
    (image,) = clinic.reader.get(f"/studies/{taken['study']}").json()["images"]
    assert (image["error"], image["answer"]["results"]) == ("", [])


def test_one_at_which_the_service_was_killed_is_answered_while_nothing_is_made(
    clinic: Clinic, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand, take, beside, taken = Answering._stand, jobs.take, dict[int, int](), threading.Event()

    def counting(self: Answering, job: Job, *more: Any) -> Any:
        beside[job.image_id or 0] = len(self._underway.jobs())
        return stand(self, job, *more)

    def deadly(*words: Any) -> list[Job]:
        """What is taken once something is being made was there when the service was killed."""
        found = take(*words)
        for job in found:
            if clinic.parts.answering._underway.jobs():
                job.killed = 1
                taken.set()
        return found

    monkeypatch.setattr(Answering, "_stand", counting)
    monkeypatch.setattr(jobs, "take", deadly)
    clinic.parts.start()
    (first,) = clinic.sent(radiograph(1), answered=False)
    assert held.begun.acquire(timeout=120)
    (second,) = clinic.sent(radiograph(2, study=2), answered=False)
    assert taken.wait(120)
    held.let_go()
    clinic.answer()
    assert beside == {first["image"]: 0, second["image"]: 0}


def test_a_trials_answer_counts_where_its_model_was_to_answer(clinic: Clinic, tmp_path: Path) -> None:
    """The image waits for its answer again, the service is switched, and the model before is tried on it."""
    (taken,) = clinic.sent(radiograph(), answered=False)
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).values(due=now() + timedelta(hours=1)))
    (packed := tmp_path / "other.callus").write_bytes(packed_blind_bundle(tmp_path))
    before, other = clinic.rows(Job)[0].about["model"], clinic.parts.models.add(packed)
    assert clinic.administrator.post(f"/models/{other}/switch").status_code == 200
    assert clinic.administrator.post(f"/models/{before}/trial", {"last": 5}).json() == {"waiting": 1}
    told = told_by(clinic)
    clinic.parts.start()
    clinic.until(lambda: clinic.rows(Job, Job.kind == TRY, Job.state == "done"))
    assert [answer.tried for answer in clinic.rows(Answer)] == [True]
    assert told == []  # nor that its results are made
    due_now(clinic)
    clinic.answer()
    assert [answer.tried for answer in clinic.rows(Answer)] == [False]
    clinic.until(lambda: told)
    assert told == [("finding", taken["image"])]
    assert [job.state for job in clinic.rows(Job, Job.kind != DELIVER)] == ["done", "done"]
    assert len(clinic.rows(Job, Job.kind == DELIVER)) == 1
    assert clinic.reader.get("/studies").json()["studies"][0]["level"] == "fracture"


def maker_of(served: Served) -> int:
    """The process that makes results."""
    (maker,) = (
        int(child)
        for task in Path(f"/proc/{served.process.pid}/task").iterdir()
        for child in (task / "children").read_text().split()
        if b"service.making" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    return maker


def test_a_service_killed_between_a_finding_and_its_results_makes_them_later(tmp_path: Path, tiny_bundle: Path) -> None:
    def ask(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(tmp_path / "data" / "callus.sqlite")) as opened:
            return opened.execute(query).fetchall()

    settings = tmp_path / "clinic.toml"
    settings.write_text(
        "[[destinations]]\nname = 'archive'\nkind = 'c-store'\nae_title = 'PACS'\nhost = '127.0.0.1'\nport = 1\n"
    )
    with serving(tmp_path / "data", tiny_bundle, "--config", str(settings)) as served:
        served.join()
        maker = maker_of(served)
        os.kill(maker, signal.SIGSTOP)
        try:
            (taken,) = served.post("/radiographs", files=[("files", ("a.dcm", radiograph()))]).json()["taken"]
            answer = None
            while answer is None:
                (image,) = served.browser.get(f"/studies/{taken['study']}").json()["images"]
                answer = image["answer"]
            assert answer["results"] == []
            served.kill()
        finally:
            os.kill(maker, signal.SIGKILL)
    with serving(tmp_path / "data", None, "--config", str(settings)) as served:
        served.log_in()
        again: dict[str, Any] = {"results": []}
        while not again["results"]:
            (image,) = served.browser.get(f"/studies/{taken['study']}").json()["images"]
            again = image["answer"]
    assert again | {"results": []} == answer
    assert len(ask("SELECT 1 FROM answers")) == 1
    assert ask("SELECT state FROM jobs WHERE kind = 'identify'") == [("done",)]
    assert len(ask("SELECT 1 FROM jobs WHERE kind = 'deliver'")) == 1
    assert [what for (what,) in ask("SELECT what FROM changes ORDER BY id")] == ["arrived", "made"]
