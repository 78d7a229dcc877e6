"""Findings are told as they come, in pixels and millimetres, and nobody who comes back misses one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from clinic import ON_SQLITE, Clinic, picture, radiograph, wait_for_a_lock
from described import described
from listening import listening

from callus.service import changes
from callus.service import events as module
from callus.service.access import COOKIE, UNATTENDED
from callus.service.events import Last
from callus.service.keys import digest
from callus.service.refusals import TooManyError
from callus.service.sessions import IDLE
from callus.service.tables import Answer, Change, Entry, Job, now
from callus.service.tables import Session as Login


class Listener:
    """Listens in the clinic's loop."""

    def __init__(self, clinic: Clinic, *after: int) -> None:
        self._clinic = clinic
        self.stream: AsyncIterator[bytes] = clinic.parts.events.listen(Last(*after) if after else None, lambda: True)
        beginning = clinic.loop.run(anext(self.stream)).decode()
        assert "not a medical device" in beginning
        self.id = beginning.split("id: ")[1].strip()

    def next(self, seconds: float = 10, name: str = "finding") -> dict[str, Any]:
        """The next event of that name."""

        async def one() -> dict[str, str]:
            async for piece in self.stream:
                fields = dict(line.split(": ", 1) for line in piece.decode().splitlines() if line)
                if fields.get("event") == name:
                    return fields
            raise AssertionError

        async def in_time() -> dict[str, str]:
            return await asyncio.wait_for(one(), seconds)

        fields: dict[str, str] = self._clinic.loop.run(in_time())
        data: dict[str, Any] = json.loads(fields["data"])
        self.id = fields["id"]
        assert int(self.id.split(".")[-1]) == data["id"]
        assert ("." in self.id) == (name == "study")
        return data

    def close(self) -> None:
        self._clinic.loop.run(self.stream.aclose())  # type: ignore[attr-defined]


def test_a_finding_is_told_in_pixels_and_millimetres(clinic: Clinic) -> None:
    clinic.sent(radiograph(9, study=9))  # before anybody listens
    listener = Listener(clinic)
    (known,) = clinic.sent(radiograph(1, ImagerPixelSpacing=[0.2, 0.1]))
    while (told := listener.next())["image"] != known["image"]:
        pass  # the one before, which was told a moment after it stood in the database

    answer = clinic.rows(Answer, Answer.image_id == known["image"])[0]
    assert (told["id"], told["image"], told["study"]) == (answer.id, known["image"], known["study"])
    assert (told["level"], told["probability"]) == (answer.level, answer.probability)
    assert told["boxes"] == answer.boxes != []
    for pixels, mm in zip(told["boxes"], told["boxes_mm"], strict=True):
        assert mm["x"] == pytest.approx(pixels["x"] * 0.1)
        assert mm["y"] == pytest.approx(pixels["y"] * 0.2)
        assert mm["width"] == pytest.approx(pixels["width"] * 0.1)
        assert mm["height"] == pytest.approx(pixels["height"] * 0.2)
    assert told["spacing_mm"] == [0.2, 0.1]
    clinic.sent(picture())
    assert listener.next()["boxes_mm"] is None
    assert "Doe" not in json.dumps(told)
    listener.close()


def test_whoever_comes_back_gets_what_was_missed(clinic: Clinic) -> None:
    clinic.sent(*(radiograph(number) for number in range(1, 4)))
    numbers = [answer.id for answer in clinic.rows(Answer)]
    listener = Listener(clinic, numbers[0])
    missed = [listener.next()["id"] for _ in range(3)]
    assert sorted(missed) == numbers  # some twice: they may have been told, or come to stand, in another order
    clinic.sent(radiograph(4))
    assert listener.next()["id"] > numbers[-1]
    listener.close()


def test_whoever_leaves_before_anything_came_gets_what_was_missed(clinic: Clinic) -> None:
    clinic.sent(radiograph(1))
    listener = Listener(clinic)
    listener.close()
    (missed,) = clinic.sent(radiograph(2, study=2))
    again = Listener(clinic, int(listener.id))
    while again.next()["image"] != missed["image"]:
        pass  # the last few before are told once more


def test_what_is_told_in_another_order_than_it_came_is_told(clinic: Clinic) -> None:
    clinic.sent(radiograph(1), radiograph(2))
    first, second = (answer.id for answer in clinic.rows(Answer))
    listener = Listener(clinic)
    for number in (second, first):
        clinic.parts.events.tell(number)
    got: set[int] = set()
    while got != {first, second}:
        got.add(listener.next()["id"])
    listener.close()


def test_a_slow_listener_gets_everything_all_the_same(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUEUE", 2)
    listener = Listener(clinic)
    clinic.sent(*(radiograph(number) for number in range(1, 9)))
    wanted = {answer.id for answer in clinic.rows(Answer)}
    got: set[int] = set()
    while got != wanted:
        got.add(listener.next()["id"])
    listener.close()


def test_nobody_may_listen_on_who_may_not_see(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STILL", 0.05)
    stream = clinic.parts.events.listen(None, lambda: False)
    clinic.loop.run(anext(stream))
    with pytest.raises(StopAsyncIteration):
        clinic.loop.run(anext(stream))


def test_nobody_may_listen_on_amid_findings(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings come faster than a listener would be asked for in quiet."""
    (known,) = clinic.sent(radiograph(1))
    number = clinic.rows(Answer, Answer.image_id == known["image"])[0].id
    monkeypatch.setattr(module, "_STILL", 0.5)
    stream = clinic.parts.events.listen(None, lambda: False)
    clinic.loop.run(anext(stream))
    ended = Event()

    def tell() -> None:
        while not ended.wait(0.02):
            clinic.parts.events.tell(number)

    async def listen_on() -> None:
        async for _ in stream:
            pass

    teller = Thread(target=tell)
    teller.start()
    try:
        clinic.loop.run(asyncio.wait_for(listen_on(), 10))
    finally:
        ended.set()
        teller.join()


@ON_SQLITE
def test_the_audit_log_tells_who_listened(clinic: Clinic) -> None:
    cookies = {COOKIE: clinic.browser(clinic.users["reader"]).cookie}
    with listening(clinic) as (host, port):
        for _ in range(2):  # the line broke, and is taken up again
            with httpx.stream("GET", f"http://{host}:{port}/api/v1/events", cookies=cookies, trust_env=False) as line:
                assert next(line.iter_lines())
    lines = [(entry.did, entry.what) for entry in clinic.rows(Entry) if entry.did == "listened"]
    assert lines == [("listened", "events")]


def test_a_login_that_only_listens_ends_idle(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workstation that was left on the worklist: it listens, and looks for what is new by itself."""
    monkeypatch.setattr(module, "_STILL", 0.05)

    browser = clinic.browser(clinic.users["reader"])
    mine = Login.digest == digest(browser.cookie)

    def leave(ago: timedelta) -> datetime:
        """Have the login be used last that long ago."""
        at = now() - ago
        with clinic.parts.database.writing() as session:
            session.execute(sa.update(Login).where(mine).values(used=at))
        return at

    def used() -> datetime:
        found: datetime = clinic.rows(Login, mine)[0].used
        return found

    with (
        listening(clinic) as (host, port),
        httpx.Client(
            base_url=f"http://{host}:{port}/api/v1", cookies={COOKIE: browser.cookie}, trust_env=False
        ) as page,
    ):
        left = leave(IDLE - timedelta(minutes=5))
        with page.stream("GET", "/events") as line:
            pieces = line.iter_lines()
            while next(pieces) != ": still there":
                pass
            assert page.get("/studies", headers={UNATTENDED: "1"}).status_code == 200
            while next(pieces) != ": still there":
                pass
            assert used() - left < timedelta(seconds=1)
            leave(IDLE + timedelta(minutes=1))
            for _ in pieces:  # until it ends
                pass
        assert page.get("/me").status_code == 401
        leave(IDLE - timedelta(minutes=5))
        assert page.get("/me").status_code == 200
        assert now() - used() < timedelta(minutes=1)  # somebody is there


def test_what_becomes_of_a_study_is_told(clinic: Clinic) -> None:
    listener = Listener(clinic)
    (taken,) = clinic.sent(picture()[:40], answered=False)
    told = [listener.next(name="study")]
    clinic.answer()
    told.append(listener.next(name="study"))
    assert clinic.reader.post(f"/images/{taken['image']}/retry").status_code == 202
    told.append(listener.next(name="study"))
    clinic.answer()
    told.append(listener.next(name="study"))
    clinic.administrator.delete(f"/studies/{taken['study']}")
    told.append(listener.next(name="study"))

    assert [one["what"] for one in told] == ["arrived", "unanswered", "waiting", "unanswered", "deleted"]
    assert [one["image"] for one in told] == [taken["image"]] * 4 + [None]
    assert {one["study"] for one in told} == {taken["study"]}
    assert [one["id"] for one in told] == [change.id for change in clinic.rows(Change)]
    for one in told:
        described(clinic.app).check_data("StudyChanged", one)
        assert set(one) == {"id", "study", "image", "what", "at"}  # and so nothing of a patient
    listener.close()


def test_a_finding_after_a_deleted_one_is_told(clinic: Clinic) -> None:
    listener = Listener(clinic)
    (taken,) = clinic.sent(radiograph(1))
    gone = listener.next()["id"]
    clinic.administrator.delete(f"/studies/{taken['study']}")
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Change).values(at=now() - timedelta(days=8)))
    changes.forget_old(clinic.parts.database)
    (taken,) = clinic.sent(radiograph(2, study=2))
    told = listener.next()
    assert told["image"] == taken["image"]
    assert told["id"] > gone  # else whoever goes on after that one would miss it
    listener.close()


def test_nothing_is_told_of_what_did_not_come_to_stand(clinic: Clinic) -> None:
    listener = Listener(clinic)
    with clinic.parts.database.writing() as session:
        changes.note(session, 99, "arrived", 99)
        session.rollback()
    clinic.sent(radiograph(), answered=False)
    assert listener.next(name="study")["study"] != 99
    listener.close()


def test_whoever_comes_back_hears_what_became_of_studies_meanwhile(clinic: Clinic) -> None:
    (first,) = clinic.sent(radiograph(1))
    listener = Listener(clinic)
    (second,) = clinic.sent(radiograph(2, study=2), answered=False)
    while listener.next(name="study")["study"] != second["study"]:
        pass  # the first one's results, which may be told a moment after they stood in the database
    by_study = [int(number) for number in listener.id.split(".")]
    listener.close()
    clinic.answer()
    (third,) = clinic.sent(radiograph(3, study=3))
    clinic.administrator.delete(f"/studies/{second['study']}")
    with clinic.parts.database.writing() as session:  # more answers than threads may tell out of order
        session.execute(sa.update(Change).where(Change.study == first["study"]).values(after=-100))

    for after in (by_study, [by_study[0]]):  # what a study event's id says, or a finding's
        back = Listener(clinic, *after)
        told = [back.next(name="study")]
        while told[-1]["what"] != "deleted":
            told.append(back.next(name="study"))
        assert {one["study"] for one in told[-2:]} == {second["study"], third["study"]}
        found = [back.next()["study"]]
        while found[-1] != third["study"]:
            found.append(back.next()["study"])
        back.close()
    headers = {"Last-Event-ID": "3.x"}
    assert clinic.reader.get("/events", headers=headers).status_code == 422


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_whoever_comes_back_gets_what_many_changes_in_one_transaction_were(clinic: Clinic) -> None:
    listener = Listener(clinic)
    with clinic.parts.database.writing() as session:
        for study in range(1001, 1101):  # as many as are deleted at once
            changes.note(session, study, "deleted")
        session.flush()
        (taken,) = clinic.sent(radiograph(), answered=False)
        assert listener.next(name="study")["study"] == taken["study"]
    after = [int(number) for number in listener.id.split(".")]
    listener.close()
    back = Listener(clinic, *after)
    told = {back.next(name="study")["study"] for _ in range(101)}
    assert told == {*range(1001, 1101), taken["study"]}
    back.close()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_deletion_that_takes_long_is_told_in_its_place(clinic: Clinic) -> None:
    (first,) = clinic.sent(radiograph(1), answered=False)
    database = clinic.parts.database
    with ThreadPoolExecutor(1) as threads:
        with database.writing() as session:  # what deleting has to wait for
            session.execute(sa.select(Job.id).with_for_update()).all()
            deleting = threads.submit(clinic.administrator.delete, f"/studies/{first['study']}")
            wait_for_a_lock(database)
            clinic.sent(radiograph(2, study=2), answered=False)
        assert deleting.result(60).status_code == 200
    assert [change.what for change in clinic.rows(Change)] == ["arrived", "arrived", "deleted"]


def test_what_became_of_studies_is_kept_for_a_week(clinic: Clinic) -> None:
    clinic.sent(*(radiograph(number) for number in range(1, 4)), answered=False)
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Change).values(at=now() - timedelta(days=8)))
    newest = clinic.rows(Change)[-1].id
    changes.forget_old(clinic.parts.database)
    assert [change.id for change in clinic.rows(Change)] == [newest]


def test_there_are_only_so_many_listeners(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTENERS", 1)
    first = Listener(clinic)
    with pytest.raises(TooManyError):
        clinic.loop.run(anext(clinic.parts.events.listen(None, lambda: True)))
    assert clinic.reader.get("/events").status_code == 429
    first.close()
    assert clinic.reader.get("/events", headers={"Last-Event-ID": "x"}).status_code == 422
    Listener(clinic).close()


def test_what_a_trial_answers_is_told_to_nobody(clinic: Clinic, tmp_path: Path) -> None:
    from tiny_bundle import write_tiny_bundle

    from callus.service import trials

    listener = Listener(clinic)
    (known,) = clinic.sent(radiograph(1))
    assert listener.next()["image"] == known["image"]
    number = clinic.parts.models.add(write_tiny_bundle(tmp_path / "other", name="other"))
    trials.begin_trial(clinic.parts.database, number, 5, who="ada")
    clinic.answer()
    assert len(clinic.rows(Answer)) == 2
    with pytest.raises(TimeoutError):
        listener.next(0.2)
    resumed = Listener(clinic, 0)
    assert resumed.next()["id"] == clinic.rows(Answer)[0].id
    with pytest.raises(TimeoutError):
        resumed.next(0.2)


def test_closing_ends_all_streams(clinic: Clinic) -> None:
    stream = clinic.parts.events.listen(None, lambda: True)
    clinic.loop.run(anext(stream))

    async def end() -> None:
        waiting = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0.05)
        clinic.parts.events.close()
        assert await asyncio.wait_for(waiting, 5) is None

    clinic.loop.run(end())
