"""A graph in ONNX Runtime: on the CPU, or on a GPU where the installed ONNX Runtime has one."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.bundle.runtime import INPUT, OUTPUTS, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from callus.bundle.runtime import Hint

GPU_PROVIDERS: Final = {
    # TensorFloat-32 keeps ten bits of each factor: the answers would be another machine's no more.
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "MIGraphXExecutionProvider": {},  # AMD's; before ONNX Runtime 1.23 there was one of ROCm too
    "ROCMExecutionProvider": {},
}
"""Those that calculate in float32. TensorRT and CoreML take fewer bits unasked, and DirectML one run at a time."""
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
        """See :class:`callus.bundle.runtime.Graph`.

        A GPU is always given as many pictures at once: each new number is compiled for (MIGraphX, for minutes), or
        tried out (CUDA).
        """
        if self.device == "CPU":
            return self._answers(batch)
        answers = []
        for start in range(0, len(batch), self.batch):
            part = batch[start : start + self.batch]
            short = self.batch - len(part)
            full = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
            answers.append([answer[: len(part)] for answer in self._answers(full)])
        return [np.concatenate(parts) for parts in zip(*answers, strict=True)]

    def _answers(self, batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
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
    onnxruntime = importlib.import_module("onnxruntime")
    there = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in there and hasattr(onnxruntime, "preload_dlls"):
        # CUDA and cuDNN that pip has installed lie where no loader looks. What is missing is told on stdout.
        with redirect_stdout(StringIO()), suppress(Exception):
            onnxruntime.preload_dlls()
    return tuple(name for name in GPU_PROVIDERS if name in there and _works(name))


def open_session(graph: bytes, threads: int) -> Any:
    """Load a graph where it runs fastest: on a GPU that works and takes it, else on the CPU.

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
    for name in gpu_providers():  # another program may have taken its memory, for instance
        with suppress(Exception):
            return _session(onnxruntime, graph, options, [(name, GPU_PROVIDERS[name]), "CPUExecutionProvider"])
    return _session(onnxruntime, graph, options, ["CPUExecutionProvider"])


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
        session = _session(onnxruntime, _GIVES_BACK, options, [(provider, GPU_PROVIDERS[provider])])
    except Exception:  # noqa: BLE001 - ONNX Runtime's kinds, which share no base class
        return False
    return bool(session.get_providers()[0] == provider)


def _session(onnxruntime: Any, graph: bytes, options: Any, providers: list[Any]) -> Any:
    """A session with these providers or none: ONNX Runtime itself would take others, and say so on stdout."""
    return onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=0)


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
