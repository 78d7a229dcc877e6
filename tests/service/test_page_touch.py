"""Fingers on a radiograph, at a phone's width: one does what is pressed, two zoom and move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from visit import PHONE, Visit, looking

STEPS = 8
Point = tuple[float, float]
Stroke = tuple[Point, Point]
"""Where a finger is put and where it is drawn to."""


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Visit]:
    """A study that is looked at on a phone."""
    with looking(tmp_path_factory.mktemp("touch"), tiny_bundle, PHONE) as visit:
        yield visit


class Fingers:
    """Touches as a screen reports them. Playwright's own have one finger; what Chromium is told through has more."""

    def __init__(self, visit: Visit) -> None:
        visit.page.get_by_role("button", name="Reset").tap()
        visit.page.get_by_role("button", name="Window", exact=True).tap()
        visit.page.locator(".stage").evaluate("stage => stage.scrollIntoView({block: 'center'})")
        self.page = visit.page
        self.visit = visit
        self.session = visit.page.context.new_cdp_session(visit.page)
        box = visit.page.locator(".stage").bounding_box()
        self.corner = np.array([box["x"], box["y"]])
        self.middle = np.array([box["width"], box["height"]]) / 2

    def tell(self, kind: str, at: Sequence[Any], first: int = 0) -> None:
        """Where fingers are, from the stage's middle, counted from ``first``. At an end: those lifted, all for none."""
        places = [self.corner + self.middle + np.array(one) for one in at]
        points = [{"x": float(x), "y": float(y), "id": number} for number, (x, y) in enumerate(places, first)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def put(self, *at: Point) -> None:
        for count in range(1, len(at) + 1):
            self.tell("touchStart", at[:count])

    def draw(self, *paths: Stroke) -> None:
        for step in range(1, STEPS + 1):
            share = step / STEPS
            self.tell("touchMove", [np.array(a) + share * (np.array(b) - np.array(a)) for a, b in paths])
        self.page.wait_for_timeout(150)  # drawn in the next frame

    def lift(self) -> None:
        self.tell("touchEnd", [])
        self.page.wait_for_timeout(50)

    def stroke(self, *paths: Stroke) -> None:
        self.put(*(begins for begins, _ in paths))
        self.draw(*paths)
        self.lift()

    def matrix(self) -> np.ndarray:
        """From the picture's pixels to the stage's, as its overlay is laid: (2, 3)."""
        text = self.page.locator(".stage .over > g").get_attribute("transform")
        return np.array([float(one) for one in text[len("matrix(") : -1].split()]).reshape(3, 2).T

    def under(self, matrix: np.ndarray) -> np.ndarray:
        """The picture's pixel in the stage's middle."""
        return np.linalg.solve(matrix[:, :2], self.middle - matrix[:, 2])


@pytest.fixture
def fingers(visit: Visit) -> Fingers:
    return Fingers(visit)


@pytest.mark.slow
def test_two_fingers_zoom_about_what_is_between_them(fingers: Fingers) -> None:
    before = fingers.matrix()
    fingers.stroke(((-40, 0), (-80, 0)), ((40, 0), (80, 0)))
    near = fingers.matrix()
    assert near[0, 0] / before[0, 0] == pytest.approx(2, abs=0.1)
    assert fingers.under(near) == pytest.approx(fingers.under(before), abs=5)
    fingers.stroke(((0, -80), (0, -40)), ((0, 80), (0, 40)))
    assert fingers.matrix()[0, 0] / before[0, 0] == pytest.approx(1, abs=0.1)
    assert fingers.page.evaluate("visualViewport.scale") == 1  # the picture grew, not the page


@pytest.mark.slow
def test_two_fingers_move(fingers: Fingers) -> None:
    before, scrolled = fingers.matrix(), fingers.page.evaluate("scrollY")
    fingers.stroke(((-40, 0), (-10, -30)), ((40, 0), (70, -30)))
    after = fingers.matrix()
    assert after[:, :2] == pytest.approx(before[:, :2], rel=0.05)
    assert after @ [200, 240, 1] - before @ [200, 240, 1] == pytest.approx([30, -30], abs=5)
    assert fingers.page.evaluate("scrollY") == scrolled


@pytest.mark.slow
def test_one_finger_changes_the_window_and_moves_where_that_is_pressed(fingers: Fingers) -> None:
    place, dark = fingers.matrix(), fingers.visit.shot().mean()
    fingers.stroke(((0, 50), (0, -50)))
    assert fingers.matrix() == pytest.approx(place)
    assert fingers.visit.shot().mean() > dark + 8  # brighter upwards
    fingers.page.get_by_role("button", name="Move", exact=True).tap()
    shown = fingers.visit.shot().mean()
    fingers.stroke(((0, 0), (40, 30)))
    moved = fingers.matrix()
    assert moved - place == pytest.approx(np.array([[0, 0, 40], [0, 0, 30]]), abs=1)
    assert fingers.visit.shot().mean() == pytest.approx(shown, abs=8)


@pytest.mark.slow
def test_lifting_two_fingers_one_after_the_other_changes_nothing_more(fingers: Fingers) -> None:
    fingers.put((-40, 0), (40, 0))
    fingers.draw(((-40, 0), (-60, 0)), ((40, 0), (60, 0)))
    place, seen = fingers.matrix(), fingers.visit.shot().astype(int)
    fingers.tell("touchEnd", [(60, 0)], first=1)
    fingers.draw(((-60, 0), (-60, -90)))
    fingers.lift()
    assert fingers.matrix() == pytest.approx(place)
    assert np.abs(fingers.visit.shot().astype(int) - seen).mean() < 1
    fingers.stroke(((0, 50), (0, -50)))  # the next finger does as always
    assert fingers.visit.shot().mean() > seen.mean() + 8


@pytest.mark.slow
def test_a_finger_draws_a_box_and_a_second_one_takes_it_back(fingers: Fingers) -> None:
    page = fingers.page
    page.get_by_role("button", name="Draw boxes").tap()
    page.locator(".stage").evaluate("stage => stage.scrollIntoView({block: 'center'})")
    place = fingers.matrix()
    fingers.stroke(((-30, -30), (30, 40)))
    assert page.locator(".box.reader").count() == 1
    fingers.put((-60, -60))
    fingers.draw(((-60, -60), (-40, -40)))
    assert page.locator(".box.reader").count() == 2
    fingers.tell("touchStart", [(-40, -40), (40, 40)])
    fingers.draw(((-40, -40), (-80, -80)), ((40, 40), (80, 80)))
    fingers.lift()
    assert page.locator(".box.reader").count() == 1
    assert fingers.matrix()[0, 0] / place[0, 0] == pytest.approx(2, abs=0.1)
    page.get_by_role("button", name="Remove the last").tap()
    page.get_by_role("button", name="Draw boxes").tap()
    assert page.locator(".box.reader").count() == 0
