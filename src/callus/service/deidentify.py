"""Radiographs without their patient: DICOM PS3.15 Annex E's Basic Application Level Confidentiality Profile.

The profile lists what has to go. Here what may stay is listed, and the rest goes: attributes that nobody has heard of
too, private ones and whole sequences. That is stricter than the profile: dates, devices, institutions and descriptions
go as well, and no option to retain them is offered. What stays has to be of the kind that it is for, and pixels are
written anew from what was decoded: a comment in a JPEG stream, bytes behind the pixels, and the bits that pixels leave
unused, where an overlay may be, stay behind.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image as Picture
from pydicom import dcmread
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from callus.dataset.suspicious import suspect
from callus.errors import CallusError, RadiographError
from callus.labels import RESEARCH_ONLY
from callus.radiograph import apart, read
from callus.radiograph.dicom import stated_layout, stored_frame
from callus.radiograph.elements import parse
from callus.radiograph.limits import check_frame
from callus.results.uids import is_uid, made_uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

    from pydicom.dataelem import DataElement

    from callus.dataset.marks import Mark
    from callus.radiograph.elements import Elements

# How the pixels are shown, what of the body they show, and how they were exposed.
_HARMLESS: Final = (
    "ImageType SOPClassUID Modality PresentationIntentType BodyPartExamined Laterality ImageLaterality ViewPosition "
    "PatientOrientation PixelAspectRatio SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue "
    "PixelPaddingRangeLimit PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing PixelSpacingCalibrationType "
    "EstimatedRadiographicMagnificationFactor WindowCenter WindowWidth VOILUTFunction RescaleIntercept RescaleSlope "
    "RescaleType PresentationLUTShape PixelIntensityRelationship PixelIntensityRelationshipSign LossyImageCompression "
    "LossyImageCompressionRatio LossyImageCompressionMethod KVP ExposureTime XRayTubeCurrent Exposure ExposureInuAs "
    "DistanceSourceToDetector DistanceSourceToPatient FocalSpots Grid FilterType FilterMaterial AnodeTargetMaterial "
    "DetectorType DetectorConfiguration ConversionType"
)
_STAYS: Final = frozenset(_HARMLESS.split())
_PALETTES: Final = tuple(
    f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")
)
_RESCALE_TYPES: Final = ("OD", "HU", "US", "PCT")  # PS3.3 C.11.1.1.2; others may say anything
_CODE: Final = re.compile(r"[A-Z0-9_ ]{0,16}")  # PS3.5 6.2: Code String
_FRAMES: Final = "PerFrameFunctionalGroupsSequence"
_GROUPS: Final = ("PixelMeasuresSequence", "FrameVOILUTSequence", "PixelValueTransformationSequence")
_WORD: Final = re.compile(r"[^\W_]+")
_SHORTEST: Final = 3  # letters of a word that tells somebody
_NAMES: Final = (
    "PatientName",
    "PatientID",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientBirthDate",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "InstitutionName",
    "StationName",
)
_NUMBER: Final = re.compile(r" *[+-]?[0-9.]{1,16}([Ee][+-]?[0-9]{1,3})? *")
_BINARY: Final = ("US", "SS", "US or SS", "US or OW", "OW", "FD")
_LOSSY: Final = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 81, 91, 203))
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
    "known to be harmless was left out. Pixels have the values that they had, and are not compressed. contents.json\n"
    "tells in which of them text was found that may name the patient; the search misses some, so look at every\n"
    "picture before it leaves the house.\n"
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
            return _encoded(self._cleaned(data, text=text))
        except CallusError:
            raise
        except Exception as error:  # a file that was taken in may still hold what pydicom cannot read or write
            raise RadiographError("cannot be written without its patient") from error

    def _cleaned(self, data: bytes, *, text: bool) -> Dataset:
        old = dcmread(io.BytesIO(data), force=True)
        new = _pixels(parse(data))
        stays = [*_STAYS, *(_PALETTES if new.PhotometricInterpretation == "PALETTE COLOR" else ())]
        telling = _telling(old)
        _keep(old, new, stays, telling)
        for said in _of_groups(old):
            _keep(said, new, stays, telling)
        if new.get("RescaleType", "") not in _RESCALE_TYPES:
            new.pop("RescaleType", None)
        for keyword in _LUTS:
            if keyword in old:
                items = [Dataset() for _ in old[keyword].value]
                for item, kept in zip(old[keyword].value, items, strict=True):
                    _keep(item, kept, _IN_LUTS, telling)
                setattr(new, keyword, items)
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
        if old.file_meta.get("TransferSyntaxUID", "") in _LOSSY:
            new.LossyImageCompression = "01"  # once lossy, always lossy (PS3.3 C.7.6.1.1.5)
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


def _pixels(tags: Elements) -> Dataset:
    """A radiograph's pixels as they were decoded, without compression, and what is to be said of them."""
    frames = max(1, tags.number(0x00280008, 1))
    frame = stored_frame(tags, stated_layout(tags), frames, check_frame(frames, None), apart.coded)
    layout, values = frame.layout, frame.values
    width, unused = 8 * values.dtype.itemsize, 8 * values.dtype.itemsize - layout.stored
    values = values << np.array(width - 1 - layout.high, values.dtype)
    values = values.view(f"i{width // 8}" if layout.signed else values.dtype) >> unused  # with its sign
    new = Dataset()
    new.SamplesPerPixel = layout.samples
    new.PhotometricInterpretation = "YBR_FULL" if layout.photometric == "YBR_FULL_422" else layout.photometric
    if layout.samples > 1:
        new.PlanarConfiguration = 0
    new.Rows, new.Columns = layout.rows, layout.columns
    new.BitsAllocated, new.BitsStored, new.HighBit = width, layout.stored, layout.stored - 1
    new.PixelRepresentation = int(layout.signed)
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    new.PixelData = data + bytes(len(data) % 2)
    new["PixelData"].VR = "OB" if width == 8 else "OW"  # noqa: PLR2004 - a byte's bits
    return new


def _telling(old: Dataset) -> frozenset[str]:
    """Words, in capitals, that the file tells of whom and for whom it is: in a code they would be no code."""
    told = [str(old.get(keyword, "")) for keyword in _NAMES]
    words = [_WORD.findall(text.upper()) for text in told]
    joined = [joint for one in words for joint in ("".join(one), "".join(reversed(one)))]
    return frozenset(word for word in (*(word for one in words for word in one), *joined) if len(word) >= _SHORTEST)


def _of_groups(old: Dataset) -> Iterator[Dataset]:
    """What functional groups say, of all frames and then of the first: the object that is given away has one."""
    for groups in (*old.get("SharedFunctionalGroupsSequence", ())[:1], *old.get(_FRAMES, ())[:1]):
        for keyword in _GROUPS:
            yield from groups.get(keyword, ())[:1]


def _keep(old: Dataset, new: Dataset, keywords: Iterable[str], telling: frozenset[str]) -> None:
    """Take over what is of the kind that its keyword is for: codes, numbers and UIDs, as many as there may be."""
    for keyword in keywords:
        with suppress(Exception):  # what pydicom cannot read is not known to be harmless
            if keyword in old and _is_harmless(old[keyword], telling):
                new[keyword] = old[keyword]


def _is_harmless(element: DataElement, telling: frozenset[str]) -> bool:
    kind, many = dictionary_VR(element.tag), dictionary_VM(element.tag)
    if element.VR not in kind.split(" or "):
        return False
    values = list(element.value) if element.VM > 1 and element.VR != "OW" else [element.value]
    if many.isdigit() and len(values) > int(many):
        return False
    if kind in _BINARY:
        return True
    form = {"CS": _CODE, "LO": _CODE, "SH": _CODE, "DS": _NUMBER, "IS": _NUMBER}.get(kind)
    texts = [str(getattr(value, "original_string", value) or "") for value in values]
    if form is _CODE and not telling.isdisjoint(word for text in texts for word in _WORD.findall(text)):
        return False
    return all(not text or (is_uid(text) if form is None else form.fullmatch(text)) for text in texts)


def _encoded(new: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = new.SOPClassUID
    meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    new.file_meta = meta
    buffer = io.BytesIO()
    new.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
