"""Pictures that people send for a study that is here; and pictures that they are shown, as wide as they want."""

from __future__ import annotations

import io

from clinic import ON_SQLITE, Clinic, picture, radiograph
from PIL import Image as Picture

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
