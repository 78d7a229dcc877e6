"""Orthanc's DICOMweb plugin sends a study to the service by STOW-RS, and gets the results into the same study."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
import simulated_dicom
from clinic import Clinic, opened
from listening import listening
from orthanc import Orthanc, running
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)

from callus.service.settings import Destination
from callus.service.tables import Answer, Entry, Image, Job
from callus.service.tokens import make_token

STUDY = "1.2.276.0.8.1"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc")) as one:
        yield one


@pytest.fixture
def archive(orthanc: Orthanc) -> Orthanc:
    orthanc.clear()
    return orthanc


@pytest.fixture
def clinic(tmp_path: Path, tiny_bundle: Path, archive: Orthanc) -> Iterator[Clinic]:
    web = Destination("archive", kind="stow-rs", url=archive.web)
    with opened(tmp_path / "data", tiny_bundle, destinations=(web,)) as clinic:
        yield clinic


def secret(clinic: Clinic, *scopes: str) -> str:
    with clinic.parts.database.writing() as session:
        return make_token(session, clinic.users["reader"].id, "the archive", scopes, None)[1]


def radiograph(number: int, spot: tuple[int, int]) -> bytes:
    """Dark but for a square of 40 pixels that begins at ``spot``, row and column."""
    pixels = np.full((150, 120), 400, np.uint16)
    row, column = spot
    pixels[row : row + 40, column : column + 40] = 3900
    buffer = BytesIO()
    uids = {"SOPInstanceUID": f"1.2.276.0.9.{number}", "StudyInstanceUID": STUDY}
    simulated_dicom.simulated(pixels=pixels, **uids).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_a_study_that_the_archive_stows_comes_back_with_its_results(clinic: Clinic, archive: Orthanc) -> None:
    spots = {1: (10, 10), 2: (90, 60)}
    (study,) = {archive.put(radiograph(number, spot)) for number, spot in spots.items()}
    clinic.parts.start()
    with listening(clinic) as (host, port):
        archive.know_web("callus", f"http://{host}:{port}/dicom-web/", secret(clinic, "send"))
        archive.send_web("callus", study)
        clinic.until(lambda: len(clinic.rows(Job, Job.kind == "deliver", Job.state == "done")) == 2)
        with pytest.raises(requests.HTTPError):  # the study again, now with the results in it: these are refused
            archive.send_web("callus", study)
    assert clinic.rows(Job, Job.state != "done") == []

    images = {image.uid: image for image in clinic.rows(Image)}
    assert set(images) == {"1.2.276.0.9.1", "1.2.276.0.9.2"}
    assert {image.source for image in images.values()} == {"stow"}
    assert {(entry.who, entry.did) for entry in clinic.rows(Entry)} >= {
        ("the reader", "sent"),
        ("service", "delivered"),
    }
    held = archive.objects(STUDY)
    kinds = [one.SOPClassUID for one in held]
    assert sorted(map(kinds.count, (DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage))) == [2, 2]
    assert kinds.count(ComprehensiveSRStorage) == 2
    assert len(held) == 6
    for report in (one for one in held if one.SOPClassUID == ComprehensiveSRStorage):
        evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        uid = evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        (answer,) = clinic.rows(Answer, Answer.image_id == images[uid].id)
        row, column = spots[int(uid.rpartition(".")[2])]
        box = answer.boxes[0]
        assert column < box["x"] + box["width"] / 2 < column + 40
        assert row < box["y"] + box["height"] / 2 < row + 40


def test_an_archive_with_no_token_may_not_send(clinic: Clinic, archive: Orthanc) -> None:
    study = archive.put(radiograph(1, (10, 10)))
    with listening(clinic) as (host, port):
        for token in ("callus_nobody", secret(clinic, "read")):
            archive.know_web("callus", f"http://{host}:{port}/dicom-web/", token)
            with pytest.raises(requests.HTTPError):
                archive.send_web("callus", study)
    assert clinic.rows(Image) == []
