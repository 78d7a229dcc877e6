"""The weights that move: which parameters a phase trains, their average, and their place in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from callus.model.batch_norm import BatchNorm2d

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from callus.model.network import FractureNet

_MOMENTUM = 0.05


def freeze(network: FractureNet, stages: int) -> None:
    """Let the head and the trunk's last ``stages`` stages learn, and nothing else."""
    network.trunk.requires_grad_(requires_grad=False)
    for _, modules in network.trunk.stages()[:stages]:
        for module in modules:
            module.requires_grad_(requires_grad=True)


def set_modes(network: FractureNet, *, training: bool) -> None:
    """Put the head into training or evaluation mode; the trunk stays in evaluation mode.

    But for the batch norm of its unfrozen stages where that learns its statistics (``network.learns_statistics``):
    always where the trunk began from random weights, and where the recipe says so behind :func:`restate`. Weights
    whose batch norm is folded away would break in training mode without it.
    """
    network.trunk.eval()
    if training and network.learns_statistics:
        for layer in network.trunk.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.weight.requires_grad:
                layer.train()
    network.head.train(training)


@torch.no_grad()
def settle(network: FractureNet, batches: Iterable[Tensor]) -> None:
    """Give the batch norm of a fresh trunk the statistics of real radiographs.

    Without them a random trunk in evaluation mode lets its activations fade away, and a head on it learns nothing.

    Args:
        network: its trunk is left in evaluation mode.
        batches: (B, 3, H, W) each, as the trunk takes them.
    """
    # Keras' momentum for MobileNetV2 (0.999) is for ImageNet's million steps; here there are hundreds.
    layers = [layer for layer in network.trunk.modules() if isinstance(layer, BatchNorm2d)]
    network.trunk.train()
    for layer in layers:
        layer.shared = False  # every process sees these pictures: they agree to the last bit, whatever their number
    for number, batch in enumerate(batches):
        for layer in layers:
            layer.momentum = 1 / (number + 1)  # a plain mean over the batches
        network.trunk(batch)
    for layer in layers:
        layer.momentum = _MOMENTUM
        layer.shared = True
    network.trunk.eval()


@torch.no_grad()
def restate(network: FractureNet, batches: Iterable[Tensor], stages: int) -> None:
    """Give the batch norm of a trunk's last stages the statistics of real radiographs; the trunk's function stays.

    The mean and the variance of what each layer gets become its statistics, and gain and bias take them out again.
    From there batch norm can learn in training mode, also where it was folded into the convolutions.

    Args:
        network: its trunk is left in evaluation mode.
        batches: (B, 3, H, W) each, as the trunk takes them.
        stages: how many of the last, those that will learn.
    """
    layers = [
        layer
        for _, modules in network.trunk.stages()[:stages]
        for module in modules
        for layer in module.modules()
        if isinstance(layer, BatchNorm2d)
    ]
    sums = {layer: torch.zeros(3, layer.num_features, dtype=torch.float64) for layer in layers}

    def note(layer: BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        # About the mean that it has: squares of values that are far from 0 would cancel.
        values = given[0].double().cpu() - _statistics(layer)[0][:, None, None]
        count = torch.full((layer.num_features,), values.numel() / values.shape[1], dtype=torch.float64)
        sums[layer] += torch.stack([values.sum((0, 2, 3)), (values * values).sum((0, 2, 3)), count])

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    network.trunk.eval()
    for batch in batches:
        network.trunk(batch)
    for hook in hooks:
        hook.remove()
    for layer, (total, squares, count) in sums.items():
        mean, variance = _statistics(layer)
        off = total / count
        seen = (squares / count - off * off).clamp_min(0)
        scale = layer.weight.double().cpu() / torch.sqrt(variance + layer.eps)
        layer.weight.copy_(scale * torch.sqrt(seen + layer.eps))
        layer.bias.copy_(layer.bias.double().cpu() + scale * off)
        layer.get_buffer("running_mean").copy_(mean + off)
        layer.get_buffer("running_var").copy_(seen)
        layer.momentum = _MOMENTUM


def _statistics(layer: BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Mean and variance that a layer normalises by, float64 (C,) each."""
    return layer.get_buffer("running_mean").double().cpu(), layer.get_buffer("running_var").double().cpu()


def set_layout(network: nn.Module, layout: torch.memory_format) -> None:
    """Lay the kernels of convolutions out in memory as ``layout`` has it; their values stay."""
    for value in network.parameters():
        if value.dim() == 4:  # noqa: PLR2004 - the kernels
            value.data = value.data.contiguous(memory_format=layout)


def moving(network: FractureNet) -> dict[str, Tensor]:
    """What training changes: parameters that learn, and statistics of batch norm; the tensors themselves."""
    changed: dict[str, Tensor] = {name: value for name, value in network.named_parameters() if value.requires_grad}
    changed |= {f"head.{name}": value for name, value in network.head.named_buffers()}
    if network.learns_statistics:
        changed |= {f"trunk.{name}": value for name, value in network.trunk.named_buffers()}
    return changed


def kept(network: FractureNet, stages: int) -> dict[str, Tensor]:
    """What a run keeps of an epoch: all that moves in any of its phases, not only in the one that the epoch is of.

    An epoch of the frozen phase can stay the best; what the tuning phase then did to the trunk has to be undone.

    Args:
        network: as it was validated.
        stages: the most trunk stages that any phase trains.
    """
    values = moving(network)
    for _, modules in network.trunk.stages()[:stages]:
        ours = {id(value) for module in modules for value in module.parameters()}
        values |= {name: value for name, value in network.named_parameters() if id(value) in ours}
    return values


def snapshot(network: FractureNet) -> dict[str, Tensor]:
    """A copy of :func:`moving`."""
    return {name: value.detach().clone() for name, value in moving(network).items()}


@torch.no_grad()
def put(network: FractureNet, values: Mapping[str, Tensor]) -> None:
    """Write saved values into the network; names that a later phase has and an earlier has not stay as they are."""
    places: dict[str, Tensor] = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, value in values.items():
        places[name].copy_(value)


class Average:
    """An exponential moving average of what training changes (Polyak and Juditsky 1992)."""

    def __init__(self, network: FractureNet, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.values = snapshot(network)

    @torch.no_grad()
    def update(self, network: FractureNet) -> None:
        """Take one step's weights in. The first steps weigh more, or the random beginning would linger."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in moving(network).items():
            kept = self.values[name]
            if kept.is_floating_point():
                kept.lerp_(value.detach(), 1 - decay)
            else:
                kept.copy_(value)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors, for a file without pickle."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{index}.{key}": torch.as_tensor(value)
        for index, entries in state.items()
        for key, value in entries.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimiser_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    if state:
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
