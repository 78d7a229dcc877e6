r"""What a step of training costs: one JSON line a precision, medians in milliseconds.

The recipe's network learns from a batch of noise in the size of its crops (``--whole``: of whole pictures), with the
stages unfrozen that the recipe names for it. Pictures are neither read nor varied.

    python bench/step.py --recipe radiograph --precision 32-true --precision bf16-mixed
    python bench/step.py --recipe radiograph --whole --steps 5
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric

from callus.memory import keep_freed_memory
from callus.training import recipe as recipes
from callus.training import weights
from callus.training.denormals import flushed_denormals
from callus.training.examples import Batch
from callus.training.loop import Whole
from callus.training.losses import loss_of
from callus.training.run import initial_network


@flushed_denormals()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="radiograph")
    parser.add_argument("--precision", action="append", help="as callus train takes it; again for more, in turns")
    parser.add_argument("--whole", action="store_true", help="whole pictures, not crops")
    parser.add_argument("--steps", type=int, default=20)
    choice = parser.parse_args()
    keep_freed_memory()
    chosen = recipes.load(choice.recipe)
    chosen = replace(chosen, trunk=replace(chosen.trunk, weights="none", batch_norm="learnt"))
    crop = chosen.tuning.crop if not choice.whole else 0
    side = (crop, crop) if crop else (chosen.input.height, chosen.input.width)
    stages = chosen.whole.stages if choice.whole else chosen.tuning.stages
    learners = {precision: Learner(chosen, precision, side, stages) for precision in choice.precision or ["32-true"]}
    for _ in range(choice.steps + 2):  # in turns, so that a slow moment of the machine slows all
        for learner in learners.values():
            learner.step()
    for precision, learner in learners.items():
        parts = 1000 * np.median(learner.seconds[2:], axis=0)
        told = {"bench": "step", "recipe": choice.recipe, "precision": precision, "side": side, "stages": stages}
        told |= {"threads": torch.get_num_threads(), "batch": chosen.optimisation.batch}
        told |= dict(zip(("forwards", "backwards", "optimiser"), parts.round(1).tolist(), strict=True))
        print(json.dumps(told | {"step": round(float(parts.sum()), 1)}))


class Learner:
    """A network that learns in one precision, and the seconds of each of its steps: forwards, backwards, optimiser."""

    def __init__(self, chosen: recipes.Recipe, precision: str, side: tuple[int, int], stages: int) -> None:
        self.choice = chosen.optimisation
        self.fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]
        network = initial_network(chosen)
        weights.set_layout(network, torch.channels_last)
        weights.freeze(network, stages)
        weights.set_modes(network, training=True)
        learnt = [value for value in network.parameters() if value.requires_grad]
        optimiser = torch.optim.AdamW(learnt, lr=1e-6)
        self.module, self.optimiser = self.fabric.setup(Whole(network), optimiser)
        count, cell = self.choice.batch, chosen.head.location_stride
        pictures = torch.rand(count, 3, *side)
        mask = (torch.rand(count, 1, side[0] // cell, side[1] // cell) > 0.9).float()
        self.batch = Batch((pictures,), torch.ones(count), mask, torch.ones(count))
        self.seconds: list[tuple[float, float, float]] = []

    def step(self) -> None:
        """Do one, and keep its times."""
        self.optimiser.zero_grad()
        times = [time.perf_counter()]
        loss = loss_of(self.module(*self.batch.inputs), self.batch, self.choice)
        times.append(time.perf_counter())
        self.fabric.backward(loss)
        times.append(time.perf_counter())
        self.optimiser.step()
        times.append(time.perf_counter())
        self.seconds.append(tuple(np.diff(times).tolist()))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
