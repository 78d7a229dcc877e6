"""The directories of a TIFF: size, orientation, and a clean directory for the decoder."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Final

from callus.errors import RadiographError
from callus.radiograph.limits import check_size

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES = 256, 257, 258, 259, 262, 274, 277
SIGNED, FLOAT = 2, 3
STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS, SAMPLE_FORMAT = 273, 279, 324, 325, 339
# Fill order, rows per strip, planar configuration, T4 and T6 options, predictor, colour map, tile size, extra
# samples, JPEG tables, YCbCr coefficients, subsampling, positioning and reference: with those above, all that a
# picture needs. The rest (text, EXIF, thumbnails, vendors' own) never reaches the decoder.
_PICTURE_TAGS: Final = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS}
    | {SAMPLE_FORMAT, 266, 278, 284, 292, 293, 317, 320, 322, 323, 338, 347, 529, 530, 531, 532}
)
_TYPES: Final = {1: "B", 2: "c", 3: "H", 4: "I", 5: "2I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 16: "Q"}
_ONE: Final = frozenset({WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, SAMPLES, 266, 278, 284, 317, 322, 323})
_PLACES: Final = frozenset({STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS})
_PLANAR, _TILE_WIDTH, _TILE_HEIGHT = 284, 322, 323
_MAX_FRAMES: Final = 10_000
_LARGEST: Final = 1 << 30  # bytes, what is missing included
_MAX_STRIPS: Final = 1_200_000
"""100 million pixels in tiles of 16 x 16, three colours apart, are 1.17 million."""
_MAX_VALUES: Final = 200_000
"""Of any other tag: a palette of 16 bits has 3 x 65,536."""
_UNCOMPRESSED: Final = 1
_OLD_JPEG: Final = 6


@dataclass(frozen=True)
class Tiff:
    """One frame's directory.

    Attributes:
        width: columns.
        height: rows.
        bits: of each sample.
        samples: a pixel.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, ...
        orientation: as EXIF's, 1 to 8.
        sample_format: 1 unsigned, 2 signed, 3 float.
        planar: one colour after the other and not pixel by pixel.
        stream: a TIFF of this frame alone.
        notes: "truncated: ..." where the file ends early.
    """

    width: int
    height: int
    bits: tuple[int, ...]
    samples: int
    photometric: int
    orientation: int
    sample_format: int
    planar: bool
    stream: bytes
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    raw: bytes  # the values in the file's byte order
    values: tuple[Any, ...]


class _Reader:
    """The file's byte order and the widths of its numbers (TIFF or BigTIFF)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = self.unpack("H", 2)[0] == 43  # noqa: PLR2004 - BigTIFF's number
        self.first: int = self.unpack("Q", 8)[0] if self.big else self.unpack("I", 4)[0]

    def unpack(self, form: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + form, self.data, offset)

    def entries(self, start: int) -> tuple[dict[int, _Entry], int]:
        """A directory's entries that a picture needs, and where the next directory is (0 at the end)."""
        (count,) = self.unpack("Q" if self.big else "H", start)
        size, head = (20, 8) if self.big else (12, 2)
        if start + head + count * size > len(self.data):
            raise RadiographError("is a TIFF whose directory is cut off", hint="copy the file again")
        found = {}
        for index in range(count):
            offset = start + head + index * size
            tag, kind, number = self.unpack("HHQ" if self.big else "HHI", offset)
            form = _TYPES.get(kind)
            if form is None or (tag not in _PICTURE_TAGS and tag != ORIENTATION):
                continue
            if number > (_MAX_STRIPS if tag in _PLACES else _MAX_VALUES):
                raise RadiographError(f"is a TIFF whose tag {tag} has {number:,} values", hint="export it again")
            length, place = struct.calcsize("<" + form) * number, offset + size - (8 if self.big else 4)
            if length > (8 if self.big else 4):
                (place,) = self.unpack("Q" if self.big else "I", place)
            if number == 0 or place + length > len(self.data):
                raise RadiographError(f"is a TIFF whose tag {tag} lies outside of the file", hint="copy the file again")
            form = f"{number}s" if form == "c" else f"{number * (2 if form == '2I' else 1)}{form[-1]}"
            found[tag] = _Entry(kind, number, self.data[place : place + length], self.unpack(form, place))
        return found, self.unpack("Q" if self.big else "I", start + head + count * size)[0]


def directories(data: bytes) -> list[int]:
    """Where each frame's directory stands.

    Raises:
        RadiographError: it is cut off, or goes in circles.
    """
    reader = _Reader(data)
    places: list[int] = []
    seen: set[int] = set()
    place = reader.first
    while place:
        if place in seen or len(places) >= _MAX_FRAMES:
            raise RadiographError("is a TIFF whose directories go in circles or never end", hint="export it again")
        seen.add(place)
        places.append(place)
        try:
            (count,) = reader.unpack("Q" if reader.big else "H", place)
            after = place + (8 + 20 * count if reader.big else 2 + 12 * count)
            (place,) = reader.unpack("Q" if reader.big else "I", after)
        except struct.error as error:
            raise RadiographError(
                "is a TIFF that ends before its directory does", hint="copy the file again"
            ) from error
    if not places:
        raise RadiographError("is a TIFF without a picture")
    return places


def parse(data: bytes, place: int) -> Tiff:
    """Read the directory at ``place`` and write a clean one.

    Raises:
        RadiographError: a needed tag is missing or makes no sense, or the picture is too large.
    """
    reader = _Reader(data)
    try:
        entries, _ = reader.entries(place)
    except struct.error as error:
        raise RadiographError("is a TIFF that ends before its directory does", hint="copy the file again") from error
    numbers = {tag: entry.values for tag, entry in entries.items() if all(isinstance(v, int) for v in entry.values)}

    def one(tag: int, default: int) -> int:
        return int(numbers[tag][0]) if tag in numbers else default

    width, height, samples = one(WIDTH, 0), one(HEIGHT, 0), one(SAMPLES, 1)
    check_size(width, height)
    bits = tuple(numbers.get(BITS, (1,)))
    if not 1 <= samples <= 8 or max(bits) > 64 or len(bits) > samples:  # noqa: PLR2004 - beyond any picture
        raise RadiographError(
            f"is a TIFF of {samples} samples of {max(bits)} bits a pixel; expected 1 to 4 of up to 32"
        )
    check_size(one(_TILE_WIDTH, 1), one(_TILE_HEIGHT, 1))  # a decoder takes memory for a whole tile
    if one(COMPRESSION, 1) == _OLD_JPEG:
        raise RadiographError("is a TIFF of the withdrawn JPEG kind (compression 6)", hint="export it again")
    offsets = numbers.get(STRIP_OFFSETS) or numbers.get(TILE_OFFSETS) or ()
    counts = numbers.get(STRIP_COUNTS) or numbers.get(TILE_COUNTS) or ()
    if not offsets:
        raise RadiographError("is a TIFF without a picture: it names no strips and no tiles")
    plain = height * math.ceil(width * sum(bits) * (samples // len(bits)) / 8)
    if not counts and one(COMPRESSION, 1) == _UNCOMPRESSED and len(offsets) == 1:
        counts = (plain,)
        entries[STRIP_COUNTS] = _Entry(4, 1, struct.pack(reader.order + "I", min(counts[0], 2**32 - 1)), counts)
    if len(counts) != len(offsets):
        raise RadiographError(f"is a TIFF with {len(offsets)} strips but {len(counts)} lengths", hint="export it again")
    needed = max(offset + count for offset, count in zip(offsets, counts, strict=True))
    body = data
    notes: tuple[str, ...] = ()
    if needed > len(data):
        most = plain if STRIP_OFFSETS in numbers else _LARGEST  # tiles reach beyond the picture
        body, notes = _pad(data, needed, offsets, counts, compression=one(COMPRESSION, 1), most=most)
    turned = entries.pop(ORIENTATION, None)
    return Tiff(
        width,
        height,
        bits,
        samples,
        one(PHOTOMETRIC, 1),
        int(turned.values[0]) if turned is not None and isinstance(turned.values[0], int) else 1,
        one(SAMPLE_FORMAT, 1),
        one(_PLANAR, 1) == 2,  # noqa: PLR2004 - 1 is pixel by pixel
        _rewrite(reader, body, entries),
        notes,
    )


def _pad(
    data: bytes, needed: int, offsets: tuple[int, ...], counts: tuple[int, ...], *, compression: int, most: int
) -> tuple[bytes, tuple[str, ...]]:
    """Zeros for what is missing at the end: sound only where the pixels stand as they are."""
    total = sum(counts)
    missing = sum(min(count, max(0, offset + count - len(data))) for offset, count in zip(offsets, counts, strict=True))
    part = f"truncated: {max(1, 100 * missing // max(total, 1))} % of the TIFF's pixel data are missing"
    # A lying length must not make us write zeros without end.
    if compression != _UNCOMPRESSED or missing >= total or needed > min(len(data) + min(total, most), _LARGEST):
        raise RadiographError(f"is {part}", hint="copy the file again")
    return data + bytes(needed - len(data)), (part,)


def _rewrite(reader: _Reader, body: bytes, entries: dict[int, _Entry]) -> bytes:
    """The same file with one new directory at its end, which holds only what the picture needs."""
    big, order = reader.big, reader.order
    inline = 8 if big else 4
    start = len(body) + len(body) % 2
    extra_at = start + (8 + 20 * len(entries) + 8 if big else 2 + 12 * len(entries) + 4)
    directory = [struct.pack(order + ("Q" if big else "H"), len(entries))]
    extra = b""
    for tag in sorted(entries):
        entry = entries[tag]
        count, raw = (1, entry.raw[: len(entry.raw) // entry.count]) if tag in _ONE else (entry.count, entry.raw)
        if len(raw) > inline:
            place = struct.pack(order + ("Q" if big else "I"), extra_at + len(extra))
            extra += raw + bytes(len(raw) % 2)
        else:
            place = raw.ljust(inline, b"\0")
        directory.append(struct.pack(order + ("HHQ" if big else "HHI"), tag, entry.kind, count) + place)
    directory.append(bytes(inline))
    head = body[:8] + struct.pack(order + "Q", start) if big else body[:4] + struct.pack(order + "I", start)
    return b"".join((head, body[len(head) :], bytes(start - len(body)), *directory, extra))
