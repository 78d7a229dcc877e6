"""One small sound file of each kind that is read, made here; and real ones where they lie beside the checkout.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any, Final

import cv2
import gdcm
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRBigEndian

SYNTAX: Final = "1.2.840.10008.1.2"
# Kinds that nothing installed here writes. 16 x 16 of 200 row + 40 column + 9, 12 bits, by libjpeg-turbo 3; and 10 x 12
# of 16 bits by OpenJPH.
JPEG_12_BIT: Final = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00IF40RaI50RaI50s;a81OoyB0s;jD1Oo&H1qKEN1qKEN2MGuU2MGrT1_%oX2?`1d3JL}Y"
    "3k(Yi3<(Mf3je_X3k(1d01yEI5di<h02KfM0RR9100000000000000B4gbUd91s8i1_J;900000000000000A3@J87Q)6-e+5iXv"
    "0RR9$0GftUWH?clg2P7Uu%HDdLxmY=EHrLw6#xoMhYB*#SZLhV6ab{iaHA~+hK<c*|Je"
)
HTJ2K: Final = (
    "|4;u>04YEK0000A0000C00000000000000A0000C0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&kdTm&"
    "kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000aR34TlfVEb6ZHiLbN~Rr024p}698QP0ta*e5cC6wbO68r5x@Ww04s9<"
    "r>6iyGyuQ=5<mbIKq%sL07NA!QNU7x{<Z+X04pE>6~IUYK_bZ5FW2CUcK}vev0}x_^bkfu0qnQ{|Je"
)


def simulated() -> dict[str, bytes]:
    """Small files by name; each name begins with its format."""
    grey = _grey()
    return {**_png(grey), **_jpeg(grey), **_tiff(grey), **_webp(grey), **_plain_dicom(grey), **_coded_dicom(grey)}


def real(data: Path) -> dict[str, bytes]:
    """Real files.

    Args:
        data: a folder with fracatlas, bonedata and dicom; what is missing in it is left out.
    """
    files = {f"dicom {path.name}": path.read_bytes() for path in sorted(data.glob("dicom/*.dcm"))}
    for folder, count in (("fracatlas", 24), ("bonedata", 12)):
        names = sorted((data / folder).rglob("*.jpg"))
        for path in names[:: max(1, len(names) // count)][:count]:
            files[f"jpeg {folder} {path.name}"] = path.read_bytes()
    return files


def _grey() -> np.ndarray:
    random = np.random.default_rng(1)
    smooth = cv2.resize(random.normal(128, 50, (9, 7)).astype(np.float32), (70, 90), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + random.normal(0, 5, smooth.shape), 1, 254).astype(np.uint8)


def _colour(grey: np.ndarray) -> np.ndarray:
    return np.dstack([grey, np.roll(grey, 9, 0), np.roll(grey, 9, 1)])


def _save(pixels: Any, kind: str, mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def _png(grey: np.ndarray) -> dict[str, bytes]:
    colour = _colour(grey)
    second = Image.fromarray(grey[::-1].copy())
    return {
        "png grey": _save(grey, "PNG"),
        "png 1 bit": _save(grey, "PNG", "1"),
        "png 16 bits": _save(grey.astype(np.uint16) * 257, "PNG"),
        "png colour, turned": _save(colour, "PNG", exif=_turned()),
        "png palette": _save(colour, "PNG", "P", transparency=3),
        "png grey with alpha": _save(np.dstack([grey, grey]), "PNG"),
        "png colour with alpha": _save(np.dstack([colour, grey]), "PNG"),
        "png 16 bit colour": cv2.imencode(".png", colour.astype(np.uint16) * 257)[1].tobytes(),
        "png 16 bit alpha": cv2.imencode(".png", np.dstack([colour, grey]).astype(np.uint16) * 257)[1].tobytes(),
        "png animated": _save(grey, "PNG", save_all=True, append_images=[second]),
    }


def _jpeg(grey: np.ndarray) -> dict[str, bytes]:
    colour = _colour(grey)
    return {
        "jpeg grey": _save(grey, "JPEG"),
        "jpeg colour, turned": _save(colour, "JPEG", exif=_turned()),
        "jpeg colour 4:4:4": _save(colour, "JPEG", subsampling=0),
        "jpeg progressive": _save(grey, "JPEG", progressive=True),
        "jpeg progressive colour": _save(colour, "JPEG", progressive=True, restart_marker_rows=1),
        "jpeg restart markers": _save(grey, "JPEG", restart_marker_blocks=3),
        "jpeg CMYK": _save(colour, "JPEG", "CMYK"),
    }


def _tiff(grey: np.ndarray) -> dict[str, bytes]:
    colour, deep = _colour(grey), grey.astype(np.uint16) * 257
    files = {
        f"tiff {name}": _save(grey, "TIFF", compression=name)
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    }
    files |= {f"tiff {name}": _save(grey, "TIFF", "1", compression=name) for name in ("group3", "group4", "tiff_ccitt")}
    return files | {
        "tiff 16 bits": _save(deep, "TIFF"),
        "tiff 16 bits lzw": _save(deep, "TIFF", compression="tiff_lzw"),
        "tiff 32 bits": _save(grey.astype(np.int32) * 70_000, "TIFF"),
        "tiff floats": _save(grey.astype(np.float32) / 7, "TIFF", compression="tiff_adobe_deflate"),
        "tiff colour": _save(colour, "TIFF", compression="tiff_lzw"),
        "tiff palette": _save(colour, "TIFF", "P"),
        "tiff CMYK": _save(colour, "TIFF", "CMYK"),
        "tiff big": _save(colour, "TIFF", big_tiff=True),
        "tiff 16 bit colour": cv2.imencode(".tif", colour.astype(np.uint16) * 257)[1].tobytes(),
        "tiff pages": _save(grey, "TIFF", save_all=True, append_images=[Image.fromarray(grey[::-1].copy())]),
    }


def _webp(grey: np.ndarray) -> dict[str, bytes]:
    colour = _colour(grey)
    return {
        "webp lossy": _save(grey, "WEBP"),
        "webp lossless": _save(colour, "WEBP", lossless=True),
        "webp alpha, turned": _save(np.dstack([colour, grey]), "WEBP", exif=_turned()),
    }


def _data_set(pixels: np.ndarray, syntax: str = SYNTAX + ".1", bits: int = 0, **tags: Any) -> Dataset:
    """A computed radiograph of ``pixels``, ([frames,] rows, columns) or (rows, columns, 3)."""
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = ComputedRadiographyImageStorage, "1.2.3.4", "CR"
    data.PatientName, data.PatientID, data.SpecificCharacterSet = "Simulated^Hand", "0", "ISO_IR 192"
    data.PixelSpacing, data.WindowCenter, data.WindowWidth = [0.1, 0.1], "2000", "4000"
    data.RescaleSlope, data.RescaleIntercept, data.NumberOfFrames = "1", "0", "1"
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(data, name, value)
    raw = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    data.PixelData = raw + bytes(len(raw) % 2)
    data["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return data


def _bytes(data: Dataset) -> bytes:
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _table(bits: int) -> Sequence:
    """A lookup table that inverts."""
    item = Dataset()
    item.LUTDescriptor = [256, 0, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = list(range(255, -1, -1))
    item["LUTData"].VR = "US"
    return Sequence([item])


def _plain_dicom(grey: np.ndarray) -> dict[str, bytes]:
    colour, deep = _colour(grey), grey.astype(np.uint16) * 16
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        palette |= {
            f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16],
            f"{name}PaletteColorLookupTableData": (np.arange(256, dtype=np.uint16) * 257).tobytes(),
        }
    shared = grey.reshape(-1, 2)
    quads = np.dstack([shared, np.full_like(shared, 128)]).reshape(90, 70, 2)
    data = {
        **{f"dicom {name}": _data_set(deep, SYNTAX + end, 12) for name, end in (("implicit", ""), ("explicit", ".1"))},
        "dicom big-endian": _data_set(deep, SYNTAX + ".2", 12),
        "dicom deflated": _data_set(deep, SYNTAX + ".1.99", 12),
        "dicom 8 bits": _data_set(grey),
        "dicom signed": _data_set(deep.astype(np.int16) - 2000, bits=12, PixelPaddingValue=-2000),
        "dicom 32 bits": _data_set(grey.astype(np.uint32) * 70_000),
        "dicom colour": _data_set(colour, PlanarConfiguration=1),
        "dicom palette": _data_set(grey, **palette),
        "dicom frames": _data_set(np.stack([grey, grey[::-1]]), NumberOfFrames="2"),
        "dicom tables": _data_set(grey, ModalityLUTSequence=_table(8), VOILUTSequence=_table(8)),
        "dicom groups": _grouped(grey.astype(np.uint16) * 16),
        "dicom 1 bit": _data_set(
            np.packbits(grey > 128, axis=1)[:, :8].copy(), BitsAllocated=1, BitsStored=1, HighBit=0, Columns=64
        ),
    }
    half = _data_set(colour, PhotometricInterpretation="YBR_FULL_422")
    half.PixelData = quads.tobytes()
    return {name: _bytes(one) for name, one in {**data, "dicom YBR_FULL_422": half}.items()}


def _grouped(pixels: np.ndarray) -> Dataset:
    """As objects of several frames are: windows, slopes and spacings in functional groups."""
    data, shared, frame = _data_set(pixels, bits=12), Dataset(), Dataset()
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "PixelSpacing"):
        delattr(data, keyword)
    window, rescale, measures = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = "1500", "900"
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = "2", "-1000", "US"
    measures.PixelSpacing = [0.2, 0.2]
    shared.PixelValueTransformationSequence, shared.PixelMeasuresSequence = [rescale], [measures]
    frame.FrameVOILUTSequence = [window]
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], [frame]
    return data


def _coded_dicom(grey: np.ndarray) -> dict[str, bytes]:
    colour, deep = _colour(grey), grey.astype(np.uint16) * 16 + 3
    files = {}
    for number in ("5", "4.80", "4.81", "4.90", "4.91"):
        options: dict[str, Any] = {"4.81": {"jls_error": 2}, "4.91": {"j2k_psnr": [40]}}.get(number, {})
        for name, pixels, bits in (("8 bits", grey, 8), ("12 bits", deep, 12), ("colour", colour, 8)):
            data = _data_set(pixels, bits=bits)
            if name == "colour" and number == "4.91":
                data.PhotometricInterpretation = "YBR_ICT"
            data.compress(f"{SYNTAX}.{number}", generate_instance_uid=False, **options)
            files[f"dicom {number} {name}"] = _bytes(data)
    small = np.zeros((16, 16), np.uint16)
    files["dicom 4.50"] = _coded(grey, "4.50", [_save(grey, "JPEG")])
    files["dicom 4.50 colour"] = _coded(
        colour, "4.50", [_save(colour, "JPEG")], PhotometricInterpretation="YBR_FULL_422"
    )
    files["dicom 4.50 frames"] = _coded(grey, "4.50", [_save(grey, "JPEG"), _save(grey[::-1].copy(), "JPEG")])
    files["dicom 4.51 12 bits"] = _coded(small, "4.51", [base64.b85decode(JPEG_12_BIT)], BitsStored=12, HighBit=11)
    files["dicom 4.201"] = _coded(np.zeros((12, 10), np.uint16), "4.201", [base64.b85decode(HTJ2K)])
    for name, pixels, bits in (("8 bits", grey, 8), ("12 bits", deep, 12), ("16 bits", deep * 16, 16)):
        files[f"dicom 4.70 {name}"] = _lossless_jpeg(_bytes(_data_set(pixels, bits=bits)))
    files["dicom 4.70 colour"] = _lossless_jpeg(_bytes(_data_set(colour)))
    return files


def _coded(pixels: np.ndarray, number: str, frames: list[bytes], **tags: Any) -> bytes:
    data = _data_set(pixels, **tags)
    data.file_meta.TransferSyntaxUID = UID(f"{SYNTAX}.{number}")
    data.NumberOfFrames = str(len(frames))
    data.PixelData = encapsulate(frames)
    data["PixelData"].is_undefined_length = True
    return _bytes(data)


def _lossless_jpeg(plain: bytes) -> bytes:
    """Code a file anew with GDCM, the only one here that writes lossless JPEG; it works on files by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.dcm"
        path.write_bytes(plain)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        if not reader.Read():
            raise AssertionError("GDCM does not read what pydicom wrote")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise AssertionError("GDCM does not write lossless JPEG")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise AssertionError("GDCM does not write its file")
        return path.read_bytes()
