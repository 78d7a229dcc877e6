"""DICOM radiographs made for the tests, and findings on them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
)

from callus.identify import Finding
from callus.metrics.boxes import Box, after, map_to_input
from callus.preprocess import InputSpec, fit_affine

if TYPE_CHECKING:
    from callus.radiograph import Radiograph

SHAPE = (150, 120)
KINDS = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "DX processing": DigitalXRayImageStorageForProcessing,
    "SC": SecondaryCaptureImageStorage,
    "XA": XRayAngiographicImageStorage,
}


def stored_values(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """12 bits in 16, a ramp with noise that leaves both ends of the range free: uint16."""
    random = np.random.default_rng(3)
    ramp = np.linspace(300, 3500, shape[1])[np.newaxis] + np.linspace(0, 200, shape[0])[:, np.newaxis]
    return np.asarray(ramp + random.integers(0, 100, shape), dtype=np.uint16)


def simulated(kind: str = "DX", pixels: np.ndarray | None = None, **tags: Any) -> Dataset:
    """A whole radiograph of one of :data:`KINDS`; keywords set attributes, None removes them."""
    pixels = stored_values() if pixels is None else pixels
    colour = pixels.ndim == 3
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SOPClassUID": KINDS[kind],
        "SOPInstanceUID": "1.2.276.0.1.1",
        "StudyInstanceUID": "1.2.276.0.1.2",
        "SeriesInstanceUID": "1.2.276.0.1.3",
        "StudyDate": "20240229",
        "StudyTime": "101112",
        "AcquisitionDate": "20240301",
        "AccessionNumber": "A-17",
        "Modality": {"DX processing": "DX", "SC": "OT"}.get(kind, kind),
        "Manufacturer": "Nobody",
        "PatientName": "Doe^Jane",
        "PatientID": "P-4711",
        "IssuerOfPatientID": "HOSPITAL",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyID": "17",
        "SeriesNumber": 1,
        "InstanceNumber": 3,
        "BodyPartExamined": "WRIST",
        "ImageLaterality": "L",
        "PatientOrientation": ["L", "F"],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 12 if pixels.dtype.itemsize == 2 else 8,
        "HighBit": 11 if pixels.dtype.itemsize == 2 else 7,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if colour:
        values["PlanarConfiguration"] = 0
    if kind == "DX":
        values |= {"WindowCenter": 2000, "WindowWidth": 3000, "PresentationLUTShape": "IDENTITY"}
    with disable_value_validation():
        for name, value in (values | tags).items():
            if value is not None:
                setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return data


def as_bytes(data: Dataset) -> bytes:
    """A data set as the bytes of a file, with whatever it lacks and however its values break the rules."""
    buffer = io.BytesIO()
    with disable_value_validation():
        data.save_as(buffer, enforce_file_format=False, little_endian=True, implicit_vr=False)
    return buffer.getvalue()


def made_finding(radiograph: Radiograph, level: str = "fracture", **changes: Any) -> Finding:
    """A finding with two boxes, one over the whole picture; none at level "none"."""
    heat = np.zeros((8, 8), np.float32)
    heat[3:5, 2:5] = 0.9
    boxes = (
        Box(30.25, 40.5, 50.125, 20.75, 0.9123456789),
        Box(0.0, 0.0, float(radiograph.width), float(radiograph.height), 0.5),
    )
    spec = InputSpec(64, 64)
    values: dict[str, Any] = {
        "path": radiograph.path,
        "probability": {"fracture": 0.8712345678901234, "doubt": 0.4, "none": 0.0312345}[level],
        "level": level,
        "boxes": () if level == "none" else boxes,
        "map": heat,
        "map_to_original": after(fit_affine(radiograph.height, radiograph.width, spec), map_to_input(8)),
        "cautions": ("too small: 120 x 150 pixels",),
        "model": "tiny",
        "engine": "onnx-float32",
        "logit": 1.9,
        "features": np.zeros(3, np.float32),
        "shape": radiograph.shape,
    }
    return Finding(**(values | changes))
