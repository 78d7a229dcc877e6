"""The heads of a JPEG 2000 stream: its size, whether it is all there, and whether its decoder could afford it.

A stream of 5 kB may ask for blocks of one sample or for tens of thousands of tiles, for each of which a decoder makes
some hundred bytes before it looks at any data: that is gigabytes, so they are counted first (ITU-T T.800, A and B).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callus.errors import RadiographError
from callus.radiograph.limits import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Iterator

START: Final = b"\xff\x4f\xff\x51"
_CODING, _COMPONENT_CODING, _TILE_PART, _DATA, _END = 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_MAX_TILES: Final = 20_000
"""100 million pixels in tiles of 128 x 128 are 6,100."""
_MAX_BLOCKS: Final = 1_000_000
"""In blocks of 64 x 64, which all encoders take, they are 33,000."""
_MAX_LAYERED: Final = 20_000_000
"""Blocks times quality layers, for which a decoder keeps a number each; of layers there are seldom more than 20."""
_CODING_HEAD, _CODING_FIXED, _TILE_PART_HEAD = 10, 5, 6
_MAX_LEVELS: Final = 32
_ONE_BYTE: Final = 256
"""Up to so many components a component's number takes one byte."""


@dataclass(frozen=True)
class Jpeg2000:
    """What a stream's heads tell.

    Attributes:
        width: columns.
        height: rows.
        components: 1 grey, 3 colour.
        precision: bits a sample.
        complete: False where the stream ends without its end marker.
    """

    width: int
    height: int
    components: int
    precision: int
    complete: bool


def parse(data: bytes) -> Jpeg2000:
    """Read the heads; nothing is decoded.

    Args:
        data: the stream, with or without the boxes of a JP2 file around it.

    Raises:
        RadiographError: the heads are cut off, or ask for more than a radiograph's decoder needs.
    """
    start = data.find(START)
    if start < 0:
        raise RadiographError("is a JPEG 2000 file without a stream", hint="copy the file again")
    try:
        right, lower, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, start + 8)
        (components,) = struct.unpack_from(">H", data, start + 40)
        precision = (data[start + 42] & 0x7F) + 1
    except (struct.error, IndexError) as error:
        raise RadiographError("is a JPEG 2000 stream whose head is cut off", hint="copy the file again") from error
    width, height = right - left, lower - top
    samples = max(0, width) * max(0, height) * components
    if samples > MAX_PIXELS:  # the decoder takes 32 bits and more for each
        raise RadiographError(
            f"is too large: {width:,} x {height:,} pixels of {components} samples in JPEG 2000; at most"
            f" {MAX_PIXELS // 1_000_000} million samples are read",
            hint="export it uncompressed",
        )
    tiles = -(-right // max(1, tile_width)) * -(-lower // max(1, tile_height))
    if tiles > _MAX_TILES:
        raise _hostile(f"{tiles:,} tiles", f"{_MAX_TILES:,}")
    complete, layers = False, 1
    for marker, segment in _segments(data, start + 2):
        if marker == _CODING and len(segment) >= _CODING_HEAD:
            layers = max(layers, int.from_bytes(segment[2:4], "big"))
            _check_blocks(samples, layers, bool(segment[0] & 1), segment[5:])
        elif marker == _COMPONENT_CODING and segment:
            segment = segment[2 if components > _ONE_BYTE else 1 :]  # noqa: PLW2901 - without the component's number
            _check_blocks(samples, layers, bool(segment[:1] and segment[0] & 1), segment[1:])
        complete = marker == _END
    return Jpeg2000(width, height, components, precision, complete)


def _check_blocks(samples: int, layers: int, precincts: bool, coding: bytes) -> None:
    """Count about how many blocks there will be: of code, or precincts where these are smaller.

    Args:
        samples: of the picture.
        layers: of quality.
        precincts: their sizes are told.
        coding: number of levels, block width and height, style, transform, and for each resolution a precinct's size.
    """
    if len(coding) < _CODING_FIXED:
        return
    levels, across, down = min(coding[0], _MAX_LEVELS), coding[1] + 2, coding[2] + 2
    sizes = coding[_CODING_FIXED:] if precincts else b""
    blocks = 0
    for resolution in range(levels + 1):
        size = sizes[resolution] if resolution < len(sizes) else 0xFF
        halved = int(resolution > 0)  # a precinct lies over three bands of half the resolution
        area = min(across, max(0, (size & 15) - halved)) + min(down, max(0, (size >> 4) - halved))
        there = samples >> 2 * (levels - resolution)
        blocks += (there - (there >> 2 if resolution else 0)) >> area
    if blocks > _MAX_BLOCKS or blocks * layers > _MAX_LAYERED:
        raise _hostile(f"{blocks:,} blocks in {layers:,} layers", f"{_MAX_BLOCKS:,} and {_MAX_LAYERED:,} in all layers")


def _hostile(asked: str, most: str) -> RadiographError:
    return RadiographError(
        f"asks for {asked} of JPEG 2000; at most {most} are read", hint="check that the file is not hostile"
    )


def _segments(data: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """Each marker of the main head and of the tile parts' heads with its segment; last the end, if it is there."""
    after = 0  # where the tile part ends whose head this is; 0 in the main head
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == _END:
            break
        if marker == _DATA:
            if after <= position:  # a length of 0 is the last tile part's, which goes on to the end
                break
            position = after
            continue
        segment = data[position + 4 : position + 2 + length]
        yield marker, segment
        if marker == _TILE_PART and len(segment) >= _TILE_PART_HEAD:
            (size,) = struct.unpack_from(">I", segment, 2)
            after = position + size if size else 0
        position += 2 + max(2, length)
    # What may follow the end marker: the byte that makes a fragment's length even.
    if data[position : position + 2] == b"\xff\xd9" or data[position:].rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        yield _END, b""
