"""What every runtime gives: a loaded graph that says what it takes and returns, and runs batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

INPUT: Final = "radiograph"
OUTPUTS: Final = ("logit", "map", "features")

Hint = Literal["latency", "throughput"]
"""What the cores are shared out for: one answer soon, or many answers in all."""


@dataclass(frozen=True)
class Value:
    """An input or output of a graph.

    Attributes:
        name: as the graph has it.
        shape: None for a dimension that is open; None for all where not even their number is known.
        kind: of its numbers, as the runtime calls it.
        float32: whether its numbers are float32.
    """

    name: str
    shape: tuple[int | None, ...] | None
    kind: str
    float32: bool


class Graph(Protocol):
    """A network in a runtime's memory. Threads may share it.

    Attributes:
        inputs: what it takes.
        outputs: what it returns.
        device: what it runs on, "CPU" or "GPU".
        batch: how many pictures it is best given at once.
    """

    inputs: list[Value]
    outputs: list[Value]
    device: str
    batch: int

    def run(self, batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """Give logit (n,), map (n, h, w) and features (n, C) for float32 (n, 3, height, width), C-contiguous.

        Raises:
            Exception: of the runtime's own kinds.
        """
