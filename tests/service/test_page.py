"""The page as a browser shows it: from the first start to a verdict, on a desk's screen and on a phone's."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from visit import DESK, PASSWORD, PHONE, WEB, Visit, begin, checked, radiograph, send, started, visiting

from callus.labels import RESEARCH_ONLY
from callus.results.overlay import MOST_OPAQUE, colours, opacity
from callus.service import pages

RED, WHITE = 40, 200


@pytest.fixture
def service(tmp_path: Path, tiny_bundle: Path) -> Iterator[SimpleNamespace]:
    with started(tmp_path / "data", tiny_bundle) as one:
        yield one


def drop(visit: Visit, data: bytes) -> None:
    """Drop a file on the page, as from a folder."""
    transfer = visit.page.evaluate_handle(
        """text => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], "dropped.dcm"));
          return transfer;
        }""",
        base64.b64encode(data).decode(),
    )
    visit.page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    visit.page.get_by_text("1 taken").wait_for()


def search(visit: Visit) -> None:
    """By a patient's name, which no address holds; then by what was found."""
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    words = visit.page.get_by_label("Patient or accession")
    words.fill("nobody")
    visit.page.get_by_text("Nothing fits.").wait_for()
    words.fill("doe")
    visit.page.get_by_role("cell", name="Doe, Jane").wait_for()
    visit.page.get_by_label("Finding").select_option("doubt")
    visit.page.get_by_text("Nothing fits.").wait_for()
    visit.page.get_by_role("button", name="Show all").click()
    visit.page.get_by_role("cell", name="Doe, Jane").wait_for()
    assert asked
    assert not [url for url in asked if "doe" in url.lower()]


def placed(visit: Visit) -> tuple[np.ndarray, np.ndarray]:
    """Left, top, right and bottom of the spot as drawn, and of its box, in the stage's pixels."""
    visit.page.wait_for_timeout(150)  # drawn in the next frame
    visit.page.locator(".stage .port canvas").wait_for()
    visit.page.locator(".stage").evaluate("stage => stage.scrollIntoView({block: 'start'})")  # off the footer
    visit.page.get_by_role("button", name="Boxes", exact=True).click()
    white = (visit.shot() > WHITE).all(axis=2)
    visit.page.get_by_role("button", name="Boxes", exact=True).click()
    rows, columns = np.flatnonzero(white.mean(axis=1) > 0.08), np.flatnonzero(white.mean(axis=0) > 0.08)
    stage = visit.page.locator(".stage").bounding_box()
    box = visit.page.locator(".box.solid rect").last.bounding_box()
    left, top = box["x"] - stage["x"], box["y"] - stage["y"]
    return (
        np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]),
        np.array([left, top, left + box["width"], top + box["height"]]),
    )


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Area of both over area of either."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    return both / (float(np.prod(one[2:] - one[:2])) + float(np.prod(other[2:] - other[:2])) - both)


def spotted(visit: Visit) -> bool:
    """Whether the radiograph with the spot is shown."""
    return bool((visit.shot() > WHITE).all(axis=2).mean() > 0.02)


def look(visit: Visit) -> None:
    """Boxes lie where they belong, however the picture is turned; the heat map can be laid over, and taken away."""
    page = visit.page
    page.get_by_role("link", name="A-17").click()
    page.locator(".box.solid").wait_for(state="attached")
    spot, box = placed(visit)
    apart = overlap(spot, box)
    assert apart > 0.6
    assert spotted(visit)
    page.locator(".stage").focus()
    page.keyboard.press("r")
    turned_spot, turned_box = placed(visit)
    assert abs(spot - turned_spot).max() > 20
    assert overlap(turned_spot, turned_box) == pytest.approx(apart, abs=0.06)
    page.locator(".stage").focus()
    page.keyboard.press("+")
    assert overlap(*placed(visit)) == pytest.approx(apart, abs=0.06)
    page.locator(".stage").focus()
    for key in "npn":  # faster than frames come: the last one is what is shown
        page.keyboard.press(key)
    page.get_by_role("button", name="none seen").and_(page.locator("[aria-current=true]")).wait_for()
    page.locator(".stage .port:not(.blank)").wait_for()
    page.wait_for_timeout(300)
    assert page.locator(".box").count() == 0
    assert not spotted(visit)
    page.keyboard.press("p")
    page.locator(".box.solid").wait_for(state="attached")
    assert overlap(*placed(visit)) == pytest.approx(apart, abs=0.06)
    page.locator(".stage").focus()
    page.keyboard.press("0")
    plain = visit.shot()
    page.keyboard.press("h")
    page.locator(".over image").wait_for(state="attached")
    page.wait_for_timeout(100)
    heated = visit.shot()
    coloured = np.ptp(heated.astype(int), axis=2) > RED
    assert coloured.mean() > 0.01 + (np.ptp(plain.astype(int), axis=2) > RED).mean()
    page.keyboard.down("o")
    assert page.locator(".over image").count() == 0
    assert (np.ptp(visit.shot().astype(int), axis=2) > RED).mean() < 0.01
    page.keyboard.up("o")
    page.locator(".over image").wait_for(state="attached")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    checked(visit)
    page.keyboard.press("Escape")


def judge(visit: Visit) -> None:
    """Draw the true box, and keep a verdict with a comment that tries to be a script."""
    page = visit.page
    page.get_by_role("button", name="Draw boxes").click()
    page.locator(".stage").scroll_into_view_if_needed()
    stage = page.locator(".stage").bounding_box()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    page.mouse.move(x - 30, y - 20)
    page.mouse.down()
    page.mouse.move(x + 30, y + 40, steps=4)
    page.mouse.up()
    assert page.locator(".box.reader").count() == 1
    page.get_by_label("Disagree").check()
    page.get_by_label("Comment").fill("<script>alert(1)</script> lower")
    checked(visit)
    page.get_by_role("button", name="Keep the verdict").click()
    page.locator(".said", has_text="<script>alert(1)</script> lower").wait_for()
    assert "disagrees, sees a fracture, 1 box" in page.locator(".said").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_from_the_first_start_to_a_verdict(service: SimpleNamespace, width: int) -> None:
    with visiting(service.address, width) as visit:
        begin(visit, service.secret)
        send(visit)
        checked(visit)
        search(visit)
        look(visit)
        assert visit.page.locator(".stage").get_attribute("data-drawn-by") == "processor"
        judge(visit)
        export = visit.page.evaluate(
            "async () => (await fetch('/api/v1/verdicts/export?format=csv', {credentials: 'same-origin'})).text()"
        )
        assert len(export.splitlines()) == 2
        visit.page.emulate_media(media="print")
        assert visit.page.locator(".printed figure").count() == 2
        assert visit.page.locator(".printed").is_visible()
        assert RESEARCH_ONLY in visit.page.locator(".printed").inner_text().lower()
        visit.page.emulate_media(media="screen")
        visit.page.goto(f"{service.address}administration")
        visit.page.get_by_role("cell", name="the administrator").first.wait_for()
        checked(visit)
        visit.page.get_by_role("button", name="the administrator").click()
        visit.page.get_by_label("Password now").fill("something else")
        visit.page.get_by_label("New password").fill(f"{PASSWORD} 2")
        checked(visit)
        visit.page.get_by_role("button", name="Change it").click()
        visit.page.get_by_role("dialog").get_by_role("alert").wait_for()
        visit.page.get_by_label("Password now").fill(PASSWORD)
        visit.page.get_by_role("button", name="Change it").click()
        visit.page.get_by_text("It is changed").wait_for()
        visit.page.get_by_role("button", name="Close").click()
        visit.page.get_by_role("button", name="Log out").click()
        visit.page.get_by_role("heading", name="Log in").wait_for()
        checked(visit)
        visit.page.get_by_label("Name").fill("the administrator")
        visit.page.get_by_label("Password").fill(f"{PASSWORD} 2")
        visit.page.get_by_role("button", name="Log in").click()
        visit.page.get_by_role("heading", name="Worklist").wait_for()
        visit.fine()


@pytest.mark.slow
def test_boxes_lie_where_they_belong_on_a_graphics_processor(service: SimpleNamespace) -> None:
    with visiting(service.address, DESK, graphics=True) as visit:
        begin(visit, service.secret)
        send(visit)
        drop(visit, radiograph(3, bright=False))
        visit.page.locator("tr", has_text="3 images").wait_for()
        look(visit)
        assert visit.page.locator(".stage").get_attribute("data-drawn-by") == "graphics"
        visit.fine()


@pytest.mark.slow
def test_a_search_outlasts_a_finding_that_came_just_before_it(service: SimpleNamespace) -> None:
    """The page looks for what is new half a second after it heard of it; here that look waits for the search."""
    with visiting(service.address, DESK) as visit:
        visit.page.add_init_script(
            """
            const Line = EventSource, later = setTimeout;
            window.EventSource = class extends Line { constructor(at) { super(at); window.line = this; } };
            window.setTimeout = (does, ms) => (window.looks && ms === 500 ? window.looks.push(does) : later(does, ms));
            """
        )
        begin(visit, service.secret)
        send(visit)
        visit.page.locator("tr", has_text="2 images").wait_for()
        visit.page.wait_for_timeout(1000)  # the looks for these have been
        visit.page.evaluate(
            """() => {
              window.looks = [];
              const data = JSON.stringify({id: 99, study: 1, image: 1, level: "none", probability: 0.1});
              window.line.dispatchEvent(new MessageEvent("finding", {data}));
            }"""
        )
        visit.page.get_by_label("Patient or accession").fill("nobody")
        visit.page.get_by_text("Nothing fits.").wait_for()
        with visit.page.expect_response(lambda response: "/studies" in response.url):
            assert visit.page.evaluate("() => window.looks.map(look => look()).length") == 1
        visit.page.wait_for_timeout(200)
        assert visit.page.get_by_text("Nothing fits.").is_visible()


def test_the_page_s_files(service: SimpleNamespace) -> None:
    with httpx.Client(base_url=service.address) as client:
        first = client.get("/")
        assert first.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "unsafe" not in first.headers["Content-Security-Policy"]
        assert re.search(r"<script(?![^>]* src=)|<style|\son\w+=|style=|https?://", first.text) is None
        assert client.get("/studies/12").text == client.get("/administration").text == first.text
        for name in re.findall(r'(?:src|href)="(/[^"]+)"', first.text):
            file = client.get(name)
            assert file.status_code == 200
            assert file.headers["X-Content-Type-Options"] == "nosniff"
            cached = file.headers["Cache-Control"]
            assert ("immutable" in cached) == name.startswith("/assets/")
            plain = client.get(name, headers={"Accept-Encoding": "identity"})
            assert plain.content == file.content
        for path in ("/assets/..%2Findex.html", "/assets/../pages.py", "/assets/%2e%2e/%2e%2e/pages.py", "/assets/"):
            assert client.get(path).status_code == 404


def test_without_a_page_the_service_says_so(
    service: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    answer = httpx.get(service.address)
    assert answer.status_code == 503
    assert RESEARCH_ONLY in answer.text
    assert httpx.get(f"{service.address}api/v1/health").status_code == 200


def test_the_page_colours_heat_as_the_overlay_does() -> None:
    source = (WEB / "src" / "heat.ts").read_text()
    table = base64.b64decode("".join(re.findall(r'"([A-Za-z0-9+/=]{40,})"', source)))
    values = np.linspace(0, 1, 256, dtype=np.float32)
    assert np.abs(np.frombuffer(table, np.uint8).reshape(256, 3) - colours(values)).max() <= 0.5
    clear = float(re.search(r"CLEAR_BELOW = ([\d.]+)", source)[1])  # type: ignore[index]
    most = float(re.search(r"MOST_OPAQUE = ([\d.]+)", (WEB / "src" / "viewer.tsx").read_text())[1])  # type: ignore[index]
    share = np.clip((values - clear) / (1 - clear), 0, 1)
    assert most == MOST_OPAQUE
    assert most * share * (2 - share) == pytest.approx(opacity(values), abs=1e-6)
