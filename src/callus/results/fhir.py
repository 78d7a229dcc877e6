"""A finding as FHIR R4B: a collection of a preliminary DiagnosticReport and its Observations, for a hospital's systems.

Patient, study and order are named by the identifiers that the DICOM file has and by nothing else; there is no resource
for any of them, because only the hospital's own server can say which one it is.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fhir.resources.R4B.bundle import Bundle

import callus
from callus.labels import LEVEL_TEXT, RESEARCH_ONLY
from callus.radiograph import limits
from callus.results import dicom_codes as codes
from callus.results.exam import answer_key, date
from callus.results.hospital import ResultError
from callus.results.uids import made_uid

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

    from callus.identify import Finding
    from callus.metrics.boxes import Box
    from callus.results.exam import Algorithm, Exam

_SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    codes.SCHEME: f"urn:oid:{codes.SCHEME_UID}",
}
_DICOM_UID: Final = "urn:dicom:uid"
_IDENTIFIER_TYPES: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
_IMAGING: Final = ("http://terminology.hl7.org/CodeSystem/observation-category", "imaging")
_RADIOLOGY: Final = ("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD")
PRELIMINARY: Final = "preliminary"
"""Of report and observations: nobody has verified them, and callus never says "final"."""


def fhir_bundle(exam: Exam, finding: Finding, algorithm: Algorithm) -> Bundle:
    """Write a finding as a FHIR Bundle of type collection.

    It holds a DiagnosticReport, an Observation of the level with the probability as its component, and an Observation
    for each box with its edges in pixels of the image.

    Args:
        exam: the image.
        finding: the answer to it.
        algorithm: what gave it.

    Raises:
        ResultError: FHIR's rules do not allow what the file holds.
    """
    key = answer_key(exam, finding, algorithm)
    names = {name: _urn(exam, name, key) for name in ("report", "level")}
    boxes = [_urn(exam, f"box {number}", key) for number in range(1, len(finding.boxes) + 1)]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    common = _common(exam)
    resources = {names["report"]: _report(exam, finding, [names["level"], *boxes], now) | common}
    resources[names["level"]] = _level(exam, finding, algorithm, boxes) | common
    for number, (name, box) in enumerate(zip(boxes, finding.boxes, strict=True), 1):
        resources[name] = _region(exam, algorithm, number, box) | common
    entries = [{"fullUrl": name, "resource": resource} for name, resource in resources.items()]
    identifier = _uid_identifier(made_uid("fhir", exam.identity.sop_instance_uid, key))
    try:
        return Bundle.model_validate(
            {
                "resourceType": "Bundle",
                "type": "collection",
                "identifier": identifier,
                "timestamp": now,
                "entry": entries,
            }
        )
    except ValueError as error:  # pydantic's errors are of this kind
        reason = f"cannot be made into FHIR: {limits.one_line(error, 250)}"
        raise ResultError(reason, where=exam.radiograph.path) from error


def fhir_json(bundle: Bundle) -> bytes:
    """A bundle as JSON, UTF-8."""
    return (bundle.model_dump_json(indent=2) + "\n").encode()


def _common(exam: Exam) -> dict[str, Any]:
    """Whose it is, and of when: in every resource."""
    found: dict[str, Any] = {"status": PRELIMINARY}
    if patient := str(exam.header.PatientID):
        identifier: dict[str, Any] = {"value": patient}
        if issuer := str(exam.header.get("IssuerOfPatientID", "")):
            identifier["assigner"] = {"display": issuer}
        found["subject"] = {"type": "Patient", "identifier": identifier}
    # The day only: FHIR wants a time zone with a time, and DICOM seldom has one.
    if day := date(exam.identity.acquisition_date) or str(exam.header.StudyDate or ""):
        found["effectiveDateTime"] = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return found


def _report(exam: Exam, finding: Finding, results: list[str], now: str) -> dict[str, Any]:
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "category": [{"coding": [{"system": _RADIOLOGY[0], "code": _RADIOLOGY[1]}]}],
        "code": _concept(codes.XR, "fracture identification in a radiograph"),
        "issued": now,
        "result": [{"reference": name} for name in results],
        "imagingStudy": [_study(exam)],
        "conclusion": f"{_answer(finding)}; {RESEARCH_ONLY}",
        "conclusionCode": [_concept(codes.LEVEL_CODE[finding.level], LEVEL_TEXT[finding.level])],
    }
    if accession := str(exam.header.AccessionNumber):
        kind = {"coding": [{"system": _IDENTIFIER_TYPES, "code": "ACSN"}]}
        report["basedOn"] = [{"type": "ServiceRequest", "identifier": {"type": kind, "value": accession}}]
    return report


def _level(exam: Exam, finding: Finding, algorithm: Algorithm, boxes: list[str]) -> dict[str, Any]:
    notes = [RESEARCH_ONLY, *(f"caution: {limits.one_line(caution, 500)}" for caution in finding.cautions)]
    level = _observation(exam, algorithm, codes.LEVEL) | {
        "valueCodeableConcept": _concept(codes.LEVEL_CODE[finding.level], LEVEL_TEXT[finding.level]),
        "component": [_component(codes.PROBABILITY, finding.probability)],
        "note": [{"text": note} for note in (*notes, *algorithm.parameters(finding))],
    }
    if boxes:
        level["hasMember"] = [{"reference": name} for name in boxes]
    return level


def _region(exam: Exam, algorithm: Algorithm, number: int, box: Box) -> dict[str, Any]:
    pixels = {"unit": "pixels", "system": _SYSTEMS["UCUM"], "code": "{pixels}"}
    edges = [_component(code, getattr(box, name), pixels) for name, code in codes.EDGES.items()]
    return _observation(exam, algorithm, codes.REGION) | {
        "component": [*edges, _component(codes.MAP_PEAK, box.score)],
        "note": [{"text": f"box {number}; 0, 0 is the image's upper left corner; {RESEARCH_ONLY}"}],
    }


def _observation(exam: Exam, algorithm: Algorithm, code: Code) -> dict[str, Any]:
    model = f"callus {callus.__version__}, model {limits.one_line(algorithm.name, 200)}"
    identity = exam.identity
    image = f"series {identity.series_uid}, image {identity.sop_instance_uid}"
    return {
        "resourceType": "Observation",
        "category": [{"coding": [{"system": _IMAGING[0], "code": _IMAGING[1]}]}],
        "code": _concept(code, code.meaning),
        "derivedFrom": [_study(exam) | {"display": image}],
        "device": {"display": model},
    }


def _component(code: Code, value: float, unit: dict[str, str] | None = None) -> dict[str, Any]:
    # repr is the shortest text that reads back as the same number.
    quantity = {"value": Decimal(repr(float(value)))} | (unit or {"system": _SYSTEMS["UCUM"], "code": "1"})
    return {"code": _concept(code, code.meaning), "valueQuantity": quantity}


def _concept(code: Code, text: str) -> dict[str, Any]:
    return {"coding": [{"system": _SYSTEMS[code.scheme_designator], "code": code.value}], "text": text}


def _study(exam: Exam) -> dict[str, Any]:
    return {"type": "ImagingStudy", "identifier": _uid_identifier(exam.identity.study_uid)}


def _uid_identifier(uid: str) -> dict[str, str]:
    return {"system": _DICOM_UID, "value": f"urn:oid:{uid}"}


def _answer(finding: Finding) -> str:
    return f"{LEVEL_TEXT[finding.level]}, probability {finding.probability:.3f}"


def _urn(exam: Exam, name: str, key: str) -> str:
    return f"urn:uuid:{uuid.UUID(int=int(exam.uid(name, 'fhir', key).rpartition('.')[2]))}"
