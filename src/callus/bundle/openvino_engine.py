"""A graph in OpenVINO on the CPU: an ONNX graph in float32, or OpenVINO's own format in int8."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.bundle.openvino_check import too_large
from callus.bundle.runtime import INPUT, OUTPUTS, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

from callus.bundle.runtime import Hint

_TELEMETRY: Final = "openvino_telemetry"
_one_at_a_time = threading.RLock()
_BATCHES_A_REQUEST: Final = 4
"""Pictures that each stream is given in one run: fewer leave it idle while the last answers are put together."""


def import_openvino() -> Any:
    """Import OpenVINO without what tells its maker who uses it, and how.

    ``import openvino`` sends an event and gives the machine a lasting identifier where the package openvino_telemetry
    can be imported, and nncf sends more; both do without where it cannot. Nothing may leave a machine that holds
    radiographs.

    Raises:
        ImportError: it is not installed, or cannot be loaded on this machine.
    """
    silence()
    openvino = importlib.import_module("openvino")
    # Its table of NumPy's types is made at its first use, and whoever makes it lets go of Python's lock in between: two
    # threads that need it first, as when two batches are answered at once, would wait for each other for ever.
    with _one_at_a_time:
        openvino.Type.f32.to_dtype()
    return openvino


def core() -> Any:
    """OpenVINO's Core: one for the whole process, which is never given back.

    Its CPU plugin gives the thread in which it is first used a stack for signals, and unmaps that when it goes. With
    several that go in another order, or in another thread, the next signal that Python hears (Ctrl-C, SIGTERM) would
    end the process by a fault of memory, for its handlers run on that stack.
    """
    with _one_at_a_time:
        return _only_core()


@functools.cache
def _only_core() -> Any:
    return import_openvino().Core()


def silence() -> None:
    """Keep openvino_telemetry from sending in this process; call it before openvino or nncf is imported."""
    loaded = sys.modules.get(_TELEMETRY)
    if loaded is None:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's way to say: cannot be imported
    else:  # the program that callus runs in has imported it before
        importlib.import_module(f"{_TELEMETRY}.main").TelemetrySender.send = _send_nothing


def available() -> bool:
    """Whether OpenVINO can be imported."""
    try:
        import_openvino()
    except (ImportError, OSError):  # OSError: a shared library that this machine cannot load
        return False
    return True


def version() -> str:
    """OpenVINO's version."""
    return str(import_openvino().__version__).partition("-")[0]


class OpenVINOGraph:
    """A graph compiled for this CPU. Threads may share it.

    A picture is one request, whatever the batch: an answer then never depends on what else was in the batch, and with
    the hint "throughput" each core works on a picture of its own.

    Compiled models are not kept on the disk: that would be machine code that no hash of the bundle vouches for.
    """

    def __init__(self, graph: bytes, weights: bytes | None, threads: int, hint: Hint, passes: int = 1) -> None:
        """Compile it.

        Args:
            graph: the bytes of an .onnx file that holds all its weights, or of OpenVINO's .xml.
            weights: the bytes of the .bin that goes with an .xml; None with an .onnx.
            threads: cores for all requests together.
            hint: "latency" gives all cores to one picture, "throughput" one to each of several.
            passes: how often an answer will ask it.

        Raises:
            RuntimeError: OpenVINO cannot read or compile it.
            ValueError: it would take more memory or time than a network for radiographs does.
        """
        model = core().read_model(model=graph) if weights is None else core().read_model(model=graph, weights=weights)
        self.inputs = [_value(port) for port in model.inputs]
        self.outputs = [_value(port) for port in model.outputs]
        self.device = "CPU"
        _one_picture(model)
        problem = too_large(model, passes) if weights is not None else ""  # an ONNX graph was looked at before
        if problem:
            raise ValueError(problem)
        compiled = core().compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": hint.upper(),
                "INFERENCE_NUM_THREADS": threads,
                # Processors with bfloat16 would use it unasked, and their answers would differ from all others'.
                "INFERENCE_PRECISION_HINT": "f32",
                # A thread that may not leave its core waits there for whatever else runs on it, such as decoding.
                "ENABLE_CPU_PINNING": False,
            },
        )
        count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.batch = 1 if hint == "latency" else _BATCHES_A_REQUEST * count
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(count):
            self._free.put(compiled.create_infer_request())

    def run(self, batch: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """See :class:`callus.bundle.runtime.Graph`."""
        answers: list[list[NDArray[np.float32]]] = []
        running: deque[Any] = deque()  # requests of this call, in the order of the batch
        try:
            for index in range(len(batch)):
                request = self._request(running, answers)
                running.append(request)
                request.start_async({0: batch[index : index + 1]}, share_inputs=True)
            while running:
                self._free.put(_finish(running, answers))
        finally:  # after an error; nobody waits for these any more, but the next call needs the requests
            while running:
                request = running.popleft()
                with suppress(RuntimeError):
                    request.cancel()
                    request.wait()
                self._free.put(request)
        return [np.concatenate(parts) for parts in zip(*answers, strict=True)]

    def _request(self, running: deque[Any], answers: list[list[NDArray[np.float32]]]) -> Any:
        """A request that is free: from the queue, or our own oldest one once it has answered.

        A call never waits for the queue while it holds requests, so that no two calls wait for each other.
        """
        try:
            return self._free.get_nowait()
        except Empty:
            return _finish(running, answers) if running else self._free.get()


def _finish(running: deque[Any], answers: list[list[NDArray[np.float32]]]) -> Any:
    """Wait for the oldest request, keep its answer, and give the request back."""
    running[0].wait()
    request = running.popleft()
    answers.append([np.array(request.get_tensor(name).data) for name in OUTPUTS])
    return request


def _one_picture(model: Any) -> None:
    """Fix an open batch at 1, for which the CPU's kernels are then made."""
    if len(model.inputs) != 1:
        return
    shape = model.inputs[0].get_partial_shape()
    if shape.rank.is_static and len(shape) and shape[0].is_dynamic:
        shape[0] = 1
        model.reshape({model.inputs[0]: shape})


def _value(port: Any) -> Value:
    """What OpenVINO knows of an input or output, which may have several names, of which ours is told."""
    shape = port.get_partial_shape()
    sizes = tuple(size.get_length() if size.is_static else None for size in shape) if shape.rank.is_static else None
    names = sorted(port.get_names(), key=lambda name: (name not in (INPUT, *OUTPUTS), name))
    kind = port.get_element_type().get_type_name()
    return Value(names[0] if names else "", sizes, kind, kind == "f32")


def _send_nothing(*_args: object, **_named: object) -> None:
    return
