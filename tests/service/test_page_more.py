"""What the page does besides: a doubt's dots, inverting, the mouse, days, the camera, files; tags that are markup."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import simulated_dicom
from tiny_bundle import tiny_info, write_tiny_bundle
from visit import DESK, SHAPE, Visit, begin, radiograph, started, visiting

XSS = "<img src=x onerror=hacked=1>"
NEVER_SURE = {"high_sensitivity": 0.3, "high_specificity": 1.0}
"""Operating points with which what is bright is a doubt, and what is dark none seen."""


def files(*data: bytes) -> list[Any]:
    return [
        {"name": f"{number}.dcm", "mimeType": "application/dicom", "buffer": one} for number, one in enumerate(data)
    ]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """The worklist, with an exam of two views: a doubt, and none seen."""
    folder = tmp_path_factory.mktemp("more")
    engine = tiny_info()["engines"]["onnx-float32"] | {"operating_points": NEVER_SURE}
    bundle = write_tiny_bundle(folder / "tiny", engines={"onnx-float32": engine})
    with started(folder / "data", bundle) as service, visiting(service.address, DESK) as visit:
        begin(visit, service.secret)
        both = files(radiograph(1, bright=True), radiograph(2, bright=False))
        visit.page.get_by_label("Send radiographs").set_input_files(both)
        visit.page.locator("tr", has_text="2 images").filter(has_text="doubt").wait_for()
        yield visit
        visit.fine()


@pytest.fixture
def study(visit: Visit) -> Any:
    """The page with its study open."""
    visit.page.goto(visit.address)
    visit.page.get_by_role("link", name="A-17").click()
    visit.page.locator(".box.dotted").wait_for(state="attached")
    visit.page.locator(".stage .port:not(.blank) canvas").wait_for()
    return visit.page


@pytest.mark.slow
def test_a_doubt_is_dotted_and_the_exam_s_answer_stands_beside_each_view_s(study: Any) -> None:
    assert study.locator(".box.solid").count() == 0
    dashes = study.locator(".box.dotted rect").last.evaluate("rect => getComputedStyle(rect).strokeDasharray")
    assert dashes not in ("none", "")
    strip = study.get_by_role("list", name="images of this exam").get_by_role("listitem")
    strip.filter(has_text="none seen").wait_for()
    assert strip.filter(has_text="doubt").count() == strip.filter(has_text="none seen").count() == 1
    whole = study.locator(".study-head .whole").inner_text()
    assert "whole exam" in whole
    assert "doubt" in whole


@pytest.mark.slow
def test_a_key_inverts(visit: Visit, study: Any) -> None:
    def middle() -> np.ndarray:
        study.wait_for_timeout(200)  # drawn in the next frame
        drawn = visit.shot(".stage .port canvas").astype(int)
        height, width = drawn.shape[0] // 10, drawn.shape[1] // 10
        return drawn[4 * height : 6 * height, 4 * width : 6 * width]

    study.locator(".stage").focus()
    study.keyboard.press("b")  # without boxes
    plain = middle()
    study.keyboard.press("i")
    inverted = middle()
    assert plain.mean() + inverted.mean() == pytest.approx(255, abs=5)
    assert abs(plain.mean() - inverted.mean()) > 50
    study.keyboard.press("i")
    assert middle() == pytest.approx(plain, abs=1)


def matrix(page: Any) -> np.ndarray:
    """From the picture's pixels to the stage's, 2 x 3."""
    page.wait_for_timeout(200)  # drawn in the next frame
    text = page.locator(".stage .over > g").first.get_attribute("transform")
    return np.array([float(one) for one in text[len("matrix(") : -1].split()]).reshape(3, 2).T


@pytest.mark.slow
def test_dragging_with_the_mouse_changes_the_window_or_moves(visit: Visit, study: Any) -> None:
    stage = study.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])

    def drag(by: tuple[int, int], button: Any = "left") -> tuple[float, np.ndarray]:
        study.mouse.move(*middle)
        study.mouse.down(button=button)
        study.mouse.move(*(middle + by), steps=4)
        study.mouse.up(button=button)
        return float(visit.shot(".port canvas").mean()), matrix(study)

    study.keyboard.press("b")  # without boxes
    study.get_by_role("button", name="Window", exact=True).click()
    plain, place = drag((0, 0))
    brighter, still = drag((0, -120))
    assert brighter > plain + 5
    assert still == pytest.approx(place)
    _, moved = drag((60, 30), "right")  # which moves, whatever is pressed
    assert moved - place == pytest.approx(np.array([[0, 0, 60], [0, 0, 30]]), abs=1)
    study.get_by_role("button", name="Move", exact=True).click()
    same, back = drag((-60, -30))
    assert back == pytest.approx(place, abs=1)
    assert same == pytest.approx(brighter, abs=1)


@pytest.mark.slow
def test_the_wheel_zooms_at_the_mouse(study: Any) -> None:
    stage = study.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    at = np.array([0.6 * box["width"], 0.4 * box["height"]])
    before = matrix(study)
    study.mouse.move(*(at + np.array([box["x"], box["y"]])))
    study.mouse.wheel(0, -300)
    after = matrix(study)
    assert after[0, 0] / before[0, 0] == pytest.approx(math.exp(0.6), rel=0.02)
    under = np.linalg.solve(before[:, :2], at - before[:, 2])  # the picture's pixel under the mouse
    assert (under > 0).all()
    assert (under < SHAPE[::-1]).all()
    assert after[:, :2] @ under + after[:, 2] == pytest.approx(at, abs=1.5)


@pytest.mark.slow
def test_a_report_is_downloaded_by_its_link(study: Any) -> None:
    link = study.locator(".files").get_by_role("link", name="report (SR)")
    link.wait_for()  # it is made after the answer
    with study.expect_download() as coming:
        link.click()
    assert coming.value.suggested_filename == "callus-1-sr.dcm"
    report = pydicom.dcmread(io.BytesIO(Path(coming.value.path()).read_bytes()))
    assert report.Modality == "SR"
    assert report.StudyInstanceUID == "1.2.276.0.8.1"


@pytest.mark.slow
def test_the_worklist_takes_days_and_a_camera(visit: Visit) -> None:
    page, today = visit.page, datetime.now(UTC).date()
    earlier, later = ((today + timedelta(days=days)).isoformat() for days in (-2, 2))
    page.goto(visit.address)
    line = page.get_by_role("link", name="A-17")
    line.wait_for()
    first, last = page.get_by_label("Came from"), page.get_by_label("until", exact=True)
    first.fill(later)
    page.get_by_text("Nothing fits.").wait_for()
    first.fill(earlier)
    line.wait_for()
    last.fill(earlier)
    page.get_by_text("Nothing fits.").wait_for()
    last.fill(later)
    line.wait_for()
    assert page.locator("input[type=file][capture=environment]").first.get_attribute("accept") == "image/*"


@pytest.mark.slow
def test_sending_tells_how_far_it_is(visit: Visit) -> None:
    """Over a line so slow that the browser sends a large file in many parts."""
    page = visit.page
    page.goto(visit.address)
    page.evaluate(
        """() => {
          window.shares = [];
          new MutationObserver(() => {
            const bar = document.querySelector("progress[aria-label=sending]");
            if (bar && window.shares.at(-1) !== bar.value) window.shares.push(bar.value);
          }).observe(document.body, {subtree: true, childList: true, attributes: true});
        }"""
    )
    line = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 300_000}
    line.send("Network.emulateNetworkConditions", slow)
    page.get_by_label("Send radiographs").set_input_files(
        files(radiograph(3, bright=False), radiograph(4, bright=False))
    )
    page.get_by_text("2 taken").wait_for()
    line.detach()
    shares = page.evaluate("window.shares")
    assert shares == sorted(shares)
    assert len([share for share in shares if 0 < share < 1]) >= 2
    assert page.locator("progress[aria-label=sending]").count() == 0


@pytest.mark.slow
def test_markup_in_tags_is_shown_as_text(visit: Visit) -> None:
    names = ("PatientName", "PatientID", "StudyDescription", "BodyPartExamined", "AccessionNumber")
    marked = simulated_dicom.as_bytes(simulated_dicom.simulated(**dict.fromkeys(names, XSS)))
    page, asked = visit.page, list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(visit.address)
    page.get_by_label("Send radiographs").set_input_files(files(marked))
    line = page.locator(".studies tbody tr", has_text="1 image")
    line.wait_for()
    listed = line.inner_text()
    assert listed.count(XSS) == 3  # number, accession, body part
    assert "<img src <img" in listed  # of a name what stands before "=", where DICOM has another writing begin
    line.get_by_role("link").click()
    page.locator(".card .answer").wait_for()
    assert page.locator(".study-head h1").inner_text() == XSS
    assert f"<img src · {XSS}" in page.locator(".study-head").inner_text()
    assert page.locator(".card h2").first.inner_text() == f"{XSS} L"
    assert page.locator("img[src='x'], [onerror]").count() == 0
    assert page.evaluate("() => typeof hacked") == "undefined"
    assert not [url for url in asked if url.endswith("/x")]
