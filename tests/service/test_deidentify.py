"""What an export takes off a radiograph: a name wherever a file may hold one, and nothing of the picture."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simulated_dicom
import sound_pictures
from PIL import Image as Picture
from programs import missing
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from callus.errors import RadiographError
from callus.radiograph import codecs, read, same
from callus.service import deidentify
from callus.service.deidentify import Deidentifier

NAME = b"Doejane"
KINDS = [name for name in sound_pictures.simulated() if name.startswith("dicom") and not name.endswith("frames")]


def without_patient(data: bytes) -> bytes:
    return Deidentifier().dicom(data, text=False)


def put(tag: int, vr: str, value: Any) -> Callable[[Dataset], None]:
    def change(data: Dataset) -> None:
        data[tag] = DataElement(tag, vr, value)

    return change


def named() -> Sequence:
    item = Dataset()
    item.PatientName = NAME.decode()
    return Sequence([item])


def in_a_table(data: Dataset) -> None:
    table = Dataset()
    table.LUTDescriptor = [2, 0, 16]
    table.LUTExplanation = NAME.decode()
    table[0x00283006] = DataElement(0x00283006, "OW", b"\0\0\xff\xff")
    table.ReferencedImageSequence = named()
    data.VOILUTSequence = [table]


def behind_the_pixels(data: Dataset) -> None:
    data.PixelData += NAME + b"\0"


def in_unused_bits(data: Dataset) -> None:
    """A letter in the highest 4 bits of each two pixels."""
    values = np.frombuffer(data.PixelData, "<u2").copy()
    letters = np.array([part for letter in NAME for part in (letter >> 4, letter & 15)], np.uint16)
    values[: len(letters)] |= letters << 12
    data.PixelData = values.tobytes()


def coded(data: Dataset, behind: bytes = b"", **options: Any) -> None:
    buffer = BytesIO()
    Picture.fromarray((data.pixel_array >> 4).astype(np.uint8)).save(buffer, "JPEG", **options)
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = encapsulate([buffer.getvalue() + behind])
    data["PixelData"].VR = "OB"


def in_a_comment(data: Dataset) -> None:
    coded(data, comment=NAME)


def in_exif(data: Dataset) -> None:
    coded(data, exif=b"Exif\0\0" + NAME)


def behind_the_stream(data: Dataset) -> None:
    coded(data, behind=NAME)


@pytest.mark.parametrize(
    "hide",
    [
        put(0x00180060, "SQ", named()),  # KVP
        put(0x00180060, "LT", NAME.decode()),
        put(0x00180015, "LT", NAME.decode()),  # Body Part Examined
        put(0x00180015, "CS", NAME.decode()),
        put(0x00181160, "OB", NAME + b"\0"),  # Filter Type
        put(0x00281054, "LO", NAME.decode()),  # Rescale Type
        put(0x00281201, "OW", NAME + b"\0"),  # a palette, of a grey picture
        put(0x00280106, "US", list(np.frombuffer(NAME + b"\0", "<u2").tolist())),  # Smallest Image Pixel Value
        put(0x00081140, "SQ", named()),
        put(0x00204000, "LT", NAME.decode()),
        in_a_table,
        behind_the_pixels,
        in_a_comment,
        in_exif,
        behind_the_stream,
    ],
)
@pytest.mark.filterwarnings("ignore:.*(Invalid value|Value|The value length|not a valid).*:UserWarning")
def test_a_name_is_nowhere_any_more(hide: Callable[[Dataset], None]) -> None:
    data = simulated_dicom.simulated("DX")
    hide(data)
    file = simulated_dicom.as_bytes(data)
    assert NAME in file
    assert NAME not in without_patient(file)


@pytest.mark.parametrize(
    "tags",
    [
        {"BodyPartExamined": "DOE"},
        {"DetectorID": "X", "FilterType": "ROOM JANE"},
        {"FilterMaterial": ["AL", "DOEJANE"]},
        {"ViewPosition": "JANE_DOE"},
        {"Grid": "P4711"},
        {"DetectorConfiguration": "A77"},
    ],
)
def test_a_name_that_looks_like_a_code_is_none(tags: dict[str, Any]) -> None:
    whose = {"PatientName": "Doe^Jane", "PatientID": "P4711", "AccessionNumber": "A77"}
    data = simulated_dicom.simulated("DX", **whose, **tags)
    new = dcmread(BytesIO(without_patient(simulated_dicom.as_bytes(data))))
    assert not [keyword for keyword in tags if keyword in new]
    assert new.Modality == "DX"
    assert "ImageType" in new


@pytest.mark.filterwarnings("ignore:.*(Invalid value|Value|The value length|not a valid).*:UserWarning")
def test_what_is_no_number_is_left_out() -> None:
    file = simulated_dicom.as_bytes(simulated_dicom.simulated("DX", KVP="1234567", ExposureTime="7"))
    changed = file.replace(b"1234567", NAME)
    assert NAME in changed
    new = dcmread(BytesIO(without_patient(changed)))
    assert "KVP" not in new
    assert new.ExposureTime == 7


def test_a_kind_of_object_that_is_none_is_not_given_away() -> None:
    data = simulated_dicom.simulated("DX", SOPClassUID="1.2.840.1234567")
    file = simulated_dicom.as_bytes(data).replace(b"1.2.840.1234567", b"1.2.840." + NAME)
    with pytest.raises(RadiographError, match="cannot be written without its patient"):
        without_patient(file)


def test_bits_that_pixels_do_not_use_are_empty() -> None:
    data = simulated_dicom.simulated("DX")
    plain = data.PixelData
    in_unused_bits(data)
    assert data.PixelData != plain
    assert dcmread(BytesIO(without_patient(simulated_dicom.as_bytes(data)))).PixelData == plain


def test_a_sign_stays() -> None:
    values = np.array([[-2048, -1], [0, 2047]], np.int16).repeat(20, 0).repeat(20, 1)
    data = simulated_dicom.simulated("CR", pixels=values)
    new = dcmread(BytesIO(without_patient(simulated_dicom.as_bytes(data))))
    assert (new.PixelRepresentation, new.BitsStored) == (1, 12)
    assert np.array_equal(np.frombuffer(new.PixelData, "<i2").reshape(values.shape), values)


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_picture_looks_as_before(name: str) -> None:
    check(sound_pictures.simulated()[name])


@pytest.mark.parametrize("name", ["dicom frames", "dicom 4.50 frames"])
def test_several_frames_are_refused(name: str) -> None:
    with pytest.raises(RadiographError, match="frames"):
        without_patient(sound_pictures.simulated()[name])


def test_real_radiographs_look_as_before(dicom_folder: Path, tmp_path: Path) -> None:
    verifier = shutil.which("dciodvfy")
    if verifier is None:
        missing("dciodvfy (dicom3tools)")
    files = sorted(dicom_folder.glob("*.dcm"))
    assert len(files) > 4
    for file in files:
        new = check(file.read_bytes())
        assert b"CompressedSamples" not in new
        (tmp_path / file.name).write_bytes(new)
        before, after = (errors(verifier, one) for one in (file, tmp_path / file.name))
        assert after <= before, after - before


def test_what_was_compressed_with_loss_says_so() -> None:
    data = simulated_dicom.simulated("CR")
    assert "LossyImageCompression" not in dcmread(BytesIO(without_patient(simulated_dicom.as_bytes(data))))
    coded(data)
    assert dcmread(BytesIO(without_patient(simulated_dicom.as_bytes(data)))).LossyImageCompression == "01"
    assert set(deidentify._LOSSY) == codecs.READ - same._LOSSLESS


def check(data: bytes) -> bytes:
    """Take the patient off a radiograph, which is to look as before, in a form that everybody reads."""
    new = without_patient(data)
    before, after = read(data), read(new)
    assert np.array_equal(before.pixels, after.pixels)
    assert before.spacing_mm == after.spacing_mm
    assert dcmread(BytesIO(new)).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    return new


def errors(verifier: str, file: Path) -> set[str]:
    said = subprocess.run([verifier, file], capture_output=True, text=True, check=False, timeout=60)
    return {line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")}
