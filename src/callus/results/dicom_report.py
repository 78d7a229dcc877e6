"""The answer as a DICOM structured report: Comprehensive SR, after TID 1500 "Measurement Report"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem

import callus
from callus.labels import LEVEL_TEXT, RESEARCH_ONLY
from callus.radiograph import limits
from callus.results import dicom_codes as codes
from callus.results.exam import answer_key
from callus.results.uids import made_uid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.identify import Finding
    from callus.metrics.boxes import Box
    from callus.results.exam import Algorithm, Exam

SERIES_NUMBER = 9001
"""The three kinds of result have a series each, behind whatever the apparatus numbers."""


def structured_report(exam: Exam, finding: Finding, algorithm: Algorithm) -> sr.ComprehensiveSR:
    """Write a finding as a structured report in the image's study.

    One measurement group tells of the whole image: level, probability, algorithm, cautions, the research-only
    sentence. Each box has a group of its own (TID 1410) with its region.

    Args:
        exam: the image.
        finding: the answer to it.
        algorithm: what gave it.

    Returns:
        A Comprehensive SR, complete, unverified and preliminary.
    """
    key = answer_key(exam, finding, algorithm)
    groups: list[Any] = [_image_group(exam, finding, algorithm, key)]
    groups += [_box_group(exam, finding, algorithm, key, index) for index in range(len(finding.boxes))]
    content = sr.MeasurementReport(
        observation_context=_observer(algorithm), procedure_reported=codes.XR, imaging_measurements=groups
    )
    report = sr.ComprehensiveSR(
        evidence=[exam.image],
        content=content,
        series_instance_uid=exam.series_uid("sr", algorithm),
        series_number=SERIES_NUMBER,
        series_description=f"callus report ({RESEARCH_ONLY.partition(',')[0]} only)",
        sop_instance_uid=exam.uid("sr", key),
        instance_number=exam.number,
        manufacturer="callus",
        manufacturer_model_name="callus",
        software_versions=callus.__version__,
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[_scheme()],
        specific_character_set="ISO_IR 192",
    )
    exam.put_header(report)
    return report


def region(box: Box) -> NDArray[np.float32]:
    """A box as a closed polyline: SCOORD has no rectangle (PS3.3 C.18.6.1.2).

    SCOORD's coordinates are (column, row), 0.0, 0.0 at the outer corner of the first pixel and Columns, Rows at that of
    the last (PS3.3 Table C.18.6-1); Box counts from the same corner, so nothing is shifted by half a pixel.

    Returns:
        float32 (5, 2), the last point equal to the first.
    """
    right, bottom = box.x + box.width, box.y + box.height
    corners = [(box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom), (box.x, box.y)]
    return np.array(corners, dtype=np.float32)  # FL in the file: rounded here, so that first and last stay equal


def _scheme() -> CodingSchemeIdentificationItem:
    scheme = CodingSchemeIdentificationItem(codes.SCHEME, name="callus", responsible_organization="callus")
    scheme.CodingSchemeUID = codes.SCHEME_UID
    return scheme


def _observer(algorithm: Algorithm) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=made_uid("callus", callus.__version__, algorithm.name, algorithm.digest),
        name="callus",
        manufacturer_name="callus",
        model_name=limits.one_line(algorithm.name, 200),
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=sr.CodedConcept.from_code(codes.DEVICE), observer_identifying_attributes=device
        )
    )


def _algorithm(finding: Finding, algorithm: Algorithm) -> sr.AlgorithmIdentification:
    return sr.AlgorithmIdentification(
        name=f"callus {limits.one_line(algorithm.name, 200)}",
        version=callus.__version__,
        parameters=algorithm.parameters(finding),
    )


def _image_group(
    exam: Exam, finding: Finding, algorithm: Algorithm, key: str
) -> sr.MeasurementsAndQualitativeEvaluations:
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=exam.uid("image", key), identifier="radiograph"),
        finding_type=codes.LEVEL_CODE[finding.level],
        algorithm_id=_algorithm(finding, algorithm),
        measurements=[sr.Measurement(name=codes.PROBABILITY, value=float(finding.probability), unit=codes.UNITY)],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=exam.image.SOPClassUID, referenced_sop_instance_uid=exam.image.SOPInstanceUID
            )
        ],
    )
    for line in comments(finding):
        item = sr.TextContentItem(name=codes.COMMENT, value=line, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(item)
    return group


def comments(finding: Finding) -> list[str]:
    """The answer in words, the research-only sentence, and each caution."""
    answer = f"{LEVEL_TEXT[finding.level]}, probability {finding.probability:.3f}"
    cautions = [f"caution: {limits.one_line(caution, 500)}" for caution in finding.cautions]
    return [answer, RESEARCH_ONLY[0].upper() + RESEARCH_ONLY[1:], *cautions]


def _box_group(
    exam: Exam, finding: Finding, algorithm: Algorithm, key: str, index: int
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    box = finding.boxes[index]
    name = f"box {index + 1}"
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=exam.uid(name, key), identifier=name),
        referenced_region=sr.ImageRegion(
            graphic_type=sr.GraphicTypeValues.POLYLINE,
            graphic_data=region(box),
            source_image=sr.SourceImageForRegion(
                referenced_sop_class_uid=exam.image.SOPClassUID, referenced_sop_instance_uid=exam.image.SOPInstanceUID
            ),
        ),
        finding_type=codes.LEVEL_CODE[finding.level],
        algorithm_id=_algorithm(finding, algorithm),
        measurements=[sr.Measurement(name=codes.MAP_PEAK, value=float(box.score), unit=codes.UNITY)],
        geometric_purpose=codes.BOUNDED_BY,
    )
