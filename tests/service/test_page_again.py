"""What could not be sent is not lost: it is tried again, or kept and sent again when whoever has it says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clinic import picture
from visit import DESK, PHONE, Visit, begin, checked, started, visiting

SENDING = "**/api/v1/radiographs"


@pytest.fixture
def service(tmp_path: Path, tiny_bundle: Path) -> Iterator[SimpleNamespace]:
    with started(tmp_path / "data", tiny_bundle) as one:
        yield one


@pytest.fixture
def visit(service: SimpleNamespace) -> Iterator[Visit]:
    """The administrator's, at a desk."""
    with visiting(service.address, DESK) as one:
        begin(one, service.secret)
        yield one


def upload_of(visit: Visit) -> Any:
    return visit.page.get_by_role("region", name="upload")


class Line:
    """What the service is made to answer to files that are sent, one after the other; afterwards it answers itself."""

    def __init__(self, visit: Visit, *answers: tuple[int, Any] | None) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        visit.page.route(SENDING, self._answer)

    def _answer(self, route: Any) -> None:
        self.bodies.append(route.request.post_data_buffer)
        if not self.answers:
            route.continue_()
            return
        answer = self.answers.pop(0)
        if answer is None:
            route.abort("connectionreset")
        else:
            status, body = answer
            headers = {"Content-Type": "application/json", "Retry-After": "1"}
            route.fulfill(status=status, headers=headers, body=json.dumps(body))

    def names(self, at: int) -> set[str]:
        """Which files the request had."""
        return {name for name in ("1.dcm", "2.dcm", "3.dcm", "4.png") if f'"{name}"'.encode() in self.bodies[at]}


def refused(what: str) -> dict[str, Any]:
    return {"error": {"what": what, "hint": ""}}


def files(*seeds: int) -> list[Any]:
    """Pictures that are named as DICOM, so that nobody asks whether they are one exam."""
    return [{"name": f"{seed}.dcm", "mimeType": "", "buffer": picture(seed, (300, 200))} for seed in seeds]


@pytest.mark.slow
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_what_failed_for_a_reason_that_may_pass_is_kept_and_sent_again(service: SimpleNamespace, width: int) -> None:
    with visiting(service.address, width) as visit:
        begin(visit, service.secret)
        page = visit.page
        upload = upload_of(visit)
        told, again = upload.get_by_role("alert"), upload.get_by_role("button", name="Send again")
        line = Line(visit, None, (503, refused("the database is away")), (507, refused("the disk is full")))
        if width == PHONE:  # which has the picture nowhere else
            taken = {"name": "4.png", "mimeType": "image/png", "buffer": picture(4, (300, 200))}
            page.get_by_label("Take a picture").set_input_files([taken])
        else:
            page.get_by_label("Send radiographs").set_input_files(files(1, 2))
        upload.get_by_text("0 taken").wait_for()
        sent = line.names(0)
        assert "the connection broke" in told.inner_text()
        checked(visit)
        for problem in ("the database is away", "the disk is full"):
            again.click()
            told.get_by_text(problem).first.wait_for()
        assert told.locator("p").count() == len(sent)
        again.click()
        upload.get_by_text(f"{len(sent)} taken").wait_for()
        assert told.count() == again.count() == 0
        assert [line.names(at) for at in range(4)] == [sent] * 4
        page.locator(".studies tbody tr").nth(len(sent) - 1).wait_for()


@pytest.mark.slow
def test_a_file_that_was_refused_for_good_is_not_offered_again(visit: Visit) -> None:
    page, upload = visit.page, upload_of(visit)
    each = [
        {"name": "1.dcm", **refused("is no radiograph"), "status": 422},
        {"name": "2.dcm", **refused("the disk is full"), "status": 507},
        {"name": "3.dcm", **refused("another object has its UID"), "status": 409},
    ]
    line = Line(visit, (507, refused("the disk is full") | {"taken": each}))
    page.get_by_label("Send radiographs").set_input_files(files(1, 2, 3))
    upload.get_by_text("0 taken").wait_for()
    assert upload.get_by_role("alert").locator("p").count() == 3
    upload.get_by_role("button", name="Send again").click()
    upload.get_by_text("1 taken").wait_for()
    assert line.names(1) == {"2.dcm"}
    assert upload.get_by_role("button", name="Send again").count() == 0

    line.answers.append((413, refused("is larger than is allowed")))
    page.get_by_label("Send radiographs").set_input_files(files(1))
    upload.get_by_text("is larger than is allowed").wait_for()
    assert upload.get_by_role("button", name="Send again").count() == 0


@pytest.mark.slow
def test_what_found_no_room_is_sent_again_by_itself(visit: Visit) -> None:
    page, upload = visit.page, upload_of(visit)
    busy = {**refused("enough waits already"), "status": 429}
    left = [{"name": "2.dcm", **busy}, {"name": "3.dcm", **busy}]
    taken = [{"name": "1.dcm", "image": 1, "study": 1, "new": True}, *left]
    line = Line(visit, (202, {"taken": taken}), (429, refused("enough waits already") | {"taken": left}))
    page.get_by_label("Send radiographs").set_input_files(files(1, 2, 3))
    upload.get_by_text("3 taken").wait_for()
    assert [line.names(at) for at in range(3)] == [{"1.dcm", "2.dcm", "3.dcm"}, *[{"2.dcm", "3.dcm"}] * 2]
    assert upload.get_by_role("alert").count() == 0


@pytest.mark.slow
def test_leaving_files_that_are_kept_is_asked_about(visit: Visit) -> None:
    page, upload = visit.page, upload_of(visit)
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    Line(visit, None)
    page.get_by_label("Send radiographs").set_input_files(files(1))
    upload.get_by_role("button", name="Send again").wait_for()
    page.get_by_role("link", name="Administration").click()
    assert asked == ["There are files that are not sent. Leave without them?"]
    upload.get_by_role("button", name="Send again").click()
    upload.get_by_text("1 taken").wait_for()
    page.get_by_role("link", name="Administration").click()
    page.get_by_role("heading", name="Administration").wait_for()
    assert len(asked) == 1


@pytest.mark.slow
def test_files_of_any_name_can_be_chosen_and_names_are_typed_as_they_are(service: SimpleNamespace) -> None:
    with visiting(service.address, PHONE) as visit:
        visit.page.goto(service.address)
        name = visit.page.get_by_label("Name")
        kept = {"autocapitalize": "none", "autocorrect": "off", "spellcheck": "false"}
        assert {key: name.get_attribute(key) for key in kept} == kept
        begin(visit, service.secret)
        assert visit.page.get_by_label("Send radiographs").get_attribute("accept") is None
        assert visit.page.get_by_label("Take a picture").get_attribute("accept") == "image/*"
