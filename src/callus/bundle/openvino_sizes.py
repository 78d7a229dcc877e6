"""Sizes in a network of OpenVINO's own format: OpenVINO computes them when it reads it, so they are short lists.

A size there is computed by layers, as everything is, and one that repeats a number could make ten thousand million of
it before any of them is a size. What is told here are bounds: how many sides, how many numbers, and how large they can
be.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree import ElementTree as ET

SOURCES: Final = ("Parameter", "Const")
"""Layers that need no input."""
SIZED: Final = (
    *(
        "Broadcast",
        "Gather",
        "Interpolate",
        "Pad",
        "Range",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "TopK",
        "Transpose",
    ),
    *("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Unsqueeze"),
    "VariadicSplit",
)
"""Layers whose inputs but the first are sizes, axes or places."""
MOST_SIZES: Final = 64
"""Numbers of a list of sizes or axes."""
MOST_RANK: Final = 32
"""Sides of a tensor, by a bound that is wide where a list is cut in parts; none has more than 5 in fact."""
_TOO_MANY: Final = MOST_SIZES + 1
_ENDLESS: Final = 1 << 70
"""Beyond all numbers of 64 bits."""
_PICKING: Final = ("Convert", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze", "VariadicSplit")
_PAIRING: Final = ("Add", "Divide", "Gather", "Maximum", "Minimum", "Multiply", "Subtract")
"""Layers that sizes may come from besides constants, shapes, and what joins or repeats them: they give no more than
they take, or than one for each pair of what they take."""
_MAKERS: Final = frozenset((*_PICKING, *_PAIRING, "Broadcast", "Concat", "Range"))
_FEWEST: Final = {"Add": 2, "Broadcast": 2, "Gather": 3, "Range": 3, "Reshape": 2, "Subtract": 2, "Unsqueeze": 2}
_NUMBERS: Final = {"i64": "q", "i32": "i"}


class Layer(NamedTuple):
    """A layer of the .xml.

    Attributes:
        kind: its type.
        ports: the names of its inputs, in their order.
        data: its attributes.
    """

    kind: str
    ports: list[str]
    data: Mapping[str, str]


class _Known(NamedTuple):
    """Bounds of what a layer gives.

    Attributes:
        rank: sides.
        length: numbers, where they can be a size; else more than :data:`MOST_SIZES`.
        low: the least number that there can be.
        high: the greatest.
    """

    rank: int
    length: int = _TOO_MANY
    low: int = -_ENDLESS
    high: int = _ENDLESS


def check_sizes(layers: dict[str, Layer], root: ET.Element, weights: bytes) -> None:
    """Refuse sizes that do not come from constants and other sizes, or that are no short lists.

    Args:
        layers: by their numbers.
        root: of the .xml, which holds what takes what.
        weights: the .bin.

    Raises:
        ValueError: says what is wrong.
    """
    sources: dict[str, dict[int, str]] = {number: {} for number in layers}
    for edge in root.iter("edge"):
        source, target = edge.get("from-layer", ""), edge.get("to-layer", "")
        if source not in layers or target not in layers:
            raise ValueError("a layer takes what no layer gives")
        ports, port = layers[target].ports, edge.get("to-port", "")
        place = ports.index(port) if port in ports else -1
        if place < 0 or place in sources[target]:
            raise ValueError("a layer takes two things in one place, or one in none")
        sources[target][place] = source
    known: dict[str, _Known] = {}
    for number, layer in layers.items():  # as OpenVINO writes them: what a layer takes stands before it
        taken = sources[number]
        if not known.keys() >= set(taken.values()):
            raise ValueError("a layer takes what a later one gives")
        known[number] = _checked(layer, [known[taken[place]] for place in sorted(taken)], weights)


def _checked(layer: Layer, taken: list[_Known], weights: bytes) -> _Known:
    """What is known of what a layer gives; a ValueError where that cannot be bounded."""
    if len(taken) < max(len(layer.ports), _FEWEST.get(layer.kind, 0)):
        raise ValueError(f"{layer.kind} lacks inputs")
    sizes = taken if layer.kind == "Range" else taken[1:]
    if layer.kind in SIZED and any(one.length > MOST_SIZES for one in sizes):
        raise ValueError(f"{layer.kind} takes a size that is computed or too long")
    made = _known(layer, taken, weights)
    if made.rank > MOST_RANK:
        raise ValueError(f"{layer.kind} gives more than {MOST_RANK} sides")
    return made


def _known(layer: Layer, taken: list[_Known], weights: bytes) -> _Known:
    """What is known of what a layer gives."""
    if layer.kind in SOURCES:
        return _source(layer, weights)
    if layer.kind == "ShapeOf":
        one = taken[0]
        return _Known(1, max(1, one.rank), 0, one.length if one.length <= MOST_SIZES else _ENDLESS)
    if layer.kind not in _MAKERS:
        return _Known(max(one.rank for one in taken))
    low, high = _range(layer, taken)
    return _Known(_rank(layer.kind, taken), min(_length(layer.kind, taken), _TOO_MANY), low, high)


def _source(layer: Layer, weights: bytes) -> _Known:
    sides = [side.strip() for side in layer.data.get("shape", "").split(",") if side]
    if layer.kind == "Parameter" or not all(map(str.isdecimal, sides)):
        return _Known(len(sides))
    count, packed = math.prod(map(int, sides)), _NUMBERS.get(layer.data.get("element_type", ""))
    begin = layer.data.get("offset", "")
    if packed is None or not 0 < count <= MOST_SIZES or not begin.isdecimal():
        return _Known(len(sides), count)
    layout = f"<{count}{packed}"
    if int(begin) + struct.calcsize(layout) > len(weights):
        raise ValueError("a constant lies outside of the weights")
    values = struct.unpack_from(layout, weights, int(begin))
    return _Known(len(sides), count, min(values), max(values))


def _rank(kind: str, taken: list[_Known]) -> int:
    if kind == "Reshape":
        return taken[1].length
    rank = max(one.rank for one in taken)
    if kind == "Broadcast":
        return max(rank, taken[1].length)
    if kind == "Unsqueeze":
        return taken[0].rank + taken[1].length
    if kind == "Gather":
        return taken[0].rank + taken[1].rank
    return rank


def _length(kind: str, taken: list[_Known]) -> int:
    if kind == "Broadcast":  # to a list: its size is one number
        return max(1, taken[0].length) * max(1, taken[1].high) if taken[1].length == 1 else _TOO_MANY
    if kind == "Range":
        return max(1, taken[1].high - taken[0].low) if taken[2].low >= 1 else _TOO_MANY
    if kind == "Concat":
        return sum(one.length for one in taken)
    if kind in _PAIRING:
        return math.prod(max(1, one.length) for one in taken)
    return max(one.length for one in taken) if kind in _PICKING else _TOO_MANY


def _range(layer: Layer, taken: list[_Known]) -> tuple[int, int]:
    """The least and the greatest number."""
    first, kind = taken[0], layer.kind
    if kind == "Subtract":
        return first.low - taken[1].high, first.high - taken[1].low
    if kind == "Add":
        return first.low + taken[1].low, first.high + taken[1].high
    if kind in ("Concat", "Maximum", "Minimum"):
        return min(one.low for one in taken), max(one.high for one in taken)
    if kind == "Range":
        return first.low, taken[1].high
    same = kind in (*_PICKING, "Broadcast", "Gather")
    if not same or (kind == "Convert" and layer.data.get("destination_type") not in _NUMBERS):
        return -_ENDLESS, _ENDLESS
    return first.low, first.high
