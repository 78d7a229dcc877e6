"""The page's line to the service comes back with what came meanwhile; a login that ends leaves nothing on screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from visit import DESK, Visit, begin, checked, radiograph, started, visiting

from callus.service import events, making
from callus.service.parts import Parts
from callus.service.tables import Answer, Image, Job, now
from callus.service.tables import Session as Login

EVENTS = "**/api/v1/events"
OF_HTTP_1 = 6
"""Connections that browsers open to a host, for all tabs together."""
HIDE = """
Object.defineProperty(Document.prototype, "hidden", {get: () => window.away === true});
window.leave = away => { window.away = away; document.dispatchEvent(new Event("visibilitychange")); };
"""


@pytest.fixture
def service(tmp_path: Path, tiny_bundle: Path) -> Iterator[SimpleNamespace]:
    with started(tmp_path / "data", tiny_bundle) as one:
        yield one


def line(visit: Visit) -> Any:
    """What the page says of its line."""
    return visit.page.locator(".line")


def come(parts: Parts, number: int, *, bright: bool) -> None:
    """A radiograph comes from elsewhere, is answered, and its results are made."""
    taken = parts.intake.take(radiograph(number, bright=bright), source="dicom", sender="ROOM1")
    parts.wake()

    def is_done() -> bool:
        with parts.database.reading() as session:
            return session.scalar(sa.select(Job.state).where(Job.image_id == taken.image_id)) == "done"

    end = time.monotonic() + 120
    while not is_done():
        assert time.monotonic() < end, "it is not answered"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_line_that_is_refused_comes_back_with_what_came_meanwhile(service: SimpleNamespace) -> None:
    """As by a proxy while the service starts anew; no finding had come before, so nothing says where to go on."""
    with visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        visit.page.get_by_text("No radiograph has come yet").wait_for()
        visit.page.route(EVENTS, lambda route: route.fulfill(status=502, body="no such service"))
        visit.page.reload()
        visit.page.get_by_text("not live").wait_for()
        come(service.parts, 1, bright=True)
        visit.page.wait_for_timeout(1000)
        assert visit.page.locator(".studies").count() == 0
        visit.page.unroute(EVENTS)
        visit.page.locator("tr", has_text="fracture").wait_for()
        assert line(visit).inner_text() == "live"
        assert visit.elsewhere == []


@pytest.mark.slow
def test_where_the_login_ends_nothing_stays_on_the_screen(
    service: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_STILL", 0.2)
    with visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        come(service.parts, 1, bright=True)
        visit.page.get_by_role("cell", name="Doe, Jane").wait_for()
        with service.parts.database.writing() as session:
            session.execute(sa.update(Login).values(ends=now()))
        visit.page.get_by_role("heading", name="Log in").wait_for()  # nobody touched anything
        assert "Doe" not in visit.page.content()


@pytest.mark.slow
def test_what_is_no_finding_is_shown_too(service: SimpleNamespace) -> None:
    with visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        visit.page.get_by_text("No radiograph has come yet").wait_for()
        visit.page.wait_for_timeout(1000)  # the look after the line was opened has been
        service.parts.answering.stop()
        service.parts.intake.take(radiograph(1, bright=True), source="dicom", sender="ROOM1")
        visit.page.locator("tr", has_text="waiting").wait_for()
        visit.page.get_by_role("link", name="A-17").click()
        visit.page.get_by_role("heading", name="A-17").wait_for()
        other = visit.page.context.new_page()
        other.on("dialog", lambda dialog: dialog.accept())
        other.goto(visit.page.url)
        other.get_by_role("button", name="Delete").click()
        other.get_by_text("No radiograph has come yet").wait_for()
        visit.page.get_by_text("there is no such study").wait_for()
        assert "Doe" not in visit.page.content()


@pytest.mark.slow
def test_an_unanswered_radiograph_is_tried_again(service: SimpleNamespace) -> None:
    with visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        come(service.parts, 1, bright=True)
        with service.parts.database.writing() as session:  # as where the answer did not come in time
            session.execute(sa.delete(Answer))
            session.execute(sa.update(Image).values(error="took too long"))
            session.execute(sa.update(Job).values(state="stuck"))
        visit.page.goto(f"{service.address}studies/1")
        answer = visit.page.get_by_role("region", name="wrist L")
        answer.get_by_text("took too long").wait_for()
        checked(visit)
        answer.get_by_role("button", name="Try again").click()
        answer.get_by_text("fracture").first.wait_for()
        assert answer.get_by_text("took too long").count() == 0
        visit.fine()


@pytest.mark.slow
def test_a_finding_is_shown_before_its_results_which_appear_when_they_are_made(
    service: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, gone = making.make, threading.Event()

    def held(*order: Any) -> making.Made:
        assert gone.wait(120)
        return make(*order)

    monkeypatch.setattr(making, "make", held)
    with visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        visit.page.get_by_text("No radiograph has come yet").wait_for()
        service.parts.intake.take(radiograph(1, bright=True), source="dicom", sender="ROOM1")
        service.parts.wake()
        try:
            visit.page.locator("tr", has_text="fracture").wait_for()
            visit.page.get_by_role("link", name="A-17").click()
            answer = visit.page.get_by_role("region", name="wrist L")
            answer.get_by_text("being made").wait_for()
            assert answer.get_by_role("link").all_inner_texts() == ["original"]
            visit.page.get_by_label("Heat map").fill("1")
            visit.page.locator(".over image").wait_for()
            alone = visit.page.locator(".printed").get_by_text("The picture is the radiograph alone")
            alone.wait_for(state="attached")
            checked(visit)
        finally:
            gone.set()
        answer.get_by_role("link", name="report (SR)").wait_for()
        assert answer.get_by_text("being made").count() == alone.count() == 0
        assert "overlay.png" in (visit.page.locator(".printed .whole").get_attribute("src") or "")
        visit.fine()


@pytest.mark.slow
def test_hidden_tabs_have_no_line(service: SimpleNamespace) -> None:
    """Of more tabs than a browser has connections, the last one works."""
    with visiting(service.address, DESK) as visit:
        visit.page.context.add_init_script(HIDE)
        begin(visit, service.secret)
        come(service.parts, 1, bright=True)
        tabs = [visit.page]
        for _ in range(OF_HTTP_1 + 1):
            tabs[-1].evaluate("leave(true)")
            tabs.append(visit.page.context.new_page())
            tabs[-1].goto(f"{service.address}studies/1", timeout=10_000)
            tabs[-1].get_by_role("heading", name="A-17").wait_for(timeout=10_000)
        come(service.parts, 2, bright=False)
        assert len(service.parts.events._listeners) == 1
        tabs[0].wait_for_timeout(1000)
        assert tabs[0].locator("tr", has_text="2 images").count() == 0
        tabs[-1].evaluate("leave(true)")
        tabs[0].evaluate("leave(false)")
        tabs[0].locator("tr", has_text="2 images").wait_for()
        visit.fine()
