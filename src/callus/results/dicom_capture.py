"""The picture with the heat map as a DICOM secondary capture: what every viewer can show."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

import callus
from callus.labels import RESEARCH_ONLY
from callus.radiograph import limits
from callus.results import dicom_codes as codes
from callus.results.exam import answer_key, code_string
from callus.results.overlay import overlay

if TYPE_CHECKING:
    from callus.identify import Finding
    from callus.results.exam import Algorithm, Exam

SERIES_NUMBER = 9002


def secondary_capture(exam: Exam, finding: Finding, algorithm: Algorithm) -> SCImage:
    """Write the overlay picture as a secondary capture in the image's study.

    The picture is reduced or enlarged and stands between text, so it carries no pixel spacing: nothing is to be
    measured on it.

    Args:
        exam: the image.
        finding: the answer to it.
        algorithm: what gave it.

    Returns:
        RGB, 8 bits, uncompressed.
    """
    # An archive's file names tell a reader nothing, and those of exported files often hold a patient's name.
    pixels = np.asarray(overlay(exam.radiograph, replace(finding, path=None)))
    key = answer_key(exam, finding, algorithm)
    capture = SCImage(
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # highdicom wants one; what the image says is set below
        study_instance_uid=exam.image.StudyInstanceUID,
        series_instance_uid=exam.series_uid("sc", algorithm, exam.side),
        series_number=SERIES_NUMBER,
        series_description=f"callus heat map ({RESEARCH_ONLY.partition(',')[0]} only)",
        sop_instance_uid=exam.uid("sc", key),
        instance_number=exam.number,
        manufacturer="callus",
        manufacturer_model_name="callus",
        software_versions=callus.__version__,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    exam.put_header(capture)
    # highdicom writes "digital interface"; this picture was made from another by software, at no interface.
    capture.ConversionType = "WSD"
    capture.SecondaryCaptureDeviceManufacturer = "callus"
    capture.SecondaryCaptureDeviceSoftwareVersions = callus.__version__
    capture.DerivationDescription = limits.one_line(
        f"callus {callus.__version__}: heat map and boxes of the model {algorithm.name} laid over the radiograph;"
        f" {RESEARCH_ONLY}",
        1024,
    )
    capture.SourceImageSequence = [_source(exam)]
    _put_what_stays_true(exam, capture)
    return capture


def _source(exam: Exam) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = codes.SOURCE_IMAGE[:3]
    source = Dataset()
    source.ReferencedSOPClassUID = exam.image.SOPClassUID
    source.ReferencedSOPInstanceUID = exam.image.SOPInstanceUID
    source.PurposeOfReferenceCodeSequence = [purpose]
    return source


def _put_what_stays_true(exam: Exam, capture: SCImage) -> None:
    """What holds for the radiograph and still holds for a picture of it."""
    identity = exam.identity
    ends = identity.patient_orientation.upper().split("\\")
    known = len(ends) == 2 and all(end and set(end) <= set("APRLHF") for end in ends)  # noqa: PLR2004 - row and column
    capture.PatientOrientation = ends if known else []
    if part := code_string(identity.body_part):
        capture.BodyPartExamined = part
    capture.Laterality = exam.side
    # YES and NO say whether the patient can be told from what is burned in: the text that is added names nobody.
    if identity.burned_in_annotation in ("YES", "NO"):
        capture.BurnedInAnnotation = identity.burned_in_annotation
    if exam.tags.text(0x00282110) == "01":  # once lossy, always lossy (PS3.3 C.7.6.1.1.5)
        capture.LossyImageCompression = "01"
        ratios = [ratio for ratio in exam.tags.numbers(0x00282112) if ratio > 0]
        methods = [code_string(method) for method in exam.tags.text(0x00282114).split("\\")]
        if ratios:
            capture.LossyImageCompressionRatio = [f"{ratio:.6g}" for ratio in ratios]
        if all(methods):
            capture.LossyImageCompressionMethod = methods
