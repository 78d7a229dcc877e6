"""What an administrator does in the page: people, tokens, what is stuck, models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from tiny_bundle import packed_blind_bundle
from visit import DESK, PASSWORD, PATIENCE, PHONE, Visit, begin, checked, send, started, visiting

from callus.service import events, jobs, stuck
from callus.service.settings import Destination
from callus.service.tables import Job

NEW = "something else entirely"
WIDTHS = pytest.mark.parametrize("width", [DESK, PHONE])


@pytest.fixture
def service(tmp_path: Path, tiny_bundle: Path) -> Iterator[SimpleNamespace]:
    with started(tmp_path / "data", tiny_bundle) as one:
        yield one


def administer(visit: Visit) -> None:
    """Open the administrator's page; what it asks whether one means it is meant."""
    visit.page.goto(f"{visit.address}administration")
    visit.page.get_by_role("cell", name="the administrator").first.wait_for()


def role_of(visit: Visit) -> str:
    asked = "async () => (await (await fetch('/api/v1/me')).json()).role"
    return str(visit.page.evaluate(asked))


def tries_again_and_drops(service: SimpleNamespace, width: int) -> None:
    with service.parts.database.writing() as session:
        there = Job(kind=jobs.DELIVER, key="9 archive", about={"answer": 9, "destination": "archive"}, state="stuck")
        there.error, there.attempts = "takes too long", 30
        session.add(there)
        for number, name in enumerate(("cloud", "cloud", "cloud", "pacs")):
            jobs.add(session, jobs.DELIVER, f"{number} {name}", about={"answer": number, "destination": name})
    stuck.give_up_gone(service.parts.database, service.parts.settings)  # which name neither of the two
    with visiting(service.address, width) as visit:
        begin(visit, service.secret)
        visit.page.on("dialog", lambda dialog: dialog.accept())
        administer(visit)
        card = visit.page.get_by_role("region", name="What is stuck")
        card.get_by_text("destination pacs is no longer in the settings").wait_for()
        assert "takes too long (30 times)" in card.inner_text()
        checked(visit)
        card.get_by_role("button", name=f"Try again job {there.id}").click()
        card.locator("tbody tr").nth(4).wait_for(state="detached")
        first = card.get_by_role("row", name="to cloud").first
        first.get_by_role("button", name="Drop").click()
        card.locator("tbody tr").nth(3).wait_for(state="detached")
        card.get_by_role("button", name="Drop all to cloud").click()
        card.locator("tbody tr", has_text="to cloud").first.wait_for(state="detached")
        assert card.locator("tbody tr").count() == 1
        visit.fine()
        card.get_by_role("button", name="Try again: all to pacs").click()
        card.get_by_role("alert").wait_for()
        assert "put it back into the settings" in card.get_by_role("alert").inner_text()


@pytest.mark.slow
@WIDTHS
def test_people_are_invited_changed_given_another_password_and_shut_out(
    service: SimpleNamespace, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_STILL", 0.5)  # whoever is shut out is so at once, and need not load anything
    with visiting(service.address, width) as visit:
        visit.page.on("dialog", lambda dialog: dialog.accept())
        begin(visit, service.secret)
        administer(visit)
        page = visit.page
        page.get_by_label("Invite a").select_option("reader")
        page.get_by_role("button", name="Make a link").click()
        invitation = page.locator(".secret").inner_text()
        checked(visit)

        ada = visit.somebody_else()
        ada.page.goto(invitation)
        ada.page.get_by_label("Name").fill("ada")
        ada.page.get_by_label("Password", exact=True).fill(PASSWORD)
        ada.page.get_by_label("Password again").fill(PASSWORD)
        ada.page.get_by_role("button", name="Make the account").click()
        ada.page.get_by_role("heading", name="Worklist").wait_for()
        assert role_of(ada) == "reader"

        administer(visit)
        page.get_by_label("role of ada").select_option("radiologist")
        ada.page.reload()
        ada.page.get_by_label("Patient or accession").wait_for()
        assert role_of(ada) == "radiologist"

        assert page.get_by_role("button", name="Reset password of the administrator").count() == 0
        page.get_by_role("button", name="Reset password of ada").click()
        page.get_by_text("For ada to choose another password, once, within 24 hours").wait_for()
        reset = page.locator(".secret").inner_text()
        checked(visit)
        ada.page.get_by_role("heading", name="Log in").wait_for()
        ada.page.goto(reset)  # of the page that is open: only what follows the # is new
        ada.page.get_by_role("heading", name="Choose another password").wait_for()
        assert reset.partition("=")[2] not in ada.page.url
        assert ada.judged() == []
        ada.page.get_by_label("Password", exact=True).fill(NEW)
        ada.page.get_by_label("Password again").fill(f"{NEW}!")
        ada.page.get_by_role("button", name="Take this password").click()
        ada.page.get_by_text("the two passwords are not the same").wait_for()
        ada.page.get_by_label("Password again").fill(NEW)
        ada.page.get_by_role("button", name="Take this password").click()
        ada.page.get_by_text("The password of ada is changed").wait_for()
        assert ada.page.get_by_label("Name").input_value() == "ada"
        ada.page.get_by_label("Password").fill(NEW)
        ada.page.get_by_role("button", name="Log in").click()
        ada.page.get_by_role("heading", name="Worklist").wait_for()

        page.get_by_label("ada may log in").uncheck()
        page.get_by_role("button", name="Reset password of ada").and_(page.locator(":disabled")).wait_for()
        ada.page.get_by_role("heading", name="Log in").wait_for()
        ada.written = [line for line in ada.written if "401" not in line]  # by which the page learnt of it
        ada.fine()
        visit.fine()


@pytest.mark.slow
@WIDTHS
def test_a_token_is_made_shown_once_and_revoked(service: SimpleNamespace, width: int) -> None:
    with visiting(service.address, width) as visit:
        begin(visit, service.secret)
        administer(visit)
        page = visit.page
        tokens = page.get_by_role("region", name="Tokens for programs")
        tokens.get_by_label("Name").fill("robot")
        tokens.get_by_label("send").check()
        page.get_by_role("button", name="Make a token for a year").click()
        secret = tokens.locator(".secret").inner_text()
        tokens.get_by_role("cell", name="read, send").wait_for()
        checked(visit)

        def asks() -> int:
            headers = {"Authorization": f"Bearer {secret}"}
            return httpx.get(f"{service.address}api/v1/studies", headers=headers).status_code

        assert asks() == 200
        administer(visit)
        assert secret not in page.content()
        page.get_by_role("button", name="Revoke robot").click()
        tokens.get_by_role("cell", name="robot", exact=True).wait_for(state="detached")
        assert asks() == 401
        visit.fine()


@pytest.mark.slow
@WIDTHS
def test_what_is_stuck_is_tried_again_or_dropped(tmp_path: Path, tiny_bundle: Path, width: int) -> None:
    archive = Destination("archive", kind="stow-rs", url="http://127.0.0.1:9/dicom-web")
    with started(tmp_path / "data", tiny_bundle, destinations=(archive,)) as service:
        tries_again_and_drops(service, width)


@pytest.mark.slow
@WIDTHS
def test_a_model_is_added_tried_switched_to_and_back(service: SimpleNamespace, width: int, tmp_path: Path) -> None:
    with visiting(service.address, width) as visit:
        visit.page.on("dialog", lambda dialog: dialog.accept())
        begin(visit, service.secret)
        send(visit)
        visit.page.locator("tr", has_text="2 images").wait_for()
        administer(visit)
        models = visit.page.get_by_role("region", name="Models")
        file = {"name": "other.callus", "mimeType": "application/zip", "buffer": packed_blind_bundle(tmp_path)}
        models.get_by_label("Add a model").set_input_files([file])
        models.get_by_role("button", name="Try on the last 200: other").click()
        models.get_by_text("answers would change").wait_for()
        told = models.get_by_text("other on 2 radiographs: 1 answers would change.")
        ends = time.monotonic() + PATIENCE / 1000
        while not told.count() and time.monotonic() < ends:  # the trial goes on meanwhile
            models.get_by_role("button", name="What changes with other").click()
            visit.page.wait_for_timeout(200)
        assert "fracture (1.00) to none seen (1.00)" in models.get_by_role("listitem").inner_text()
        checked(visit)
        for name in ("other", "tiny"):
            models.get_by_role("button", name=f"Switch to it: {name}").click()
            models.get_by_role("row", name=f"{name} active").wait_for()
        checked(visit)
        visit.fine()
