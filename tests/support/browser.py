"""Pages as a browser lays them out. Not a test: ``tests/support`` is on the tests' path (pyproject.toml)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import CI

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)

needs_browser = pytest.mark.skipif(not CHROMIUM and not CI, reason="Chromium is not installed here (see .ci/run)")
"""In CI, where it is installed, the tests fail for want of it."""

_FRAME = """<!doctype html><body style="margin: 0"><iframe id="page" src="{address}" width="{width}" height="900"
style="border: 0"></iframe><script>
addEventListener("load", () => {{
  const inside = document.getElementById("page").contentDocument;
  const images = [...inside.images];
  document.body.setAttribute("data-told", JSON.stringify({{
    width: inside.documentElement.scrollWidth,
    height: inside.documentElement.scrollHeight,
    broken: images.filter(image => image.loading !== "lazy" && (!image.complete || !image.naturalWidth)).length,
    title: inside.title,
  }}));
}});
</script></body>"""


class Seen(NamedTuple):
    """What a browser says of a page.

    Attributes:
        width: that the page takes, pixels; more than it was given means that it has to be moved sideways.
        height: the same.
        broken: images that could not be shown.
        title: of the page.
        console: lines that it wrote there.
    """

    width: int
    height: int
    broken: int
    title: str
    console: list[str]


def open_page(page: Path, width: int, folder: Path) -> Seen:
    """Open a page in a frame of a width, in headless Chromium."""
    frame = folder / f"frame-{width}.html"
    frame.write_text(_FRAME.format(address=page.resolve().as_uri(), width=width))
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    words += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=10000"]
    run = subprocess.run(
        [*words, "--dump-dom", frame.as_uri()], capture_output=True, text=True, check=False, timeout=120
    )
    found = re.search(r'data-told="([^"]*)"', run.stdout)
    assert found, run.stderr[-2000:]
    told = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))
    return Seen(**told, console=[line for line in run.stderr.splitlines() if "CONSOLE" in line])
