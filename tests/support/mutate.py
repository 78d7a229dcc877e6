"""Files damaged on purpose: bits, ranges and lengths; the same seed and number always make the same file.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml), and ``bench/fuzz.py`` puts it on its own.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Change = Callable[[Random, bytearray], str]

NUMBERS: Final = (
    *(0, 1, 2, 3, 4, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 64, 127, 128, 255, 256, 257, 1000, 4095, 9_999, 10_000),
    *(16_384, 32_767, 32_768, 65_534, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1),
)
"""Numbers at which readers go wrong: zero, powers of two and their neighbours, and what is just still allowed."""
_HEAD: Final = 400
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
_ITEM: Final = b"\xfe\xff\x00\xe0"
_PIXEL_DATA: Final = b"\xe0\x7f\x10\x00"
_J2K: Final = b"\xff\x4f\xff\x51"
_FRAME_HEADERS: Final = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)
# Rows, columns, frames, samples, bits allocated, stored and high, sign, planes, colours, windows, slopes, palettes.
_PIXEL_TAGS: Final = tuple(
    (0x0028, element)
    for element in (
        *(0x0010, 0x0011, 0x0010, 0x0011, 0x0008, 0x0002, 0x0100, 0x0101, 0x0102, 0x0103, 0x0006, 0x0004, 0x0120),
        *(0x0121, 0x1050, 0x1051, 0x1052, 0x1053, 0x1056, 0x1101, 0x1201, 0x3000, 0x3002, 0x3006, 0x3010, 0x0030),
    )
)
_TEXTS: Final = (b"0", b"-1", b"1e308", b"nan", b"-inf", b"99999999", b"1\\2\\3", b"\\", b"", b"RGB", b"MONOCHROME1")
_PHOTOMETRICS: Final = (b"RGB", b"YBR_FULL_422", b"PALETTE COLOR", b"MONOCHROME1", b"YBR_RCT", b"YBR_FULL", b"HSV")


@dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
        seed: the name of the sound file that it was.
        what: what was done to it, in order.
        data: its bytes.
    """

    seed: str
    what: tuple[str, ...]
    data: bytes

    def write(self, path: Path) -> None:
        """Put it there."""
        path.write_bytes(self.data)


def mutant(sound: Mapping[str, bytes], seed: int, number: int) -> Mutant:
    """Damage one file in one to three ways.

    Args:
        sound: files by name; a name begins with the format in small letters: "png grey".
        seed: of the whole series.
        number: of this file; formats take turns by it.
    """
    random = Random(f"{seed}/{number}")  # noqa: S311 - chance that can be repeated is what is wanted
    formats = sorted({name.split()[0] for name in sound})
    formats += [kind for kind in formats if kind == "dicom"]  # many formats in one: every second turn more
    kind = formats[number % len(formats)]
    name = random.choice([name for name in sound if name.split()[0] == kind])
    data = bytearray(sound[name])
    done = []
    for step in range(random.choice((1, 1, 2, 3))):
        if step == 0 and random.random() < 0.55:  # a lie needs the structure whole, so it comes first
            done.append(LIES[kind](random, data))
        elif random.random() < 0.12:
            done.append(_splice(random, data, list(sound.values())))
        else:
            done.append(damage(random, data))
    if kind == "png" and random.random() < 0.6:  # else hardly anything gets past the checksums
        done.append(_right_checksums(data))
    return Mutant(name, tuple(done), bytes(data))


def damage(random: Random, data: bytearray) -> str:
    """Flip, overwrite, blank, repeat, remove or cut, without regard to what the bytes mean."""
    return random.choice((_flip, _flip, _overwrite, _blank, _repeat, _remove, _cut))(random, data)


def number_bytes(random: Random, size: int, *, little: bool) -> bytes:
    """One of :data:`NUMBERS`, or any number, in ``size`` bytes."""
    value = random.choice(NUMBERS) if random.random() < 0.8 else random.getrandbits(8 * size)
    return (value % (1 << 8 * size)).to_bytes(size, "little" if little else "big")


def _place(random: Random, data: bytearray) -> int:
    """Half of the places are in the head, where a byte does most, but few in the signature, where it does one thing."""
    end = len(data) if random.random() < 0.5 else min(_HEAD, len(data))
    begin = 8 if random.random() < 0.9 else 0
    return random.randrange(begin, max(begin + 1, end))


def _range(random: Random, data: bytearray) -> tuple[int, int]:
    start = _place(random, data)
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 64, 300, 2000)))


def _flip(random: Random, data: bytearray) -> str:
    places = [_place(random, data) for _ in range(random.choice((1, 1, 2, 4, 16)))]
    places = [place for place in places if place < len(data)]
    for place in places:
        data[place] ^= 1 << random.randrange(8)
    return f"flipped a bit at {places}"


def _overwrite(random: Random, data: bytearray) -> str:
    start, size = _place(random, data), random.choice((1, 2, 4))
    value = number_bytes(random, size, little=random.random() < 0.5)
    data[start : start + size] = value
    return f"wrote {value.hex()} at {start}"


def _blank(random: Random, data: bytearray) -> str:
    start, end = _range(random, data)
    data[start:end] = random.choice((b"\0", b"\xff")) * (end - start)
    return f"blanked {start}:{end}"


def _repeat(random: Random, data: bytearray) -> str:
    start, end = _range(random, data)
    times = random.choice((1, 2, 50))
    data[end:end] = data[start:end] * times
    return f"repeated {start}:{end} {times} times"


def _remove(random: Random, data: bytearray) -> str:
    start, end = _range(random, data)
    del data[start:end]
    return f"removed {start}:{end}"


def _cut(random: Random, data: bytearray) -> str:
    end = _place(random, data)
    del data[end:]
    return f"cut at {end}"


def _splice(random: Random, data: bytearray, others: Sequence[bytes]) -> str:
    """Another file's head before this one's rest, or a piece of it in between."""
    other = random.choice(others)
    start, end = _range(random, bytearray(other))
    if random.random() < 0.5:
        data[:end] = other[:end]
        return f"took the first {end} bytes of another file"
    place = _place(random, data)
    data[place : place + end - start] = other[start:end]
    return f"took {start}:{end} of another file at {place}"


def _write(random: Random, data: bytearray, place: int, size: int, *, little: bool) -> str:
    value = number_bytes(random, size, little=little)
    if place + size <= len(data):
        data[place : place + size] = value
    return f"{value.hex()} at {place}"


def _png(random: Random, data: bytearray) -> str:
    """A chunk's length, a header's field or a coded byte; the checksum is mostly made right again."""
    chunks = _chunks(data)
    if not chunks or random.random() < 0.2:
        return "chunk length " + _write(random, data, random.choice(chunks or [(8, 0)])[0], 4, little=False)
    start, length = random.choice([chunks[0], random.choice(chunks)])
    if data[start + 4 : start + 8] == b"IHDR":
        offset, size = random.choice(((0, 4), (4, 4), (8, 1), (9, 1), (12, 1)))
        done = "IHDR " + _write(random, data, start + 8 + offset, size, little=False)
        if random.random() < 0.3:  # both sides, so that the area is what is huge
            data[start + 8 : start + 16] = struct.pack(">II", *random.choices((1, 9_999, 10_000, 65_535), k=2))
            done += ", sides " + data[start + 8 : start + 16].hex()
    else:
        done = "chunk byte " + _write(random, data, start + 8 + random.randrange(max(1, length)), 1, little=False)
    end = start + 8 + length
    if random.random() < 0.9:
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
    return done


def _chunks(data: bytearray) -> list[tuple[int, int]]:
    """Where each chunk of a PNG begins, and how long it says that it is."""
    chunks = []
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((position, length))
        position += 12 + length
    return chunks


def _right_checksums(data: bytearray) -> str:
    for start, length in _chunks(data):
        end = start + 8 + length
        if end + 4 <= len(data):
            data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
    return "made the checksums right"


def _jpeg(random: Random, data: bytearray, start: int = 0) -> str:
    """A segment's length, a frame header's field, or a byte of a table."""
    segments, frames = [], []
    position = start + 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        segments.append(position)
        if data[position + 1] in _FRAME_HEADERS:
            frames.append(position)
        if data[position + 1] == 0xDA:
            break
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    chosen = random.choice((frames or segments or [start]) if random.random() < 0.5 else segments or [start])
    length = int.from_bytes(data[chosen + 2 : chosen + 4], "big")
    if chosen in frames:
        offset, size = random.choice(((4, 1), (5, 2), (7, 2), (9, 1), (10, 1), (11, 1), (1, 1)))
        return "frame header " + _write(random, data, chosen + offset, size, little=False)
    if random.random() < 0.4:
        return "segment length " + _write(random, data, chosen + 2, 2, little=False)
    return "segment byte " + _write(random, data, chosen + 1 + random.randrange(max(1, length + 1)), 1, little=False)


def _tiff(random: Random, data: bytearray) -> str:
    """A tag's number, type, count or value, or where the next directory is."""
    little = data[:2] == b"II"
    order = "little" if little else "big"
    big = int.from_bytes(data[2:4], order) == 43
    wide, head, size = (8, 8, 20) if big else (4, 2, 12)
    first = int.from_bytes(data[8:16] if big else data[4:8], order)
    count = int.from_bytes(data[first : first + head], order)
    if random.random() < 0.1:
        return "directory " + _write(
            random, data, random.choice((first, first + head + count * size)), 2, little=little
        )
    entry = first + head + random.randrange(max(1, min(count, 60))) * size
    offset, length = random.choice(((0, 2), (2, 2), (4, wide), (4 + wide, wide), (4 + wide, wide), (4 + wide, 2)))
    return f"tag {int.from_bytes(data[entry : entry + 2], order)} " + _write(
        random, data, entry + offset, length, little=little
    )


def _webp(random: Random, data: bytearray) -> str:
    """A length, or a byte of a chunk's head."""
    place = random.choice((4, 16, 20, 21, 24, 26, 27, 28, 29))
    return "header " + _write(random, data, place, 4 if place in (4, 16) else 2, little=True)


def _dicom(random: Random, data: bytearray) -> str:
    """A deflated data set is inflated first and deflated again after."""
    start = _body(data)
    if _DEFLATED not in data[:600]:
        return _data_set(random, data)
    plain = bytearray(zlib.decompress(bytes(data[start:]), -zlib.MAX_WBITS))
    done = _data_set(random, plain)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data[start:] = packer.compress(bytes(plain)) + packer.flush()
    return done


def _body(data: bytearray) -> int:
    """Where the meta header ends, by its own length."""
    return 144 + int.from_bytes(data[140:144], "little")


def _data_set(random: Random, data: bytearray) -> str:
    big = b"1.2.840.10008.1.2.2\0" in data[:600]
    pixels = data.rfind(_PIXEL_DATA[::-1] if big else _PIXEL_DATA)
    item = data.find(_ITEM, pixels + 12) if pixels >= 0 else -1
    if 0 <= item < pixels + 16:
        return random.choice((_stream, _stream, _item, _stated))(random, data, item, big=big)
    return _stated(random, data, item, big=big)


def _stated(random: Random, data: bytearray, _item_at: int, *, big: bool) -> str:
    """An attribute of the image, or its length."""
    little = not big
    tag = random.choice(_PIXEL_TAGS)
    place = data.find(struct.pack("<HH" if little else ">HH", *tag))
    if place < 0:
        return damage(random, data)
    explicit = data[place + 4 : place + 6].isalpha()
    vr = bytes(data[place + 4 : place + 6]) if explicit else b"US"
    name = f"({tag[0]:04X},{tag[1]:04X}) "
    if random.random() < 0.25:
        return name + "length " + _write(random, data, place + (6 if explicit else 4), 2, little=little)
    if vr in (b"IS", b"DS", b"CS"):
        size = int.from_bytes(data[place + 6 : place + 8], "little" if little else "big")
        value = random.choice(_PHOTOMETRICS if tag[1] == 4 else _TEXTS)[:size].ljust(size)
        data[place + 8 : place + 8 + size] = value
        return f"{name}{value!r}"
    return name + _write(random, data, place + 8, 2, little=little)


def _item(random: Random, data: bytearray, item: int, *, big: bool) -> str:
    """The length of one of the first items of encapsulated pixel data."""
    for _ in range(random.randrange(3)):
        after = data.find(_ITEM, item + 4)
        item = after if after >= 0 else item
    return "item length " + _write(random, data, item + 4, random.choice((2, 4)), little=not big)


def _stream(random: Random, data: bytearray, item: int, *, big: bool) -> str:
    """The coded stream's own head; sometimes the data set repeats what it says of the size."""
    start = data.find(_ITEM, item + 4) + 8
    if data[start : start + 2] == b"\xff\xd8":
        return _jpeg(random, data, start) + _agree(random, data, start, 5)
    if data[start : start + 4] == _J2K:
        if random.random() < 0.5:
            offset, size = random.choice(((8, 4), (12, 4), (16, 4), (24, 4), (28, 4), (32, 4), (40, 2), (42, 1)))
            done = "SIZ " + _write(random, data, start + offset, size, little=False)
            return done + _agree(random, data, start, 0)
        if random.random() < 0.5:
            offset, size = random.choice(((4, 1), (6, 2), (9, 1), (10, 1), (11, 1), (12, 1), (13, 1)))
            return "COD " + _write(random, data, data.find(b"\xff\x52", start) + offset, size, little=False)
        return "JPEG 2000 " + _write(random, data, start + random.randrange(4, 160), 1, little=False)
    if random.random() < 0.6:  # RLE's head
        return "RLE head " + _write(random, data, start + 4 * random.randrange(6), 4, little=True)
    return "coded byte " + _write(random, data, random.randrange(start, len(data)), 1, little=not big)


def _agree(random: Random, data: bytearray, start: int, jpeg_offset: int) -> str:
    """Make rows and columns what the stream says, or both huge, so that only the decoder can notice."""
    if random.random() < 0.5:
        return ""
    sides = [random.choice((1, 9_999, 10_000, 16_384)) for _ in range(2)] if random.random() < 0.5 else []
    if jpeg_offset:
        frame = next((start + at for at in _markers(data[start : start + 4096])), -1)
        if frame < 0:
            return ""
        if sides:
            data[frame + 5 : frame + 9] = struct.pack(">HH", *sides)
        rows, columns = struct.unpack_from(">HH", data, frame + jpeg_offset)
    else:
        if sides:
            data[start + 8 : start + 16] = struct.pack(">II", sides[1], sides[0])
        columns, rows = (side & 0xFFFF for side in struct.unpack_from(">II", data, start + 8))
    for element, value in ((0x0010, rows), (0x0011, columns)):
        place = data.find(struct.pack("<HH", 0x0028, element))
        data[place + 8 : place + 10] = struct.pack("<H", value)
    return f", rows and columns {rows} x {columns} in both"


def _markers(head: bytearray) -> list[int]:
    return [at for at in range(len(head) - 1) if head[at] == 0xFF and head[at + 1] in _FRAME_HEADERS]


LIES: Final[dict[str, Change]] = {"png": _png, "jpeg": _jpeg, "tiff": _tiff, "webp": _webp, "dicom": _dicom}
