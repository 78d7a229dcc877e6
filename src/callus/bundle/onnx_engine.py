"""A graph in ONNX Runtime: on the CPU, or on a GPU where the installed ONNX Runtime has one."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from callus.bundle.runtime import INPUT, OUTPUTS, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from callus.bundle.runtime import Hint

GPU_PROVIDERS: Final = {
    # TensorFloat-32 keeps ten bits of each factor: the answers would be another machine's no more.
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "ROCMExecutionProvider": {},
}
BATCH_ON_GPU: Final = 16
"""Pictures in one run with the hint "throughput": a GPU is hardly at work on one."""
_GIVES_BACK: Final = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""An ONNX graph that gives back the one number that it takes: what a provider is tried with."""
_SEVERITY_ERROR: Final = 3
_SEVERITY_FATAL: Final = 4


class OnnxGraph:
    """An ONNX graph, ready to run. Threads may share it."""

    def __init__(self, graph: bytes, threads: int, hint: Hint) -> None:
        """Load it.

        Args:
            graph: the bytes of an .onnx file that holds all its weights.
            threads: cores for one run.
            hint: with "throughput" a GPU is given many pictures at once. On the CPU all cores work on one picture
                whatever the hint: ONNX Runtime has no way to give each core one of its own.

        Raises:
            Exception: ONNX Runtime's own kinds, which share no base class.
        """
        self._session = open_session(graph, threads)
        self.inputs = [_value(node) for node in self._session.get_inputs()]
        self.outputs = [_value(node) for node in self._session.get_outputs()]
        self.device = "GPU" if self._session.get_providers()[0] in GPU_PROVIDERS else "CPU"
        self.batch = BATCH_ON_GPU if self.device == "GPU" and hint == "throughput" else 1

    def run(self, batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """See :class:`callus.bundle.runtime.Graph`."""
        answers: Sequence[NDArray[np.float32]] = self._session.run(list(OUTPUTS), {INPUT: batch})
        return answers


def version() -> str:
    """ONNX Runtime's version."""
    return str(importlib.import_module("onnxruntime").__version__)


@functools.cache
def gpu_providers() -> tuple[str, ...]:
    """The GPU providers of the installed ONNX Runtime that work: it may be installed where there is no GPU."""
    # ONNX Runtime is imported late, and not at all where it has no such file: it is half of the time that importing
    # callus.identify takes.
    if not _may_have_gpu():
        return ()
    there = importlib.import_module("onnxruntime").get_available_providers()
    return tuple(name for name in GPU_PROVIDERS if name in there and _works(name))


def open_session(graph: bytes, threads: int) -> Any:
    """Load a graph where it runs fastest: on a GPU that works, else on the CPU.

    Args:
        graph: the bytes of an .onnx file that holds all its weights.
        threads: cores for one run.

    Returns:
        ONNX Runtime's ``InferenceSession``.
    """
    onnxruntime, options = _quiet()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Cores that wait in a busy loop are cores that do not decode the next file.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [(name, GPU_PROVIDERS[name]) for name in gpu_providers()]
    return onnxruntime.InferenceSession(graph, options, providers=[*providers, "CPUExecutionProvider"])


def _may_have_gpu() -> bool:
    """Whether a GPU provider's file lies beside ONNX Runtime's own, which can be seen without importing it."""
    spec = importlib.util.find_spec("onnxruntime")
    folders = [Path(folder) / "capi" for folder in (spec.submodule_search_locations or ())] if spec else []
    kinds = [name.removesuffix("ExecutionProvider").lower() for name in GPU_PROVIDERS]
    return any(True for folder in folders for kind in kinds for _ in folder.glob(f"*onnxruntime_providers_{kind}*"))


def _works(provider: str) -> bool:
    """Whether a provider finds its device and its libraries, tried with a graph of one step."""
    onnxruntime, options = _quiet()
    try:
        session = onnxruntime.InferenceSession(
            _GIVES_BACK, options, providers=[(provider, GPU_PROVIDERS[provider])], enable_fallback=0
        )
    except Exception:  # noqa: BLE001 - ONNX Runtime's kinds, which share no base class
        return False
    return bool(session.get_providers()[0] == provider)


def _quiet() -> tuple[Any, Any]:
    """ONNX Runtime, and options with which it writes nothing on stderr."""
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SEVERITY_FATAL
    onnxruntime.set_default_logger_severity(_SEVERITY_ERROR)
    return onnxruntime, options


def _value(node: Any) -> Value:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return Value(node.name, shape, node.type, node.type == "tensor(float)")
