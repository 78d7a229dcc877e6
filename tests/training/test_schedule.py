from __future__ import annotations

import numpy as np
import pytest

from callus.training.batches import shares
from callus.training.recipe import Optimisation
from callus.training.schedule import epoch_order, rate_factor, step_seed

LABEL = np.array([1] * 10 + [0] * 90)


def test_an_epoch_without_balance_is_every_picture_once() -> None:
    order = epoch_order(LABEL, Optimisation(), 0, 3)
    assert sorted(order) == list(range(100))
    assert list(order) != sorted(order)
    assert list(order) != list(epoch_order(LABEL, Optimisation(), 0, 4))


def test_balanced_epochs_take_every_fractured_picture_and_all_others_in_turn() -> None:
    choice = Optimisation(balance="sample", others=3.0)
    seen: list[int] = []
    for epoch in range(3):
        order = epoch_order(LABEL, choice, 0, epoch)
        assert (LABEL[order] == 1).sum() == 10
        assert (LABEL[order] == 0).sum() == 30
        seen += [index for index in order if LABEL[index] == 0]
    assert sorted(seen) == list(range(10, 100))


def test_cosine_climbs_then_falls_to_nothing() -> None:
    choice = Optimisation(schedule="cosine", warmup=0.1)
    factors = [rate_factor(choice, 1.0, step, 100) for step in range(100)]
    assert factors[0] < 0.1
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] < 0.001
    assert np.all(np.diff(factors[11:]) < 0)
    assert rate_factor(Optimisation(schedule="plateau"), 0.25, 5, 100) == 0.25


def test_no_two_steps_share_a_seed() -> None:
    seeds = {step_seed(seed, epoch, step) for seed in range(3) for epoch in range(10) for step in range(50)}
    assert len(seeds) == 1500


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_a_batch_so_that_their_mean_is_its_mean(world: int) -> None:
    order = np.random.default_rng(0).permutation(37)
    value = np.random.default_rng(1).random(37)
    by_process = [list(shares(order, 8, rank, world)) for rank in range(world)]
    for number, parts in enumerate(zip(*by_process, strict=True)):
        together = np.concatenate([mine for mine, _ in parts])
        batch = order[number * 8 : number * 8 + 8]
        assert sorted(together) == sorted(batch)
        mean_of_means = np.mean([value[mine].mean() * weight for mine, weight in parts])
        assert mean_of_means == pytest.approx(value[batch].mean())
