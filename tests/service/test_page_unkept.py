"""Verdicts on the page: what readers drew is shown and printed, and what is not kept yet is not lost unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from visit import DESK, PASSWORD, PHONE, Visit, begin, checked, radiograph, send, started, visiting

BOXES = [{"x": 210, "y": 130, "width": 60, "height": 50}, {"x": 40, "y": 300, "width": 80, "height": 90}]
QUESTION = "What you drew or wrote is not kept. Leave without it?"


@pytest.fixture(scope="module", params=[DESK, PHONE])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path
) -> Iterator[Any]:
    """A visit to a study of two images that are answered: a fracture, and none seen."""
    folder = tmp_path_factory.mktemp("unkept")
    with started(folder / "data", tiny_bundle) as service, visiting(service.address, request.param) as visit:
        begin(visit, service.secret)
        send(visit)
        visit.page.locator("tr", has_text="2 images").locator("text=fracture").wait_for()
        yield visit
        visit.fine()


class Asked:
    """What the page asks before something is left, and what is answered."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.questions: list[str] = []
        self.leaves = False

    def __call__(self, dialog: Any) -> None:
        self.questions.append(f"{dialog.type}: {dialog.message}".rstrip(": "))
        if self.leaves:
            dialog.accept()
        else:
            dialog.dismiss()


@pytest.fixture
def visit(opened: Visit) -> Visit:
    """The same with its study open anew, and the fracture shown."""
    opened.page.goto(f"{opened.address}studies/1")
    opened.page.locator(".box.solid").wait_for(state="attached")
    opened.page.locator(".stage .port:not(.blank)").wait_for()
    return opened


@pytest.fixture
def asked(visit: Visit) -> Iterator[Asked]:
    """What is asked meanwhile."""
    one = Asked(visit.page)
    visit.page.on("dialog", one)
    yield one
    one.leaves = True
    visit.page.goto(visit.address)
    visit.page.remove_listener("dialog", one)


def drawn(page: Any) -> np.ndarray:
    """Dashed boxes, in the picture's pixels, each x, y, width, height: (boxes, 4)."""
    names = ("x", "y", "width", "height")
    boxes = page.locator(".box.reader").all()
    rows = [[float(box.locator("rect").first.get_attribute(name)) for name in names] for box in boxes]
    return np.array(rows).reshape(-1, 4)


def judge(page: Any, verdict: dict[str, Any], token: str = "") -> None:
    """Give a verdict on the image that is shown first, as the page does or as a program."""
    page.evaluate(
        """async ([verdict, token]) => {
          const line = await (await fetch("/api/v1/studies/1")).json();
          const worst = line.images.find(image => image.answer.level === "fracture");
          const me = await (await fetch("/api/v1/me")).json();
          const headers = {"Content-Type": "application/json"};
          if (token) headers.Authorization = `Bearer ${token}`;
          else headers["X-CSRF-Token"] = me.csrf;
          const asked = {method: "POST", headers, body: JSON.stringify(verdict)};
          const answer = await fetch(`/api/v1/images/${worst.id}/verdict`, asked);
          if (answer.status !== 201) throw new Error(await answer.text());
        }""",
        [verdict, token],
    )


def a_box(page: Any) -> None:
    """Draw one by keys."""
    page.locator(".stage").focus()
    for key in ("d", "Enter", "Enter", "Escape"):
        page.keyboard.press(key)


@pytest.mark.slow
def test_who_agrees_agrees_with_the_answer_that_was_looked_at(visit: Visit, asked: Asked) -> None:
    page, later = visit.page, 0

    def answered_anew(route: Any) -> None:
        study = route.fetch().json()
        for image in study["images"]:
            image["answer"]["id"] += later
        route.fulfill(json=study)

    def other_view_is_judged() -> None:
        """Which has the study read anew."""
        page.get_by_role("button", name="none seen").click()
        page.get_by_label("Comment").fill("nothing")
        page.get_by_role("button", name="Keep the verdict").click()
        page.get_by_text("kept", exact=True).wait_for()
        page.get_by_role("button", name="fracture").click()

    page.route("**/api/v1/studies/1", answered_anew)
    try:
        page.get_by_label("Agree", exact=True).check()
        later = 1000  # as after a switch to another model
        other_view_is_judged()
        page.get_by_text("There is another answer by now").wait_for()
        assert not page.get_by_label("Agree", exact=True).is_checked()
        later = 0
        other_view_is_judged()
        page.get_by_text("There is another answer by now").wait_for(state="detached")
    finally:
        page.unroute("**/api/v1/studies/1")
    with page.expect_request("**/verdict") as sent:
        page.get_by_role("button", name="Keep the verdict").click()
    told = sent.value.post_data_json
    study = page.evaluate("async () => (await fetch('/api/v1/studies/1')).json()")
    assert told["agrees"] is True
    assert told["answer"] in [image["answer"]["id"] for image in study["images"]]
    assert sent.value.response().status == 201
    assert asked.questions == []


def test_boxes_of_verdicts_that_were_kept_are_drawn_dashed(visit: Visit) -> None:
    page = visit.page
    judge(page, {"label": 1, "boxes": BOXES[:1]})
    judge(page, {"agrees": True, "boxes": BOXES})
    page.reload()
    page.locator(".box.reader").nth(1).wait_for(state="attached")
    wanted = np.array([list(box.values()) for box in BOXES])
    assert drawn(page) == pytest.approx(wanted)  # the newest verdict's alone
    dashes = page.locator(".box.reader rect").last.evaluate("rect => getComputedStyle(rect).strokeDasharray")
    assert dashes not in ("none", "")
    page.get_by_role("button", name="Boxes", exact=True).click()
    assert len(drawn(page)) == 0
    page.get_by_role("button", name="Boxes", exact=True).click()
    assert len(drawn(page)) == 2

    page.locator(".stage").focus()
    page.keyboard.press("d")  # the reader's own alone
    assert len(drawn(page)) == 0
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert len(drawn(page)) == 1
    page.get_by_role("button", name="Remove the last").click()
    assert drawn(page) == pytest.approx(wanted)
    checked(visit)


@pytest.mark.slow
def test_verdicts_are_printed_as_they_are_shown(visit: Visit) -> None:
    page = visit.page
    judge(page, {"label": 1, "boxes": BOXES, "comment": "both ends"})
    judge(page, {"label": 0})
    page.reload()
    words = ("sees a fracture, 2 boxes drawn", "sees none")
    for text in words:
        page.locator(".said").get_by_text(text).last.wait_for()
    page.emulate_media(media="print")
    printed = page.locator(".printed").inner_text()
    page.emulate_media(media="screen")
    assert f"the administrator: {words[0]}. both ends (" in printed
    assert f"the administrator: {words[1]} (" in printed


@pytest.mark.slow
def test_what_is_not_kept_is_found_again_after_another_view(visit: Visit, asked: Asked) -> None:
    page = visit.page
    a_box(page)
    (box,) = drawn(page)
    page.get_by_label("Disagree").check()
    page.get_by_label("Comment").fill("lower")
    page.locator(".stage").focus()
    page.keyboard.press("n")
    page.get_by_role("button", name="none seen").and_(page.locator("[aria-current=true]")).wait_for()
    assert len(drawn(page)) == 0
    assert page.get_by_label("Comment").input_value() == ""
    assert not page.get_by_label("Disagree").is_checked()
    assert page.get_by_role("button", name="fracture").get_by_text("verdict not kept").count() == 1
    checked(visit)
    page.get_by_role("button", name="fracture").click()
    page.locator(".box.reader").wait_for(state="attached")
    assert drawn(page) == pytest.approx(box[None])
    assert page.get_by_label("Comment").input_value() == "lower"
    assert page.get_by_label("Disagree").is_checked()
    assert asked.questions == []  # nothing was left

    with page.expect_request(lambda request: request.url.endswith("/verdict")) as sent:
        page.get_by_role("button", name="Keep the verdict").click()
    assert sent.value.post_data_json["comment"] == "lower"
    page.get_by_text("kept", exact=True).wait_for()
    assert page.get_by_text("verdict not kept").count() == 0
    page.get_by_role("link", name="Worklist", exact=True).click()
    page.get_by_role("heading", name="Worklist").wait_for()
    assert asked.questions == []


@pytest.mark.slow
def test_whoever_leaves_is_asked_where_something_is_not_kept(visit: Visit, asked: Asked) -> None:
    page, here = visit.page, visit.page.url
    page.get_by_role("link", name="Worklist", exact=True).click()
    page.get_by_role("link", name="A-17").click()
    page.locator(".box.solid").wait_for(state="attached")
    page.get_by_label("Comment").fill("lower")

    page.get_by_role("link", name="Worklist", exact=True).click()
    page.go_back(wait_until="commit")
    page.wait_for_timeout(200)
    page.get_by_role("button", name="Log out").click()
    assert asked.questions == [f"confirm: {QUESTION}"] * 3
    with page.expect_download():  # which leaves nothing
        page.get_by_role("link", name="original").click()
    assert len(asked.questions) == 3
    page.evaluate("location.reload()")
    page.wait_for_timeout(500)
    assert asked.questions[3:] == ["beforeunload"]
    assert page.url == here
    assert page.get_by_label("Comment").input_value() == "lower"

    asked.leaves = True
    page.go_back(wait_until="commit")
    page.get_by_role("heading", name="Worklist").wait_for()
    assert asked.questions[4:] == [f"confirm: {QUESTION}"]
    page.get_by_role("link", name="Administration").click()
    page.get_by_role("heading", name="Administration").wait_for()
    assert len(asked.questions) == 5


@pytest.mark.slow
def test_nobody_is_asked_where_the_login_has_ended(visit: Visit, asked: Asked) -> None:
    page = visit.page
    a_box(page)
    page.context.clear_cookies()
    page.get_by_role("button", name="Keep the verdict").click()
    page.get_by_role("heading", name="Log in").wait_for()
    assert asked.questions == []
    assert "Doe" not in page.content()
    page.get_by_label("Name").fill("the administrator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="A-17").wait_for()
    visit.written = [line for line in visit.written if "401" not in line]  # browsers write down what was refused


@pytest.mark.slow
def test_a_study_that_is_gone_is_left_unasked(opened: Visit) -> None:
    page = opened.page
    file = {
        "name": "3.dcm",
        "mimeType": "",
        "buffer": radiograph(3, bright=True).replace(b"1.2.276.0.8.1", b"1.2.276.0.8.7"),
    }
    page.goto(opened.address)
    page.get_by_label("Send radiographs").set_input_files([file])
    page.get_by_role("region", name="upload").get_by_role("link", name="study").click()
    page.locator(".stage .port:not(.blank)").wait_for()
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    a_box(page)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Worklist").wait_for()
    assert len(asked) == 1
    assert asked[0].startswith("Delete this study")
