"""Whether two DICOM files hold the same radiograph, however each is encoded.

A radiograph that comes by two ways may have been written anew on one of them: with or without value representations,
with other forms of length, in the other byte order, deflated, or compressed without loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.errors import PassingError, RadiographError
from callus.radiograph import apart, codecs
from callus.radiograph.dicom import stated_layout, stored_frame
from callus.radiograph.elements import PIXEL_DATA, Element, Elements, items_of, parse

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOSSLESS: Final = codecs.NATIVE | {
    codecs.RLE,
    *(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 90, 201, 202)),
}
_PADDING: Final = 0xFFFCFFFC  # Data Set Trailing Padding (PS3.10 7.2)
_FRAMES, _SAMPLES, _PHOTOMETRIC, _PLANAR = 0x00280008, 0x00280002, 0x00280004, 0x00280006
_WIDTHS: Final = {
    **dict.fromkeys(("US", "SS", "OW", "AT", "US or SS", "US or OW"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
"""Bytes that change places with the byte order."""
_EXACT: Final = frozenset((*_WIDTHS, "OB", "OB or OW", "UN"))
"""What is no text, whose padding would mean nothing."""


def is_same(one: bytes, other: bytes) -> bool:
    """Whether two DICOM files hold the same elements and the same pixels; file meta information is each writer's own.

    What lost something by compression is the same only as its own copy: the same coded bytes.

    Raises:
        PassingError: pixels cannot be decoded just now.
    """
    if _data_set(one) == _data_set(other):
        return True
    try:
        first, second = parse(one, whole=True), parse(other, whole=True)
        return not (first.cut or second.cut) and _same_elements(first, second) and _same_pixels(first, second)
    except PassingError:
        raise
    except RadiographError:  # what cannot be read is the same as nothing
        return False


def _data_set(data: bytes) -> bytes:
    """A DICOM file without its file meta information; all of it where its length is not stated (PS3.10 7.1)."""
    if data[128:140] != b"DICM\x02\0\0\0UL\x04\0":
        return data
    return data[144 + int.from_bytes(data[140:144], "little") :]


def _same_elements(one: Elements, other: Elements) -> bool:
    """Whether all is equal but the pixel data, and what compressing colours may change."""
    passed = {PIXEL_DATA, _PADDING}
    if one.syntax != other.syntax and one.number(_SAMPLES, 1) > 1:
        passed |= {_PHOTOMETRIC, _PLANAR}  # the frames tell, once they are decoded
    tags, others = ({tag for tag in each.by_tag if not _is_length(tag)} - passed for each in (one, other))
    return tags == others and all(_same_element(one, other, tag) for tag in tags)


def _is_length(tag: int) -> bool:
    """Whether it is a group's length (xxxx,0000), which goes with the encoding."""
    return tag & 0xFFFF == 0


def _same_element(one: Elements, other: Elements, tag: int) -> bool:
    first, second = one.by_tag[tag], other.by_tag[tag]
    if "SQ" in (first.vr, second.vr):
        items = items_of(first), items_of(second)
        return len(items[0]) == len(items[1]) and all(
            isinstance(a, Elements) and isinstance(b, Elements) and _same_elements(a, b)
            for a, b in zip(*items, strict=True)
        )
    # Without its own an element has the dictionary's representation, which may leave a choice; or it has none.
    vr = min((first.vr, second.vr), key=lambda vr: (vr == "UN", len(vr)))
    return _plain(first, vr, little=one.little) == _plain(second, vr, little=other.little)


def _plain(element: Element, vr: str, *, little: bool) -> bytes:
    """A value with its numbers little endian, and text without its padding."""
    value = bytes(element.value)
    if vr not in _EXACT:
        return value.rstrip(b" \0")
    width = _WIDTHS.get(vr, 1)
    if little or width == 1 or len(value) % width:
        return value
    return np.frombuffer(value, f"u{width}").byteswap().tobytes()


def _same_pixels(one: Elements, other: Elements) -> bool:
    first, second = one.by_tag[PIXEL_DATA], other.by_tag[PIXEL_DATA]
    if one.syntax == other.syntax and first.encapsulated and second.encapsulated and _stream(first) == _stream(second):
        return True
    if not {one.syntax, other.syntax} <= _LOSSLESS:
        return False
    layouts = stated_layout(one), stated_layout(other)
    count = max(1, one.number(_FRAMES, 1))
    for index in range(count):
        frames = [
            stored_frame(tags, layout, count, index, apart.coded)
            for tags, layout in zip((one, other), layouts, strict=True)
        ]
        if any(frame.missing != 0 for frame in frames) or frames[0].layout.photometric != frames[1].layout.photometric:
            return False
        if not np.array_equal(_meant(frames[0]), _meant(frames[1])):
            return False
    return True


def _stream(element: Element) -> bytes:
    """Coded pixel data without their offset table, which need not be filled, and however they are cut."""
    return b"".join(part for part in element.items[1:] if isinstance(part, memoryview))


def _meant(frame: codecs.Frame) -> NDArray[Any]:
    """A frame's values without the bits that mean nothing, which compressing may drop."""
    layout = frame.layout
    meant: NDArray[Any] = frame.values >> (layout.high + 1 - layout.stored) & (2**layout.stored - 1)
    return meant
