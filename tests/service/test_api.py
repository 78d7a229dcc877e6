"""What is sent is answered, shown, judged, exported and deleted, over HTTP; and what cannot be done is said."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from clinic import ON_SQLITE, Clinic, opened, picture, radiograph, related
from PIL import Image as Picture
from PIL import ImageDraw
from pydicom import dcmread
from tiny_bundle import packed_blind_bundle

from callus.dataset.manifest import read_manifest
from callus.labels import RESEARCH_ONLY
from callus.service import deletion
from callus.service.access import UNATTENDED
from callus.service.tables import Answer, Entry, Image, Job, Model, Study, Verdict, now
from callus.service.worker import StuckError


def test_a_radiograph_is_sent_answered_and_shown(clinic: Clinic) -> None:
    answer = clinic.reader.send(radiograph(1), radiograph(2), ("C:\\scans\\knee.png", picture()), ("a.txt", b"hello"))

    assert answer.status_code == 202
    taken = answer.json()["taken"]
    assert [one["name"] for one in taken] == ["0.dcm", "1.dcm", "knee.png", "a.txt"]
    assert [one.get("new") for one in taken] == [True, True, True, None]
    assert "neither a DICOM object nor a picture" in taken[3]["error"]["what"]
    assert taken[0]["study"] == taken[1]["study"] != taken[2]["study"]

    clinic.answer()

    page = clinic.radiologist.get("/studies").json()
    assert page["notice"] == RESEARCH_ONLY
    assert {line["id"] for line in page["studies"]} == {taken[0]["study"], taken[2]["study"]}
    study = clinic.radiologist.get(f"/studies/{taken[0]['study']}").json()
    assert study["patient"] == {"name": "Doe^Jane", "id": "P-4711", "birth_date": "19700101", "sex": "F"}
    assert [image["id"] for image in study["images"]] == [taken[0]["image"], taken[1]["image"]]
    found = study["images"][0]["answer"]
    assert found["level"] in ("fracture", "doubt", "none")
    assert found["results"] == ["fhir", "overlay", "pr", "sc", "sr"]
    assert found["model"]["active"]


def test_a_reader_sees_no_patient(clinic: Clinic) -> None:
    (taken,) = clinic.sent(radiograph())
    line = clinic.reader.get("/studies").json()["studies"][0]
    study = clinic.reader.get(f"/studies/{taken['study']}")

    assert (line["accession"], line["date"]) == ("A-17", "20240229")
    for secret in ("Doe", "P-4711", "19700101", "1.2.276", "0.dcm"):
        assert secret not in json.dumps(line)
        assert secret not in study.text
    assert clinic.reader.post("/studies/search", {"text": "doe"}).json()["studies"] == []
    assert len(clinic.reader.post("/studies/search", {"text": "a-17"}).json()["studies"]) == 1
    for text, count in (("jane DOE", 1), ("4711 a-17", 1), ("a_17", 0), ("%", 0), ("jane a-18", 0)):
        assert len(clinic.radiologist.post("/studies/search", {"text": text}).json()["studies"]) == count
    for text in ("jane", "4711", "a-17\ndoe"):
        assert clinic.reader.post("/studies/search", {"text": text}).json()["studies"] == []
    assert (
        clinic.radiologist.get("/studies", params={"text": "Doe"}).status_code == 422
    )  # names in addresses are logged
    for file in ("sr.dcm", "sc.dcm", "pr.dcm", "report.fhir.json", "original"):
        assert clinic.reader.get(f"/images/{taken['image']}/{file}").status_code == 403


@ON_SQLITE
def test_pictures_of_an_image(clinic: Clinic) -> None:
    image = clinic.sent(radiograph())[0]["image"]
    frame = clinic.reader.get(f"/images/{image}/frame.png")
    raw = clinic.reader.get(f"/images/{image}/frame.bin")
    heat = clinic.reader.get(f"/images/{image}/heat.png")

    pixels = np.frombuffer(raw.content, "<u2").reshape(int(raw.headers["X-Rows"]), int(raw.headers["X-Columns"]))
    assert raw.headers["X-Bits"] == "16"
    shown = np.asarray(Picture.open(io.BytesIO(frame.content)))
    assert shown.dtype == np.uint8
    assert np.abs(shown - pixels / 65535 * 255).max() <= 0.5
    low, high = float(pixels.min()), float(np.median(pixels))
    window = clinic.reader.get(f"/images/{image}/frame.png", params={"low": low, "high": high})
    darker = np.asarray(Picture.open(io.BytesIO(window.content)))
    assert darker[pixels >= high].min() == 255
    assert darker[pixels == low].max() == 0
    map_shown = np.asarray(Picture.open(io.BytesIO(heat.content)))
    assert map_shown.shape == pixels.shape
    with clinic.parts.database.reading() as session:
        answer = session.scalars(sa.select(Answer)).one()
    kept = np.load(clinic.parts.objects.path(answer.map))
    assert map_shown.max() == pytest.approx(kept.max() * 255, abs=2)
    for response in (frame, raw, heat, clinic.reader.get(f"/images/{image}/overlay.png")):
        again = clinic.reader.get(
            response.request.url.path.removeprefix("/api/v1"), headers={"If-None-Match": response.headers["ETag"]}
        )
        assert (again.status_code, again.content) == (304, b"")


@ON_SQLITE
def test_files_of_an_image(clinic: Clinic) -> None:
    sent = radiograph()
    dicom, png = (clinic.sent(data)[0]["image"] for data in (sent, picture()))

    for kind in ("sr", "sc", "pr"):
        response = clinic.radiologist.get(f"/images/{dicom}/{kind}.dcm")
        assert response.headers["Content-Type"] == "application/dicom"
        assert dcmread(io.BytesIO(response.content)).StudyInstanceUID == "1.2.276.0.8.1"
    assert clinic.radiologist.get(f"/images/{dicom}/report.fhir.json").json()["resourceType"] == "Bundle"
    assert clinic.radiologist.get(f"/images/{dicom}/original").content == sent
    refused = clinic.radiologist.get(f"/images/{png}/sr.dcm")
    assert refused.status_code == 404
    assert "was not made" in refused.json()["error"]["what"]
    waiting = clinic.radiologist.get("/images/99/heat.png")
    assert waiting.json() == {"error": {"what": "there is no such image", "hint": ""}}


def test_pictures_with_a_study_uid_belong_together(clinic: Clinic) -> None:
    answer = clinic.reader.send(("a.png", picture(1)), ("b.png", picture(2)), study_uid="1.2.3")
    assert len({one["study"] for one in answer.json()["taken"]}) == 1
    assert clinic.reader.send(("a.png", picture(3)), study_uid="1.2.03").status_code == 422


def test_what_is_no_radiograph_has_a_reason_each(clinic: Clinic) -> None:
    answer = clinic.reader.send(("a.txt", b"text"), ("b.dcm", radiograph(StudyInstanceUID="1.2.03")))

    assert answer.status_code == 422
    assert [one["status"] for one in answer.json()["taken"]] == [422, 422]
    assert "Study Instance UID" in answer.json()["taken"][1]["error"]["what"]
    assert clinic.reader.ask("POST", "/radiographs", data={"study_uid": "1.2"}).status_code == 415
    assert clinic.rows(Image) == []
    assert clinic.files() == set()


@ON_SQLITE
def test_too_large_a_file_costs_only_itself(clinic: Clinic) -> None:
    answer = clinic.reader.send(("big.png", bytes(5 << 20)), ("small.png", picture()))

    assert answer.status_code == 202
    assert answer.json()["taken"][0]["status"] == 413
    assert answer.json()["taken"][1]["new"]


def test_who_is_too_busy_or_full_says_when_to_come_again(tmp_path: Path, tiny_bundle: Path) -> None:
    with opened(tmp_path / "busy", tiny_bundle, waiting_most=1) as busy:
        answer = busy.reader.send(radiograph(1), radiograph(2))
        assert answer.status_code == 202
        assert answer.json()["taken"][1]["status"] == 429
        again = busy.reader.send(radiograph(2))
        assert (again.status_code, again.headers["Retry-After"]) == (429, "10")
        stow = busy.reader.ask("POST", "/dicom-web/studies", **related(radiograph(3)))
        assert (stow.status_code, stow.headers["Retry-After"]) == (429, "10")
    with opened(tmp_path / "full", tiny_bundle, keep_free=1 << 60) as full:
        assert full.reader.send(radiograph(1)).status_code == 507
        assert full.reader.ask("POST", "/dicom-web/studies", **related(radiograph(3))).status_code == 507
        assert full.nobody.get("/ready").status_code == 503
        assert full.rows(Image) == []


def test_stow_tells_what_became_of_each_object(clinic: Clinic) -> None:
    both = clinic.reader.ask("POST", "/dicom-web/studies", **related(radiograph(1), radiograph(2)))
    some = clinic.reader.ask(
        "POST", "/dicom-web/studies", **related(radiograph(1), radiograph(1, PatientID="other"), b"nothing")
    )
    none = clinic.reader.ask("POST", "/dicom-web/studies", **related(radiograph(9, Modality="CT")))

    assert (both.status_code, some.status_code, none.status_code) == (200, 202, 409)
    assert both.headers["Content-Type"] == "application/dicom+json"
    stored = both.json()["00081199"]["Value"]
    assert [one["00081155"]["Value"] for one in stored] == [["1.2.276.0.9.1"], ["1.2.276.0.9.2"]]
    assert stored[0]["00081150"] == {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.1.1"]}
    assert "00081198" not in both.json()
    failed = some.json()["00081198"]["Value"]
    assert [one["00081197"]["Value"] for one in failed] == [[0x0111], [0xC000]]
    assert failed[0]["00081155"]["Value"] == ["1.2.276.0.9.1"]
    assert failed[1]["00081155"] == {"vr": "UI"}
    assert none.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0x0122]
    assert len(clinic.rows(Image)) == 2


def test_stow_into_a_study_takes_objects_of_that_study(clinic: Clinic) -> None:
    place = "/dicom-web/studies/1.2.276.0.8.1"
    large = radiograph(1, pixels=np.zeros((1024, 1024), np.uint16))
    one = clinic.reader.ask("POST", place, **related(large))
    some = clinic.reader.ask("POST", place, **related(radiograph(2), radiograph(3, study=2)))
    none = clinic.reader.ask("POST", place, **related(radiograph(3, study=2)))

    assert (one.status_code, some.status_code, none.status_code) == (200, 202, 409)
    (failed,) = some.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == ["1.2.276.0.9.3"]
    assert failed["00081197"]["Value"] == [0xA900]
    assert {image.uid for image in clinic.rows(Image)} == {"1.2.276.0.9.1", "1.2.276.0.9.2"}
    assert clinic.reader.ask("POST", "/dicom-web/studies/1.2.x", **related(radiograph(4))).status_code == 422


@pytest.mark.parametrize("body", [b"--x\r\nbroken", b"", b"--x\r\n\r\nno end"])
@ON_SQLITE
def test_a_body_that_is_no_multipart_is_refused(clinic: Clinic, body: bytes) -> None:
    for path, kind in (("/radiographs", "form-data"), ("/dicom-web/studies", "related")):
        headers = {"Content-Type": f"multipart/{kind}; boundary=x"}
        assert clinic.reader.ask("POST", path, content=body, headers=headers).status_code == 422


def test_the_worklist_goes_page_by_page_in_its_order(clinic: Clinic) -> None:
    at = now()
    with clinic.parts.database.writing() as session:
        for number in range(57):
            session.add(
                Study(
                    uid=f"1.2.{number}",
                    accession=f"A{number}",
                    rank=number % 5,
                    changed=at - timedelta(seconds=number // 10),  # several at one moment
                    received=at - timedelta(days=number),
                )
            )
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = clinic.reader.get("/studies", params={"limit": 10, "before": cursor}).json()
        seen += page["studies"]
        cursor, pages = page["next"], pages + 1

    assert pages == 6
    assert len({line["id"] for line in seen}) == 57
    levels = ["fracture", "doubt", "unanswered", "none", "waiting"]
    keys = [(levels.index(line["level"]), line["changed"]) for line in seen]
    assert [level for level, _ in keys] == sorted(level for level, _ in keys)
    for level in range(5):
        moments = [moment for of, moment in keys if of == level]
        assert moments == sorted(moments, reverse=True)
    only = clinic.reader.get("/studies", params={"level": "doubt", "limit": 200}).json()["studies"]
    assert {line["level"] for line in only} == {"doubt"}
    day = at.date().isoformat()
    assert len(clinic.reader.get("/studies", params={"from": day, "to": day}).json()["studies"]) == 1
    for nonsense in ("x", "WzEsMiwzXQ", "e30"):
        assert clinic.reader.get("/studies", params={"before": nonsense}).status_code == 422


def test_verdicts_are_kept_and_become_a_manifest(clinic: Clinic, tmp_path: Path) -> None:
    first, second, third = (
        one["image"]
        for one in clinic.sent(radiograph(1), radiograph(2, study=2), radiograph(3, study=3, PatientID="P-2"))
    )
    box = {"x": 10, "y": 20, "width": 30, "height": 40}
    for given in ({"label": 0}, {"label": 1, "boxes": [box], "comment": "Jane's wrist"}):
        answer = clinic.radiologist.post(f"/images/{first}/verdict", given)
        assert answer.status_code == 201, answer.text
    assert clinic.administrator.post(f"/images/{second}/verdict", {"label": 1}).status_code == 201
    assert clinic.radiologist.post(f"/images/{second}/verdict", {"label": 0}).status_code == 201
    with clinic.parts.database.reading() as session:
        level = session.scalars(sa.select(Answer.level).where(Answer.image_id == third)).one()
    assert clinic.radiologist.post(f"/images/{third}/verdict", {"agrees": False}).status_code == 201

    shown = clinic.reader.get(f"/studies/{clinic.rows(Image)[0].study_id}").json()
    assert [verdict["label"] for verdict in shown["images"][0]["verdicts"]] == [0, 1]
    for form in ("parquet", "csv"):
        response = clinic.radiologist.get("/verdicts/export", params={"format": form})
        file = tmp_path / f"manifest.{form}"
        file.write_bytes(response.content)
        frame = read_manifest(file)
        expected = {"fracture": 0, "none": 1}.get(level)
        assert [None if value is pd_na(value) else int(value) for value in frame["label"]] == [1, None, expected]
        assert frame["boxes"][0] == [[10, 20, 30, 40]]
        assert "disagree" in frame["note"][1]
        assert frame["patient"][0] == frame["patient"][1] != frame["patient"][2]
        assert frame["group"][0] == frame["group"][1]
        assert frame["region"][0] == "wrist"
        assert Path(frame["path"][0]).read_bytes() == radiograph(1)
        for secret in (b"P-4711", b"Jane", b"1.2.276"):
            assert secret not in response.content


@ON_SQLITE
def test_no_number_that_is_tried_is_a_patients_name(clinic: Clinic) -> None:
    """Whoever gets the manifest can hash all numbers that there are; each clinic's names are its own."""
    image = clinic.sent(radiograph())[0]["image"]
    clinic.radiologist.post(f"/images/{image}/verdict", {"label": 1})
    key = clinic.parts.objects.folder.parent / "names.key"
    names = []
    for _ in range(2):
        clinic.radiologist.get("/verdicts/export", params={"format": "csv"})
        assert key.stat().st_mode & 0o077 == 0
        names.append(_first_patient(clinic.radiologist.get("/verdicts/export", params={"format": "csv"}).text))
        key.unlink()
    assert names[0] != names[1]
    for name in names:
        for tried in ("P-4711", "callus patient\0P-4711", "patient\0P-4711"):
            assert hashlib.sha256(tried.encode()).hexdigest()[:16] not in name


def _first_patient(manifest: str) -> str:
    (row,) = csv.DictReader(io.StringIO(manifest))
    assert row["patient"].startswith("patient-")
    return row["patient"]


@ON_SQLITE
def test_a_verdict_is_of_the_answer_that_was_looked_at(clinic: Clinic) -> None:
    image = clinic.sent(radiograph())[0]["image"]
    answer = clinic.rows(Answer)[0].id
    of_another = clinic.radiologist.post(f"/images/{image}/verdict", {"agrees": True, "answer": answer + 1})
    assert of_another.status_code == 409
    assert "another answer counts" in of_another.text
    assert clinic.rows(Verdict) == []
    assert clinic.radiologist.post(f"/images/{image}/verdict", {"agrees": True, "answer": answer}).status_code == 201


def pd_na(value: object) -> object:
    import pandas as pd

    return value if value is pd.NA else object()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"label": 2},
        {"label": 0, "boxes": [{"x": 1, "y": 1, "width": 1, "height": 1}]},
        {"label": 1, "boxes": [{"x": 110, "y": 1, "width": 20, "height": 1}]},
        {"label": 1, "boxes": [{"x": -1, "y": 1, "width": 20, "height": 1}]},
        {"label": 1, "boxes": [{"x": "1", "y": 1, "width": 20, "height": 1}]},
        {"agrees": True, "role": "administrator"},
        {"comment": "x" * 4001},
    ],
)
@ON_SQLITE
def test_a_verdict_that_makes_no_sense_is_refused(clinic: Clinic, given: dict) -> None:
    image = clinic.sent(radiograph())[0]["image"]
    assert clinic.radiologist.post(f"/images/{image}/verdict", given).status_code == 422
    assert clinic.rows(Verdict) == []


def test_text_that_not_every_database_keeps_is_refused(clinic: Clinic) -> None:
    image = clinic.sent(radiograph(), answered=False)[0]["image"]
    for browser, path, given in (
        (clinic.nobody, "/login", {"name": "a\0b", "password": ""}),
        (clinic.radiologist, "/studies/search", {"text": "a\0b"}),
        (clinic.radiologist, f"/images/{image}/verdict", {"comment": "a\0b"}),
        (clinic.administrator, "/jobs/drop", {"destination": "a\0b"}),
    ):
        answer = browser.post(path, given)
        assert (answer.status_code, "does not fit" in answer.text) == (422, True), path


@pytest.mark.parametrize(
    "letters",
    [
        "İ" * 664,  # each is two small letters
        "".join(chr(0x20000 + number * 9973 % 42_000) for number in range(664)),  # of four bytes, nothing twice
    ],
    ids=["grows", "wide"],
)
def test_a_study_whose_names_are_as_long_as_can_be_is_found(clinic: Clinic, letters: str) -> None:
    accession, name, number = letters[:64], letters[64:464], letters[464:]
    with clinic.parts.database.writing() as session:
        session.add(Study(uid="1.2", accession=accession, patient_name=name, patient_id=number))
    for text in (accession, name[:100], name[-50:]):
        (found,) = clinic.radiologist.post("/studies/search", {"text": text}).json()["studies"]
        assert found["patient"]["name"] == name


def test_deleting_really_deletes(clinic: Clinic) -> None:
    gone = clinic.sent(radiograph(1), radiograph(2))[0]["study"]
    same = clinic.radiologist.send(("a.png", picture(1)), study_uid="1.2.3").json()["taken"][0]["study"]
    stays = clinic.radiologist.send(("a.png", picture(1)), study_uid="1.2.4").json()["taken"][0]["image"]
    clinic.answer()
    clinic.radiologist.get(f"/images/{clinic.rows(Image)[0].id}/frame.png")
    assert clinic.files() == clinic.named()

    for study in (gone, same):
        assert clinic.administrator.delete(f"/studies/{study}").status_code == 200
        assert clinic.radiologist.get(f"/studies/{study}").status_code == 404

    assert [image.id for image in clinic.rows(Image)] == [stays]
    assert clinic.files() == clinic.named() != set()
    assert clinic.radiologist.get(f"/images/{stays}/original").content == picture(1)
    assert clinic.radiologist.get(f"/images/{stays}/overlay.png").status_code == 200
    assert len(clinic.rows(Job)) == 1
    assert [entry.what for entry in clinic.rows(Entry, Entry.did == "deleted")] == [f"study {gone}", f"study {same}"]
    if clinic.parts.database.is_sqlite:
        kept = b"".join(file.read_bytes() for file in clinic.settings.data.parent.rglob("callus.sqlite*"))
        assert b"Doe^Jane" not in kept
    assert clinic.administrator.delete(f"/studies/{gone}").status_code == 404
    again = clinic.sent(radiograph(1))
    assert again[0]["new"]


def test_what_is_too_old_is_deleted(clinic: Clinic) -> None:
    sent = clinic.sent(radiograph(1), radiograph(2, study=2), radiograph(3, study=3))
    continued, new = (one["study"] for one in sent[1:])
    long_ago = now() - timedelta(days=31)
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Study).where(Study.id != new).values(received=long_ago))
        session.execute(sa.update(Image).where(Image.study_id != new).values(received=long_ago))
    clinic.sent(radiograph(4, study=2))

    assert deletion.Keeping(clinic.parts.database, clinic.parts.objects, 30).delete_old() == 1

    assert [study.id for study in clinic.rows(Study)] == [continued, new]
    late = [continued, new]  # as if they had been looked up before an image came
    deletion.delete_studies(
        clinic.parts.database, clinic.parts.objects, late, who="service", before=now() - timedelta(days=30)
    )
    assert [study.id for study in clinic.rows(Study)] == [continued, new]
    assert clinic.files() == clinic.named()
    assert [entry.who for entry in clinic.rows(Entry, Entry.did == "deleted")] == ["service"]


def test_files_that_no_row_names_are_swept(clinic: Clinic) -> None:
    import os

    clinic.sent(radiograph())
    stray = clinic.parts.objects.put(b"stray")
    for file in clinic.parts.objects.folder.glob("??/*"):
        os.utime(file, (1, 1))

    assert deletion.sweep(clinic.parts.database, clinic.parts.objects) == 1
    assert clinic.files() == clinic.named()
    assert stray not in clinic.files()


def test_an_export_names_nobody_and_flags_text(clinic: Clinic) -> None:
    written = Picture.fromarray(np.full((400, 400), 40, np.uint8))
    ImageDraw.Draw(written).text((40, 40), "DOE JANE 1970", fill=255, font_size=32)
    with_text = np.asarray(written).astype(np.uint16) * 16
    private = simulated_private()
    study = clinic.sent(
        radiograph(1),
        radiograph(2, pixels=with_text, OperatorsName="Roe^Rita"),
        private,
        radiograph(4, BurnedInAnnotation="YES"),
    )[0]["study"]
    response = clinic.administrator.get(f"/studies/{study}/deidentified.zip")

    assert response.headers["Content-Type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    contents = json.loads(archive.read("contents.json"))
    assert contents["notice"] == RESEARCH_ONLY
    assert [one["burnt_in_text"] for one in contents["images"]] == [False, True, False, False]
    everything = b"".join(archive.read(name) for name in archive.namelist())
    for secret in (
        b"Doe",
        b"Jane",
        b"P-4711",
        b"19700101",
        b"A-17",
        b"20240229",
        b"1.2.276",
        b"Roe",
        b"HOSPITAL",
        b"SECRET",
    ):
        assert secret not in everything, secret
    files = [dcmread(io.BytesIO(archive.read(one["file"]))) for one in contents["images"]]
    assert len({file.StudyInstanceUID for file in files}) == 1
    assert len({file.SOPInstanceUID for file in files}) == 4
    for file in files:
        assert file.PatientIdentityRemoved == "YES"
        assert file.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert file.BodyPartExamined == "WRIST"
    assert [file.get("BurnedInAnnotation") for file in files] == [None, "YES", None, "YES"]
    old = dcmread(io.BytesIO(radiograph(1)), force=True)
    assert files[0].PixelData == old.PixelData
    assert clinic.rows(Entry, Entry.did == "exported")[0].what == f"study {study}"


def simulated_private() -> bytes:
    import simulated_dicom

    data = simulated_dicom.simulated(SOPInstanceUID="1.2.276.0.9.3", StudyInstanceUID="1.2.276.0.8.1")
    block = data.private_block(0x0019, "MAKER", create=True)
    block.add_new(0x10, "LO", "SECRET")
    data.InstitutionName = "SECRET"
    return simulated_dicom.as_bytes(data)


def test_a_model_is_tried_and_switched_to_and_back(clinic: Clinic, tmp_path: Path) -> None:
    images = [one["image"] for one in clinic.sent(radiograph(1), radiograph(2, study=2), radiograph(3, study=3))]
    before = clinic.reader.get("/studies").json()["studies"]
    levels = {line["id"]: line["level"] for line in before}
    assert set(levels.values()) == {"fracture"}
    admin = clinic.administrator
    (old,) = admin.get("/models").json()["models"]
    added = admin.ask("POST", "/models", files={"file": ("other.callus", packed_blind_bundle(tmp_path))})
    assert added.status_code == 201, added.text
    new = added.json()["id"]
    assert admin.ask("POST", "/models", files={"file": ("other.callus", b"nonsense")}).status_code == 422

    assert admin.post(f"/models/{new}/trial", {"last": 2}).json() == {"waiting": 2}
    clinic.answer()

    trial = admin.get(f"/models/{new}/trial").json()
    assert (trial["answered"], trial["waiting"], trial["failed"]) == (2, 0, 0)
    assert sum(count for row in trial["levels"].values() for count in row.values()) == 2
    assert {change["image"] for change in trial["changes"]} == set(images[1:])
    assert trial["levels"] == {"fracture": {"none": 2}}
    assert all(change["to"]["level"] == "none" for change in trial["changes"])
    assert clinic.reader.get("/studies").json()["studies"] == before  # nobody sees a trial

    assert admin.post(f"/models/{new}/switch").status_code == 200
    states = {model["id"]: model["state"] for model in admin.get("/models").json()["models"]}
    assert states == {old["id"]: "retired", new: "active"}
    after = {line["id"]: line["level"] for line in clinic.reader.get("/studies").json()["studies"]}
    tried = {image.study_id for image in clinic.rows(Image, Image.id.in_(images[1:]))}
    assert after == {study: "none" if study in tried else level for study, level in levels.items()}
    (came,) = clinic.sent(radiograph(4, study=4))
    answer = clinic.rows(Answer, Answer.image_id == came["image"])
    assert [one.model_id for one in answer] == [new]

    assert admin.post(f"/models/{old['id']}/switch").status_code == 200
    back = {line["id"]: line["level"] for line in clinic.reader.get("/studies").json()["studies"]}
    assert back == levels | {came["study"]: "none"}  # which only the other one has answered
    assert admin.post(f"/models/{old['id']}/trial", {"last": 1}).status_code == 409
    assert admin.post("/models/99/switch").status_code == 404
    assert len(clinic.rows(Model, Model.state == "active")) == 1


def test_a_stuck_job_is_shown_and_tried_again(clinic: Clinic) -> None:
    clinic.sent(radiograph(), answered=False)
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Job).values(state="stuck", error="the network failed", attempts=5))
    (job,) = clinic.administrator.get("/jobs").json()["jobs"]
    assert job["error"] == "the network failed"
    assert clinic.radiologist.get(f"/studies/{clinic.rows(Study)[0].id}").json()["jobs"] == [job]

    assert clinic.administrator.post(f"/jobs/{job['id']}/retry").status_code == 200
    assert clinic.administrator.post(f"/jobs/{job['id']}/retry").status_code == 404
    clinic.answer()
    assert len(clinic.rows(Answer)) == 1


def test_what_the_service_was_killed_at_is_begun_again_at_once_but_not_for_ever(clinic: Clinic) -> None:
    from callus.service import jobs
    from callus.service.placing import give_up_killers

    clinic.sent(radiograph(1), radiograph(2), radiograph(3), answered=False)
    database = clinic.parts.database
    assert len(jobs.take(database, "identify", "killed", 2)) == 2
    first, second, third = (job.id for job in clinic.rows(Job))
    with database.writing() as session:
        session.execute(sa.update(Job).where(Job.id == second).values(killed=4))

    jobs.take_up(database)
    give_up_killers(database, most=5)

    assert {job.id: job.state for job in clinic.rows(Job)} == {first: "waiting", second: "stuck", third: "waiting"}
    assert [job.attempts for job in clinic.rows(Job)] == [0, 0, 0]
    study = clinic.reader.get(f"/studies/{clinic.rows(Study)[0].id}").json()
    assert study["level"] == "unanswered"
    assert [image["error"] for image in study["images"]] == ["", study["jobs"][0]["error"], ""]
    assert [job.id for job in jobs.take(database, "identify", "next", 16)] == [first]  # alone, and then the others
    assert [job.id for job in jobs.take(database, "identify", "next", 16)] == [third]
    jobs.release(database, "next")
    clinic.answer()
    assert len(clinic.rows(Answer)) == 2


def test_a_crash_while_an_archive_is_down_gives_no_delivery_up(clinic: Clinic) -> None:
    from callus.service import jobs
    from callus.service.placing import give_up_killers

    database = clinic.parts.database
    with database.writing() as session:
        for number in range(3):
            jobs.add(session, "deliver", str(number))
        jobs.add(session, "pull", "a study")
        session.execute(sa.update(Job).values(attempts=9, killed=9))  # it has failed often
    assert jobs.take(database, "deliver", "killed", 16)
    assert jobs.take(database, "pull", "killed", 16)

    jobs.take_up(database)
    give_up_killers(database, most=5)

    assert {job.state for job in clinic.rows(Job)} == {"waiting"}
    assert {job.attempts for job in clinic.rows(Job)} == {9}
    (job,) = jobs.take(database, "pull", "next")
    assert job.killed == 10
    with database.writing() as session:
        assert not jobs.fail(session, job, "next", "the archive does not answer", most=30)
        assert not jobs.fail(session, job, "next", "it is not held any more", most=0)
    assert clinic.rows(Job, Job.kind == "pull")[0].killed == 0  # the service has outlived it


def test_what_does_not_end_is_told_after_all_else_has_ended(tmp_path: Path, tiny_bundle: Path) -> None:
    class Stuck:
        def start(self) -> None:
            pass

        def stop(self) -> None:
            raise StuckError("the node does not end")

    with opened(tmp_path / "data", tiny_bundle) as clinic:
        clinic.parts.beside.insert(0, Stuck())
        clinic.parts.start()
        with pytest.raises(StuckError, match="the node does not end"):
            clinic.parts.stop()
        assert not clinic.parts.answering.is_alive()
        assert not any(isinstance(one, deletion.Keeping) and one.is_alive() for one in clinic.parts.beside)
        assert clinic.parts.lock == -1


def test_health_readiness_metrics_and_the_description(clinic: Clinic) -> None:
    assert clinic.nobody.get("/health").json() == {"alive": True, "openid": False, "notice": RESEARCH_ONLY}
    assert clinic.nobody.get("/ready").status_code == 503
    clinic.sent(radiograph())
    ready = clinic.nobody.get("/ready")
    assert ready.status_code == 200, ready.text
    # An answer is counted just behind the transaction in which it stands. "nobody" asks on this machine.
    clinic.until(lambda: "callus_answer_seconds_count 1.0" in clinic.nobody.get("/metrics").text)
    text = clinic.nobody.get("/metrics").text
    assert 'callus_jobs{kind="identify",state="waiting"} 0.0' in text
    assert 'route="/api/v1/radiographs",status="202"' in text
    assert "Doe" not in text
    description = clinic.reader.get("/openapi.json").json()
    assert "/api/v1/studies/{number}" in description["paths"]


def test_the_audit_log_tells_who_saw_sent_and_changed_what(clinic: Clinic) -> None:
    (taken,) = clinic.sent(radiograph())
    clinic.reader.get(f"/studies/{taken['study']}")
    clinic.reader.get(f"/studies/{taken['study']}", headers={UNATTENDED: "1"})  # of the same look, as by an open page
    clinic.reader.get(f"/images/{taken['image']}/frame.png")  # of the same look
    clinic.administrator.get(f"/images/{taken['image']}/frame.png")  # without opening the study
    with clinic.parts.database.writing() as session:
        session.add(Entry(who="=cmd()", did="sent", what="image 9"))

    log = clinic.administrator.get("/audit").json()["entries"]
    assert [(entry["who"], entry["did"], entry["what"]) for entry in log][:3] == [
        ("the radiologist", "sent", f"image {taken['image']}"),
        ("the reader", "saw", f"study {taken['study']}"),
        ("the administrator", "saw", f"study {taken['study']}"),
    ]
    assert log[0]["at"].endswith("Z")
    assert clinic.administrator.get("/audit", params={"after": log[2]["id"]}).json()["entries"] == log[3:]
    table = clinic.administrator.get("/audit", params={"format": "csv"}).text
    assert table.startswith("id,at,who,address,did,what\n")
    assert "'=cmd()" in table
    assert clinic.reader.get("/audit").status_code == 403
    assert clinic.administrator.get("/audit", params={"after": 10**6}).json() == {"entries": []}
