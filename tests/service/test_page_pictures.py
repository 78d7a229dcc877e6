"""Pictures of one exam are one study, where whoever sends them says so; and none is loaded larger than it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clinic import picture
from visit import DESK, PHONE, Visit, begin, checked, send, started, visiting

DRAWN = "() => document.querySelectorAll('.printed .whole[src*=overlay]').length === 2"
"""Of both images the overlays are there to be printed: they are made after the findings are told."""


@pytest.fixture
def service(tmp_path: Path, tiny_bundle: Path) -> Iterator[SimpleNamespace]:
    with started(tmp_path / "data", tiny_bundle) as one:
        yield one


def photographs(*seeds: int) -> list[Any]:
    return [{"name": f"{seed}.png", "mimeType": "image/png", "buffer": picture(seed, (300, 200))} for seed in seeds]


@pytest.mark.slow
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_pictures_become_one_exam_or_one_each(service: SimpleNamespace, width: int) -> None:
    with visiting(service.address, width) as visit:
        begin(visit, service.secret)
        page = visit.page
        files, question = page.get_by_label("Send radiographs"), page.get_by_role("dialog")
        upload, lines = page.get_by_role("region", name="upload"), page.locator(".studies tbody tr")

        files.set_input_files(photographs(1, 2, 3))
        question.get_by_text("Are these 3 pictures one exam?").wait_for()
        checked(visit)
        page.keyboard.press("Escape")  # sends nothing
        question.wait_for(state="detached")
        files.set_input_files(photographs(1, 2, 3))
        assert question.get_by_role("button", name="One exam").evaluate("one => one === document.activeElement")
        page.keyboard.press("Enter")
        upload.get_by_text("3 taken").wait_for()
        lines.filter(has_text="3 images").wait_for()
        assert lines.count() == 1

        files.set_input_files(photographs(3, 2, 1))  # the same, in whatever order
        question.get_by_role("button", name="One exam").click()
        upload.get_by_text("0 taken, 3 known already").wait_for()
        files.set_input_files(photographs(4, 5))
        question.get_by_role("button", name="An exam each").click()
        upload.get_by_text("2 taken").wait_for()
        files.set_input_files(photographs(6))  # nothing to be asked
        upload.get_by_text("1 taken").wait_for()
        lines.nth(3).wait_for()
        assert lines.filter(has_text="3 images").count() == 1

        if width == PHONE:
            page.get_by_label("Another of this exam").set_input_files(photographs(7))
            lines.filter(has_text="2 images").wait_for()
        upload.get_by_role("link", name="study").click()
        images = page.get_by_role("list", name="images of this exam").get_by_role("listitem")
        before = 2 if width == PHONE else 1
        page.get_by_label("Add pictures").set_input_files(
            [*photographs(8, 9), {"name": "text.dcm", "mimeType": "application/dicom", "buffer": b"DICM"}]
        )
        page.get_by_text("2 taken").wait_for()
        assert "is no picture" in page.locator(".refused").inner_text()
        images.nth(before + 1).wait_for()
        assert images.count() == before + 2
        checked(visit)
        visit.fine()


def pictures_of(visit: Visit) -> list[str]:
    """Which pictures are asked for from now on, as long as nobody looks away."""
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url) if ".png" in request.url else None)
    return asked


@pytest.mark.slow
def test_whole_pictures_are_loaded_only_to_be_printed(service: SimpleNamespace) -> None:
    with visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        send(visit)
        page = visit.page
        page.locator("tr", has_text="2 images").locator("text=fracture").wait_for()
        asked = pictures_of(visit)
        page.get_by_role("link", name="A-17").click()
        page.locator(".box.solid").wait_for(state="attached")
        page.get_by_role("button", name="none seen").wait_for()
        page.wait_for_function(DRAWN)
        page.wait_for_load_state("networkidle")
        assert asked
        assert all(url.endswith("?width=128") for url in asked)

        there = "[...document.querySelectorAll('.printed .whole')].map(one => one.complete && one.naturalWidth > 0)"
        page.evaluate(f"() => {{ window.print = () => {{ window.printed = {there}; }}; }}")
        page.get_by_role("button", name="Print").click()
        page.wait_for_function("() => window.printed")
        assert page.evaluate("() => window.printed") == [True, True]
        assert sum("overlay.png" in url and "width" not in url for url in asked) == 2
        visit.fine()


@pytest.mark.slow
def test_the_browser_s_own_menu_prints_with_pictures(service: SimpleNamespace) -> None:
    with visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        send(visit)
        visit.page.get_by_role("link", name="A-17").click()
        visit.page.get_by_role("button", name="none seen").wait_for()
        visit.page.wait_for_function(DRAWN)
        visit.page.wait_for_load_state("networkidle")
        there = "one => one.complete && one.naturalWidth > 0"
        visit.page.wait_for_function(f"() => [...document.querySelectorAll('.printed img.preview')].every({there})")
        assert visit.page.pdf().count(b"/Subtype /Image") == 2  # the small ones, or where it loads them the whole ones

        visit.page.evaluate("() => { window.print = () => { window.printed = true; }; }")
        visit.page.keyboard.press("Control+p")
        visit.page.wait_for_function("() => window.printed")
        assert visit.page.locator(".printed .loaded").count() == 2
        visit.fine()
