"""Which pictures and views an epoch takes, and how fast the weights move. All of it follows from the recipe's seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.training.recipe import Optimisation

_ORDER, _STEP = 1, 2  # what a seed is for: two uses of one number must not draw the same


def epoch_order(label: NDArray[np.int64], choice: Optimisation, seed: int, epoch: int) -> NDArray[np.int64]:
    """The pictures of one epoch, in order.

    With ``balance = "sample"`` every fractured picture once, and so many of the others that all of them come up in
    turn over the epochs.

    Args:
        label: (n,) 1 fractured, 0 not.
        choice: the recipe's.
        seed: the recipe's.
        epoch: over all phases, from 0.

    Returns:
        int64, positions in ``label``.
    """
    generator = np.random.default_rng([seed, _ORDER, epoch])
    if choice.balance == "none":
        return generator.permutation(len(label))
    fractured, others = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    count = min(len(others), max(1, round(choice.others * len(fractured))))
    # The others in one order for good; each epoch takes the next stretch of it, round and round.
    turn = np.random.default_rng([seed, _ORDER]).permutation(others)
    taken = turn[(epoch * count + np.arange(count)) % len(turn)]
    return generator.permutation(np.concatenate([fractured, taken]))


def steps_of(label: NDArray[np.int64], choice: Optimisation) -> int:
    """Steps of an epoch."""
    return math.ceil(len(epoch_order(label, choice, 0, 0)) / choice.batch)


def step_seed(seed: int, epoch: int, step: int) -> int:
    """What torch's generator is set to before a step, so that a resumed run drops out the same units."""
    return int(np.random.SeedSequence([seed, _STEP, epoch, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def rate_factor(choice: Optimisation, plateau: float, step: int, steps: int) -> float:
    """By how much the phase's learning rate is multiplied.

    Args:
        choice: the recipe's.
        plateau: what the plateau schedule has come to.
        step: of the phase, from 0.
        steps: of the whole phase.
    """
    if choice.schedule == "plateau":
        return plateau
    if choice.schedule == "constant":
        return 1.0
    warmup = choice.warmup * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
