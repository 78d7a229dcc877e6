"""The page of a service that starts for the first time, in a browser: what the page's tests share.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import simulated_dicom
from browser import CHROMIUM
from listening import listening
from PIL import Image as Picture
from programs import missing

from callus.labels import RESEARCH_ONLY
from callus.service import pages
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
PATIENCE = 45_000  # ms: on a busy machine an answer with its results takes its time
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


@contextmanager
def started(folder: Path, bundle: Path, **settings: Any) -> Iterator[SimpleNamespace]:
    """Such a service: its address, its parts, and the secret that makes the administrator."""
    if not (pages.FOLDER / "index.html").is_file():
        missing("the page (npm reaches no registry)")
    parts = build(Settings(folder, str(bundle), **{"keep_free": 0, **settings}), threads=1)
    app = create_app(parts)
    key = first_key(parts.database)
    parts.start()
    try:
        listened: Any = SimpleNamespace(served=served(app), settings=parts.settings)
        with listening(listened) as (host, port):
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
        page.set_default_timeout(PATIENCE)
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

    def somebody_else(self) -> Visit:
        """Another browser of the same size on the same page, where nobody is logged in; it ends with this one."""
        context = self.page.context.browser.new_context(viewport=self.page.viewport_size)
        return Visit(context.new_page(), self.address)

    def judged(self) -> list[str]:
        """What axe-core finds that is serious or critical."""
        self.page.evaluate(AXE.read_text())
        # Of WCAG 2.2's rules at AA this one is off unless it is asked for.
        found = self.page.evaluate("() => axe.run({rules: {'target-size': {enabled: true}}})")
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
    try:
        from playwright import sync_api
    except ImportError:
        missing("Playwright")
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


@contextmanager
def looking(folder: Path, bundle: Path, width: int) -> Iterator[Visit]:
    """A visit in which a radiograph with a fracture was sent, and its study is looked at."""
    with started(folder / "data", bundle) as service, visiting(service.address, width) as visit:
        begin(visit, service.secret)
        file = {"name": "one.dcm", "mimeType": "application/dicom", "buffer": radiograph(1, bright=True)}
        visit.page.get_by_label("Send radiographs").set_input_files([file])
        visit.page.locator("tr", has_text="fracture").wait_for()
        visit.page.get_by_role("link", name="A-17").click()
        visit.page.locator(".box.solid").wait_for(state="attached")
        yield visit
        visit.fine()


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
