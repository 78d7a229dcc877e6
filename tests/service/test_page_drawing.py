"""True boxes without dragging, by keys alone and by single presses; and buttons for what dragging does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from visit import DESK, PHONE, SHAPE, Visit, checked, looking

WIDTHS = {"desk": DESK, "phone": PHONE}


@pytest.fixture(scope="module", params=WIDTHS)
def visit(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path
) -> Iterator[Visit]:
    """A study that is looked at."""
    with looking(tmp_path_factory.mktemp("drawing"), tiny_bundle, WIDTHS[request.param]) as visit:
        yield visit


@pytest.fixture
def page(visit: Visit) -> Iterator[Any]:
    """Its page, as it was opened; nothing is being drawn before, and nothing is drawn after."""
    visit.page.get_by_role("button", name="Reset").click()
    yield visit.page
    while visit.page.get_by_role("button", name="Remove the last").count():
        visit.page.get_by_role("button", name="Remove the last").click()
    if visit.page.locator(".hint").count():
        visit.page.get_by_role("button", name="Done").click()


def matrix(page: Any) -> np.ndarray:
    """From the picture's pixels to the stage's: (2, 3)."""
    page.wait_for_timeout(150)  # drawn in the next frame
    text = page.locator(".stage .over > g").first.get_attribute("transform")
    return np.array([float(one) for one in text[len("matrix(") : -1].split()]).reshape(3, 2).T


def drawn(page: Any) -> np.ndarray:
    """What is drawn, in the picture's pixels, each x, y, width, height: (boxes, 4)."""
    names = ("x", "y", "width", "height")
    boxes = page.locator(".box.reader").all()
    rows = [[float(box.locator("rect").first.get_attribute(name)) for name in names] for box in boxes]
    return np.array(rows).reshape(-1, 4)


def press(page: Any, key: str, times: int = 1) -> None:
    for _ in range(times):
        page.keyboard.press(key)


@pytest.mark.slow
def test_a_box_is_drawn_and_told_by_keys_alone(visit: Visit, page: Any) -> None:
    page.locator(".stage").focus()
    press(page, "d")
    hint = page.locator(".hint").get_by_role("status")
    assert "press an arrow key" in hint.inner_text()
    press(page, "ArrowRight")
    (first,) = drawn(page)
    step = 8 / matrix(page)[0, 0]
    assert first[:2] + first[2:] / 2 == pytest.approx(np.array(SHAPE[::-1]) / 2, abs=2)  # in the middle of what is seen
    press(page, "ArrowRight", 3)
    press(page, "ArrowUp", 2)
    press(page, "Shift+ArrowDown", 4)
    press(page, "Shift+ArrowLeft")
    (moved,) = drawn(page)
    assert moved - first == pytest.approx(np.array([3, -2, -1, 4]) * step, abs=0.01)
    assert f"pixels at {moved[0]:.0f}, {moved[1]:.0f}" in hint.inner_text()
    checked(visit)
    press(page, "ArrowLeft", 200)
    press(page, "Shift+ArrowDown", 200)
    (edge,) = drawn(page)
    assert edge == pytest.approx([0, moved[1], moved[2], SHAPE[0] - moved[1]], abs=0.01)  # it ends with the picture
    press(page, "Enter")
    assert page.get_by_text("1 drawn").is_visible()
    press(page, "Enter")
    assert len(drawn(page)) == 2
    press(page, "Escape")  # drops the second one
    assert drawn(page) == pytest.approx(edge[None])
    press(page, "Delete")
    assert len(drawn(page)) == 0
    press(page, "ArrowUp")
    press(page, "Enter")
    press(page, "Escape")
    assert page.locator(".hint").count() == 0
    place = matrix(page)
    press(page, "ArrowLeft")  # moves the picture again
    assert matrix(page) - place == pytest.approx(np.array([[0, 0, 30], [0, 0, 0]]), abs=1)
    (kept,) = drawn(page)

    button = page.get_by_role("button", name="Keep the verdict")
    for _ in range(30):
        press(page, "Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    with page.expect_request(lambda request: request.url.endswith("/verdict")) as asked:
        press(page, "Enter")
    (told,) = asked.value.post_data_json["boxes"]
    assert [told[name] for name in ("x", "y", "width", "height")] == pytest.approx(list(kept))
    page.locator(".said", has_text="1 box").last.wait_for()


@pytest.mark.slow
def test_keys_go_by_the_screen_however_the_picture_is_turned(page: Any) -> None:
    page.locator(".stage").focus()
    press(page, "r")
    press(page, "d")
    press(page, "Enter")
    (first,) = drawn(page)
    step = 8 / np.abs(matrix(page)[:, :2]).max()
    press(page, "ArrowRight")
    press(page, "Shift+ArrowDown")
    (moved,) = drawn(page)
    # Turned clockwise: to the right is up in the picture, and down is to its right.
    assert moved - first == pytest.approx(np.array([0, -1, 1, 0]) * step, abs=0.01)
    press(page, "Escape")


@pytest.mark.slow
def test_a_box_is_drawn_by_two_presses(visit: Visit, page: Any) -> None:
    page.get_by_role("button", name="Draw boxes").click()
    page.locator(".stage").evaluate("stage => stage.scrollIntoView({block: 'center'})")
    assert page.locator(".stage").evaluate("stage => stage === document.activeElement")  # whose keys draw
    stage = page.locator(".stage").bounding_box()
    corner = np.array([stage["width"] / 2 - 60, stage["height"] / 2 - 50])
    tap = page.touchscreen.tap if page.evaluate("navigator.maxTouchPoints") else page.mouse.click
    tap(stage["x"] + corner[0], stage["y"] + corner[1])
    assert page.locator(".first-corner").count() == 1
    assert "opposite corner" in page.locator(".hint").inner_text()
    checked(visit)
    tap(stage["x"] + corner[0] + 90, stage["y"] + corner[1] + 70)
    (box,) = drawn(page)
    scale, at = matrix(page)[0, 0], matrix(page)[:, 2]
    assert box == pytest.approx([*(corner - at) / scale, 90 / scale, 70 / scale], abs=1)
    assert page.locator(".first-corner").count() == 0
    tap(stage["x"] + corner[0], stage["y"] + corner[1])
    press(page, "Escape")  # takes the corner back, not the mode
    assert page.locator(".first-corner").count() == 0
    assert page.locator(".hint").count() == 1
    page.get_by_role("button", name="Done").focus()
    press(page, "Enter")
    assert page.locator(".hint").count() == 0
    assert len(drawn(page)) == 1


@pytest.mark.slow
def test_what_dragging_does_has_buttons(visit: Visit, page: Any) -> None:
    def after(name: str) -> float:
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_timeout(150)  # drawn in the next frame
        return float(visit.shot(".port").mean())

    page.get_by_role("button", name="Window", exact=True).click()
    plain = after("Reset")
    brighter = after("Brighter")
    assert brighter > plain + 5
    assert after("Darker") == pytest.approx(plain, abs=1)
    assert after("Darker") < plain
    after("Reset")
    less = after("Less contrast")
    assert less > plain + 5  # what is dark becomes grey
    assert after("More contrast") == pytest.approx(plain, abs=1)
    checked(visit)
    page.get_by_role("button", name="Move", exact=True).click()
    place = matrix(page)
    for name, way in (("left", (-1, 0)), ("up", (0, -1)), ("right", (1, 0)), ("down", (0, 1))):
        after(f"Move {name}")
        moved = matrix(page) - place
        assert moved[:, 2] == pytest.approx(80 * np.array(way), abs=1)
        place = matrix(page)
    checked(visit)
