"""The worklist's days are those of whoever looks at it, wherever the service is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from clinic import Clinic, radiograph
from visit import DESK, PASSWORD, Visit, begin, started, visiting
from visit import radiograph as whole_radiograph

from callus.service.tables import Study

CAME = datetime(2026, 3, 10, 11, 0, tzinfo=UTC)
"""On Kiritimati (UTC+14) that is at one o'clock on the day after."""


def test_studies_are_found_by_days_of_utc_and_by_instants(clinic: Clinic) -> None:
    clinic.sent(radiograph(1))
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Study).values(received=CAME))

    def found(first: str, last: str) -> tuple[int, int]:
        by_address = clinic.reader.get("/studies", params={"from": first, "to": last})
        by_body = clinic.reader.post("/studies/search", {"text": "", "from": first, "to": last})
        assert by_address.status_code == by_body.status_code == 200, by_address.text
        return len(by_address.json()["studies"]), len(by_body.json()["studies"])

    assert found("2026-03-10", "2026-03-10") == (1, 1)
    assert found("2026-03-11", "2026-03-12") == (0, 0)
    assert found("2026-03-10T10:00:00Z", "2026-03-11T10:00:00.000Z") == (1, 1)
    assert found("2026-03-11T00:00:00+14:00", "2026-03-12T00:00:00+14:00") == (1, 1)
    assert found("2026-03-10T11:00:00Z", "2026-03-10T11:00:01Z") == (1, 1)
    assert found("2026-03-10T10:00:00Z", "2026-03-10T11:00:00Z") == (0, 0)  # the instant at the end is outside
    assert found("2026-03-10T10:00:00Z", "9999-12-31") == (1, 1)
    nonsense = (
        "2026-03-10T10:00:00",
        "2026-03-10 10:00:00Z",
        "2026-13-10T10:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "20260310",
    )
    for time in nonsense:
        assert clinic.reader.get("/studies", params={"from": time}).status_code == 422
        assert clinic.reader.post("/studies/search", {"text": "", "to": time}).status_code == 422


@pytest.mark.slow
def test_today_is_the_reader_s(tmp_path: Path, tiny_bundle: Path) -> None:
    with started(tmp_path / "data", tiny_bundle) as service, visiting(service.address, DESK) as first:
        begin(first, service.secret)
        service.parts.intake.take(whole_radiograph(1, bright=True), source="dicom", sender="ROOM1")
        with service.parts.database.writing() as session:
            session.execute(sa.update(Study).values(received=CAME))
        context = first.page.context.browser.new_context(timezone_id="Pacific/Kiritimati")
        visit = Visit(context.new_page(), service.address)
        page = visit.page
        page.goto(service.address)
        page.get_by_label("Name").fill("the administrator")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        line = page.get_by_role("link", name="A-17")
        line.wait_for()
        for day, there in (("2026-03-10", False), ("2026-03-11", True), ("2026-03-12", False)):
            page.get_by_label("Came from").fill(day)
            page.get_by_label("until", exact=True).fill(day)
            (line if there else page.get_by_text("Nothing fits.")).wait_for()
            page.get_by_role("button", name="Show all").click()
            line.wait_for()
        page.get_by_label("Patient or accession").fill("doe")
        page.get_by_label("until", exact=True).fill("2026-03-10")
        page.get_by_text("Nothing fits.").wait_for()
        visit.fine()
