"""Reads what an ONNX graph is made of from its bytes, without the onnx package, and without trust in them.

The onnx package is only there where one trains, and ONNX Runtime opens other files by itself. Field numbers are those
of onnx.proto.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from callus.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_FIELDS: Final = 2_000_000
"""Far beyond any network's graph; keeps the time for a hostile one bounded."""
MOST_VALUES: Final = 64
"""Numbers of a tensor that are read: axes, sizes and scales are that short, weights are not looked at."""

# The fields of each message through which a tensor, a name or a version can be reached.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "network", 8: "operators", 20: "training", 25: "function"},
    "network": {1: "step", 5: "weights", 11: "input", 12: "output", 15: "sparse weights"},
    "step": {5: "step attribute"},
    "step attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "weights": {},
    "sparse weights": {1: "tensor", 2: "tensor"},
    "input": {2: "type"},
    "type": {1: "tensor type"},
    "tensor type": {2: "shape"},
    "shape": {1: "side"},
    "side": {},
    "output": {},
    "operators": {},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "function": {7: "node", 9: "operators", 11: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSORS: Final = ("tensor", "weights")
_ATTRIBUTES: Final = ("attribute", "step attribute")
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST: Final = 40
_RAW: Final = {1: "f", 6: "i", 7: "q"}
"""How float32, int32 and int64 lie in a tensor's ``raw_data``."""
_REPEATED: Final = {1: (4, "f"), 6: (5, ""), 7: (7, "")}
"""Where else they may lie: the field, and how each number is packed; "" for a number of changing length."""


@dataclass(frozen=True)
class Weights:
    """A tensor that the graph holds (TensorProto).

    Attributes:
        shape: its sizes, as it says.
        kind: its numbers' type, by ONNX's number.
        values: its numbers where they are few, float32, int32 or int64; else None.
        bytes: what it takes in the file.
    """

    shape: tuple[int, ...]
    kind: int
    values: tuple[float, ...] | None
    bytes: int


@dataclass
class Step:
    """A node of the network: what it takes and gives, and its operator (NodeProto).

    Attributes:
        attributes: whole numbers, fractions, text, lists of the first two, or :class:`Weights`, by name; None for what
            is none of these.
    """

    takes: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    operator: str = ""
    domain: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Network:
    """What an ONNX graph is made of (ModelProto).

    Attributes:
        steps: in the order of the file.
        inputs: sizes by name; None for a size that is open, and for all where the graph gives none.
        weights: by name.
        outputs: names.
        versions: of its operators, by domain.
        oddities: what else it holds that no network here has: sparse weights, functions, a name that stands twice.
    """

    steps: list[Step] = field(default_factory=list)
    inputs: dict[str, list[int | None] | None] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    oddities: list[str] = field(default_factory=list)


def read_network(graph: bytes, where: object) -> Network:
    """Read an ONNX graph.

    Args:
        graph: the bytes of the .onnx file.
        where: the file, for the error.

    Raises:
        BundleError: external data (which escapes the hashes and could name any path), a graph within a node (which
            need never end), or not a protocol buffer.
    """
    walk = _Walk(graph)
    try:
        external = walk.message("model", 0, len(graph), 0)
    except (IndexError, ValueError, struct.error) as error:
        raise BundleError(f"is not a readable ONNX graph: {error}", where=where, hint="export it anew") from error
    if external:
        raise BundleError(
            "keeps weights outside of itself (ONNX external data); a bundle's graph holds them all",
            where=where,
            hint="export it with its weights inside",
        )
    if walk.branches:
        raise BundleError(
            "holds a loop or a branch (a graph within a node), which need never end; a network that reads radiographs"
            " has none",
            where=where,
            hint="export it with fixed sizes",
        )
    return walk.network


class _Walk:
    """A walk through a protocol buffer's fields that looks into those that may hold tensors.

    Attributes:
        network: what was found.
        branches: some node holds a graph of its own: Loop, If, Scan.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields = 0
        self.branches = False
        self.network = Network()
        self._end: dict[str, Callable[[list[tuple[int, int, Any]], int], None]] = {
            "step": self._step,
            "step attribute": self._attribute,
            "weights": self._weights,
            "input": self._input,
            "side": self._side,
            "output": self._output,
            "operators": self._operators,
        }
        self._attributes: dict[str, Any] = {}  # of the step that is being read
        self._sides: list[int | None] | None = None  # of the input that is being read

    def message(self, kind: str, at: int, end: int, depth: int) -> bool:
        """Walk through one message; whether some tensor is kept elsewhere."""
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        inside, noted = _INSIDE[kind], self._end.get(kind)
        fields: list[tuple[int, int, Any]] = []
        begin = at
        self._begin(kind)
        while at < end:
            number, wire, start, value, at = self._field(at, end)
            if kind in _TENSORS and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == _EXTERNAL)):
                return True
            if noted is not None:
                fields.append((number, wire, value if wire == _VARINT else (start, at)))
            if wire != _BYTES or number not in inside:
                continue
            self.branches |= kind in _ATTRIBUTES and inside[number] == "graph"
            if self.message(inside[number], start, at, depth + 1):
                return True
        if noted is not None:
            noted(fields, end - begin)
        return False

    def _begin(self, kind: str) -> None:
        if kind == "step":
            self._attributes = {}
        elif kind == "input":
            self._sides = None
        elif kind == "shape":
            self._sides = self._sides or []
        elif kind in ("sparse weights", "function", "training"):
            self.network.oddities.append(f"it holds {kind.replace('function', 'functions')}")

    def _step(self, fields: list[tuple[int, int, Any]], _size: int) -> None:
        step = Step(attributes=self._attributes)
        for number, wire, value in fields:
            match number, wire:
                case 1, 2:
                    step.takes.append(self._text(value))
                case 2, 2:
                    step.gives.append(self._text(value))
                case 4, 2:
                    step.operator = self._text(value)
                case 7, 2:
                    step.domain = self._text(value)
        self.network.steps.append(step)

    def _attribute(self, fields: list[tuple[int, int, Any]], _size: int) -> None:
        name, values = "", list[Any]()
        for number, wire, value in fields:
            match number, wire:
                case 1, 2:
                    name = self._text(value)
                case 2, 5:
                    values.append(self._unpacked("f", value)[0])
                case 3, 0:
                    values.append(_signed(value))
                case 4, 2:
                    values.append(self._text(value))
                case 5, 2:
                    values.append(self._tensor(*value)[1])
        lists = [self._numbers(fields, 7, "f"), self._numbers(fields, 8, "")]
        values += [one for one in lists if one is not None]
        if name in self._attributes:
            self.network.oddities.append(f"a node has two attributes {name!r:.60}")
        self._attributes[name] = values[0] if len(values) == 1 else None

    def _weights(self, fields: list[tuple[int, int, Any]], size: int) -> None:
        name, weights = self._made(fields, size)
        if name in self.network.weights:
            self.network.oddities.append(f"it holds {name!r:.60} twice")
        self.network.weights[name] = weights

    def _input(self, fields: list[tuple[int, int, Any]], _size: int) -> None:
        name = self._name(fields, 1)
        if name in self.network.inputs:
            self.network.oddities.append(f"it takes {name!r:.60} twice")
        self.network.inputs[name] = self._sides

    def _side(self, fields: list[tuple[int, int, Any]], _size: int) -> None:
        values = [_signed(value) for number, wire, value in fields if number == 1 and wire == _VARINT]
        if self._sides is not None:
            self._sides.append(values[-1] if values else None)

    def _output(self, fields: list[tuple[int, int, Any]], _size: int) -> None:
        self.network.outputs.append(self._name(fields, 1))

    def _operators(self, fields: list[tuple[int, int, Any]], _size: int) -> None:
        version = max((value for number, wire, value in fields if number == 2 and wire == _VARINT), default=0)  # noqa: PLR2004
        domain = self._name(fields, 1)
        self.network.versions[domain] = max(version, self.network.versions.get(domain, 0))

    def _tensor(self, at: int, end: int) -> tuple[str, Weights]:
        """Read a tensor in an attribute; :meth:`message` has been through it."""
        fields, size = [], end - at
        while at < end:
            number, wire, start, value, at = self._field(at, end)
            fields.append((number, wire, value if wire == _VARINT else (start, at)))
        return self._made(fields, size)

    def _made(self, fields: list[tuple[int, int, Any]], size: int) -> tuple[str, Weights]:
        """The name of a tensor, and the tensor."""
        shape = tuple(int(one) for one in self._numbers(fields, 1, "") or ())
        kind = next((value for number, wire, value in reversed(fields) if (number, wire) == (2, _VARINT)), 0)
        values = None
        if kind in _RAW and math.prod(shape) <= MOST_VALUES:
            raw = [value for number, wire, value in fields if (number, wire) == (9, _BYTES)]
            found = self._unpacked(_RAW[kind], raw[-1]) if raw else self._numbers(fields, *_REPEATED[kind])
            values = tuple(found or ())
        return self._name(fields, 8), Weights(shape, kind, values, size)

    def _name(self, fields: list[tuple[int, int, Any]], wanted: int) -> str:
        """A text, the last where it stands several times, as every reader of protocol buffers takes it."""
        found = (self._text(value) for number, wire, value in reversed(fields) if (number, wire) == (wanted, _BYTES))
        return next(found, "")

    def _numbers(self, fields: list[tuple[int, int, Any]], wanted: int, packed: str) -> list[float] | None:
        """A field that holds a list; None where it is not there."""
        found: list[float] | None = None
        for number, wire, value in fields:
            if number != wanted or wire not in (_BYTES, _FIXED32 if packed else _VARINT):
                continue
            found = found or []
            if wire == _VARINT:
                found.append(_signed(value))
            elif packed:
                found += self._unpacked(packed, value)
            else:
                at, end = value
                while at < end:
                    one, at = self._varint(at, end)
                    found.append(_signed(one))
        return found

    def _unpacked(self, packed: str, span: tuple[int, int]) -> tuple[float, ...]:
        data = self._data[span[0] : span[1]]
        return struct.unpack(f"<{len(data) // struct.calcsize(packed)}{packed}", data)

    def _text(self, span: tuple[int, int]) -> str:
        return self._data[span[0] : span[1]].decode("utf-8", "surrogateescape")

    def _field(self, at: int, end: int) -> tuple[int, int, int, int, int]:
        """A field's number and wire type, where its value starts, what it is if it is a number, where the next is."""
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise ValueError(f"more than {MOST_FIELDS:,} fields")
        key, at = self._varint(at, end)
        wire = key & 7
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
        return key >> 3, wire, start, value, at

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


def _signed(value: int) -> int:
    """A varint as the whole number of 64 bits that it stands for."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
