"""What a bundle's files may be: no pickle, and no ONNX graph that reads weights from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from callus.bundle.operators import FEWEST_INPUTS
from callus.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Container

ENDINGS: Final = (".onnx", ".xml", ".bin", ".json", ".md", ".txt", ".csv", ".toml", ".png", ".svg")
"""All that may stand in a bundle. Formats that run code when they are read (.pkl, .pt, .h5, .npy…) are not here."""

MOST_FIELDS: Final = 2_000_000
"""Far beyond any network's graph; keeps the time for a hostile one bounded."""

MOST_XML: Final = 64 << 20
"""That of a ResNet152V2 has 2 MB: the weights lie elsewhere."""
_BRANCHES: Final = ("Loop", "TensorIterator", "If")
_SOURCES: Final = ("Parameter", "Const")
"""Layers that need no input."""
NEWEST_OPERATORS: Final = 1000
"""ONNX is at 26; a runtime that counts up to the version that a graph names must not count for ever."""

# Of onnx.proto: the fields of each message through which a tensor, a name or a version can be reached.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "network", 8: "operators", 20: "training", 25: "function"},
    "network": {1: "step", 5: "weights", 11: "input", 15: "sparse weights"},
    "step": {5: "attribute"},
    "weights": {},
    "sparse weights": {1: "weights", 2: "tensor"},
    "input": {},
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
_GIVEN: Final = {"weights": 8, "input": 1}
"""Where the name stands of what the network's steps can take from the start."""
_VERSION: Final = 2
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
    """Refuse an ONNX graph that keeps tensors in other files, or on which a runtime may never end.

    Tensors elsewhere escape the hashes and could name any path. A loop could run for ever, and OpenVINO does so where a
    step takes what a later one gives, or where a version has no end; where a step lacks an input, it takes the process
    with it.

    The protocol buffer is walked here, because the onnx package is only there where one trains, and ONNX Runtime opens
    such files by itself.

    Args:
        graph: the bytes of the .onnx file.
        where: the file, for the error.

    Raises:
        BundleError: external data, a graph within a node, nodes out of order, or not a protocol buffer.
    """
    try:
        walk = _Walk(graph)
        found = walk.external()
    except (IndexError, ValueError) as error:
        raise BundleError(f"is not a readable ONNX graph: {error}", where=where, hint="export it anew") from error
    if found:
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
    disorder = walk.disorder()
    if disorder:
        raise BundleError(f"callus cannot load the graph: {disorder}", where=where, hint="export it anew")


def check_layers(xml: bytes, where: object) -> None:
    """Refuse a network in OpenVINO's own format that may never end, or that takes the process with it.

    OpenVINO 2026.4 follows a null pointer where a layer that needs inputs has none.

    Args:
        xml: the bytes of the .xml file.
        where: the file, for the error.

    Raises:
        BundleError: loops or branches, a layer without inputs that needs some, or not such a file.
    """
    refused = "is no OpenVINO network; callus cannot load the graph"
    if len(xml) > MOST_XML or b"<!" in xml:  # what begins so can make a short file long
        raise BundleError(f"{refused}: {len(xml):,} bytes, at most {MOST_XML:,}, and no declarations", where=where)
    try:
        root = ET.fromstring(xml.decode("utf-8"))  # noqa: S314 - without declarations it holds no trap
    except (ET.ParseError, ValueError) as error:
        raise BundleError(f"{refused}: {error}", where=where, hint="export it anew") from error
    for layer in root.iter("layer"):
        kind = layer.get("type", "")
        if kind in _BRANCHES:
            raise BundleError(f"holds a loop or a branch ({kind}), which need never end", where=where)
        if kind not in _SOURCES and layer.find("input/port") is None:
            raise BundleError(f"{refused}: {kind[:40]!r} has no input", where=where, hint="export it anew")


@dataclass
class _Step:
    """A node of the network: what it takes and gives, and its operator (ONNX's NodeProto)."""

    takes: list[bytes] = field(default_factory=list)
    gives: list[bytes] = field(default_factory=list)
    operator: bytes = b""
    domain: bytes = b""

    def note(self, number: int, value: bytes) -> None:
        """Keep the field of this number."""
        if number == 1:
            self.takes.append(value)
        elif number == 2:  # noqa: PLR2004
            self.gives.append(value)
        elif number == 4:  # noqa: PLR2004
            self.operator = value
        elif number == 7:  # noqa: PLR2004
            self.domain = value

    def problem(self, given: Container[bytes]) -> str:
        """Why it cannot be run once these names are given; empty where it can."""
        operator = self.operator.decode("utf-8", "replace")
        fewest = FEWEST_INPUTS.get(operator)
        if fewest is None or self.domain not in (b"", b"ai.onnx"):
            return f"is {_shown(self.operator)}, an operator that callus does not run"
        if len(self.takes) < fewest or not all(self.takes[:fewest]):
            return f"lacks inputs: {operator} takes at least {fewest}"
        for name in self.takes:
            if name not in given:
                return f"takes {_shown(name)}, which nothing before it gives"
        for name in self.gives:
            if name and (name in given or self.gives.count(name) > 1):
                return f"gives {_shown(name)}, which is there already"
        return ""


class _Walk:
    """A walk through a protocol buffer's fields that looks into those that may hold tensors.

    Attributes:
        branches: some node holds a graph of its own: Loop, If, Scan.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields = 0
        self.branches = False
        self._version = 0
        self._given: set[bytes] = {b""}  # an input that is left out has no name
        self._steps: list[_Step] = []

    def external(self) -> bool:
        """Whether some tensor is kept elsewhere."""
        return self._message("model", 0, len(self._data), 0)

    def disorder(self) -> str:
        """Why the network's steps cannot be run one after another; empty where they can."""
        if self._version > NEWEST_OPERATORS:
            return f"it names version {self._version} of its operators, at most {NEWEST_OPERATORS} is read"
        for number, step in enumerate(self._steps):
            problem = step.problem(self._given)
            if problem:
                return f"node {number} {problem}"
            self._given.update(step.gives)
        return ""

    def _message(self, kind: str, at: int, end: int, depth: int) -> bool:
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        inside = _INSIDE[kind]
        if kind == "step":
            self._steps.append(_Step())
        while at < end:
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise ValueError(f"more than {MOST_FIELDS:,} fields")
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            start, value, at = self._value(wire, at, end)
            if kind == "operators" and number == _VERSION:
                self._version = max(self._version, value)
            elif wire == _BYTES:
                self._note(kind, number, start, at)
            if kind in _TENSORS and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == _EXTERNAL)):
                return True
            if wire != _BYTES or number not in inside:
                continue
            self.branches |= kind == "attribute" and inside[number] == "graph"
            if self._message(inside[number], start, at, depth + 1):
                return True
        return False

    def _note(self, kind: str, number: int, start: int, end: int) -> None:
        """Keep the names that :meth:`disorder` looks at."""
        if kind == "step":
            self._steps[-1].note(number, self._data[start:end])
        elif _GIVEN.get(kind) == number:
            self._given.add(self._data[start:end])

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


def _shown(name: bytes) -> str:
    return repr(name.decode("utf-8", "replace"))[:60]
