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
    loss = loss + choice.location_weight * located
    if not choice.pointing_weight:
        return loss
    return loss + choice.pointing_weight * pointing_loss(answer.location, batch.mask, batch.located)


def location_loss(location: Tensor, mask: Tensor, choice: Optimisation) -> Tensor:
    """Binary cross-entropy of the places, (B,): the mean over cells of logits against the mask, (B, 1, h, w) both."""
    cells = functional.binary_cross_entropy_with_logits(
        location.float(),
        mask,
        reduction="none",
        pos_weight=torch.tensor(choice.location_positive, device=mask.device),
    )
    return cells.mean((1, 2, 3))


def pointing_loss(location: Tensor, mask: Tensor, located: Tensor) -> Tensor:
    """How far fractured cells stand out, by which the highest cell is judged, and which a mean over cells hardly hears.

    For each picture with a fracture the cross-entropy of "one of its fractured cells" under the softmax over its own
    cells and over all sound cells of the batch's other pictures. The softmax is led by the highest of them, so that
    the hardest sound places are mined with every step.

    Args:
        location: logits (B, 1, h, w).
        mask: the share of each cell that fractures cover, in [0, 1], (B, 1, h, w).
        located: 1 where the mask is known, else 0, (B,).

    Returns:
        The sum over the pictures with a fracture divided by B: a picture without one counts as 0.
    """
    logits, covered = location.float().flatten(1), mask.flatten(1)
    known = located > 0
    sound = torch.where((covered > 0) | ~known[:, None], -torch.inf, logits).logsumexp(1)  # of each picture
    alone = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    among = torch.where(alone, -torch.inf, sound[None]).logsumexp(1)  # of all others
    own = logits.logsumexp(1)
    fractured = known & (covered.amax(1) > 0)
    hit = (logits + covered.clamp_min(1e-12).log())[fractured].logsumexp(1)
    return (torch.logaddexp(own, among)[fractured] - hit).sum() / len(logits)
