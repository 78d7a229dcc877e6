"""A study is fetched from another archive in the page: by its UID, with how far it is and what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicomweb_server import answering
from visit import DESK, PHONE, begin, checked, radiograph, started, visiting

from callus.service.settings import Source

STUDY = "1.2.276.0.8.1"


@pytest.mark.slow
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_study_is_fetched(tmp_path: Path, tiny_bundle: Path, width: int) -> None:
    with (
        answering(STUDY) as web,
        started(tmp_path / "data", tiny_bundle, sources=(Source("archive", web.url),)) as service,
        visiting(service.address, width) as visit,
    ):
        web.hold(radiograph(1, bright=True))
        web.hold(radiograph(2, bright=False))
        web.open.clear()
        begin(visit, service.secret)
        page = visit.page
        page.get_by_role("button", name="Fetch a study").click()
        dialog = page.get_by_role("dialog", name="Fetch a study from another archive")
        uid = dialog.get_by_label("Study Instance UID")
        fetch = dialog.get_by_role("button", name="Fetch it")
        uid.fill("no uid")
        fetch.click()
        assert uid.evaluate("input => input.validity.patternMismatch")
        assert dialog.get_by_role("listitem").count() == 0

        uid.fill(f"  {STUDY} ")  # as it is copied
        fetch.click()
        dialog.get_by_text("Asked for.").wait_for()
        dialog.get_by_text("on its way").first.wait_for()
        uid.fill(STUDY)
        fetch.click()
        dialog.get_by_text("This study is on its way already.").wait_for()
        assert dialog.get_by_role("listitem").count() == 1
        checked(visit)
        web.open.set()
        dialog.get_by_text("2 taken").wait_for()

        uid.fill("1.2.3.4")
        web.study = "1.2.3.4"
        web.search = []
        fetch.click()
        dialog.get_by_text("has no such study").wait_for()
        dialog.get_by_role("button", name="Ask again for 1.2.3.4").wait_for()
        checked(visit)
        web.hold(radiograph(3, bright=False))  # which says that it is of another study
        dialog.get_by_role("button", name="Ask again for 1.2.3.4").click()
        dialog.get_by_text("0 taken, 1 refused").wait_for()

        dialog.get_by_role("link", name="study 1").click()
        page.get_by_role("heading", name="A-17").wait_for()
        page.get_by_role("list", name="images of this exam").get_by_role("listitem").nth(1).wait_for()
        visit.fine()


@pytest.mark.slow
def test_where_there_is_no_archive_nothing_is_offered(tmp_path: Path, tiny_bundle: Path) -> None:
    with started(tmp_path / "data", tiny_bundle) as service, visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        visit.page.wait_for_load_state("networkidle")
        assert visit.page.get_by_role("button", name="Fetch a study").count() == 0
