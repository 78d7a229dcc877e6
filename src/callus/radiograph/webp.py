"""The chunks of a WebP: its size, its frames and its orientation."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from callus.errors import RadiographError
from callus.radiograph.grey import exif_orientation
from callus.radiograph.limits import check_size

_MAX_CHUNKS = 100_000


@dataclass(frozen=True)
class WebP:
    """What the chunks tell.

    Attributes:
        frames: more than 1 in an animation.
        orientation: EXIF's, 1 to 8.
    """

    frames: int
    orientation: int


def parse(data: bytes) -> WebP:
    """Walk a WebP's chunks; nothing is decoded.

    Raises:
        RadiographError: it ends early (no part of a WebP can be read), is damaged or too large.
    """
    length = struct.unpack_from("<I", data, 4)[0] + 8
    if length > len(data):
        raise RadiographError(
            f"is truncated: {length - len(data):,} of {length:,} bytes are missing, and a WebP is read whole or not",
            hint="copy the file again",
        )
    frames, orientation, size, position = 0, 1, None, 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > length:
            break
        name, count = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : min(position + 8 + count, length)]
        found = _size(name, body)
        if found is not None:
            check_size(*found)
            size = size or found
        frames += name == b"ANMF"
        if name == b"EXIF":
            orientation = exif_orientation(body)
        position += 8 + count + count % 2
    if size is None:
        raise RadiographError("is a WebP without a picture", hint="copy or export the file again")
    return WebP(max(1, frames), orientation)


def _size(name: bytes, body: bytes) -> tuple[int, int] | None:
    """Width and height where the chunk tells them."""
    if name == b"VP8X" and len(body) >= 10:  # noqa: PLR2004 - the chunk's length
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if name == b"VP8L" and len(body) >= 5:  # noqa: PLR2004 - its header
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and len(body) >= 10:  # noqa: PLR2004 - its frame header
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None
