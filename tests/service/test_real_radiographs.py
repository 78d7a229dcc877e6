"""Real radiographs, the model that comes with callus, and every way in: each gets one finding, the same as alone."""

from __future__ import annotations

import io
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pydicom
import pytest
from clinic import related
from programs import dcmtk, free_port, missing
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from served import Served, serving
from wrapped_dx import wrapped_dx

from callus.identify import Identifier

NODE = """
[dicom]
port = {port}
[[dicom.callers]]
ae_title = "ROOM1"
address = "127.0.0.1"
"""
WRAPPED = ("Fractured/IMG0000025.jpg", "Non_fractured/IMG0000026.jpg")
PLAIN = "Fractured/IMG0000044.jpg"
KINDS = {"sr": ComprehensiveSRStorage, "sc": SecondaryCaptureImageStorage}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def served(port: int, tmp_path: Path) -> Iterator[Served]:
    """A service that was told of no model."""
    (settings := tmp_path / "clinic.toml").write_text(NODE.format(port=port))
    with serving(tmp_path / "data", None, "--config", str(settings)) as one:
        one.join()
        yield one


def answered(served: Served, count: int) -> list[dict[str, Any]]:
    """The images of all studies, once so many have an answer and what is made of it."""
    end = time.monotonic() + 180
    while True:
        images: list[dict[str, Any]] = []
        for line in served.browser.get("/studies").json()["studies"]:
            images += served.browser.get(f"/studies/{line['id']}").json()["images"]
        if sum(bool(image["answer"] and image["answer"]["results"]) for image in images) == count:
            return images
        assert time.monotonic() < end, images
        time.sleep(0.2)


def test_wrapped_radiographs_keep_to_the_standard(fracatlas: Path, tmp_path: Path) -> None:
    if not (verifier := shutil.which("dciodvfy")):
        missing("dciodvfy (dicom3tools)")
    (file := tmp_path / "1.dcm").write_bytes(wrapped_dx(fracatlas / "images" / WRAPPED[0], 1))
    said = subprocess.run([verifier, file], capture_output=True, text=True, check=False, timeout=60)
    lines = (said.stdout + said.stderr).splitlines()
    assert "DXImageForPresentation" in lines
    assert not [line for line in lines if line.startswith("Error")], lines


@pytest.mark.slow
def test_each_way_in_ends_with_the_answer_of_the_same_bytes(
    served: Served, port: int, fracatlas: Path, dicom_folder: Path, tmp_path: Path
) -> None:
    sent: dict[str, bytes] = {}
    for seed, name in enumerate(WRAPPED, 1):
        sent[f"{seed}.dcm"] = wrapped_dx(fracatlas / "images" / name, seed)
        (tmp_path / f"{seed}.dcm").write_bytes(sent[f"{seed}.dcm"])
    files = [str(tmp_path / name) for name in sent]
    line = [dcmtk("storescu"), "-aet", "ROOM1", "-aec", "CALLUS", "127.0.0.1", str(port), *files]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    sent["jpeg"] = (fracatlas / "images" / PLAIN).read_bytes()
    taken = served.browser.post("/radiographs", files=[("files", ("a.jpg", sent["jpeg"]))])
    assert taken.status_code == 202, taken.text
    sent["archive"] = (dicom_folder / "RG3_UNC.dcm").read_bytes()
    stored = served.browser.post(f"{served.address}/dicom-web/studies", **related(sent["archive"]))
    assert stored.status_code == 200, stored.text

    images = answered(served, len(sent))

    assert len(images) == len(sent)
    with closing(sqlite3.connect(tmp_path / "data" / "callus.sqlite")) as database:
        counts = database.execute("SELECT count(*), count(DISTINCT image_id) FROM answers").fetchone()
    assert counts == (len(sent), len(sent))
    alone = Identifier(threads=1)
    expected = {name: alone.identify(data) for name, data in sent.items()}
    told = sorted((image["answer"]["probability"], image["answer"]["level"]) for image in images)
    assert told == sorted((finding.probability, finding.level) for finding in expected.values())
    assert len(set(told)) == len(sent)  # none stands in for another
    for image in images:
        check_files(served, image, sent["jpeg"])


def check_files(served: Served, image: dict[str, Any], jpeg: bytes) -> None:
    """Of what came as DICOM there are a report and a picture that pydicom reads, and that belong to it."""
    original = served.browser.get(f"/images/{image['id']}/original")
    if original.headers["Content-Type"] != "application/dicom":
        assert original.content == jpeg
        assert "sr" not in image["answer"]["results"]
        return
    source = pydicom.dcmread(io.BytesIO(original.content))
    for kind, sop_class in KINDS.items():
        data = pydicom.dcmread(io.BytesIO(served.browser.get(f"/images/{image['id']}/{kind}.dcm").content))
        assert data.SOPClassUID == sop_class
        assert (data.StudyInstanceUID, data.PatientID) == (source.StudyInstanceUID, source.PatientID)
        if kind == "sc":
            assert data.pixel_array.size > 0
