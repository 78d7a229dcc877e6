"""``worklist``: how fast the worklist of many studies answers, and when the page shows it."""

from __future__ import annotations

import hashlib
import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from callus.progress import progress, track
from service_figures.common import model_of, running, say, scratch, summed, verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from served import Served

TARGET_MS = 100.0
PAINT_MS = 1000.0
_AT_ONCE = 5000
_NAMES, _FIRST_NAMES = ("Doe", "Roe", "Poe", "Noe"), ("Ann", "Ben", "Cleo")
_SHOWN = "table.studies tbody tr"
_PAINTS = "() => Object.fromEntries(performance.getEntriesByType('paint').map((one) => [one.name, one.startTime]))"


def measure(given: argparse.Namespace) -> None:
    """Fill a database, ask it in every way that the page does, and open the page."""
    if given.quick:
        given.studies, given.requests, given.visits = 5000, 40, 2
    with scratch(given) as folder:
        with running(folder / "clinic", model_of(given, folder)):
            pass
        _fill(folder / "clinic", given.studies)
        from served import serving  # noqa: PLC0415 - of tests/support

        with serving(folder / "clinic", None) as served:
            served.log_in()
            times = _asked(served, given.requests)
            paints = _painted(served, given.visits)
    every = summed([one for some in times.values() for one in some])
    kinds = {name: summed(some) for name, some in times.items()}
    targets = {f"worklist under {TARGET_MS:g} ms (p95)": every["p95"] < TARGET_MS}
    if paints:
        targets[f"first paint under {PAINT_MS:g} ms"] = paints["first-paint_ms"] < PAINT_MS
    seen = f"the first paint comes after {paints['first-paint_ms']:.0f} ms" if paints else "Chromium is not here"
    sentence = (
        f"The worklist of {given.studies:,} studies answers in {every['p95']} ms (p95 of {given.requests} requests);"
        f" {seen}. {verdict(targets)}"
    )
    say(
        "worklist",
        sentence,
        studies=given.studies,
        worklist_ms=every,
        kinds=kinds,
        page=paints,
        target_ms=TARGET_MS,
        target_paint_ms=PAINT_MS,
        reached=all(targets.values()) and bool(paints),
    )


def _fill(data: Path, studies: int) -> None:
    """Write studies with an answered image each."""
    from callus.service.database import Database  # noqa: PLC0415 - beside what needs none of it
    from callus.service.tables import Answer, Image, Study  # noqa: PLC0415

    database = Database(f"sqlite:///{data / 'callus.sqlite'}")
    with progress("worklist: studies written", studies) as advance:
        for begin in range(0, studies, _AT_ONCE):
            numbers = range(begin + 1, min(begin + _AT_ONCE, studies) + 1)
            rows = list(map(_study, numbers))
            with database.writing() as session:
                session.execute(sa.insert(Study), rows)
                session.execute(sa.insert(Image), [_image(number, studies) for number in numbers])
                session.execute(sa.insert(Answer), [_answer(row) for row in rows])
            advance(len(rows))
    database.close()


def _study(number: int) -> dict[str, Any]:
    from callus.service.tables import RANK, now  # noqa: PLC0415 - as above

    chance = random.Random(number)  # noqa: S311 - no secret
    level = chance.choices(["fracture", "doubt", "none"], [2, 1, 7])[0]
    at = now() - timedelta(seconds=60 * number)
    return {
        "id": number,
        "uid": f"1.2.276.0.8.{number}",
        "patient_id": f"P-{number}",
        "patient_name": f"{chance.choice(_NAMES)}^{chance.choice(_FIRST_NAMES)}{number % 997}",
        "accession": f"A-{number}",
        "date": f"{at:%Y%m%d}",
        "images_count": 1,
        "rank": RANK[level],
        "probability": chance.random(),
        "received": at,
        "changed": at,
    }


def _image(number: int, studies: int) -> dict[str, Any]:
    return {
        "id": number,
        "study_id": number,
        "uid": f"1.2.276.0.9.{number}",
        "sha256": hashlib.sha256(f"{number} of {studies}".encode()).hexdigest(),
        "bytes": 1,
        "source": "dicom",
        "sender": "ROOM1",
        "modality": "DX",
        "body_part": "WRIST",
        "height": 100,
        "width": 100,
    }


def _answer(study: dict[str, Any]) -> dict[str, Any]:
    levels = {4: "fracture", 3: "doubt", 1: "none"}
    return {
        "id": study["id"],
        "image_id": study["id"],
        "model_id": 1,
        "probability": study["probability"],
        "level": levels[study["rank"]],
        "boxes": [],
        "cautions": [],
        "engine": "onnx-float32",
        "results": {},
    }


def _asked(served: Served, count: int) -> dict[str, list[float]]:
    """Ask for pages in each way in turn; seconds by the way."""
    times: dict[str, list[float]] = {}
    ways = _ways(served)
    for _ in track(range(count), "worklist: requests", count):
        name, method, path, given = next(ways)
        begun = time.perf_counter()
        served.browser.request(method, path, **given).raise_for_status()
        times.setdefault(name, []).append(time.perf_counter() - begun)
    return times


def _ways(served: Served) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    cursor, number = "", 0
    while True:
        number += 1
        yield "first page", "GET", "/studies", {}
        yield "most at once", "GET", "/studies", {"params": {"limit": 200}}
        yield "a level", "GET", "/studies", {"params": {"level": ("fracture", "doubt", "none")[number % 3]}}
        page = served.browser.get("/studies", params={"before": cursor, "limit": 200} if cursor else {}).json()
        cursor = page["next"] or ""
        yield "further on", "GET", "/studies", {"params": {"before": cursor}}
        yield "a day", "GET", "/studies", {"params": {"from": "2020-01-01", "to": "2020-01-01"}}
        yield "a name", "POST", "/studies/search", {"json": {"text": f"doe ann{number % 997}"}}
        yield "a number", "POST", "/studies/search", {"json": {"text": f"p-{number * 37}"}}
        yield "nobody", "POST", "/studies/search", {"json": {"text": "nobody at all"}}


def _painted(served: Served, visits: int) -> dict[str, float]:
    """Open the page logged in, each time as a browser that was never there; milliseconds, medians.

    Returns:
        ``first-paint_ms``, ``first-contentful-paint_ms`` and ``rows_ms`` (the worklist stands); empty without Chromium.
    """
    from browser import CHROMIUM  # noqa: PLC0415 - of tests/support
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    if not CHROMIUM:
        return {}
    found: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in track(range(visits), "worklist: visits", visits):
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            context.add_cookies(
                [
                    {"name": name, "value": value, "url": served.address}
                    for name, value in served.browser.cookies.items()
                ]
            )
            page = context.new_page()
            page.goto(f"{served.address}/")
            page.wait_for_selector(_SHOWN)
            found.setdefault("rows", []).append(page.evaluate("() => performance.now()"))
            for name, at in page.evaluate(_PAINTS).items():
                found.setdefault(name, []).append(at)
            context.close()
        browser.close()
    return {f"{name}_ms": round(float(np.median(times)), 1) for name, times in found.items()}
