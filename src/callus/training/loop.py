"""The training loop, top to bottom: phases, epochs, steps.

First the head learns on the frozen trunk, from cached features where the recipe says so; then the trunk's last stages
learn too. Everything that is drawn follows from the recipe's seed, the epoch and the step, so a resumed run ends with
the weights of one that was never stopped.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from callus.progress import progress
from callus.training import weights
from callus.training.losses import loss_of
from callus.training.rounding import rounded_weights
from callus.training.schedule import epoch_order, rate_factor, step_seed, steps_of
from callus.training.validation import VALIDATION, summed, validate

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from lightning_fabric import Fabric
    from torch import Tensor

    from callus.model.head import Answer
    from callus.model.network import FractureNet
    from callus.training.batches import Source
    from callus.training.examples import Batch
    from callus.training.recipe import Optimisation, Recipe
    from callus.training.run_folder import RunFolder, State

ADAM_EPSILON = 1e-7
"""Keras' default, which the original's notebook trained with; torch's is 1e-8."""


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own learning rates.

    Attributes:
        name: "frozen", "tuning" or "whole".
        epochs: how many at most.
        stages: of the trunk that learn.
        rate: highest learning rate of the head.
        trunk_rate: highest learning rate of the unfrozen stages.
        training: where training batches come from.
        validation: where validation batches come from.
    """

    name: str
    epochs: int
    stages: int
    rate: float
    trunk_rate: float
    training: Source
    validation: Source


class Whole(nn.Module):
    """Trunk and head as one module from pictures to an :class:`Answer`, for the phase that trains both."""

    def __init__(self, network: FractureNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Answer:
        """(B, 3, H, W) → the answer."""
        scales = self.network.trunk(pictures.contiguous(memory_format=torch.channels_last))
        answer: Answer = self.network.head(*self.network.head.collect(scales))
        return answer


def fit(
    fabric: Fabric,
    network: FractureNet,
    phases: list[Phase],
    recipe: Recipe,
    run: RunFolder,
    say: Callable[[str], None],
) -> State:
    """Train to the end, from wherever the run folder says that it stopped.

    The network ends with the weights that the recipe keeps (best or last).
    """
    state, saved = run.read_state()
    events = run.open_events(state.epoch) if fabric.is_global_zero else None
    # What earlier phases changed has to be in the network before later ones go on from it.
    weights.put(network, {name[8:]: value for name, value in saved.items() if name.startswith("network.")})
    while state.phase < len(phases) and not state.finished:
        phase = phases[state.phase]
        rounds = recipe.optimisation.int8_weights and state.phase + 1 == len(phases)
        if state.phase_epoch == 0 and state.phase > 0 and run.best.exists():
            weights.put(network, run.read_best())
        most = max(phase.stages for phase in phases)
        fit_phase(fabric, network, phase, most, recipe, run, state, saved, events, say, rounds=rounds)
        saved = {}
        state.phase, state.phase_epoch = state.phase + 1, 0
        state.since_better, state.plateau = 0, 1.0
    if not state.finished:
        state.finished = True
        if fabric.is_global_zero:
            run.write_state(state, {f"network.{name}": value for name, value in weights.moving(network).items()})
            run.draw_curves(state.history, now=True)
    if events is not None:
        events.close()
    fabric.barrier()
    weights.put(network, run.read_best())
    return state


def fit_phase(
    fabric: Fabric,
    network: FractureNet,
    phase: Phase,
    most_stages: int,
    recipe: Recipe,
    run: RunFolder,
    state: State,
    saved: dict[str, Tensor],
    events: Any,
    say: Callable[[str], None],
    *,
    rounds: bool,
) -> None:
    """Train one phase, epoch by epoch; each ends with validation and a state that a stopped run goes on from.

    ``most_stages`` is how many trunk stages any of the run's phases trains, ``rounds`` whether the weights are rounded
    for what is trained and validated.
    """
    as_kept: Callable[[FractureNet], AbstractContextManager[object]] = rounded_weights if rounds else nullcontext
    choice = recipe.optimisation
    weights.freeze(network, phase.stages)
    groups = [{"params": list(network.head.parameters()), "rate": phase.rate}]
    if phase.stages:
        tuned = [value for value in network.trunk.parameters() if value.requires_grad]
        groups.append({"params": tuned, "rate": phase.trunk_rate})
    optimiser = torch.optim.AdamW(groups, lr=phase.rate, eps=ADAM_EPSILON, weight_decay=choice.weight_decay)
    weights.restore_optimiser(optimiser, saved)
    module, wrapped = fabric.setup(network.head if phase.training.cached else Whole(network), optimiser)
    average = weights.Average(network, choice.ema)  # behind fabric, which may change the weights' precision
    if "average.steps" in saved:
        average.steps = int(saved["average.steps"])
        average.values = {
            name[8:]: v for name, v in saved.items() if name.startswith("average.") and name[8:] != "steps"
        }

    while state.phase_epoch < phase.epochs and not _stops(state, choice):
        started = time.monotonic()
        weights.set_modes(network, training=True)
        trained = train_epoch(fabric, network, (module, wrapped), phase, recipe, state, average, as_kept)
        seconds = round(time.monotonic() - started, 2)
        own = weights.snapshot(network)
        if choice.ema:
            weights.put(network, average.values)
        row = {"epoch": state.epoch + 1, "phase": phase.name, **trained}
        last = state.phase_epoch + 1 == phase.epochs
        due = last or (state.phase_epoch + 1) % choice.validate_every == 0
        with as_kept(network):
            row |= validate(fabric, network, phase.validation, choice) if due else dict.fromkeys(VALIDATION)
            row |= {"seconds": seconds}
            _finish_epoch(fabric, row, weights.kept(network, most_stages), run, state, choice)
        weights.put(network, own)
        if fabric.is_global_zero:
            say(_line(row, phase))
            for name, value in row.items():
                if isinstance(value, float):
                    events.add_scalar(name.replace("_", "/", 1), value, state.epoch)
            run.write_state(state, _tensors(network, most_stages, optimiser, average))
            run.draw_curves(state.history)
        fabric.barrier()


def train_epoch(
    fabric: Fabric,
    network: FractureNet,
    wrapped: tuple[Any, Any],
    phase: Phase,
    recipe: Recipe,
    state: State,
    average: weights.Average,
    as_kept: Callable[[FractureNet], AbstractContextManager[object]],
) -> dict[str, float]:
    """One epoch of steps.

    Args:
        fabric: the processes.
        network: whose weights are averaged.
        wrapped: fabric's module (inputs to :class:`Answer`) and optimiser.
        phase: gives the batches.
        recipe: gives the rates and the seed.
        state: which epoch it is.
        average: taken along after each step.
        as_kept: has the weights as the bundle will have them, while a loss and its gradients are calculated.

    Returns:
        Mean loss and accuracy while training, over all processes, and the last learning rate of the head.
    """
    choice = recipe.optimisation
    module, optimiser = wrapped
    label = phase.training.examples.label
    order = epoch_order(label, choice, recipe.seed, state.epoch)
    per_epoch = steps_of(label, choice)
    totals = np.zeros(3)  # loss, right answers, pictures
    factor = 0.0
    with progress(f"{phase.name}, epoch {state.phase_epoch + 1} of {phase.epochs}", len(order)) as advance:
        batches = phase.training.batches(order, state.epoch, rank=fabric.global_rank, world=fabric.world_size)
        for step, drawn in enumerate(batches):
            torch.manual_seed(step_seed(recipe.seed, state.epoch, step) + fabric.global_rank)
            done = state.phase_epoch * per_epoch + step
            factor = rate_factor(choice, state.plateau, done, phase.epochs * per_epoch)
            for group in optimiser.param_groups:
                group["lr"] = group["rate"] * factor
            batch = _to(drawn, fabric)
            optimiser.zero_grad()
            with as_kept(network):
                answer = module(*batch.inputs)
                loss = loss_of(answer, batch, choice)
                fabric.backward(loss * batch.share)
            optimiser.step()
            average.update(network)
            count = len(batch.label)
            right = ((answer.logit.detach() > 0) == (batch.label > 0.5)).sum().item()  # noqa: PLR2004 - 0 or 1
            totals += (float(loss.detach()) * count, right, count)
            advance(choice.batch, f"loss {totals[0] / totals[2]:.3f}")
    loss_sum, right, count = summed(fabric, torch.from_numpy(totals))
    return {
        "training_loss": float(loss_sum / count),
        "training_accuracy": float(right / count),
        "rate": phase.rate * factor,
    }


def _finish_epoch(
    fabric: Fabric,
    row: dict[str, Any],
    validated: dict[str, Tensor],
    run: RunFolder,
    state: State,
    choice: Optimisation,
) -> None:
    """Book an epoch: history, best weights (those that were validated), plateau."""
    state.epoch += 1
    state.phase_epoch += 1
    state.history.append(row)
    if row["validation_loss"] is None:  # not validated: it cannot be the best, and is no proof of a plateau
        return
    score = row["validation_auroc"] if row["validation_auroc"] is not None else -row["validation_loss"]
    better = score > state.best or state.best_epoch == 0
    if better:
        state.best, state.best_epoch = score, state.epoch
    if fabric.is_global_zero and (better or choice.keep == "last"):
        run.write_best(validated, state.epoch)
    state.since_better += 1
    if row["validation_accuracy"] > state.best_accuracy:
        state.best_accuracy, state.since_better = row["validation_accuracy"], 0
    elif choice.schedule == "plateau" and state.since_better >= choice.plateau_epochs:
        state.plateau, state.since_better = state.plateau / 2, 0


def _stops(state: State, choice: Optimisation) -> bool:
    """Early stopping: no better validation AUROC in the last ``patience`` epochs, all of this phase."""
    return bool(choice.patience) and min(state.epoch - state.best_epoch, state.phase_epoch) >= choice.patience


def _tensors(
    network: FractureNet, most_stages: int, optimiser: torch.optim.Optimizer, average: weights.Average
) -> dict[str, Tensor]:
    """Everything that a stopped run goes on from, what earlier phases taught stages that now stand still among it."""
    return {
        **{f"network.{name}": value for name, value in weights.kept(network, most_stages).items()},
        **{f"average.{name}": value for name, value in average.values.items()},
        "average.steps": torch.tensor(average.steps),
        **weights.optimiser_tensors(optimiser),
    }


def _to(batch: Batch, fabric: Fabric) -> Batch:
    """The batch on the device that computes, in float32."""
    from callus.training.examples import Batch  # noqa: PLC0415

    inputs, label, mask, located = fabric.to_device((batch.inputs, batch.label, batch.mask, batch.located))
    return Batch(tuple(value.float() for value in inputs), label, mask, located, batch.share)


def _line(row: dict[str, Any], phase: Phase) -> str:
    said = (
        f"epoch {row['epoch']:>3} ({phase.name}): training loss {row['training_loss']:.3f}, accuracy "
        f"{row['training_accuracy']:.3f}; "
    )
    if row["validation_loss"] is not None:
        auc = "-" if row["validation_auroc"] is None else f"{row['validation_auroc']:.3f}"
        said += (
            f"validation loss {row['validation_loss']:.3f}, accuracy {row['validation_accuracy']:.3f}, AUROC {auc}; "
        )
        if row["validation_pointing"] is not None:
            said += f"highest place on a fracture {row['validation_pointing']:.3f}; "
    return f"{said}{row['seconds']:.1f} s"
