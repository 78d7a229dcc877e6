"""DICOM files: frames, colour, headers that are missing, text, and what is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from callus.errors import RadiographError
from callus.radiograph import read

PREFIX = "1.2.840.10008.1.2"


@pytest.fixture(scope="module")
def stored(picture: np.ndarray) -> np.ndarray:
    """12 bits in 16."""
    return (picture.astype(np.uint16) * 16) ^ np.arange(70, dtype=np.uint16) % 16


def test_frames(stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "NumberOfFrames": 2}
    data = make_dataset(np.stack([stored, 4095 - stored]), bits=12, **window)
    with pytest.raises(RadiographError, match=r"holds 2 frames; expected one radiograph; name one: frame=0 to frame=1"):
        read(as_bytes(data))
    first, second = read(as_bytes(data), frame=0).pixels, read(as_bytes(data), frame=1).pixels
    assert np.array_equal(first, np.rint(stored / 4095 * 65535))
    assert np.array_equal(second, np.rint((4095 - stored) / 4095 * 65535))
    with pytest.raises(RadiographError, match="has no frame 2"):
        read(as_bytes(data), frame=2)
    data.compress(f"{PREFIX}.4.90", generate_instance_uid=False)
    assert np.array_equal(read(as_bytes(data), frame=1).pixels, second)


def _group(**sequences: dict[str, Any]) -> Dataset:
    """An item of functional groups: each sequence with one item of these elements."""
    group = Dataset()
    for name, elements in sequences.items():
        item = Dataset()
        for key, value in elements.items():
            setattr(item, key, value)
        setattr(group, name, [item])
    return group


@pytest.mark.parametrize("syntax", [PREFIX, f"{PREFIX}.1", f"{PREFIX}.2"])
@pytest.mark.parametrize("undefined", [True, False])
def test_functional_groups(syntax: str, undefined: bool, stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    """Enhanced objects keep windows, slopes and spacings there: those of the frame before those of all."""
    shared = _group(
        FrameVOILUTSequence={"WindowCenter": 2048, "WindowWidth": 4096},
        PixelValueTransformationSequence={"RescaleIntercept": 0, "RescaleSlope": 1, "RescaleType": "US"},
        PixelMeasuresSequence={"PixelSpacing": [0.25, 0.5]},
    )
    frames = [
        _group(FrameVOILUTSequence={"WindowCenter": 1024, "WindowWidth": 2048, "VOILUTFunction": "LINEAR_EXACT"}),
        _group(PixelValueTransformationSequence={"RescaleIntercept": -4095, "RescaleSlope": 2, "RescaleType": "US"}),
    ]
    data = make_dataset(np.stack([stored, stored]), bits=12, syntax=syntax, NumberOfFrames=2)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], frames
    for element in (data["SharedFunctionalGroupsSequence"], data["PerFrameFunctionalGroupsSequence"]):
        element.is_undefined_length = undefined
    first, second = read(as_bytes(data), frame=0), read(as_bytes(data), frame=1)
    assert np.array_equal(first.pixels, np.rint(np.clip(stored / 2048, 0, 1) * 65535))
    assert np.array_equal(second.pixels, np.rint(np.clip((2.0 * stored - 4095) / 4095, 0, 1) * 65535))
    assert first.spacing_mm == second.spacing_mm == (0.25, 0.5)


def test_functional_groups_that_are_not_all_there(stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    """Fewer groups than frames, and empty ones, leave what the data set itself says."""
    data = make_dataset(np.stack([stored, stored]), bits=12, NumberOfFrames=2, WindowCenter=2048, WindowWidth=4096)
    data.SharedFunctionalGroupsSequence = []
    data.PerFrameFunctionalGroupsSequence = [_group(FrameVOILUTSequence={})]
    for frame in (0, 1):
        assert np.array_equal(read(as_bytes(data), frame=frame).pixels, np.rint(stored / 4095 * 65535))


@pytest.mark.parametrize("table", [True, False])
def test_frames_in_several_fragments(
    table: bool, picture: np.ndarray, save: Any, make_coded: Any, as_bytes: Any
) -> None:
    frames = [save(part, "JPEG", quality=95) for part in (picture, 255 - picture)]
    data = make_coded(np.stack([picture, picture]), f"{PREFIX}.4.50", frames, NumberOfFrames=2)
    data.WindowCenter, data.WindowWidth = 128, 256
    data.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=table)
    assert np.abs(read(as_bytes(data), frame=1).pixels - (255.0 - picture)).max() <= 9


@pytest.mark.parametrize("syntax", [PREFIX, f"{PREFIX}.1", f"{PREFIX}.2"])
def test_without_preamble_or_header(syntax: str, stored: np.ndarray, make_dicom: Any) -> None:
    whole = make_dicom(stored, bits=12, syntax=syntax)
    expected = read(whole).pixels
    length = struct.unpack_from("<I", whole, 140)[0]
    for part in (whole[132:], whole[144 + length :], whole[128:]):
        radiograph = read(part)
        assert radiograph.format == "DICOM"
        assert np.array_equal(radiograph.pixels, expected)


@pytest.mark.parametrize("number", ["4.80", "4.90"])
def test_coded_pixels_without_a_header(number: str, stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    data = make_dataset(stored, bits=12)
    expected = read(as_bytes(data)).pixels
    data.compress(f"{PREFIX}.{number}", generate_instance_uid=False)
    whole = as_bytes(data)
    assert np.array_equal(read(whole[144 + struct.unpack_from("<I", whole, 140)[0] :]).pixels, expected)


def test_colour(make_dicom: Any, make_coded: Any, make_dataset: Any, as_bytes: Any, save: Any) -> None:
    rgb = np.zeros((64, 70, 3), np.uint8)
    rgb[..., 0] = 200
    radiograph = read(make_dicom(rgb))
    assert not radiograph.grey
    assert np.unique(radiograph.pixels).tolist() == [60]
    planes = make_dataset(rgb, PlanarConfiguration=1)
    planes.PixelData = rgb.transpose(2, 0, 1).tobytes()
    assert np.array_equal(read(as_bytes(planes)).pixels, radiograph.pixels)
    full = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    assert np.unique(read(make_dicom(full, PhotometricInterpretation="YBR_FULL")).pixels).tolist() == [
        59
    ]  # luma as Pillow rounded it
    coded = make_coded(rgb, f"{PREFIX}.4.50", [save(rgb, "JPEG")], PhotometricInterpretation="YBR_FULL_422")
    assert np.abs(read(as_bytes(coded)).pixels.astype(int) - 60).max() <= 2
    for number in ("5", "4.80", "4.90"):
        data = make_dataset(rgb)
        data.compress(f"{PREFIX}.{number}", generate_instance_uid=False)
        assert np.unique(read(as_bytes(data)).pixels).tolist() == [60], number


def test_shared_chroma(make_dataset: Any, as_bytes: Any) -> None:
    data = make_dataset(np.zeros((2, 4, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422")
    data.PixelData = bytes([10, 20, 128, 128, 30, 40, 128, 128] * 2)
    radiograph = read(as_bytes(data))
    assert radiograph.pixels.tolist() == [[10, 20, 30, 40]] * 2
    assert radiograph.grey


def test_shared_chroma_that_is_not_shared(picture: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    """Some write all of the chroma under the name of the shared one; and some call it planar, which it cannot be."""
    even = picture[:, :70]
    full = np.dstack([even, np.full_like(even, 128), np.full_like(even, 128)])
    radiograph = read(as_bytes(make_dataset(full, PhotometricInterpretation="YBR_FULL_422")))
    assert np.array_equal(radiograph.pixels, even)
    assert radiograph.grey
    data = make_dataset(np.zeros((2, 4, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422", PlanarConfiguration=1)
    data.PixelData = bytes([10, 20, 128, 128, 30, 40, 128, 128] * 2)
    assert read(as_bytes(data)).pixels.tolist() == [[10, 20, 30, 40]] * 2
    data.PhotometricInterpretation = "YBR_PARTIAL_422"  # retired, and another scale
    with pytest.raises(RadiographError, match="photometric interpretation YBR_PARTIAL_422, which is not read"):
        read(as_bytes(data))


def test_a_palette(make_dicom: Any) -> None:
    table = np.array([0, 10000, 65535], "<u2").tobytes()
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = table
    radiograph = read(make_dicom(np.array([[0, 1, 2, 9]], np.uint8), **tags))
    assert radiograph.pixels.tolist() == [[0, 10000, 65535, 65535]]
    assert radiograph.grey
    del tags["BluePaletteColorLookupTableData"]
    with pytest.raises(RadiographError, match="palette that is too short"):
        read(make_dicom(np.array([[0, 1, 2, 9]], np.uint8), **tags))


def test_what_is_no_radiograph(make_dicom: Any, make_dataset: Any, as_bytes: Any, picture: np.ndarray) -> None:
    for modality in ("CT", "MR", "US", "PT", "SR", "ECG"):
        with pytest.raises(RadiographError, match=f"its modality is {modality}; expected CR, DX or another radiograph"):
            read(make_dicom(picture, Modality=modality))
    with pytest.raises(RadiographError, match="its modality is CT"):
        read(make_dicom(picture, Modality="", SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1"))
    for modality in ("CR", "DX", "RG", "OT", ""):
        assert read(make_dicom(picture, Modality=modality)).shape == picture.shape
    bare = make_dataset(picture)
    del bare.PixelData
    with pytest.raises(RadiographError, match="has no pixel data"):
        read(as_bytes(bare))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 0}, "has no pixels"),
        ({"Rows": None}, "has no pixels"),
        ({"SamplesPerPixel": 2}, "2 samples"),
        ({"BitsStored": 17}, "17 bits in 8"),
        ({"BitsAllocated": 64, "BitsStored": 64}, "64 bits"),
        ({"BitsAllocated": 12, "BitsStored": 12}, "expected 1, 8, 16 or 32"),
    ],
)
def test_headers_that_make_no_sense(tags: dict[str, Any], message: str, picture: np.ndarray, make_dicom: Any) -> None:
    with pytest.raises(RadiographError, match=message):
        read(make_dicom(picture, **tags))


def test_uncompressed_pixels_that_end_early(stored: np.ndarray, make_dicom: Any) -> None:
    whole = make_dicom(stored, bits=12, PhotometricInterpretation="MONOCHROME1", WindowCenter=2048, WindowWidth=4096)
    radiograph = read(whole[: -20 * 70 * 2])
    assert radiograph.notes == ("truncated: the last 20 of 90 rows are missing, in whole or in part",)
    assert np.array_equal(radiograph.pixels[:70], read(whole).pixels[:70])
    assert not radiograph.pixels[70:].any()
    with pytest.raises(RadiographError, match="is truncated"):
        read(whole[:-1000], strict=True)
    with pytest.raises(RadiographError, match="ends before its pixel data"):
        read(whole[:303])


def test_identity_and_spacing(picture: np.ndarray, make_dicom: Any) -> None:
    data = make_dicom(
        picture,
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        PatientID="4711",
        IssuerOfPatientID="ward",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.1",
        AccessionNumber="A 1",
        BodyPartExamined="WRIST",
        ViewPosition="PA",
        ImageLaterality="L",
        PatientOrientation=["R", "F"],
        ImagerPixelSpacing=["0.15", "0.16"],
    )
    radiograph = read(data)
    identity = radiograph.identity
    assert identity is not None
    assert identity.patient_name == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert (identity.patient_id, identity.issuer_of_patient_id, identity.accession_number) == ("4711", "ward", "A 1")
    assert (identity.study_uid, identity.series_uid, identity.sop_instance_uid) == ("1.2.3", "1.2.3.1", "1.2.3.4")
    assert (identity.body_part, identity.view_position, identity.image_laterality) == ("WRIST", "PA", "L")
    assert identity.patient_orientation == "R\\F"
    assert identity.institution == ""
    assert radiograph.spacing_mm == (0.15, 0.16)
    both = read(make_dicom(picture, ImagerPixelSpacing=["0.15", "0.16"], PixelSpacing=["0.1", "0.1"]))
    assert both.spacing_mm == (0.1, 0.1)
    assert read(make_dicom(picture, PixelSpacing=["0", "0"])).spacing_mm is None


@pytest.mark.parametrize(
    ("names", "raw", "text"),
    [
        ("ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        ("ISO-IR 100", "Müller".encode("latin-1"), "Müller"),
        ("ISO_IR 192", "Дональд".encode(), "Дональд"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ".encode("shift_jis"), "ﾔﾏﾀﾞ"),
        ("\\ISO 2022 IR 149", b"Hong\x1b$)C" + "홍".encode("euc_kr"), "Hong홍"),
        ("nonsense", b"plain", "plain"),
        ("ISO_IR 192", b"broken \xff\xfe", "broken \ufffd\ufffd"),
        ("ISO_IR 100", b"two\r\nlines", "two lines"),
    ],
)
def test_character_sets(names: str, raw: bytes, text: str, picture: np.ndarray, make_dicom: Any) -> None:
    padded = raw + b" " * (len(raw) % 2)
    data = make_dicom(picture, SpecificCharacterSet="ISO_IR 6", PatientName="@" * len(padded))
    charset = names.encode() + b" " * (len(names) % 2)
    data = data.replace(b"CS\x08\0ISO_IR 6", b"CS" + struct.pack("<H", len(charset)) + charset)
    identity = read(data.replace(b"@" * len(padded), padded)).identity
    assert identity is not None
    assert identity.patient_name == text


def test_sequences_of_every_kind_are_passed_over(picture: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "T-1"
    outer.ConceptNameCodeSequence = Sequence([inner])
    for undefined in (True, False):
        for syntax in (PREFIX, f"{PREFIX}.1", f"{PREFIX}.2"):
            data = make_dataset(picture, syntax=syntax, WindowCenter=128, WindowWidth=256)
            data.ViewCodeSequence = Sequence([outer, outer])
            data["ViewCodeSequence"].is_undefined_length = undefined
            for item in data.ViewCodeSequence:
                item.is_undefined_length_sequence_item = undefined
            assert np.array_equal(read(as_bytes(data)).pixels, picture)


def test_hostile_nesting(picture: np.ndarray, make_dicom: Any) -> None:
    whole = make_dicom(picture)
    opening = b"\x08\0\x11\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    start = 144 + struct.unpack_from("<I", whole, 140)[0]
    with pytest.raises(RadiographError, match="nests sequences more than 16 deep"):
        read(whole[:start] + opening * 5000)
    assert read(whole).notes == ()
