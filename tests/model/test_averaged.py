"""Networks that are averaged: each sees the radiograph at its own size, and the map lies over the same field."""

from __future__ import annotations

import torch

from callus.model.averaged import AveragedNet
from callus.model.network import FractureNet, build_network


def network(seed: int, stride: int = 8) -> FractureNet:
    torch.manual_seed(seed)
    return build_network(
        "small", head="hierarchical", width=8, dense=(8,), dropout=0.0, location=True, location_stride=stride
    ).eval()


def test_logits_and_maps_are_means_and_features_are_the_first_ones() -> None:
    one, other = network(1), network(2)
    x = torch.rand(3, 3, 96, 96) * 2 - 1
    with torch.inference_mode():
        both = AveragedNet([one, other], [(96, 96), (96, 96)]).eval()(x)
        first, second = one(x), other(x)
    torch.testing.assert_close(both[0], (first[0] + second[0]) / 2)
    torch.testing.assert_close(both[1], (first[1] + second[1]) / 2)
    torch.testing.assert_close(both[2], first[2])
    assert not torch.equal(first[0], second[0])


def test_a_smaller_member_sees_the_whole_picture_and_its_map_covers_it() -> None:
    """A bright corner is bright for both, and the coarser map's corner lies on the finer one's."""

    class Brightness(torch.nn.Module):
        map_kind, feature_channels, plain_channels, first_centre = "location", 1, 1, 0.0

        def __init__(self, stride: int) -> None:
            super().__init__()
            self.map_stride, self.seen = stride, (0, 0)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            self.seen = (x.shape[2], x.shape[3])
            cells = torch.nn.functional.avg_pool2d(x[:, :1], self.map_stride)[:, 0]
            return x.mean((1, 2, 3)), cells, x.mean((2, 3))[:, :1]

    fine, coarse = Brightness(8), Brightness(16)
    x = torch.zeros(1, 3, 128, 128)
    x[..., :64, 64:] = 1.0
    logit, where, features = AveragedNet([fine, coarse], [(128, 128), (96, 96)])(x)  # type: ignore[list-item]
    assert (fine.seen, coarse.seen) == ((128, 128), (96, 96))
    assert where.shape == (1, 16, 16)
    assert features.shape == (1, 1)
    torch.testing.assert_close(logit, torch.tensor([0.25]), atol=5e-3, rtol=0)
    assert (where[0, :6, 10:] > 0.9).all()  # off the edge, over which the coarse cells lie
    assert (where[0, 10:, :] < 0.1).all()
    assert (where[0, :, :6] < 0.1).all()
