"""What the map and the pooled features add to the network that gives the logit."""

from __future__ import annotations

import importlib
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from callus.bundle.onnx_engine import open_session
from callus.bundle.openvino_engine import core
from callus.bundle.runtime import INPUT
from callus.bundle.schema import ONNX_FLOAT32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from callus.bundle import Bundle

_WARM: Final = 2
LOGIT: Final = "logit"


def map_share(bundle: Bundle, engine: str, threads: int, batch: NDArray[np.float32], runs: int) -> float:
    """The share of the network's time that the outputs ``map`` and ``features`` take.

    Args:
        bundle: verified.
        engine: its name.
        threads: cores.
        batch: float32 (1, 3, height, width).
        runs: how many are measured.

    Returns:
        In [0, 1]. With OpenVINO: the time of the layers that the logit does not need, of all layers' time. With
        ONNX Runtime, which does not tell which those are: the time with all outputs less that with the logit alone,
        on the device that the engine itself runs on.
    """
    if engine == ONNX_FLOAT32:
        return _by_difference(bundle.read(bundle.engine_info(engine).file), threads, batch, runs)
    return _by_layers(bundle, engine, threads, batch, runs)


def _by_layers(bundle: Bundle, engine: str, threads: int, batch: NDArray[np.float32], runs: int) -> float:
    info = bundle.engine_info(engine)
    weights = {} if info.weights is None else {"weights": bundle.read(info.weights)}
    model = core().read_model(model=bundle.read(info.file), **weights)
    model.reshape(list(batch.shape))
    # As in callus.bundle.openvino_engine, and with a clock for every layer.
    compiled = core().compile_model(
        model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
    )
    request = compiled.create_infer_request()
    layers: dict[str, list[float]] = {}
    for _ in range(_WARM):
        request.infer({0: batch})
    for _ in range(runs):
        request.infer({0: batch})
        for layer in request.get_profiling_info():
            layers.setdefault(layer.node_name, []).append(layer.real_time.total_seconds())
    medians = {name: statistics.median(taken) for name, taken in layers.items()}
    needed = needed_layers(compiled.get_runtime_model())
    whole = sum(medians.values())
    return sum(taken for name, taken in medians.items() if name not in needed) / whole if whole else 0.0


def needed_layers(executed: Any) -> set[str]:
    """Name the layers that the logit is computed from.

    Args:
        executed: the network as OpenVINO runs it: ``get_runtime_model()`` of a compiled one.
    """
    found: set[str] = set()
    # A result is named after what it gives: "logit/sink_port_0".
    waiting = [result for result in executed.get_results() if result.get_friendly_name().startswith(LOGIT)]
    while waiting:
        layer = waiting.pop()
        if layer.get_friendly_name() not in found:
            found.add(layer.get_friendly_name())
            waiting += [port.get_source_output().get_node() for port in layer.inputs()]
    return found


def _by_difference(graph: bytes, threads: int, batch: NDArray[np.float32], runs: int) -> float:
    session = open_session(graph, threads)
    path = importlib.import_module("onnxruntime").RunOptions()
    path.only_execute_path_to_fetches = True
    times: dict[tuple[str, ...] | None, list[float]] = {None: [], (LOGIT,): []}
    for run in range(_WARM + runs):
        for outputs, taken in times.items():  # in turns, so that whatever else runs slows both alike
            started = time.perf_counter()
            session.run(outputs and list(outputs), {INPUT: batch}, path)
            if run >= _WARM:
                taken.append(time.perf_counter() - started)
    asked, alone = (statistics.median(taken) for taken in times.values())
    return max(0.0, 1.0 - alone / asked)
