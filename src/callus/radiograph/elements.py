"""DICOM's data elements, as views into the file's bytes.

pydicom reads DICOM for everything that callus writes and tests; files from outside are walked here, for three
reasons. pydicom warns through Python's ``warnings``, which no thread can keep quiet without doing it to all others;
it inflates a deflated file whatever its size; and it does not say where a file ended early.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.uid import UID

from callus.errors import RadiographError
from callus.radiograph.character_sets import decoded
from callus.radiograph.limits import MAX_FILE_BYTES, one_line

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
PIXEL_DATA: Final = 0x7FE00010
SHARED_GROUPS: Final = 0x52009229
FRAMES_GROUPS: Final = 0x52009230
"""Shared and Per-Frame Functional Groups Sequence: what multi-frame objects say of all frames, and of each."""
GROUPS: Final = (0x00289110, 0x00289132, 0x00289145, 0x00289443)
"""Of the groups, those that say how a frame is shown: Pixel Measures, Frame VOI LUT, Pixel Value Transformation, and
Frame Pixel Data Properties (PS3.3 C.7.6.16.2, C.8.19.6)."""
_TRANSFER_SYNTAX, _CHARACTER_SET = 0x00020010, 0x00080005
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED: Final = 0xFFFFFFFF
_LONG: Final = frozenset(
    name.encode() for name in ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]
)
_SHORT: Final = frozenset(
    name.encode()
    for name in [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FL",
        "FD",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "SL",
        "SS",
        "ST",
        "TM",
        "UI",
        "UL",
        "US",
    ]
)
_BINARY: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "OW": "H", "US or SS": "H"}
_NEW_SYNTAXES: Final = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
"""Those that pydicom has no name for yet."""
_INFLATED_AT_ONCE: Final = 1 << 18  # bytes; all at once takes twice the memory, and its rest is copied each time
_MAX_DEPTH: Final = 16
_MAX_ELEMENTS: Final = 250_000
"""A radiograph has some hundred; walking these takes about a second."""
_MOST_BYTES: Final = 4096
"""Of a value that is read as text or as numbers: names and descriptions have 64 characters, and lists two or three
numbers. (A table's entries are not read this way.)"""
_TEXT: Final = frozenset(("SH", "LO", "ST", "LT", "PN", "UC", "UT"))


@dataclass(frozen=True, slots=True)
class Element:
    """One element: ``value`` is its bytes; ``items`` what a sequence or encapsulated pixel data hold."""

    vr: str
    value: memoryview
    items: tuple[Elements | memoryview, ...] = ()
    encapsulated: bool = False


@dataclass
class Elements:
    """A data set, or an item of a sequence.

    Attributes:
        little: its numbers' byte order.
        by_tag: its elements.
        cut: the file ended within it.
    """

    little: bool
    by_tag: dict[int, Element] = field(default_factory=dict)
    cut: bool = False
    syntax: str = ""

    def text(self, tag: int) -> str:
        """An element as text, by the data set's character set; "" where it is missing."""
        element = self.by_tag.get(tag)
        if element is None:
            return ""
        vr = _known_vr(tag) if element.vr == "UN" else element.vr
        names = _plain(self.by_tag[_CHARACTER_SET]).split("\\") if _CHARACTER_SET in self.by_tag else [""]
        text = decoded(bytes(element.value[:_MOST_BYTES]), names) if vr in _TEXT else _plain(element)
        return one_line(text.strip("\0 "), 1024)

    def numbers(self, tag: int) -> list[float]:
        """An element as numbers, text or binary; empty where it is missing or is none."""
        element = self.by_tag.get(tag)
        if element is None:
            return []
        # What a converter did not know is UN, but as it was (PS3.5 6.2.2).
        code = _BINARY.get(_known_vr(tag) if element.vr == "UN" else element.vr)
        try:
            if code is None:  # some write a comma where their language does
                return [float(part.replace(",", ".")) for part in _plain(element).split("\\") if part.strip()]
            count = min(len(element.value), _MOST_BYTES) // struct.calcsize(code)
            return list(struct.unpack_from(f"{'<' if self.little else '>'}{count}{code}", element.value))
        except ValueError:
            return []

    def number(self, tag: int, default: int) -> int:
        """The first of an element's numbers, as a whole number."""
        found = self.numbers(tag)
        return int(found[0]) if found and abs(found[0]) < 2**53 else default

    def item(self, tag: int, index: int = 0) -> Elements | None:
        """An item of a sequence, the first unless told; None where the sequence is missing or has fewer."""
        element = self.by_tag.get(tag)
        items = element.items if element is not None else ()
        if element is not None and element.vr == "UN":
            try:
                items = items_of(element)
            except RadiographError:  # a damaged one costs what it says, as one that is known to be a sequence does
                items = ()
        found = items[index] if index < len(items) else None
        return found if isinstance(found, Elements) else None

    def is_garbled(self, tag: int) -> bool:
        """Whether a sequence holds something, but no item that could be read."""
        element = self.by_tag.get(tag)
        return element is not None and element.vr == "UN" and len(element.value) > 0 and self.item(tag) is None


def looks_like_dicom(data: bytes) -> bool:
    """Whether bytes without the preamble can begin a DICOM data set: group 0002 or 0008, and an element that fits."""
    if data.startswith(b"DICM\x02\x00"):
        return True
    if len(data) < 8 or data[:2] not in (b"\x02\0", b"\x08\0", b"\0\x08"):  # noqa: PLR2004 - an element's header
        return False
    little = data[1] == 0
    element, vr = int.from_bytes(data[2:4], "little" if little else "big"), data[4:6]
    if element > 0x1200:  # noqa: PLR2004 - beyond what files begin with
        return False
    return vr in _SHORT | _LONG or (little and int.from_bytes(data[4:8], "little") <= min(len(data), 1024))


def parse(data: bytes, *, whole: bool = False, most: int = MAX_FILE_BYTES) -> Elements:
    """Walk a file's data set as far as its pixel data; nothing is copied but what is deflated.

    Args:
        data: the file's bytes.
        whole: walk into every sequence, and on behind the pixel data.
        most: bytes that a deflated file may inflate to.

    Returns:
        The data set; its ``syntax`` is the transfer syntax, "" where the file does not tell.

    Raises:
        RadiographError: it is damaged beyond reading, or hostile.
    """
    view = memoryview(data)
    start = 132 if data[128:132] == b"DICM" else 4 if data.startswith(b"DICM") else 0
    syntax = ""
    if data[start : start + 2] == b"\x02\0":
        meta = Elements(little=True)
        start = _Walker(view, little=True, explicit=_is_explicit(view, start), meta=True).walk(meta, start, len(view))
        syntax = meta.text(_TRANSFER_SYNTAX)
    cut = False
    if syntax == DEFLATED:
        view, cut = _inflate(view[start:], most)
        start = 0
    little = bytes(view[start + 1 : start + 2]) == b"\0" if not syntax else syntax != BIG_ENDIAN
    found = Elements(little=little, syntax=syntax)
    # The bytes are believed more than the syntax: writers confuse explicit and implicit.
    _Walker(view, little=little, explicit=_is_explicit(view, start), whole=whole).walk(found, start, len(view))
    found.cut |= cut
    if not syntax and not _encapsulated(found):
        found.syntax = (EXPLICIT if little else BIG_ENDIAN) if _is_explicit(view, start) else IMPLICIT
    return found


def items_of(element: Element) -> tuple[Elements | memoryview, ...]:
    """A sequence's items, also where the file keeps from its reader that it is one (PS3.5 6.2.2).

    Args:
        element: of a data set that was walked whole, or one that reading the picture needs.

    Raises:
        RadiographError: it is none.
    """
    if element.vr == "SQ" or not len(element.value):
        return element.items
    if element.vr != "UN":
        raise RadiographError("is a damaged DICOM file: what should be a sequence is none")
    walker = _Walker(element.value, little=True, explicit=False, whole=True)
    items, _, cut = walker._items("SQ", 0, len(element.value), 1, closed=True)  # noqa: SLF001 - our own
    if cut:
        raise RadiographError("is a damaged DICOM file: a sequence is cut")
    return items


def syntax_name(syntax: str) -> str:
    """A transfer syntax for people: its name and its UID."""
    name = UID(syntax, validation_mode=IGNORE).name if re.fullmatch(r"[0-9.]{1,64}", syntax) else ""
    name = _NEW_SYNTAXES.get(syntax, name)
    return f"{name} ({syntax})" if name and name != syntax else syntax or "(none stated)"


class _Walker:
    """One pass over the bytes; counts what it meets, so that hostile nesting ends in an error."""

    def __init__(
        self, view: memoryview, *, little: bool, explicit: bool, meta: bool = False, whole: bool = False
    ) -> None:
        self.view = view
        self.order = "<" if little else ">"
        self.little = little
        self.explicit = explicit
        self.meta = meta
        self.whole = whole
        self.met = 0

    def walk(self, into: Elements, position: int, end: int, depth: int = 0) -> int:
        """Read elements up to the pixel data, the item's end or ``end``; return where it stopped."""
        while position + 8 <= end and not into.cut:
            tag = self._tag(position)
            if tag == _ITEM_END:
                return position + 8
            if self.meta and tag >> 16 != 2:  # noqa: PLR2004 - the meta header's group
                return position
            vr, length, body = self._header(position, tag)
            position = self._value(into, (tag, vr), (body, length), end, depth)
            if tag == PIXEL_DATA and depth == 0 and not self.whole:
                break
        into.cut |= depth == 0 and 0 < end - position < 8  # noqa: PLR2004 - half a header is left
        return position

    def _tag(self, position: int) -> int:
        group, element = struct.unpack_from(self.order + "HH", self.view, position)
        return int(group) << 16 | int(element)

    def _header(self, position: int, tag: int) -> tuple[str, int, int]:
        """Value representation, length, and where the value begins."""
        self.met += 1
        if self.met > _MAX_ELEMENTS:
            raise RadiographError(f"has more than {_MAX_ELEMENTS:,} data elements", hint="the file is hostile")
        vr = bytes(self.view[position + 4 : position + 6])
        if self.explicit and vr in _LONG and position + 12 <= len(self.view):
            (length,) = struct.unpack_from(self.order + "I", self.view, position + 8)
            return vr.decode(), length, position + 12
        if self.explicit and (vr in _SHORT or (vr.isalpha() and vr.isupper())):
            (length,) = struct.unpack_from(self.order + "H", self.view, position + 6)
            return vr.decode(), length, position + 8
        (length,) = struct.unpack_from(self.order + "I", self.view, position + 4)
        return _known_vr(tag), length, position + 8

    def _value(self, into: Elements, what: tuple[int, str], where: tuple[int, int], end: int, depth: int) -> int:
        (tag, vr), (body, length) = what, where
        if length == _UNDEFINED:
            if tag == PIXEL_DATA:
                return self._fragments(into, vr, body, end)
            items, position, cut = self._items(vr, body, end, depth + 1, closed=False)
            into.by_tag[tag] = Element("SQ", self.view[body:position], items)
            into.cut |= cut
            return position
        stop = body + length
        if stop > end:
            into.cut = True
            stop = end
        items = ()
        if vr == "SQ" and (self.whole or _is_wanted_sequence(tag)):
            items, _, _ = self._items(vr, body, stop, depth + 1, closed=True)
        into.by_tag[tag] = Element(vr, self.view[body:stop], items)
        return stop

    def _items(
        self, vr: str, position: int, end: int, depth: int, *, closed: bool
    ) -> tuple[tuple[Elements, ...], int, bool]:
        """A sequence's items, where it ends, and whether the file ended first."""
        if depth > _MAX_DEPTH:
            raise RadiographError(f"nests sequences more than {_MAX_DEPTH} deep", hint="the file is hostile")
        inner = self
        if vr == "UN" and self.explicit:  # an unknown sequence is implicit inside (PS3.5 6.2.2)
            inner = _Walker(self.view, little=True, explicit=False, whole=self.whole)
            inner.met = self.met
        found: list[Elements] = []
        while position + 8 <= end:
            tag = inner._tag(position)
            (length,) = struct.unpack_from(inner.order + "I", self.view, position + 4)
            position += 8
            self.met += 1
            if tag == _SEQUENCE_END:
                return tuple(found), position, False
            if tag != _ITEM:
                raise RadiographError(f"is a damaged DICOM file: {tag:08X} stands where a sequence's item should")
            item = Elements(inner.little)
            stop = end if length == _UNDEFINED else min(end, position + length)
            after = inner.walk(item, position, stop, depth)
            position = after if length == _UNDEFINED else stop
            self.met = max(self.met, inner.met)
            found.append(item)
            if item.cut:
                return tuple(found), position, True
        return tuple(found), position, not closed

    def _fragments(self, into: Elements, vr: str, position: int, end: int) -> int:
        """Encapsulated pixel data: the offset table and the fragments."""
        parts: list[memoryview] = []
        begin, complete = position, False
        while position + 8 <= end:
            tag = self._tag(position)
            (length,) = struct.unpack_from(self.order + "I", self.view, position + 4)
            position += 8
            self.met += 1
            if tag == _SEQUENCE_END:
                complete = True
                break
            if tag != _ITEM or self.met > _MAX_ELEMENTS:
                raise RadiographError(f"is a damaged DICOM file: {tag:08X} stands between fragments of its pixel data")
            parts.append(self.view[position : min(end, position + length)])
            position += length
        into.cut |= not complete
        into.by_tag[PIXEL_DATA] = Element(vr, self.view[begin : min(end, position)], tuple(parts), encapsulated=True)
        return min(end, position)


def _encapsulated(found: Elements) -> bool:
    element = found.by_tag.get(PIXEL_DATA)
    return element is not None and element.encapsulated


def _is_explicit(view: memoryview, start: int) -> bool:
    return bytes(view[start + 4 : start + 6]) in _SHORT | _LONG


def _is_wanted_sequence(tag: int) -> bool:
    return tag in (0x00283000, 0x00283010, SHARED_GROUPS, FRAMES_GROUPS) or tag in GROUPS  # modality and VOI LUT


def _known_vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _inflate(view: memoryview, most: int) -> tuple[memoryview, bool]:
    """A deflated data set, and whether it ended early; never more bytes than may be, nor much more memory."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = bytearray()
    try:
        for begin in range(0, len(view), _INFLATED_AT_ONCE):
            left: memoryview | bytes = view[begin : begin + _INFLATED_AT_ONCE]
            while left and not inflater.eof and len(plain) <= most:
                plain += inflater.decompress(left, _INFLATED_AT_ONCE)
                left = inflater.unconsumed_tail
        if not inflater.eof and len(plain) <= most:
            plain += inflater.flush()  # the end of what has all gone in
    except zlib.error as error:
        raise RadiographError(f"is a deflated DICOM file that does not inflate: {error}") from error
    if len(plain) > most:
        raise RadiographError(f"inflates to more than {most:,} bytes", hint="check that the file is not hostile")
    return memoryview(plain).toreadonly(), not inflater.eof


def _plain(element: Element) -> str:
    return bytes(element.value[:_MOST_BYTES]).decode("latin-1").strip("\0 ")
