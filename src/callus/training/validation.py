"""What the network says of a split while it is being trained, and how good that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from callus.metrics.scores import auroc
from callus.training import weights
from callus.training.examples import PLAIN
from callus.training.losses import location_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from callus.model.network import FractureNet
    from callus.training.batches import Source
    from callus.training.examples import Examples
    from callus.training.recipe import Optimisation

VALIDATION = (
    "validation_loss",
    "validation_accuracy",
    "validation_auroc",
    "validation_location_loss",
    "validation_pointing",
)
"""What :func:`validate` gives; None in the history of epochs that were not validated."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """What the network says of a source's pictures, not varied.

    Attributes:
        logit: float64 (n,).
        location_loss: float64 (n,), mean over the cells of the map; NaN where no place is known or told.
        pointed: float64 (n,), 1 where the map's highest cell is one that a fracture's outline touches, else 0; NaN
            where no fracture is outlined.
    """

    logit: NDArray[np.float64]
    location_loss: NDArray[np.float64]
    pointed: NDArray[np.float64]


def predict(fabric: Fabric, network: FractureNet, source: Source, choice: Optimisation) -> Predicted:
    """Answer all of a source's pictures, not varied. Each process does its share."""
    weights.set_modes(network, training=False)
    told = torch.zeros((3, len(source.examples)), dtype=torch.float64)  # rows as Predicted has them
    order = np.arange(len(source.examples))
    batch = choice.batch
    with torch.inference_mode():
        mine = (
            order[start : start + batch][fabric.global_rank :: fabric.world_size]
            for start in range(0, len(order), batch)
        )
        for chosen, inputs in source.plain([part for part in mine if len(part)]):
            collected = (
                inputs if source.cached else network.head.collect(network.trunk(_as_weights(network.trunk, inputs[0])))
            )
            answer = network.head(*(_as_weights(network.head, value) for value in collected))
            told[0, chosen] = answer.logit.double().cpu()
            if answer.location is not None:
                told[1:, chosen] = _placed(answer.location.float().cpu(), chosen, source.examples, choice)
    logit, lost, pointed = summed(fabric, told)
    if network.head.map_kind != "location":
        return Predicted(logit, np.full_like(logit, np.nan), np.full_like(logit, np.nan))
    outlined = source.examples.located & (source.examples.label == 1)
    return Predicted(
        logit,
        np.where(source.examples.located, lost, np.nan),
        np.where(outlined, pointed, np.nan),
    )


def _placed(location: Tensor, chosen: NDArray[np.int64], examples: Examples, choice: Optimisation) -> Tensor:
    """Of some pictures' maps (B, 1, h, w) the loss, and whether the highest cell holds a fracture: float64 (2, B)."""
    _, mask, _ = examples.targets(chosen, [PLAIN] * len(chosen))
    highest = location.flatten(1).argmax(1, keepdim=True)
    pointed = mask.flatten(1).gather(1, highest)[:, 0] > 0
    return torch.stack([location_loss(location, mask, choice).double(), pointed.double()])


def _as_weights(module: nn.Module, values: Tensor) -> Tensor:
    """Values on the device and in the precision of a module's weights."""
    weight = next(module.parameters())
    return values.to(weight.device, weight.dtype)


def summed(fabric: Fabric, values: Tensor) -> NDArray[np.float64]:
    """The sum over all processes of a float64 vector."""
    total = fabric.all_reduce(values.to(fabric.device), reduce_op="sum")
    return np.asarray(torch.as_tensor(total).cpu(), dtype=np.float64)


def validate(fabric: Fabric, network: FractureNet, source: Source, choice: Optimisation) -> dict[str, Any]:
    """How good the network is on a split, by the names in VALIDATION.

    The accuracy is that at 0.5. What is said of the map, its loss and how often its highest cell is on a fracture, is
    None where no place is known or told; the AUROC where there is only one class.
    """
    answered = predict(fabric, network, source, choice)
    logit, label = answered.logit, source.examples.label
    loss = np.logaddexp(0, np.where(label == 1, -logit, logit)).mean()
    return {
        "validation_loss": float(loss),
        "validation_accuracy": float(((logit > 0) == (label == 1)).mean()),
        "validation_auroc": auroc(label, logit),
        "validation_location_loss": _mean(answered.location_loss),
        "validation_pointing": _mean(answered.pointed),
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    """Of those that are numbers; None where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
