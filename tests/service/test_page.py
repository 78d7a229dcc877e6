"""The page as a browser shows it: from the first start to a verdict, on a desk's screen and on a phone's."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import simulated_dicom
from browser import CHROMIUM
from listening import listening
from PIL import Image as Picture
from programs import missing

from callus.labels import RESEARCH_ONLY
from callus.results.overlay import MOST_OPAQUE, colours, opacity
from callus.service import jobs, pages, stuck
from callus.service.accounts import first_key
from callus.service.app import create_app, served
from callus.service.serving import build
from callus.service.settings import Settings

WEB = Path(__file__).parents[2] / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
PASSWORD = "a long enough password"  # noqa: S105 - of an account that lasts as long as the test
SPOT = (200, 120, 120, 120)
"""Where the simulated radiograph is bright: x, y, width, height; four cells of the tiny network's map."""
SHAPE = (480, 400)
PHONE, DESK = 390, 1280
RED, WHITE = 40, 200
_WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
_NAMED = """
const told = WebGL2RenderingContext.prototype.getParameter;
WebGL2RenderingContext.prototype.getParameter = function (what) {
  const value = told.call(this, what);
  return typeof value === "string" ? value.replace(/swiftshader|software|llvmpipe/gi, "graphics") : value;
};
"""


def radiograph(number: int, *, bright: bool) -> bytes:
    """12 bits in 16, dark but for a marker in a corner and, where wanted, a spot: the tiny network's fracture."""
    pixels = np.full(SHAPE, 300, np.uint16) + np.random.default_rng(number).integers(0, 40, SHAPE).astype(np.uint16)
    pixels[4:24, 4:24] = 4000
    if bright:
        x, y, width, height = SPOT
        pixels[y : y + height, x : x + width] = 4000
    tags = {"SOPInstanceUID": f"1.2.276.0.9.{number}", "StudyInstanceUID": "1.2.276.0.8.1"}
    return simulated_dicom.as_bytes(simulated_dicom.simulated(pixels=pixels, **tags))


@pytest.fixture
def service(tmp_path: Path, tiny_bundle: Path) -> Iterator[SimpleNamespace]:
    """A service that starts for the first time; its address, and the secret that makes the administrator."""
    if not (pages.FOLDER / "index.html").is_file():
        missing("the page (npm reaches no registry)")
    parts = build(Settings(tmp_path / "data", str(tiny_bundle), keep_free=0), threads=1)
    app = create_app(parts)
    key = first_key(parts.database)
    parts.start()
    try:
        with listening(SimpleNamespace(served=served(app))) as (host, port):  # type: ignore[arg-type]
            yield SimpleNamespace(address=f"http://{host}:{port}/", secret=key, parts=parts)
    finally:
        parts.stop()


class Visit:
    """A browser on the page; notes what it writes to the console and which other hosts it asks."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.elsewhere: list[str] = []
        self.written: list[str] = []
        page.set_default_timeout(15_000)
        page.context.route(lambda url: not url.startswith((address, "blob:", "data:")), self._refuse)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.written.append(str(error)))

    def _refuse(self, route: Any) -> None:
        self.elsewhere.append(route.request.url)
        route.abort()

    def _note(self, message: Any) -> None:
        # Whoever is not logged in, or gives a wrong password, is told so; browsers write that down as an error.
        if message.type == "error" and not message.location["url"].endswith(("/api/v1/me", "/api/v1/me/password")):
            self.written.append(message.text)

    def judged(self) -> list[str]:
        """What axe-core finds that is serious or critical."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("() => axe.run()")
        return [
            f"{one['id']}: {node['html'][:200]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def too_wide(self) -> bool:
        """Whether the page has to be moved sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def shot(self, selector: str = ".stage") -> np.ndarray:
        """What is drawn: uint8 (h, w, 3)."""
        return np.asarray(Picture.open(io.BytesIO(self.page.locator(selector).screenshot())).convert("RGB"))

    def fine(self) -> None:
        """Nothing went wrong in this visit."""
        assert self.written == []
        assert self.elsewhere == []


@contextmanager
def visiting(address: str, width: int, *, graphics: bool = False) -> Iterator[Visit]:
    """Open a browser.

    Args:
        address: the page's.
        width: of its window.
        graphics: have the page take the browser's software WebGL for a graphics processor's.
    """
    if not CHROMIUM:
        missing("Chromium")
    if not AXE.is_file():
        missing("axe-core (npm reaches no registry)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *(_WEBGL if graphics else [])]
        )
        phone = width < 500
        context = browser.new_context(
            viewport={"width": width, "height": 844 if phone else 800}, has_touch=phone, accept_downloads=True
        )
        if graphics:
            context.add_init_script(_NAMED)
        try:
            yield Visit(context.new_page(), address)
        finally:
            context.close()
            browser.close()


def checked(visit: Visit) -> None:
    assert visit.judged() == []
    assert not visit.too_wide()
    assert RESEARCH_ONLY in visit.page.locator("footer").inner_text().lower()


def begin(visit: Visit, secret: str) -> None:
    """Make the administrator's account by the link of the first start."""
    visit.page.goto(f"{visit.address}#first={secret}")
    visit.page.get_by_label("Name").fill("the administrator")
    visit.page.get_by_label("Password", exact=True).fill(PASSWORD)
    visit.page.get_by_label("Password again").fill(PASSWORD)
    assert secret not in visit.page.url  # it does not stay in the history
    checked(visit)
    visit.page.get_by_role("button", name="Make the account").click()
    visit.page.get_by_role("heading", name="Worklist").wait_for()


def send(visit: Visit) -> None:
    files = [
        {"name": "one.dcm", "mimeType": "application/dicom", "buffer": radiograph(1, bright=True)},
        {"name": "two.dcm", "mimeType": "application/dicom", "buffer": radiograph(2, bright=False)},
        {"name": "<img src=x onerror=alert(1)>.txt", "mimeType": "text/plain", "buffer": b"no radiograph"},
    ]
    visit.page.get_by_label("Send radiographs").set_input_files(files)
    visit.page.get_by_text("2 taken").wait_for()
    assert "<img src=x onerror=alert(1)>.txt" in visit.page.locator(".refused").inner_text()
    visit.page.locator("tr", has_text="fracture").wait_for()  # live: nobody loads the page anew
    assert "New finding" in visit.page.locator("[aria-live]").inner_text()


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
def test_what_is_stuck_is_tried_again_or_dropped(service: SimpleNamespace) -> None:
    with service.parts.database.writing() as session:
        for number, name in enumerate(("cloud", "cloud", "cloud", "pacs")):
            jobs.add(session, jobs.DELIVER, f"{number} {name}", about={"answer": number, "destination": name})
    stuck.give_up_gone(service.parts.database, service.parts.settings)  # which name neither
    with visiting(service.address, PHONE) as visit:
        begin(visit, service.secret)
        visit.page.on("dialog", lambda dialog: dialog.accept())
        visit.page.goto(f"{service.address}administration")
        card = visit.page.locator("section", has=visit.page.get_by_role("heading", name="What is stuck"))
        card.get_by_text("destination pacs is no longer in the settings").wait_for()
        checked(visit)
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
def test_boxes_lie_where_they_belong_on_a_graphics_processor(service: SimpleNamespace) -> None:
    with visiting(service.address, DESK, graphics=True) as visit:
        begin(visit, service.secret)
        send(visit)
        drop(visit, radiograph(3, bright=False))
        visit.page.locator("tr", has_text="3 images").wait_for()
        look(visit)
        assert visit.page.locator(".stage").get_attribute("data-drawn-by") == "graphics"
        visit.fine()


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
