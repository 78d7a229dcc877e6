from __future__ import annotations

import json
from typing import Any

from fhir.resources.R4B.bundle import Bundle
from simulated_dicom import as_bytes, made_finding, simulated

import callus
from callus.identify import Finding
from callus.results.exam import Algorithm, Exam
from callus.results.fhir import fhir_bundle, fhir_json

ALGORITHM = Algorithm("mine", "0123456789abcdef" * 4)


def made(level: str = "fracture", changes: dict[str, Any] | None = None, **tags: Any) -> tuple[Finding, dict[str, Any]]:
    """A finding, and its bundle as JSON reads it."""
    content = as_bytes(simulated(**tags))
    radiograph = callus.read(content)
    finding = made_finding(radiograph, level, **(changes or {}))
    return finding, json.loads(fhir_json(fhir_bundle(Exam.of(radiograph, content), finding, ALGORITHM)))


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def components(observation: dict[str, Any]) -> dict[str, float]:
    return {
        part["code"]["coding"][0]["code"]: part["valueQuantity"]["value"] for part in observation.get("component", [])
    }


def test_it_reads_back_as_it_was_written() -> None:
    content = as_bytes(simulated())
    radiograph = callus.read(content)
    bundle = fhir_bundle(Exam.of(radiograph, content), made_finding(radiograph), ALGORITHM)
    again = Bundle.model_validate_json(fhir_json(bundle))
    assert again == bundle
    assert fhir_json(again) == fhir_json(bundle)


def test_numbers_and_boxes_are_the_findings() -> None:
    finding, bundle = made()
    level, *boxes = resources(bundle, "Observation")
    assert components(level) == {"probability": finding.probability}
    assert len(boxes) == len(finding.boxes)
    for observation, box in zip(boxes, finding.boxes, strict=True):
        assert components(observation) == {
            "x": box.x, "y": box.y, "width": box.width, "height": box.height, "map-peak": box.score,
        }  # fmt: skip


def test_nothing_is_final() -> None:
    _, bundle = made()
    assert {entry["resource"]["status"] for entry in bundle["entry"]} == {"preliminary"}
    assert '"final"' not in json.dumps(bundle)


def test_levels() -> None:
    codes = {}
    for level in ("fracture", "doubt", "none"):
        _, bundle = made(level)
        (report,), (observation, *boxes) = resources(bundle, "DiagnosticReport"), resources(bundle, "Observation")
        assert observation["valueCodeableConcept"] == report["conclusionCode"][0]
        codes[level] = report["conclusionCode"][0]
        assert "research and education, not a medical device" in report["conclusion"]
        assert ("hasMember" in observation) == bool(boxes) == (level != "none")
    assert codes["fracture"]["coding"] == [{"system": "http://snomed.info/sct", "code": "72704001"}]
    assert [codes[level]["text"] for level in codes] == ["fracture", "doubt", "none seen"]
    assert len({code["coding"][0]["code"] for code in codes.values()}) == 3
    assert "no fracture" not in json.dumps(bundle).lower()


def test_references_lead_somewhere() -> None:
    _, bundle = made()
    names = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(names)) == len(names) == 4
    (report,), (level, *_) = resources(bundle, "DiagnosticReport"), resources(bundle, "Observation")
    assert [result["reference"] for result in report["result"]] == names[1:]
    assert [member["reference"] for member in level["hasMember"]] == names[2:]
    study = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.276.0.1.2"}
    assert report["imagingStudy"] == [{"type": "ImagingStudy", "identifier": study}]
    for observation in resources(bundle, "Observation"):
        (source,) = observation["derivedFrom"]
        assert source["identifier"] == study
        assert "1.2.276.0.1.1" in source["display"]  # the image itself


def test_the_patient_is_what_the_file_says() -> None:
    _, bundle = made()
    subject = {"type": "Patient", "identifier": {"value": "P-4711", "assigner": {"display": "HOSPITAL"}}}
    for entry in bundle["entry"]:
        assert entry["resource"]["subject"] == subject
        assert entry["resource"]["effectiveDateTime"] == "2024-03-01"
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["basedOn"][0]["identifier"]["value"] == "A-17"
    assert not resources(bundle, "Patient")
    assert not resources(bundle, "ImagingStudy")
    assert "Jane" not in json.dumps(bundle)


def test_what_the_file_does_not_say_is_left_out() -> None:
    absent = dict.fromkeys(("PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyDate", "AcquisitionDate"))
    _, bundle = made(**absent)
    for entry in bundle["entry"]:
        assert not {"subject", "effectiveDateTime", "basedOn"} & set(entry["resource"])


def test_who_judged_and_how_far_to_trust_it() -> None:
    finding, bundle = made(changes={"cautions": ("clipped: much\nof it",)})
    level = resources(bundle, "Observation")[0]
    notes = [note["text"] for note in level["note"]]
    assert "research and education, not a medical device" in notes
    assert "caution: clipped: much of it" in notes
    assert f"bundle SHA-256: {ALGORITHM.digest}" in notes
    assert f"engine: {finding.engine}" in notes
    assert level["device"]["display"] == f"callus {callus.__version__}, model mine"


def test_the_same_answer_has_the_same_names() -> None:
    first, again, other = (made(changes={"probability": value})[1] for value in (0.9, 0.9, 0.8))
    assert first["identifier"] == again["identifier"] != other["identifier"]
    names = [[entry["fullUrl"] for entry in bundle["entry"]] for bundle in (first, again, other)]
    assert names[0] == names[1]
    assert not set(names[0]) & set(names[2])
