"""A graph in ONNX Runtime: on the CPU, or on a GPU where the installed ONNX Runtime has one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from callus.bundle.runtime import INPUT, OUTPUTS, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

GPU_PROVIDERS: Final = {
    # TensorFloat-32 keeps ten bits of each factor: the answers would be another machine's no more.
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "ROCMExecutionProvider": {},
}
_SEVERITY_ERROR: Final = 3
_SEVERITY_FATAL: Final = 4


class OnnxGraph:
    """An ONNX graph, ready to run. Threads may share it."""

    def __init__(self, graph: bytes, threads: int) -> None:
        """Load it.

        Args:
            graph: the bytes of an .onnx file that holds all its weights.
            threads: cores for one run.

        Raises:
            Exception: ONNX Runtime's own kinds, which share no base class.
        """
        self._session = _session(graph, threads)
        self.inputs = [_value(node) for node in self._session.get_inputs()]
        self.outputs = [_value(node) for node in self._session.get_outputs()]
        self.device = "GPU" if self._session.get_providers()[0] in GPU_PROVIDERS else "CPU"
        self.batch = 1

    def run(self, batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """See :class:`callus.bundle.runtime.Graph`."""
        answers: Sequence[NDArray[np.float32]] = self._session.run(list(OUTPUTS), {INPUT: batch})
        return answers


def version() -> str:
    """ONNX Runtime's version."""
    return str(importlib.import_module("onnxruntime").__version__)


def gpu_providers() -> list[str]:
    """The GPU providers of the installed ONNX Runtime; it may be installed where there is no GPU."""
    # Imported late: it is half of the time that importing callus.identify takes.
    there = importlib.import_module("onnxruntime").get_available_providers()
    return [name for name in GPU_PROVIDERS if name in there]


def _session(graph: bytes, threads: int) -> Any:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SEVERITY_FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Cores that wait in a busy loop are cores that do not decode the next file.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    onnxruntime.set_default_logger_severity(_SEVERITY_ERROR)
    providers = [(name, GPU_PROVIDERS[name]) for name in gpu_providers()]
    return onnxruntime.InferenceSession(graph, options, providers=[*providers, "CPUExecutionProvider"])


def _value(node: Any) -> Value:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return Value(node.name, shape, node.type, node.type == "tensor(float)")
