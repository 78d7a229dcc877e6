"""Runs a bundle's network: which runtime, at which precision, on how many cores; and looks at what it gives."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import numpy as np

from callus.bundle import onnx_engine, openvino_engine
from callus.bundle.openvino_check import check_layers
from callus.bundle.runtime import INPUT, OUTPUTS, Hint
from callus.bundle.schema import ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8, passes
from callus.errors import BundleError, CallusError

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    from callus.bundle.format import Bundle
from callus.bundle.runtime import Graph, Value

AUTO: Final = "auto"
ENGINES: Final = (OPENVINO_INT8, OPENVINO_FLOAT32, ONNX_FLOAT32)
"""All that callus can run, the fastest first."""
_RANKS: Final = {"logit": 1, "map": 3, "features": 2}


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the graph returns for a batch of n.

    Attributes:
        logit: float32 (n,), not calibrated.
        map: float32 (n, h, w) in [0, 1].
        features: float32 (n, C), the pooled features.
    """

    logit: NDArray[np.float32]
    map: NDArray[np.float32]
    features: NDArray[np.float32]


class Engine:
    """A bundle's network, ready to run. Threads may share it.

    Attributes:
        bundle: what it was loaded from.
        name: which of :data:`ENGINES` it is.
        ran: the name as answers tell it, with the device where that is no CPU.
        info: what the bundle says of it: calibration, operating points, map threshold.
        threads: how many cores it uses.
        batch: how many pictures it is best given at once.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, name: str = AUTO, hint: Hint = "latency") -> None:
        """Load the graph.

        Args:
            bundle: verified.
            threads: cores to use; None for all that this process may use.
            name: which of the bundle's engines; "auto" takes what :func:`chosen` says.
            hint: whether one answer is wanted soon ("latency") or many in all ("throughput").

        Raises:
            BundleError: the bundle has no such engine, the runtime refuses the graph, or its inputs and outputs are not
                a bundle's.
            CallusError: ``threads`` is below 1, the hint is unknown, or the engine's runtime is not installed.
        """
        if threads is not None and threads < 1:
            raise CallusError(f"threads is {threads}; expected 1 or more")
        if hint not in get_args(Hint):
            raise CallusError(f"the hint is {hint!r}; expected {' or '.join(get_args(Hint))}")
        self.bundle = bundle
        self.name = _auto(bundle) if name == AUTO else name
        self.info = bundle.engine_info(self.name)
        self.threads = threads or usable_cores()
        self._spec = bundle.spec
        self._stride = bundle.map_stride
        self._where = bundle.where / self.info.file
        self._graph = self._load(bundle, hint)
        self._check_graph()
        self.batch = self._graph.batch
        self.ran = self.name if self._graph.device == "CPU" else f"{self.name} on {self._graph.device}"

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """Run the network.

        Args:
            batch: float32 (n, 3, height, width), n at least 1, scaled as the bundle's ``input`` says.

        Raises:
            CallusError: the batch does not fit the graph.
            BundleError: the graph fails, or gives something that is no number.
        """
        expected = (3, self._spec.height, self._spec.width)
        if (
            batch.ndim != len(expected) + 1
            or batch.shape[1:] != expected
            or batch.dtype != np.float32
            or not len(batch)
        ):
            raise CallusError(f"the batch is {batch.dtype} {batch.shape}; expected float32 (n, {str(expected)[1:]}")
        try:
            logit, heat, features = self._graph.run(np.ascontiguousarray(batch))
        except Exception as error:  # the runtimes' errors share no base class
            raise BundleError(f"the network fails: {_one_line(error)}", where=self._where) from error
        self._check_outputs(len(batch), logit, heat, features)
        return Outputs(logit, np.clip(heat, 0.0, 1.0), features)

    def _load(self, bundle: Bundle, hint: Hint) -> Graph:
        """Give the runtime the very bytes that were held against their hashes."""
        if self.name not in ENGINES:
            raise CallusError(f"this callus has no engine {self.name!r}; expected one of {', '.join(ENGINES)}")
        runtime = "ONNX Runtime" if self.name == ONNX_FLOAT32 else "OpenVINO"
        if runtime == "OpenVINO" and not openvino_engine.available():
            raise CallusError(
                f"the engine {self.name} needs OpenVINO, which cannot be imported",
                hint=f"pip install openvino, or take the engine {ONNX_FLOAT32}",
            )
        graph = bundle.read(self.info.file)
        weights = None if self.info.weights is None else bundle.read(self.info.weights)
        if weights is not None:
            check_layers(graph, weights, self._where)
        try:
            if runtime == "ONNX Runtime":
                return onnx_engine.OnnxGraph(graph, self.threads, hint)
            return openvino_engine.OpenVINOGraph(graph, weights, self.threads, hint, passes(bundle.views))
        except Exception as error:
            version = onnx_engine.version() if runtime == "ONNX Runtime" else openvino_engine.version()
            raise BundleError(
                f"{runtime} {version} cannot load the graph: {_one_line(error)}", where=self._where
            ) from error

    def _check_graph(self) -> None:
        """Names, types and shapes, all problems at once."""
        inputs = {value.name: value for value in self._graph.inputs}
        outputs = {value.name: value for value in self._graph.outputs}
        problems = []
        if list(inputs) != [INPUT]:
            problems.append(f"its inputs are {', '.join(inputs) or 'none'}, expected {INPUT}")
        else:
            wanted = (None, 3, self._spec.height, self._spec.width)
            problems += _mismatch(inputs[INPUT], wanted)
        size = (math.ceil(self._spec.height / self._stride), math.ceil(self._spec.width / self._stride))
        shapes = {"logit": (None,), "map": (None, *size), "features": (None, None)}
        for name in OUTPUTS:
            if name in outputs:
                problems += _mismatch(outputs[name], shapes[name])
            else:
                problems.append(f"it has no output {name}")
        if problems:
            raise BundleError(f"the graph is not a bundle's: {'; '.join(problems)}", where=self._where)

    def _check_outputs(self, count: int, *outputs: NDArray[np.float32]) -> None:
        for name, output in zip(OUTPUTS, outputs, strict=True):
            if output.ndim != _RANKS[name] or len(output) != count:
                raise BundleError(f"{name} is {output.shape} for a batch of {count}", where=self._where)
            if not np.isfinite(output).all():
                raise BundleError(f"{name} holds values that are no numbers", where=self._where)


def chosen(engines: Container[str], *, openvino: bool, gpu: bool) -> str:
    """The engine that "auto" takes.

    Args:
        engines: what the bundle holds.
        openvino: whether OpenVINO can be imported.
        gpu: whether the installed ONNX Runtime has a GPU that works.
    """
    if gpu and ONNX_FLOAT32 in engines:
        return ONNX_FLOAT32
    if openvino and OPENVINO_INT8 in engines:
        return OPENVINO_INT8
    if openvino and OPENVINO_FLOAT32 in engines:
        return OPENVINO_FLOAT32
    return ONNX_FLOAT32


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _auto(bundle: Bundle) -> str:
    return chosen(bundle.engines, openvino=openvino_engine.available(), gpu=bool(onnx_engine.gpu_providers()))


def _mismatch(value: Value, wanted: tuple[int | None, ...]) -> list[str]:
    """What is wrong with one input or output; a dimension without a number may be anything until it runs."""
    problems = []
    if value.shape is not None:
        same = len(value.shape) == len(wanted) and all(
            actual is None or size is None or actual == size for actual, size in zip(value.shape, wanted, strict=True)
        )
        if not same:
            problems.append(f"{value.name} is {_shape(value.shape)}, expected {_shape(wanted)}")
        if value.shape and value.shape[0] is not None:
            problems.append(f"{value.name} takes a batch of {value.shape[0]} only, expected any")
    if not value.float32:
        problems.append(f"{value.name} is {value.kind}, expected float32")
    return problems


def _shape(shape: tuple[int | None, ...]) -> list[int | str]:
    return ["n" if size is None else size for size in shape]


def _one_line(error: BaseException) -> str:
    told = " ".join(str(error).split())[:300]
    return "".join(letter for letter in told if letter.isprintable())  # it repeats the graph's own bytes
