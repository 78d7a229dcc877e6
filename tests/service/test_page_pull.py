"""A study is fetched from another archive in the page: searched or by its UID, and what became of it is told."""

from __future__ import annotations

import json
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
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_an_archive_is_searched(tmp_path: Path, tiny_bundle: Path, width: int) -> None:
    found = {
        "0020000D": {"vr": "UI", "Value": [STUDY]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO", "Value": ["P-4711"]},
        "00080020": {"vr": "DA", "Value": ["20240229"]},
        "00080061": {"vr": "CS", "Value": ["DX"]},
    }
    with (
        answering(STUDY) as web,
        started(tmp_path / "data", tiny_bundle, sources=(Source("archive", web.url),)) as service,
        visiting(service.address, width) as visit,
    ):
        web.hold(radiograph(1, bright=True))
        web.answers["/dicom-web/studies"] = (200, "application/dicom+json", json.dumps([found]).encode())
        begin(visit, service.secret)
        visit.page.get_by_role("button", name="Fetch a study").click()
        dialog = visit.page.get_by_role("dialog")
        search = dialog.get_by_role("button", name="Search")
        search.click()
        dialog.get_by_text("nothing is searched for").wait_for()
        dialog.get_by_label("Patient's number").fill(" P-4711 ")
        search.click()
        dialog.get_by_text("1 found.").wait_for()
        (line,) = dialog.get_by_role("list", name="studies found").get_by_role("listitem").all()
        for text in ("Doe, Jane", "P-4711", "2024-02-29", "DX"):
            assert text in line.inner_text()
        checked(visit)
        dialog.get_by_role("button", name=f"Fetch {STUDY}").click()
        dialog.get_by_text("1 taken").wait_for()
        search.click()
        line.get_by_role("link", name="study 1").wait_for()
        assert not [path for path in web.asked if "Doe" in path]

        web.answers["/dicom-web/studies"] = (200, "application/dicom+json", b"[]")
        search.click()
        dialog.get_by_text("It has no such study.").wait_for()
        visit.page.keyboard.press("Escape")
        visit.page.get_by_role("button", name="Fetch a study").click()
        assert dialog.get_by_label("Patient's number").input_value() == ""  # nobody's stays
        visit.written = [line for line in visit.written if "422" not in line]  # browsers write down what was refused
        visit.fine()


@pytest.mark.slow
def test_where_there_is_no_archive_nothing_is_offered(tmp_path: Path, tiny_bundle: Path) -> None:
    with started(tmp_path / "data", tiny_bundle) as service, visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        visit.page.wait_for_load_state("networkidle")
        assert visit.page.get_by_role("button", name="Fetch a study").count() == 0
