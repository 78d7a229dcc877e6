"""The networks that bench/peers.py lets take turns: all from the same random weights. Not a benchmark of its own."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from callus.bundle.openvino_engine import import_openvino

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "support")]
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray

APPLICATIONS = {
    "resnet50v2": "ResNet50V2",
    "resnet101v2": "ResNet101V2",
    "resnet152v2": "ResNet152V2",
    "mobilenet_v2": "MobileNetV2",
}
NAMES = {
    "keras": "tensorflow",
    "keras-function": "tensorflow",
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "openvino-float32": "openvino",
    "openvino-int8": "nncf",
    "callus-float32": "openvino",
    "callus": "openvino",
}
"""Every peer, and the module that it cannot do without."""


@dataclass(frozen=True)
class Work:
    """What all peers are given.

    Attributes:
        jpegs: each radiograph as a JPEG's bytes.
        arrays: float32 (n, 3, height, width), the same as a network takes them.
        batch: how many are given at once.
        threads: cores.
        folder: for files; weights.h5 and bundle/ are found there or made.
        trunk: its name.
    """

    jpegs: list[bytes]
    arrays: NDArray[np.float32]
    batch: int
    threads: int
    folder: Path
    trunk: str

    def batches(self, arrays: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Arrays in batches."""
        return [arrays[at : at + self.batch] for at in range(0, len(arrays), self.batch)]


@dataclass(frozen=True)
class Peer:
    """One way to an answer.

    Attributes:
        one: answer the radiograph of an index; float.
        many: answer all; (n,).
        what: of its work is counted.
    """

    one: Callable[[int], float]
    many: Callable[[], NDArray[np.float32]]
    what: str = "bare network"


def make_peers(names: list[str], work: Work) -> dict[str, Peer]:
    """Load every network, each with the same weights."""
    weights = work.folder / "weights.h5"
    if not weights.exists():
        draw_weights(work, weights)
    makers: dict[str, Callable[[Work], Peer]] = {
        "keras": lambda work: keras_peer(work, compiled=False),
        "keras-function": lambda work: keras_peer(work, compiled=True),
        "torch": torch_peer,
        "onnxruntime": onnx_peer,
        "openvino-float32": lambda work: openvino_peer(work, int8=False),
        "openvino-int8": lambda work: openvino_peer(work, int8=True),
        "callus-float32": lambda work: callus_peer(work, "openvino-float32"),
        "callus": lambda work: callus_peer(work, "openvino-int8"),
    }
    return {name: makers[name](work) for name in names}


def draw_weights(work: Work, file: Path) -> None:
    """Write a random trunk's weights in Keras' layout, with batch norm that keeps its activations alive."""
    import torch  # noqa: PLC0415 - only where the peer is wanted, here and below
    from legacy_weights import write_legacy  # noqa: PLC0415

    from callus.model.network import build_network  # noqa: PLC0415
    from callus.training.weights import settle  # noqa: PLC0415

    torch.manual_seed(0)
    network = build_network(work.trunk, head="pooled", width=0, dense=[], dropout=0.0, location=False)
    settle(network, [torch.from_numpy(work.arrays)])
    write_legacy(network.trunk, file)


def dense_unit(channels: int) -> NDArray[np.float32]:
    """The weights of the one dense unit that bare networks end in: float32 (channels,)."""
    return np.random.default_rng(0).normal(0, channels**-0.5, channels).astype(np.float32)


def keras_peer(work: Work, *, compiled: bool) -> Peer:
    """Keras on TensorFlow, channels last as it is by default."""
    import keras  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    with suppress(RuntimeError):  # the other Keras peer has set it
        tf.config.threading.set_intra_op_parallelism_threads(work.threads)
    arrays = np.ascontiguousarray(work.arrays.transpose(0, 2, 3, 1))
    application = getattr(keras.applications, APPLICATIONS[work.trunk])
    trunk = application(include_top=False, weights=None, input_shape=arrays.shape[1:])
    trunk.load_weights(work.folder / "weights.h5", by_name=True)
    pooled = keras.layers.GlobalAveragePooling2D()(trunk.output)
    unit = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model(trunk.input, unit(pooled))
    unit.set_weights([dense_unit(pooled.shape[-1])[:, None], np.zeros(1, dtype=np.float32)])
    if compiled:
        function = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
        run = lambda x: function(tf.constant(x)).numpy()[:, 0]  # noqa: E731
    else:
        run = lambda x: model.predict(x, batch_size=work.batch, verbose=0)[:, 0]  # noqa: E731
    batches = work.batches(arrays) if compiled else [arrays]  # predict makes batches itself
    return in_batches(run, arrays, batches)


def torch_peer(work: Work) -> Peer:
    """Torch as it is: eager, channels first."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(work.threads)
    network = bare_network(work)

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(x)).numpy()

    return in_batches(run, work.arrays, work.batches(work.arrays))


def onnx_peer(work: Work) -> Peer:
    """ONNX Runtime with its defaults."""
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work.threads
    session = onnxruntime.InferenceSession(bare_graph(work), options, providers=["CPUExecutionProvider"])
    return in_batches(lambda x: session.run(None, {"x": x})[0], work.arrays, work.batches(work.arrays))


def openvino_peer(work: Work, *, int8: bool) -> Peer:
    """OpenVINO: all cores for one, or a stream a core for many."""
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(bare_graph(work))
    if int8:
        model = quantised(model, work)
    model.reshape([1, *work.arrays.shape[1:]])
    fixed = {"INFERENCE_NUM_THREADS": work.threads, "INFERENCE_PRECISION_HINT": "f32"}
    soon = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", **fixed})
    queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", **fixed}))
    answers = np.zeros(len(work.arrays), dtype=np.float32)
    queue.set_callback(lambda request, index: answers.__setitem__(index, request.get_output_tensor(0).data[0]))

    def many() -> NDArray[np.float32]:
        for index in range(len(work.arrays)):
            queue.start_async({0: work.arrays[index : index + 1]}, index)
        queue.wait_all()
        return answers.copy()

    return Peer(lambda index: float(soon({0: work.arrays[index : index + 1]})[0][0]), many)


def quantised(model: Any, work: Work) -> Any:
    """The bare network in int8, in the way of callus.training.quantise."""
    import nncf  # noqa: PLC0415

    pictures = nncf.Dataset([work.arrays[index : index + 1] for index in range(len(work.arrays))])
    with redirect_stdout(sys.stderr):  # its bars
        return nncf.quantize(
            model,
            pictures,
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(work.arrays),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )


def callus_peer(work: Work, engine: str) -> Peer:
    """All of callus: bytes in, findings with map and boxes out."""
    import engines  # noqa: PLC0415 - of bench/

    from callus import Identifier  # noqa: PLC0415

    bundle = work.folder / "bundle"
    if not bundle.exists():
        engines.made(work.folder, work.trunk, work.arrays.shape[-1], str(work.folder / "weights.h5"))
    soon = Identifier(bundle, engine=engine, threads=work.threads)
    flow = Identifier(bundle, engine=engine, threads=work.threads, hint="throughput")

    def many() -> NDArray[np.float32]:
        return np.array([finding.probability for _, _, finding in flow.identify_many(work.jpegs)], dtype=np.float32)

    return Peer(lambda index: soon.identify(work.jpegs[index]).probability, many, "JPEG bytes to finding")


def in_batches(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    arrays: NDArray[np.float32],
    batches: list[NDArray[np.float32]],
) -> Peer:
    """A peer that takes arrays."""
    return Peer(
        lambda index: float(run(arrays[index : index + 1])[0]),
        lambda: np.concatenate([run(batch) for batch in batches]),
    )


def bare_network(work: Work) -> torch.nn.Module:
    """The trunk, the mean over places, one dense unit: (n, 3, h, w) to (n,)."""
    import torch  # noqa: PLC0415

    from callus.model.imagenet import load_weights  # noqa: PLC0415
    from callus.model.trunks import build_trunk  # noqa: PLC0415

    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = build_trunk(work.trunk)
            load_weights(self.trunk, work.folder / "weights.h5")
            self.register_buffer("unit", torch.from_numpy(dense_unit(self.trunk.channels[-1])))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.trunk(x)[-1].mean((2, 3)) @ self.unit)

    return Bare().eval()


def bare_graph(work: Work) -> Path:
    """The bare network as ONNX, with a batch of any size."""
    import torch  # noqa: PLC0415

    file = work.folder / "bare.onnx"
    if not file.exists():
        torch.onnx.export(
            bare_network(work),
            (torch.from_numpy(work.arrays[:2]),),
            str(file),
            dynamo=True,
            opset_version=18,
            input_names=["x"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            external_data=False,
            verbose=False,
        )
    return file
