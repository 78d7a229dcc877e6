"""What is known of the tensors in a network before it runs, and what a step of it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from callus.bundle.onnx_reader import MOST_VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from callus.bundle.onnx_reader import Weights

FLOAT32, UINT8, INT8, INT32, INT64, BOOL, FLOAT16 = 1, 2, 3, 6, 7, 9, 10
KINDS: Final = (FLOAT32, UINT8, INT8, INT32, INT64, BOOL, FLOAT16)
"""Types of numbers, by ONNX's number. Of INT64 only so many are taken as sizes and axes need."""
MOST_PLACES: Final = 16 * MOST_VALUES
"""Numbers of INT64 in one tensor."""


@dataclass(frozen=True)
class Tensor:
    """What is known of a tensor.

    Attributes:
        shape: its sizes.
        values: its numbers in a row, where it is small and they are known.
        constant: it comes from weights alone.
        each: bytes of one number at most.
    """

    shape: tuple[int, ...]
    values: tuple[float, ...] | None = None
    constant: bool = False
    each: int = 4

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self.each * self.count


class Given:
    """What a step is given; what its rule has not asked for is held against it.

    Attributes:
        inputs: None where one is left out.
    """

    def __init__(self, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self._attributes = dict(attributes)

    def tensor(self, index: int) -> Tensor:
        """Give an input that has to be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise ValueError(f"lacks its input {index}")
        return found

    def has(self, index: int) -> bool:
        """Whether an input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def whole(self, name: str, default: int) -> int:
        """Give an attribute that is a whole number."""
        value = self._attributes.pop(name, default)
        if not isinstance(value, int):
            raise ValueError(f"has {name} that is no whole number")  # noqa: TRY004 - all that is wrong here is one kind
        return value

    def text(self, name: str, *expected: str) -> str:
        """Give an attribute that is one of some words; the first is what it is where it is missing."""
        value = self._attributes.pop(name, expected[0])
        if value not in expected:
            raise ValueError(f"has {name} {value!r:.40}, expected {' or '.join(expected)}")
        return str(value)

    def whole_list(self, name: str, default: Sequence[int], length: int | None = None) -> list[int]:
        """Give an attribute that is a list of whole numbers."""
        value = self._attributes.pop(name, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, int) for one in value):
            raise ValueError(f"has {name} that is no list of whole numbers")
        if length is not None and len(value) != length:
            raise ValueError(f"has {len(value)} {name}, expected {length}")
        return list(value)

    def any(self, *names: str) -> None:
        """Pass over attributes that change no size."""
        for name in names:
            self._attributes.pop(name, None)

    def values(self, index: int) -> tuple[float, ...]:
        """Give the numbers of an input, which must not depend on the picture."""
        values = self.tensor(index).values
        if values is None:
            raise ValueError("takes a size that is computed or too long")
        return values

    def axes(self, name: str, index: int, rank: int) -> list[int] | None:
        """Give axes, from an attribute or an input, as numbers from 0; None where there are none."""
        if name in self._attributes:
            given: Sequence[float] = self.whole_list(name, ())
        elif self.has(index):
            given = self.values(index)
        else:
            return None
        return [axis(one, rank) for one in given]

    def only(self) -> Any:
        """Give the attribute of a step that has one; None where it has another number of them."""
        return self._attributes.popitem()[1] if len(self._attributes) == 1 else None

    def rest(self) -> None:
        """Refuse what the rule did not ask for."""
        if self._attributes:
            raise ValueError(f"has {next(iter(self._attributes))!r:.60}, which callus does not know")


def axis(value: float, rank: int) -> int:
    """An axis as a number from 0."""
    if not -rank <= value < rank:
        raise ValueError(f"names axis {value} of {rank}")
    return int(value) % rank


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of tensors that are stretched to each other."""
    rank = max(map(len, shapes))
    sides = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result = tuple(max(column) for column in zip(*sides, strict=True))
    if any(side not in (1, whole) for shape in sides for side, whole in zip(shape, result, strict=True)):
        raise ValueError(f"joins tensors of shapes {' and '.join(map(str, shapes))}")
    return result


def weight(held: Weights) -> Tensor:
    """What is known of a tensor that the graph holds.

    Raises:
        ValueError: its type, or it says to be larger than what it holds.
    """
    count = math.prod(held.shape)
    if held.kind not in KINDS or (held.kind == INT64 and count > MOST_PLACES):
        raise ValueError(f"weights of type {held.kind} and shape {held.shape}, which no network here has"[:120])
    if min(held.shape, default=1) < 0 or count > held.bytes:
        raise ValueError(f"weights of shape {held.shape} in {held.bytes} bytes"[:120])
    values = held.values if held.values is not None and len(held.values) == count else None
    return Tensor(held.shape, values, constant=True)
