"""What a file tells without its bone: size, coding, border, brightness, number."""

from __future__ import annotations

import math
import os
import re
import stat
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from callus.radiograph import jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.radiograph import Radiograph

FEATURES: Final[dict[str, str]] = {
    "bytes": "file size",
    "bytes_per_pixel": "file size",
    "width": "dimensions",
    "height": "dimensions",
    "longer_side": "dimensions",
    "pixels": "dimensions",
    "aspect": "dimensions",  # width / height
    "format_png": "format",
    "format_jpeg": "format",
    "format_tiff": "format",
    "format_webp": "format",
    "format_dicom": "format",
    "bit_depth": "format",  # bits a sample, as coded (PNG, JPEG) or as read
    "header_bytes": "format",  # JPEG: all that stands before the first scan
    "exif": "format",  # JPEG: 1 where it has that segment
    "jpeg_quality": "JPEG quality",  # 1 to 100, of the libjpeg table that is nearest the luminance table
    "jpeg_chroma_quality": "JPEG quality",
    "jpeg_deviation": "JPEG quality",  # how far the table is from that one: mean |log2 ratio|, 0 where it is libjpeg's
    "jpeg_tables": "JPEG tables",  # quantisation tables
    "jpeg_huffman_bytes": "JPEG tables",  # before the first scan; 420 are the standard tables for colour
    "jpeg_progressive": "JPEG tables",
    "jpeg_subsampling": "JPEG tables",  # luminance samples a chrominance sample: 1, 2, 4
    "colour": "colour mode",  # 1 where channels differ by more than coding noise
    "channels": "colour mode",  # as coded (PNG, JPEG)
    "border_mean": "border",  # of the outermost rows and columns, like all brightness from 0 to 1
    "border_spread": "border",
    "border_black": "border",  # share of it that is exactly 0
    "border_white": "border",
    "border_constant": "border",  # share of the picture that lies in margins of one value
    "brightness_mean": "brightness",
    "brightness_spread": "brightness",
    "brightness_p1": "brightness",
    "brightness_p25": "brightness",
    "brightness_p50": "brightness",
    "brightness_p75": "brightness",
    "brightness_p99": "brightness",
    "black": "brightness",  # share of pixels that are exactly 0
    "white": "brightness",
    "levels": "brightness",  # share of 256 grey levels that occur
    "truncated": "corrupt ending",
    "first_number": "file-name number",
    "number": "file-name number",  # the last run of digits of the stem
}
_REDUCED: Final = 256  # the longer side, at least, of the picture that brightness is taken on
_FLAT: Final = 6 / 255  # JPEG's ringing in a margin of one value
_MOST_SEGMENTS: Final = 1000
_COLOUR: Final = 3  # components: luminance and two of chrominance
_DQT, _DHT, _EXIF = 0xDB, 0xC4, 0xE1
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_DIGITS: Final = re.compile("[0-9]+")
# ITU-T T.81 (1992), tables K.1 and K.2, rows from the top.
_LUMINANCE: Final = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_CHROMINANCE: Final = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 " + "99 " * 32
)


def _scaled(table: str) -> NDArray[np.float64]:
    """Give the table at qualities 1 to 100 by libjpeg's rule (jcparam.c, jpeg_set_quality): (100, 64), in zigzag."""
    zigzag = sorted(range(64), key=lambda at: (s := at // 8 + at % 8, at // 8 if s % 2 else at % 8))
    base = np.array(table.split(), np.int64)[zigzag]
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)  # noqa: PLR2004
    return np.clip((base * scale[:, None] + 50) // 100, 1, 255).astype(np.float64)


_STANDARD: Final = (_scaled(_LUMINANCE), _scaled(_CHROMINANCE))


def file_features(path: str | os.PathLike[str], seen: Radiograph) -> dict[str, float]:
    """Measure one file that was read: everything but what its radiograph shows.

    Args:
        path: of the file; its size, its header and its name are looked at. Where it cannot be opened any more, what
            would come from there is NaN. The folders above it are not looked at: they may name the label.
        seen: what ``callus.radiograph.read`` gave for it, (height, width) uint8 or uint16.

    Returns:
        A finite number or NaN (does not apply, not known) for each of ``FEATURES``, in that order. Brightness and
        border run from 0 (black) to 1 (white); what they are is said beside ``FEATURES``.
    """
    measured = dict.fromkeys(FEATURES, math.nan)
    _measure_picture(seen, measured)
    _measure_border(seen.pixels, measured)
    _measure_brightness(seen.pixels, measured)
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            about = os.fstat(file.fileno())
            if stat.S_ISREG(about.st_mode):
                measured["bytes"] = float(about.st_size)
                measured["bytes_per_pixel"] = about.st_size / seen.pixels.size
                if seen.format == "JPEG":
                    _measure_jpeg(file, measured)
                elif seen.format == "PNG":
                    _measure_png(file, measured)
    except (OSError, ValueError):  # gone since it was read
        pass
    numbers = _DIGITS.findall(os.path.splitext(os.path.basename(os.fsdecode(path)))[0])  # noqa: PTH119, PTH122
    for name, at in (("first_number", 0), ("number", -1)):
        value = float(numbers[at]) if numbers else math.nan
        measured[name] = value if math.isfinite(value) else math.nan
    return measured


def _measure_picture(seen: Radiograph, measured: dict[str, float]) -> None:
    measured["width"], measured["height"] = float(seen.width), float(seen.height)
    measured["longer_side"] = float(max(seen.shape))
    measured["pixels"] = float(seen.pixels.size)
    measured["aspect"] = seen.width / seen.height
    for name in ("PNG", "JPEG", "TIFF", "WEBP", "DICOM"):
        measured[f"format_{name.lower()}"] = float(seen.format == name)
    measured["bit_depth"] = float(seen.pixels.itemsize * 8)
    measured["colour"] = float(not seen.grey)
    measured["truncated"] = float(any(note.startswith("truncated") for note in seen.notes))


def _measure_border(pixels: NDArray[Any], measured: dict[str, float]) -> None:
    white = np.iinfo(pixels.dtype).max
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    measured["border_mean"] = float(border.mean()) / white
    measured["border_spread"] = float(border.std()) / white
    measured["border_black"] = float((border == 0).mean())
    measured["border_white"] = float((border == white).mean())
    inner = 1.0
    for axis in (0, 1):
        varies = np.flatnonzero(np.ptp(pixels, axis=1 - axis) > _FLAT * white)
        inner *= (varies[-1] - varies[0] + 1) / pixels.shape[axis] if len(varies) else 0.0
    measured["border_constant"] = 1.0 - float(inner)


def _measure_brightness(pixels: NDArray[Any], measured: dict[str, float]) -> None:
    step = max(1, max(pixels.shape) // _REDUCED)
    reduced = pixels[::step, ::step].ravel()
    white = np.iinfo(pixels.dtype).max
    measured["brightness_mean"] = float(reduced.mean()) / white
    measured["brightness_spread"] = float(reduced.std()) / white
    measured["black"] = float((reduced == 0).mean())
    measured["white"] = float((reduced == white).mean())
    counts = np.bincount(reduced >> (8 * (pixels.itemsize - 1)), minlength=256)
    below = np.cumsum(counts) / len(reduced)
    for percent in (1, 25, 50, 75, 99):
        measured[f"brightness_p{percent}"] = float(np.searchsorted(below, percent / 100)) / 255
    measured["levels"] = float((counts > 0).mean())


def _measure_png(file: IO[bytes], measured: dict[str, float]) -> None:
    header = file.read(26)
    if len(header) == 26 and header[12:16] == b"IHDR":  # noqa: PLR2004
        measured["bit_depth"] = float(header[24])
        measured["channels"] = float(_PNG_CHANNELS.get(header[25], math.nan))


def _measure_jpeg(file: IO[bytes], measured: dict[str, float]) -> None:
    """Walk the segments up to the first scan; only tables and the frame header are read."""
    tables: dict[int, NDArray[np.float64]] = {}
    components: list[tuple[int, int]] = []  # samples, number of the table
    huffman, exif = 0, False
    file.seek(2)
    for _ in range(_MOST_SEGMENTS):
        head = file.read(4)
        while head[:2] == b"\xff\xff":  # fill bytes
            head = head[1:] + file.read(1)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (jpeg.SCAN, jpeg.END):  # noqa: PLR2004
            break
        marker, length = head[1], max(0, int.from_bytes(head[2:], "big") - 2)
        if marker == _DQT:
            tables |= _tables(file.read(length))
        elif marker in jpeg.FRAME_HEADERS:
            frame = file.read(length)
            measured["jpeg_progressive"] = float(marker == jpeg.PROGRESSIVE)
            measured["bit_depth"] = float(frame[0]) if frame else math.nan
            sampled, numbers = frame[7::3], frame[8::3]
            components = [((at >> 4) * (at & 15), number) for at, number in zip(sampled, numbers, strict=False)]
        else:
            huffman += length * (marker == _DHT)
            exif |= marker == _EXIF
            file.seek(length, os.SEEK_CUR)
    measured["header_bytes"] = float(file.tell())
    measured["exif"] = float(exif)
    measured["jpeg_huffman_bytes"] = float(huffman)
    measured["jpeg_tables"] = float(len(tables))
    measured["channels"] = float(len(components)) if components else math.nan
    if components and components[0][1] in tables:
        measured["jpeg_quality"], measured["jpeg_deviation"] = _quality(tables[components[0][1]], _STANDARD[0])
    if len(components) == _COLOUR:
        measured["jpeg_subsampling"] = components[0][0] / max(1, components[1][0])
        if components[1][1] in tables:
            measured["jpeg_chroma_quality"], _ = _quality(tables[components[1][1]], _STANDARD[1])


def _tables(segment: bytes) -> dict[int, NDArray[np.float64]]:
    """Take a DQT segment apart: number -> (64,) in zigzag."""
    found = {}
    while segment:
        wide, number = segment[0] >> 4, segment[0] & 15
        size = 128 if wide else 64
        values = np.frombuffer(segment[1 : 1 + size].ljust(size, b"\0"), ">u2" if wide else "u1")
        found[number] = np.clip(values.astype(np.float64), 1, 255)
        segment = segment[1 + size :]
    return found


def _quality(table: NDArray[np.float64], standard: NDArray[np.float64]) -> tuple[float, float]:
    """Give the quality whose standard table is nearest, and how far that is."""
    distance = np.abs(np.log2(table) - np.log2(standard)).mean(axis=1)
    nearest = int(distance.argmin())
    return nearest + 1.0, float(distance[nearest])
