from __future__ import annotations

import pytest
import torch

from callus.model.head import DenseLayers, HierarchicalHead, PooledHead, grad_cam

CHANNELS = (6, 10, 14)


def scales(batch: int = 3, size: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [
        (batch, count, size // stride, size // stride) for count, stride in zip(CHANNELS, (8, 16, 32), strict=True)
    ]
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("units", [(), (7,), (20, 9), (16, 12, 8)])
def test_grad_cam_without_gradients_is_grad_cam_by_autograd(units: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dense = DenseLayers(14, units, dropout=0.5).double().eval()
    maps = scales()[2].clone().requires_grad_()
    logit = dense(maps.mean((2, 3)))
    (gradient,) = torch.autograd.grad(logit.sum(), maps)
    expected = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1))
    assert expected.max() > 0
    torch.testing.assert_close(grad_cam(dense, maps), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("location", "stride"), [(True, 16), (True, 8), (False, 32)])
def test_the_map_comes_with_the_same_logit_as_training_sees(location: bool, stride: int) -> None:
    torch.manual_seed(0)
    places = {"location_stride": stride, "location_gain": 0.5} if location else {}
    head = HierarchicalHead(CHANNELS, 8, (16, 8), 0.5, location=location, **places).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for value in head.parameters():
            value.add_(torch.randn_like(value) * 0.2)
    answer = head(*head.collect(scales()))
    logit, where = head.answer_with_map(scales())
    torch.testing.assert_close(answer.logit, logit)
    assert head.map_stride == stride
    side = 64 // stride
    assert where.shape == (3, side, side)
    assert where.min() >= 0
    assert where.max() <= 1
    if location:
        assert answer.location is not None
        torch.testing.assert_close(torch.sigmoid(answer.location[:, 0]), where)


def test_the_pooled_head_needs_no_more_than_the_pooled_map() -> None:
    torch.manual_seed(0)
    head = PooledHead(CHANNELS, (8,), 0.0).double().eval()
    (pooled,) = head.collect(scales())
    assert pooled.shape == (3, 14)
    torch.testing.assert_close(head(pooled).logit, head.answer_with_map(scales())[0])


def test_every_parameter_learns_from_an_image_and_its_place() -> None:
    torch.manual_seed(0)
    head = HierarchicalHead(CHANNELS, 8, (16, 8), 0.0, location=True).double().train()
    for _ in range(2):  # what begins at zero lets gradients through after one step
        answer = head(*scales())
        loss = answer.logit.square().sum() + answer.location.square().sum()
        head.zero_grad()
        loss.backward()
        with torch.no_grad():
            for value in head.parameters():
                value.sub_(0.01 * value.grad)
    silent = [name for name, value in head.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    # A convolution's bias in front of batch norm would be silent; there is none.
    assert silent == []
