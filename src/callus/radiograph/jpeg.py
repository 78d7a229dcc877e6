"""The markers of a JPEG or JPEG-LS stream: its size and process, and whether it ends before its picture does."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from callus.errors import RadiographError
from callus.radiograph.grey import exif_orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

# Baseline, extended, progressive, lossless; the same hierarchical and arithmetic; JPEG-LS.
FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7})
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, JPEG_LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xF7
SCAN, END = 0xDA, 0xD9
_TABLES: Final = frozenset({0xC4, 0xDB, 0xDD})
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
# Application segments and comments, without JFIF and Adobe, which say what the colours are.
_METADATA: Final = frozenset(range(0xE1, 0xF0)) - {_ADOBE} | {0xFE, END}
# Inside coded data 0xFF is followed by 0 or a restart marker (JPEG) or by a byte under 0x80 (JPEG-LS).
_MARKER: Final = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
_FILL: Final = re.compile(rb"\xff{2,}")
_MAX_SEGMENTS: Final = 100_000
_MAX_SCANS: Final = 200
"""A progressive JPEG has about ten; each costs a pass over the picture, however few bytes it takes in the file."""


@dataclass(frozen=True)
class Jpeg:
    """What a stream's markers tell.

    Attributes:
        process: the frame header's marker, 0xC0 to 0xCF, or 0xF7 for JPEG-LS.
        width: columns.
        height: rows.
        components: 1 grey, 3 colour, 4 CMYK.
        precision: bits a sample.
        complete: False where the stream ends without its end marker.
        orientation: EXIF's, 1 to 8.
        colours: what libjpeg takes three components to be; "" where no marker says, and it guesses YCbCr.
        stream: the picture alone: no metadata, nothing after its end, an end marker in any case.
    """

    process: int
    width: int
    height: int
    components: int
    precision: int
    complete: bool
    orientation: int
    colours: Literal["YCbCr", "RGB", ""]
    stream: bytes


def parse(data: bytes) -> Jpeg:  # noqa: C901 - one marker after another
    """Walk the markers of a JPEG or JPEG-LS stream; nothing is decoded.

    Raises:
        RadiographError: it ends, or is damaged, before its picture begins.
    """
    frame: tuple[int, int, int, int, int] | None = None
    orientation, complete = 1, False
    named: bytes = b""
    jfif, transform = False, -1
    first_scan, end = 0, len(data)
    kept = [data[:2]]
    for marker, start, stop in _segments(data):
        if stop > len(data):  # a header that is cut off: what came before it is the picture
            end = start
            break
        segment = data[start + 4 : stop]
        if marker == END:
            complete, end = True, stop
        elif marker in FRAME_HEADERS and frame is None and len(segment) >= 6:  # noqa: PLR2004 - its fixed part
            precision, height, width, components = struct.unpack_from(">BHHB", segment)
            frame = marker, width, height, components, precision
            named = segment[6:15:3]
        elif marker == _EXIF and segment.startswith(b"Exif\0\0"):
            orientation = exif_orientation(segment)
        elif marker == _JFIF:
            jfif |= segment.startswith(b"JFIF")
        elif marker == _ADOBE and segment.startswith(b"Adobe") and len(segment) >= 12:  # noqa: PLR2004
            transform = segment[11]
        elif marker == SCAN and not first_scan:
            first_scan = start
        if not first_scan and marker not in _METADATA:
            kept.append(data[start:stop])
    if frame is None or not first_scan:
        raise RadiographError(
            "is a JPEG that ends or is damaged before its picture begins", hint="copy or export the file again"
        )
    # Any number of 0xFF may stand before a marker, but libjpeg, fed piece by piece, takes minutes for 100 MB of them.
    kept.append(_FILL.sub(b"\xff", data[first_scan:end]) if frame[0] != JPEG_LS else data[first_scan:end])
    if not complete:
        kept.append(b"\xff\xd9")
    process, width, height, components, precision = frame
    return Jpeg(
        process,
        width,
        height,
        components,
        precision,
        complete,
        orientation,
        _colours(named, transform, jfif=jfif),
        b"".join(kept),
    )


def bare(parsed: Jpeg) -> bytes:
    """The stream with nothing before its first scan but what decoding takes: tables, frame, restart interval."""
    kept = [parsed.stream[:2]]
    for marker, start, stop in _segments(parsed.stream):
        if marker == SCAN:
            return b"".join((*kept, parsed.stream[start:]))
        if marker in FRAME_HEADERS or marker in _TABLES:
            kept.append(parsed.stream[start:stop])
    raise RadiographError("is a JPEG without a scan", hint="export it again")


def _colours(named: bytes, transform: int, *, jfif: bool) -> Literal["YCbCr", "RGB", ""]:
    """The rule of libjpeg: JFIF's word first, then Adobe's, then what the components are called."""
    if jfif or transform > 0:
        return "YCbCr"
    if transform == 0 or named == b"RGB":
        return "RGB"
    return "YCbCr" if named == b"\1\2\3" else ""


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each marker with where its segment begins and ends; stops behind the end marker, or where the data end."""
    position = 2
    scans = 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            return
        marker, start, position = found[1][0], found.start(), found.end()
        if marker == END:
            yield marker, start, position
            return
        scans += marker == SCAN
        if scans > _MAX_SCANS:
            raise RadiographError(
                f"is a JPEG of more than {_MAX_SCANS} scans", hint="check that the file is not hostile"
            )
        # Where even the length is cut off, the segment ends beyond the data in any case.
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
        yield marker, start, position
