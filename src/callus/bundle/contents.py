"""What a bundle's files may be: no pickle, and no ONNX graph that reads weights from elsewhere."""

from __future__ import annotations

from typing import Final

from callus.errors import BundleError

ENDINGS: Final = (".onnx", ".xml", ".bin", ".json", ".md", ".txt", ".csv", ".toml", ".png", ".svg")
"""All that may stand in a bundle. Formats that run code when they are read (.pkl, .pt, .h5, .npy…) are not here."""

MOST_FIELDS: Final = 2_000_000
"""Far beyond any network's graph; keeps the time for a hostile one bounded."""

# Of onnx.proto: the fields of each message through which a tensor can be reached.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "function": {7: "node", 11: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 40


def check_contents(name: str, first: bytes, last: bytes, where: object) -> None:
    """Refuse a file that could run code when it is read.

    Args:
        name: the file's name in the bundle.
        first: its first bytes, at least 4 where it has them.
        last: its last byte.
        where: the bundle, for the error.

    Raises:
        BundleError: the ending is not one of :data:`ENDINGS`, or the bytes are a pickle's or a zip's.
    """
    hint = "do not trust this bundle"
    if not name.lower().endswith(ENDINGS):
        raise BundleError(f"{name} may not stand in a bundle; expected {', '.join(ENDINGS)}", where=where, hint=hint)
    # Protocol 2 to 5 begin with 0x80 and their number, and every pickle ends with a full stop (STOP).
    if len(first) > 1 and first[0] == 0x80 and 2 <= first[1] <= 5 and last == b".":  # noqa: PLR2004
        raise BundleError(f"{name} is a pickle, which can run code when it is read", where=where, hint=hint)
    if first.startswith(b"PK\x03\x04"):
        raise BundleError(f"{name} is a zip, which is how torch keeps pickles", where=where, hint=hint)


def check_self_contained(graph: bytes, where: object) -> None:
    """Refuse an ONNX graph that keeps tensors in other files: they escape the hashes and could name any path.

    The protocol buffer is walked here, because the onnx package is only there where one trains, and ONNX Runtime opens
    such files by itself.

    Args:
        graph: the bytes of the .onnx file.
        where: the file, for the error.

    Raises:
        BundleError: external data, or not a protocol buffer.
    """
    try:
        found = _Walk(graph).external()
    except (IndexError, ValueError) as error:
        raise BundleError(f"is not a readable ONNX graph: {error}", where=where, hint="export it anew") from error
    if found:
        raise BundleError(
            "keeps weights outside of itself (ONNX external data); a bundle's graph holds them all",
            where=where,
            hint="export it with its weights inside",
        )


class _Walk:
    """A walk through a protocol buffer's fields that looks into those that may hold tensors."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields = 0

    def external(self) -> bool:
        """Whether some tensor is kept elsewhere."""
        return self._message("model", 0, len(self._data), 0)

    def _message(self, kind: str, at: int, end: int, depth: int) -> bool:
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        inside = _INSIDE[kind]
        while at < end:
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise ValueError(f"more than {MOST_FIELDS:,} fields")
            key, at = self._varint(at, end)
            field, wire = key >> 3, key & 7
            start, value, at = self._value(wire, at, end)
            if kind == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value == _EXTERNAL)):
                return True
            if wire == _BYTES and field in inside and self._message(inside[field], start, at, depth + 1):
                return True
        return False

    def _value(self, wire: int, at: int, end: int) -> tuple[int, int, int]:
        """Where a field's value starts, what it is if it is a number, and where the next field starts."""
        start, value = at, 0
        if wire == _VARINT:
            value, at = self._varint(at, end)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length, start = self._varint(at, end)
            at = start + length
        else:
            raise ValueError(f"byte {at} has wire type {wire}, which ONNX does not use")
        if at > end:
            raise ValueError(f"a field at byte {start} is longer than what holds it")
        return start, value, at

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for position in range(10):
            if at >= end:
                raise ValueError(f"ends inside a number at byte {at}")
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follow
                return value, at
        raise ValueError(f"a number at byte {at} is longer than 10 bytes")
