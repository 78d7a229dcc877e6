"""What a real Orthanc holds after a delivery, as dcmtk's and dicom3tools' programs read it."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from clinic import opened
from orthanc import TITLE, Orthanc, running
from PIL import Image as Picture
from programs import dcmtk, missing
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from simulated_dicom import simulated

from callus.service.jobs import DELIVER
from callus.service.settings import Destination
from callus.service.tables import Answer, Job

RADIOGRAPH, STUDY = "1.2.276.0.9.1", "1.2.276.0.8.1"
SPOT = (40, 90, 30, 70)  # first and last row, first and last column
NO_JUDGE_OF_UTF8 = "W: The VR checker does not support this Specific Character Set: ISO_IR 192"


@dataclass(frozen=True)
class Held:
    """The files that Orthanc gives of the study, the answer that they come from, and the picture in the page."""

    files: dict[str, Path]
    answer: Answer
    overlay: bytes


def with_a_spot() -> bytes:
    """A radiograph as a whole file: Orthanc gives back what it got, and the programs want all of its head."""
    values = np.full((150, 120), 400, np.uint16)
    top, bottom, left, right = SPOT
    values[top:bottom, left:right] = 3900
    buffer = io.BytesIO()
    made = simulated(pixels=values, SOPInstanceUID=RADIOGRAPH, StudyInstanceUID=STUDY)
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Held:
    """The archive has a radiograph; the whole service is sent it too, answers, and delivers to the archive."""
    folder = tmp_path_factory.mktemp("held")
    with running(tmp_path_factory.mktemp("orthanc")) as archive:
        pacs = Destination("pacs", ae_title=TITLE, host="127.0.0.1", port=archive.dicom, results=("sr", "sc"))
        sent = with_a_spot()
        study = archive.put(sent)
        with opened(folder / "data", tiny_bundle, destinations=(pacs,)) as clinic:
            (taken,) = clinic.sent(sent)
            clinic.until(lambda: [job.state for job in clinic.rows(Job, Job.kind == DELIVER)] == ["done"])
            (answer,) = clinic.rows(Answer)
            overlay = clinic.reader.get(f"/images/{taken['image']}/overlay.png").content
        return Held(fetched(archive, study, folder), answer, overlay)


def fetched(archive: Orthanc, study: str, folder: Path) -> dict[str, Path]:
    """A study's files by their SOP classes, written as Orthanc's own interface gives them."""
    assert archive.rest("GET", "/studies") == [study]
    files: dict[str, Path] = {}
    for one in archive.rest("GET", f"/studies/{study}/instances"):
        data = archive.rest("GET", f"/instances/{one['ID']}/file")
        kind = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPClassUID
        files[kind] = folder / f"{one['ID']}.dcm"
        files[kind].write_bytes(data)
    assert len(files) == 3
    return files


def test_the_report_and_the_picture_are_in_the_radiographs_study(held: Held) -> None:
    report = pydicom.dcmread(held.files[ComprehensiveSRStorage])
    picture = pydicom.dcmread(held.files[SecondaryCaptureImageStorage])
    assert report.StudyInstanceUID == picture.StudyInstanceUID == STUDY
    assert [one.ReferencedSOPInstanceUID for one in picture.SourceImageSequence] == [RADIOGRAPH]
    assert np.array_equal(picture.pixel_array, np.asarray(Picture.open(io.BytesIO(held.overlay)).convert("RGB")))


def test_dsrdump_prints_each_box_where_it_was_found(held: Held) -> None:
    line = [dcmtk("dsrdump"), "+Pl", "+Pu", str(held.files[ComprehensiveSRStorage])]
    said = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0
    assert set(said.stderr.splitlines()) <= {NO_JUDGE_OF_UTF8}

    printed = re.findall(r'SCOORD:\(,,"Image Region"\)=\(POLYLINE,([^)]*)\)', said.stdout)
    drawn = [[[np.float32(end) for end in corner.split("/")] for corner in one.split(",")] for one in printed]
    assert drawn
    assert drawn == [outline(box) for box in held.answer.boxes]
    of_it = rf'selected from IMAGE:\(,,"Source"\)=\(DX image,"{re.escape(RADIOGRAPH)}"\)'
    assert len(re.findall(of_it, said.stdout)) == len(drawn)
    column, row = np.mean(drawn[0][:4], axis=0)
    top, bottom, left, right = SPOT
    assert top < row < bottom
    assert left < column < right


def outline(box: dict[str, float]) -> list[list[np.float32]]:
    """A box's corners, column and row, in the 32 bits that the standard gives them; dsrdump prints all of these."""
    left, top = box["x"], box["y"]
    right, bottom = left + box["width"], top + box["height"]
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return [[np.float32(column), np.float32(row)] for column, row in corners]


@pytest.mark.parametrize(
    ("kind", "name"), [(ComprehensiveSRStorage, "ComprehensiveSR"), (SecondaryCaptureImageStorage, "SCImage")]
)
def test_dciodvfy_finds_no_error(held: Held, kind: str, name: str) -> None:
    if not (verifier := shutil.which("dciodvfy")):
        missing("dciodvfy (dicom3tools)")
    said = subprocess.run([verifier, held.files[kind]], capture_output=True, text=True, check=False, timeout=60)
    lines = (said.stdout + said.stderr).splitlines()
    assert not [line for line in lines if line.startswith("Error")], lines
    assert said.returncode == 0
    assert name in lines
