"""A JPEG of a radiograph as a DICOM file, as an archive would hold it. Not a test: ``tests/support`` is on the path."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

REGIONS = {
    "HAND": ("85562004", "Hand"),
    "LEG": ("30021000", "Lower leg"),
    "HIP": ("29836001", "Hip"),
    "SHOULDER": ("16982005", "Shoulder"),
}
"""Codes of SNOMED CT for the terms of Body Part Examined."""
SPACING = 0.15
"""Millimetres between pixels at the detector: made up, because no JPEG tells it and the standard asks for it."""


def wrapped_dx(file: Path, seed: int, *, body_part: str = "HAND", side: str = "U") -> bytes:
    """A JPEG's grey pixels as a DX For Presentation file, with every attribute that the standard asks for.

    Args:
        file: the JPEG.
        seed: of the patient, the study and the series; the same again is the same of them. The object's own UID is
            also of the file's name, so that several files of one seed are one series.
        body_part: one of :data:`REGIONS`.
        side: "L", "R", "B" (both) or "U" (unpaired).

    Returns:
        The bytes of a DICOM file, uncompressed.
    """
    pixels = np.asarray(Picture.open(file).convert("L"))  # (h, w), uint8
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _say_whose(data, seed, file.name)
    _say_how_taken(data, body_part, side)
    data.DerivationDescription = "Made of a JPEG for a test"
    data.LossyImageCompression = "01"
    data.LossyImageCompressionRatio = round(pixels.size / file.stat().st_size, 2)
    data.LossyImageCompressionMethod = "ISO_10918_1"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", -1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = 0, 1, "US"
    data.PresentationLUTShape = "IDENTITY"
    data.WindowCenter, data.WindowWidth = 128, 256
    even = pixels.tobytes() + bytes(pixels.size % 2)
    data.PixelData = even
    data["PixelData"].VR = "OW"  # as explicit little endian has it for DX, at 8 bits too
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _say_whose(data: Dataset, seed: int, name: str) -> None:
    def uid(*of: object) -> str:
        return str(generate_uid(entropy_srcs=[f"callus test {seed}", *map(str, of)]))

    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = uid("object", name)
    data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid("series")
    data.PatientName, data.PatientID = f"Test^Number {seed}", f"T-{seed:05d}"
    data.PatientBirthDate, data.PatientSex = "", ""
    data.StudyDate = data.SeriesDate = data.ContentDate = data.AcquisitionDate = "20250301"
    data.StudyTime = data.SeriesTime = data.ContentTime = data.AcquisitionTime = "101500"
    data.AccessionNumber, data.StudyID = f"DX{seed}", str(seed)
    data.ReferringPhysicianName = ""
    data.SeriesNumber = data.InstanceNumber = 1


def _say_how_taken(data: Dataset, body_part: str, side: str) -> None:
    data.Modality, data.PresentationIntentType = "DX", "FOR PRESENTATION"
    data.Manufacturer = "Nobody"
    data.ImageType = ["DERIVED", "PRIMARY", ""]
    data.BodyPartExamined, data.ImageLaterality = body_part, side
    region = Dataset()
    region.CodeValue, region.CodeMeaning = REGIONS[body_part]
    region.CodingSchemeDesignator = "SCT"
    data.AnatomicRegionSequence, data.AcquisitionContextSequence = [region], []
    data.PatientOrientation = ["L", "F"]
    data.BurnedInAnnotation = "YES"  # side markers are letters
    data.DetectorType = ""
    data.PositionerType = ""
    data.ImagerPixelSpacing = [SPACING, SPACING]
