"""Which studies another archive has: a real Orthanc searched, one that wants a password, and servers that fail."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import simulated_dicom
from clinic import Browser, Clinic, opened
from dicomweb_server import Web, answering
from orthanc import Orthanc, running
from programs import free_port

from callus.service import source
from callus.service.settings import Source
from callus.service.tables import Entry

STUDY = "1.2.276.0.8.{}"
PASSWORD = "only we know: \u00fc"  # noqa: S105 - of nobody


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc"), RegisteredUsers={"callus": PASSWORD}) as one:
        yield one


@pytest.fixture(scope="module")
def filled(orthanc: Orthanc) -> Orthanc:
    for number, patient, accession, date in (
        (1, "P-1", "A-1", "20240229"),
        (2, "P-1", "A-2", "20250101"),
        (3, "P-2", "A-3", "20250101"),
    ):
        tags = {"PatientID": patient, "AccessionNumber": accession, "StudyDate": date, "Modality": "DX"}
        uids = {"SOPInstanceUID": f"1.2.276.0.9.{number}", "StudyInstanceUID": STUDY.format(number)}
        file = BytesIO()
        simulated_dicom.simulated(**uids, **tags).save_as(file, enforce_file_format=True)
        orthanc.put(file.getvalue())
    return orthanc


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with answering(STUDY.format(1)) as server:
        yield server


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, filled: Orthanc, web: Web) -> Iterator[Clinic]:
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    (folder / "wrong").write_text("another")
    sources = (
        Source("archive", filled.web, user="callus", password_file=str(folder / "password")),
        Source("stranger", filled.web, user="callus", password_file=str(folder / "wrong")),
        Source("down", f"http://127.0.0.1:{free_port()}/dicom-web"),
        Source("other", web.url),
    )
    with opened(folder / "data", tiny_bundle, sources=sources) as clinic:
        yield clinic


def search(clinic: Clinic, browser: Browser | None = None, **given: Any) -> Any:
    answer = (browser or clinic.radiologist).post("/pull/search", {"source": "archive", **given})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ({"patient_id": "P-1"}, [2, 1]),
        ({"accession": "A-3"}, [3]),
        ({"date": "2025-01-01"}, [2, 3]),
        ({"patient_id": " P-1 ", "date": "2025-01-01"}, [2]),
        ({"patient_id": "P-1", "accession": "A-3"}, []),
        ({"patient_id": "P"}, []),
    ],
)
def test_studies_are_found_by_patient_accession_and_day(clinic: Clinic, given: Any, numbers: list[int]) -> None:
    found = search(clinic, **given)
    assert not found["more"]
    assert sorted(one["study_uid"] for one in found["studies"]) == [STUDY.format(number) for number in sorted(numbers)]
    dates = [one["date"] for one in found["studies"]]
    assert dates == sorted(dates, reverse=True)


def test_what_is_found_can_be_told_apart_and_fetched(clinic: Clinic, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (found,) = search(clinic, accession="A-1")["studies"]
    assert found == {
        "study_uid": STUDY.format(1),
        "patient": {"name": "Doe^Jane", "id": "P-1", "birth_date": "19700101", "sex": "F"},
        "date": "20240229",
        "accession": "A-1",
        "description": "",
        "modalities": ["DX"],
        "study": None,
    }
    clinic.answer()
    asked = clinic.radiologist.post("/pull", {"source": "archive", "study_uid": found["study_uid"]})
    assert asked.json() == {"new": True}
    clinic.until(lambda: search(clinic, accession="A-1")["studies"][0]["study"])
    lines = clinic.rows(Entry, Entry.did == "searched")
    assert {(entry.who, entry.what) for entry in lines[-2:]} == {("the radiologist", "1 studies of archive")}
    for patient in ("P-1", "A-1", "Doe", PASSWORD):
        assert patient not in caplog.text


def test_searching_is_for_those_who_may_fetch(clinic: Clinic) -> None:
    asked = {"source": "archive", "accession": "A-1"}
    assert clinic.reader.post("/pull/search", asked).status_code == 403
    assert clinic.program("radiologist", "read").post("/pull/search", asked).status_code == 403
    assert len(search(clinic, clinic.program("radiologist", "send"), accession="A-1")["studies"]) == 1
    assert len(search(clinic, clinic.administrator, accession="A-1")["studies"]) == 1


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({}, 422, "nothing is searched for"),
        ({"patient_id": "  "}, 422, "nothing is searched for"),
        ({"patient_id": "*"}, 422, "would search for others too"),
        ({"patient_id": "P-?"}, 422, "would search for others too"),
        ({"accession": "A-1\\A-2"}, 422, "would search for others too"),
        ({"date": "yesterday"}, 422, "does not fit"),
        ({"source": "elsewhere", "accession": "A-1"}, 404, "no such source"),
        ({"source": "stranger", "accession": "A-1"}, 503, "the source answers 401"),
        ({"source": "down", "accession": "A-1"}, 503, "the source does not answer"),
        ({"source": "other", "accession": "A-1"}, 503, "the source answers 404"),
    ],
)
def test_what_cannot_be_searched_for_says_why(clinic: Clinic, given: Any, status: int, said: str) -> None:
    answer = clinic.radiologist.post("/pull/search", {"source": "archive", **given})
    assert answer.status_code == status
    assert said in answer.json()["error"]["what"]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'["x"]'])
def test_what_is_no_answer_to_a_search_is_refused(clinic: Clinic, web: Web, body: bytes) -> None:
    web.answers["/dicom-web/studies"] = (200, "application/dicom+json", body)
    answer = clinic.radiologist.post("/pull/search", {"source": "other", "accession": "A-1"})
    assert (answer.status_code, answer.json()["error"]["what"]) == (
        503,
        "the source answers a search with something else",
    )


def test_a_source_that_gives_everything_is_cut_short(clinic: Clinic, web: Web) -> None:
    lines = ", ".join(f'{{"0020000D": {{"vr": "UI", "Value": ["1.2.{number}"]}}}}' for number in range(200))
    web.answers["/dicom-web/studies"] = (200, "application/dicom+json", f"[{lines}]".encode())
    found = search(clinic, source="other", accession="A-1")
    assert (len(found["studies"]), found["more"]) == (source.MOST, True)
    web.answers["/dicom-web/studies"] = (204, "application/dicom+json", b"")
    assert search(clinic, source="other", accession="A-1") == {"studies": [], "more": False}


def test_few_search_at_once(clinic: Clinic) -> None:
    for _ in range(4):
        assert source._searches.acquire(blocking=False)
    try:
        answer = clinic.radiologist.post("/pull/search", {"source": "archive", "accession": "A-1"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    finally:
        source._searches.release(4)
