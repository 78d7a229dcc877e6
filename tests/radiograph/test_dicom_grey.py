"""Golden grey values: what a stored value becomes, for each step of DICOM's grey scale."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from callus.radiograph import grayscale, read

RAMP = np.array([[0, 1, 1024, 2048, 4095]], np.uint16)
FULL = [0, 16, 16388, 32776, 65535]  # 65535 * value / 4095


def _lut(first: int, bits: int, entries: Any, *, kind: str = "OW") -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    data = np.asarray(entries)
    item.add_new(0x00283006, kind, data.astype("<u2").tobytes() if kind == "OW" else data.tolist())
    return item


def _grey(data: bytes) -> list[int]:
    return read(data).pixels[0].tolist()


def test_monochrome2_without_a_window_spans_what_is_there(make_dicom: Any) -> None:
    assert _grey(make_dicom(RAMP, bits=12)) == FULL
    assert _grey(make_dicom(RAMP // 2 + 100, bits=12))[0] == 0
    assert _grey(make_dicom(RAMP // 2 + 100, bits=12))[-1] == 65535


def test_monochrome1_is_inverted(make_dicom: Any) -> None:
    assert _grey(make_dicom(RAMP, bits=12, PhotometricInterpretation="MONOCHROME1")) == [65535 - v for v in FULL]


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", "INVERSE", True),  # as DX has it: one inversion, not two
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "SOMETHING", True),
    ],
)
def test_presentation_lut_shape(photometric: str, shape: str, inverted: bool, make_dicom: Any) -> None:
    data = make_dicom(RAMP, bits=12, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    radiograph = read(data)
    assert radiograph.pixels[0].tolist() == ([65535 - v for v in FULL] if inverted else FULL)
    contradicts = (photometric, shape) in {("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")}
    assert bool(radiograph.notes) == contradicts


def test_eight_bits_stay_eight_bits(make_dicom: Any) -> None:
    data = make_dicom(np.array([[0, 100, 255]], np.uint8), WindowCenter="128", WindowWidth="256")
    assert read(data).pixels.dtype == np.uint8
    assert _grey(data) == [0, 100, 255]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # PS3.3 C.11.2.1.2: ((x - (c - 0.5)) / (w - 1) + 0.5) with c 2048, w 1024, in 65535ths
        (None, [0, 0, 0, 32800, 65535]),
        ("LINEAR", [0, 0, 0, 32800, 65535]),
        ("LINEAR_EXACT", [0, 0, 0, 32768, 65535]),
        # 1 / (1 + exp(-4 (x - c) / w))
        ("SIGMOID", [22, 22, 1179, 32768, 65513]),
        ("CUBIC", [0, 0, 0, 32800, 65535]),
    ],
)
def test_window_functions(function: str | None, expected: list[int], make_dicom: Any) -> None:
    tags = {"VOILUTFunction": function} if function else {}
    assert _grey(make_dicom(RAMP, bits=12, WindowCenter="2048", WindowWidth="1024", **tags)) == expected


def test_window_edges(make_dicom: Any) -> None:
    stored = np.array([[9, 10, 11, 12, 13]], np.uint16)
    # Width 1 is a threshold; below width - 1 is black and above is white.
    assert _grey(make_dicom(stored, WindowCenter="11", WindowWidth="1")) == [0, 0, 65535, 65535, 65535]
    assert _grey(make_dicom(stored, WindowCenter="11", WindowWidth="3")) == [0, 16384, 49151, 65535, 65535]


def test_the_first_of_several_windows(make_dicom: Any) -> None:
    several = make_dicom(RAMP, bits=12, WindowCenter=["2048", "100"], WindowWidth=["1024", "10"])
    assert _grey(several) == [0, 0, 0, 32800, 65535]


@pytest.mark.parametrize("width", ["0", "-5", "0.5"])
def test_a_window_that_makes_no_sense_is_left_out(width: str, make_dicom: Any) -> None:
    radiograph = read(make_dicom(RAMP, bits=12, WindowCenter="2048", WindowWidth=width))
    assert radiograph.pixels[0].tolist() == FULL
    assert radiograph.notes == (f"window: center 2048 and width {float(width):g} make no sense and are left out",)


def test_a_window_that_shows_nothing_is_left_out(make_dicom: Any) -> None:
    radiograph = read(make_dicom(RAMP, bits=12, WindowCenter="60000", WindowWidth="10"))
    assert radiograph.pixels[0].tolist() == FULL
    assert "shows nothing" in radiograph.notes[0]


def test_rescale_comes_before_the_window(make_dicom: Any) -> None:
    data = make_dicom(
        RAMP, bits=12, RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="1048", WindowWidth="2048"
    )
    # 2 x - 1000: -1000, -998, 1048, 3096, 7190; the window begins at 24 and ends at 2071
    assert _grey(data) == [0, 0, 32784, 65535, 65535]


def test_a_negative_slope_turns_the_picture(make_dicom: Any) -> None:
    assert _grey(make_dicom(RAMP, bits=12, RescaleSlope="-1", RescaleIntercept="4095")) == [65535 - v for v in FULL]
    radiograph = read(make_dicom(RAMP, bits=12, RescaleSlope="0", RescaleIntercept="5"))
    assert radiograph.pixels[0].tolist() == FULL
    assert "rescale" in radiograph.notes[0]


def test_modality_lut(make_dicom: Any) -> None:
    stored = np.array([[0, 2, 3, 4, 9]], np.uint16)
    lut = _lut(2, 12, [100, 300, 200])  # below the first value the first entry, above the last the last
    assert _grey(make_dicom(stored, ModalityLUTSequence=[lut])) == [0, 0, 65535, 32768, 32768]


@pytest.mark.parametrize("kind", ["OW", "US"])
def test_voi_lut(kind: str, make_dicom: Any) -> None:
    stored = np.array([[0, 2, 3, 4, 9]], np.uint16)
    lut = _lut(2, 8, [255, 51, 0], kind=kind)
    tags = {"VOILUTSequence": [lut], "WindowCenter": "1", "WindowWidth": "2"}  # the table goes before the window
    assert _grey(make_dicom(stored, **tags)) == [65535, 65535, 13107, 0, 0]
    assert _grey(make_dicom(stored, PhotometricInterpretation="MONOCHROME1", **tags)) == [0, 0, 52428, 65535, 65535]
    assert _grey(make_dicom(stored, syntax="1.2.840.10008.1.2", **tags)) == [65535, 65535, 13107, 0, 0]


def test_voi_lut_of_negative_values(make_dicom: Any) -> None:
    stored = np.array([[-3, -2, -1, 0, 5]], np.int16)
    assert _grey(make_dicom(stored, VOILUTSequence=[_lut(-2, 16, [0, 32768, 65535])])) == [0, 0, 32768, 65535, 65535]
    rescaled = make_dicom(
        np.array([[0, 1, 2, 3]], np.uint16), RescaleIntercept="-2", VOILUTSequence=[_lut(-2, 16, [0, 1000, 65535])]
    )
    assert _grey(rescaled) == [0, 1000, 65535, 65535]


def test_voi_lut_with_all_entries(make_dicom: Any) -> None:
    square = (np.arange(65536.0) ** 2 / 65535).round().astype(np.uint16)
    stored = np.array([[0, 1000, 65535]], np.uint16)
    assert _grey(make_dicom(stored, VOILUTSequence=[_lut(0, 16, square)])) == [0, 15, 65535]


def test_voi_lut_of_bytes(make_dicom: Any) -> None:
    item = _lut(0, 8, [0, 0, 0, 0])
    item.LUTData = bytes([0, 51, 102, 255])
    assert _grey(make_dicom(np.array([[0, 1, 2, 3]], np.uint16), VOILUTSequence=[item])) == [0, 13107, 26214, 65535]


def test_a_damaged_lut_is_left_out(make_dicom: Any) -> None:
    item = _lut(0, 12, [0, 1, 2, 3])
    item.LUTData = b"\0"
    radiograph = read(make_dicom(RAMP, bits=12, VOILUTSequence=[item]))
    assert radiograph.pixels[0].tolist() == FULL
    assert radiograph.notes == ("LUT 0028,3010: it is damaged and left out",)


def test_signed_values(make_dicom: Any) -> None:
    stored = np.array([[-2048, 0, 2047]], np.int16)
    assert _grey(make_dicom(stored, bits=12)) == [0, 32776, 65535]
    # The same without the sign extended into the bits that are not stored.
    bare = make_dicom((stored & 0x0FFF).astype(np.uint16), bits=12, PixelRepresentation=1)
    assert _grey(bare) == [0, 32776, 65535]
    assert _grey(make_dicom(np.array([[-128, 0, 127]], np.int8))) == [0, 128, 255]


def test_dirty_high_bits_and_a_shifted_high_bit(make_dicom: Any) -> None:
    assert _grey(make_dicom(RAMP | 0xA000, bits=12)) == FULL
    assert _grey(make_dicom(RAMP << 4 | 7, bits=12, HighBit=15)) == FULL


def test_padding_is_black_and_does_not_count(make_dicom: Any) -> None:
    stored = np.array([[100, 300, 200, 4000, 4001]], np.uint16)
    assert _grey(make_dicom(stored, PixelPaddingValue=4000, PixelPaddingRangeLimit=4001)) == [0, 65535, 32768, 0, 0]
    inverted = make_dicom(stored[:, :4], PixelPaddingValue=4000, PhotometricInterpretation="MONOCHROME1")
    assert _grey(inverted) == [65535, 0, 32768, 0]
    signed = np.array([[-2000, 0, 100]], np.int16)
    assert _grey(make_dicom(signed, PixelPaddingValue=-2000)) == [0, 0, 65535]
    # No pixel of 12 bits holds it, so none is padding: what is saturated stays white.
    assert _grey(make_dicom(RAMP, bits=12, PixelPaddingValue=65535)) == FULL
    assert _grey(make_dicom(RAMP, bits=12, PixelPaddingValue=4000, PixelPaddingRangeLimit=65535))[-1] == 0


def test_one_bit_and_32_bits(make_dicom: Any, make_dataset: Any, as_bytes: Any) -> None:
    assert _grey(make_dicom(np.array([[0, 2**31, 2**32 - 1]], np.uint32))) == [0, 32768, 65535]
    data = make_dataset(np.zeros((2, 8), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    data.PixelData = b"\x0f\xf0"
    radiograph = read(as_bytes(data))
    assert radiograph.pixels.tolist() == [[255] * 4 + [0] * 4, [0] * 4 + [255] * 4]


def test_a_constant_picture(make_dicom: Any) -> None:
    assert read(make_dicom(np.full((3, 3), 7, np.uint16))).pixels.tolist() == [[0] * 3] * 3


def test_numpy_looks_up_as_opencv_does(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    stored, table = random.integers(0, 65536, (40, 50), np.uint16), random.integers(0, 65536, 65536, np.uint16)
    quick = grayscale.look_up(stored, table)

    def refuse(*_: Any) -> Any:
        raise grayscale.cv2.error("as OpenCV 4 does for 16 bits")

    monkeypatch.setattr(grayscale.cv2, "LUT", refuse)
    assert np.array_equal(quick, table[stored])
    assert np.array_equal(grayscale.look_up(stored, table), table[stored])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_against_pydicom(function: str, make_dataset: Any, as_bytes: Any) -> None:
    stored = np.random.default_rng(3).integers(-512, 512, (20, 30)).astype(np.int16)
    data = make_dataset(stored, bits=10, RescaleSlope="1.5", RescaleIntercept="20")
    data.WindowCenter, data.WindowWidth, data.VOILUTFunction = "40.5", "333", function
    theirs = apply_voi_lut(apply_modality_lut(stored, data), data)
    low, high = -512 * 1.5 + 20, 511 * 1.5 + 20
    ours = read(as_bytes(data)).pixels
    assert np.abs(ours - (theirs - low) / (high - low) * 65535).max() <= 0.5001


def test_the_window_of_the_real_files(dicom_folder: Any) -> None:
    for name in ("RG2_RLE", "RG3_UNC"):
        data = pydicom.dcmread(dicom_folder / f"{name}.dcm")
        stored = data.pixel_array
        theirs = apply_voi_lut(apply_modality_lut(stored, data), data) / 1023 * 65535
        if data.PhotometricInterpretation == "MONOCHROME1":
            theirs = 65535 - theirs
        assert np.abs(read(dicom_folder / f"{name}.dcm").pixels - theirs).max() <= 0.5001


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({"RescaleSlope": "1e305", "RescaleIntercept": "0"}, "rescale: slope 1e+305 and intercept 0 make no sense"),
        ({"RescaleSlope": "1", "RescaleIntercept": "-1e308"}, "rescale: slope 1 and intercept -1e+308 make no sense"),
        ({"WindowCenter": "1e308", "WindowWidth": "1e308"}, "window: center 1e+308 and width 1e+308 make no sense"),
        (
            {"WindowCenter": "-1e308", "WindowWidth": "1e308", "VOILUTFunction": "SIGMOID"},
            "window: center -1e+308 and width 1e+308 make no sense",
        ),
    ],
)
def test_numbers_that_overflow_are_left_out(tags: dict[str, str], note: str, make_dicom: Any) -> None:
    radiograph = read(make_dicom(RAMP, bits=12, **tags))
    assert [told.startswith(note) for told in radiograph.notes] == [True]
    assert np.array_equal(radiograph.pixels, read(make_dicom(RAMP, bits=12)).pixels)


def test_padding_that_covers_the_whole_picture_is_left_out(make_dicom: Any) -> None:
    expected = read(make_dicom(RAMP, bits=12)).pixels
    for window in ({}, {"WindowCenter": "2048", "WindowWidth": "4096"}):
        radiograph = read(make_dicom(RAMP, bits=12, PixelPaddingValue=0, PixelPaddingRangeLimit=4095, **window))
        assert radiograph.notes == ("padding: it covers all of this picture, and is left out",)
        assert np.abs(radiograph.pixels.astype(int) - expected).max() <= (16 if window else 0)
    nothing = read(make_dicom(np.zeros((4, 4), np.uint16), bits=12, PixelPaddingValue=0))
    assert (nothing.notes, nothing.pixels.max()) == ((), 0)


def test_a_comma_where_a_language_has_one(make_dicom: Any) -> None:
    expected = read(make_dicom(RAMP, bits=12, WindowCenter="1000.5", WindowWidth="2000.0")).pixels
    written = make_dicom(RAMP, bits=12, WindowCenter="1000.5", WindowWidth="2000.0")
    commas = written.replace(b"1000.5", b"1000,5").replace(b"2000.0", b"2000,0")
    assert commas != written
    assert np.array_equal(read(commas).pixels, expected)


def as_unknown(written: bytes, tag: bytes, vr: bytes) -> bytes:
    """An element with an explicit representation, rewritten as a converter does that does not know it."""
    start = written.index(tag + vr)
    return written[:start] + tag + b"UN\0\0" + written[start + 6 : start + 8] + b"\0\0" + written[start + 8 :]


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (b"\x28\0\x10\0", b"US"),  # rows
        (b"\x28\0\x01\1", b"US"),  # bits stored
        (b"\x28\0\x20\1", b"US"),  # pixel padding value
        (b"\x28\0\x50\x10", b"DS"),  # window center
        (b"\x28\0\x04\0", b"CS"),  # photometric interpretation
    ],
)
def test_an_element_of_unknown_representation_is_what_the_dictionary_says(
    tag: bytes, vr: bytes, make_dicom: Any
) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 5}
    written = make_dicom(RAMP, bits=12, WindowCenter="1000", WindowWidth="2000", **tags)
    changed = as_unknown(written, tag, vr)
    assert len(changed) == len(written) + 4
    assert np.array_equal(read(changed).pixels, read(written).pixels)


@pytest.mark.parametrize("tag", [b"\x28\0\x10\x30", b"\x28\0\0\x30"])  # VOI LUT Sequence, Modality LUT Sequence
def test_a_damaged_table_of_unknown_representation_is_left_out(tag: bytes, make_dicom: Any) -> None:
    written = make_dicom(RAMP, bits=12)
    pixels = written.index(b"\xe0\x7f\x10\0OW")
    garbage = tag + b"UN\0\0" + struct.pack("<I", 8) + b"\1\2garbag"
    radiograph = read(written[:pixels] + garbage + written[pixels:])
    assert radiograph.pixels[0].tolist() == FULL
    assert [note.endswith("it is damaged and left out") for note in radiograph.notes] == [True]


@pytest.mark.parametrize("length", ["stated", "open"])
def test_a_voi_lut_of_unknown_representation_is_one(length: str, make_dicom: Any) -> None:
    def element(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value

    entries = np.arange(4096, dtype="<u2")[::-1] * 16
    item = element(0x00283002, struct.pack("<3H", 4096, 0, 16)) + element(0x00283006, entries.tobytes())
    if length == "stated":
        sequence = element(0xFFFEE000, item)
    else:
        ends = element(0xFFFEE00D, b"") + element(0xFFFEE0DD, b"")
        sequence = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + item + ends
    stated = len(sequence) if length == "stated" else 0xFFFFFFFF
    unknown = struct.pack("<HH2s2xI", 0x0028, 0x3010, b"UN", stated) + sequence
    written = make_dicom(RAMP, bits=12)
    pixels = written.index(b"\xe0\x7f\x10\0OW")
    shown = read(written[:pixels] + unknown + written[pixels:])
    assert shown.notes == ()
    assert np.array_equal(shown.pixels, np.rint(entries[RAMP].astype(np.float64) / 65535 * 65535))
