"""The chunks of a PNG: its size, its orientation, and its picture alone, mended where the file ends early."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from callus.errors import RadiographError
from callus.radiograph.grey import exif_orientation
from callus.radiograph.limits import check_size

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Adam7: first column, first row, column step, row step of each pass.
_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PALETTE: Final = 3
_ZEROS: Final = 1 << 20
_PICTURE_CHUNKS: Final = (b"IHDR", b"PLTE", b"tRNS")
_MAX_CHUNKS: Final = 200_000


@dataclass(frozen=True)
class Png:
    """What the chunks tell.

    Attributes:
        width: columns.
        height: rows.
        depth: bits a sample.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        frames: more than 1 in an animated PNG.
        orientation: EXIF's, 1 to 8.
        stream: a whole PNG of the picture alone, without metadata; missing rows are black.
        notes: "truncated: ..." where the file ends early.
    """

    width: int
    height: int
    depth: int
    colour: int
    frames: int
    orientation: int
    stream: bytes
    notes: tuple[str, ...]


def parse(data: bytes) -> Png:
    """Walk a PNG's chunks.

    Raises:
        RadiographError: damaged, too large, or ended before its picture begins.
    """
    chunks, complete = _chunks(data)
    header = chunks.get(b"IHDR", [b""])[0]
    if len(header) != 13:  # noqa: PLR2004 - the header's length
        raise RadiographError("is a PNG without its header", hint="copy or export the file again")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    check_size(width, height)
    if depth not in _DEPTHS.get(colour, ()):
        raise RadiographError(f"is a PNG of colour type {colour} with {depth} bits, which PNG does not have")
    if colour == _PALETTE and b"PLTE" not in chunks:
        raise RadiographError("is a PNG of palette colours without its palette", hint="export it again")
    coded = chunks.get(b"IDAT", [])
    notes: tuple[str, ...] = ()
    if not complete:
        coded, note = _mend(coded, _layout(width, height, depth * _CHANNELS[colour], interlaced=bool(interlaced)))
        notes = (note,)
    kept = [_chunk(name, chunks[name][0]) for name in _PICTURE_CHUNKS if name in chunks]
    kept += [_chunk(b"IDAT", part) for part in coded]
    animation = chunks.get(b"acTL", [b""])[0]
    return Png(
        width,
        height,
        depth,
        colour,
        max(1, int.from_bytes(animation[:4], "big")),
        exif_orientation(chunks.get(b"eXIf", [b""])[0]),
        b"".join((_SIGNATURE, *kept, _chunk(b"IEND", b""))),
        notes,
    )


def shortage(parsed: Png) -> tuple[str, ...]:
    """What a PNG lacks that has its end but not all of its rows: "truncated: ...", which takes inflating it to know.

    Args:
        parsed: of :func:`parse`; decoders leave the rows that are missing black, or refuse where it is interlaced.
    """
    chunks, _ = _chunks(parsed.stream)
    bits = parsed.depth * _CHANNELS[parsed.colour]
    expected, row = _layout(parsed.width, parsed.height, bits, interlaced=bool(chunks[b"IHDR"][0][-1]))
    inflater, length, coded = zlib.decompressobj(), 0, b"".join(chunks.get(b"IDAT", []))
    while length < expected and (piece := inflater.decompress(coded, min(_ZEROS, expected - length))):
        length, coded = length + len(piece), inflater.unconsumed_tail
    return () if length == expected else (_missing(length, expected, row),)


def _missing(length: int, expected: int, row: int) -> str:
    """How much of a picture is not there, of ``expected`` bytes in rows of ``row`` (0 where it is interlaced)."""
    if row:
        rows = expected // row
        return f"truncated: the last {rows - length // row} of {rows} rows are missing"
    return f"truncated: {100 - 100 * length // expected} % of the PNG's data are missing"


def _chunks(data: bytes) -> tuple[dict[bytes, list[bytes]], bool]:
    """The chunks by name, and whether the end was there; the picture's checksums are checked."""
    found: dict[bytes, list[bytes]] = {}
    position = len(_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return found, False
        length, name = struct.unpack_from(">I4s", data, position)
        body, end = position + 8, position + 8 + length
        if name == b"IEND" and end + 4 <= len(data):
            return found, True
        if name in (*_PICTURE_CHUNKS, b"IDAT", b"acTL", b"eXIf"):
            content = data[body:end]
            if end + 4 <= len(data) and zlib.crc32(content, zlib.crc32(name)) != struct.unpack_from(">I", data, end)[0]:
                raise RadiographError(
                    f"is a damaged PNG: the checksum of its {name.decode()} chunk is wrong", hint="copy the file again"
                )
            if end <= len(data) or name == b"IDAT":
                found.setdefault(name, []).append(content)
        position = end + 4
    raise RadiographError(f"is a PNG of more than {_MAX_CHUNKS:,} chunks", hint="check that the file is not hostile")


def _layout(width: int, height: int, bits: int, *, interlaced: bool) -> tuple[int, int]:
    """Bytes of the picture uncompressed, and of one row (0 where rows do not follow one another)."""
    if not interlaced:
        row = 1 + (width * bits + 7) // 8
        return row * height, row
    total = 0
    for left, top, across, down in _PASSES:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total, 0


def _mend(coded: list[bytes], layout: tuple[int, int]) -> tuple[list[bytes], str]:
    """What can still be inflated, with zeros for the rest: a zero row is black, whatever is above it."""
    expected, row = layout
    inflater = zlib.decompressobj()
    raw = inflater.decompress(b"".join(coded), expected)
    if not raw:
        raise RadiographError("is a PNG that ends before its picture begins", hint="copy the file again")
    if len(raw) == expected:
        return coded, "truncated: the PNG's end is missing, but all rows are there"
    note = _missing(len(raw), expected, row)
    if row:
        # A row cut in two is dropped: what is left of it would be filtered into noise.
        raw = raw[: len(raw) // row * row]
    return _deflated(raw, expected), note


def _deflated(raw: bytes, size: int) -> list[bytes]:
    """``raw`` deflated with zeros behind it up to ``size``, which are never all in memory."""
    packer = zlib.compressobj(1)
    zeros = (packer.compress(bytes(min(_ZEROS, size - at))) for at in range(len(raw), size, _ZEROS))
    return [b"".join((packer.compress(raw), *zeros, packer.flush()))]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
