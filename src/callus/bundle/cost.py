"""What running a network once takes, in memory and work, told before a runtime is given it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_MEMORY: Final = 1792 << 20
"""Bytes. ResNet152V2 at 448x448 takes two thirds of it, at 1024x1024 five sixths."""
MOST_WORK: Final = 400_000_000_000
"""Multiplications of an answer, the views of its bundle included. ResNet152V2 at 448x448 takes 66 thousand million a
pass, at 1024x1024 345: some seconds on two cores."""
MOST_STEPS: Final = 1000
"""That depend on the picture. ResNet152V2 has 462 in ONNX, 849 in int8. OpenVINO 2026.4 takes time by their square."""
MOST_CONSTANT_STEPS: Final = 9000
"""ResNet152V2 has 2,979 in int8."""
MOST_SHARED: Final = 8
"""What one step takes or is taken by; the trunks' have up to 5."""
MOST_IN_A_RUN: Final = 128
"""Steps one after another that only compute number by number. The longest way through a stage of ResNet152V2 has 37, in
int8 73. OpenVINO 2026.4 makes one kernel of them: for a thousand that takes it minutes."""
PLAIN_WORK: Final = 32
"""Multiplications that a core does in the time in which it takes one number from memory and puts it back."""
GROUPED: Final = 8
"""How many times longer a multiplication takes in a convolution of groups (measured: 2 to 15)."""
POOLED: Final = 4
"""How many times longer than a multiplication a number of a pool's window takes (measured: 2 to 4)."""
_COPIES_OF_WEIGHTS: Final = 5
"""The file's, the runtime's, and those in the order in which its kernels read them (measured: 3.9 to 5.0)."""
_COPIES_OF_ANSWERS: Final = 2
"""A step's answer, and the same in the order that the next kernel wants."""


@dataclass(frozen=True)
class Cost:
    """One step.

    Attributes:
        takes: what it takes that other steps give, by any key.
        gives: bytes of what it gives, by key.
        weights: bytes of the constants that it takes.
        work: multiplications.
        constant: it takes constants only, so that a runtime may run it once for all.
        plain: it computes number by number.
    """

    takes: Sequence[object] = ()
    gives: Mapping[object, int] = field(default_factory=dict)
    weights: int = 0
    work: int = 0
    constant: bool = False
    plain: bool = False


def too_much(steps: Sequence[Cost], pictures: int = 1, *, keeps: bool = True, passes: int = 1) -> str:
    """Say why a network takes more than any network for radiographs; empty where it does not.

    Args:
        steps: in an order in which they can be run.
        pictures: how many at once they were told for.
        keeps: as ONNX Runtime does, which keeps all that it computes from constants until it is done with all of it,
            and has an order of its own; what OpenVINO has read is in the order in which it runs it.
        passes: how often an answer asks the network.
    """
    once = [step for step in steps if step.constant]
    every = [step for step in steps if not step.constant]
    problem = _shape(every, len(once))
    if problem:
        return problem
    # Weights count for every step that takes them, because each may keep a copy in the order of its own kernel.
    weights = sum(step.weights for step in every)
    folded = sum(sum(step.gives.values()) for step in once) if keeps else _largest(once)
    live = max(_largest(every), _largest(_by_need(every)) if keeps else 0) // pictures
    memory = _COPIES_OF_WEIGHTS * weights + folded + _COPIES_OF_ANSWERS * live
    if memory > MOST_MEMORY:
        return f"a picture takes about {memory >> 20:,} MiB, at most {MOST_MEMORY >> 20:,} are taken"
    work = sum(step.work for step in steps) // pictures * passes
    if work > MOST_WORK:
        most = f"at most {MOST_WORK // 10**9} are done"
        views = f" in {passes} passes, for its views" if passes > 1 else ""
        return f"a picture takes {work // 10**9:,} thousand million multiplications{views}, {most}"
    return ""


def _shape(every: Sequence[Cost], constants: int) -> str:
    """Say why a runtime would take long to get the network ready; empty where it would not."""
    if len(every) > MOST_STEPS or constants > MOST_CONSTANT_STEPS:
        most = f"at most {MOST_STEPS:,} and {MOST_CONSTANT_STEPS:,} are read"
        return f"it has {len(every):,} steps and {constants:,} constant ones, {most}"
    made = {key for step in every for key in step.gives}
    uses = Counter(key for step in every for key in step.takes if key in made)
    shared = max([*uses.values(), *(len(step.takes) for step in every)], default=0)
    if shared > MOST_SHARED:
        return f"a step takes {shared:,} others, or is taken by as many, at most {MOST_SHARED} are read"
    runs: dict[object, int] = {}
    for step in every:
        length = 1 + max((runs.get(key, 0) for key in step.takes), default=0) if step.plain else 0
        if length > MOST_IN_A_RUN:
            return f"more than {MOST_IN_A_RUN} steps one after another compute number by number"
        runs.update(dict.fromkeys(step.gives, length))
    return ""


def _largest(steps: Sequence[Cost]) -> int:
    """Bytes of the answers that are still needed, where they are most."""
    last = {key: number for number, step in enumerate(steps) for key in step.takes}
    sizes: dict[object, int] = {}
    live = largest = 0
    for number, step in enumerate(steps):
        sizes.update(step.gives)
        live += sum(step.gives.values())
        largest = max(largest, live)
        done = [key for key in {*step.takes, *step.gives} if last.get(key, number) == number]
        live -= sum(sizes.pop(key, 0) for key in done)
    return largest


def _by_need(steps: Sequence[Cost]) -> list[Cost]:
    """The steps in the order in which runtimes run them: what a step needs, and then it, from the last step back."""
    maker = {key: number for number, step in enumerate(steps) for key in step.gives}
    needed = {key for step in steps for key in step.takes}
    ends = [number for number, step in enumerate(steps) if not any(key in needed for key in step.gives)]
    order: list[Cost] = []
    begun: set[int] = set()
    todo = [(number, False) for number in reversed(ends)]
    while todo:
        number, ready = todo.pop()
        if ready:
            order.append(steps[number])
        elif number not in begun:
            begun.add(number)
            todo.append((number, True))
            todo += [(maker[key], False) for key in reversed(steps[number].takes) if key in maker]
    return order
