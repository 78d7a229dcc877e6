"""What training minimises: the image's loss, and that of the places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from callus.model.head import Answer
    from callus.training.examples import Batch
    from callus.training.recipe import Optimisation


def loss_of(answer: Answer, batch: Batch, choice: Optimisation) -> Tensor:
    """Binary cross-entropy of the image, plus that of the places where the place is known; a mean over pictures."""
    target = batch.label * (1 - choice.label_smoothing) + choice.label_smoothing / 2
    loss = functional.binary_cross_entropy_with_logits(answer.logit.float(), target)
    if answer.location is None:
        return loss
    located = (location_loss(answer.location, batch.mask, choice) * batch.located).mean()
    return loss + choice.location_weight * located


def location_loss(location: Tensor, mask: Tensor, choice: Optimisation) -> Tensor:
    """Binary cross-entropy of the places, (B,): the mean over cells of logits against the mask, (B, 1, h, w) both."""
    cells = functional.binary_cross_entropy_with_logits(
        location.float(),
        mask,
        reduction="none",
        pos_weight=torch.tensor(choice.location_positive, device=mask.device),
    )
    return cells.mean((1, 2, 3))
