"""Damaged and hostile files: some of those that ``bench/fuzz.py`` makes by the thousand, and the worst by hand."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate

from callus.errors import RadiographError
from callus.radiograph import elements, grey, jpeg, jpeg2000, png, read

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

FUZZ = Path(__file__).resolve().parents[2] / "bench" / "fuzz.py"
LONGEST = 600  # seconds
TAGS = """
import os, signal, sys, time
sys.path.insert(0, {folder!r})
import fuzz
from callus.errors import RadiographError
fuzz.CPU_S = 1

def judge(number):
    if number == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 1:
        while True: pass
    if number == 2:
        bytearray(3 << 30)
    if number == 3:
        raise KeyError("x")
    if number == 4:
        raise RadiographError("two\\nlines")
    if number == 5:
        raise RadiographError("is damaged")
    if number == 6:
        os._exit(7)
    return "pixels" if number == 7 else ""

for outcome in fuzz.each_apart(judge, range(9), 2):
    print(outcome.number, outcome.kind, sep=":")
"""


def fuzz(*arguments: str) -> dict[str, Any]:
    line = [sys.executable, FUZZ, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=LONGEST)
    assert done.stdout, done.stderr
    *findings, last = done.stdout.splitlines()
    assert done.returncode == 0, "\n".join(findings)
    return dict(json.loads(last))


def test_what_is_a_finding_is_found() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAGS.format(folder=str(FUZZ.parent))],
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST,
    )
    assert dict(line.split(":") for line in done.stdout.splitlines()) == {
        "0": "crash",
        "1": "hang",
        "2": "memory",
        "3": "wrong error",
        "4": "wrong error",
        "5": "RadiographError",
        "6": "crash",
        "7": "wrong answer",
        "8": "answer",
    }


def test_damaged_files(tmp_path: Path) -> None:
    found = fuzz("pictures", "--count", "400", "--data", str(tmp_path), "--workers", "1")
    assert found["findings"] == []
    assert found["files"] == 400
    assert found["outcomes"]["answer"] > 60
    assert found["outcomes"]["RadiographError"] > 60


def test_damaged_real_files(dicom_folder: Path) -> None:
    found = fuzz("pictures", "--count", "40", "--seed", "1", "--data", str(dicom_folder.parent), "--workers", "1")
    assert found["findings"] == []


def test_transparency_takes_no_memory_beside_the_picture() -> None:
    random = np.random.default_rng(5)
    for kind, white in ((np.uint8, 255), (np.uint16, 65535)):
        rgba = random.integers(0, white, (3000, 1000, 4), kind, endpoint=True)
        tracemalloc.start()
        pixels, is_grey = grey.from_rgba(rgba)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1.5 * rgba.nbytes + 40e6
        assert not is_grey
        red, green, blue, alpha = np.moveaxis(rgba.astype(np.float64), -1, 0)
        expected = (0.299 * red + 0.587 * green + 0.114 * blue) * alpha / white
        assert np.abs(pixels - expected).max() <= 2


def test_a_truncated_png_is_filled_up_exactly(picture: np.ndarray, save: Any) -> None:
    data = save(picture, "PNG")
    parsed = png.parse(data[: len(data) // 2])
    start = parsed.stream.index(b"IDAT") + 4
    size = int.from_bytes(parsed.stream[start - 8 : start - 4], "big")
    assert len(zlib.decompress(parsed.stream[start : start + size])) == 90 * 71
    assert len(b"".join(png._deflated(b"ab", 5 << 20))) < 40_000
    assert zlib.decompress(b"".join(png._deflated(b"ab", 5 << 20))) == b"ab" + bytes((5 << 20) - 2)


def test_a_png_of_endless_chunks_is_refused(picture: np.ndarray, save: Any) -> None:
    data = save(picture, "PNG")
    empty = bytes(4) + b"aaAa" + struct.pack(">I", zlib.crc32(b"aaAa"))
    with pytest.raises(RadiographError, match="more than 200,000 chunks"):
        read(data[:33] + empty * 200_001 + data[33:])


def test_filler_in_a_jpeg_is_not_decoded(picture: np.ndarray, save: Any) -> None:
    data = save(picture, "JPEG")
    filled = data[:-2] + b"\xff" * 3_000_000 + b"\xd9"
    assert len(jpeg.parse(filled).stream) < len(data) + 10
    radiograph = read(filled)
    assert np.array_equal(radiograph.pixels, read(data).pixels)
    assert radiograph.notes == ()


def _tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of these tags: number, type, count, value."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(1000)


def test_a_tiff_of_endless_values_is_refused() -> None:
    for tag, count, said in ((273, 1_200_001, "1,200,001"), (320, 200_001, "200,001")):
        with pytest.raises(RadiographError, match=rf"tag {tag} has {said} values"):
            read(_tiff((256, 3, 1, 8), (257, 3, 1, 8), (tag, 1, count, 100)) + bytes(1_300_000))


def test_a_tiff_of_huge_tiles_is_refused() -> None:
    tags = ((256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (324, 4, 1, 200))
    with pytest.raises(RadiographError, match="too large: 40,000 x 40,000"):
        read(_tiff(*tags, (322, 4, 1, 40_000), (323, 4, 1, 40_000), (325, 4, 1, 9)))


def test_only_the_beginning_of_a_dicom_value_is_read(make_dataset: Any, as_bytes: Any) -> None:
    data = make_dataset(np.arange(4, dtype=np.uint8).reshape(2, 2))
    data.add_new(0x00281050, "UT", "1\\" * 3_000_000)
    data.add_new(0x00281055, "UT", "x" * 3_000_000)
    data.add_new(0x00289110, "OW", b"\2\0" * 1_000_000)
    tags = elements.parse(as_bytes(data))
    assert tags.numbers(0x00281050)[:2] == [1, 1]
    assert len(tags.numbers(0x00281050)) <= 2048
    assert len(tags.numbers(0x00289110)) <= 2048
    assert len(tags.text(0x00281055)) <= 1024


def test_a_dicom_of_endless_elements_is_refused(make_dicom: Any) -> None:
    data = make_dicom(np.zeros((2, 2), np.uint8))
    start = data.index(b"\x08\0\x16\0")
    element = struct.pack("<HH2sH", 8, 1, b"LO", 0)
    with pytest.raises(RadiographError, match="more than 250,000 data elements"):
        read(data[:start] + element * 250_001 + data[start:])


def test_pictures_that_only_their_computing_makes_too_large(make_dataset: Any, as_bytes: Any) -> None:
    with pytest.raises(RadiographError, match="6,000 x 5,000 pixels of 32 bits; at most 25 million of more than 16"):
        read(as_bytes(make_dataset(np.zeros((2, 2), np.uint32), Rows=5000, Columns=6000)))


@pytest.mark.parametrize(
    ("side", "offset", "value", "message"),
    [
        (
            7000,
            8,
            struct.pack(">II", 7000, 7000),
            "7,000 x 7,000 pixels of 3 samples in JPEG 2000; at most 100 million",
        ),
        (3000, 24, struct.pack(">II", 20, 20), "asks for 22,500 tiles of JPEG 2000"),
        (3000, -10, b"\0\0", r"asks for 1,687,497 blocks in 1 layers of JPEG 2000"),  # of 4 x 4
        (3000, -14, b"\xff\xff", r"asks for 6,588 blocks in 65,535 layers of JPEG 2000"),
    ],
)
def test_jpeg_2000_that_asks_for_more_than_a_radiograph_needs(
    side: int, offset: int, value: bytes, message: str, make_dataset: Any, as_bytes: Any
) -> None:
    """Two heads that say that the picture is larger, and one more lie: from SIZ's start, or back from COD's end."""
    data: Dataset = make_dataset(np.zeros((32, 32, 3), np.uint8))
    data.compress("1.2.840.10008.1.2.4.90", generate_instance_uid=False)
    data.Rows = data.Columns = side
    coded = bytearray(as_bytes(data))
    start = coded.index(b"\xff\x4f\xff\x51")
    coded[start + 8 : start + 16] = coded[start + 24 : start + 32] = struct.pack(">II", side, side)
    coding = coded.index(b"\xff\x52", start)
    place = start + offset if offset > 0 else coding + 20 + offset
    coded[place : place + len(value)] = value
    with pytest.raises(RadiographError, match=message):
        read(bytes(coded))


def test_lossless_jpeg_that_takes_more_memory_than_a_file_may(make_dataset: Any, as_bytes: Any) -> None:
    data: Dataset = make_dataset(np.zeros((2, 2, 3), np.uint8), Rows=7000, Columns=7000)
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    frame = b"\xff\xc3" + struct.pack(">HBHHB", 17, 8, 7000, 7000, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    scan = b"\xff\xda\0\x0c\3\1\0\2\0\3\0\1\0\0"
    data.PixelData = encapsulate([b"\xff\xd8" + frame + scan + bytes(8) + b"\xff\xd9"])
    data["PixelData"].is_undefined_length = True
    with pytest.raises(
        RadiographError, match="7,000 x 7,000 pixels of 3 samples in JPEG of 8 bits; at most 100 million"
    ):
        read(as_bytes(data))


def test_the_end_of_a_jpeg_2000_is_seen(make_dataset: Any, as_bytes: Any, picture: np.ndarray) -> None:
    data: Dataset = make_dataset(picture)
    data.compress("1.2.840.10008.1.2.4.90", generate_instance_uid=False)
    whole = as_bytes(data)
    stream = whole[whole.index(jpeg2000.START) :].partition(b"\xfe\xff\xdd\xe0")[0]
    found = jpeg2000.parse(stream)
    assert (found.width, found.height, found.components, found.precision, found.complete) == (70, 90, 1, 8, True)
    assert not jpeg2000.parse(stream[: len(stream) // 2]).complete
    for end in (30, 42):
        with pytest.raises(RadiographError, match="head is cut off"):
            jpeg2000.parse(stream[:end])


def test_rle_colour_of_16_bits_is_exact(picture: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    deep = picture.astype(np.uint16) * 257
    colour = np.dstack([deep, np.roll(deep, 9, 0), np.roll(deep, 9, 1) ^ 3])
    data = make_dataset(colour)
    expected = read(as_bytes(data)).pixels
    data.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    assert np.array_equal(read(as_bytes(data)).pixels, expected)
