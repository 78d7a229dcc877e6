"""Pictures that people send for a study that is here; and pictures that they are shown, as wide as they want."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from clinic import ON_SQLITE, Clinic, picture, radiograph
from fastapi import Response
from listening import listening, raw
from PIL import Image as Picture

from callus.service import pictures
from callus.service.pictures import Pictures
from callus.service.refusals import TooManyError
from callus.service.tables import Image


def test_pictures_are_added_to_a_study_by_its_number(clinic: Clinic) -> None:
    """Which readers know, to whom a study's UID is not shown."""
    (dicom,) = clinic.sent(radiograph(1), answered=False)
    answer = clinic.reader.send(("a.png", picture(1)), ("b.png", picture(2)), study=str(dicom["study"]))
    assert [one["study"] for one in answer.json()["taken"]] == [dicom["study"]] * 2
    assert clinic.reader.get(f"/studies/{dicom['study']}").json()["images_count"] == 3
    other = clinic.reader.send(("a.dcm", radiograph(2, study=2)), study=str(dicom["study"]))
    assert other.json()["taken"][0]["study"] != dicom["study"]  # DICOM says itself where it belongs
    for number, status in (("99", 404), ("one", 422), ("0x1", 422), ("9" * 19, 422), ("9" * 999, 422), ("", 422)):
        assert clinic.reader.send(("a.png", picture(3)), study=number).status_code == status
    assert len(clinic.rows(Image)) == 4


@ON_SQLITE
def test_pictures_come_as_narrow_as_they_are_wanted(clinic: Clinic) -> None:
    (taken,) = clinic.sent(picture(1, (300, 200)))
    for kind in ("overlay", "frame"):
        whole, narrow = (
            clinic.reader.get(f"/images/{taken['image']}/{kind}.png", params=asked) for asked in ({}, {"width": 100})
        )
        size = Picture.open(io.BytesIO(whole.content)).size
        assert Picture.open(io.BytesIO(narrow.content)).size == (100, round(size[1] * 100 / size[0]))
        assert len(narrow.content) < len(whole.content) / 2
        assert narrow.headers["ETag"] != whole.headers["ETag"]
        known = {"If-None-Match": narrow.headers["ETag"]}
        again = clinic.reader.get(f"/images/{taken['image']}/{kind}.png", params={"width": 100}, headers=known)
        assert again.status_code == 304
        wide = clinic.reader.get(f"/images/{taken['image']}/{kind}.png", params={"width": 2048})
        assert Picture.open(io.BytesIO(wide.content)).size == size
        assert clinic.reader.get(f"/images/{taken['image']}/{kind}.png", params={"width": 1}).status_code == 422


@ON_SQLITE
def test_all_else_is_answered_while_pictures_wait(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = clinic.sent(picture(1, (300, 200)))
    come = threading.Event()

    def slow(self: Pictures, sha256: str) -> None:
        assert come.wait(120)
        raise TooManyError("enough")

    monkeypatch.setattr(Pictures, "frame", slow)
    monkeypatch.setattr(pictures, "_QUEUED", 60 - pictures._THREADS)
    cookie = f"Cookie: callus_session={clinic.reader.cookie}\r\n"

    def ask(path: str) -> bytes:
        head = f"GET /api/v1/{path} HTTP/1.1\r\nHost: callus.test\r\n{cookie}Connection: close\r\n\r\n"
        return raw(address, head.encode(), seconds=150)

    with listening(clinic) as address, ThreadPoolExecutor(80) as pool:
        try:
            asked = [pool.submit(ask, f"images/{taken['image']}/frame.bin") for _ in range(80)]
            clinic.until(lambda: any(one.done() for one in asked))  # so 60 wait, more than there are threads
            for path in ("health", "me"):
                assert ask(path).startswith(b"HTTP/1.1 200")
            assert len([one for one in asked if not one.done()]) >= 60
        finally:
            come.set()
        answers = [one.result() for one in asked]
    assert all(answer.startswith(b"HTTP/1.1 429") for answer in answers)
    assert any(b"\r\nretry-after: 5\r\n" in answer.lower() for answer in answers)


@pytest.mark.anyio
async def test_pictures_on_their_way_have_a_bound(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_SENT_BYTES", 1000)
    made = clinic.parts.pictures
    first = await made.answer(lambda: Response(bytes(2000)))  # a large one alone may go
    with pytest.raises(TooManyError, match="on their way") as refused:
        await made.answer(lambda: Response(bytes(10)))
    assert refused.value.retry_after == 5
    del first
    both = [await made.answer(lambda: Response(bytes(500))) for _ in range(2)]
    with pytest.raises(TooManyError, match="on their way"):
        await made.answer(lambda: Response(bytes(1)))
    assert len(both) == 2
