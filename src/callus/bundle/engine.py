"""Runs a bundle's graph with ONNX Runtime on the CPU. A place for OpenVINO is where :class:`Engine` is made."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.errors import BundleError, CallusError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.bundle.format import Bundle

FLOAT32: Final = "onnx-float32"
INPUT: Final = "radiograph"
OUTPUTS: Final = ("logit", "map", "features")
_RANKS: Final = {"logit": 1, "map": 3, "features": 2}
_SEVERITY_ERROR: Final = 3
_SEVERITY_FATAL: Final = 4


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
        name: "onnx-float32"; answers name it.
        threads: how many cores one run uses.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, name: str = FLOAT32) -> None:
        """Load the graph.

        Args:
            bundle: verified.
            threads: cores for one run; None for all that this process may use.
            name: which of the bundle's engines.

        Raises:
            BundleError: ONNX Runtime refuses the graph, or its inputs and outputs are not a bundle's.
            CallusError: ``threads`` is below 1.
        """
        if threads is not None and threads < 1:
            raise CallusError(f"threads is {threads}; expected 1 or more")
        self.name = name
        self.threads = threads or usable_cores()
        self._spec = bundle.spec
        self._stride = bundle.map_stride
        file = bundle.engine_info(name).file
        self._where = bundle.where / file
        self._session = self._load(bundle.read(file))
        self._check_graph()

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """Run the network.

        Args:
            batch: float32 (n, 3, height, width), scaled as the bundle's ``input`` says.

        Raises:
            CallusError: the batch does not fit the graph.
            BundleError: the graph fails, or gives something that is no number.
        """
        expected = (3, self._spec.height, self._spec.width)
        if batch.ndim != len(expected) + 1 or batch.shape[1:] != expected or batch.dtype != np.float32:
            raise CallusError(f"the batch is {batch.dtype} {batch.shape}; expected float32 (n, {str(expected)[1:]}")
        try:
            logit, heat, features = self._session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(batch)})
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise BundleError(f"the network fails: {_one_line(error)}", where=self._where) from error
        self._check_outputs(len(batch), logit, heat, features)
        return Outputs(logit, np.clip(heat, 0.0, 1.0), features)

    def _load(self, graph: bytes) -> Any:
        import onnxruntime  # noqa: PLC0415 - half of the time that importing callus.identify takes

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SEVERITY_FATAL
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Cores that wait in a busy loop are cores that do not decode the next file.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        onnxruntime.set_default_logger_severity(_SEVERITY_ERROR)
        try:
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load the graph: {_one_line(error)}", where=self._where
            ) from error

    def _check_graph(self) -> None:
        """Names, types and shapes, all problems at once."""
        inputs = {value.name: value for value in self._session.get_inputs()}
        outputs = {value.name: value for value in self._session.get_outputs()}
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


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mismatch(value: Any, wanted: tuple[int | None, ...]) -> list[str]:
    """What is wrong with one input or output; a dimension without a number may be anything until it runs."""
    shape = list(value.shape)
    same = len(shape) == len(wanted) and all(
        not isinstance(actual, int) or size is None or actual == size
        for actual, size in zip(shape, wanted, strict=True)
    )
    problems = (
        [] if same else [f"{value.name} is {shape}, expected {['n' if size is None else size for size in wanted]}"]
    )
    if shape and isinstance(shape[0], int):
        problems.append(f"{value.name} takes a batch of {shape[0]} only, expected any")
    if value.type != "tensor(float)":
        problems.append(f"{value.name} is {value.type}, expected tensor(float)")
    return problems


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
