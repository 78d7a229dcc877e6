"""Trunks by name, their random weights, and their export."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
import torch

from callus.errors import WeightsError
from callus.model.layers import BatchNorm2d, convolution, normalised
from callus.model.trunks import TRUNKS, build_trunk

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.mark.parametrize("name", ["resnet50v2", "mobilenet_v2", "small"])
def test_where_the_coarsest_map_s_cells_lie(name: str) -> None:
    """What a cell hears is centred where the trunk says, by the gradient's energy; half a cell would be 15.5 pixels."""
    torch.manual_seed(0)
    trunk = build_trunk(name).eval()
    picture = torch.randn(2, 3, 224, 224, requires_grad=True)
    cell = 3
    (gradient,) = torch.autograd.grad(trunk(picture)[2][:, :, cell, cell].square().sum(), picture)
    energy, pixels = gradient.square().sum((0, 1)), torch.arange(224.0)
    for axis in (0, 1):
        along = energy.sum(axis)
        assert float((along * pixels).sum() / along.sum()) == pytest.approx(trunk.first_centre + 32 * cell, abs=5)


def test_the_names() -> None:
    with torch.device("meta"):
        assert [build_trunk(name).name for name in TRUNKS] == list(TRUNKS)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"no trunk 'resnet18'; take one of resnet50v2, .*mobilenet_v2"):
        build_trunk("resnet18")


def test_random_weights_are_glorot_uniform_and_seeded() -> None:
    trunks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        trunks.append(build_trunk("mobilenet_v2"))

    kernels = [trunk.layers()["block_16_project"].weight for trunk in trunks]
    assert torch.equal(kernels[0], kernels[1])
    assert not torch.equal(kernels[0], kernels[2])
    limit = (6 / (960 + 320)) ** 0.5
    assert 0.99 * limit < kernels[0].abs().max() <= limit
    assert kernels[0].std().item() == pytest.approx(limit / 3**0.5, rel=0.01)


def test_a_depthwise_kernel_has_the_spread_of_keras(keras: ModuleType) -> None:
    torch.manual_seed(0)
    depthwise = build_trunk("mobilenet_v2").layers()["block_15_depthwise"].weight
    theirs = keras.initializers.GlorotUniform(seed=0)((3, 3, 960, 1))

    assert depthwise.detach().std().item() == pytest.approx(theirs.detach().std().item(), rel=0.03)


def test_the_moving_variance_is_that_of_the_batch() -> None:
    norm = BatchNorm2d(2, eps=1e-3, momentum=0.25)
    x = torch.tensor([[[[1.0]], [[-4.0]]], [[[3.0]], [[4.0]]]])  # (2, 2, 1, 1): variances 1 and 16

    norm(x)

    assert norm.running_mean.tolist() == [0.5, 0.0]
    assert norm.running_var.tolist() == pytest.approx([0.75 + 0.25 * 1, 0.75 + 0.25 * 16])


@pytest.mark.parametrize("side", [9, 12])
def test_a_stride_is_left_out_in_bfloat16_with_the_same_values_and_gradients(side: int) -> None:
    """A depthwise convolution of whole numbers, which bfloat16 and its sums hold exactly."""
    torch.manual_seed(0)
    layer = convolution(4, 4, 3, stride=2, groups=4)
    kernel, x = torch.randint(-3, 4, layer.weight.shape), torch.randint(-3, 4, (2, 4, side, side))
    told = torch.randint(-3, 4, (2, 4, (side - 1) // 2, (side - 1) // 2))
    norm = torch.nn.Identity()
    norm.running_mean = norm.running_var = None
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        layer.weight.data, layer.weight.grad = kernel.to(dtype), None
        picture = x.to(dtype, memory_format=torch.channels_last).requires_grad_()
        y = normalised(picture, layer, norm)
        y.backward(told.to(dtype))
        answers.append([y, picture.grad, layer.weight.grad])
    for one, other in zip(*answers, strict=True):
        assert other.dtype == torch.bfloat16
        assert torch.equal(one.to(torch.bfloat16), other)


@pytest.mark.slow
def test_batch_norm_in_the_kernel_gives_the_same_values_and_gradients() -> None:
    torch.manual_seed(0)
    layer = convolution(4, 6, 3, stride=2, padding=1, bias=True, groups=2)
    norm = BatchNorm2d(6, eps=1e-3, momentum=0.1).eval()
    for value, low in ((norm.weight, 0.5), (norm.bias, -1.0), (norm.running_mean, -1.0), (norm.running_var, 0.5)):
        value.data.uniform_(low, 2.0)
    wanted = torch.randn(3, 6, 4, 4)
    results = []
    for work in (lambda x: norm(layer(x)), lambda x: normalised(x, layer, norm)):
        x = torch.linspace(-2, 2, 3 * 4 * 8 * 8).reshape(3, 4, 8, 8).requires_grad_()
        layer.zero_grad()
        norm.zero_grad()
        y = work(x)
        (y * wanted).sum().backward()
        gradients = [value.grad for value in (x, *layer.parameters(), *norm.parameters())]
        results.append([y.detach(), *(value.clone() for value in gradients if value is not None)])

    assert len(results[0]) == 6
    for plain, folded in zip(*results, strict=True):
        torch.testing.assert_close(folded, plain)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50v2"])
def test_the_exported_graph_gives_the_same_maps_for_any_batch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = build_trunk(name).train()
    with torch.no_grad():
        trunk(torch.rand(4, 3, 64, 96))  # so that batch norms have statistics
    trunk.eval()
    file = tmp_path / "trunk.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own parts
        torch.onnx.export(
            trunk,
            (torch.rand(2, 3, 64, 96),),
            file,
            input_names=["radiograph"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    for batch in (1, 5):
        x = torch.rand(batch, 3, 64, 96) * 2 - 1
        with torch.no_grad():
            expected = trunk(x)
        for ours, exported in zip(expected, session.run(None, {"radiograph": x.numpy()}), strict=True):
            assert np.abs(exported - ours.numpy()).max() < 1e-4 * ours.abs().max()
