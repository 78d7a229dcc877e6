"""Refuses ONNX graphs that a runtime might not survive, or that ask for more memory or time than radiographs need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callus.bundle.cost import Cost, too_much
from callus.bundle.given import Given, Tensor, weight
from callus.bundle.onnx_reader import read_network
from callus.bundle.operators import OPERATORS, PLAIN, work
from callus.bundle.shape_rules import MOST_SIDES
from callus.errors import BundleError
from callus.preprocess import CHANNELS

if TYPE_CHECKING:
    from callus.bundle.onnx_reader import Network, Step
    from callus.preprocess import InputSpec

OLDEST_OPERATORS: Final = 13
NEWEST_OPERATORS: Final = 26
"""The versions of ONNX's operators whose rules callus knows; it writes 18."""
MANY: Final = 64
"""Pictures at once: what one takes must not grow by more than that."""
_DOMAINS: Final = ("", "ai.onnx")


def check_onnx(graph: bytes, spec: InputSpec, where: object, passes: int = 1) -> None:
    """Refuse an ONNX graph that keeps tensors in other files, may never end, or takes too much memory or time.

    The size of everything that it computes is told from the input's, without a runtime. OpenVINO was seen to run for
    ever where a step takes what a later one gives, or where a version has no end; where a step lacks an input, it takes
    the process with it.

    Args:
        graph: the bytes of the .onnx file.
        spec: the bundle's input, for sides that the graph leaves open.
        where: the file, for the error.
        passes: how often an answer asks the network.

    Raises:
        BundleError: external data, a graph within a node, nodes out of order, operators or sizes that callus does not
            know, more memory or work than :mod:`callus.bundle.cost` allows, or not a protocol buffer.
    """
    network = read_network(graph, where)
    problem = _version(network) or next(iter(network.oddities), "")
    for batch in () if problem else (1, MANY):
        try:
            costs = _costs(network, spec, batch)
        except ValueError as error:
            problem = str(error)
            break
        problem = too_much(costs, batch, passes=passes)
        if problem:
            break
    if problem:
        raise BundleError(f"callus cannot load the graph: {problem}", where=where, hint="export it anew")


def _version(network: Network) -> str:
    for domain, version in network.versions.items():
        oldest = OLDEST_OPERATORS if domain in _DOMAINS else 0
        if not oldest <= version <= NEWEST_OPERATORS:
            return f"it names version {version} of its operators, {oldest} to {NEWEST_OPERATORS} are read"
    return ""


def _costs(network: Network, spec: InputSpec, batch: int) -> list[Cost]:
    """What each step takes; a ValueError says what cannot be told."""
    known = {name: weight(held) for name, held in network.weights.items()}
    given = {
        name: Tensor(_input(name, sides, spec, batch)) for name, sides in network.inputs.items() if name not in known
    }
    known |= given
    costs = [Cost(gives={name: one.bytes for name, one in given.items()})]
    for number, step in enumerate(network.steps):
        try:
            costs.append(_cost(step, known))
        except ValueError as error:
            raise ValueError(f"node {number} {error}") from error
    return costs


def _input(name: str, sides: list[int | None] | None, spec: InputSpec, batch: int) -> tuple[int, ...]:
    expected = (batch, CHANNELS, spec.height, spec.width)
    if sides is None:
        return expected
    if len(sides) > MOST_SIDES or (None in sides and len(sides) != len(expected)):
        raise ValueError(f"its input {name!r:.60} has {len(sides)} sides, expected {len(expected)}")
    if any(side is not None and side < 1 for side in sides):
        raise ValueError(f"its input {name!r:.60} has a side that is no size")
    return tuple(expected[place] if side is None else side for place, side in enumerate(sides))


def _cost(step: Step, known: dict[str, Tensor]) -> Cost:
    """What one step takes; what it gives is then known."""
    operator = OPERATORS.get(step.operator)
    if operator is None or step.domain not in _DOMAINS:
        name = f"{step.domain}.{step.operator}" if step.domain else step.operator
        raise ValueError(f"is {name!r:.60}, an operator that callus does not run")
    if len(step.takes) < operator.fewest or not all(step.takes[: operator.fewest]):
        raise ValueError(f"lacks inputs: {step.operator} takes at least {operator.fewest}")
    for name in step.takes:
        if name and name not in known:
            raise ValueError(f"takes {name!r:.60}, which nothing before it gives")
    for name in step.gives:
        if name and (name in known or step.gives.count(name) > 1):
            raise ValueError(f"gives {name!r:.60}, which is there already")
    inputs = [known[name] if name else None for name in step.takes]
    try:
        gives = operator.gives(Given(inputs, step.attributes))
    except ValueError as error:
        raise ValueError(f"({step.operator}) {error}") from error
    if len(step.gives) > len(gives):
        raise ValueError(f"({step.operator}) gives more than callus knows of")
    taken = [one for one in inputs if one is not None]
    constant = step.operator == "Shape" or all(one.constant for one in taken)
    named = {name: one for name, one in zip(step.gives, gives, strict=False) if name}
    known.update({name: Tensor(one.shape, one.values, constant, one.each) for name, one in named.items()})
    return Cost(
        [name for name in step.takes if name],
        {name: one.bytes for name, one in named.items()},
        sum(one.bytes for one in taken if one.constant),
        work(step, taken, gives),
        constant,
        step.operator in PLAIN,
    )
