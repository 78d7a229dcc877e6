"""What training minimises."""

import numpy as np
import pytest
import torch

from callus.training.losses import pointing_loss


def drawn(pictures: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, masks and which are known: every second picture has a fracture, the last one's place is not known."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((pictures, 1, 6, 5), dtype=np.float32)
    mask[::2, 0, 2:4, 1] = generator.uniform(0.1, 1, size=(len(mask[::2]), 2))
    located = np.ones(pictures, dtype=np.float32)
    located[-1] = 0
    logits = generator.normal(size=mask.shape).astype(np.float32)
    return torch.from_numpy(logits), torch.from_numpy(mask), torch.from_numpy(located)


def test_pointing_is_the_cross_entropy_of_the_fractured_cells() -> None:
    logits, mask, located = drawn(6)
    sound = [np.exp(z[m == 0].numpy()).sum() * float(k) for z, m, k in zip(logits, mask, located, strict=True)]
    lost = 0.0
    for i in (0, 2, 4):
        own = np.exp(logits[i].numpy())
        lost -= np.log((own * mask[i].numpy()).sum() / (own.sum() + sum(sound) - sound[i]))
    assert float(pointing_loss(logits, mask, located)) == pytest.approx(lost / 6, rel=1e-5)


def test_a_higher_sound_cell_in_another_picture_costs_as_one_in_its_own_does() -> None:
    logits, mask, located = drawn(6)
    lost = []
    for picture in (0, 1):
        raised = logits.clone()
        raised[picture, 0, 0, 0] = 9.0
        lost.append(float(pointing_loss(raised, mask, located)))
    assert min(lost) > float(pointing_loss(logits, mask, located)) + 1
    assert lost[0] == pytest.approx(lost[1], abs=0.2)


def test_a_picture_whose_place_is_not_known_is_left_out() -> None:
    logits, mask, located = drawn(6)
    raised = logits.clone()
    raised[-1] += 20
    assert float(pointing_loss(raised, mask, located)) == float(pointing_loss(logits, mask, located))


@pytest.mark.parametrize("pictures", [1, 2, 5])
@pytest.mark.parametrize("known", ["all", "none", "no fracture"])
def test_gradients_are_finite_whatever_the_batch_holds(pictures: int, known: str) -> None:
    logits, mask, located = drawn(pictures)
    located = torch.ones_like(located) if known == "all" else located * (known != "none")
    mask = mask * (known != "no fracture")
    logits.requires_grad_()
    lost = pointing_loss(logits, mask, located)
    lost.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert bool((logits.grad != 0).any()) == (known == "all")
    assert (float(lost.detach()) > 0) == (known == "all")
