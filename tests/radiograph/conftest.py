"""Files made for the tests: DICOM by pydicom, pictures by Pillow and OpenCV."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

if TYPE_CHECKING:
    from collections.abc import Callable

# Kinds of JPEG that nothing installed here writes: 16 x 16 of 200 row + 40 column + 9, 12 bits, by libjpeg-turbo 3.
JPEG_12_BIT = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00IF40RaI50RaI50s;a81OoyB0s;jD1Oo&H1qKEN1qKEN2MGuU2MGrT1_%oX2?`1d3JL}Y"
    "3k(Yi3<(Mf3je_X3k(1d01yEI5di<h02KfM0RR9100000000000000B4gbUd91s8i1_J;900000000000000A3@J87Q)6-e+5iXv"
    "0RR9$0GftUWH?clg2P7Uu%HDdLxmY=EHrLw6#xoMhYB*#SZLhV6ab{iaHA~+hK<c*|Je"
)
JPEG_LOSSLESS_12_BIT = (
    "|JeWF01!$>Nk#wx0RR9200961|HA+a3;+-S5CH)Z0RO}Q761VO0RR910000000000000IE3;)^x2mt{A0RRBNAwq=;6ev)kLWK$x"
    "C{bi6P@zJF3KS?%p+bcUEQJabC{Uq7g$fiXP@zSTp+bcU6ev)kLWK$xD6$kNP@zJF3KS?%p+bcgLWK$xC{Uq7g$fiXP@>3Cp+bcU"
    "6ev)kLWK$xSqc;=P@zJF3KS?%p+buxLWK$xC{Uq7g$fiXQDi7kp+bcU6ev)kLWK$}g$fiXP@zJF3KS?%p+%6PLWK$xC{Uq7g$fiX"
    "vJ@y#p+bcU6ev)kLWLGWg$fiXP@zJF3KS?%qR3F8LWK$xC{Uq7g$fi|3KS?%p+bcU6ev)kLXZF1"
)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """A data set for ``pixels`` (frames, rows, columns[, 3]) or fewer dimensions; keywords set attributes."""

    def make(pixels: Any, *, bits: int | None = None, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
        pixels = np.asarray(pixels)
        colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = UID(syntax)
        data.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        data.SOPClassUID, data.SOPInstanceUID, data.Modality = ComputedRadiographyImageStorage, "1.2.3.4", "CR"
        data.Rows, data.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
        data.SamplesPerPixel = 3 if colour else 1
        data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            data.PlanarConfiguration = 0
        data.BitsAllocated = 8 * pixels.dtype.itemsize
        data.BitsStored = bits or data.BitsAllocated
        data.HighBit = data.BitsStored - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        for name, value in tags.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        data.PixelData = raw + bytes(len(raw) % 2)
        data["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
        return data

    return make


@pytest.fixture(scope="session")
def as_bytes() -> Callable[[Dataset], bytes]:
    """A data set as the bytes of a file, preamble and all."""

    def write(data: Dataset) -> bytes:
        buffer = io.BytesIO()
        data.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return write


@pytest.fixture(scope="session")
def make_dicom(make_dataset: Callable[..., Dataset], as_bytes: Callable[[Dataset], bytes]) -> Callable[..., bytes]:
    """The bytes of a DICOM file for pixels; keywords as in ``make_dataset``."""

    def make(pixels: Any, **tags: Any) -> bytes:
        return as_bytes(make_dataset(pixels, **tags))

    return make


@pytest.fixture(scope="session")
def make_coded(make_dataset: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """A data set for ``pixels`` that holds these coded frames instead."""

    def make(pixels: Any, syntax: str, frames: list[bytes], **tags: Any) -> Dataset:
        data = make_dataset(pixels, **tags)
        data.file_meta.TransferSyntaxUID = UID(syntax)
        data.PixelData = encapsulate(frames)
        data["PixelData"].is_undefined_length = True
        return data

    return make


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """A smooth grey picture with noise, uint8 (90, 70): no two of its rows, columns or corners are alike."""
    random = np.random.default_rng(1)
    smooth = cv2.resize(random.normal(128, 50, (9, 7)).astype(np.float32), (70, 90), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + random.normal(0, 5, smooth.shape), 1, 254).astype(np.uint8)


@pytest.fixture(scope="session")
def save() -> Callable[..., bytes]:
    """An array as the bytes of a picture file, written by Pillow."""

    def write(pixels: Any, kind: str, mode: str | None = None, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        (image.convert(mode) if mode else image).save(buffer, kind, **options)
        return buffer.getvalue()

    return write


@pytest.fixture(scope="session")
def jpeg_12_bit() -> dict[str, bytes]:
    """Coded frames of 16 x 16: extended and lossless."""
    return {
        "JPEG extended 51": base64.b85decode(JPEG_12_BIT),
        "JPEG lossless 70": base64.b85decode(JPEG_LOSSLESS_12_BIT),
    }


@pytest.fixture(scope="session")
def every_format(
    picture: np.ndarray,
    save: Callable[..., bytes],
    make_dataset: Any,
    make_coded: Any,
    as_bytes: Any,
    jpeg_12_bit: dict[str, bytes],
) -> dict[str, bytes]:
    """One small file of each kind that is read."""
    colour = np.dstack([picture, np.roll(picture, 9, 0), np.roll(picture, 9, 1)])
    files = {
        "jpeg": save(picture, "JPEG"),
        "jpeg colour": save(colour, "JPEG"),
        "jpeg progressive": save(picture, "JPEG", progressive=True),
        "png": save(picture, "PNG"),
        "png colour": save(colour, "PNG"),
        "png 16": cv2.imencode(".png", colour.astype(np.uint16) * 257)[1].tobytes(),
        "tiff": save(picture, "TIFF"),
        "tiff deflate": save(picture, "TIFF", compression="tiff_adobe_deflate"),
        "tiff 16": cv2.imencode(".tif", colour.astype(np.uint16) * 257)[1].tobytes(),
        "webp": save(picture, "WEBP"),
        "webp lossless": save(colour, "WEBP", lossless=True),
        "dicom": as_bytes(make_dataset(picture)),
        "dicom implicit": as_bytes(make_dataset(picture, syntax="1.2.840.10008.1.2")),
        "dicom deflated": as_bytes(make_dataset(picture, syntax="1.2.840.10008.1.2.1.99")),
    }
    for name, syntax in (("RLE", "5"), ("JPEG-LS", "4.80"), ("JPEG 2000", "4.90")):
        data = make_dataset(picture.astype(np.uint16) * 16, bits=12)
        data.compress("1.2.840.10008.1.2." + syntax, generate_instance_uid=False)
        files[f"dicom {name}"] = as_bytes(data)
    for name, coded in jpeg_12_bit.items():
        data = make_coded(np.zeros((16, 16), np.uint16), "1.2.840.10008.1.2.4." + name.split()[-1], [coded], bits=12)
        files[f"dicom {name}"] = as_bytes(data)
    return files
