"""Radiographs without their patient: DICOM PS3.15 Annex E's Basic Application Level Confidentiality Profile.

The profile lists what has to go. Here what may stay is listed, and the rest goes: attributes that nobody has heard of
too, private ones and whole sequences. That is stricter than the profile: dates, devices, institutions and descriptions
go as well, and no option to retain them is offered.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image as Picture
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian

from callus.dataset.suspicious import suspect
from callus.errors import CallusError, RadiographError
from callus.labels import RESEARCH_ONLY
from callus.radiograph import read
from callus.results.uids import made_uid

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from callus.dataset.marks import Mark

# What the pixels are, how they are shown, what of the body they show, and how they were exposed.
_HARMLESS: Final = (
    "ImageType SOPClassUID Modality PresentationIntentType BodyPartExamined Laterality ImageLaterality ViewPosition "
    "PatientOrientation SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns "
    "PixelAspectRatio BitsAllocated BitsStored HighBit PixelRepresentation SmallestImagePixelValue "
    "LargestImagePixelValue PixelPaddingValue PixelPaddingRangeLimit RedPaletteColorLookupTableDescriptor "
    "GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData "
    "GreenPaletteColorLookupTableData BluePaletteColorLookupTableData PixelSpacing ImagerPixelSpacing "
    "NominalScannedPixelSpacing PixelSpacingCalibrationType EstimatedRadiographicMagnificationFactor WindowCenter "
    "WindowWidth VOILUTFunction RescaleIntercept RescaleSlope RescaleType PresentationLUTShape "
    "PixelIntensityRelationship PixelIntensityRelationshipSign LossyImageCompression LossyImageCompressionRatio "
    "LossyImageCompressionMethod KVP ExposureTime XRayTubeCurrent Exposure ExposureInuAs DistanceSourceToDetector "
    "DistanceSourceToPatient FocalSpots Grid FilterType FilterMaterial AnodeTargetMaterial DetectorType "
    "DetectorConfiguration PixelData"
)
_STAYS: Final = frozenset(_HARMLESS.split())
# Of type 2 in their modules: they have to be there, and may be empty (actions Z and X/Z).
_BLANK: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
)
_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_LUTS: Final = ("VOILUTSequence", "ModalityLUTSequence")
_IN_LUTS: Final = ("LUTDescriptor", "LUTData", "ModalityLUTType")
_PROFILE: Final = ("113100", "DCM", "Basic Application Confidentiality Profile")
_READ_ME: Final = (
    f"Radiographs without their patients; {RESEARCH_ONLY}.\n\n"
    "Attributes: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile, and stricter: what is not\n"
    "known to be harmless was left out. Pixels were not changed. contents.json tells in which of them text was found\n"
    "that may name the patient; the search misses some, so look at every picture before it leaves the house.\n"
)


class Deidentifier:
    """Takes the patient off radiographs. What belonged together still does, within one export."""

    def __init__(self) -> None:
        """Begin an export, with a secret of its own: nobody can tell from new UIDs what the old ones were."""
        self._secret = secrets.token_hex(16)

    def uid(self, old: str) -> str:
        """The UID that stands for another one."""
        return made_uid("deidentified", self._secret, old)

    def dicom(self, data: bytes, *, text: bool) -> bytes:
        """A DICOM radiograph without its patient.

        Args:
            data: the file.
            text: whether text was found in its pixels.

        Raises:
            RadiographError: it cannot be read.
        """
        try:
            old = dcmread(io.BytesIO(data), force=True)
            return _encoded(self._cleaned(old, text=text), old)
        except Exception as error:  # a file that was taken in may still hold what pydicom cannot write
            raise RadiographError("cannot be written without its patient") from error

    def _cleaned(self, old: Dataset, *, text: bool) -> Dataset:
        new = Dataset()
        for keyword in _STAYS:
            if keyword in old:
                new[keyword] = old[keyword]
        for keyword in _LUTS:
            if keyword in old:
                setattr(new, keyword, [_only(item, _IN_LUTS) for item in old[keyword].value])
        for keyword in _BLANK:
            setattr(new, keyword, None)
        for keyword in _UIDS:
            setattr(new, keyword, self.uid(str(old.get(keyword, ""))))
        new.PatientName = new.PatientID = f"callus-{hashlib.sha256(self._secret.encode()).hexdigest()[:12]}"
        new.PatientIdentityRemoved = "YES"
        new.LongitudinalTemporalInformationModified = "REMOVED"
        new.DeidentificationMethod = "callus: PS3.15 basic profile, listed attributes only"
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _PROFILE
        new.DeidentificationMethodCodeSequence = [code]
        if text or str(old.get("BurnedInAnnotation", "")).upper() == "YES":
            new.BurnedInAnnotation = "YES"
        return new


def export(images: Iterable[tuple[int, bytes, dict[str, Any]]], out: IO[bytes]) -> None:
    """Write radiographs without their patients as one ZIP file.

    Args:
        images: of each its number, its file and what is told of it beside (its finding), which names nobody.
        out: where it goes.
    """
    cleaner, contents = Deidentifier(), []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for number, data, finding in images:
            name, entry, cleaned = _one(cleaner, number, data)
            if cleaned is not None:
                archive.writestr(zipfile.ZipInfo(name), cleaned)
            contents.append(entry | {"finding": finding})
        whole = {"notice": RESEARCH_ONLY, "images": contents}
        archive.writestr(zipfile.ZipInfo("contents.json"), json.dumps(whole, indent=1))
        archive.writestr(zipfile.ZipInfo("README.txt"), _READ_ME)


def _one(cleaner: Deidentifier, number: int, data: bytes) -> tuple[str, dict[str, Any], bytes | None]:
    """One image's name in the export, what is told of it, and its bytes; None where it has to be left out."""
    try:
        radiograph = read(data, isolated=True)
        marks = suspect(radiograph).marks
        text = any(mark.kind != "arrow" for mark in marks)
        is_dicom = radiograph.format == "DICOM"
        name = f"{number}.{'dcm' if is_dicom else 'png'}"
        cleaned = cleaner.dicom(data, text=text) if is_dicom else _picture(radiograph.pixels)
    except CallusError as error:  # what cannot be looked at is not given away
        return "", {"image": number, "file": None, "left_out": error.what}, None
    return name, {"image": number, "file": name, "burnt_in_text": text, "text": [_box(mark) for mark in marks]}, cleaned


def _picture(pixels: Any) -> bytes:
    """Pixels as PNG: what else the file held stays behind."""
    buffer = io.BytesIO()
    Picture.fromarray(np.asarray(pixels)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _box(mark: Mark) -> dict[str, Any]:
    return {"kind": mark.kind, "x": mark.x, "y": mark.y, "width": mark.width, "height": mark.height}


def _only(item: Dataset, keywords: Iterable[str]) -> Dataset:
    kept = Dataset()
    for keyword in keywords:
        if keyword in item:
            kept[keyword] = item[keyword]
    return kept


def _encoded(new: Dataset, old: Dataset) -> bytes:
    meta = FileMetaDataset()
    syntax = UID(getattr(old.file_meta, "TransferSyntaxUID", ImplicitVRLittleEndian))
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = new.SOPClassUID
    meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    new.file_meta = meta
    buffer = io.BytesIO()
    new.save_as(
        buffer, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
    )
    return buffer.getvalue()
