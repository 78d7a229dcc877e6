"""What the trunk cache is worth: the bare trunk, the first pass with reading and augmentation, and later epochs.

Prints one JSON line. Limits (of the issue): a later epoch costs at most 1/50 of the first pass, and that pass runs at
90 % or more of the bare trunk's speed on the same batch.

    python bench/trunk_cache.py --data ../shared/data/fracatlas --files 2000
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from callus import dataset
from callus.memory import keep_freed_memory
from callus.model.network import build_network
from callus.training import recipe as recipes
from callus.training.batches import CachedFeatures, fill_cache
from callus.training.examples import Examples
from callus.training.losses import loss_of
from callus.training.trunk_cache import TrunkCache, cache_key
from callus.training.weights import set_layout

BATCH = 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of radiographs or a manifest")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--recipe", default="seed")
    parser.add_argument("--trunk", default="resnet152v2")
    parser.add_argument("--plain-malloc", action="store_true", help="leave glibc's malloc as it is")
    choice = parser.parse_args()
    if not choice.plain_malloc:
        keep_freed_memory()
    recipe = recipes.override(recipes.load(choice.recipe), {"trunk.name": choice.trunk, "trunk.weights": "none"})
    rows = dataset.usable(dataset.load(choice.data)).head(choice.files)
    examples = Examples(rows, recipe)
    torch.manual_seed(0)
    head = recipe.head
    network = build_network(
        recipe.trunk.name, head=head.kind, width=head.width, dense=head.dense, dropout=head.dropout, location=False
    )
    # Random weights in evaluation mode let activations fade into denormals, which no real weights do: one pass in
    # training mode gives batch norm statistics that keep them in range.
    network.trunk.train()
    with torch.inference_mode():
        for _ in range(30):
            network.trunk(examples.pictures(range(4), [0] * 4))
    network.trunk.eval()
    set_layout(network, torch.channels_last)
    fabric = Fabric(accelerator="cpu", devices=1)
    threads = len(os.sched_getaffinity(0))

    pictures = examples.pictures(range(BATCH), [0] * BATCH).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        shapes = [tuple(part.shape[1:]) for part in network.head.collect(network.trunk(pictures))]
    before = bare_trunk(network, pictures)

    with tempfile.TemporaryDirectory() as folder:
        cache = TrunkCache(Path(folder), cache_key(network.trunk, recipe), shapes)
        started = time.perf_counter()
        fill_cache(fabric, network, cache, [(examples, [0])], BATCH, threads)
        first = time.perf_counter() - started
        source = CachedFeatures(examples, cache, 1, recipe.optimisation.batch, threads)
        optimiser = torch.optim.Adam(network.head.parameters(), lr=1e-3)
        epochs = []
        for epoch in range(5):
            started = time.perf_counter()
            order = np.random.default_rng(epoch).permutation(len(examples))
            for batch in source.batches(order, epoch, rank=0, world=1):
                loss = loss_of(network.head(*(part.float() for part in batch.inputs)), batch, recipe.optimisation)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            epochs.append(time.perf_counter() - started)
        cache.close()
    # Before and after the pass, the better of the two: other work on the machine must not flatter the pass.
    bare = min(before, bare_trunk(network, pictures))
    later = float(np.median(epochs))
    print(
        json.dumps(
            {
                "bench": "trunk_cache",
                "recipe": choice.recipe,
                "trunk": choice.trunk,
                "files": len(examples),
                "bare_trunk_ms": round(bare * 1e3, 2),
                "first_pass_ms": round(first / len(examples) * 1e3, 2),
                "first_pass_speed": round(bare * len(examples) / first, 3),
                "later_epoch_s": round(later, 3),
                "later_epoch_share": round(later / first, 5),
                "plain_malloc": choice.plain_malloc,
            }
        )
    )


def bare_trunk(network: torch.nn.Module, pictures: torch.Tensor) -> float:
    """Seconds a picture of the trunk alone: the median of seven batches."""
    times = []
    with torch.inference_mode():
        for _ in range(7):
            started = time.perf_counter()
            network.trunk(pictures)
            times.append(time.perf_counter() - started)
    return float(np.median(times)) / len(pictures)


if __name__ == "__main__":
    main()
