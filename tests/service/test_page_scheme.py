"""Dark until somebody wants it light; light everywhere but around the radiograph; and remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicomweb_server import answering
from visit import DESK, PASSWORD, PHONE, Visit, begin, checked, send, started, visiting

from callus.service.settings import Source


def brightness(visit: Visit, selector: str) -> float:
    """Of an element's background, 0 to 255."""
    colour = visit.page.locator(selector).evaluate("element => getComputedStyle(element).backgroundColor")
    red, green, blue = (int(one) for one in colour[len("rgb(") : -1].split(","))
    return (red + green + blue) / 3


def choose(visit: Visit, scheme: str) -> None:
    visit.page.get_by_role("button", name="the administrator").click()
    visit.page.get_by_role("dialog").get_by_label(scheme).check()
    checked(visit)
    visit.page.get_by_role("button", name="Close").click()


@pytest.mark.slow
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_light_page_is_chosen_and_stays(tmp_path: Path, tiny_bundle: Path, width: int) -> None:
    with (
        answering("1.2.3") as web,
        started(tmp_path / "data", tiny_bundle, sources=(Source("archive", web.url),)) as service,
        visiting(service.address, width) as visit,
    ):
        page = visit.page
        page.emulate_media(color_scheme="light")
        begin(visit, service.secret)
        send(visit)
        assert brightness(visit, "body") < 30  # whatever the system prefers
        choose(visit, "light")
        assert brightness(visit, "body") > 220
        checked(visit)
        page.get_by_role("button", name="Fetch a study").click()
        page.get_by_label("Study Instance UID").fill("1.2.3")
        page.get_by_role("button", name="Fetch it").click()
        page.get_by_text("has no such study").wait_for()
        checked(visit)
        page.keyboard.press("Escape")

        page.get_by_role("link", name="A-17").click()
        page.locator(".box.solid").wait_for(state="attached")
        assert brightness(visit, "body") > 220
        assert brightness(visit, ".stage") == 0
        assert visit.shot()[2:6].mean() < 10
        page.get_by_role("button", name="Draw boxes").click()
        checked(visit)
        page.locator(".stage").focus()
        page.keyboard.press("?")
        page.get_by_role("dialog").wait_for()
        checked(visit)
        page.keyboard.press("Escape")

        page.goto(f"{service.address}administration")
        page.get_by_role("cell", name="the administrator").first.wait_for()
        page.get_by_role("button", name="Make a link").click()
        page.locator(".secret").wait_for()
        checked(visit)
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("heading", name="Log in").wait_for()
        assert brightness(visit, "body") > 220  # although the browser was told to forget what it was shown
        checked(visit)
        page.get_by_label("Name").fill("the administrator")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Worklist").wait_for()
        choose(visit, "dark")
        assert brightness(visit, "body") < 30
        visit.fine()
