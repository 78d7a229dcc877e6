"""How long an image takes in each engine of a bundle, one JSON line each.

    python bench/engines.py RUN-OR-BUNDLE
    python bench/engines.py --trunk mobilenet_v2 --side 224 [--weights FILE] [--threads 2]

Without a bundle one is made of a network that has not seen radiographs, in float32 and in
int8: its answers mean nothing, its speed is that of a trained one. Engines take turns (A B C A B C), so that whatever
else runs on the machine slows all of them alike; ``best_ms`` is what the machine can do, ``median_ms`` what it did.
``latency``: one picture, all cores. ``throughput``: many pictures, divided by their number.

The last line says what the cores do in a large float32 matrix product, in the same turns, and ``of_matrix_product``
what share of that an engine does, by the additions and multiplications of the network's convolutions and matrix
products: what it takes for everything else (activations, pooling, memory) lowers it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from callus.bundle import Bundle, Engine

if TYPE_CHECKING:
    from callus.bundle.runtime import Hint

ROUNDS, RUNS = 7, 5
SIDE = 2048
"""Of the matrices: large enough to keep cores at work, small enough to take a fifth of a second."""


def main() -> None:
    """Make or open the bundle and time its engines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--trunk", default="mobilenet_v2")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--weights", default="none", help="none, or a file in Keras' layout")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--float32", action="store_true", help="make no int8, which takes minutes for a deep trunk")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callus-bench-") as scratch:
        where = chosen.model or made(Path(scratch), chosen.trunk, chosen.side, chosen.weights, int8=not chosen.float32)
        time_engines(Bundle.load(where), chosen.threads)


def time_engines(bundle: Bundle, threads: int | None) -> None:
    """Time every engine with both hints, in turns."""
    hints: tuple[Hint, ...] = ("latency", "throughput")
    engines, loading = {}, {}
    for name in bundle.engines:
        for hint in hints:
            started = time.perf_counter()
            engines[name, hint] = Engine(bundle, threads, name, hint)
            loading[name, hint] = time.perf_counter() - started
    shape = (3, bundle.spec.height, bundle.spec.width)
    pictures = np.random.default_rng(0).uniform(-1, 1, (8, *shape)).astype(np.float32)
    times: dict[tuple[str, Hint], list[float]] = {key: [] for key in engines}
    matrices = np.random.default_rng(1).standard_normal((2, SIDE, SIDE), dtype=np.float32)
    products: list[float] = []
    for _ in range(ROUNDS):
        with threadpool_limits(engines[bundle.engines[0], "latency"].threads):
            for _ in range(RUNS):
                started = time.perf_counter()
                matrices[0] @ matrices[1]
                products.append(time.perf_counter() - started)
        for (name, hint), engine in engines.items():
            batch = pictures if hint == "throughput" else pictures[:1]
            engine.run(batch)
            for _ in range(RUNS):
                started = time.perf_counter()
                engine.run(batch)
                times[name, hint].append((time.perf_counter() - started) / len(batch))
    rate = 2 * SIDE**3 / statistics.median(products)
    work = operations(bundle)
    for (name, hint), seconds in times.items():
        line = {
            "bench": "engines",
            "model": bundle.name,
            "side": bundle.spec.height,
            "engine": engines[name, hint].ran,
            "hint": hint,
            "threads": engines[name, hint].threads,
            "load_s": round(loading[name, hint], 2),
            "best_ms": round(min(seconds) * 1e3, 2),
            "median_ms": round(statistics.median(seconds) * 1e3, 2),
            "of_matrix_product": round(work / statistics.median(seconds) / rate, 3),
            "load_average": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(line), flush=True)
    told = {"bench": "engines", "matrix_product_gflops": round(rate / 1e9, 1), "network_gflop": round(work / 1e9, 2)}
    print(json.dumps(told), flush=True)


def operations(bundle: Bundle) -> float:
    """Additions and multiplications of one picture's convolutions and matrix products."""
    spec = bundle.spec
    graph = onnx.load_from_string(bundle.read(bundle.engine_info("onnx-float32").file))
    for side, size in zip(
        graph.graph.input[0].type.tensor_type.shape.dim, (1, 3, spec.height, spec.width), strict=True
    ):
        side.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    shapes = {held.name: list(held.dims) for held in inferred.initializer}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        shapes[value.name] = [side.dim_value for side in value.type.tensor_type.shape.dim]
    total = 0.0
    for node in inferred.node:
        if node.op_type == "Conv":
            total += 2.0 * np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += 2.0 * np.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return total


def made(folder: Path, trunk: str, side: int, weights: str, *, int8: bool = True) -> Path:
    """A bundle of a network that has learnt nothing, calibrated on simulated radiographs. Other benches take it too.

    Args:
        folder: where it is made, as ``bundle/``.
        trunk: its name.
        side: of the network's input, pixels.
        weights: "none", or a file in Keras' layout.
        int8: make that engine as well.
    """
    # A bundle that is given is timed without torch.
    from callus.dataset import usable  # noqa: PLC0415
    from callus.dataset.simulated import simulate  # noqa: PLC0415
    from callus.training import export, quantise  # noqa: PLC0415
    from callus.training import recipe as recipes  # noqa: PLC0415
    from callus.training.batches import Pictures  # noqa: PLC0415
    from callus.training.denormals import flushed_denormals  # noqa: PLC0415
    from callus.training.examples import PLAIN, Examples  # noqa: PLC0415
    from callus.training.run import initial_network  # noqa: PLC0415
    from callus.training.weights import settle  # noqa: PLC0415

    changes = {"trunk.name": trunk, "trunk.weights": weights, "input.height": side, "input.width": side}
    recipe = recipes.override(recipes.load("callus"), changes)
    keys = ("recipe", "splits", "files", "radiographs", "groups")
    training = dict.fromkeys(keys) | {"trunk": trunk, "weights": Path(weights).name, "manifest_sha256": "0" * 64}
    with (
        flushed_denormals(),
        patch.object(export, "MOST_LOST", 1.0),  # chance cannot be lost
        patch.object(quantise, "MOST_LOST", 1.0),
    ):
        network = initial_network(recipe)
        examples = Examples(usable(simulate(folder / "data", 32, seed=0)), recipe)
        if network.fresh_trunk:
            settle(network, [examples.pictures(range(16), [PLAIN] * 16)])
        pictures = Pictures(examples, 8, 2)
        bundle = export.export_bundle(
            network, pictures, recipe, training, folder / "bundle", f"{trunk} {side}", int8=int8
        )
    for engine, reason in bundle.info.get("engines_left_out", {}).items():
        print(
            json.dumps({"bench": "engines", "model": bundle.name, "left_out": engine, "reason": reason}),
            flush=True,
        )
    return bundle.where


if __name__ == "__main__":
    main()
